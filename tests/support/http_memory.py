"""The whole service in memory, for tests of the REST API that send and receive bytes."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson
from prometheus_client import CollectorRegistry
from twisted.internet import reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IReactorTime
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from hbtd.access.service import Access
from hbtd.api.app import make_resource
from hbtd.api.authorization import Authorization
from hbtd.api.fastlane import FastLane
from hbtd.api.health import HealthSources
from hbtd.api.routes import Route
from hbtd.app.routes import make_routes
from hbtd.app.service import HbtdService
from hbtd.app.stores import StoreFactory, make_store
from hbtd.config.params import Params
from hbtd.config.value_types import TelemetryAddress
from hbtd.monitor import Monitor
from hbtd.runtime.host import Host
from hbtd.server.factory import ConnectionFactory
from hbtd.server.limits import limits_of
from hbtd.server.site import LimitedSite
from hbtd.tracker.components import Unheard
from hbtd.tracker.observed import ObservedClock
from hbtd.tracker.starting import Starting, StartRule
from hbtd.tracker.tracker import Tracker
from tests.support.journal_memory import make_journal

PREFIXES = ("/hmi/v1", "/v1")
JSON = "application/json"
PROBLEM = "application/problem+json"
XNAME = "x1000c0s0b0n0"

WALL = 1.8e9
"""The Unix time at second 0 of the reactor's clock, where tests have time in their hands."""

HEARTBEAT: dict[str, object] = {
    "Component": XNAME,
    "Hostname": "nid000083",
    "NID": "83",
    "Status": "Kernel Alive",
    "Timestamp": "2026-03-04T05:06:07.891Z",
}
"""A heartbeat as node agents send it."""

ROUTES: Mapping[str, Sequence[str]] = {
    "/heartbeat": ["POST"],
    f"/heartbeat/{XNAME}": ["DELETE", "POST"],
    f"/heartbeat/{XNAME}/away": ["POST"],
    "/hbstates": ["POST"],
    f"/hbstate/{XNAME}": ["GET", "HEAD"],
    "/events": ["GET", "HEAD"],
    "/history": ["GET", "HEAD"],
    "/whatif": ["GET", "HEAD"],
    "/components": ["GET", "HEAD"],
    f"/components/{XNAME}": ["GET", "HEAD"],
    "/summary": ["GET", "HEAD"],
    "/tree": ["GET", "HEAD"],
    "/picture": ["GET", "HEAD"],
    "/forget": ["POST"],
    "/maintenance": ["GET", "HEAD", "POST"],
    f"/maintenance/away-{XNAME}": ["DELETE", "GET", "HEAD", "PATCH"],
    "/guard": ["GET", "HEAD"],
    "/guard/release": ["POST"],
    "/reconcile": ["GET", "HEAD", "POST"],
    "/params": ["GET", "HEAD", "PATCH"],
    "/thresholds": ["GET", "HEAD", "PUT"],
    "/liveness": ["GET", "HEAD"],
    "/readiness": ["GET", "HEAD"],
    "/health": ["GET", "HEAD"],
    "/internals": ["GET", "HEAD"],
    "/openapi.json": ["GET", "HEAD"],
    "/metrics": ["GET", "HEAD"],
}
"""Paths that exist under both prefixes, each with its methods as `Allow` lists them."""

PATHS = tuple(prefix + path for prefix in PREFIXES for path in ROUTES if path != "/events")
"""These paths under both prefixes, except that of `/events`, whose answers do not end."""

_PEER = IPv4Address("TCP", "127.0.0.1", 40000)
_HEAD = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9]) [ -~]*\r\n((?:[!-9;-~]+: [ -~]*\r\n)*)\r\n")


def make_site(routes: Sequence[Route], clock: IReactorTime) -> LimitedSite:
    """Return a site that serves `routes`, with default parameters; refusals are not counted."""
    params = Params()
    access = Access(params, clock, None, (), lambda: 0.0)
    authorization = Authorization(access.gate, access.peers, access.refusals, frozenset())
    return LimitedSite(
        make_resource(authorization, routes),
        clock,
        limits_of(params),
        lambda address, reason, detail: None,
    )


class Response(NamedTuple):
    """An answer, parsed."""

    status: int
    headers: Mapping[str, str]
    """The fields, by their names in lower case."""
    body: bytes

    @property
    def content_type(self) -> str | None:
        """The `Content-Type`."""
        return self.headers.get("content-type")

    def json(self) -> Any:
        """Decode the body."""
        return orjson.loads(self.body)


def parse_responses(data: bytes, methods: Iterable[str] = ()) -> list[Response]:
    """Return all answers in `data`; raise `ValueError` if there is anything else.

    `methods` are those of the requests, in order: an answer to HEAD has no body.
    """
    asked = iter(methods)
    responses = []
    while data:
        head = _HEAD.match(data)
        if head is None:
            raise ValueError(f"no head of a response: {data[:500]!r}")
        data = data[head.end() :]
        status = int(head[1])
        lines = head[2].decode("ascii").splitlines()
        headers = {name.lower(): value for name, _, value in (x.partition(": ") for x in lines)}
        if len(headers) != len(lines):
            raise ValueError(f"a header came twice: {lines}")
        method = next(asked, "") if status >= 200 else ""
        if status < 200 or status == 204 or method == "HEAD":
            length = 0
        elif "content-length" in headers:
            length = int(headers["content-length"])
        elif "transfer-encoding" in headers:
            raise ValueError("an answer of hbtd has no reason to be chunked")
        else:
            length = len(data)  # until the connection ends
        if len(data) < length:
            raise ValueError("the body is cut off")
        responses.append(Response(status, headers, data[:length]))
        data = data[length:]
    return responses


def encode_request(
    method: str, path: str, body: object = b"", headers: Mapping[str, str] | None = None
) -> bytes:
    """Return a request as bytes; a body that is not bytes is encoded as JSON."""
    content = body if isinstance(body, bytes) else orjson.dumps(body)
    fields = {"Host": "localhost", **(headers or {})}
    if content or method in ("POST", "PATCH"):
        fields.setdefault("Content-Length", str(len(content)))
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + content


def head(first: str, *fields: str) -> bytes:
    """Return the head of a request; `first` is the method and the target."""
    return "\r\n".join((f"{first} HTTP/1.1", "Host: localhost", *fields, "", "")).encode()


def chunked(body: bytes, size: int = 1000) -> bytes:
    """Return a body in chunked coding."""
    pieces = [body[i : i + size] for i in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


BEAT = encode_request("POST", "/hmi/v1/heartbeat", HEARTBEAT)
"""A request with a heartbeat."""


class SlowReader(StringTransport):
    """A transport whose client reads nothing; like a socket, it pauses its producer when full."""

    def write(self, data: bytes) -> None:
        """Keep the data."""
        super().write(data)
        if len(self.value()) > 64 * 1024 and self.producer is not None:
            self.producer.pauseProducing()


class Connection:
    """A client's connection to a factory, in memory."""

    def __init__(self, factory: Any, transport: StringTransport | None = None) -> None:
        """Connect from this host, or as the transport says."""
        self.transport = transport or StringTransport(peerAddress=_PEER)
        self._protocol = factory.buildProtocol(self.transport.getPeer())
        self._protocol.makeConnection(self.transport)
        self._over = False
        # The site's own reactor, which has to go round for the site to go on.
        self._reactor = getattr(factory, "wrappedFactory", factory).reactor

    @property
    def closed(self) -> bool:
        """Whether the server has closed it."""
        return bool(self.transport.disconnecting or self.transport.disconnected)

    def send(self, *pieces: bytes) -> None:
        """Send bytes, each piece as one segment, until the server closes the connection."""
        for piece in pieces:
            if self.closed:
                break
            self._protocol.dataReceived(piece)
            self._go_round()

    def _go_round(self) -> None:
        """Run the calls of the reactor that are due."""
        while any(
            call.getTime() <= self._reactor.seconds() for call in self._reactor.getDelayedCalls()
        ):
            self._reactor.advance(0)

    def received(self) -> bytes:
        """Return the bytes received since the last call."""
        data: bytes = self.transport.value()
        self.transport.clear()
        return data

    def finish(self) -> bool:
        """Finish sending; return whether the server has yet to answer something."""
        unanswered: bool = self._protocol.inputEnded()
        self._go_round()
        return unanswered

    def hang_up(self) -> None:
        """Close the connection."""
        if not self._over:
            self._over = True
            self._protocol.connectionLost(Failure(ConnectionDone()))


def loopback_request(
    factory: Any,
    method: str,
    path: str,
    body: object = b"",
    headers: Mapping[str, str] | None = None,
    transport: StringTransport | None = None,
) -> Response:
    """Send a request on a new connection, which the server must not close."""
    connection = Connection(factory, transport)
    connection.send(encode_request(method, path, body, headers))
    (response,) = parse_responses(connection.received(), [method])
    if connection.closed:
        raise ValueError("the server has hung up")
    connection.hang_up()
    return response


class MemoryReactor(MemoryReactorClock):
    """A reactor in memory, with `callFromThread` of the real one, and ports with factories."""

    def listenTCP(self, *args: Any, **kw: Any) -> Any:
        """Listen on nothing."""
        port: Any = super().listenTCP(*args, **kw)
        _, port.factory, *_ = self.tcpServers[-1]
        return port

    callFromThread = staticmethod(reactor.callFromThread)  # type: ignore[attr-defined]  # it has it


def no_kafka(address: TelemetryAddress) -> Any:
    """Fail like an unreachable Kafka; called in a thread."""
    raise OSError("no Kafka here")


def start_in_memory(
    test: TestCase,
    connect_kafka: Any = no_kafka,
    make_store: StoreFactory = make_store,
    make_host: Callable[[Any], Host] = lambda reactor: Host(),
    **options: Any,
) -> tuple[HbtdService, Any]:
    """Start the service, until the test ends; return it and its reactor.

    `make_host` returns the host, given the reactor.
    """
    reactor = MemoryReactor()
    options.update(kv_url="mem:", nosm=True, use_telemetry=False, tls=False)
    params = Params(**options)
    service = HbtdService(
        params,
        reactor,
        connect_kafka=connect_kafka,
        make_store=make_store,
        host=make_host(reactor),
    )
    service.startService()

    def end() -> Deferred[None]:
        ended = service.stopService()
        reactor.pump([0.2] * 20)
        return ended

    test.addCleanup(end)
    return service, reactor


class APITestCase(TestCase):
    """A test of the REST API of the real service, in memory."""

    timeout = 240

    fast_lane = True
    """Whether the fast lane is tested, or the ordinary one."""

    connect_kafka: Any = staticmethod(no_kafka)

    def setUp(self):
        """Start the service."""
        self.begin()

    def begin(self, **options: Any) -> None:
        """Start a service with further options, instead of the present one."""
        options.setdefault("fast_lane", self.fast_lane)
        self.service, self.reactor = start_in_memory(self, self.connect_kafka, **options)
        self.factory: Any = self.reactor.tcpServers[0][1]

    def connect(self) -> Connection:
        """Open a connection, until the test ends."""
        connection = Connection(self.factory)
        self.addCleanup(connection.hang_up)
        return connection

    def request(
        self,
        method: str,
        path: str,
        body: object = b"",
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Send a request; a body that is not bytes is encoded as JSON."""
        return loopback_request(self.factory, method, path, body, headers)

    def state(self) -> tuple[object, ...]:
        """Return everything that requests may change."""
        tracker = self.service.tracker
        counts = (tracker.beats, tracker.healthy, tracker.warned, tracker.dead)
        return (*counts, self.service.params.current)

    def assert_problem(self, response: Response, status: int, detail: str, instance: str) -> None:
        """Check that an answer is exactly this problem document."""
        title = "Internal Server Error" if status >= 500 else "Invalid Request"
        expected = {
            "type": "about:blank",
            "title": title,
            "detail": detail,
            "instance": instance,
            "status": status,
        }
        self.assertEqual((response.status, response.body), (status, orjson.dumps(expected)))
        self.assertEqual(response.content_type, PROBLEM)


class TimedAPITestCase(APITestCase):
    """A test of the REST API with observed time in the test's hands.

    The service itself measures silence by the machine's clock. Here its parts serve with a monitor
    that takes the time from the reactor.
    """

    def setUp(self):
        """Start the parts."""
        super().setUp()
        service, clock = self.service, self.reactor.seconds
        self.tracker = Tracker(starting=Starting(self._start_rule))
        self.unheard = Unheard()
        observed = ObservedClock(
            clock, lambda: service.params.current.warntime, wall=lambda: WALL + clock()
        )
        self.observed = observed
        tellers = (service.notifier.tell, service.publisher.tell)
        journal, checkpointer = make_journal(
            self.reactor,
            observed,
            self.tracker,
            service.store,
            service.params,
            tellers,
        )
        self.monitor = Monitor(
            self.reactor,
            observed,
            self.tracker,
            service.store,
            journal,
            checkpointer,
            service.notifier,
            service.publisher,
            service.params,
            lambda: self.unheard,
        )
        started = Deferred.fromCoroutine(self.monitor.start())
        started.addCallback(lambda _: self.monitor.start_observing())
        self.addCleanup(self._stop_monitor)
        sources = HealthSources(bool, str, str, str)
        routes = make_routes(self.monitor, service.params, sources, CollectorRegistry()).api
        lane = FastLane(self.monitor, self.reactor.seconds) if self.fast_lane else None
        self.factory = ConnectionFactory(make_site(routes, self.reactor), lane, self.reactor)

    def _start_rule(self, xname: str) -> StartRule:
        params = self.service.params.current
        return StartRule(params.start_beats, params.warntime)

    def _stop_monitor(self) -> Deferred[None]:
        stopped = Deferred.fromCoroutine(self.monitor.stop())
        self.reactor.pump([0.25] * 8)
        return stopped

    def pass_time(self, seconds: float) -> None:
        """Let a multiple of 0.25 s pass, in small steps."""
        self.reactor.pump([0.25] * int(seconds * 4))
