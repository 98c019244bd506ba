"""The connections that a fleet's nodes share: a small, fast HTTP/1.1 client.

treq and twisted.web's agent are not used, because they need several times as long to send a
heartbeat as hbtd needs to take it. With them, a benchmark of hbtd would measure the fleet's speed.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser
from OpenSSL import SSL
from twisted.application.internet import ClientService
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from hbtd.runtime.backoff import Backoff

_CLOSE_TIMEOUT: Final = 1.0
"""Seconds after which a connection being closed is aborted if the peer has not closed it."""

_FIRST_RETRY: Final = 0.2
"""The first pause between attempts to connect, in seconds; see `Backoff`."""

_LONGEST_RETRY: Final = 1.0
"""The longest pause between attempts to connect, in seconds; see `Backoff`.

It is short, so that nodes are soon heard when hbtd is reachable again.
"""


@dataclass(slots=True, eq=False)
class Beat:
    """A heartbeat for a link to send: its node, its request, and when it was due."""

    node: str
    """The xname of the node that sends the heartbeat."""

    request: bytes
    """The whole HTTP request."""

    due: float
    """When the heartbeat was due, in seconds of the fleet's clock."""

    withdrawn: bool = False
    """Whether to drop the heartbeat, without reporting an outcome, if it has not been sent yet."""


@dataclass(frozen=True)
class Outcomes:
    """Callbacks by which a link reports the outcomes of heartbeats.

    No outcome is reported for heartbeats that are withdrawn before they are sent, nor for those
    that have no answer when the link is stopped.
    """

    sent: Callable[[Beat], None]
    """Called with each heartbeat that was written to a connection."""

    answered: Callable[[Beat], None]
    """Called with each heartbeat that got a 2xx answer."""

    failed: Callable[[Beat, str], None]
    """Called with each heartbeat that failed, and with the reason of the failure as a text."""


class Link(Service):
    """A connection to hbtd that is renewed when it is lost, with one heartbeat in flight at a time.

    A heartbeat is never sent twice. While there is no connection, heartbeats wait for the result of
    the next attempt to connect, and fail if the attempt fails. The connection is aborted when a
    heartbeat has no answer within `timeout` seconds of `clock`. `jitter` returns a random number
    from 0 to 1, which varies the pauses between attempts to connect, so that several links don't
    try to connect at the same moments.
    """

    def __init__(
        self,
        clock: IReactorTime,
        endpoint: IStreamClientEndpoint,
        outcomes: Outcomes,
        *,
        timeout: float,
        jitter: Callable[[], float],
    ) -> None:
        self._outcomes = outcomes
        self._waiting: deque[Beat] = deque()
        self._connection: _Connection | None = None
        # Whether nothing has been answered since the last attempt to connect. A connection that is
        # made and lost at once, as when TLS fails, is a failure; to ClientService it is a success.
        self._failing = False
        self._backoff = Backoff(_FIRST_RETRY, _LONGEST_RETRY, jitter)
        self._client = ClientService(
            _ObservedEndpoint(endpoint, self._attempting, self._refused),
            _ConnectionFactory(lambda: _Connection(self, clock, timeout)),
            # A server may close an idle connection, which is no failure.
            retryPolicy=lambda _: self._backoff.next() if self._failing else 0.0,
            clock=clock,
        )

    def startService(self) -> None:
        """Connect, and connect again whenever the connection is lost."""
        super().startService()
        self._client.startService()

    def stopService(self) -> Deferred[None]:
        """Drop all heartbeats and disconnect.

        Return a Deferred that fires once the connection is closed, within about a second.
        """
        super().stopService()
        self._waiting.clear()
        if self._connection is not None:
            self._connection.expect_close()
        return self._client.stopService()

    def send(self, beat: Beat) -> None:
        """Queue a heartbeat, which is sent at once if the connection is idle."""
        self._waiting.append(beat)
        self._next()

    def _next(self) -> None:
        if self._connection is None or self._connection.beat is not None:
            return
        while self._waiting:
            beat = self._waiting.popleft()
            if not beat.withdrawn:
                self._connection.send(beat)
                self._outcomes.sent(beat)
                return

    def _fail_waiting(self, reason: str) -> None:
        waiting, self._waiting = self._waiting, deque()
        for beat in waiting:
            if not beat.withdrawn:
                self._outcomes.failed(beat, reason)

    # Events of the endpoint

    def _attempting(self) -> None:
        self._failing = True

    def _refused(self, failure: Failure) -> None:
        self._fail_waiting(f"cannot connect: {failure.type.__name__ if failure.type else '?'}")

    # Events of the connection

    def connected(self, connection: "_Connection") -> None:
        """Use a new connection, and send the first waiting heartbeat on it."""
        self._connection = connection
        self._next()

    def answered(self, beat: Beat, status: int) -> None:
        """Report a heartbeat as answered if its HTTP status is 2xx, and as failed otherwise."""
        self._failing = False
        self._backoff.reset()
        if 200 <= status < 300:
            self._outcomes.answered(beat)
        else:
            self._outcomes.failed(beat, f"status {status}")

    def idle(self) -> None:
        """Send the next waiting heartbeat, if any: the connection has become idle."""
        self._next()

    def closing(self) -> None:
        """Stop using a connection that is about to close."""
        self._connection = None

    def lost(self, beat: Beat | None, reason: str) -> None:
        """Handle a lost connection: report `beat`, if one was in flight, as failed for `reason`."""
        self._connection = None
        if not self.running:
            return
        if beat is not None:
            self._outcomes.failed(beat, reason)
        if self._failing:
            self._fail_waiting(reason)


@implementer(IStreamClientEndpoint)
class _ObservedEndpoint:
    """A wrapper of an endpoint; it calls functions at each attempt to connect and each failure."""

    def __init__(
        self,
        endpoint: IStreamClientEndpoint,
        attempting: Callable[[], None],
        refused: Callable[[Failure], None],
    ) -> None:
        self._endpoint = endpoint
        self._attempting = attempting
        self._refused = refused

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        def refused(failure: Failure) -> Failure:
            self._refused(failure)
            return failure

        self._attempting()
        connecting: Deferred[IProtocol] = self._endpoint.connect(protocolFactory)
        return connecting.addErrback(refused)


class _ConnectionFactory(Factory):
    noisy = False

    def __init__(self, make: Callable[[], "_Connection"]) -> None:
        self._make = make

    def buildProtocol(self, addr: IAddress | None) -> "_Connection":
        return self._make()


class _Connection(Protocol):
    """The HTTP/1.1 client protocol of a link, without pipelining: one request at a time."""

    def __init__(self, link: Link, clock: IReactorTime, timeout: float) -> None:
        self.beat: Beat | None = None
        """The heartbeat in flight, if any."""

        self._link = link
        self._clock = clock
        self._timeout = timeout
        self._parser = HttpResponseParser(self)
        self._timer: IDelayedCall | None = None
        # The status of each answer, and whether the connection may be reused. Answers are handled
        # when the parser has returned, because its callbacks must not call it again.
        self._answers: list[tuple[int, bool]] = []
        # Why this side aborted the connection, if it did.
        self._reason: str | None = None

    def _expect(self, within: float | None) -> None:
        """Set the timer that aborts the connection in `within` seconds; for `None`, cancel it."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if within is None else self._clock.callLater(within, self._timed_out)

    def _timed_out(self) -> None:
        self._timer = None
        self._abort("timeout")

    def connectionMade(self) -> None:
        self._link.connected(self)

    def send(self, beat: Beat) -> None:
        """Send a heartbeat. No other one may be in flight."""
        self.beat = beat
        self._expect(self._timeout)
        assert self.transport is not None
        self.transport.write(beat.request)

    def expect_close(self) -> None:
        """Start a timer that aborts the connection unless the peer closes it within a second."""
        self._expect(_CLOSE_TIMEOUT)

    def dataReceived(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):
            self._abort("not HTTP")
            return
        answers, self._answers = self._answers, []
        for status, reusable in answers:
            self._answered(status, reusable)

    def on_message_complete(self) -> None:
        """Store the status of a complete answer, which is handled once the parser has returned."""
        self._answers.append((self._parser.get_status_code(), self._parser.should_keep_alive()))

    def _answered(self, status: int, reusable: bool) -> None:
        if status < 200:
            return  # interim; the final answer follows
        if self.beat is None:
            self._abort("not HTTP")  # an answer without a request
            return
        beat, self.beat = self.beat, None
        self._expect(None)
        self._link.answered(beat, status)
        if reusable:
            self._link.idle()
        else:
            assert self.transport is not None
            self._link.closing()
            self.expect_close()
            self.transport.loseConnection()

    def _abort(self, reason: str) -> None:
        self._reason = self._reason or reason
        transport = self.transport
        assert transport is not None
        self._link.closing()
        transport.abortConnection()  # type: ignore[attr-defined]  # of TCP and TLS

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._expect(None)
        beat, self.beat = self.beat, None
        theirs = "TLS failed" if isinstance(reason.value, SSL.Error) else "connection lost"
        self._link.lost(beat, self._reason or theirs)
