"""An issuer of tokens, which signs JWTs and publishes its keys."""

import json
import time
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import get_default_algorithms
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

KEYS: dict[str, Any] = {
    "RS256": rsa.generate_private_key(65537, 2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "ES384": ec.generate_private_key(ec.SECP384R1()),
    "ES512": ec.generate_private_key(ec.SECP521R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}
"""A key for each usual algorithm, made once: RSA keys take long to make."""

ED448 = ed448.Ed448PrivateKey.generate()

AUDIENCE = "system-compute"

_VALID = 86_400
"""Seconds for which tokens are valid; many are made at an import, and used much later."""


def subject(xname: str | None) -> str:
    """Return the SPIFFE ID for the heartbeats of one component, or of all."""
    middle = "" if xname is None else f"/{xname}"
    return f"spiffe://site.example/compute{middle}/workload/heartbeat"


class Issuer:
    """An issuer with one key, published under one key ID."""

    def __init__(self, algorithm: str = "ES256", kid: str | None = "one", key: Any = None) -> None:
        self.algorithm = algorithm
        self.kid = kid
        self.key = key or KEYS[algorithm]

    def jwk(self, **fields: object) -> dict[str, Any]:
        """Return the public key as a JWK; `fields` are added or replaced."""
        handler: Any = get_default_algorithms()[self.algorithm]
        jwk = json.loads(handler.to_jwk(self.key.public_key()))
        for name in ("key_ops", "alg"):
            jwk.pop(name, None)
        if self.kid is not None:
            jwk["kid"] = self.kid
        return {**jwk, **fields}

    def jwks(self, *others: "Issuer") -> bytes:
        """Return the JWKS of this issuer and others."""
        return json.dumps({"keys": [each.jwk() for each in (self, *others)]}).encode()

    def publish(self, path: Path, *others: "Issuer") -> str:
        """Write the JWKS to a file; return its path."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.jwks(*others))
        return str(path)

    def token(self, xname: str | None, headers: Any = None, **claims: object) -> str:
        """Return a signed token for one component, or for all, which is valid for a day.

        `claims` are added or replaced; one that is `None` is left out.
        """
        now = int(time.time())
        said = {"sub": subject(xname), "aud": AUDIENCE, "iat": now, "exp": now + _VALID, **claims}
        payload = {name: value for name, value in said.items() if value is not None}
        named = {} if self.kid is None else {"kid": self.kid}
        return jwt.encode(payload, self.key, self.algorithm, {**named, **(headers or {})})

    def unsigned(self, xname: str) -> str:
        """Return a token whose header says that it needs no signature."""
        payload = self.token(xname).split(".")[1]
        return f"{encode_part({'alg': 'none', 'kid': self.kid})}.{payload}."

    def confused(self, xname: str) -> str:
        """Return a token whose HMAC secret is the issuer's public key."""
        public = self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        payload = self.token(xname).split(".")[1]
        head = f"{encode_part({'alg': 'HS256', 'kid': self.kid})}.{payload}"
        handler: Any = get_default_algorithms()["HS256"]
        return f"{head}.{_encoded(handler.sign(head.encode(), public))}"


class JWKSPage(Resource):
    """A web page with a JWKS, or with whatever a test puts there instead."""

    isLeaf = True

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.content = content
        self.status = 200
        self.hangs = False
        """Whether requests are never answered."""
        self.headers: dict[bytes, bytes] = {}
        self.asked: list[Any] = []
        """The headers of all requests so far."""

    def render_GET(self, request: Any) -> Any:
        """Answer as the attributes say."""
        self.asked.append(request.requestHeaders)
        for name, value in self.headers.items():
            request.setHeader(name, value)
        request.setResponseCode(self.status)
        return NOT_DONE_YET if self.hangs else self.content


def bearer(token: str) -> dict[str, str]:
    """Return the header that presents a token."""
    return {"Authorization": f"Bearer {token}"}


def encode_part(value: object) -> str:
    """Encode the header or the claims of a token."""
    return _encoded(json.dumps(value).encode())


def _encoded(value: bytes) -> str:
    return urlsafe_b64encode(value).rstrip(b"=").decode()
