"""Rounds: requests share the reactor with each other and with whatever else has to be done."""

from collections import deque

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

_MOST = 200
"""Requests that are answered in one round of the reactor; the others wait for the next."""

_SECONDS = 0.02
"""Seconds of a round after which no further request is begun, however few there were.

hbtd counts no silence while it can't hear (docs/design.md); so nobody may keep it from hearing.
"""


class Rounds:
    """Lets requests begin for as long as a round of the reactor may take, one after the other."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._began: float | None = None
        self._left = _MOST
        self._waiting: deque[Deferred[None]] = deque()

    def enter(self) -> Deferred[None] | None:
        """Ask whether a request may begin: `None` if so, else what fires when it may.

        That may be cancelled.
        """
        if not self._waiting and self._room():
            return None
        turn: Deferred[None] = Deferred(self._waiting.remove)
        self._waiting.append(turn)
        return turn

    def _room(self) -> bool:
        """Take a place in this round, if there is one."""
        now = self._clock.seconds()
        if self._began is None:
            self._began, self._left = now, _MOST
            self._clock.callLater(0, self._next)
        self._left -= 1
        return self._left >= 0 and now - self._began < _SECONDS

    def _next(self) -> None:
        self._began = None
        while self._waiting and self._room():
            self._waiting.popleft().callback(None)
