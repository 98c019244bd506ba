"""Verification of nodes' bearer tokens, which are JWTs (RFC 7519), with remembered results."""

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
"""Seconds by which hbtd's wall clock and that of the tokens' issuer may differ."""

_LONGEST = 8192
"""The most bytes in a token."""

_MOST_REMEMBERED = 100_000
"""The most tokens whose results are remembered: several for each node of the largest machine."""


class InvalidToken(Exception):
    """A token that proves nothing; the message says why, and contains no secret."""


class NoKeys(Exception):
    """Raised when no token can be verified, because no keys have been fetched yet."""


class Subject(NamedTuple):
    """The rights that the `sub` claim of a valid token gives to the sender of the token."""

    component: str | None = None
    """The component that the claim names, in normal form; `None` if it names none."""
    any_component: bool = False
    """Whether the sender may send heartbeats of every component."""


class VerifiedToken(NamedTuple):
    """The result of verifying a token: the rights that it gives, and when it expires."""

    subject: Subject
    expires: float
    """When the token expires, the leeway included, in seconds since the epoch."""


class JWTVerifier:
    """Verifies nodes' tokens, and remembers the results by the tokens' digests."""

    def __init__(
        self,
        source: KeySource,
        audience: str,
        now: Callable[[], float],
        *,
        require_xname: bool,
        remember: int = _MOST_REMEMBERED,
    ) -> None:
        """Make a verifier of tokens for `audience` that are signed with a key of `source`.

        `now` returns the seconds since the epoch. With `require_xname`, a token whose subject names
        no component gives no rights. The results for the last `remember` tokens are kept.
        """
        self._remember = remember
        self._source = source
        self._audience = audience
        self._now = now
        self._require_xname = require_xname
        self._keys = source.keys
        # By digest, so that no token is kept in memory.
        self._remembered: dict[bytes, VerifiedToken] = {}

    @property
    def keys(self) -> Keys | None:
        """The current keys, a new object after each change; `None` until the first are loaded."""
        return self._source.keys

    def verify(self, token: bytes) -> VerifiedToken:
        """Verify a token, unless its result is remembered, and return the result.

        Raise `InvalidToken` if the token is not valid, and `NoKeys` if no keys have been fetched
        yet.
        """
        keys = self._source.keys
        if keys is not self._keys:
            self._remembered.clear()
            self._keys = keys
        digest = sha256(token).digest()
        verified = self._remembered.get(digest)
        if verified is None:
            verified = self._verify(token)
            if len(self._remembered) >= self._remember:
                del self._remembered[next(iter(self._remembered))]
            self._remembered[digest] = verified
        if self._now() >= verified.expires:
            self._remembered.pop(digest, None)
            raise InvalidToken("the token has expired")
        return verified

    def _verify(self, token: bytes) -> VerifiedToken:
        if self._source.keys is None:
            raise NoKeys
        if len(token) > _LONGEST:
            raise InvalidToken("the token is too long")
        try:
            header = jwt.get_unverified_header(token)
            claims = self._claims(token, header.get("alg"), header.get("kid"))
            expires = float(str(claims["exp"])) + LEEWAY
        except (PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise InvalidToken(_describe(error)) from None
        subject = _subject(claims["sub"])
        if self._require_xname and subject.component is None:
            subject = Subject()
        return VerifiedToken(subject, expires)

    def _claims(self, token: bytes, algorithm: object, kid: object) -> dict[str, object]:
        """Return the claims of a token, verified with the key that has signed it.

        Raise `InvalidToken` or `PyJWTError` if no such key is found, or if a claim is not valid.
        """
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
        """Return the keys to try on a token whose header has this algorithm and this key ID.

        If no key matches the ID, request a refresh of the keys and look once more. Raise
        `InvalidToken` if again no key matches the ID, and `InvalidAlgorithmError` if no key that
        matches may be used with the algorithm. A key or a token without an ID matches every ID.
        """
        for _ in range(2):
            keys = self._source.keys or ()
            named = [key for key in keys if None in (kid, key.kid) or key.kid == kid]
            if named:
                break
            self._source.request_refresh()  # a file is read at once
        else:
            raise InvalidToken("the token's key is not known")
        found = [key for key in named if algorithm in key.algorithms]
        if not found:
            raise InvalidAlgorithmError
        return found


def _subject(claim: object) -> Subject:
    """Return the rights that the `sub` claim of a valid token gives to its sender."""
    spiffe_id = parse_spiffe_id(claim) if isinstance(claim, str) else None
    if spiffe_id is None:
        return Subject()
    return Subject(spiffe_id.component, spiffe_id.component is None)


def _describe(error: Exception) -> str:
    """Return why a token is not valid, in words that contain no part of the token."""
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
