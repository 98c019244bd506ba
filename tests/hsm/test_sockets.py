"""The client of HSM's REST API on real sockets: lost connections, endless responses, and TLS."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from treq.client import HTTPClient
from twisted.internet import reactor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock, deferLater
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent

from hbtd.config.live_params import LiveParams
from hbtd.config.params import Params
from hbtd.hsm.client import HSMClient, HSMUnavailable
from hbtd.net.http_client import BoundedPool
from hbtd.net.tls import ServerOptions, client_policy
from tests.support.certificates import make_identity, write_identity
from tests.support.hsm_memory import DIED, STARTED, USER_AGENT
from tests.support.running import until

NAMES = ("x0c0s0b0n0", "x0c0s1b0n0")


class RawServer(Protocol):
    """A server that sends fixed bytes to any client, possibly without end."""

    answer = b""
    endless = b""
    hang_up = False
    reset = False
    hang = False

    transport: Any

    def __init__(self) -> None:
        self.received = b""
        self.gone = False

    def dataReceived(self, data: bytes) -> None:
        """Respond at once."""
        self.received += data
        if self.reset:
            self.transport.abortConnection()
            return
        self.transport.write(self.answer)
        if self.hang:
            # Over TLS: the end of the connection is noticed, but not what announces it.
            self.transport.dataReceived = lambda data: None
        if self.endless:
            self._go_on()
        if self.hang_up:
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Record it."""
        self.gone = True

    def _go_on(self) -> None:
        if not self.gone:
            self.transport.write(self.endless)
            reactor.callLater(0, self._go_on)


class SocketTestCase(TestCase):
    """Holds a client on real sockets, with a clock of its own, and a raw server."""

    timeout = 120

    def setUp(self):
        self.connections: list[RawServer] = []
        self.ports: list[IListeningPort] = []
        self.addCleanup(self._stop)

    async def _stop(self) -> None:
        for port in self.ports:
            await maybeDeferred(port.stopListening)
        for connection in self.connections:
            if not connection.gone:
                connection.transport.abortConnection()
        await until(lambda: all(connection.gone for connection in self.connections))

    def serve(self, tls: ServerOptions | None = None, **how: object) -> None:
        """Start the server, and make a client for it."""

        def build() -> RawServer:
            server = RawServer()
            vars(server).update(how)
            self.connections.append(server)
            return server

        # The types take factories for their protocols' classes.
        served: Any = Factory.forProtocol(cast("Any", build))
        if tls:
            served = TLSMemoryBIOFactory(tls, False, served)
        served.noisy = False
        port: Any = reactor.listenTCP(0, served, interface="127.0.0.1")
        self.ports.append(port)
        self.scheme = "https" if tls else "http"
        self.port = port.getHost().port
        self.trust()

    def trust(self, trust: str = "system") -> None:
        """Make the client, on a clock that stands still."""
        self.clock = Clock()
        pool = BoundedPool(reactor)
        pool.retryAutomatically = False
        self.addCleanup(pool.closeCachedConnections)
        http = HTTPClient(Agent(reactor, client_policy(trust), pool=pool))
        url = f"{self.scheme}://localhost:{self.port}/hsm/v1"
        self.client = HSMClient(http, self.clock, LiveParams(Params(sm_url=url)), USER_AGENT)

    async def unavailable(self, call: Deferred[None]) -> HSMUnavailable:
        """Return the error of a call that fails with `HSMUnavailable`."""
        with self.assertRaises(HSMUnavailable) as raised:
            await call
        error: HSMUnavailable = raised.exception
        return error


class TroubleTests(SocketTestCase):
    """Any failure of a connection becomes `HSMUnavailable`."""

    async def test_nobody_listens(self) -> None:
        """A refused connection is described as such."""
        self.serve()
        await maybeDeferred(self.ports[0].stopListening)
        error = await self.unavailable(self.client.update(STARTED, NAMES))
        self.assertIn("refused", str(error))
        self.assertEqual((error.timed_out, error.in_doubt, error.unsent), (False, False, True))

    async def test_reset_garbage_and_silence(self) -> None:
        """Connections that are reset, send garbage or end early are described in one line."""
        for how in (
            {"reset": True},
            {"answer": b"\x00\x07this is no HTTP response\r\n\r\n", "hang_up": True},
            {"answer": b"HTTP/1.1 204", "hang_up": True},
            {"hang_up": True},
            {"answer": b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", "hang_up": True},
            {"answer": b"HTTP/1.1 2x4 OK\r\n\r\n", "hang_up": True},
        ):
            self.serve(**how)
            for call in (self.client.update(DIED, NAMES), self.client.ready()):
                error = await self.unavailable(call)
                self.assertEqual((error.timed_out, error.unsent), (False, False), how)
                self.assertNotIn("0x", str(error))
                self.assertEqual(len(str(error).splitlines()), 1)

    async def test_endless_answer(self) -> None:
        """The connection of an endless response body is closed."""
        self.serve(answer=b"HTTP/1.1 200 OK\r\n\r\n", endless=b"x" * 4096)
        for call in (self.client.update(DIED, NAMES), self.client.ready()):
            self.assertIn("more than", str(await self.unavailable(call)))
        await until(lambda: all(connection.gone for connection in self.connections))

    async def test_endless_head(self) -> None:
        """The connection of an endless response head is closed."""
        for head in (b"HTTP/1.1 200 OK\r\n", b""):
            self.serve(answer=head, endless=b"X: %b\r\n" % (b"x" * 4096))
            for call in (self.client.update(DIED, NAMES), self.client.ready()):
                error = await self.unavailable(call)
                self.assertIn("a head of more than 65536 bytes" if head else "", str(error))
            await until(lambda: all(connection.gone for connection in self.connections))

    async def _times_out(self, answer: bytes) -> None:
        self.serve(answer=answer)
        call = self.client.update(STARTED, NAMES)
        await until(lambda: self.connections and self.connections[0].received.endswith(b"}}"))
        for _ in range(10):  # turns of the reactor, in which the answer arrives
            await deferLater(reactor, 0)
        self.clock.advance(9.99)
        self.assertNoResult(call)
        self.clock.advance(0.02)
        error = await self.unavailable(call)
        self.assertTrue(error.timed_out, error)
        await until(lambda: self.connections[0].gone, within=3)

    async def test_no_answer(self) -> None:
        """A call without a response times out, and its connection is closed."""
        await self._times_out(b"")

    async def test_silent_handshake(self) -> None:
        """A server that says nothing to a TLS handshake was not sent the update; that is said."""
        self.serve()
        self.scheme = "https"
        self.trust("insecure")
        for ask in (lambda: self.client.update(STARTED, NAMES), self.client.ready):
            call = ask()
            await until(lambda: any(each.received and not each.gone for each in self.connections))
            self.clock.advance(10)
            error = await self.unavailable(call)
            self.assertIn("has not finished the TLS handshake within 10 s", str(error))
            self.assertIn("is http:// meant, not https://?", str(error))
            self.assertEqual((error.timed_out, error.in_doubt, error.unsent), (False, False, True))
            await until(lambda: all(each.gone for each in self.connections))
            self.assertFalse([each for each in self.connections if b"PATCH" in each.received])

    async def test_silent_after_the_handshake(self) -> None:
        """Once the handshake is done, the update may have arrived."""
        self.serve(ServerOptions(make_identity("localhost")))
        self.trust("insecure")
        call = self.client.update(STARTED, NAMES)
        await until(lambda: self.connections and self.connections[0].received.endswith(b"}}"))
        self.clock.advance(10)
        error = await self.unavailable(call)
        self.assertEqual(str(error), "HSM did not answer within 10 s")
        self.assertEqual((error.timed_out, error.in_doubt, error.unsent), (True, True, False))
        await until(lambda: self.connections[0].gone)

    async def test_hanging_headers(self) -> None:
        """A call whose response head does not end times out."""
        await self._times_out(b"HTTP/1.1 200 OK\r\nServer: x\r\n")

    async def test_hanging_body(self) -> None:
        """A call whose response body does not end times out."""
        await self._times_out(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")

    async def test_hanging_server(self) -> None:
        """A connection is closed even if the server hangs in the middle of a body, over TLS."""
        self.serve(
            ServerOptions(make_identity("localhost")),
            answer=b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"Components":[',
            hang=True,
        )
        self.trust("insecure")
        asks: Sequence[Callable[[], Deferred[None]]] = (
            lambda: self.client.update(STARTED, NAMES),
            self.client.ready,
            lambda: self.client.read_table(["Node"], lambda *row: None),
        )
        for count, ask in enumerate(asks, 1):
            call = ask()
            await until(lambda n=count: len(self.connections) == n)  # type: ignore[misc]  # not inferred
            server = self.connections[-1]
            await until(lambda s=server: s.received)  # type: ignore[misc]  # not inferred
            for _ in range(10):  # turns of the reactor, in which the answer arrives
                await deferLater(reactor, 0)
            self.clock.advance(60)
            self.assertTrue((await self.unavailable(call)).timed_out)
            await until(lambda s=server: s.gone)  # type: ignore[misc]  # not inferred


class TrustTests(SocketTestCase):
    """Which servers the client trusts when `sm_url` is https."""

    OK = b"HTTP/1.1 204 No Content\r\n\r\n"

    async def test_trust(self) -> None:
        """Certificates are verified as `sm_ca` says: by the system, by a bundle or not at all."""
        identity = make_identity("localhost")
        bundle, _ = write_identity(identity, Path(self.mktemp()).resolve())
        self.serve(ServerOptions(identity), answer=self.OK)
        for trust in ("insecure", str(bundle)):
            self.trust(trust)
            await self.client.update(STARTED, NAMES)
        stranger, _ = write_identity(make_identity("localhost"), Path(self.mktemp()).resolve())
        for trust in ("system", str(stranger)):
            self.trust(trust)
            error = await self.unavailable(self.client.update(STARTED, NAMES))
            self.assertRegex(
                str(error), "TLS fails, see --sm_ca and --sm_cert: .*certificate verify failed"
            )

    async def test_another_host(self) -> None:
        """A certificate of another host is trusted only with `insecure`."""
        identity = make_identity("other.example")
        bundle, _ = write_identity(identity, Path(self.mktemp()).resolve())
        self.serve(ServerOptions(identity), answer=self.OK)
        self.trust(str(bundle))
        await self.unavailable(self.client.update(STARTED, NAMES))
        self.trust("insecure")
        await self.client.update(STARTED, NAMES)
