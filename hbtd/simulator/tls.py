"""TLS for both ends of a simulation: lab certificates, and whom a fleet trusts."""

import datetime
import ipaddress
from typing import Any
from urllib.parse import SplitResult, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL, crypto
from twisted.internet import ssl
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IReactorPluggableNameResolver,
    IStreamClientEndpoint,
)
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer


def self_signed(*hosts: str) -> bytes:
    """Make a self-signed certificate for host names or addresses; gives PEM, certificate and key.

    It is valid for a day from now on, and an authority as well, so that clients can be told to
    trust it.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "hbtd simulator")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # Clocks differ a little from machine to machine.
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([_alternative(h) for h in hosts]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def server_options(pem: bytes) -> ssl.CertificateOptions:
    """Give what a TLS server needs, from a certificate and its key in one PEM."""
    # Twisted's types still ask for pyOpenSSL's own objects, which pyOpenSSL has deprecated.
    key: Any = serialization.load_pem_private_key(pem, password=None)
    certificate: Any = x509.load_pem_x509_certificate(pem)
    return ssl.CertificateOptions(privateKey=key, certificate=certificate)


@implementer(IOpenSSLClientConnectionCreator)
class _TrustAnybody:
    """Connect to whoever answers: a lab's certificates are signed by nobody in particular."""

    def __init__(self) -> None:
        self._context = ssl.CertificateOptions().getContext()

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        return SSL.Connection(self._context, None)


def trust_anybody() -> IOpenSSLClientConnectionCreator:
    """Give client options that verify nothing."""
    return _TrustAnybody()


def trust_only(pem: bytes, host: str) -> IOpenSSLClientConnectionCreator:
    """Give client options that verify `host` against the authorities in a PEM bundle.

    Raises `ValueError` if the bundle holds no certificate.
    """
    authorities = [
        ssl.Certificate(crypto.X509.from_cryptography(each))
        for each in x509.load_pem_x509_certificates(pem)
    ]
    trusted = ssl.trustRootFromCertificates(authorities)
    options: IOpenSSLClientConnectionCreator = ssl.optionsForClientTLS(host, trustRoot=trusted)
    return options


def split_url(url: str) -> SplitResult:
    """Take a base URL apart; raises `ValueError` unless it is http or https and names a host."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
        raise ValueError("not an http or https URL with a host")
    return parts


def client_endpoint(
    reactor: IReactorPluggableNameResolver, url: str, ca: bytes | None = None
) -> IStreamClientEndpoint:
    """Make the endpoint that connects to a URL's host, over TLS if it is https.

    With `ca`, a PEM bundle, the server is verified against it, without it not at all. Raises
    `ValueError` if the URL or the bundle can't be used.
    """
    parts = split_url(url)
    host = parts.hostname
    assert host is not None
    secure = parts.scheme == "https"
    endpoint = HostnameEndpoint(reactor, host, parts.port or (443 if secure else 80))
    if not secure:
        return endpoint
    return wrapClientTLS(trust_only(ca, host) if ca else trust_anybody(), endpoint)
