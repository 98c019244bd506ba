"""Certificates made on the fly."""

import functools
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from hbtd.net.tls import Identity


def make_identity(
    name: str,
    issuer: Identity | None = None,
    days: float = 1.0,
    *,
    begins: float = -2.0,
    dns: Sequence[str] | None = None,
    uris: Sequence[str] = (),
    common_name: bool = True,
) -> Identity:
    """Make a certificate for a DNS name, self-signed or issued by another.

    It is valid from `begins` to `days` days from now. The name is the common name, unless that is
    to be left out, and the only DNS name unless `dns` has others.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)] * common_name)
    now = datetime.now(timezone.utc)
    names: list[x509.GeneralName] = [x509.DNSName(each) for each in (dns or [name])]
    names += [x509.UniformResourceIdentifier(each) for each in uris]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.chain[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=begins))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .sign(issuer.key if issuer else key, hashes.SHA256())
    )
    return Identity([certificate, *(issuer.chain if issuer else [])], key)


def certify(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    begins: float = -2.0,
    days: float = 1.0,
    ca: bool = True,
) -> x509.Certificate:
    """Make the certificate of a key that another key signs, valid from `begins` to `days` days."""
    now = datetime.now(timezone.utc)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=begins))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .sign(issuer_key, hashes.SHA256())
    )


def old_root_chain(name: str = "localhost") -> tuple[Identity, x509.Certificate]:
    """Return a chain that ends in an expired certificate of a root, and that root's newer one.

    The chain has the server's certificate, that of an intermediate authority, and one by which an
    old root had certified the present root. Clients trust the present root's own certificate.
    """
    own, middle, root, old = (ec.generate_private_key(ec.SECP256R1()) for _ in range(4))
    chain = [
        certify(name, own, "middle", middle, ca=False),
        certify("middle", middle, "root", root),
        certify("root", root, "old root", old, days=-1),
    ]
    return Identity(chain, own), certify("root", root, "root", root)


def revocation_list(
    issuer: Identity,
    *revoked: Identity,
    begins: float = -2.0,
    days: float = 1.0,
    delta: bool = False,
) -> x509.CertificateRevocationList:
    """Make the list of an authority's revoked certificates, current from `begins` to `days` days.

    With `delta`, it says that it has only the changes since another list.
    """
    now = datetime.now(timezone.utc)
    made = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.chain[0].subject)
        .last_update(now + timedelta(days=begins))
        .next_update(now + timedelta(days=days))
        .add_extension(x509.CRLNumber(1), critical=False)
    )
    if delta:
        made = made.add_extension(x509.DeltaCRLIndicator(1), critical=True)
    for each in revoked:
        made = made.add_revoked_certificate(
            x509.RevokedCertificateBuilder()
            .serial_number(each.chain[0].serial_number)
            .revocation_date(now - timedelta(days=1))
            .build()
        )
    return made.sign(issuer.key, hashes.SHA256())


def write_lists(path: Path, *lists: x509.CertificateRevocationList) -> Path:
    """Write revocation lists as one PEM file; return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in lists))
    return path


@functools.cache
def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    """Return an RSA key, always the same of a size, as they are slow to make."""
    return rsa.generate_private_key(65537, bits)


def issue(
    key: Any, name: str = "localhost", issuer: Identity | None = None, *, ca: bool = False
) -> Identity:
    """Make a certificate for a given key, self-signed or issued by another.

    The chain is what servers send: without the root.
    """
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signing = issuer.key if issuer else key
    unhashed = isinstance(signing, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
    now = datetime.now(timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.chain[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .sign(signing, None if unhashed else hashes.SHA256())
    )
    rest = [each for each in issuer.chain if each.issuer != each.subject] if issuer else []
    return Identity([certificate, *rest], key)


def write_identity(identity: Identity, folder: Path) -> tuple[Path, Path]:
    """Write a certificate chain and its key as PEM files; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    cert, key = folder / "cert.pem", folder / "key.pem"
    cert.write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in identity.chain))
    key.write_bytes(identity.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return cert, key
