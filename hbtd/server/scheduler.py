"""The scheduler of the ordinary lane, which bounds the work of one iteration of the reactor.

During a long iteration of the reactor hbtd is deaf: it can't receive heartbeats, and does not count
silence (docs/design.md). So clients must not be able to make an iteration long. Requests for which
there is no time left wait for a later iteration, in the order in which their connections began to
wait.
"""

from collections import deque
from typing import Protocol

from twisted.internet.interfaces import IReactorTime

_MOST = 200
"""The most requests, or pieces of requests, that are processed in one iteration."""

_SECONDS = 0.02
"""Seconds from the first request of an iteration until no further request is begun."""

_TURNS = 32
"""The most waiting connections that get their turn in one iteration."""


class Waiting(Protocol):
    """A connection that waits for its turn."""

    def take_turn(self) -> None:
        """Process the data that have arrived."""


class Scheduler:
    """Decides when the requests of a factory's connections enter the ordinary lane."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._began: float | None = None
        self._left = _MOST
        self._waiting: deque[Waiting] = deque()
        self._giving_turns = False

    @property
    def over(self) -> bool:
        """Whether no more requests may be begun in this iteration."""
        if self._began is None:
            return False
        return self._left <= 0 or self._clock.seconds() - self._began >= _SECONDS

    def enter(self) -> bool:
        """Return whether a request, or its next piece, may be processed now; if so, count it."""
        if self._began is None:
            self._began, self._left = self._clock.seconds(), _MOST
            self._clock.callLater(0, self._begin_round)
        if self.over:
            return False
        self._left -= 1
        return True

    def wait(self, waiting: Waiting) -> None:
        """Queue a connection; it gets its turn in one of the next iterations of the reactor."""
        self._waiting.append(waiting)
        self._see_to_turns()

    def _begin_round(self) -> None:
        self._began = None

    def _see_to_turns(self) -> None:
        if self._waiting and not self._giving_turns:
            self._giving_turns = True
            self._clock.callLater(0, self._give_turns)

    def _give_turns(self) -> None:
        self._giving_turns = False
        self._begin_round()  # for waiting connections first: others could use up every iteration
        for _ in range(min(_TURNS, len(self._waiting))):
            if self.over:
                break
            self._waiting.popleft().take_turn()
        self._see_to_turns()
