"""Updates that HSM may still carry out after hbtd has abandoned them."""

from collections.abc import Iterable
from typing import NamedTuple

from hbtd.tracker.transitions import Judgement


class _Doubt(NamedTuple):
    """A component that HSM may still change because of an abandoned update."""

    until: float
    """When HSM must have finished the abandoned update."""

    abandoned: Judgement
    """The component's judgement in that update."""

    sent_since: Judgement | None
    """The last judgement with another transition that HSM has acknowledged since, if any."""


class InDoubt:
    """Components that abandoned updates may still change, and judgements sent on them since.

    HSM continues an update whose client has timed out, concurrently with later updates, so the
    abandoned update may be the last to take effect. Later judgements on its components are
    therefore sent again once HSM must have finished the abandoned update.
    """

    def __init__(self) -> None:
        self._in_doubt: dict[str, _Doubt] = {}

    def abandoned(self, batch: Iterable[Judgement], until: float) -> None:
        """Note that a batch was abandoned, but may still take effect.

        `until` is when HSM must have finished it, in seconds of the clock that `settled` is given.
        """
        for judgement in batch:
            self._in_doubt[judgement.component] = _Doubt(until, judgement, None)

    def acknowledged(self, batch: Iterable[Judgement]) -> None:
        """Note that HSM has acknowledged a batch, which an abandoned one may yet undo."""
        if not self._in_doubt:
            return
        for judgement in batch:
            doubt = self._in_doubt.get(judgement.component)
            if doubt is None:
                continue
            if judgement.transition is doubt.abandoned.transition:
                del self._in_doubt[judgement.component]  # the same update twice has the same result
            else:
                self._in_doubt[judgement.component] = doubt._replace(sent_since=judgement)

    def settled(self, now: float) -> list[Judgement]:
        """Remove the updates that HSM must have finished; return the judgements to send again."""
        over = [xname for xname, doubt in self._in_doubt.items() if doubt.until <= now]
        sent = [self._in_doubt.pop(xname).sent_since for xname in over]
        return [judgement for judgement in sent if judgement is not None]
