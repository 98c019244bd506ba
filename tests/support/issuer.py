"""An issuer of tokens: signs JWTs and publishes its keys."""

import json
import time
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import get_default_algorithms

KEYS: dict[str, Any] = {
    "RS256": rsa.generate_private_key(65537, 2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "ES384": ec.generate_private_key(ec.SECP384R1()),
    "ES512": ec.generate_private_key(ec.SECP521R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}
"""A key for each algorithm that is usual; RSA keys take their time to make."""

ED448 = ed448.Ed448PrivateKey.generate()

AUDIENCE = "system-compute"


def subject(xname: str | None) -> str:
    """Give the SPIFFE id of a component's heartbeats, or of anybody's."""
    middle = "" if xname is None else f"/{xname}"
    return f"spiffe://site.example/compute{middle}/workload/heartbeat"


class Issuer:
    """Signs with one key, which it has published under one id."""

    def __init__(self, algorithm: str = "ES256", kid: str | None = "one", key: Any = None) -> None:
        self.algorithm = algorithm
        self.kid = kid
        self.key = key or KEYS[algorithm]

    def jwk(self, **fields: object) -> dict[str, Any]:
        """Give the public key as a JWK, with further or other fields."""
        handler: Any = get_default_algorithms()[self.algorithm]
        jwk = json.loads(handler.to_jwk(self.key.public_key()))
        for name in ("key_ops", "alg"):
            jwk.pop(name, None)
        if self.kid is not None:
            jwk["kid"] = self.kid
        return {**jwk, **fields}

    def jwks(self, *others: "Issuer") -> bytes:
        """Give the JWKS of this issuer, and of others."""
        return json.dumps({"keys": [each.jwk() for each in (self, *others)]}).encode()

    def publish(self, path: Path, *others: "Issuer") -> str:
        """Write the JWKS to a file; gives the path."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.jwks(*others))
        return str(path)

    def token(self, xname: str | None, headers: Any = None, **claims: object) -> str:
        """Sign a token for a component, or for any, with further or other claims.

        A claim that is `None` is left out.
        """
        now = int(time.time())
        said = {"sub": subject(xname), "aud": AUDIENCE, "iat": now, "exp": now + 300, **claims}
        payload = {name: value for name, value in said.items() if value is not None}
        named = {} if self.kid is None else {"kid": self.kid}
        return jwt.encode(payload, self.key, self.algorithm, {**named, **(headers or {})})

    def unsigned(self, xname: str) -> str:
        """Make a token that claims to need no signature."""
        payload = self.token(xname).split(".")[1]
        return f"{encode_part({'alg': 'none', 'kid': self.kid})}.{payload}."

    def confused(self, xname: str) -> str:
        """Make a token that is signed, as a shared secret, with the public key that all know."""
        public = self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        payload = self.token(xname).split(".")[1]
        head = f"{encode_part({'alg': 'HS256', 'kid': self.kid})}.{payload}"
        handler: Any = get_default_algorithms()["HS256"]
        return f"{head}.{_encoded(handler.sign(head.encode(), public))}"


def bearer(token: str) -> dict[str, str]:
    """Give the header that presents a token."""
    return {"Authorization": f"Bearer {token}"}


def encode_part(value: object) -> str:
    """Encode the header or the claims of a token."""
    return _encoded(json.dumps(value).encode())


def _encoded(value: bytes) -> str:
    return urlsafe_b64encode(value).rstrip(b"=").decode()
