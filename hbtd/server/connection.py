"""A connection: in one of two lanes, for as long as its limits and hbtd itself allow.

It begins in the fast lane (`hbtd.api.fastlane`). What is not for that one is handed on, unread, to
an ordinary HTTP channel of twisted.web with Klein behind it; when that has answered one request it
gives back the bytes that it has not read, and the connection is in the fast lane again. So
gateways, which pool connections and mix requests on them, get the best of both.

Its limits are the same in either lane: how long it may be silent or not read, and how long a
request may take to arrive. What concerns all connections together, their turns and the time
included, is in `hbtd.server.factory`.
"""

from math import inf
from typing import Any
from typing import Protocol as Interface

from twisted.internet.interfaces import IHandshakeListener, IPushProducer, ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import Request
from zope.interface import implementer

from hbtd.server.lane import Lane, Verdict
from hbtd.server.limits import SLOW, UNREAD, Limits
from hbtd.server.scheduler import Scheduler
from hbtd.server.site import LimitedSite, StrictChannel
from hbtd.server.write_through import EagerWriter


class Owner(Interface):
    """What a connection needs of whoever looks after all of them."""

    site: LimitedSite
    lane: Lane | None
    limits: Limits
    scheduler: Scheduler
    idle_closed: int
    idle_deadline: float
    request_deadline: float
    farewell_deadline: float

    def add(self, connection: "Connection") -> None:
        """Look after a connection."""

    def discard(self, connection: "Connection") -> None:
        """Look after a connection no longer."""

    def give_turn(self, connection: "Connection") -> None:
        """Have a connection go on in one of the reactor's next rounds."""


@implementer(IPushProducer, IHandshakeListener)
class Connection(Protocol):
    """A client's connection, in whichever lane.

    Of what has arrived only that is kept which can't be answered yet: the beginning of a heartbeat,
    or what has to wait for its turn.
    """

    _log = Logger()

    factory: Owner
    transport: Any

    def __init__(self, factory: Owner, host: str | None = None) -> None:
        self.factory = factory
        self.host = host
        """Where it comes from, if from an address."""
        self.deadline = factory.idle_deadline
        """When it is closed, in the factory's time."""
        self.handshaken = False
        """Whether TLS is spoken on it, and it is known with whom."""
        self._unread = b""
        # The beginning of a heartbeat, and how much there has to be for a second look at it.
        self._begun: bytearray | None = None
        self._need = 0
        self._in_head = False
        # What the fast lane remembers of it.
        self._sender: Any = None
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

    def handshakeCompleted(self) -> None:
        """Take note of the end of a TLS handshake."""
        self.handshaken = True

    def dataReceived(self, data: bytes) -> None:
        """Take in what the client sends."""
        if self._begun is not None:
            begun = self._begun
            begun += data
            # A line that ends may be the last of its head, or wrong.
            if len(begun) < self._need and not (self._in_head and b"\n" in data):
                return
            data, self._begun = bytes(begun), None
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
        self._unread, self._begun = b"", None
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
        self.client_behind()
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """Go on."""
        self.client_caught_up()
        if self._waiting:
            return
        if self._unread:
            self._wait(self._unread)
        else:
            self.transport.resumeProducing()

    def stopProducing(self) -> None:
        """Need do nothing: the connection is being lost."""

    def _go(self, data: bytes) -> None:
        """Answer what can be answered; a fault of ours in that costs but this connection."""
        try:
            self._answer(data)
        except Exception:  # noqa: BLE001  # the others go on
            self._log.failure("Reading a request failed; its connection is closed.")
            self._over = True
            self._abort()

    def _answer(self, data: bytes) -> None:
        """Answer what can be answered, in whichever lane, and keep the rest."""
        factory = self.factory
        lane = factory.lane
        while data and not self._over:
            if self._held:
                self._unread = data
                return
            if self._channel is None and lane is not None and not factory.site.closing:
                if self._sender is None:
                    self._sender = lane.sender(self.transport)
                count, end, verdict, need = lane.take(data, self._sender)
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
                if verdict in (Verdict.ARRIVING, Verdict.BEGINNING):
                    self._begun, self._need = bytearray(data), need
                    self._in_head = verdict is Verdict.BEGINNING
                    self._note_arriving()
                    return
                if self._full:
                    continue
                if verdict is Verdict.TURN:
                    self._wait(data)
                    return
            # What comes behind a request in hand is but kept by the channel.
            if not (self._answering or factory.scheduler.enter()):
                self._wait(data)
                return
            data = self._hand_on(data)

    def _wait(self, data: bytes) -> None:
        """Look at what there is, which is not read on, when it is our turn."""
        self._unread = data
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
        try:
            self._channel.dataReceived(data)
        finally:
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

    def client_behind(self) -> None:
        """Take note that the client has to read before there can be more for it."""
        self._full = True
        if not self._over:
            self.deadline = self.factory.idle_deadline

    def client_caught_up(self) -> None:
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

    def channel_caught_up(self) -> None:
        """Take note that the client has read, and go on with what has waited for that."""
        self.client_caught_up()
        if self._waiting:
            self.transport.pauseProducing()  # the channel has resumed it
        elif self._unread and not (self._answering or self._over):
            self._wait(self._unread)

    def farewell(self) -> None:
        """Take note that this is the end: it is up to the client to read and to hang up."""
        self._over = True
        self._arriving = False
        self._unread, self._begun = b"", None
        self.deadline = self.factory.farewell_deadline


class _Channel(StrictChannel):
    """An ordinary HTTP channel, which gives back what comes behind a request."""

    def __init__(self, connection: Connection, site: LimitedSite) -> None:
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
        self._connection.client_behind()
        super().pauseProducing()
        # While a request is in hand twisted.web takes in more, without bound.
        self.transport.pauseProducing()  # type: ignore[union-attr]  # it is there

    def resumeProducing(self) -> None:
        super().resumeProducing()
        self._connection.channel_caught_up()
