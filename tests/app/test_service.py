"""The composition root: hbtd is built from options, started, and stopped in order."""

import socket
from pathlib import Path
from typing import Any

from treq.client import HTTPClient
from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail
from twisted.internet.protocol import ClientFactory, Protocol, connectionDone
from twisted.logger import capturedLogs
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.client import Agent
from twisted.web.http_headers import Headers
from twisted.web.server import Site

from hbtd.app.errors import StartupError
from hbtd.app.service import HbtdService
from hbtd.config.command_line import HbtdOptions
from hbtd.net.tls import ServerOptions, client_policy
from hbtd.simulator.fake_hsm import FakeHSM
from hbtd.store.interface import StoreUnusable
from tests.support.certificates import make_identity, write_identity
from tests.support.hsm_memory import lines
from tests.support.http_memory import (
    HEARTBEAT,
    PATHS,
    ROUTES,
    XNAME,
    Connection,
    MemoryReactor,
    loopback_request,
)
from tests.support.running import NODE, WebClient, heartbeat, start_hsm, until
from tests.support.short_paths import short_folder

MEMORY = ("--kv_url=mem:", "--use_telemetry=no")


def build(on: Any, *arguments: str) -> HbtdService:
    """Build the service from a command line."""
    options = HbtdOptions({})
    options.parseOptions([*MEMORY, *arguments])
    return HbtdService(options.params, on)


class MemoryTests(SynchronousTestCase):
    """The service on a reactor in memory."""

    def start(self, *arguments: str) -> HbtdService:
        """Start the service."""
        self.reactor = MemoryReactor()
        service = build(self.reactor, *arguments)
        service.startService()
        return service

    def stop(self, service: HbtdService, within: float) -> Deferred[None]:
        """Stop the service, and let `within` seconds pass."""
        stopped = service.stopService()
        self.reactor.pump([0.1] * round(within * 10))
        return stopped

    def test_listens(self):
        """It listens on its port, with a backlog for a cabinet that boots."""
        service = self.start("--nosm", "--port=12345")
        ((port, _, backlog, interface),) = self.reactor.tcpServers
        self.assertEqual(port, 12345)
        self.assertGreaterEqual(backlog, 1024)
        self.assertIn(interface, ("::", "0.0.0.0"))
        self.assertTrue(service.running)
        self.successResultOf(self.stop(service, 1))

    def test_routes(self):
        """Every route of the API answers."""
        service = self.start("--nosm", "--tls=no")
        factory = self.reactor.tcpServers[0][1]
        for path in (*PATHS, "/metrics"):
            for method in ROUTES["/" + path.split("v1/")[-1].lstrip("/")]:
                body: object = {"Status": "OK", "Timestamp": "t"} if "heartbeat/" in path else {}
                if path.endswith("/heartbeat"):
                    body = HEARTBEAT
                if path.endswith("/forget"):
                    body = {"XNames": []}
                if path.endswith("/thresholds"):
                    body = []
                if path.endswith(("/away", "/maintenance")):
                    body = {"XNames": [XNAME], "For": 5}
                response = loopback_request(factory, method, path, body if method != "GET" else b"")
                # There is no such maintenance, which only its handler knows.
                known = "/maintenance/" in path and b"no maintenance" in response.body
                if not known and (response.status != 404 or method != "HEAD"):
                    good = 200, 201, 202, 204
                    self.assertIn(response.status, good, (method, path, response.body))
                if method == "DELETE":
                    self.reactor.advance(service.params.current.errtime)
        self.successResultOf(self.stop(service, 1))

    def test_parts(self):
        """The parts are connected: a heartbeat is counted, tracked, committed, and waiting."""
        service = self.start("--tls=no")
        factory = self.reactor.tcpServers[0][1]
        loopback_request(factory, "POST", "/v1/heartbeat", HEARTBEAT)
        self.assertEqual((service.tracker.beats, service.tracker.healthy), (1, 1))
        self.reactor.pump([0.1] * 3)
        self.assertEqual(service.notifier.pending_count, 1)
        metrics = loopback_request(factory, "GET", "/metrics").body.decode()
        self.assertIn("\nhbtd_heartbeats_total 1.0\n", metrics)
        self.assertIn("\nhbtd_hsm_pending 1.0\n", metrics)
        self.assertIn('\nhbtd_transitions_total{transition="started"} 1.0\n', metrics)
        self.successResultOf(self.stop(service, 15))

    def test_stops(self):
        """When it has stopped, nothing is left on the reactor, and the port is closed."""
        service = self.start("--nosm")
        self.reactor.pump([0.1] * 100)
        self.successResultOf(self.stop(service, 1))
        self.assertEqual(self.reactor.getDelayedCalls(), [])
        self.assertFalse(service.running)
        self.assertIsNone(service.port)
        self.assertFalse(service.store.usable())

    def test_stop_order(self):
        """The port closes first, then judgements are passed on, and the store closes at the end."""
        self.reactor = MemoryReactor()
        service = build(self.reactor, "--nosm")
        order: list[str] = []

        def note(part: Any, name: str, method: str) -> None:
            stop = getattr(part, method)

            def noting() -> Any:
                order.append(name)
                self.assertIsNone(service.port)
                return stop()

            self.patch(part, method, noting)

        note(service.store, "store", "close")
        note(service.replica, "replica", "stopService")
        note(service.publisher, "publisher", "stopService")
        note(service.notifier, "notifier", "stopService")
        note(service.access, "access", "stopService")
        note(service.monitor, "monitor", "stop")
        service.startService()
        self.successResultOf(self.stop(service, 1))
        self.assertEqual(order, ["monitor", "access", "notifier", "publisher", "replica", "store"])

    def test_stopped_while_it_starts(self):
        """Stopped while the start waits for etcd, it stops what has started, and leaves nothing."""
        service = self.start("--nosm", "--tls=no", "--kv_url=http://192.0.2.1:2379")
        self.reactor.pump([0.1] * 10)
        self.assertFalse(service.monitor.running)
        self.successResultOf(self.stop(service, 10))
        self.assertFalse(service.monitor.running)
        self.assertFalse(service.access.running)
        self.assertIsNone(service.port)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_start_fails(self):
        """When a part can't be started the reactor is stopped, and then what has started stops."""
        self.reactor = MemoryReactor()
        service = build(self.reactor, "--nosm")
        self.patch(service.store, "open", lambda: fail(StoreUnusable("disk full")))
        with capturedLogs() as events:
            service.startService()
        self.assertIn("disk full", lines(events, "critical")[0])
        self.assertTrue(self.reactor.hasStopped)
        self.assertFalse(service.notifier.running)
        self.successResultOf(self.stop(service, 1))
        self.assertIsNone(service.port)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_stop_is_bounded(self):
        """With an unreachable HSM it stops a few seconds after `sm_timeout`."""
        service = self.start("--sm_timeout=4", "--tls=no")
        factory = self.reactor.tcpServers[0][1]
        loopback_request(factory, "POST", "/v1/heartbeat", HEARTBEAT)
        self.reactor.pump([0.1] * 3)
        stopped = service.stopService()
        self.reactor.pump([0.1] * 38)
        self.assertNoResult(stopped)
        self.reactor.pump([0.1] * 30)
        self.successResultOf(stopped)

    def test_half_a_request(self):
        """Requests that are never completed delay the stop for two seconds, not longer."""
        service = self.start("--nosm", "--tls=no")
        connection = Connection(self.reactor.tcpServers[0][1])
        connection.send(b"POST /v1/heartbeat HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
        stopped = service.stopService()
        self.reactor.pump([0.1] * 15)
        self.assertNoResult(stopped)
        self.reactor.pump([0.1] * 10)
        self.successResultOf(stopped)
        self.assertTrue(connection.closed)
        connection.hang_up()

    def test_fingerprint(self):
        """Without a certificate one is made, and its fingerprint is logged."""
        with capturedLogs() as events:
            service = self.start("--nosm")
            self.successResultOf(self.stop(service, 1))
        (said,) = [line for line in lines(events, "info") if "SHA-256" in line]
        self.assertRegex(said, r"\b([0-9A-F]{2}:){31}[0-9A-F]{2}\b")


class StartupTests(SynchronousTestCase):
    """The reason why hbtd can't start is one line."""

    def refused(self, *arguments: str) -> str:
        """Fail to build and bind, and return the message."""
        with self.assertRaises(StartupError) as raised:
            service = build(reactor, "--nosm", *arguments)
            service.privilegedStartService()
            self.addCleanup(service.port.stopListening)
        said = str(raised.exception)
        self.assertEqual(len(said.splitlines()), 1, said)
        return said

    def test_files(self):
        """A file that can't be used is named, whatever its purpose."""
        cert, key = write_identity(make_identity("localhost"), Path(self.mktemp()).resolve())
        own = (f"--tls_cert={cert}", f"--tls_key={key}")
        missing = str(cert.with_name("missing.pem"))
        for arguments in (
            (f"--tls_cert={missing}", f"--tls_key={key}"),
            (f"--tls_cert={cert}", f"--tls_key={missing}"),
            (*own, f"--tls_client_ca={missing}"),
            (*own, f"--sm_ca={missing}"),
        ):
            self.assertIn(missing, self.refused(*arguments))

    def test_port_taken(self):
        """A port that is in use is named."""
        with socket.socket(socket.AF_INET6) as other:
            other.bind(("::", 0))
            other.listen()
            port = other.getsockname()[1]
            said = self.refused(f"--port={port}")
        self.assertIn(str(port), said)
        self.assertIn("in use", said)

    def test_endpoint(self):
        """An endpoint that can't be used is named, with its option."""
        said = self.refused("--listen=carrier-pigeon:7")
        self.assertIn("--listen", said)
        self.assertIn("carrier-pigeon:7", said)

    def test_endpoints(self):
        """Any unusable endpoint raises `StartupError`."""
        missing = str(Path(self.mktemp()).resolve())
        raised: dict[str, type[Exception] | None] = {}
        for endpoint in (
            "carrier-pigeon:7",
            "tcp",
            "tcp:",
            "tcp:http-or-so",
            "tcp:0:color=red",
            f"unix:{missing}/socket",
            "systemd:domain=INET:index=0",
        ):
            try:
                build(reactor, "--nosm", f"--listen={endpoint}").privilegedStartService()
            except Exception as error:  # noqa: BLE001  # which one it is, is the question
                raised[endpoint] = type(error)
        self.assertEqual(raised, dict.fromkeys(raised, StartupError))


class Visitor(Protocol):
    """A connection that sends bytes, and notes the answer and its end."""

    def __init__(self, says: bytes) -> None:
        self.says = says
        self.heard = b""
        self.ended = False

    def connectionMade(self) -> None:
        """Send the bytes."""
        assert self.transport is not None
        self.transport.write(self.says)

    def dataReceived(self, data: bytes) -> None:
        """Note it."""
        self.heard += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Note it."""
        self.ended = True


class SocketTests(TestCase):
    """The service on real sockets."""

    timeout = 120

    def start(self, *arguments: str) -> HbtdService:
        """Start the service, until the test ends."""
        service = build(reactor, "--port=0", *arguments)
        service.startService()
        self.addCleanup(lambda: service.stopService() if service.running else None)
        return service

    def visit(self, service: HbtdService, says: bytes = b"") -> Visitor:
        """Connect, over TCP alone."""
        visitor = Visitor(says)
        factory = ClientFactory()
        factory.noisy = False
        factory.buildProtocol = lambda address: visitor  # type: ignore[assignment,method-assign]  # for this one
        reactor.connectTCP("localhost", service.port.getHost().port, factory)
        return visitor

    async def test_connections(self) -> None:
        """When it stops, idle connections are closed, and new ones are refused."""
        service = self.start("--nosm", "--tls=no")
        where = service.port.getHost().port
        idle = self.visit(service)
        used = self.visit(service, b"GET /v1/liveness HTTP/1.1\r\nHost: x\r\n\r\n")
        await until(lambda: used.heard)
        began = reactor.seconds()
        await service.stopService()
        await until(lambda: idle.ended and used.ended)
        self.assertLess(reactor.seconds() - began, 15)
        for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            with socket.socket(family) as client:
                self.assertNotEqual(client.connect_ex((address, where)), 0)

    async def test_tls_connections(self) -> None:
        """When it stops, TLS connections are closed, also without a handshake."""
        service = self.start("--nosm")
        client = WebClient(self)
        url = f"https://localhost:{service.port.getHost().port}"
        status, _ = await client.request("POST", f"{url}/v1/heartbeat", heartbeat())
        self.assertEqual(status, 200)
        silent = self.visit(service)
        await until(lambda: silent.connected)
        began = reactor.seconds()
        await service.stopService()
        await until(lambda: silent.ended)
        self.assertLess(reactor.seconds() - began, 15)

    async def test_trust(self) -> None:
        """`--sm_ca` says which HSM is trusted."""
        identity = make_identity("localhost")
        bundle, _ = write_identity(identity, Path(self.mktemp()).resolve())
        hsm = FakeHSM(reactor)
        served: Any = TLSMemoryBIOFactory(ServerOptions(identity), False, Site(hsm.resource()))
        port: Any = reactor.listenTCP(0, served, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        url = f"--sm_url=https://localhost:{port.getHost().port}/hsm/v2"
        for trust in (str(bundle), "insecure"):
            service = self.start(url, f"--sm_ca={trust}")
            await until(lambda: service.notifier.hsm_ready)  # noqa: B023  # waited for here
            await service.stopService()
        with capturedLogs() as events:
            service = self.start(url)
            await until(lambda: lines(events, "warn"))
        self.assertIn("certificate verify failed", lines(events, "warn")[0])
        await service.stopService()

    async def test_certificate(self) -> None:
        """The certificate of `--tls_cert` and `--tls_key` is served."""
        cert, key = write_identity(make_identity("localhost"), Path(self.mktemp()).resolve())
        service = self.start("--nosm", f"--tls_cert={cert}", f"--tls_key={key}")
        url = f"https://localhost:{service.port.getHost().port}/v1/liveness"
        client = HTTPClient(Agent(reactor, client_policy(str(cert))))
        response = await client.get(url, headers=Headers({"Connection": ["close"]}))
        self.assertEqual(response.code, 204)

    async def test_flush(self) -> None:
        """Waiting judgements are sent to HSM before it stops, which then happens at once."""
        running = start_hsm(self)
        service = self.start(f"--sm_url={running.url}")
        await until(lambda: service.notifier.hsm_ready)
        service.monitor.beat(NODE, "t", "OK")
        began = reactor.seconds()
        await service.stopService()
        self.assertLess(reactor.seconds() - began, 8)
        self.assertEqual(running.hsm.components[NODE].state, "Ready")

    async def test_unix_socket(self) -> None:
        """An endpoint given with `--listen` replaces port and TLS."""
        path = str(short_folder(self) / "socket")
        service = self.start("--nosm", f"--listen=unix:{path}")
        visitor = Visitor(b"GET /v1/liveness HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        factory = ClientFactory()
        factory.noisy = False
        factory.buildProtocol = lambda address: visitor  # type: ignore[assignment,method-assign]  # for this one
        unix: Any = reactor
        unix.connectUNIX(path, factory)
        await until(lambda: visitor.ended)
        self.assertTrue(visitor.heard.startswith(b"HTTP/1.1 204 "), visitor.heard)
        await service.stopService()
        self.assertFalse(Path(path).exists())
