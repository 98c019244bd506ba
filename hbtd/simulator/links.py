"""Connections that a fleet's heartbeats share: a small HTTP/1.1 client, made to be light.

treq and twisted.web's agent cost several times what hbtd itself spends on a heartbeat; a fleet
built on them would measure itself.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser
from OpenSSL import SSL
from twisted.application.internet import ClientService, backoffPolicy
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

# How long a peer may take to part from us before we hang up on it.
_PARTING_SECONDS: Final = 1.0


@dataclass(slots=True, eq=False)
class Beat:
    """One heartbeat on its way."""

    node: str
    """Whose it is."""

    request: bytes
    """The HTTP request, complete."""

    due: float
    """When it was to be sent, in seconds on the clock of the fleet."""

    withdrawn: bool = False
    """Set to have it dropped without a word, if it has not been sent yet."""


@dataclass(frozen=True)
class Outcomes:
    """Whom a link tells about its heartbeats; a withdrawn one, or one of a stopped link, is not."""

    sent: Callable[[Beat], None]
    """It was written to a connection."""

    answered: Callable[[Beat], None]
    """It got a 2xx answer."""

    failed: Callable[[Beat, str], None]
    """It did not, for this reason."""


class Link(Service):
    """One connection, kept up, that sends one heartbeat at a time and keeps the others waiting.

    A heartbeat is never sent twice. One that is due while there is no connection waits for the
    next attempt to connect, and fails if that does. `clock` provides `IReactorTime`; a heartbeat
    that gets no answer for `timeout` seconds costs the connection. `jitter` gives numbers
    from 0 to 1 that spread the attempts of several links.
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
        # Attempts without any answer. A connection that is made and lost at once, as when TLS
        # fails, is a failed attempt to us; ClientService would call it a success.
        self._fruitless = 0
        # Not so long that nodes which beat could seem silent when hbtd is back: a node tries again
        # with every beat, and is not put off by those that failed.
        backoff = backoffPolicy(
            initialDelay=0.1, maxDelay=1.0, factor=2.0, jitter=lambda: 0.1 * jitter()
        )
        self._client = ClientService(
            _Attempts(endpoint, self._attempting, self._refused),
            _ConnectionFactory(lambda: _Connection(self, clock, timeout)),
            # A server may close a connection that is idle: nothing to be wary of.
            retryPolicy=lambda _: backoff(self._fruitless) if self._fruitless else 0.0,
            clock=clock,
        )

    def startService(self) -> None:
        """Start connecting."""
        super().startService()
        self._client.startService()

    def stopService(self) -> Deferred[None]:
        """Drop all heartbeats and disconnect; fires within about a second, when that is done."""
        super().stopService()
        self._waiting.clear()
        if self._connection is not None:
            self._connection.part()
        return self._client.stopService()

    def send(self, beat: Beat) -> None:
        """Send a heartbeat when its turn comes."""
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

    # What the endpoint tells

    def _attempting(self) -> None:
        self._fruitless += 1

    def _refused(self, failure: Failure) -> None:
        self._fail_waiting(f"cannot connect: {failure.type.__name__ if failure.type else '?'}")

    # What the connection tells

    def connected(self, connection: "_Connection") -> None:
        """Take a connection that was made into use."""
        self._connection = connection
        self._next()

    def answered(self, beat: Beat, status: int) -> None:
        """Take note of an answer."""
        self._fruitless = 0
        if 200 <= status < 300:
            self._outcomes.answered(beat)
        else:
            self._outcomes.failed(beat, f"status {status}")

    def idle(self) -> None:
        """Put the connection to use again."""
        self._next()

    def closing(self) -> None:
        """Send nothing more on a connection that is about to close."""
        self._connection = None

    def lost(self, beat: Beat | None, reason: str) -> None:
        """Take note of a lost connection and the heartbeat that was in flight on it."""
        self._connection = None
        if not self.running:
            return
        if beat is not None:
            self._outcomes.failed(beat, reason)
        if self._fruitless:
            self._fail_waiting(reason)


@implementer(IStreamClientEndpoint)
class _Attempts:
    """Connect through another endpoint and tell about it, which ClientService does not."""

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
    """The wire: one request, then its answer, then the next."""

    def __init__(self, link: Link, clock: IReactorTime, timeout: float) -> None:
        self.beat: Beat | None = None
        """The heartbeat in flight."""

        self._link = link
        self._clock = clock
        self._timeout = timeout
        self._parser = HttpResponseParser(self)
        self._timer: IDelayedCall | None = None
        # Status, and whether the connection may be used again. The parser is busy when it tells
        # of them, so they wait until it returns.
        self._answers: list[tuple[int, bool]] = []
        # Why we closed the connection, if it was us.
        self._reason: str | None = None

    def _expect(self, within: float | None) -> None:
        """Abort unless called again within so many seconds; `None`: there is no hurry."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if within is None else self._clock.callLater(within, self._timed_out)

    def _timed_out(self) -> None:
        self._timer = None
        self._abort("timeout")

    def connectionMade(self) -> None:
        self._link.connected(self)

    def send(self, beat: Beat) -> None:
        """Send a heartbeat; there must be none in flight."""
        self.beat = beat
        self._expect(self._timeout)
        assert self.transport is not None
        self.transport.write(beat.request)

    def part(self) -> None:
        """Wait only so long for the peer; who owns the connection is closing it."""
        self._expect(_PARTING_SECONDS)

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
        """Note an answer; httptools calls this while it parses."""
        self._answers.append((self._parser.get_status_code(), self._parser.should_keep_alive()))

    def _answered(self, status: int, reusable: bool) -> None:
        if status < 200:
            return  # interim: the real one follows
        if self.beat is None:
            self._abort("not HTTP")  # an answer that nobody asked for
            return
        beat, self.beat = self.beat, None
        self._expect(None)
        self._link.answered(beat, status)
        if reusable:
            self._link.idle()
        else:
            assert self.transport is not None
            self._link.closing()
            self.part()
            self.transport.loseConnection()

    def _abort(self, reason: str) -> None:
        self._reason = self._reason or reason
        transport = self.transport
        assert transport is not None
        self._link.closing()
        transport.abortConnection()  # type: ignore[attr-defined]  # TCP and TLS have it

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._expect(None)
        beat, self.beat = self.beat, None
        ours = "TLS failed" if isinstance(reason.value, SSL.Error) else "connection lost"
        self._link.lost(beat, self._reason or ours)
