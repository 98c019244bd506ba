"""Scheduler: the ordinary lane shares the reactor with whatever else has to be done."""

from twisted.internet.interfaces import IReactorTime

_MOST = 200
"""Requests that are looked at in one round of the reactor; the others wait for the next."""

_SECONDS = 0.02
"""Seconds of a round after which no further request is looked at, however few there were.

hbtd counts no silence while it can't hear (docs/design.md); so nobody may keep it from hearing.
"""


class Scheduler:
    """Lets requests be looked at for as long as a round of the reactor may take."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._began: float | None = None
        self._left = _MOST

    @property
    def over(self) -> bool:
        """Whether nothing more may be looked at in this round."""
        if self._began is None:
            return False
        return self._left <= 0 or self._clock.seconds() - self._began >= _SECONDS

    def enter(self) -> bool:
        """Ask whether a request, or the next piece of one, may be looked at in this round."""
        if self._began is None:
            self._began, self._left = self._clock.seconds(), _MOST
            self._clock.callLater(0, self.begin)
        if self.over:
            return False
        self._left -= 1
        return True

    def begin(self) -> None:
        """Begin another round."""
        self._began = None
