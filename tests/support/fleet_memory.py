"""A fleet joined in memory to a server that records heartbeats."""

from random import Random
from typing import Any

import orjson
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.test import iosim
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site
from zope.interface import implementer

from hbtd.simulator.fleet import Fleet, node_names

URL = "http://hbtd.example:28500"
ADDRESS = IPv4Address("TCP", "127.0.0.1", 28500)


class Recorder(Resource):
    """Takes heartbeats as hbtd does, and records them."""

    isLeaf = True

    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds
        self.beats: list[tuple[float, dict[str, str]]] = []
        """When each heartbeat came, and its fields."""
        self.requests: list[Any] = []
        self.status = 200
        """The status of the answers."""
        self.hang = False
        """Whether there are no answers."""
        self.close = False
        """Whether connections are closed after an answer."""
        self._enough: tuple[int, Deferred[None]] | None = None

    def names(self) -> list[str]:
        """Return the components of the heartbeats, in order."""
        return [beat["Component"] for _, beat in self.beats]

    def times(self, name: str) -> list[float]:
        """Return the times of a node's heartbeats."""
        return [when for when, beat in self.beats if beat["Component"] == name]

    def when(self, count: int) -> Deferred[None]:
        """Return a Deferred that fires once `count` heartbeats have come."""
        enough: Deferred[None] = Deferred()
        self._enough = (count, enough)
        return enough

    def render(self, request):
        """Record a heartbeat and answer it."""
        self.requests.append(request)
        self.beats.append((self.seconds(), orjson.loads(request.content.read())))
        if self._enough and len(self.beats) >= self._enough[0]:
            (_, enough), self._enough = self._enough, None
            enough.callback(None)
        if self.hang:
            return NOT_DONE_YET
        if self.close:
            request.setHeader("connection", "close")
        request.setResponseCode(self.status)
        return b""


@implementer(IStreamClientEndpoint)
class MemoryEndpoint:
    """Connects clients to a server in memory, or refuses to."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self.pumps: list[Any] = []
        self.attempts = 0
        self.refusing = False

    def connect(self, protocolFactory):
        """Connect at once, or fail at once while `refusing`."""
        self.attempts += 1
        if self.refusing:
            return fail(ConnectionRefusedError())
        client, server = protocolFactory.buildProtocol(ADDRESS), self.server.buildProtocol(ADDRESS)
        self.pumps.append(
            iosim.connect(
                server,
                iosim.FakeTransport(server, isServer=True, peerAddress=ADDRESS),
                client,
                iosim.FakeTransport(client, isServer=False, peerAddress=ADDRESS),
            )
        )
        return succeed(client)

    def flush(self):
        """Deliver the bytes that both sides have written."""
        for pump in list(self.pumps):
            pump.flush()

    def open(self) -> int:
        """Return the number of open connections."""
        return sum(not pump.clientIO.disconnected for pump in self.pumps)


class FleetTestCase(SynchronousTestCase):
    """Provides a clock, a recording server, and fleets that are connected to it in memory."""

    def setUp(self):
        self.clock = Clock()
        self.clock.advance(1_700_000_000)
        self.recorder = Recorder(self.clock.seconds)
        self.endpoint = MemoryEndpoint(Site(self.recorder, reactor=self.clock))

    def fleet(self, count: int = 10, **options: Any) -> Fleet:
        """Make a fleet with a period of one second and no jitter, unless the options differ."""
        options = {"period": 1.0, "jitter": 0.0, "random": Random(1), **options}
        return Fleet(self.clock, self.endpoint, URL, node_names(count), **options)

    def advance(self, seconds: float) -> None:
        """Advance the clock in small steps, delivering bytes after each."""
        for _ in range(round(seconds * 100)):
            self.clock.advance(0.01)
            self.endpoint.flush()
