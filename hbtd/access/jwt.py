"""Verification of nodes' bearer tokens, which are JWTs (RFC 7519); results are cached."""

from collections.abc import Callable
from hashlib import sha256
from math import inf
from typing import Any, NamedTuple

import jwt
import orjson
from jwt.exceptions import (
    InvalidAlgorithmError,
    InvalidAudienceError,
    InvalidIssuerError,
    InvalidSignatureError,
    MissingRequiredClaimError,
    PyJWTError,
)
from jwt.utils import base64url_decode

from hbtd.access.jwks import Key, Keys, KeySource
from hbtd.access.peers import parse_spiffe_id

LEEWAY = 10
"""The tolerated difference, in seconds, between the wall clocks of hbtd and of the JWTs' issuer."""

_LONGEST = 8192
"""The most bytes in a token."""

_LONGEST_SUBJECT = 256
"""The most characters of a subject in a log line."""

_MOST_REMEMBERED = 100_000
"""The most verified tokens that are remembered: several for each node of the largest machine."""

_MOST_REFUSED = 10_000
"""The most invalid tokens that are remembered: a few megabytes' worth."""

_REFUSED_SECONDS = 60.0
"""Seconds for which an invalid token is remembered."""


class InvalidToken(Exception):
    """Raised when a token is not valid; the message says why, and contains no secret."""


class UnknownKey(InvalidToken):
    """Raised when a token names a key ID that none of the loaded keys has."""


class WrongKey(InvalidToken):
    """Raised when a token can't be verified with any loaded key that fits the token's key ID."""


class NoKeys(Exception):
    """Raised when a token can't be verified, because no keys have been loaded yet."""


class Subject(NamedTuple):
    """The rights that the `sub` claim of a valid token gives to the sender of the token."""

    component: str | None = None
    """The xname, in normal form, of the component that the claim names; `None` if it names none."""
    any_component: bool = False
    """Whether the sender may send heartbeats of every component."""


class VerifiedToken(NamedTuple):
    """The rights that a correctly signed token gives to its sender, and its period of validity."""

    subject: Subject
    begins: float
    """The time from which the token is valid, minus `LEEWAY`, in seconds since the epoch.

    `-inf` if the token does not name such a time.
    """
    expires: float
    """The time at which the token expires, plus `LEEWAY`, in seconds since the epoch."""


class _Refusal(NamedTuple):
    """The remembered reason why a token is not valid.

    It is never that a token has expired or is not valid yet: that is checked each time.
    """

    why: str
    until: float
    """When to forget the result, in seconds of a monotonic clock."""
    by_key: bool
    """Whether the token may be valid with other keys."""


class JWTVerifier:
    """Verifies nodes' tokens, and remembers the results by the tokens' digests.

    Checking a signature takes far longer than taking a heartbeat. `verify` is called with the same
    token up to three times for one request, and a client may send an invalid token any number of
    times. So invalid tokens are remembered, too, for a minute. The remembered results don't depend
    on the time of day: whether a token has expired, or is not valid yet, is checked each time.
    """

    def __init__(
        self,
        source: KeySource,
        audience: str,
        now: Callable[[], float],
        seconds: Callable[[], float],
        *,
        require_xname: bool,
        issuer: str = "",
        trust_domain: str = "",
        remember: int = _MOST_REMEMBERED,
        remember_refused: int = _MOST_REFUSED,
    ) -> None:
        """Make a verifier of tokens for `audience` that are signed with a key of `source`.

        `now` returns the seconds since the epoch, and `seconds` returns the seconds of a monotonic
        clock. With `require_xname`, a token whose subject names no component gives no rights. If
        `issuer` is given, a token is valid only if its `iss` claim is exactly this text. If
        `trust_domain` is given, a token is valid only if its subject is a SPIFFE ID of that domain.
        The results for at most `remember` valid tokens, and for at most `remember_refused` invalid
        tokens, are remembered.
        """
        self._remember = remember
        self._remember_refused = remember_refused
        self._source = source
        self._audience = audience
        self._now = now
        self._seconds = seconds
        self._require_xname = require_xname
        self._issuer = issuer or None
        self._trust_domain = trust_domain
        self._keys = source.keys
        # By digest, so that no token is kept in memory. Apart from each other, so that no number of
        # invalid tokens makes hbtd verify the valid ones again.
        self._remembered: dict[bytes, VerifiedToken] = {}
        self._refused: dict[bytes, _Refusal] = {}

    @property
    def keys(self) -> Keys | None:
        """The current keys, or `None` before any are loaded.

        The sequence is never modified: when the keys change, a new sequence takes its place.
        """
        return self._source.keys

    def verify(self, token: bytes) -> VerifiedToken:
        """Return the rights that the JWT `token` gives to its sender, and its period of validity.

        The result is remembered, so that the signature need not be checked again: for a valid token
        until the keys change or many newer tokens have been verified, and for an invalid token for
        a minute at most. Raise `InvalidToken` if the token is not valid now, and `NoKeys` if no
        keys have been loaded yet.
        """
        self._forget_if_keys_changed()
        digest = sha256(token).digest()
        verified = self._remembered.get(digest) or self._verify_new(token, digest)
        now = self._now()
        if now >= verified.expires:
            raise InvalidToken("the token has expired")
        if now < verified.begins:
            raise InvalidToken("the token is not valid yet")
        return verified

    def _forget_if_keys_changed(self) -> bool:
        """Return whether the keys have changed since the last call; if so, forget all results."""
        keys = self._source.keys
        if keys is self._keys:
            return False
        self._remembered.clear()
        self._refused.clear()
        self._keys = keys
        return True

    def _verify_new(self, token: bytes, digest: bytes) -> VerifiedToken:
        """Verify a token that is not remembered as valid, and remember the result.

        Raise the exceptions of `verify`. If the token is remembered as invalid, and the keys have
        not changed, raise `InvalidToken` without verifying the token.
        """
        seconds = self._seconds()
        refusal = self._refused.get(digest)
        if refusal is not None and seconds < refusal.until:
            if refusal.by_key:
                # The keys that were asked for before may have come too early to be the new ones.
                self._source.request_refresh()
            if not self._forget_if_keys_changed():
                raise InvalidToken(refusal.why)
        try:
            verified = self._verify(token)
        except UnknownKey:
            raise  # new keys are on their way, and no signature was checked
        except InvalidToken as error:
            self._forget_if_keys_changed()  # they may have been read again on the way
            if len(self._refused) >= self._remember_refused:
                self._refused.clear()
            until, by_key = seconds + _REFUSED_SECONDS, isinstance(error, WrongKey)
            self._refused[digest] = _Refusal(str(error), until, by_key)
            raise
        self._forget_if_keys_changed()
        if len(self._remembered) >= self._remember:
            del self._remembered[next(iter(self._remembered))]
        self._remembered[digest] = verified
        return verified

    def _verify(self, token: bytes) -> VerifiedToken:
        """Verify a token, except for its times; return what the token proves.

        Raise the exceptions of `verify`.
        """
        if self._source.keys is None:
            raise NoKeys
        if len(token) > _LONGEST:
            raise InvalidToken("the token is too long")
        try:
            header = jwt.get_unverified_header(token)
            claims = self._claims(token, header.get("alg"), header.get("kid"))
            expires = int(claims["exp"]) + LEEWAY
            begins = [int(claims[name]) - LEEWAY for name in ("nbf", "iat") if name in claims]
        except (InvalidSignatureError, InvalidAlgorithmError) as error:
            raise WrongKey(_describe(error)) from None
        except (PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise InvalidToken(_describe(error)) from None
        subject = _subject(claims["sub"], self._trust_domain)
        if self._require_xname and subject.component is None:
            subject = Subject()
        return VerifiedToken(subject, max(begins, default=-inf), expires)

    def _claims(self, token: bytes, algorithm: object, kid: object) -> dict[str, Any]:
        """Verify a token, except for its times, with the current keys; return its claims.

        If the token fits none of the keys, request a refresh of the keys, because a key may have
        changed under the same ID. If that changes the keys, try the new ones once. Raise
        `UnknownKey` or `PyJWTError` if the token fits no key, or if a claim is not valid.
        """
        keys = self._source.keys
        try:
            return self._decoded(token, algorithm, kid)
        except (InvalidSignatureError, InvalidAlgorithmError):
            self._source.request_refresh()
            if self._source.keys is keys:
                raise
        return self._decoded(token, algorithm, kid)  # a file was read at once

    def _decoded(self, token: bytes, algorithm: object, kid: object) -> dict[str, Any]:
        """Try the current keys on a token; return its claims, verified except for its times.

        Raise `UnknownKey` or `PyJWTError` if the token fits no key, or if a claim is not valid.
        """
        failure: PyJWTError = InvalidSignatureError()
        for key in self._candidates(algorithm, kid):
            try:
                claims: dict[str, Any] = jwt.decode(
                    token,
                    key.public,
                    algorithms=list(key.algorithms),
                    audience=self._audience,
                    issuer=self._issuer,
                    options={
                        "require": ["exp", "aud", "sub"],
                        # `verify` checks the times.
                        "verify_exp": False,
                        "verify_nbf": False,
                        "verify_iat": False,
                    },
                )
            except InvalidSignatureError as error:
                failure = error
            else:
                return claims
        raise failure

    def _candidates(self, algorithm: object, kid: object) -> list[Key]:
        """Return the keys to try on a token whose header has this algorithm and this key ID.

        If no key fits the ID, request a refresh of the keys. Raise `UnknownKey` if no key fits the
        ID after that, and `InvalidAlgorithmError` if none that fits may be used with the algorithm.
        """
        for _ in range(2):
            keys = self._source.keys or ()
            named = [key for key in keys if None in (kid, key.kid) or key.kid == kid]
            if named:
                break
            self._source.request_refresh()  # a file is read at once
        else:
            raise UnknownKey("the token's key is not known")
        found = [key for key in named if algorithm in key.algorithms]
        if not found:
            raise InvalidAlgorithmError
        return found


def subject_of(token: bytes) -> str:
    """Return the `sub` claim of a verified token, for log lines, cut after 256 characters."""
    claims = orjson.loads(base64url_decode(token.split(b".")[1]))
    return str(claims["sub"])[:_LONGEST_SUBJECT]


def _subject(claim: object, trust_domain: str) -> Subject:
    """Return the rights that the `sub` claim of a valid token gives to its sender.

    Raise `InvalidToken` if `trust_domain` is given, and the claim is no SPIFFE ID of that domain.
    """
    spiffe_id = parse_spiffe_id(claim) if isinstance(claim, str) else None
    if trust_domain and (spiffe_id is None or spiffe_id.trust_domain != trust_domain):
        raise InvalidToken("the token's subject is not of the trust domain")
    if spiffe_id is None:
        return Subject()
    return Subject(spiffe_id.component, spiffe_id.component is None)


def _describe(error: Exception) -> str:
    """Return why a token is not valid, in words that contain no part of the token."""
    for kind, why in (
        (InvalidAudienceError, "the token is for another audience"),
        (InvalidIssuerError, "the token is from another issuer"),
        (InvalidAlgorithmError, "the token is signed in a way that its key does not allow"),
        (InvalidSignatureError, "the token's signature is wrong"),
        (MissingRequiredClaimError, "the token lacks a claim"),
    ):
        if isinstance(error, kind):
            return why
    return "the token is no JWT that can be used"
