"""Updates that HSM may still carry out after hbtd has abandoned them."""

from collections.abc import Iterable
from typing import NamedTuple

from hbtd.tracker.transitions import Judgement


class _Doubt(NamedTuple):
    until: float
    abandoned: Judgement
    sent_since: Judgement | None


class InDoubt:
    """The components that an abandoned update may still change, and what they were sent since.

    HSM goes on with an update whose client has timed out, concurrently with later ones, so the
    abandoned update may be the last to take effect. Whatever HSM has acknowledged of its
    components since is therefore sent again once the abandoned update must have finished.
    """

    def __init__(self) -> None:
        self._in_doubt: dict[str, _Doubt] = {}

    def abandoned(self, batch: Iterable[Judgement], until: float) -> None:
        """Note that HSM may carry out this batch until a time, on the clock of `settled`."""
        for judgement in batch:
            self._in_doubt[judgement.component] = _Doubt(until, judgement, None)

    def acknowledged(self, batch: Iterable[Judgement]) -> None:
        """Note that HSM has acknowledged this batch."""
        if not self._in_doubt:
            return
        for judgement in batch:
            doubt = self._in_doubt.get(judgement.component)
            if doubt is None:
                continue
            if judgement.transition is doubt.abandoned.transition:
                del self._in_doubt[judgement.component]  # applied twice, it has the same result
            else:
                self._in_doubt[judgement.component] = doubt._replace(sent_since=judgement)

    def settled(self, now: float) -> list[Judgement]:
        """Remove the doubts that are over; return the judgements to send again because of them."""
        over = [xname for xname, doubt in self._in_doubt.items() if doubt.until <= now]
        sent = [self._in_doubt.pop(xname).sent_since for xname in over]
        return [judgement for judgement in sent if judgement is not None]
