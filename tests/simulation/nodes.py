"""Simulated nodes: each sends its heartbeats over a connection of its own."""

from collections.abc import Callable
from random import Random
from typing import Any

from twisted.internet.protocol import ClientFactory, Protocol
from twisted.python.failure import Failure

from tests.simulation.clock import Event, WorldClock
from tests.simulation.network import Network
from tests.simulation.process import Process, ProcessReactor
from tests.simulation.server import PORT

_PATIENCE = (1.0, 3.0)
"""The least and the most seconds after which a node gives up a connection without an answer."""


class Node:
    """A node that beats, crashes, hangs and boots."""

    def __init__(
        self,
        name: str,
        number: int,
        clock: WorldClock,
        network: Network,
        random: Random,
        period: float,
        choose: Callable[["Node"], str],
        answered: Callable[["Node", str], object],
        fail: Callable[[Failure], None],
    ) -> None:
        self.name = name
        self.number = number
        self.host = f"10.1.{number // 250}.{number % 250 + 1}"
        self.alive = False
        self.hanging = False
        self.last_answered = float("-inf")
        self.answered_sent = float("-inf")
        """When the heartbeat was sent that was answered last."""
        self.period = period
        """The seconds between two heartbeats, but for a twentieth."""
        self.timestamp: str | None = None
        """What it says that the time is, if its clock is wrong."""
        self.server = ""
        """The host that it is connected to, or was last."""
        self._clock = clock
        self._network = network
        self._random = random
        self._patience = random.uniform(*_PATIENCE)
        self._choose = choose
        self._answered = answered
        self._fail = fail
        self._process: Process | None = None
        self._next: Event | None = None
        self._protocol: _Client | None = None
        self._connecting = False
        self._waiting: list[bytes] = []
        self._beats = 0
        self._beats_since: float | None = None
        self._spans: list[tuple[float, float]] = []
        self.on_beat: Callable[[int], object] = lambda number: None
        """Called with the number of each heartbeat, which is in its timestamp."""
        self.may_fail: Callable[[str], bool] = lambda host: False
        """Says whether a host may answer a heartbeat with something else than 200."""

    def boot(self) -> None:
        """Begin to beat."""
        self.alive, self.hanging = True, False
        self._process = Process(self._clock, lambda: 0.0, self._fail)
        self._reactor = ProcessReactor(self._process, self._network, self.host)
        self._protocol = None
        self._connecting = False
        self._next = self._clock.after(self._random.uniform(0, self.period), self._beat)

    def crash(self, power: bool) -> None:
        """Die, with the host's power or by a signal."""
        if not self.alive or self._process is None:
            return
        self.alive = False
        self._falls_silent()
        if self._next is not None:
            self._next.cancel()
        if power:
            self._process.lose_power()
            self._network.lose_sent(self.host)
        else:
            self._process.kill()

    def hang(self) -> None:
        """Send nothing until `wake` is called."""
        self.hanging = True
        self._falls_silent()

    def beating(self, now: float) -> list[tuple[float, float]]:
        """Return between which times it has beaten, up to now."""
        since = self._beats_since
        return self._spans if since is None else [*self._spans, (since, now)]

    def _falls_silent(self) -> None:
        if self._beats_since is not None:
            self._spans.append((self._beats_since, self._clock.now))
            self._beats_since = None

    def wake(self) -> None:
        """Send again."""
        self.hanging = False

    def _beat(self) -> None:
        jitter = self._random.uniform(0.95, 1.05)
        self._next = self._clock.after(self.period * jitter, self._beat)
        if self.hanging:
            return
        if self._beats_since is None:
            self._beats_since = self._clock.now
        self._beats += 1
        self.on_beat(self._beats)
        timestamp = f"t{self._beats}" if self.timestamp is None else self.timestamp
        body = (
            b'{"Component":"%b","Hostname":"nid%06d","NID":"%d","Status":"OK","Timestamp":"%b"}'
            % (self.name.encode(), self.number, self.number, timestamp.encode())
        )
        request = (
            b"POST /hmi/v1/heartbeat HTTP/1.1\r\nHost: hbtd\r\nContent-Length: %d\r\n\r\n%b"
            % (len(body), body)
        )
        client = self._protocol
        if (
            client is not None
            and client.oldest is not None
            and self._clock.now - client.oldest > self._patience
        ):
            client.transport.abortConnection()
            self._protocol = client = None
        if client is not None:
            client.send(request)
        elif not self._connecting:
            self._connecting = True
            self._waiting = [request]
            self.server = self._choose(self)
            self._reactor.connectTCP(self.server, PORT, _Factory(self), timeout=self._patience)

    def connected(self, protocol: "_Client") -> None:
        """Send what has waited for the connection."""
        self._connecting = False
        self._protocol = protocol
        for request in self._waiting:
            protocol.send(request)
        self._waiting = []

    def disconnected(self, protocol: "_Client | None") -> None:
        """Connect again with the next heartbeat."""
        if protocol is None:
            self._connecting = False
        elif protocol is self._protocol:
            self._protocol = None

    def move(self) -> None:
        """Close the connection, and make another one with the next heartbeat."""
        if self._protocol is not None:
            self._protocol.transport.loseConnection()
            self._protocol = None

    def heard(self, host: str, sent: float) -> None:
        """Note that a host has answered a heartbeat that was sent at a time."""
        self.last_answered, self.answered_sent = self._clock.now, sent
        self._answered(self, host)

    def seconds(self) -> float:
        """Return the time."""
        return self._clock.now


class _Factory(ClientFactory):
    noisy = False

    def __init__(self, node: Node) -> None:
        self._node = node

    def buildProtocol(self, addr: Any) -> "_Client":
        return _Client(self._node)

    def clientConnectionFailed(self, connector: Any, reason: Failure) -> None:
        self._node.disconnected(None)


class _Client(Protocol):
    transport: Any

    def __init__(self, node: Node) -> None:
        self._node = node
        self._rest = b""
        self._sent: list[float] = []

    @property
    def oldest(self) -> float | None:
        """When the oldest request without an answer was sent."""
        return self._sent[0] if self._sent else None

    def connectionMade(self) -> None:
        self._node.connected(self)

    def send(self, request: bytes) -> None:
        """Send a request."""
        self._sent.append(self._node.seconds())
        self.transport.write(request)

    def dataReceived(self, data: bytes) -> None:
        self._rest += data
        while b"\r\n\r\n" in self._rest:
            head, _, self._rest = self._rest.partition(b"\r\n\r\n")
            host = self.transport.getPeer().host
            fine = b" 200 " in head.partition(b"\r\n")[0]
            if not fine and not self._node.may_fail(host):
                raise AssertionError(f"a heartbeat was answered with {head!r}")
            sent = self._sent.pop(0) if self._sent else self._node.seconds()
            if fine:
                self._node.heard(host, sent)

    def connectionLost(self, reason: Failure = None) -> None:  # type: ignore[assignment]
        self._node.disconnected(self)
