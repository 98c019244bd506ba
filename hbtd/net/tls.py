"""TLS: the certificates that hbtd presents, and the authorities that it trusts."""

import socket
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from OpenSSL import SSL, crypto
from twisted.internet.abstract import isIPAddress
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IOpenSSLContextFactory,
)
from twisted.internet.ssl import (
    AcceptableCiphers,
    Certificate,
    CertificateOptions,
    TLSVersion,
    optionsForClientTLS,
    platformTrust,
    trustRootFromCertificates,
)
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer

from hbtd.net.chains import describe, find_fault
from hbtd.net.handshakes import verify_certificate
from hbtd.runtime.ordinary_files import read_ordinary

_EPHEMERAL_LIFETIME = timedelta(days=825)
"""How long a self-signed certificate is valid: longer than any process should run."""

_CIPHERS = AcceptableCiphers.fromOpenSSLCipherString("ECDHE+AESGCM:ECDHE+CHACHA20")
"""The cipher suites for TLS 1.2: forward secret and authenticated, like all those of TLS 1.3."""

_LARGEST_FILE = 16 * 1024 * 1024
"""The most bytes in a file of certificates or of a key; the authorities of the web take 0.3 MB."""

_HTTP = b"http/1.1"

# What the first and last lines of PEM blocks have in them.
_CERTIFICATE, _PRIVATE_KEY = b" CERTIFICATE-----", b" PRIVATE KEY-----"

_SWAPPED = "; it has {}: are the files of certificate and key swapped?"

_SigningKey = (
    rsa.RSAPrivateKey
    | ec.EllipticCurvePrivateKey
    | ed25519.Ed25519PrivateKey
    | ed448.Ed448PrivateKey
)


class TLSUnusable(Exception):
    """Raised when a file of certificates or of a key can't be used.

    The message names the file, and says what is wrong with it.
    """


class Identity:
    """A certificate chain, and the private key of its first certificate."""

    def __init__(self, chain: list[x509.Certificate], key: _SigningKey) -> None:
        self.chain = chain
        self.key = key

    @property
    def fingerprint(self) -> str:
        """The SHA-256 fingerprint of the first certificate, in the form that openssl prints."""
        return self.chain[0].fingerprint(hashes.SHA256()).hex(":").upper()

    @property
    def expires(self) -> datetime:
        """The time, in UTC, at which the first certificate expires."""
        return self.chain[0].not_valid_after_utc

    def arguments(self) -> dict[str, Any]:
        """Return the arguments that make Twisted's `CertificateOptions` present this identity."""
        own, *others = self.chain
        return {"privateKey": self.key, "certificate": own, "extraCertChain": others}


def load_identity(cert_path: str, key_path: str) -> Identity:
    """Read an identity from a PEM file with a certificate chain and a PEM file with its key.

    The certificate to present must come first in the chain. Raise `TLSUnusable` in these cases:

    - A file can't be read, or does not contain what it should.
    - The key is encrypted, or is not the key of the first certificate.
    - A certificate that clients need, which is the first one or that of an issuer, has expired or
      is not valid yet (see `hbtd.net.chains`).
    - A later certificate in the chain has issued none of the certificates before it.
    - OpenSSL does not accept the chain and key.
    """
    chain = _load_certificates(cert_path)
    try:
        key = load_pem_private_key(read_pem(key_path), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        hint = _SWAPPED.format("a certificate") if _CERTIFICATE in read_pem(key_path) else ""
        raise TLSUnusable(f"{key_path} holds no usable unencrypted PEM key{hint}") from error
    if not isinstance(key, _SigningKey):
        raise TLSUnusable(f"{key_path} holds a key that is neither RSA, ECDSA nor EdDSA")
    try:
        certified = chain[0].public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise TLSUnusable(f"the certificate in {cert_path} has an unsupported key") from error
    if key.public_key() != certified:
        raise TLSUnusable(f"{key_path} is not the key of the certificate in {cert_path}")
    fault = find_fault(chain, datetime.now(timezone.utc))
    if fault is not None:
        which = "the certificate"
        if fault.place:
            which = f"certificate {fault.place + 1} ({describe(chain[fault.place])})"
        raise TLSUnusable(f"{which} in {cert_path} {fault.why}")
    identity = Identity(chain, key)
    try:
        server_context(identity)
    except SSL.Error as error:
        raise TLSUnusable(f"OpenSSL won't serve the certificate in {cert_path}: {error}") from error
    return identity


def ephemeral_identity() -> Identity:
    """Return a new self-signed certificate for this host, with its key; neither is stored."""
    key = ec.generate_private_key(ec.SECP256R1())
    host = socket.gethostname()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host[:64])])
    now = datetime.now(timezone.utc)
    names = [x509.DNSName(each) for each in dict.fromkeys((host, "localhost"))]
    addresses = [x509.IPAddress(IPv4Address("127.0.0.1")), x509.IPAddress(IPv6Address("::1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + _EPHEMERAL_LIFETIME)
        .add_extension(x509.SubjectAlternativeName([*names, *addresses]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Identity([certificate], key)


def load_authorities(path: str) -> list[x509.Certificate]:
    """Return the certificates in a PEM bundle of authorities.

    Raise `TLSUnusable` if the file can't be read, has no usable certificates, or has one that
    OpenSSL does not accept as an authority.
    """
    authorities = _load_certificates(path)
    trusted = crypto.X509Store()
    try:
        for authority in authorities:
            trusted.add_cert(crypto.X509.from_cryptography(authority))
    except crypto.Error as error:
        raise TLSUnusable(f"OpenSSL won't take the authorities in {path}: {error}") from error
    return authorities


def describe_identity(identity: Identity) -> str:
    """Return a phrase about a certificate: when it expires, and its fingerprint."""
    until = identity.expires.isoformat()
    return f"valid until {until}, SHA-256 fingerprint {identity.fingerprint}"


def describe_authorities(authorities: Sequence[x509.Certificate]) -> str:
    """Return a phrase about authorities: their number, and the time until which all are valid."""
    until = min(each.not_valid_after_utc for each in authorities).isoformat()
    number = len(authorities)
    return f"valid until {until}" if number == 1 else f"{number}, all valid until {until}"


def server_context(
    identity: Identity,
    authorities: Sequence[x509.Certificate] = (),
    lists: Sequence[x509.CertificateRevocationList] = (),
    *,
    required: bool = False,
) -> SSL.Context:
    """Return the context of server connections: TLS 1.2 or newer, with forward secrecy.

    With `authorities`, clients may present certificates. The handshake fails if a client presents a
    certificate that none of the authorities has signed, or, with `required`, presents none. With
    revocation `lists`, it also fails if the certificate is revoked or was issued by a revoked
    authority: then each authority, up to the root, needs a list. Raise `OpenSSL.SSL.Error` if
    OpenSSL rejects the identity.
    """
    context = CertificateOptions(
        raiseMinimumTo=TLSVersion.TLSv1_2, acceptableCiphers=_CIPHERS, **identity.arguments()
    ).getContext()
    context.set_alpn_select_callback(_select_protocol)
    # A request says how long it is, so a client that ends the stream without a close_notify has
    # not been cut short: it may still read its answer.
    context.set_options(SSL.OP_IGNORE_UNEXPECTED_EOF | SSL.OP_NO_RENEGOTIATION)
    if authorities:
        trusted = context.get_cert_store()
        assert trusted is not None
        for authority in authorities:
            trusted.add_cert(crypto.X509.from_cryptography(authority))
        context.set_client_ca_list(
            [crypto.X509.from_cryptography(a).get_subject() for a in authorities]
        )
        for each in lists:
            trusted.add_crl(each)
        if lists:
            flags = crypto.X509StoreFlags
            trusted.set_flags(flags.CRL_CHECK | flags.CRL_CHECK_ALL)
        required_mode = SSL.VERIFY_FAIL_IF_NO_PEER_CERT if required else SSL.VERIFY_NONE
        context.set_verify(SSL.VERIFY_PEER | required_mode, verify_certificate)
    return context


def read_record_by_record(connection: SSL.Connection) -> None:
    """Limit each read from a TLS connection to one TLS record, even if the record has no data.

    By default, OpenSSL reads on until a record with data has arrived. A client could then send
    KeyUpdates, which carry no data, and so make a single read last for as long as it likes, while
    all other clients wait.
    """
    # pyOpenSSL has no public way to override the context's mode for one connection.
    SSL._lib.SSL_clear_mode(connection._ssl, SSL._lib.SSL_MODE_AUTO_RETRY)  # type: ignore[attr-defined]


def forget_errors() -> None:
    """Empty OpenSSL's error queue, which all connections share; call this after a `SysCallError`.

    When a socket fails, pyOpenSSL raises `SysCallError`, but leaves OpenSSL's errors in the queue.
    Then the next connection that has to wait for its socket would seem to have failed.
    """
    SSL._lib.ERR_clear_error()  # type: ignore[attr-defined]  # there is no public way


@implementer(IOpenSSLContextFactory)
class ServerOptions:
    """A context factory for Twisted's `listenSSL`, with a context that `server_context` makes."""

    def __init__(self, identity: Identity, authorities: Sequence[x509.Certificate] = ()) -> None:
        """Make the context; arguments and exceptions are those of `server_context`."""
        self._context = server_context(identity, authorities)

    def getContext(self) -> SSL.Context:
        """Return the context, the same for each new connection."""
        return self._context


def _select_protocol(connection: SSL.Connection, offered: list[bytes]) -> Any:
    """Return the protocol to speak over TLS (ALPN, RFC 7301): HTTP/1.1, if the client offers it.

    Return `NO_OVERLAPPING_PROTOCOLS` otherwise; the handshake then continues without ALPN. This is
    a callback for `Context.set_alpn_select_callback`.
    """
    return _HTTP if _HTTP in offered else SSL.NO_OVERLAPPING_PROTOCOLS


def client_policy(trust: str, identity: Identity | None = None) -> IPolicyForHTTPS:
    """Return the policy that decides which HTTPS servers are trusted.

    `trust` is `system` for the authorities of the operating system, `insecure` for no verification
    at all, or the path of a PEM bundle of authorities. `identity` is presented to servers that ask
    for a certificate. Raise `TLSUnusable` if the bundle can't be used.
    """
    authorities = () if trust in ("system", "insecure") else load_authorities(trust)
    return make_policy(trust, authorities, identity)


def make_policy(
    trust: str, authorities: Sequence[x509.Certificate], identity: Identity | None
) -> IPolicyForHTTPS:
    """Return the policy that decides which HTTPS servers are trusted.

    `trust` and `identity` are the arguments of `client_policy`. `authorities` are the certificates
    in the bundle if `trust` is the path of a bundle; otherwise they are not used.
    """
    if trust == "insecure":
        return TrustAnybody(identity)
    if trust == "system":
        return TrustAuthorities(platformTrust(), identity)
    roots = [Certificate(crypto.X509.from_cryptography(each)) for each in authorities]
    return TrustAuthorities(trustRootFromCertificates(roots), identity)


def _presenting(identity: Identity | None) -> dict[str, Any]:
    """Return arguments of `CertificateOptions` for a client that presents `identity`, if any."""
    return {
        "raiseMinimumTo": TLSVersion.TLSv1_2,
        **(identity.arguments() if identity is not None else {}),
    }


@implementer(IPolicyForHTTPS)
class TrustAuthorities:
    """An HTTPS policy that trusts a server if a given authority has certified its host name."""

    def __init__(self, root: Any, identity: Identity | None = None) -> None:
        """Make a policy that trusts `root`, a `trustRoot` of Twisted's `optionsForClientTLS`.

        `identity` is presented to servers that ask for a certificate.
        """
        self._root = root
        self._identity = identity

    def creatorForNetloc(self, hostname: bytes, port: int) -> IOpenSSLClientConnectionCreator:
        """Return a creator of TLS connections to `hostname`."""
        return optionsForClientTLS(
            _certified_name(hostname).decode("ascii"),
            trustRoot=self._root,
            extraCertificateOptions=_presenting(self._identity),
        )


@implementer(IPolicyForHTTPS, IOpenSSLClientConnectionCreator)
class TrustAnybody:
    """An HTTPS policy that trusts any server: connections are encrypted, but not authenticated."""

    def __init__(self, identity: Identity | None = None) -> None:
        self._context = CertificateOptions(verify=False, **_presenting(identity)).getContext()
        self._hostname: bytes | None = None

    def creatorForNetloc(self, hostname: bytes, port: int) -> IOpenSSLClientConnectionCreator:
        """Return a creator of TLS connections to `hostname`."""
        creator = TrustAnybody()
        creator._context, creator._hostname = self._context, _certified_name(hostname)
        return creator

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """Return a new client-side TLS connection to the host given to `creatorForNetloc`."""
        connection = SSL.Connection(self._context, None)
        if self._hostname and not isIPAddress(self._hostname.decode("ascii")):
            connection.set_tlsext_host_name(self._hostname)
        return connection


def _certified_name(hostname: bytes) -> bytes:
    """Return a host's name as certificates contain it: without the dot that may end it in a URL.

    The dot says that the name is complete (RFC 1034 3.1). Neither SNI (RFC 6066 3) nor a
    certificate contains the dot. curl leaves it out of both; it keeps it in `Host` only.
    """
    return hostname.removesuffix(b".")


def read_pem(path: str) -> bytes:
    """Return the content of a PEM file; raise `TLSUnusable` if it can't be read."""
    try:
        return read_ordinary(path, _LARGEST_FILE).content
    except OSError as error:
        raise TLSUnusable(f"{path} can't be read: {error.strerror}") from error


def _load_certificates(path: str) -> list[x509.Certificate]:
    content = read_pem(path)
    try:
        return x509.load_pem_x509_certificates(content)
    except ValueError as error:
        swapped = _PRIVATE_KEY in content and _CERTIFICATE not in content
        hint = _SWAPPED.format("a private key") if swapped else ""
        raise TLSUnusable(f"{path} holds no usable PEM certificates{hint}") from error
