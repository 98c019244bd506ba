"""Nodes' bearer tokens: JWTs, checked once and remembered until they expire."""

from collections.abc import Callable
from hashlib import sha256
from typing import NamedTuple

import jwt
from jwt.exceptions import (
    ExpiredSignatureError,
    ImmatureSignatureError,
    InvalidAlgorithmError,
    InvalidAudienceError,
    InvalidSignatureError,
    MissingRequiredClaimError,
    PyJWTError,
)

from hbtd.access.jwks import Key, Keys, KeySource
from hbtd.access.peers import parse_spiffe_id

LEEWAY = 10
"""Seconds by which our clock and the issuer's may differ."""

_LONGEST = 8192
"""Bytes that a token may have."""

_MOST_REMEMBERED = 100_000
"""Tokens that are remembered: some for each node of the largest machine."""


class Unverified(Exception):
    """A token that proves nothing; the message says why, in words that are no secret."""


class NoKeys(Exception):
    """There are no keys yet to check tokens with."""


class Bearer(NamedTuple):
    """What a token that holds proves of its bearer."""

    component: str | None = None
    """The component that it is."""
    anyone: bool = False
    """Whether it may send heartbeats of any component."""


class JWTVerifier:
    """Checks nodes' tokens."""

    def __init__(
        self,
        source: KeySource,
        audience: str,
        now: Callable[[], float],
        *,
        require_xname: bool,
        remember: int = _MOST_REMEMBERED,
    ) -> None:
        """`now` gives the seconds since the epoch; tokens must be for `audience`.

        With `require_xname`, a token without a component's name proves nothing of use. So many
        tokens are remembered; for another the oldest is forgotten.
        """
        self._remember = remember
        self._source = source
        self._audience = audience
        self._now = now
        self._require_xname = require_xname
        self._keys = source.keys
        # By their digests: tokens themselves are not kept.
        self._remembered: dict[bytes, tuple[float, Bearer]] = {}

    @property
    def keys(self) -> Keys | None:
        """What tokens are checked with just now: the same object until it changes."""
        return self._source.keys

    def bearer(self, token: bytes) -> Bearer:
        """Tell what a token proves; raises `Unverified` when it does not hold, or `NoKeys`."""
        return self.checked(token)[1]

    def checked(self, token: bytes) -> tuple[float, Bearer]:
        """Tell until when a token holds, in seconds since the epoch, and what it proves.

        Raises as `bearer` does.
        """
        keys = self._source.keys
        if keys is not self._keys:
            self._remembered.clear()
            self._keys = keys
        digest = sha256(token).digest()
        remembered = self._remembered.get(digest)
        if remembered is None:
            remembered = self._verify(token)
            if len(self._remembered) >= self._remember:
                del self._remembered[next(iter(self._remembered))]
            self._remembered[digest] = remembered
        expires, bearer = remembered
        if self._now() >= expires:
            self._remembered.pop(digest, None)
            raise Unverified("the token has expired")
        return expires, bearer

    def _verify(self, token: bytes) -> tuple[float, Bearer]:
        if self._source.keys is None:
            raise NoKeys
        if len(token) > _LONGEST:
            raise Unverified("the token is too long")
        try:
            header = jwt.get_unverified_header(token)
            claims = self._claims(token, header.get("alg"), header.get("kid"))
            expires = float(str(claims["exp"])) + LEEWAY
        except (PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise Unverified(_why(error)) from None
        bearer = _bearer(claims["sub"])
        if self._require_xname and bearer.component is None:
            bearer = Bearer()
        return expires, bearer

    def _claims(self, token: bytes, algorithm: object, kid: object) -> dict[str, object]:
        """Check a token with the keys that may have signed it; gives its claims."""
        failure: PyJWTError = InvalidSignatureError()
        for key in self._candidates(algorithm, kid):
            try:
                claims: dict[str, object] = jwt.decode(
                    token,
                    key.public,
                    algorithms=list(key.algorithms),
                    audience=self._audience,
                    leeway=LEEWAY,
                    options={"require": ["exp", "aud", "sub"]},
                )
            except InvalidSignatureError as error:
                failure = error
            else:
                return claims
        raise failure

    def _candidates(self, algorithm: object, kid: object) -> list[Key]:
        """Find the keys that may have signed a token which names an algorithm, and maybe a key."""
        for _ in range(2):
            keys = self._source.keys or ()
            named = [key for key in keys if None in (kid, key.kid) or key.kid == kid]
            if named:
                break
            self._source.missed()  # a file may have it by now
        else:
            raise Unverified("the token's key is not known")
        found = [key for key in named if algorithm in key.algorithms]
        if not found:
            raise InvalidAlgorithmError
        return found


def _bearer(subject: object) -> Bearer:
    """Tell who the subject of a token that holds is."""
    spiffe_id = parse_spiffe_id(subject) if isinstance(subject, str) else None
    if spiffe_id is None:
        return Bearer()
    return Bearer(spiffe_id.component, spiffe_id.component is None)


def _why(error: Exception) -> str:
    """Say why a token does not hold; nothing of the token is in it."""
    for kind, why in (
        (ExpiredSignatureError, "the token has expired"),
        (ImmatureSignatureError, "the token is not valid yet"),
        (InvalidAudienceError, "the token is for another audience"),
        (InvalidAlgorithmError, "the token is signed in a way that its key does not allow"),
        (InvalidSignatureError, "the token's signature is wrong"),
        (MissingRequiredClaimError, "the token lacks a claim"),
    ):
        if isinstance(error, kind):
            return why
    return "the token is no JWT that can be used"
