"""The scheduler, which bounds the work that clients cause in one iteration of the reactor.

hbtd does not count the silence of components while it can't receive heartbeats (docs/design.md), as
during a long iteration of the reactor. So no client may make an iteration long. A heartbeat in the
fast lane takes only a few microseconds, and is processed at once. A step of a TLS handshake, and a
request in the ordinary lane, take longer, and need a *turn*. An iteration has at most 200 turns,
and none later than 20 ms after the first. Connections that get no turn wait for a later iteration,
and get their turns in the order of a `FairQueue`.

A connection on which a heartbeat was accepted in the last `Errtime` seconds is *proven*. In each
iteration, the first half of the turns is for proven connections only. The second half, and what
proven connections leave of the first, is for all connections. So half of the turns stay available
to proven connections, no matter how many other clients connect, and from how many addresses.
"""

from collections.abc import Callable
from math import inf
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from hbtd.server.fair_queue import FairQueue
from hbtd.server.not_heard import NotHeard

_log = Logger()

_MOST = 200
"""The most turns in one iteration of the reactor."""

_SECONDS = 0.02
"""Seconds after the first turn of an iteration after which there are no more."""

_PROVEN_FIRST = 0.5
"""The share of the turns in an iteration that proven connections get before all others."""

LONG_WAIT = 0.5
"""The longest time, in seconds, for which a connection may wait for its turn without consequences.

If a connection waits longer, its client's heartbeats may be unread; so hbtd delays judgements on
components that were last heard from the client's IP address.
"""


_TOO_LONG = 1.5
"""Seconds of waiting for a turn after which a client is likely to give up soon."""


class Waiting(Protocol):
    """A connection that waits for its turn."""

    host: str | None

    @property
    def proven(self) -> bool:
        """Whether a heartbeat was accepted on the connection in the last `Errtime` seconds."""

    def give_up(self) -> None:
        """Drop the connection if its TLS handshake is not complete; otherwise do nothing.

        The scheduler calls this before `take_turn` if the connection has waited for more than 1.5
        seconds. After such a wait, the client is likely to hang up soon, and the rest of the
        handshake would be in vain.
        """

    def take_turn(self) -> None:
        """Do the next step of this connection's work; do nothing if there is no work left."""


class _Turn:
    """An entry in a scheduler's queue; the Deferred `given` fires at its turn."""

    def __init__(self, host: str | None, proven: bool) -> None:
        self.host = host
        self.proven = proven
        self.given: Deferred[None] = Deferred()

    def give_up(self) -> None:
        pass

    def take_turn(self) -> None:
        if not self.given.called:
            self.given.callback(None)


class _Iterations:
    """Counts the iterations of a reactor that has no counter of its own."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._count = 0
        self._in_one = False

    @property
    def iterations(self) -> int:
        """The number of the current iteration, from 0.

        Only iterations in which this property is read are counted.
        """
        if not self._in_one:
            self._in_one = True
            self._clock.callLater(0, self._end)
        return self._count

    def _end(self) -> None:
        self._in_one = False
        self._count += 1


class Scheduler:
    """The scheduler of a factory's connections: it decides when work on each of them may begin."""

    def __init__(self, clock: Any, errtime: Callable[[], float] = lambda: inf) -> None:
        """Make a scheduler without connections.

        `clock` is a `MonotonicReactor`, or another `IReactorTime`. `errtime` returns the
        value of `Errtime`, in seconds. A connection is proven for this time after a heartbeat on
        it. For the same time after a client was refused or gave up waiting, `waiting_long` returns
        the client's IP address.
        """
        self.errtime = errtime
        """A function that returns for how many seconds a heartbeat makes a connection proven."""
        self._clock: IReactorTime = clock
        self._reactor = clock if hasattr(clock, "iterations") else _Iterations(clock)
        self._not_heard = NotHeard()
        self._began = 0.0
        self._iteration = -1
        self._left = _MOST
        self._proven: FairQueue[Waiting] = FairQueue()
        self._strangers: FairQueue[Waiting] = FairQueue()
        self._giving_turns = False

    @property
    def over(self) -> bool:
        """Whether this iteration of the reactor has no more turns to give."""
        return self._used(1)

    def enter(self) -> bool:
        """Take a turn in this iteration of the reactor; return `False` if no turn was left."""
        if self._iteration != self._reactor.iterations:
            self._begin()
        if self.over:
            return False
        self._left -= 1
        return True

    def wait(self, waiting: Waiting) -> None:
        """Queue a connection; it gets its turn in one of the next iterations of the reactor."""
        queue = self._proven if waiting.proven else self._strangers
        queue.append(waiting.host, waiting, self._clock.seconds())
        self._see_to_turns()

    def not_heard(self, host: str | None) -> None:
        """Record that a client at the IP address `host` was refused, or gave up while it waited.

        From now on, `waiting_long` returns this address, for `errtime()` seconds. `host` is `None`
        for a client on a Unix socket.
        """
        self._not_heard.note(host, self._clock.seconds())

    def not_heard_count(self) -> int:
        """Return for how many addresses `not_heard` was called in the last `errtime()` seconds."""
        return self._not_heard.count(self._clock.seconds() - self.errtime())

    def turn(self, host: str | None, *, proven: bool) -> Deferred[None]:
        """Return a Deferred that fires when a client gets its next turn.

        `host` is the client's IP address; `proven` says whether its connection is proven.
        """
        turn = _Turn(host, proven)
        self.wait(turn)
        return turn.given

    def longest_wait(self) -> float:
        """Return the seconds that the connection waiting longest has waited; 0 if none waits."""
        since = [queue.longest_since() for queue in (self._proven, self._strangers)]
        return max((self._clock.seconds() - at for at in since if at is not None), default=0.0)

    def waiting_long(self) -> set[str | None]:
        """Return the IP addresses of clients whose heartbeats hbtd may not have read yet.

        These are the addresses of connections that have been waiting for a turn for more than half
        a second, and of clients that were refused or gave up waiting in the last `errtime()`
        seconds. `None` stands for all clients on Unix sockets.
        """
        now = self._clock.seconds()
        waiting = self._not_heard.since(now - self.errtime())
        for queue in (self._proven, self._strangers):
            waiting.update(queue.waiting_since(now - LONG_WAIT))
        return waiting

    def _used(self, share: float) -> bool:
        """Return whether a share, from 0 to 1, of the turns in this iteration has been used up."""
        return self._iteration == self._reactor.iterations and (
            self._left <= _MOST * (1 - share)
            or self._clock.seconds() - self._began >= _SECONDS * share
        )

    def _begin(self) -> None:
        self._iteration = self._reactor.iterations
        self._began, self._left = self._clock.seconds(), _MOST

    def _see_to_turns(self) -> None:
        if not self._giving_turns and (self._proven or self._strangers):
            self._giving_turns = True
            self._clock.callLater(0, self._give_turns)

    def _give_turns(self) -> None:
        # Those that wait come before what arrives in this iteration, or they would wait forever.
        self._giving_turns = False
        self._begin()
        # Those that come back to a queue in their turn wait for the next iteration.
        proven, strangers = len(self._proven), len(self._strangers)
        proven -= self._give(self._proven, proven, _PROVEN_FIRST)
        self._give(self._strangers, strangers, 1)
        self._give(self._proven, proven, 1)
        self._see_to_turns()

    def _give(self, queue: FairQueue[Waiting], most: int, share: float) -> int:
        """Give at most `most` connections of a queue a turn; return how many got one.

        Stop once `share`, from 0 to 1, of the turns in this iteration has been used up.
        """
        given = 0
        while given < most and not self._used(share):
            waiting, since = queue.pop()
            given += 1
            try:
                if self._clock.seconds() - since > _TOO_LONG:
                    waiting.give_up()
                waiting.take_turn()
            except Exception:  # noqa: BLE001  # the others go on
                _log.failure(
                    "Work on a connection failed because of a bug in hbtd; other connections are"
                    " served as before."
                )
        return given
