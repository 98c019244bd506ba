"""TLS on real sockets: what is served, and what is presented."""

import hashlib
import socket
import ssl
import warnings
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from treq.client import HTTPClient
from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThread
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent, HTTPConnectionPool, ResponseNeverReceived
from twisted.web.iweb import IAgentEndpointFactory, IPolicyForHTTPS
from twisted.web.resource import Resource
from twisted.web.server import Site
from zope.interface import implementer

from hbtd.net.tls import (
    Identity,
    ServerOptions,
    client_policy,
    ephemeral_identity,
    load_authorities,
    load_identity,
)
from tests.support.certificates import (
    issue,
    make_identity,
    old_root_chain,
    rsa_key,
    write_identity,
)


class Seen(NamedTuple):
    """What a client saw of a connection."""

    version: str | None
    certificate: bytes
    """In DER."""


class Greeter(Protocol):
    """Sends hello on every connection."""

    def connectionMade(self) -> None:
        """Send it."""
        assert self.transport is not None
        self.transport.write(b"hello")


class Page(Resource):
    """A web page that says hello."""

    isLeaf = True

    def render(self, request: object) -> bytes:
        """Return it."""
        return b"hello"


class Presented(Page):
    """The same page, recording the common names of the certificates that clients present."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str | None] = []

    def render(self, request: Any) -> bytes:
        """Record the certificate."""
        shown = request.channel.transport.getPeerCertificate()
        self.names.append(None if shown is None else shown.get_subject().CN)
        return b"hello"


class Addressed(Page):
    """A page that notes how the server is addressed."""

    def __init__(self) -> None:
        super().__init__()
        self.hosts: list[str | None] = []

    def render(self, request: Any) -> bytes:
        """Note the `Host`."""
        self.hosts.append(request.getHeader("host"))
        return super().render(request)


@implementer(IAgentEndpointFactory)
class Here:
    """Makes TLS connections to this host, whatever name is in the URL."""

    def __init__(self, policy: IPolicyForHTTPS) -> None:
        self._policy = policy

    def endpointForURI(self, uri: Any) -> IStreamClientEndpoint:
        """Return an endpoint on this host that expects the certificate of a URL's host."""
        here = TCP4ClientEndpoint(reactor, "127.0.0.1", uri.port)
        return wrapClientTLS(self._policy.creatorForNetloc(uri.host, uri.port), here)


class HandshakeTestCase(TestCase):
    """Serves hello over TLS on a local port."""

    timeout = 120

    def setUp(self):
        self.folder = Path(self.mktemp()).resolve()

    def serve(self, identity: Identity, client_ca_path: str = "", site: Any = None) -> None:
        """Start the server."""
        factory = site or Factory.forProtocol(Greeter)
        authorities = load_authorities(client_ca_path) if client_ca_path else ()
        options = ServerOptions(identity, authorities)
        served: Any = TLSMemoryBIOFactory(options, False, factory)
        served.noisy = False
        port: Any = reactor.listenTCP(0, served, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.port: int = port.getHost().port

    def client(self, trusted: Identity | None = None) -> ssl.SSLContext:
        """Return a client context that trusts one authority, or any server."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if trusted is None:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        else:
            root = trusted.chain[-1].public_bytes(Encoding.PEM).decode()
            context.load_verify_locations(cadata=root)
        return context

    def write(self, identity: Identity, name: str) -> tuple[str, str]:
        """Write a certificate and its key to files; return their paths."""
        cert, key = write_identity(identity, self.folder / name)
        return str(cert), str(key)

    async def connect(self, context: ssl.SSLContext, host: str = "localhost") -> Seen:
        """Connect and read hello; raise `ssl.SSLError` or `ConnectionError`."""
        return await deferToThread(_connect, self.port, context, host)

    async def refused(self, context: ssl.SSLContext) -> str:
        """Check that connecting fails; return the reason."""
        with self.assertRaises((ssl.SSLError, ConnectionError)) as raised:
            await self.connect(context)
        return str(raised.exception)


def _connect(port: int, context: ssl.SSLContext, host: str) -> Seen:
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as raw,
        context.wrap_socket(raw, server_hostname=host) as connection,
    ):
        # With TLS 1.3 the server's refusal follows the end of the client's handshake.
        if connection.recv(5) != b"hello":
            raise ConnectionError("no hello")
        return Seen(connection.version(), connection.getpeercert(binary_form=True) or b"")


class ServerTests(HandshakeTestCase):
    """What clients are served."""

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
            # The refusal is the server's.
            self.assertIn("ALERT_PROTOCOL_VERSION", await self.refused(context))

    async def test_ciphers(self) -> None:
        """With TLS 1.2 only cipher suites with forward secrecy and authentication are served."""
        for key in (rsa_key(), ec.generate_private_key(ec.SECP256R1())):
            self.serve(issue(key))
            context = self.client()
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            for suites in ("ECDHE+AESGCM", "ECDHE+CHACHA20"):
                context.set_ciphers(suites)
                await self.connect(context)
            for suites in ("kRSA", "DHE", "ECDHE+AES:!AESGCM", "AESCCM", "ECDHE+SHA384:!AESGCM"):
                context.set_ciphers(f"{suites}:@SECLEVEL=0")
                await self.refused(context)

    async def test_keys(self) -> None:
        """Keys may be RSA, ECDSA or EdDSA; they are read from files and served."""
        keys: list[Any] = [
            rsa_key(),
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
        """Intermediate certificates are served: clients need only the root."""
        root = issue(ec.generate_private_key(ec.SECP256R1()), "root", ca=True)
        middle = issue(rsa_key(), "middle", root, ca=True)
        lower = issue(ec.generate_private_key(ec.SECP256R1()), "lower", middle, ca=True)
        server = issue(ec.generate_private_key(ec.SECP256R1()), "localhost", lower)
        self.assertEqual(len(server.chain), 3)
        self.serve(load_identity(*self.write(server, "server")))
        await self.connect(self.client(root))

    async def test_old_root(self) -> None:
        """A chain that ends in an expired certificate of a root serves clients with its new one."""
        server, root = old_root_chain()
        self.serve(load_identity(*self.write(server, "server")))
        await self.connect(self.client(Identity([root], server.key)))

    async def test_protocol(self) -> None:
        """A client that offers HTTP/2 and HTTP/1.1 gets HTTP/1.1."""
        self.serve(make_identity("localhost"))
        context = self.client()
        context.set_alpn_protocols(["h2", "http/1.1"])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            await self.connect(context)

    async def test_ephemeral(self) -> None:
        """The certificate made at start names this host; its fingerprint is openssl's."""
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
        """With a client CA, clients connect without a certificate or with one that it signed."""
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
        """Without a client CA, no certificate is requested, and one offered does no harm."""
        self.serve(make_identity("localhost"))
        context = self.client()
        context.load_cert_chain(*self.write(make_identity("node"), "node"))
        await self.connect(context)


class PolicyTests(HandshakeTestCase):
    """Which servers a client policy trusts."""

    def setUp(self):
        super().setUp()
        self.identity = make_identity("localhost")
        self.serve(self.identity, site=Site(Page()))

    async def get(
        self, trust: str, host: str = "localhost", identity: Identity | None = None
    ) -> None:
        """Make a request; raise `ResponseNeverReceived`."""
        pool = HTTPConnectionPool(reactor, persistent=False)
        client = HTTPClient(Agent(reactor, client_policy(trust, identity), pool=pool))
        response = await client.get(f"https://{host}:{self.port}/")
        self.assertEqual(await response.text(), "hello")

    async def mistrusted(self, trust: str, host: str = "localhost") -> None:
        """Check that a server is not trusted."""
        with self.assertRaises(ResponseNeverReceived):
            await self.get(trust, host)

    async def test_system(self) -> None:
        """`system` does not trust a self-signed certificate."""
        await self.mistrusted("system")

    async def test_insecure(self) -> None:
        """`insecure` trusts any server, under any name."""
        await self.get("insecure")
        await self.get("insecure", "127.0.0.1")

    async def test_bundle(self) -> None:
        """A bundle's path trusts the certificates in it, under their names, and no others."""
        other, stranger = make_identity("other"), make_identity("localhost")
        both, _ = self.write(Identity([*other.chain, *self.identity.chain], other.key), "both")
        await self.get(both)
        await self.mistrusted(both, "127.0.0.1")
        for identity in (other, stranger):
            alone, _ = self.write(identity, "alone")
            await self.mistrusted(alone)

    async def test_trailing_dot(self) -> None:
        """A dot that ends a URL's host is in `Host`, but neither in SNI nor in what is verified."""
        page = Addressed()
        names: list[str | None] = []
        served = ServerOptions(self.identity)
        served.getContext().set_tlsext_servername_callback(
            lambda connection: names.append((connection.get_servername() or b"").decode())
        )
        factory: Any = TLSMemoryBIOFactory(served, False, Site(page))
        port: Any = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.port = port.getHost().port
        trust, _ = self.write(self.identity, "server")
        for each in (trust, "insecure"):
            agent = Agent.usingEndpointFactory(reactor, Here(client_policy(each)))
            response = await HTTPClient(agent).get(f"https://localhost.:{self.port}/")
            self.assertEqual(await response.text(), "hello")
        self.assertEqual(names, ["localhost"] * 2)
        self.assertEqual(page.hosts, [f"localhost.:{self.port}"] * 2)

    async def test_own_certificate(self) -> None:
        """A client certificate is presented with its chain, whatever the policy trusts."""
        root = issue(ec.generate_private_key(ec.SECP256R1()), "root", ca=True)
        middle = issue(ec.generate_private_key(ec.SECP256R1()), "middle", root, ca=True)
        own = issue(ec.generate_private_key(ec.SECP256R1()), "hbtd", middle)
        self.assertEqual(len(own.chain), 2)
        authority, _ = self.write(root, "authority")
        page = Presented()
        self.serve(self.identity, authority, site=Site(page))
        trust, _ = self.write(self.identity, "server")
        for each in ("insecure", trust):
            await self.get(each, identity=load_identity(*self.write(own, "own")))
            await self.get(each)
        self.assertEqual(page.names, ["hbtd", None] * 2)
