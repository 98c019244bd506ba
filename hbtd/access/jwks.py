"""The keys that verify nodes' JWTs: a JSON Web Key Set (JWKS, RFC 7517) in a file or at a URL."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import orjson
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt import PyJWK
from jwt.exceptions import PyJWTError
from treq.client import HTTPClient
from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from hbtd.net.bodies import read_body
from hbtd.net.http_client import URI, describe_failure, root_cause, why_not_sent
from hbtd.runtime.backoff import Backoff
from hbtd.runtime.deadline import DeadlineExceeded, bounded
from hbtd.runtime.ordinary_files import read_ordinary
from hbtd.runtime.outage import Outage
from hbtd.runtime.periodic import PeriodicService
from hbtd.runtime.watched_files import WatchedFiles

REFRESH = 300.0
"""Seconds from a successful fetch of the keys to the next fetch."""

MIN_REFRESH = 5.0
"""The minimum number of seconds from any fetch to a later fetch that `request_refresh` causes.

The value is small because heartbeats with tokens that are signed with a new key are refused until
hbtd has fetched this key.
"""

FIRST_RETRY, LONGEST_RETRY = 5.0, 10.0
"""The shortest and longest pause after a failed fetch, in seconds; see `Backoff`."""

_PERIOD = 1.0
"""Seconds between two checks of whether a fetch is due."""

_TIMEOUT = 10.0
"""Seconds that a whole fetch may take."""

_LARGEST = 256 * 1024
"""The most bytes in a JWKS."""

_MOST_KEYS = 100
"""The most keys in a JWKS; limited because a token without a key ID may be tried with each."""

_SMALLEST_RSA = 2048
"""The fewest bits of an RSA key that is accepted."""

_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")

_ALGORITHMS: dict[tuple[str, str], tuple[str, ...]] = {
    ("RSA", ""): _RSA,
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("OKP", "Ed25519"): ("EdDSA",),
    ("OKP", "Ed448"): ("EdDSA",),
}
"""The accepted signature algorithms by `kty` and `crv` of a key; none uses a shared secret."""


class JWKSUnusable(Exception):
    """Raised when a JWKS can't be used; the message says why, and contains no key."""


class Key(NamedTuple):
    """A public key that JWTs are verified with."""

    kid: str | None
    """The key ID (RFC 7517 4.5); `None` if the key has no ID."""
    public: Any
    """The public key, in the form that PyJWT accepts."""
    algorithms: Sequence[str]
    """The names of the algorithms that the key may be used with."""


Keys = Sequence[Key]


class KeySource(Protocol):
    """A source of the keys that verify JWTs; the keys may change at any time."""

    @property
    def keys(self) -> Keys | None:
        """The current keys, or `None` before any are loaded.

        The sequence is never modified: when the keys change, a new sequence takes its place.
        """

    def request_refresh(self) -> None:
        """Load the keys again, because a token seems to be signed with a new key.

        Depending on the source, the keys are loaded before this method returns, or later.
        """


def parse_jwks(content: bytes) -> Keys:
    """Return the usable keys of a JWKS; raise `JWKSUnusable` if there are none.

    Private and secret keys, keys for uses other than verifying signatures, keys of unknown types,
    and weak keys are skipped.
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
    """Return the key that an entry of a JWKS describes, or `None` if `parse_jwks` must skip it."""
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
    """Keys in a file, which is read again when it changes."""

    def __init__(self, path: str) -> None:
        """Read the keys in a file; raise `JWKSUnusable` if the file or its keys can't be used."""
        self.watched: WatchedFiles[Keys] = WatchedFiles(
            f"The keys in --node_access=jwt:{path}",
            [path],
            lambda: _read(path),
            JWKSUnusable,
        )

    @property
    def keys(self) -> Keys:
        """The keys that were in the file when it was last read successfully."""
        return self.watched.current

    def request_refresh(self) -> None:
        """Read the file again if it has changed; return when that is done."""
        self.watched.reload_if_changed()


def _read(path: str) -> Keys:
    try:
        content, _ = read_ordinary(path, _LARGEST)
    except OSError as error:
        raise JWKSUnusable(f"{path} can't be read: {error.strerror}") from error
    try:
        return parse_jwks(content)
    except JWKSUnusable as error:
        raise JWKSUnusable(f"{path} can't be used: {error}") from error


class FetchedKeys(MultiService):
    """The keys at a URL, which are fetched every five minutes.

    After a failed fetch the last keys stay in use, and the fetch is retried after growing pauses.
    """

    _log = Logger()

    def __init__(
        self, url: str, http: HTTPClient, clock: IReactorTime, jitter: Callable[[], float]
    ) -> None:
        """Make a source of keys, which fetches them from `url` once it is started.

        `jitter` returns a random number from 0 to 1, for the pauses between retries.
        """
        super().__init__()
        self._url = url
        self._http = http
        self._clock = clock
        self._keys: Keys | None = None
        self._due = clock.seconds()
        self._last_fetch = clock.seconds() - MIN_REFRESH
        self._fetching: Deferred[Keys] | None = None
        self._retries = Backoff(FIRST_RETRY, LONGEST_RETRY, jitter)
        self._outage = Outage(self._log_failure, self._log_success, clock.seconds)
        self.addService(
            PeriodicService(clock, _PERIOD, self._refresh, "the fetch of the keys for nodes' JWTs")
        )

    @property
    def keys(self) -> Keys | None:
        """The current keys, or `None` before any are fetched.

        The sequence is never modified: when the keys change, a new sequence takes its place.
        """
        return self._keys

    def request_refresh(self) -> None:
        """Have the keys fetched soon.

        The fetch begins within about a second, but not earlier than `MIN_REFRESH` seconds after the
        last fetch began.
        """
        self._due = min(self._due, self._last_fetch + MIN_REFRESH)

    def stopService(self) -> Deferred[Any]:
        """Stop fetching keys, and cancel a fetch in progress.

        Return a Deferred that fires when no fetch is in progress any more.
        """
        stopped: Deferred[Any] = super().stopService()
        if self._fetching is not None:
            self._fetching.cancel()
        return stopped

    async def _refresh(self) -> None:
        now = self._clock.seconds()
        if now < self._due:
            return
        self._last_fetch, self._due = now, now + REFRESH
        self._fetching = bounded(self._clock, _TIMEOUT, self.fetch())
        try:
            keys = await self._fetching
        except Exception as error:  # noqa: BLE001  # the next fetch may succeed all the same
            if self.running:
                self._due = self._clock.seconds() + self._retries.next()
                self._outage.fail(describe_fetch_failure(error))
            return
        finally:
            self._fetching = None
        self._retries.reset()
        if self._keys is None and self._outage.reason is None:
            self._log_success()
        self._outage.recover()
        if _identity(keys) != _identity(self._keys or ()):
            self._keys = keys

    async def fetch(self) -> Keys:
        """Fetch the keys from the URL, and return them.

        If that fails, raise an exception, which may be of any type.
        """
        response = await self._http.get(
            URI.from_text(self._url),
            allow_redirects=False,
            unbuffered=True,
            reactor=self._clock,  # type: ignore[arg-type]  # it needs less than it declares
        )
        content = await read_body(response, _LARGEST)
        if response.code != 200:
            raise JWKSUnusable(f"it is answered with status {response.code}")
        return parse_jwks(content)

    def _log_failure(self, reason: str) -> None:
        self._log.error(
            "The keys that verify nodes' JWTs can't be fetched from {url};"
            " hbtd will retry, and {so}: {error}",
            url=self._url,
            so=(
                "meanwhile the old ones stay in use"
                if self._keys is not None
                else "until then no JWT can be verified"
            ),
            error=reason,
        )

    def _log_success(self) -> None:
        self._log.info("Fetched the keys that verify nodes' JWTs.")


def describe_fetch_failure(error: Exception) -> str:
    """Return a phrase for a log line that says why a fetch of keys has raised `error`."""
    if isinstance(error, DeadlineExceeded) and (unsent := why_not_sent(error)) is not None:
        return unsent
    found = root_cause(error)
    if isinstance(found, JWKSUnusable | DeadlineExceeded):
        return str(found)
    return describe_failure(found, "--jwt_ca")


def _identity(keys: Keys) -> list[tuple[object, ...]]:
    """Return a tuple for each key (ID, encoded key, algorithms), to compare two lists of keys."""
    der, info = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    return [(key.kid, key.public.public_bytes(der, info), *key.algorithms) for key in keys]
