"""The protocol of a client's connection, which moves between the fast and the ordinary lane.

A connection begins in the fast lane. A request that this lane does not take is passed, unread, to
an HTTP channel of twisted.web. The channel answers that one request and returns the bytes behind
it, and the connection is back in the fast lane. So heartbeats are fast even on the connections of
gateways, which send all kinds of requests on each.
"""

from typing import Any, Final
from typing import Protocol as Interface

from twisted.internet.interfaces import IHandshakeListener, IPushProducer, ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import Request
from zope.interface import implementer

from hbtd.server.lane import Lane, Taken, Verdict
from hbtd.server.limits import SLOW, TLS, UNREAD, Limits
from hbtd.server.scheduler import Scheduler
from hbtd.server.site import LimitedSite, StrictChannel
from hbtd.server.states import State

# Enumerations' members are slow to look up, and these are needed for each heartbeat.
_IDLE: Final = State.IDLE
_DRY: Final = Verdict.DRY


class Owner(Interface):
    """The interface of the factory that a connection belongs to."""

    site: LimitedSite
    lane: Lane | None
    limits: Limits
    scheduler: Scheduler
    idle_closed: int
    now: float
    """Seconds in steps of `TICK`, counted while there are connections and the process runs."""

    def add(self, connection: "Connection") -> None:
        """Add a connection that has been made."""

    def discard(self, connection: "Connection") -> None:
        """Remove a connection that has been lost."""


@implementer(IPushProducer, IHandshakeListener)
class Connection(Protocol):
    """The protocol of one client's connection, in whichever lane its requests are processed.

    Received data are kept only as long as they can't be processed: the beginning of a request, and
    requests that wait for their turn or until the client reads previous answers.
    """

    _log = Logger()

    factory: Owner
    transport: Any

    def __init__(self, factory: Owner, host: str | None = None, *, tls: bool = False) -> None:
        """Make a connection from the IP address `host`, or from `None` if it is on a Unix socket.

        With `tls`, the first state is `HANDSHAKE`, otherwise `IDLE`.
        """
        self.factory = factory
        self.host = host
        """The client's IP address, `None` on a Unix socket."""
        self.state = State.HANDSHAKE if tls else _IDLE
        self.since = factory.now
        """The factory's `now` from which the time in the current state is counted."""
        # Requests are offered to the lane, if there is one; the sender is what it remembers.
        self._lane = None if factory.site.closing else factory.lane
        self._sender: Any = None
        # What has arrived and waits for a turn, or for the client to read.
        self._unread = b""
        # The beginning of a request, and how many bytes it takes to look at it again.
        self._begun: bytearray | None = None
        self._need = 0
        self._in_head = False
        # What reads it while it is not in the fast lane, and whether that is reading just now.
        self._channel: _Channel | None = None
        self._feeding = False
        # Whether the client has finished sending.
        self._input_ended = False

    @property
    def busy(self) -> bool:
        """Whether a request has arrived, completely or in part, and has yet to be answered."""
        if self.state is State.STALLED:
            return bool(self._unread) or self._begun is not None
        return _IDLE < self.state < State.CLOSING

    # What the transport tells

    def connectionMade(self) -> None:
        """Register as the transport's producer and as an open connection of the factory."""
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)
        self.transport.registerProducer(self, True)
        self.factory.add(self)

    def handshakeCompleted(self) -> None:
        """Become `IDLE`: the TLS handshake is complete, and requests may follow."""
        self._enter(_IDLE)

    def handshakeFailed(self, detail: str) -> None:
        """Count and log that the TLS handshake has failed, and wait for the client to hang up."""
        self._note(TLS, f"The TLS handshake failed: {detail}")
        self._enter(State.CLOSING)

    def dataReceived(self, data: bytes) -> None:
        """Process data that the client has sent: nearly always a single heartbeat."""
        lane = self._lane
        if self.state is not _IDLE or lane is None or self._channel is not None:
            self._take(data)
            return
        if self._sender is None:
            self._sender = lane.sender(self.transport)
        try:
            taken = lane.take(data, self._sender)
            if taken[2] is _DRY:
                self.since = self.factory.now
                self.transport.write(lane.answers(taken[0]))
                return
        except Exception:  # noqa: BLE001  # the others go on
            self._fail()
        else:
            self._go(data, taken)

    def inputEnded(self) -> bool:
        """Handle the end of the client's data; return whether requests are still to be answered."""
        self._input_ended = True
        return State.QUEUED <= self.state <= State.STALLED

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Leave the factory, and release what the lost connection holds."""
        self._enter(State.CLOSED)
        self._sender = None  # it may know the transport, which knows this
        self.factory.discard(self)
        channel, self._channel = self._channel, None  # which knows this
        if channel is not None:
            channel.connectionLost(reason)

    def pauseProducing(self) -> None:
        """Stop processing requests until the client has read its answers."""
        self.client_behind()
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """Process requests again, as the client has read its answers."""
        self.client_caught_up()
        if self.state is not State.QUEUED:
            self.transport.resumeProducing()

    def stopProducing(self) -> None:
        """Do nothing: `connectionLost` follows."""

    # What the factory and the scheduler tell

    def close(self) -> None:
        """Close the connection once all written data are sent; abort it during a TLS handshake."""
        if self.state is State.HANDSHAKE:
            self._abort()
        elif self.state < State.CLOSING:
            self._enter(State.CLOSING)
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def leave_fast_lane(self) -> None:
        """Process all further requests of this connection in the ordinary lane."""
        self._lane = None

    def time_out(self) -> None:
        """End the connection, because it has been in its state for too long.

        Close it if it is idle, or if a request is slow to arrive. Abort it if the handshake is
        slow, if the client does not read its answers, or if it is being closed already.
        """
        state, limits = self.state, self.factory.limits
        if state is State.CLOSING:
            self._abort()
        elif state in (State.STALLED, State.BLOCKED):
            self._note(UNREAD, f"No answer was read for {limits.idle_timeout:g} s")
            self._abort()
        elif state is State.HANDSHAKE:
            self._note(TLS, f"The TLS handshake took more than {limits.request_timeout:g} s")
            self._abort()
        elif state is State.ARRIVING:
            self._note(SLOW, f"A request was not there within {limits.request_timeout:g} s")
            self.close()
        else:
            self.factory.idle_closed += 1
            self.close()

    def take_turn(self) -> None:
        """Process the data that have waited for a turn."""
        if self.state is not State.QUEUED:
            return
        data, self._unread = self._unread, b""
        self._go(data)
        if self.state in (_IDLE, State.ARRIVING, State.ANSWERING):
            self.transport.resumeProducing()

    # Reading

    def _take(self, data: bytes) -> None:
        """Process received data, or keep them if the state does not allow processing."""
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
        if self.state in (State.QUEUED, State.STALLED):
            self._unread = data
        elif self.state < State.CLOSING:
            self._go(data)

    def _go(self, data: bytes, taken: Taken | None = None) -> None:
        """Process data; if that raises an exception, log it and abort this connection only."""
        try:
            self._answer(data, taken)
        except Exception:  # noqa: BLE001  # the others go on
            self._fail()
        if self._input_ended and self.state in (_IDLE, State.ARRIVING):
            self.close()

    def _fail(self) -> None:
        self._log.failure("Reading a request failed; its connection is closed.")
        self._abort()

    def _answer(self, data: bytes, taken: Taken | None = None) -> None:
        """Process the requests in `data`, each in its lane, and keep what can't be processed yet.

        `taken` is the result of the fast lane's `take`, if that was called for `data` already.
        """
        while data and self.state < State.CLOSING:
            if self.state is State.STALLED:
                self._unread = data
                return
            lane = self._lane
            if self._channel is None and lane is not None:
                if self._sender is None:
                    self._sender = lane.sender(self.transport)
                data = self._conclude(data, taken or lane.take(data, self._sender), lane)
                taken = None
                if not data:
                    return
            # What comes behind a request in hand is only kept by the channel.
            if self.state < State.ANSWERING and not self.factory.scheduler.enter():
                self._wait(data)
                return
            data = self._hand_on(data)

    def _conclude(self, data: bytes, taken: Taken, lane: Lane) -> bytes:
        """Answer what the fast lane has taken; return the data that go to the ordinary lane now."""
        count, end, verdict, need = taken
        if count:
            self._enter(_IDLE)
            self.transport.write(lane.answers(count, last=verdict is Verdict.LAST))
        if verdict is Verdict.LAST:
            self.close()
            return b""
        rest = data[end:]
        if verdict in (Verdict.ARRIVING, Verdict.BEGINNING):
            self._begun, self._need = bytearray(rest), need
            self._in_head = verdict is Verdict.BEGINNING
            self._note_arriving()
        elif self.state is State.STALLED:
            self._unread = rest
        elif verdict is Verdict.TURN:
            self._wait(rest)
        else:
            return rest
        return b""

    def _wait(self, data: bytes) -> None:
        """Keep data until this connection's turn, and read no more until then."""
        self._unread = data
        self._enter(State.QUEUED)
        self.transport.pauseProducing()
        self.factory.scheduler.wait(self)

    def _note_arriving(self) -> None:
        if self.state < State.ANSWERING:
            self._enter(State.ARRIVING)

    def _hand_on(self, data: bytes) -> bytes:
        """Pass data to the ordinary lane's channel; return what follows an answered request."""
        if self._channel is None:
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

    # What the channel tells

    def request_arrived(self) -> None:
        """Enter `ANSWERING`: the channel has received a complete request."""
        if self.state < State.CLOSING:
            self._enter(State.ANSWERING)

    def request_answered(self, unread: bytes) -> None:
        """Process the data behind the request that has just been answered."""
        if self.state >= State.CLOSING:
            return
        self._enter(State.STALLED if self.state is State.BLOCKED else _IDLE)
        # While the client has yet to read its answers, the channel sees to that.
        if self._lane is not None and self.state is _IDLE:
            self._channel = None
            self.transport.unregisterProducer()
            self.transport.registerProducer(self, True)
        if self._feeding:
            self._unread = unread
        else:
            self._go(unread)

    def client_behind(self) -> None:
        """Enter `BLOCKED` or `STALLED`, because the client is slow to read its answers."""
        if self.state is State.ANSWERING:
            self._enter(State.BLOCKED)
        elif self.state < State.ANSWERING:
            self._enter(State.STALLED)

    def client_caught_up(self) -> None:
        """Leave `BLOCKED` or `STALLED`, as the client has read; queue data that were kept."""
        if self.state is State.BLOCKED:
            self._enter(State.ANSWERING)
        elif self.state is State.STALLED:
            if self._unread:
                self._wait(self._unread)
            else:
                self._enter(_IDLE if self._begun is None else State.ARRIVING)
                if self._input_ended:
                    self.close()
        elif self.state is _IDLE:
            self._enter(_IDLE)  # the client has been reading, which is not to be idle

    def farewell(self) -> None:
        """Enter `CLOSING`: the channel is about to close the connection."""
        self._enter(State.CLOSING)

    def _enter(self, state: State) -> None:
        """Change the state, and set `since` to now.

        `ARRIVING` and `QUEUED` share one `since`: the time that a request takes to arrive includes
        the time that it waits for a turn.
        """
        before, self.state = self.state, state
        if not (_IDLE < before < State.ANSWERING and _IDLE < state < State.ANSWERING):
            self.since = self.factory.now
        if state >= State.CLOSING:
            self._unread, self._begun = b"", None

    def _note(self, reason: str, detail: str) -> None:
        self.factory.site.note(self.transport.getPeer(), reason, detail)

    def _abort(self) -> None:
        self._enter(State.CLOSED)
        self.transport.abortConnection()


class _Channel(StrictChannel):
    """An HTTP channel that answers one request, and gives the data behind it to the connection."""

    def __init__(self, connection: Connection, site: LimitedSite) -> None:
        super().__init__()
        self.factory = self.site = site
        self.requestFactory = site.requestFactory
        self.timeOut = None  # the connection sees to that
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

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        # A body that has begun to arrive is read by what knows this.
        self.transport = None
        del self._networkProducer
        del self._connection

    def pauseProducing(self) -> None:
        self._connection.client_behind()
        super().pauseProducing()
        # While a request is in hand twisted.web takes in more, without bound.
        self.transport.pauseProducing()  # type: ignore[union-attr]  # it is there

    def resumeProducing(self) -> None:
        super().resumeProducing()
        self._connection.client_caught_up()
        if self._connection.state is State.QUEUED:
            self.transport.pauseProducing()  # type: ignore[union-attr]  # resumed just now
