"""Endpoints, and the transports of what they accept, on real sockets."""

import errno
import os
import socket
import stat
from itertools import pairwise
from pathlib import Path
from typing import Any

from twisted.internet import reactor, unix
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    UNIXClientEndpoint,
    _SystemdParser,
    connectProtocol,
    wrapClientTLS,
)
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IHandshakeListener,
    IPushProducer,
    ISSLTransport,
    ITCPTransport,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.python.systemd import ListenFDs
from twisted.trial.unittest import SkipTest, TestCase
from twisted.web.resource import Resource
from zope.interface.verify import verifyObject

from hbtd.config.params import Params
from hbtd.net.served_certificate import serve_identity
from hbtd.net.tls import TrustAnybody
from hbtd.server.factory import ConnectionFactory
from hbtd.server.limits import limits_of
from hbtd.server.listening import (
    BACKLOG,
    DualStackEndpoint,
    TransportUnusable,
    endpoint_from_string,
    endpoint_of_address,
    serves_only_ipv6,
    set_transport,
)
from hbtd.server.site import LimitedSite
from hbtd.server.tls_transport import TLSTransport, UnixTLSTransport
from hbtd.server.transport import TCPTransport, UnixTransport
from tests.support.certificates import make_identity, write_identity
from tests.support.http_memory import head, parse_responses
from tests.support.running import start_hbtd, until
from tests.support.short_paths import short_folder


class Peer(Protocol):
    """Sends the address of its peer, as a service would see it, and what it received."""

    def dataReceived(self, data: bytes) -> None:
        """Send both."""
        assert self.transport is not None
        host = getattr(self.transport.getPeer(), "host", None)
        self.transport.write(f"{host} ".encode() + data)


class Caller(Protocol):
    """Sends a request, and keeps what it receives."""

    received = b""

    def connectionMade(self) -> None:
        """Send the request."""
        assert self.transport is not None
        self.transport.write(head("GET /v1/liveness"))

    def dataReceived(self, data: bytes) -> None:
        """Keep it."""
        self.received += data


class ListeningTestCase(TestCase):
    """Listens on real ports."""

    timeout = 120

    def make_factory(self) -> ConnectionFactory:
        """Make a factory, which serves nothing."""
        limits = limits_of(Params())
        site = LimitedSite(Resource(), Clock(), limits, lambda *_: None)
        return ConnectionFactory(site, None, Clock())

    async def listen(self, description: str, factory: Any) -> Any:
        """Listen on an endpoint that a string describes."""
        port: Any = await endpoint_from_string(reactor, description).listen(factory)
        self.addCleanup(port.stopListening)
        return port


class EndpointTests(ListeningTestCase):
    """What is not left to Twisted."""

    async def test_backlog(self) -> None:
        """A cabinet may wait to be accepted, unless another backlog is given."""
        for description, backlog in (
            ("tcp:0:interface=127.0.0.1", BACKLOG),
            ("tcp:0:interface=127.0.0.1:backlog=7", 7),
            (f"unix:{short_folder(self)}/socket", BACKLOG),
        ):
            port = await self.listen(description, self.make_factory())
            self.assertEqual(port.backlog, backlog)
        endpoint: Any = endpoint_of_address(reactor, 0, "127.0.0.1")
        port = await endpoint.listen(self.make_factory())
        self.addCleanup(port.stopListening)
        self.assertEqual((port.backlog, port.getHost().host), (BACKLOG, "127.0.0.1"))

    async def test_dual_stack(self) -> None:
        """A port for all addresses serves IPv6 and IPv4, whatever is the host's default."""
        if not socket.has_dualstack_ipv6():
            raise SkipTest("the host has no IPv6")
        factory = self.make_factory()
        port: Any = await DualStackEndpoint(reactor, 0).listen(factory)
        self.addCleanup(port.stopListening)
        set_transport(port, None)
        number = port.getHost().port
        for host in ("127.0.0.1", "::1"):
            client = socket.create_connection((host, number))
            self.addCleanup(client.close)
        await until(lambda: len(factory) == 2)
        self.assertEqual({type(each.transport) for each in factory}, {TCPTransport})
        factory.abort()
        await until(lambda: not len(factory))
        self.assertFalse(serves_only_ipv6(port))
        with self.assertRaises(CannotListenError) as raised:
            await DualStackEndpoint(reactor, number).listen(factory)
        self.assertEqual(raised.exception.socketError.errno, errno.EADDRINUSE)

    async def test_only_ipv6(self) -> None:
        """A port for all IPv6 addresses may be one that leaves out IPv4."""
        if not socket.has_dualstack_ipv6():
            raise SkipTest("the host has no IPv6")
        adopt: Any = reactor.adoptStreamPort  # type: ignore[attr-defined]  # it has it
        for only, host in ((1, "::"), (0, "::"), (1, "::1")):
            with socket.socket(socket.AF_INET6) as made:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
                made.bind((host, 0))
                made.listen()
                made.setblocking(False)
                factory = self.make_factory()
                port = adopt(made.fileno(), socket.AF_INET6, factory)
            self.addCleanup(port.stopListening)
            self.assertIs(serves_only_ipv6(port), bool(only) and host == "::")
        for where in ("tcp:0:interface=127.0.0.1", f"unix:{short_folder(self)}/socket"):
            port = await self.listen(where, self.make_factory())
            self.assertFalse(serves_only_ipv6(port))

    async def test_accepted_at_once(self) -> None:
        """However many connections wait, about a hundred of them are accepted in one go."""
        served = serve_identity(make_identity("localhost"))
        for certificate in (None, served):
            factory = self.make_factory()
            port = await self.listen("tcp:0:interface=127.0.0.1", factory)
            set_transport(port, certificate)
            port.stopReading()
            host = port.getHost()
            for _ in range(600):
                client = socket.create_connection((host.host, host.port))
                self.addCleanup(client.close)
            accepted = [0]
            while accepted[-1] < 600:
                port.doRead()
                accepted.append(len(factory))
            most = max(new - old for old, new in pairwise(accepted))
            self.assertLess(most, 150)
            self.assertGreater(most, 80)
            port.startReading()
            factory.abort()
            await until(lambda: not len(factory))  # noqa: B023

    async def test_mode(self) -> None:
        """A Unix socket is for its owner and group, unless another mode is given."""
        for suffix, mode in (("", 0o660), (":mode=600", 0o600)):
            path = short_folder(self) / "socket"
            await self.listen(f"unix:{path}{suffix}", self.make_factory())
            self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), mode)

    async def test_transports(self) -> None:
        """Connections get hbtd's transports, with TLS where there is a certificate."""
        served = serve_identity(make_identity("localhost"))
        for description, certificate, kind in (
            ("tcp:0:interface=127.0.0.1", None, TCPTransport),
            ("tcp:0:interface=127.0.0.1", served, TLSTransport),
            (f"unix:{short_folder(self)}/socket", None, UnixTransport),
            (f"unix:{short_folder(self)}/socket", served, UnixTLSTransport),
        ):
            factory = self.make_factory()
            port = await self.listen(description, factory)
            set_transport(port, certificate)
            client = socket.socket(port.addressFamily)
            self.addCleanup(client.close)
            address = port.getHost()
            local = isinstance(port, unix.Port)
            client.connect(address.name if local else (address.host, address.port))
            await until(lambda: len(factory))  # noqa: B023
            (connection,) = factory
            self.assertIs(type(connection.transport), kind)
            factory.abort()
            await until(lambda: not len(factory))  # noqa: B023

    async def test_asked_once(self) -> None:
        """A TCP socket sends at once, and is asked once for its address and told once to."""
        for certificate in (None, serve_identity(make_identity("localhost"))):
            factory = self.make_factory()
            port = await self.listen("tcp:0:interface=127.0.0.1", factory)
            set_transport(port, certificate)
            client = socket.create_connection(("127.0.0.1", port.getHost().port))
            self.addCleanup(client.close)
            await until(lambda: len(factory))  # noqa: B023
            (connection,) = factory
            transport = connection.transport
            option = (socket.IPPROTO_TCP, socket.TCP_NODELAY)
            for alive, value in (
                ((socket.SOL_SOCKET, socket.SO_KEEPALIVE), 1),
                ((socket.IPPROTO_TCP, socket.TCP_KEEPIDLE), 60),
            ):
                self.assertEqual(transport.socket.getsockopt(*alive), value)
            self.assertEqual(transport.getHost(), port.getHost())
            self.assertIs(transport.getHost(), transport.getHost())
            self.assertTrue(transport.socket.getsockopt(*option))
            transport.socket.setsockopt(*option, 0)
            transport.setTcpNoDelay(True)  # as it is already, for all that it knows
            self.assertFalse(transport.socket.getsockopt(*option))
            transport.setTcpNoDelay(False)
            transport.setTcpNoDelay(True)
            self.assertTrue(transport.socket.getsockopt(*option))
            factory.abort()
            await until(lambda: not len(factory))  # noqa: B023

    def test_interfaces(self) -> None:
        """Transports and protocols say which of Twisted's interfaces they provide."""
        for kind in (TCPTransport, UnixTransport):
            self.assertTrue(ITCPTransport.implementedBy(kind))
            self.assertFalse(ISSLTransport.implementedBy(kind))
        for over_tls in (TLSTransport, UnixTLSTransport):
            self.assertTrue(ISSLTransport.implementedBy(over_tls))
        connection = self.make_factory().buildProtocol(None)
        verifyObject(IHandshakeListener, connection)
        verifyObject(IPushProducer, connection)

    async def test_not_on_others(self) -> None:
        """TLS is refused where it could not be served; without it others serve as they do."""
        factory = Factory.forProtocol(Peer)
        port = await self.listen("tcp:0:interface=127.0.0.1", factory)
        set_transport(port, None)
        with self.assertRaises(TransportUnusable):
            set_transport(port, serve_identity(make_identity("localhost")))


class ProxyTests(ListeningTestCase):
    """The PROXY protocol."""

    V2 = b"\r\n\r\n\x00\r\nQUIT\n"

    async def heard(self, *pieces: bytes) -> bytes:
        """Send some pieces to a proxied endpoint; return its answer, empty if it hangs up."""
        factory = Factory.forProtocol(Peer)
        port = await self.listen("haproxy:tcp:0:interface=127.0.0.1", factory)
        with socket.create_connection(("127.0.0.1", port.getHost().port)) as client:
            client.setblocking(False)
            for piece in pieces:
                client.sendall(piece)
                await self.round()
            received, ended = b"", False

            def receive() -> bool:
                nonlocal received, ended
                try:
                    data = client.recv(65536)
                except BlockingIOError:
                    return False
                received, ended = received + data, not data
                return ended or received.endswith(b"hello")

            await until(receive)
        return received

    async def round(self) -> None:
        """Let the reactor go round."""
        going: Deferred[None] = Deferred()
        reactor.callLater(0.01, going.callback, None)
        await going

    async def test_headers(self) -> None:
        """Clients are who the proxy says they are; of one that it does not know, it is itself."""
        ipv4 = b"\x21\x11\x00\x0c\x0a\x00\x00\x07\x0a\x00\x00\x01\x00\x50\x00\x51"
        for header, host in (
            (b"PROXY TCP4 10.0.0.7 10.0.0.1 80 81\r\n", b"10.0.0.7"),
            (b"PROXY TCP6 fe80::7 fe80::1 80 81\r\n", b"fe80::7"),
            (b"PROXY UNKNOWN\r\n", b"127.0.0.1"),
            (b"PROXY UNKNOWN ffff:f fff:f 65 66\r\n", b"127.0.0.1"),
            (self.V2 + ipv4, b"10.0.0.7"),
            (self.V2 + b"\x20\x00\x00\x00", b"127.0.0.1"),
        ):
            self.assertEqual(await self.heard(header + b"hello"), host + b" hello", header)

    async def test_pieces(self) -> None:
        """A header may come in pieces."""
        header = b"PROXY UNKNOWN\r\n"
        for cut in (1, 5, 6, 14):
            heard = await self.heard(header[:cut], header[cut:], b"hello")
            self.assertEqual(heard, b"127.0.0.1 hello", cut)

    async def test_defaults(self) -> None:
        """What is behind the header has hbtd's defaults, not Twisted's."""
        port = await self.listen("haproxy:tcp:0:interface=127.0.0.1", self.make_factory())
        self.assertEqual(port.backlog, BACKLOG)
        path = short_folder(self) / "socket"
        port = await self.listen(f"haproxy:unix:{path}", self.make_factory())
        self.assertEqual(port.backlog, BACKLOG)
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o660)

    async def test_none(self) -> None:
        """Without a header nothing is answered."""
        for data in (b"GET / HTTP/1.1\r\n\r\n" * 10, b"PROXY" + b"x" * 200, b"PROXY HTTP\r\n\r\n"):
            self.assertEqual(await self.heard(data), b"")


class ServiceTests(TestCase):
    """The whole service on other endpoints than its port."""

    timeout = 120

    async def test_addresses(self) -> None:
        """It listens on each address that is given, over TLS."""
        hbtd = start_hbtd(self, tls=True, address="127.0.0.1,127.0.0.2", port=0)
        ports = hbtd.service._listening._ports
        self.assertEqual([p.getHost().host for p in ports], ["127.0.0.1", "127.0.0.2"])
        self.assertRegex(
            hbtd.service._listening.url, r"^https://127\.0\.0\.1:\d+, https://127\.0\.0\.2:\d+$"
        )

    async def test_tls(self) -> None:
        """With a certificate it serves TLS on TCP, Unix and systemd's sockets."""
        cert, key = write_identity(make_identity("localhost"), Path(self.mktemp()))
        inherited = socket.create_server(("127.0.0.1", 0))
        # hbtd's from now on, which closes it.
        self.patch(_SystemdParser, "_sddaemon", ListenFDs([inherited.detach()]))
        for listen in (
            "tcp:0:interface=127.0.0.1",
            f"unix:{short_folder(self)}/socket",
            "systemd:domain=INET:index=0",
        ):
            hbtd = start_hbtd(self, listen=listen, tls_cert=str(cert), tls_key=str(key))
            address = hbtd.service.port.getHost()
            endpoint: Any = (
                UNIXClientEndpoint(reactor, address.name)
                if listen.startswith("unix:")
                else TCP4ClientEndpoint(reactor, address.host, address.port)
            )
            creator = TrustAnybody().creatorForNetloc(b"localhost", 0)
            caller = Caller()
            await connectProtocol(wrapClientTLS(creator, endpoint), caller)
            await until(lambda: caller.received.endswith(b"\r\n\r\n"))  # noqa: B023
            (answer,) = parse_responses(caller.received)
            self.assertEqual(answer.status, 204, listen)
            assert caller.transport is not None
            caller.transport.loseConnection()
            await hbtd.service.stopService()

    async def test_proxied(self) -> None:
        """Behind a proxy requests of both lanes are answered."""
        hbtd = start_hbtd(
            self, tls=False, listen="haproxy:tcp:0:interface=127.0.0.1", operator_access="any"
        )
        port = hbtd.service.port.getHost().port
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.setblocking(False)
            client.sendall(b"PROXY UNKNOWN\r\n" + head("GET /v1/liveness") * 2)
            received = b""

            def receive() -> bool:
                nonlocal received
                try:
                    received += client.recv(65536)
                except BlockingIOError:
                    pass
                return received.count(b"\r\n\r\n") == 2

            await until(receive)
        self.assertEqual([each.status for each in parse_responses(received)], [204, 204])
