"""Connections: each is in one of two lanes, for as long as its limits and hbtd itself allow.

A connection begins in the fast lane (`hbtd.api.fastlane`). What is not for that one is handed on,
unread, to an ordinary HTTP channel of twisted.web with Klein behind it; when that has answered one
request it gives back the bytes that it has not read, and the connection is in the fast lane again.
So gateways, which pool connections and mix requests on them, get the best of both.

What holds for all connections is here, once: how long they may be silent, how long a request may
take to arrive, how much a client may ask for before others get their turn, and an orderly end.
"""

from collections import Counter, deque
from math import inf
from typing import Any

from twisted.internet.interfaces import IAddress, IPushProducer, IReactorTime, ITCPTransport
from twisted.internet.protocol import Protocol, ServerFactory, connectionDone
from twisted.python.failure import Failure
from twisted.web.server import Request
from zope.interface import implementer

from hbtd.api.app import APISite, StrictChannel
from hbtd.api.eager import EagerWriter
from hbtd.api.fastlane import FastLane, Sender, Verdict
from hbtd.api.limits import CONNECTIONS, PEER_CONNECTIONS, SLOW, UNREAD
from hbtd.periodic import periodic

_FAREWELL = 15.0
"""Seconds that a client gets to read what is left and to hang up, when we are done with it."""

_TICK = 1.0
"""Seconds between two looks at who has been silent for too long."""

_TURNS = 32
"""Connections that have more to say than fits a turn and get one in a round of the reactor."""


class Connections(ServerFactory):
    """Makes connections and looks after them: the factory to listen with."""

    noisy = False

    def __init__(self, site: APISite, lane: FastLane | None, clock: IReactorTime) -> None:
        """Without a `lane`, every request goes to the site, whose limits are those for all."""
        self.site = site
        self.lane = lane
        self.reactor = clock
        self.limits = site.limits
        self.idle_closed = 0
        """How many connections were closed because nothing happened on them."""
        self._connections: set[Connection] = set()
        # How many of them are of one address, those without one left out.
        self._of_host: Counter[str] = Counter()
        self._turns: deque[Connection] = deque()
        self._giving_turns = False
        # Time is counted in ticks: when hbtd was stopped for a while nobody has been silent.
        self._now = 0.0
        self._ticking = periodic(clock, self._tick)
        self._set_deadlines()

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """Make a connection, or one that is closed at once where there are enough."""
        limits = self.limits
        host: str | None = getattr(addr, "host", None)
        if len(self._connections) >= limits.connections:
            detail = f"There are {limits.connections} connections already"
            self.site.note(addr, CONNECTIONS, detail)
            return _OneTooMany()
        # Those on a Unix socket have no address: the file says who may use it.
        if host is not None and 0 < limits.connections_per_peer <= self._of_host[host]:
            detail = f"There are {limits.connections_per_peer} connections of this address already"
            self.site.note(addr, PEER_CONNECTIONS, detail)
            return _OneTooMany()
        return Connection(self, host)

    def fit(self, most: int) -> bool:
        """Allow for no more connections than this; tells whether fewer were allowed already."""
        if most >= self.limits.connections:
            return True
        self.limits = self.limits._replace(connections=most)
        return False

    def __len__(self) -> int:
        """Give the number of open connections."""
        return len(self._connections)

    @property
    def busy(self) -> bool:
        """Whether there are requests that have begun to arrive and are not answered."""
        return any(connection.busy for connection in self._connections)

    def close(self) -> None:
        """Close all connections, whatever they are at."""
        for connection in list(self._connections):
            connection.close()

    def add(self, connection: "Connection") -> None:
        """Look after a connection."""
        self._connections.add(connection)
        if connection.host is not None:
            self._of_host[connection.host] += 1
        if not self._ticking.running:
            self._ticking.start(_TICK, now=False)

    def discard(self, connection: "Connection") -> None:
        """Look after a connection no longer."""
        self._connections.discard(connection)
        host = connection.host
        if host is not None:
            self._of_host[host] -= 1
            if not self._of_host[host]:
                del self._of_host[host]
        if not self._connections and self._ticking.running:
            self._ticking.stop()

    def give_turn(self, connection: "Connection") -> None:
        """Have a connection go on in one of the reactor's next rounds."""
        self._turns.append(connection)
        self._see_to_turns()

    def _see_to_turns(self) -> None:
        if self._turns and not self._giving_turns:
            self._giving_turns = True
            self.reactor.callLater(0, self._give_turns)

    def _give_turns(self) -> None:
        for _ in range(min(_TURNS, len(self._turns))):
            self._turns.popleft().go_on()
        self._giving_turns = False
        self._see_to_turns()

    def _tick(self) -> None:
        self._now += _TICK
        self._set_deadlines()
        for connection in [each for each in self._connections if each.deadline <= self._now]:
            connection.time_out()

    def _set_deadlines(self) -> None:
        """Say when the time of those is over who begin now, or until the next tick."""
        self.idle_deadline = self._now + self.limits.idle_timeout + _TICK
        self.request_deadline = self._now + self.limits.request_timeout + _TICK
        self.farewell_deadline = self._now + _FAREWELL


class _OneTooMany(Protocol):
    """A connection that there is no room for: closed before TLS, if there is any, begins.

    Those who wrap factories, as endpoints do, don't expect that one makes no protocol.
    """

    transport: Any

    def connectionMade(self) -> None:
        """Close it."""
        self.transport.abortConnection()


@implementer(IPushProducer)
class Connection(Protocol):
    """A client's connection, in whichever lane.

    Of what has arrived only that is kept which can't be answered yet: the beginning of a heartbeat,
    or what has to wait for its turn.
    """

    factory: Connections
    transport: Any

    def __init__(self, factory: Connections, host: str | None = None) -> None:
        self.factory = factory
        self.host = host
        """Where it comes from, if from an address."""
        self.deadline = factory.idle_deadline
        """When it is closed, in the factory's time."""
        self._unread = b""
        # What the fast lane remembers of it.
        self._sender: Sender | None = None
        # Whether a request has begun to arrive, or has arrived and is being answered.
        self._arriving = self._answering = False
        # What reads it while it is not in the fast lane, and whether it is reading just now.
        self._channel: _Channel | None = None
        self._feeding = False
        # Whether it waits for its turn; for the client to read; for nothing any more.
        self._waiting = self._full = self._over = False

    @property
    def busy(self) -> bool:
        """Whether something has arrived that is not answered."""
        return self._arriving or self._answering or bool(self._unread)

    def connectionMade(self) -> None:
        """Begin."""
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)
        self._writer = EagerWriter(self.transport)
        self.transport.registerProducer(self, True)
        self.factory.add(self)

    def dataReceived(self, data: bytes) -> None:
        """Take in what the client sends."""
        if self._unread:
            data = self._unread + data
            self._unread = b""
        if self._over:
            return
        if self._waiting or self._held:
            self._unread = data
            return
        self._go(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Come to the end."""
        self._over = True
        self._unread = b""
        self._sender = None  # it knows the transport, which knows us
        self.factory.discard(self)
        if self._channel is not None:
            self._channel.connectionLost(reason)

    def close(self) -> None:
        """Close it, after what has been written."""
        if self._over:
            return
        self.farewell()
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def time_out(self) -> None:
        """Close it; by force if it was closed before and is still there, or does not read."""
        factory = self.factory
        if self._over:
            self._abort()
        elif self._full:
            self._note(UNREAD, f"No answer was read for {factory.limits.idle_timeout:g} s")
            self._abort()
        else:
            if self._arriving:
                seconds = factory.limits.request_timeout
                self._note(SLOW, f"A request was not there within {seconds:g} s")
            else:
                factory.idle_closed += 1
            self.close()

    def _note(self, reason: str, detail: str) -> None:
        self.factory.site.note(self.transport.getPeer(), reason, detail)

    def _abort(self) -> None:
        self.deadline = inf
        self.transport.abortConnection()

    def go_on(self) -> None:
        """Have the turn that it was waiting for."""
        self._waiting = False
        if self._over or self._held:
            return
        data, self._unread = self._unread, b""
        self._go(data)
        if not (self._waiting or self._full or self._over):
            self.transport.resumeProducing()

    @property
    def _held(self) -> bool:
        """Whether what arrives has to wait for the client to read its answers."""
        # An answer in hand that is written as it is read is the channel's affair.
        return self._full and not self._answering

    def pauseProducing(self) -> None:
        """Answer nothing more until the client has read its answers."""
        self.full()
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """Go on."""
        self.read()
        if self._waiting:
            return
        if self._unread:
            self._wait()
        else:
            self.transport.resumeProducing()

    def stopProducing(self) -> None:
        """Need do nothing: the connection is being lost."""

    def _go(self, data: bytes) -> None:
        """Answer what can be answered, in whichever lane, and keep the rest."""
        factory = self.factory
        lane = factory.lane
        while data and not self._over:
            if self._held:
                self._unread = data
                return
            if self._channel is not None or lane is None or factory.site.closing:
                data = self._hand_on(data)
                continue
            if self._sender is None:
                self._sender = lane.sender(self.transport)
            count, end, verdict = lane.take(data, self._sender)
            if count:
                self._arriving = False
                self.deadline = factory.idle_deadline
                if verdict is Verdict.LAST:
                    self._writer.write(lane.answers(count, last=True))
                    self.close()
                    return
                self._writer.write(lane.answers(count))
            if verdict is Verdict.DRY:
                return
            data = data[end:]
            if verdict is Verdict.ARRIVING:
                self._unread = data
                self._note_arriving()
                return
            if self._full:
                continue
            if verdict is Verdict.TURN:
                self._unread = data
                self._wait()
                return
            data = self._hand_on(data)

    def _wait(self) -> None:
        self._waiting = True
        self.transport.pauseProducing()
        self.factory.give_turn(self)

    def _note_arriving(self) -> None:
        if not (self._arriving or self._answering):
            self._arriving = True
            self.deadline = self.factory.request_deadline

    def _hand_on(self, data: bytes) -> bytes:
        """Have an ordinary channel read; gives what it has left unread."""
        if self._channel is None:
            self._writer.unsure()
            self.transport.unregisterProducer()
            self._channel = _Channel(self, self.factory.site)
            self._channel.makeConnection(self.transport)
        self._note_arriving()
        self._feeding = True
        self._channel.dataReceived(data)
        self._feeding = False
        unread, self._unread = self._unread, b""
        return unread

    # What its channel tells:

    def request_arrived(self) -> None:
        """Take note that a request is complete; answering it may take its time."""
        self._arriving, self._answering = False, True
        self.deadline = inf

    def request_answered(self, unread: bytes) -> None:
        """Go on after a request, with the bytes that came behind it."""
        self._answering = False
        if self._over:
            return
        self.deadline = self.factory.idle_deadline
        assert self._channel is not None
        # While the client has yet to read its answers, the channel sees to that.
        if self.factory.lane is not None and not self._full:
            self._channel = None
            self.transport.unregisterProducer()
            self.transport.registerProducer(self, True)
        if self._feeding:
            self._unread = unread
        else:
            self._go(unread)

    def full(self) -> None:
        """Take note that the client has to read before there can be more for it."""
        self._full = True
        if not self._over:
            self.deadline = self.factory.idle_deadline

    def read(self) -> None:
        """Take note that the client has read."""
        self._full = False
        if self._over:
            return
        if self._answering:
            self.deadline = inf
        elif self._arriving:
            self.deadline = self.factory.request_deadline
        else:
            self.deadline = self.factory.idle_deadline

    def channel_read(self) -> None:
        """Take note that the client has read, and go on with what has waited for that."""
        self.read()
        if self._unread and not (self._answering or self._waiting or self._over):
            self._wait()

    def farewell(self) -> None:
        """Take note that this is the end: it is up to the client to read and to hang up."""
        self._over = True
        self._arriving = False
        self._unread = b""
        self.deadline = self.factory.farewell_deadline


class _Channel(StrictChannel):
    """An ordinary HTTP channel, which gives back what comes behind a request."""

    def __init__(self, connection: Connection, site: APISite) -> None:
        super().__init__()
        self.factory = self.site = site
        self.requestFactory = site.requestFactory
        self.timeOut = None  # the connection's affair
        self._connection = connection

    def allContentReceived(self) -> None:
        self._connection.request_arrived()
        super().allContentReceived()

    def requestDone(self, request: Request) -> None:
        self.paused = True  # or it would go on with what it has
        super().requestDone(request)
        self.paused = False
        self._connection.request_answered(self.clearLineBuffer())

    def loseConnection(self) -> None:
        self._connection.farewell()
        super().loseConnection()

    def pauseProducing(self) -> None:
        self._connection.full()
        super().pauseProducing()

    def resumeProducing(self) -> None:
        super().resumeProducing()
        self._connection.channel_read()
