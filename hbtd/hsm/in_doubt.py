"""Updates that HSM may still do after hbtd has given up on them."""

from collections.abc import Iterable
from typing import NamedTuple

from hbtd.tracker.transitions import Judgement


class _Doubt(NamedTuple):
    until: float
    abandoned: Judgement
    told_since: Judgement | None


class InDoubt:
    """Remembers which components an abandoned update may yet change, and what they were told since.

    HSM goes on working on an update whose sender no longer waits, beside what it is sent next. The
    old one may then be the last to be done. So what was said of its components since is said again
    when it must be over.
    """

    def __init__(self) -> None:
        self._in_doubt: dict[str, _Doubt] = {}

    def abandoned(self, chunk: Iterable[Judgement], until: float) -> None:
        """Note that HSM may do these until then, by the clock of `settled`."""
        for judgement in chunk:
            self._in_doubt[judgement.component] = _Doubt(until, judgement, None)

    def acknowledged(self, chunk: Iterable[Judgement]) -> None:
        """Note that HSM has done these."""
        if not self._in_doubt:
            return
        for judgement in chunk:
            doubt = self._in_doubt.get(judgement.component)
            if doubt is None:
                continue
            if judgement.transition is doubt.abandoned.transition:
                del self._in_doubt[judgement.component]  # done twice it comes to the same
            else:
                self._in_doubt[judgement.component] = doubt._replace(told_since=judgement)

    def settled(self, now: float) -> list[Judgement]:
        """Forget the doubts that are over; gives what has to be said again because of them."""
        over = [xname for xname, doubt in self._in_doubt.items() if doubt.until <= now]
        told = [self._in_doubt.pop(xname).told_since for xname in over]
        return [judgement for judgement in told if judgement is not None]
