"""The keys that nodes' tokens are checked with: read out of a JWKS, which a file or a URL holds."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import orjson
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt import PyJWK
from jwt.exceptions import PyJWTError
from treq.client import HTTPClient
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from hbtd.net.http_client import URI, describe_failure, read_body, root_cause
from hbtd.runtime.periodic import periodic
from hbtd.runtime.watched_files import WatchedFiles

REFRESH = 300.0
"""Seconds after which keys are fetched again."""

MISSED_REFRESH = 60.0
"""Seconds that are between two fetches at least, however many tokens name keys we don't have."""

RETRY = 10.0
"""Seconds after which a fetch that failed is tried again; all fetches start on this beat."""

_TIMEOUT = 10.0
"""Seconds that a fetch may take in all."""

_LARGEST = 256 * 1024
"""Bytes that a JWKS may have."""

_MOST_KEYS = 100
"""Keys that a JWKS may have: a token that names none is tried with each."""

_SMALLEST_RSA = 2048
"""Bits that an RSA key has at least."""

_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")

_ALGORITHMS: dict[tuple[str, str], tuple[str, ...]] = {
    ("RSA", ""): _RSA,
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("OKP", "Ed25519"): ("EdDSA",),
    ("OKP", "Ed448"): ("EdDSA",),
}
"""What each kind of key, with its curve, may have signed with: never what shares a secret."""


class JWKSUnusable(Exception):
    """A JWKS that can't be used; the message says why, and has no key in it."""


class Key(NamedTuple):
    """A public key that may have signed tokens."""

    kid: str | None
    public: Any
    """The key, as PyJWT takes it."""
    algorithms: Sequence[str]
    """What it may have signed with."""


Keys = Sequence[Key]


class KeySource(Protocol):
    """Where the keys come from."""

    @property
    def keys(self) -> Keys | None:
        """The keys, always the same object until they change; `None` if there never were any."""

    def missed(self) -> None:
        """Hear that a token named a key which is not among them."""


def parse_jwks(content: bytes) -> Keys:
    """Read the keys of a JWKS that can be used; raises `JWKSUnusable` if there is none.

    Keys for other purposes than signing, of kinds that we don't know, and secret ones don't count.
    """
    try:
        document = orjson.loads(content)
    except ValueError:
        raise JWKSUnusable("it is not JSON") from None
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise JWKSUnusable("it is no JSON object with a list of keys")
    if len(entries) > _MOST_KEYS:
        raise JWKSUnusable(f"it has more than {_MOST_KEYS} keys")
    keys = [key for key in map(_key, entries) if key is not None]
    if not keys:
        raise JWKSUnusable("it has no public key that can be used")
    return keys


def _key(entry: object) -> Key | None:
    if not isinstance(entry, dict) or "d" in entry:
        return None
    kind, curve = entry.get("kty"), entry.get("crv", "")
    if not isinstance(kind, str) or not isinstance(curve, str):
        return None
    algorithms = _ALGORITHMS.get((kind, curve), ())
    if entry.get("use", "sig") != "sig":
        return None
    operations = entry.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        return None
    algorithm = entry.get("alg")
    if algorithm is not None:
        algorithms = (algorithm,) if algorithm in algorithms else ()
    kid = entry.get("kid")
    if not algorithms or not isinstance(kid, str | None):
        return None
    try:
        public = PyJWK(entry, algorithms[0]).key
    except (PyJWTError, ValueError, TypeError):
        return None
    if isinstance(public, rsa.RSAPublicKey) and public.key_size < _SMALLEST_RSA:
        return None
    return Key(kid, public, algorithms)


class FileKeys:
    """Keys of a file, which are read again when it changes."""

    def __init__(self, path: str) -> None:
        """Read the file; raises `JWKSUnusable`."""
        self.watched: WatchedFiles[Keys] = WatchedFiles(
            "The keys of nodes' tokens", [path], lambda: _read(path), JWKSUnusable
        )

    @property
    def keys(self) -> Keys:
        """The keys as they are now."""
        return self.watched.current

    def missed(self) -> None:
        """See whether the file has changed."""
        self.watched.look()


def _read(path: str) -> Keys:
    try:
        with open(path, "rb") as file:
            content = file.read(_LARGEST + 1)
    except OSError as error:
        raise JWKSUnusable(f"{path} can't be read: {error.strerror}") from error
    if len(content) > _LARGEST:
        raise JWKSUnusable(f"{path} has more than {_LARGEST} bytes")
    try:
        return parse_jwks(content)
    except JWKSUnusable as error:
        raise JWKSUnusable(f"{path} can't be used: {error}") from error


class FetchedKeys(Service):
    """Keys that are fetched from a URL, and fetched again every few minutes.

    While that fails, the last ones stay good.
    """

    _log = Logger()

    def __init__(self, url: str, http: HTTPClient, clock: IReactorTime) -> None:
        self._url = url
        self._http = http
        self._clock = clock
        self._keys: Keys | None = None
        self._due = clock.seconds()
        self._tried = clock.seconds() - MISSED_REFRESH
        self._loop = periodic(clock, self._refresh)
        self._fetching: Deferred[Keys] | None = None
        self._complained = False
        self._listeners: list[Callable[[], None]] = []

    @property
    def keys(self) -> Keys | None:
        """The keys as they were when they could last be fetched."""
        return self._keys

    def missed(self) -> None:
        """Have them fetched soon, at most once a minute."""
        self._due = min(self._due, self._tried + MISSED_REFRESH)

    def startService(self) -> None:
        """Begin to fetch."""
        super().startService()
        self._loop.start(RETRY)

    def stopService(self) -> None:
        """Fetch no more."""
        super().stopService()
        if self._loop.running:
            self._loop.stop()
        if self._fetching is not None:
            self._fetching.cancel()

    async def _refresh(self) -> None:
        now = self._clock.seconds()
        if now < self._due:
            return
        self._tried, self._due = now, now + REFRESH
        self._fetching = Deferred.fromCoroutine(self._fetch()).addTimeout(_TIMEOUT, self._clock)
        try:
            keys = await self._fetching
        except Exception as error:  # noqa: BLE001  # whatever it is, the next fetch may succeed
            if self.running:
                self._due = now + RETRY
                self._complain(error)
            return
        finally:
            self._fetching = None
        if self._complained or self._keys is None:
            self._log.info("The keys of nodes' tokens were fetched.")
        self._complained = False
        if _identities(keys) != _identities(self._keys or ()):
            self._keys = keys

    async def _fetch(self) -> Keys:
        response = await self._http.get(
            URI.from_text(self._url),
            allow_redirects=False,
            unbuffered=True,
            reactor=self._clock,  # type: ignore[arg-type]  # it wants less than it says
        )
        content = await read_body(response, _LARGEST)
        if response.code != 200:
            raise JWKSUnusable(f"it is answered with status {response.code}")
        return parse_jwks(content)

    def _complain(self, error: Exception) -> None:
        if self._complained:
            return
        self._complained = True
        found = root_cause(error)
        self._log.error(
            "The keys of nodes' tokens can't be fetched from {url}, and {so}: {error}",
            url=self._url,
            so="the old ones stay" if self._keys is not None else "no token can be checked yet",
            error=str(found)
            if isinstance(found, JWKSUnusable)
            else describe_failure(found, "--jwt_ca"),
        )


def _identities(keys: Keys) -> list[tuple[object, ...]]:
    """Give what differs between two sets of keys."""
    der, info = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    return [(key.kid, key.public.public_bytes(der, info), *key.algorithms) for key in keys]
