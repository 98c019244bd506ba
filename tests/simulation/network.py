"""The network of a world: connections with delays, that can be cut, reset, or left half open."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import pairwise
from random import Random
from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.address import IPv4Address
from twisted.internet.error import (
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
    TimeoutError,
    UserError,
)
from twisted.internet.interfaces import IConnector, IListeningPort, ITCPTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.simulation.clock import WorldClock
from tests.simulation.process import Process, ProcessState

_SENT_AGAIN = 0.2
"""Seconds after which TCP first sends again what was lost; then twice as many, and so on."""

_LONGEST = 30.0
"""The most seconds between two such attempts."""

_SYN_AGAIN = 1.0
"""Seconds after which the first attempt to connect is repeated; then twice as many, and so on."""

_BUFFER = 256 * 1024
"""Bytes on their way from which on a sender's producer is paused."""

_DIVIDED = 0.3
"""The share of messages that are divided, where any are."""

_MOST_PIECES = 4
"""The most pieces of a message."""


def divided(random: Random, data: bytes) -> Sequence[bytes]:
    """Return a message in pieces, divided at random places; most messages are left whole."""
    most = min(random.randint(2, _MOST_PIECES), len(data))
    if most < 2 or random.random() >= _DIVIDED:
        return (data,)
    places = sorted(random.sample(range(1, len(data)), most - 1))
    return [data[begin:end] for begin, end in pairwise((0, *places, len(data)))]


class Network:
    """All ports and connections of a world, and where messages get lost."""

    def __init__(
        self, clock: WorldClock, random: Random, delay: tuple[float, float] = (0.0001, 0.002)
    ) -> None:
        """Make a network in which a message takes a time between two bounds, in seconds."""
        self.clock = clock
        self._random = random
        self.delay = delay
        self.backlog = 128
        """The most connections that wait at a port until they are accepted."""
        self._ports: dict[tuple[str, int], Port] = {}
        self._cut: dict[tuple[str, str], int] = {}
        self._next_port = 32768
        self._ends: list[End] = []
        self._most_ends = 100
        self._down: set[str] = set()
        self._crashed: set[str] = set()
        self._torn: dict[tuple[str, str], float] = {}
        self.lag: Callable[[], float] = lambda: 0.0
        """Returns by how many seconds the next message is late, so that others overtake it."""
        self.pieces: Callable[[bytes], Iterable[bytes]] = lambda data: (data,)
        """Divides what is written at once into what is read at once."""
        self.on_listen: Callable[[], object] = lambda: None
        """Called when a process has begun to listen at a port."""
        self.on_write: Callable[[str, str, bytes], object] = lambda source, target, data: None
        """Called with what one host sends to another, when it is sent."""
        self.on_late: Callable[[str, str, float], object] = lambda source, target, sent: None
        """Called when something arrives that was lost before: from and to which host, sent when."""

    def listen(self, reactor: Any, port: int, factory: Any) -> "Port":
        """Listen at the address of a process."""
        made = Port(self, reactor, port or 28500, factory)
        made.startListening()
        reactor.process.at_death(made.vanish)
        self.on_listen()
        return made

    def connect(
        self, reactor: Any, host: str, port: int, factory: Any, timeout: float
    ) -> "Connector":
        """Connect a process to an address."""
        connector = Connector(self, reactor, host, port, factory, timeout)
        if reactor.process.state is not ProcessState.DEAD:
            connector.connect()
        return connector

    def cut(self, source: str, target: str) -> Callable[[], None]:
        """Lose all messages from one host to another; return a function that ends that."""
        pair = source, target
        self._cut[pair] = self._cut.get(pair, 0) + 1

        def mend() -> None:
            self._cut[pair] -= 1
            if not self._cut[pair]:
                del self._cut[pair]

        return mend

    def passes(self, source: str, target: str) -> bool:
        """Return whether messages from one host get to another."""
        if not self._cut and not self._down:
            return True
        return not (
            self._cut.get((source, target))
            or self._cut.get((source, "*"))
            or self._cut.get(("*", target))
            or source in self._down
            or target in self._down
        )

    def vanish(self, host: str) -> None:
        """Have a host lose its power: nobody is told, and what it has yet to send is gone.

        End its processes with `Process.lose_power`. Connections to it stay half open; when it is
        back, it answers what arrives over them with a reset.
        """
        self._down.add(host)
        self._crashed.add(host)
        for address in [each for each in self._ports if each[0] == host]:
            del self._ports[address]
        self.lose_sent(host)

    def lose_sent(self, host: str) -> None:
        """Lose what a host has sent, and what it would send again if it had not lost its power."""
        for end in self._ends:
            if end.source == host:
                end.forget_sent()

    def appear(self, host: str) -> None:
        """Have a host that has vanished be there again."""
        self._down.discard(host)

    def crashed(self, host: str) -> bool:
        """Return whether a host has lost its power at some time."""
        return host in self._crashed

    def reset(self, one: str, other: str) -> int:
        """Reset all connections between two hosts; return how many there were."""
        return sum(end.reset() for end in self._between(one, other) if end.source == one)

    def forget(self, one: str, other: str) -> int:
        """Lose what is sent over all connections between two hosts that there are, for ever.

        Return how many ends there were. So does a firewall that has forgotten them; new connections
        pass.
        """
        ends = self._between(one, other)
        for end in ends:
            end.forgotten = True
            end.forget_sent()
        return len(ends)

    def tear(self, source: str, target: str, share: float) -> None:
        """Have a connection be reset in the middle of the next message from one host to another.

        `share` says how much of the message arrives.
        """
        self._torn[source, target] = share

    def torn(self, source: str, target: str) -> float | None:
        """Return how much arrives of a message that is sent now, `None` if all of it does."""
        return self._torn.pop((source, target), None) if self._torn else None

    def add(self, *ends: "End") -> None:
        """Note the ends of a new connection."""
        if len(self._ends) > self._most_ends:
            self._ends = [end for end in self._ends if not end.lost]
            self._most_ends = 2 * len(self._ends) + 100
        self._ends += ends

    def _between(self, one: str, other: str) -> list["End"]:
        pairs = (one, other), (other, one)
        return [end for end in self._ends if not end.lost and (end.source, end.target) in pairs]

    def flight(self) -> float:
        """Return how long the next message takes, in seconds."""
        return self._random.uniform(*self.delay) + self.lag()

    def port_at(self, host: str, port: int) -> "Port | None":
        """Return who listens at an address."""
        return self._ports.get((host, port))

    def own_port(self) -> int:
        """Return a port for the client's end of a connection."""
        self._next_port += 1
        return self._next_port


@implementer(IListeningPort)
class Port(FileDescriptor):
    """A port that a process listens at, and accepts connections at unless it reads nothing."""

    reactor: Any

    def __init__(self, network: Network, reactor: Any, number: int, factory: Any) -> None:
        super().__init__(reactor)
        self.reading = True
        """Whether connections are accepted; otherwise they wait."""
        self._unaccepted: list[Callable[[], object]] = []
        self.network = network
        self.reactor = reactor
        self.number = number
        self.factory = factory
        self.waiting = 0
        """How many connections have yet to be accepted."""

    def startListening(self) -> None:
        """Accept connections."""
        self.network._ports[self.reactor.host, self.number] = self
        self.factory.doStart()

    def take(self, accept: Callable[[], object]) -> None:
        """Have the process accept a connection, once it accepts any."""
        if self.reading:
            self.reactor.process.input(accept)
        else:
            self._unaccepted.append(accept)

    def stopReading(self) -> None:
        """Let connections wait."""
        self.reading = False

    def startReading(self) -> None:
        """Accept connections, and those that wait."""
        self.reading = True
        waiting, self._unaccepted = self._unaccepted, []
        for accept in waiting:
            self.take(accept)
        self.network.on_listen()

    def stopListening(self) -> None:
        """Accept no more connections."""
        self.vanish()
        self.factory.doStop()

    def vanish(self) -> None:
        """Be gone, as after a kill."""
        self.network._ports.pop((self.reactor.host, self.number), None)

    def getHost(self) -> IPv4Address:
        """Return the address."""
        return IPv4Address("TCP", self.reactor.host, self.number)


@implementer(IConnector)
class Connector:
    """An attempt to connect, and the connection that it leads to."""

    def __init__(
        self, network: Network, reactor: Any, host: str, port: int, factory: Any, timeout: float
    ) -> None:
        self._network = network
        self._reactor = reactor
        self._host, self._port = host, port
        self._factory = factory
        self._timeout = timeout
        self._over = False
        self._end: End | None = None

    def connect(self) -> None:
        """Begin to connect."""
        network, process = self._network, self._reactor.process
        self._factory.doStart()
        self._factory.startedConnecting(self)
        self._timer = self._reactor.callLater(self._timeout, self._fail, TimeoutError())
        address = IPv4Address("TCP", self._reactor.host, network.own_port())
        process.at_death(lambda: self._give_up())

        pause = _SYN_AGAIN

        def arrive() -> None:
            nonlocal pause
            if self._over:
                return
            port = network.port_at(self._host, self._port)
            full = port is not None and port.waiting >= network.backlog
            if full or not network.passes(self._reactor.host, self._host):
                network.clock.after(pause, arrive)
                pause *= 2
                return
            if port is None:
                network.clock.after(
                    network.flight(),
                    lambda: process.input(lambda: self._fail(ConnectionRefusedError())),
                )
                return
            client = End(network, process, self._reactor.host, self._host)
            server = End(network, port.reactor.process, self._host, self._reactor.host)
            client.peer, server.peer = server, client
            network.add(client, server)
            client.here, client.there = address, port.getHost()
            server.here, server.there = port.getHost(), address
            server.open(port)
            network.clock.after(
                network.flight(), lambda: process.input(lambda: self._connected(client))
            )

        network.clock.after(network.flight(), arrive)

    def _connected(self, end: "End") -> None:
        if self._over:
            end.abortConnection()
            return
        self._over = True
        self._timer.cancel()
        self._end = end
        end.on_lost = lambda reason: self._factory.clientConnectionLost(self, reason)
        end.begin(self._factory.buildProtocol(end.there))

    def _fail(self, error: Exception) -> None:
        if self._over:
            return
        self._give_up()
        self._factory.clientConnectionFailed(self, Failure(error))
        self._factory.doStop()

    def _give_up(self) -> None:
        self._over = True
        if self._timer.active():
            self._timer.cancel()

    def stopConnecting(self) -> None:
        """Give up."""
        self._fail(UserError())

    def disconnect(self) -> None:
        """Give up, or close the connection."""
        if self._end is None:
            self.stopConnecting()
        else:
            self._end.loseConnection()

    def getDestination(self) -> IPv4Address:
        """Return the address."""
        return IPv4Address("TCP", self._host, self._port)


@implementer(ITCPTransport)
class End:
    """One end of a connection, the transport of a protocol in a process."""

    peer: "End"
    here: IPv4Address
    there: IPv4Address

    def __init__(self, network: Network, process: Process, source: str, target: str) -> None:
        self._network = network
        self._process = process
        self.source, self.target = source, target
        self.lost = False
        """Whether its process was told that it is over."""
        self.forgotten = False
        """Whether nothing that it sends arrives any more."""
        self._refused = False
        self.protocol: Any = None
        self.on_lost: Callable[[Failure], object] = lambda reason: None
        self.disconnecting = False
        self.connected = False
        self.producer: Any = None
        self._arrives = 0.0
        self._on_way: deque[tuple[float, float, Callable[[], object]]] = deque()
        self._flying = 0
        self._early: list[bytes] = []
        self._paused = False
        self._blocked = False
        self._pause = _SENT_AGAIN
        process.at_death(self._killed)

    def open(self, port: Port) -> None:
        """Have the server's process take up the connection."""
        port.waiting += 1

        def accept() -> None:
            port.waiting -= 1
            self.begin(port.factory.buildProtocol(self.there))

        port.take(accept)

    def begin(self, protocol: Any) -> None:
        """Give a protocol this end."""
        if protocol is None:
            self.abortConnection()
            return
        self.protocol = protocol
        self.connected = True
        protocol.makeConnection(self)
        self._deliver_early()

    # Sending

    def write(self, data: bytes) -> None:
        """Send bytes to the other end; they arrive in order, unless they are lost."""
        if not data or self.disconnecting or self.lost:
            return
        self._network.on_write(self.source, self.target, data)
        share = self._network.torn(self.source, self.target)
        if share is not None:
            part = bytes(data[: int(share * len(data))])
            self._send(lambda: self.peer.receive(part))
            self.reset()
            return
        for piece in self._network.pieces(bytes(data)):
            self._flying += len(piece)
            self._send(partial(self._arrived, piece))
        if self._flying > _BUFFER and self.producer is not None:
            self.producer.pauseProducing()

    def writeSequence(self, data: Any) -> None:
        """Send bytes to the other end."""
        self.write(b"".join(data))

    def _arrived(self, data: bytes) -> None:
        paused = self._flying > _BUFFER
        self._flying -= len(data)
        if paused and self._flying <= _BUFFER and self.producer is not None and not self.lost:
            producer = self.producer
            self._process.input(lambda: self.producer is producer and producer.resumeProducing())
        self.peer.receive(data)

    def _send(self, arrive: Callable[[], object]) -> None:
        """Have something arrive at the other end, after all that was sent before.

        TCP sends again what is lost, for as long as both ends are there.
        """
        if self.forgotten:
            return
        now = self._network.clock.now
        self._arrives = max(self._arrives, now + self._network.flight())
        self._on_way.append((self._arrives, now, arrive))
        if len(self._on_way) == 1:
            self._network.clock.at(self._arrives, self._land)

    def _land(self) -> None:
        clock = self._network.clock
        while self._on_way and self._on_way[0][0] <= clock.now:
            if not self._network.passes(self.source, self.target):
                self._blocked = True
                clock.after(self._pause, self._land)
                self._pause = min(2 * self._pause, _LONGEST)
                break
            _, sent, arrive = self._on_way.popleft()
            if self._blocked:
                self._network.on_late(self.source, self.target, sent)
            if not self._on_way or self._on_way[0][0] > clock.now:
                self._blocked, self._pause = False, _SENT_AGAIN
            arrive()
        else:
            if self._on_way:
                clock.at(self._on_way[0][0], self._land)
        self.peer.start()

    # Receiving

    def receive(self, data: bytes) -> None:
        """Take bytes that have come from the other end, once `Process.start` is called."""
        if self.lost or self._process.state is ProcessState.DEAD:
            if not (self.lost or self._refused) and self._network.crashed(self.source):
                # The host is back, and knows nothing of this connection.
                self._refused = True
                self._send(lambda: self.peer.closed_by_peer(ConnectionLost()))
            return
        self._process.queue_input(lambda: self._take(data))

    def start(self) -> None:
        """Have the process take what has come."""
        self._process.start()

    def _take(self, data: bytes) -> None:
        if self.lost:
            return
        if self.protocol is None or self._paused or self._early:
            self._early.append(data)
        else:
            self.protocol.dataReceived(data)

    def _deliver_early(self) -> None:
        while self._early and not self._paused and not self.lost and self.protocol is not None:
            self.protocol.dataReceived(self._early.pop(0))

    def hasInput(self) -> bool:
        """Return whether bytes wait to be read."""
        return bool(self._early)

    def pauseProducing(self) -> None:
        """Read no more."""
        self._paused = True

    def resumeProducing(self) -> None:
        """Read on."""
        if self._paused:
            self._paused = False
            if self._early:
                self._process.input(self._deliver_early)

    # The end

    def loseConnection(self, reason: Any = None) -> None:
        """Close the connection once all is sent."""
        if self.disconnecting or self.lost:
            return
        if self.producer is not None:
            self._close_later = True
            return
        self.disconnecting = True
        self._send(lambda: self.peer.closed_by_peer(ConnectionDone()))
        self._process.input(lambda: self.lose(ConnectionDone()))

    def abortConnection(self) -> None:
        """End the connection at once."""
        if self.lost:
            return
        self.disconnecting = True
        if self._blocked:
            # What was lost so far is not sent again; nor is the reset.
            self._on_way.clear()
        self._send(lambda: self.peer.closed_by_peer(ConnectionLost()))
        self._process.input(lambda: self.lose(ConnectionAborted()))

    def reset(self) -> bool:
        """Have both ends learn that the connection is over, after what was sent before."""
        self._send(lambda: self.peer.closed_by_peer(ConnectionLost()))
        self.closed_by_peer(ConnectionLost())
        return True

    def forget_sent(self) -> None:
        """Lose what is on its way."""
        self._on_way.clear()

    def closed_by_peer(self, error: Exception) -> None:
        """Learn that the other end has closed the connection."""
        if not self.lost and self._process.state is not ProcessState.DEAD:
            self._process.input(lambda: self.lose(error))

    def lose(self, error: Exception) -> None:
        """Tell the protocol, once, that the connection is over."""
        if self.lost:
            return
        self.lost = True
        self.connected = False
        self.disconnecting = True
        reason = Failure(error)
        if self.protocol is not None:
            self.protocol.connectionLost(reason)
        self.on_lost(reason)

    def _killed(self) -> None:
        """Close the connection, as the kernel does for a process that was killed."""
        if not self.lost:
            self.lost = True
            self._send(lambda: self.peer.closed_by_peer(ConnectionLost()))

    # Producers and addresses

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Have a producer write to this end."""
        self.producer = producer
        self._close_later = False
        if not streaming:
            self._process.input(lambda: self._pull(producer))

    def _pull(self, producer: Any) -> None:
        if self.producer is producer and not self.lost:
            producer.resumeProducing()
            self._process.input(lambda: self._pull(producer))

    def unregisterProducer(self) -> None:
        """Have the producer write no more."""
        self.producer = None
        if getattr(self, "_close_later", False):
            self.loseConnection()

    def getPeer(self) -> IPv4Address:
        """Return the other end's address."""
        return self.there

    def getHost(self) -> IPv4Address:
        """Return this end's address."""
        return self.here

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Do nothing."""

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Do nothing."""

    def getTcpNoDelay(self) -> bool:
        """Nothing is delayed here."""
        return True

    def getTcpKeepAlive(self) -> bool:
        """Nobody probes here."""
        return False

    def loseWriteConnection(self) -> None:
        """Close the connection."""
        self.loseConnection()
