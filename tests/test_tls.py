"""TLS: what is served, on real sockets, and what is said of files that can't be used."""

import hashlib
import socket
import ssl
import warnings
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from treq.client import HTTPClient
from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThread
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.client import Agent, HTTPConnectionPool, ResponseNeverReceived
from twisted.web.resource import Resource
from twisted.web.server import Site

from hbtd.tls import (
    Identity,
    TLSUnusable,
    client_policy,
    ephemeral_identity,
    load_identity,
    server_options,
)
from tests.certificates import make_identity, write_identity

# RSA keys take their time to make.
RSA_KEY = rsa.generate_private_key(65537, 2048)


def issue(
    key: Any, name: str = "localhost", issuer: Identity | None = None, *, ca: bool = False
) -> Identity:
    """Make a certificate for a key, self-signed or issued by another; the chain has its issuer's.

    The chain is as servers have it: without the root.
    """
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
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


class Seen(NamedTuple):
    """What a client has seen of a connection."""

    version: str | None
    certificate: bytes
    """In DER."""


class Greeter(Protocol):
    """Says hello to whom it lets in."""

    def connectionMade(self) -> None:
        """Say it."""
        assert self.transport is not None
        self.transport.write(b"hello")


class Page(Resource):
    """Says hello in HTTP."""

    isLeaf = True

    def render(self, request: object) -> bytes:
        """Say it."""
        return b"hello"


class HandshakeTestCase(TestCase):
    """Serves hello over TLS on a port of this host."""

    timeout = 30

    def setUp(self):
        self.folder = Path(self.mktemp()).resolve()

    def serve(self, identity: Identity, client_ca_path: str = "", site: Any = None) -> None:
        """Start the server."""
        factory = site or Factory.forProtocol(Greeter)
        options = server_options(identity, client_ca_path)
        served: Any = TLSMemoryBIOFactory(options, False, factory)
        served.noisy = False
        port: Any = reactor.listenTCP(0, served, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.port: int = port.getHost().port

    def client(self, trusted: Identity | None = None) -> ssl.SSLContext:
        """Make a client that trusts one authority, or anybody."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if trusted is None:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        else:
            root = trusted.chain[-1].public_bytes(Encoding.PEM).decode()
            context.load_verify_locations(cadata=root)
        return context

    def write(self, identity: Identity, name: str) -> tuple[str, str]:
        """Write a certificate and its key to files; gives their paths."""
        cert, key = write_identity(identity, self.folder / name)
        return str(cert), str(key)

    async def connect(self, context: ssl.SSLContext, host: str = "localhost") -> Seen:
        """Connect and be greeted; raises `ssl.SSLError` or `ConnectionError`."""
        return await deferToThread(_connect, self.port, context, host)

    async def refused(self, context: ssl.SSLContext) -> str:
        """Connect in vain; gives the reason."""
        with self.assertRaises((ssl.SSLError, ConnectionError)) as raised:
            await self.connect(context)
        return str(raised.exception)


def _connect(port: int, context: ssl.SSLContext, host: str) -> Seen:
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as raw,
        context.wrap_socket(raw, server_hostname=host) as connection,
    ):
        # With TLS 1.3 a server's refusal comes after the client's handshake is done.
        if connection.recv(5) != b"hello":
            raise ConnectionError("not greeted")
        return Seen(connection.version(), connection.getpeercert(binary_form=True) or b"")


class ServerTests(HandshakeTestCase):
    """What clients get to see."""

    async def test_versions(self) -> None:
        """TLS 1.2 and 1.3 are served; 1.1 and 1.0 are refused."""
        self.serve(make_identity("localhost"))
        version = ssl.TLSVersion
        for modern, name in ((version.TLSv1_2, "TLSv1.2"), (version.TLSv1_3, "TLSv1.3")):
            context = self.client()
            context.minimum_version = context.maximum_version = modern
            self.assertEqual((await self.connect(context)).version, name)
        for old in (version.TLSv1_1, version.TLSv1):
            context = self.client()
            context.set_ciphers("ALL:@SECLEVEL=0")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                context.minimum_version = context.maximum_version = old
            # It is the server that says so.
            self.assertIn("ALERT_PROTOCOL_VERSION", await self.refused(context))

    async def test_keys(self) -> None:
        """Keys may be RSA, ECDSA or EdDSA; they are read from files and served."""
        keys: list[Any] = [
            RSA_KEY,
            ec.generate_private_key(ec.SECP256R1()),
            ec.generate_private_key(ec.SECP384R1()),
            ed25519.Ed25519PrivateKey.generate(),
            ed448.Ed448PrivateKey.generate(),
        ]
        for index, key in enumerate(keys):
            identity = issue(key)
            self.serve(load_identity(*self.write(identity, str(index))))
            seen = await self.connect(self.client(identity))
            self.assertEqual(seen.certificate, identity.chain[0].public_bytes(Encoding.DER))

    async def test_chain(self) -> None:
        """Intermediate certificates are served: clients need to know the root alone."""
        root = issue(ec.generate_private_key(ec.SECP256R1()), "root", ca=True)
        middle = issue(RSA_KEY, "middle", root, ca=True)
        lower = issue(ec.generate_private_key(ec.SECP256R1()), "lower", middle, ca=True)
        server = issue(ec.generate_private_key(ec.SECP256R1()), "localhost", lower)
        self.assertEqual(len(server.chain), 3)
        self.serve(load_identity(*self.write(server, "server")))
        await self.connect(self.client(root))

    async def test_protocol(self) -> None:
        """Clients that offer HTTP/2 too are told that it is HTTP/1.1."""
        self.serve(make_identity("localhost"))
        context = self.client()
        context.set_alpn_protocols(["h2", "http/1.1"])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            await self.connect(context)

    async def test_ephemeral(self) -> None:
        """The certificate made at start names this host; its fingerprint is the one logged."""
        identity = ephemeral_identity()
        (certificate,) = identity.chain
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        self.assertEqual(
            set(names.get_values_for_type(x509.DNSName)), {socket.gethostname(), "localhost"}
        )
        self.assertEqual(
            set(names.get_values_for_type(x509.IPAddress)),
            {ip_address("127.0.0.1"), ip_address("::1")},
        )
        now = datetime.now(timezone.utc)
        self.assertLess(certificate.not_valid_before_utc, now)
        self.assertGreater(certificate.not_valid_after_utc, now + timedelta(days=365))

        self.serve(identity)
        for host in ("localhost", "127.0.0.1", socket.gethostname()):
            seen = await self.connect(self.client(identity), host)
        digest = hashlib.sha256(seen.certificate).hexdigest().upper()
        pairs = [digest[i : i + 2] for i in range(0, 64, 2)]
        self.assertEqual(identity.fingerprint, ":".join(pairs))
        self.assertNotEqual(identity.fingerprint, ephemeral_identity().fingerprint)


class ClientCertificateTests(HandshakeTestCase):
    """Clients that present a certificate."""

    async def test_client_ca(self) -> None:
        """With a client CA, none is fine, one that it signed is fine, any other is refused."""
        authority = make_identity("authority")
        other = make_identity("other")
        bundle, _ = self.write(Identity([*authority.chain, *other.chain], authority.key), "bundle")
        own = make_identity("localhost")
        self.serve(own, bundle)
        presented = {
            "none": None,
            "signed": make_identity("node", authority),
            "signed by the second": make_identity("node", other),
            "foreign": make_identity("node", make_identity("authority")),
            "self-signed": make_identity("node"),
            "expired": make_identity("node", authority, days=-1),
        }
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            for name, identity in presented.items():
                context = self.client(own)
                context.minimum_version = context.maximum_version = version
                if identity is not None:
                    context.load_cert_chain(*self.write(identity, name))
                if name in ("none", "signed", "signed by the second"):
                    await self.connect(context)
                else:
                    await self.refused(context)

    async def test_without_client_ca(self) -> None:
        """Without one nobody is asked for a certificate, and none is in the way."""
        self.serve(make_identity("localhost"))
        context = self.client()
        context.load_cert_chain(*self.write(make_identity("node"), "node"))
        await self.connect(context)


class PolicyTests(HandshakeTestCase):
    """Whom we trust as a client."""

    def setUp(self):
        super().setUp()
        self.identity = make_identity("localhost")
        self.serve(self.identity, site=Site(Page()))

    async def get(self, trust: str, host: str = "localhost") -> None:
        """Make a request; fails with `ResponseNeverReceived`."""
        pool = HTTPConnectionPool(reactor, persistent=False)
        client = HTTPClient(Agent(reactor, client_policy(trust), pool=pool))
        response = await client.get(f"https://{host}:{self.port}/")
        self.assertEqual(await response.text(), "hello")

    async def mistrusted(self, trust: str, host: str = "localhost") -> None:
        """See that a request is never made."""
        with self.assertRaises(ResponseNeverReceived):
            await self.get(trust, host)

    async def test_system(self) -> None:
        """`system` does not trust a certificate that signed itself."""
        await self.mistrusted("system")

    async def test_insecure(self) -> None:
        """`insecure` trusts anybody, under any name."""
        await self.get("insecure")
        await self.get("insecure", "127.0.0.1")

    async def test_bundle(self) -> None:
        """A PEM bundle's path trusts those in it, under their names, and nobody else."""
        other, stranger = make_identity("other"), make_identity("localhost")
        both, _ = self.write(Identity([*other.chain, *self.identity.chain], other.key), "both")
        await self.get(both)
        await self.mistrusted(both, "127.0.0.1")
        for identity in (other, stranger):
            alone, _ = self.write(identity, "alone")
            await self.mistrusted(alone)


class UnusableTests(SynchronousTestCase):
    """What can't be used is refused at start, and the file is named."""

    def setUp(self):
        self.folder = Path(self.mktemp()).resolve()
        cert, key = write_identity(make_identity("localhost"), self.folder)
        self.cert, self.key = str(cert), str(key)

    def file(self, content: bytes) -> str:
        """Write a file; gives its path."""
        path = self.folder / "file.pem"
        path.write_bytes(content)
        return str(path)

    def unusable(self, cert: str, key: str, culprit: str) -> str:
        """See that a certificate and key are refused, in one line with the culprit's path."""
        with self.assertRaises(TLSUnusable) as raised:
            server_options(load_identity(cert, key)).getContext()
        said = str(raised.exception)
        self.assertIn(culprit, said)
        self.assertEqual(len(said.splitlines()), 1)
        return said

    def private(self, key: Any, encryption: Any = None) -> str:
        """Write a key to a file; gives its path."""
        pem: bytes = key.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption()
        )
        return self.file(pem)

    def test_missing(self):
        """A file that is not there, or is none."""
        for path in (str(self.folder / "missing.pem"), str(self.folder)):
            self.unusable(path, self.key, path)
            self.unusable(self.cert, path, path)
            with self.assertRaisesRegex(TLSUnusable, path):
                server_options(make_identity("localhost"), path)
            with self.assertRaisesRegex(TLSUnusable, path):
                client_policy(path)

    def test_garbage(self):
        """A file that does not hold what it should."""
        pem = Path(self.cert).read_bytes()
        key = Path(self.key).read_bytes()
        for content in (b"", b"hello", b"\x00\xff" * 100, pem[:200], pem.replace(b"M", b"N"), key):
            path = self.file(content)
            self.unusable(path, self.key, path)
            with self.assertRaisesRegex(TLSUnusable, path):
                server_options(make_identity("localhost"), path)
            with self.assertRaisesRegex(TLSUnusable, path):
                client_policy(path)
        for content in (b"", b"hello", b"\x00\xff" * 100, key[:100], pem):
            path = self.file(content)
            self.unusable(self.cert, path, path)

    def test_mismatch(self):
        """A key that belongs to another certificate."""
        path = self.private(RSA_KEY)
        self.assertIn(self.cert, self.unusable(self.cert, path, path))

    def test_expired(self):
        """A certificate that has expired."""
        cert, key = write_identity(make_identity("localhost", days=-1), self.folder / "old")
        self.assertIn("expired", self.unusable(str(cert), str(key), str(cert)))

    def test_encrypted(self):
        """A key that needs a passphrase; nobody is asked for it."""
        path = self.private(make_identity("x").key, BestAvailableEncryption(b"secret"))
        self.assertIn("unencrypted", self.unusable(self.cert, path, path))

    def test_other_keys(self):
        """A key of a kind that TLS has no use for."""
        for key in (x25519.X25519PrivateKey.generate(), dsa.generate_private_key(2048)):
            path = self.private(key)
            self.unusable(self.cert, path, path)

    def test_weak(self):
        """A key that OpenSSL finds too weak to serve."""
        cert, key = write_identity(
            issue(rsa.generate_private_key(65537, 1024)), self.folder / "weak"
        )
        self.unusable(str(cert), str(key), str(self.folder / "weak"))
