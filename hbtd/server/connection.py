"""The protocol of a client's connection, which passes each request to one of two lanes.

Each request is first offered to the fast lane, which answers plain heartbeats without twisted.web.
A request that the fast lane does not take goes to the ordinary lane: an HTTP channel of
twisted.web. The channel answers that request, and returns the bytes that follow the request; these
are offered to the fast lane again. So heartbeats are fast even on the connections of gateways, each
of which carries all kinds of requests.
"""

from math import inf
from typing import Any, Final
from typing import Protocol as Interface

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHandshakeListener, IPushProducer, ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from hbtd.server.channel import RequestChannel
from hbtd.server.lane import Lane, LastAnswers, Taken, Verdict
from hbtd.server.limits import CONNECTIONS, SLOW, TLS, UNREAD, Limits
from hbtd.server.scheduler import Scheduler
from hbtd.server.site import LimitedSite
from hbtd.server.states import TICK, State

# Enumerations' members are slow to look up, and these are needed for each heartbeat.
_IDLE: Final = State.IDLE
_WAITING: Final = (State.WAITING, State.QUEUED)
_RESTING: Final = (State.NEW, State.IDLE)
_DRY: Final = Verdict.DRY


class Owner(Interface):
    """The part of a factory's interface that the connections made by the factory use."""

    site: LimitedSite
    lane: Lane | None
    limits: Limits
    scheduler: Scheduler
    idle_closed: int
    now: float
    """The factory's clock, in seconds; it advances in steps of one second.

    It stands still while the factory has no connections, or hbtd is suspended.
    """

    @property
    def proven_since(self) -> float:
        """The beginning of the last `Errtime` seconds, on the clock of `now`.

        A connection is proven if a heartbeat was accepted on it after this time.
        """

    def add(self, connection: "Connection") -> None:
        """Add a new connection to the open ones."""

    def discard(self, connection: "Connection") -> None:
        """Remove a lost connection from the open ones."""

    def renew(self, connection: "Connection") -> None:
        """Move a connection to the end of the order in which its network's connections are closed.

        When a limit on connections is reached, the first connection in this order that is not
        proven is closed. Call this when a request was answered on the connection.
        """


@implementer(IPushProducer, IHandshakeListener)
class Connection(Protocol):
    """The protocol of one client's connection; it passes requests to the fast or ordinary lane.

    Received data are kept only if they can't be processed yet, for one of three reasons: a request
    is incomplete, the connection waits for a turn, or the client has yet to read previous answers.
    """

    _log = Logger()

    factory: Owner
    transport: Any

    def __init__(
        self,
        factory: Owner,
        host: str | None = None,
        *,
        tls: bool = False,
    ) -> None:
        """Make the protocol of a client at the IP address `host`; `None` stands for a Unix socket.

        With `tls`, the first state is `HANDSHAKE`, otherwise `NEW`.
        """
        self.factory = factory
        self.host = host
        """The client's IP address, `None` on a Unix socket."""
        self.state = State.HANDSHAKE if tls else State.NEW
        self.retired = False
        """Whether the connection is to be closed after its next answer, because of its age."""
        self.made = factory.now
        """The time at which the connection was made, on the clock `factory.now`."""
        # Whether a request has been answered with success.
        self._accepted = False
        self.since = factory.now
        """The time, on the clock `factory.now`, from which the duration of `state` is counted."""
        self.heard = -inf
        """The time of the last heartbeat accepted on the connection, on the clock `factory.now`.

        It is `-inf` before the first heartbeat.
        """
        # Requests are offered to the lane, if there is one; the sender is what it remembers.
        self._lane = factory.lane
        self._sender: Any = None
        # What has arrived and waits for a turn, or for the client to read.
        self._unread = b""
        # The beginning of a request, and how many bytes it takes to look at it again.
        self._begun: bytearray | None = None
        self._need = 0
        self._in_head = False
        # What reads it while it is not in the fast lane, and whether that is reading just now.
        self._channel: RequestChannel | None = None
        self._feeding = False
        # Whether the client has finished sending.
        self._input_ended = False

    @property
    def busy(self) -> bool:
        """Whether a request has arrived, completely or in part, and has yet to be answered."""
        if self.state is State.STALLED:
            return bool(self._unread) or self._begun is not None
        return _IDLE < self.state < State.CLOSING

    @property
    def proven(self) -> bool:
        """Whether a heartbeat was accepted on the connection in the last `Errtime` seconds."""
        return self.heard > self.factory.proven_since

    @property
    def fresh(self) -> bool:
        """Whether no heartbeat has been accepted on the connection so far."""
        return self.heard < 0

    @property
    def in_fast_lane(self) -> bool:
        """Whether the next request is offered to the fast lane before the ordinary lane."""
        return self._lane is not None and self._channel is None

    @property
    def queued(self) -> bool:
        """Whether received data wait until the scheduler gives the connection a turn."""
        return self.state is State.QUEUED

    # What the transport tells

    def connectionMade(self) -> None:
        """Register as the transport's producer and as an open connection of the factory."""
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)
        self.transport.registerProducer(self, True)
        self.factory.add(self)

    def handshakeCompleted(self) -> None:
        """Start to read requests, as the TLS handshake is complete."""
        self._enter(State.NEW)

    def handshakeMayGoOn(self) -> bool:
        """Return whether the transport may do a step of the TLS handshake now.

        If not, pause the transport, and queue the connection for a turn, in which `take_turn`
        continues the handshake.
        """
        if self.factory.scheduler.enter():
            self._enter(State.HANDSHAKE)
            return True
        self._enter(State.WAITING)
        self.transport.pauseProducing()
        self.factory.scheduler.wait(self)
        return False

    def handshakeFailed(self, detail: str) -> None:
        """Count and log that the TLS handshake failed; wait until the client hangs up."""
        self._note(TLS, f"The TLS handshake failed: {detail}")
        self._enter(State.CLOSING)

    def dataReceived(self, data: bytes) -> None:
        """Process data that the client has sent: nearly always a single heartbeat."""
        lane = self._lane
        if self.state is not _IDLE or lane is None or self._channel is not None:
            self._take(data)
            return
        if self._sender is None:
            self._sender = lane.sender(self.transport, self.host)
        try:
            taken = lane.take(data, self._sender)
            if taken[2] is _DRY:
                self.since = self.heard = self.factory.now
                self.transport.write(lane.answers(taken[0]))
                return
        except Exception:  # noqa: BLE001  # the others go on
            self._fail()
        else:
            self._go(data, taken)

    def inputEnded(self) -> bool:
        """Handle the end of the client's data; return whether a request is still to be answered."""
        self._input_ended = True
        return State.QUEUED <= self.state <= State.STALLED

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Remove the lost connection from the factory, and drop its data and references."""
        self._enter(State.CLOSED)
        self._sender = None  # it may know the transport, which knows this
        self.factory.discard(self)
        channel, self._channel = self._channel, None  # which knows this
        if channel is not None:
            channel.connectionLost(reason)

    def pauseProducing(self) -> None:
        """Stop processing requests until the client has read the previous answers."""
        self.client_behind()
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """Process requests again, as the client has read the previous answers."""
        self.client_caught_up()
        if self.state is not State.QUEUED:
            self.transport.resumeProducing()

    def stopProducing(self) -> None:
        """Do nothing: `connectionLost` follows."""

    # What the factory and the scheduler tell

    def close(self) -> None:
        """Close the connection once everything written to it has been sent.

        Abort it instead if its TLS handshake is not complete.
        """
        if self.state <= State.WAITING:
            self._abort()
        elif self.state < State.CLOSING:
            self._enter(State.CLOSING)
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def retire(self) -> None:
        """Arrange that the connection is closed after its next answer, because of its age."""
        self.retired = True
        self.answer_last()
        if self._channel is not None:
            self._channel.ending = True

    def make_room(self) -> None:
        """Abort the connection at once, so that there is room for another connection."""
        self._note(CONNECTIONS, "A connection without heartbeats was closed to make room")
        if self.state < State.CLOSING:
            # Perhaps it is a node's, which was about to send a heartbeat.
            self.factory.scheduler.not_heard(self.host)
        self._enter(State.CLOSED)
        transport = self.transport
        getattr(transport, "abortNow", transport.abortConnection)()

    def answer_last(self) -> None:
        """Arrange that the connection is closed after the next answer that the fast lane gives.

        That answer has the header `Connection: close`.
        """
        if self._lane is not None:
            self._lane = LastAnswers(self._lane)

    def close_if_quiet(self) -> bool:
        """Close the connection unless a request may be in progress; return whether it closes.

        The connection stays open in three cases: a request has arrived, completely or in part, and
        is not answered yet; data have arrived that have not been read; or the connection is only a
        second or two old, and no request on it has succeeded so far.
        """
        if self.state >= State.CLOSING:
            return True
        if self.state <= State.NEW and self.factory.now - self.made <= TICK:
            return False
        if self.state in _RESTING and getattr(self.transport, "hasInput", _never)():
            return False
        if self.busy:
            return False
        self.close()
        getattr(self.transport, "endNow", _nothing)()
        return True

    def time_out(self) -> None:
        """Close the connection, because it has been in its state for too long.

        Abort it instead if its TLS handshake is not complete, if its client does not read answers,
        or if it is being closed already.
        """
        state, limits = self.state, self.factory.limits
        if state is State.CLOSING:
            self._abort()
        elif state in (State.STALLED, State.BLOCKED):
            self._note(UNREAD, f"No answer was read for {limits.unread_timeout:g} s")
            self._abort()
        elif state <= State.WAITING:
            self._note(TLS, f"The TLS handshake took more than {limits.request_timeout:g} s")
            self._abort()
        elif state is State.ARRIVING:
            self._note(SLOW, f"A request was not there within {limits.request_timeout:g} s")
            self.close()
        else:
            self.factory.idle_closed += 1
            self.close()

    def give_up(self) -> None:
        """Abort the connection if its TLS handshake waits for a turn.

        The scheduler calls this when the client has waited so long that it is likely to hang up
        soon. If hbtd served all clients in order during an overload, it would serve each of them
        too late. By dropping the clients that have waited longest, it serves the next ones in time.
        """
        if self.state is State.WAITING:
            self._abort()

    def take_turn(self) -> None:
        """Use this connection's turn to continue its TLS handshake, or to process waiting data."""
        if self.state is State.WAITING:
            self.transport.resumeProducing()
            self.transport.continueHandshake()
        if self.state is not State.QUEUED:
            return
        data, self._unread = self._unread, b""
        self._go(data)
        if self.state in (*_RESTING, State.ARRIVING, State.ANSWERING):
            self.transport.resumeProducing()

    # Reading

    def _take(self, data: bytes) -> None:
        """Process data that the client has sent or, depending on the state, keep them for later."""
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
        """Process data; if that raises an unexpected exception, abort this connection.

        The arguments are those of `_answer`.
        """
        try:
            self._answer(data, taken)
        except Exception:  # noqa: BLE001  # the others go on
            self._fail()
        if self._input_ended and self.state in (*_RESTING, State.ARRIVING):
            self.close()

    def _fail(self) -> None:
        self._log.failure(
            "Reading a request failed because of a bug in hbtd; its connection is closed."
        )
        self._abort()

    def _answer(self, data: bytes, taken: Taken | None = None) -> None:
        """Process the requests in `data`, each in its lane, and keep what can't be processed yet.

        `taken` is the result of `Lane.take` if the fast lane has looked at `data` already.
        """
        while data and self.state < State.CLOSING:
            if self.state is State.STALLED:
                self._unread = data
                return
            lane = self._lane
            if self._channel is None and lane is not None:
                if self._sender is None:
                    self._sender = lane.sender(self.transport, self.host)
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
        """Answer the heartbeats that the fast lane took; return the data for the ordinary lane.

        `taken` is what `lane.take` returned for `data`. Data that neither lane can process yet are
        kept.
        """
        count, end, verdict, need = taken
        if count:
            self.heard = self.factory.now
            self._accepted = True
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
        """Pass data to the HTTP channel of the ordinary lane; return the data that stay unread."""
        if self._channel is None:
            self.transport.unregisterProducer()
            self._channel = RequestChannel(self, self.factory.site)
            self._channel.makeConnection(self.transport)
        self._note_arriving()
        self._feeding = True
        try:
            self._channel.dataReceived(data)
        finally:
            self._feeding = False
        unread, self._unread = self._unread, b""
        return unread

    # What the channel asks and tells

    def turn(self) -> Deferred[None]:
        """Return a Deferred that fires when the connection gets its next turn."""
        return self.factory.scheduler.turn(self.host, proven=self.proven)

    def heartbeat_taken(self) -> None:
        """Record the time of a heartbeat that was accepted: the connection is now `proven`."""
        self.heard = self.factory.now

    def request_arrived(self) -> None:
        """Enter the state `ANSWERING`: a request has arrived completely."""
        if self.state < State.CLOSING:
            self._enter(State.ANSWERING)

    def request_answered(self, unread: bytes, *, accepted: bool) -> None:
        """Leave the state `ANSWERING`; process `unread`, the data that followed the request.

        `accepted` says whether the status of the answer was below 400.
        """
        self._accepted |= accepted
        if self.state >= State.CLOSING:
            return
        self.factory.renew(self)
        self._enter(State.STALLED if self.state is State.BLOCKED else self._rest)
        # While the client has yet to read its answers, the channel sees to that.
        if self._lane is not None and self.state in _RESTING:
            self._channel = None
            self.transport.unregisterProducer()
            self.transport.registerProducer(self, True)
        if self._feeding:
            self._unread = unread
        else:
            self._go(unread)

    def client_behind(self) -> None:
        """Process no further request until the client has read the previous answers.

        Meanwhile the state is `BLOCKED` if an answer is being written, otherwise `STALLED`.
        """
        if self.state is State.ANSWERING:
            self._enter(State.BLOCKED)
        elif self.state < State.ANSWERING:
            self._enter(State.STALLED)

    def client_caught_up(self) -> None:
        """Undo `client_behind`: process requests again, as the client has read enough answers.

        Data that arrived meanwhile wait for a turn.
        """
        if self.state is State.BLOCKED:
            self._enter(State.ANSWERING)
        elif self.state is State.STALLED:
            if self._unread:
                self._wait(self._unread)
            else:
                self._enter(self._rest if self._begun is None else State.ARRIVING)
                if self._input_ended:
                    self.close()
        elif self.state is _IDLE:
            self._enter(_IDLE)  # the client has been reading, which is not to be idle

    def farewell(self) -> None:
        """Enter the state `CLOSING`: the HTTP channel has begun to close the connection."""
        self._enter(State.CLOSING)

    @property
    def _rest(self) -> State:
        """The state between two requests: `NEW` or `IDLE`.

        It is `IDLE` once a request has been answered with a status below 400.
        """
        return _IDLE if self._accepted else State.NEW

    def _enter(self, state: State) -> None:
        """Enter a state, and set `since`, from which the time in the state is counted, to now.

        There are two exceptions. Between `ARRIVING` and `QUEUED`, in either direction, `since`
        stays as it is: the time for which a request waits for a turn counts as part of the time for
        which it arrives. In `HANDSHAKE`, `WAITING` and `NEW`, `since` is when the connection
        was made.

        If the connection is closed or lost while it waits for a turn, let the scheduler note that:
        a heartbeat of its client may not have been heard.
        """
        before, self.state = self.state, state
        if state >= State.CLOSING and before in _WAITING and self.since < self.factory.now:
            self.factory.scheduler.not_heard(self.host)
        if not (_IDLE < before < State.ANSWERING and _IDLE < state < State.ANSWERING):
            self.since = self.made if state <= State.NEW else self.factory.now
        if state >= State.CLOSING:
            self._unread, self._begun = b"", None

    def _note(self, reason: str, detail: str) -> None:
        self.factory.site.note(self.transport.getPeer(), reason, detail)

    def _abort(self) -> None:
        self._enter(State.CLOSED)
        self.transport.abortConnection()


def _nothing() -> None:
    """Do nothing; this is called in place of `endNow` if a transport has no such method."""


def _never() -> bool:
    return False
