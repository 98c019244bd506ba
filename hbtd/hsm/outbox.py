"""The outbox: judgements that have yet to be sent to HSM."""

from collections.abc import Iterable

from hbtd.tracker.transitions import Judgement, Transition


class Outbox:
    """The judgements to send: the latest of each component, by transition, oldest first."""

    def __init__(self) -> None:
        self._latest: dict[str, Judgement] = {}
        # Dicts for their order: those in front have waited the longest.
        self._by_kind: dict[Transition, dict[str, Judgement]] = {kind: {} for kind in Transition}

    def __len__(self) -> int:
        return len(self._latest)

    def __contains__(self, judgement: Judgement) -> bool:
        """Return whether this very judgement waits, not an equal or a later one."""
        return self._latest.get(judgement.component) is judgement

    def put(self, judgement: Judgement) -> None:
        """Add a judgement; it replaces an earlier one on the same component."""
        self._remove(judgement.component)
        self._latest[judgement.component] = judgement
        self._by_kind[judgement.transition][judgement.component] = judgement

    def put_back(self, judgement: Judgement) -> None:
        """Add a judgement made earlier, unless one on the same component waits already."""
        if judgement.component not in self._latest:
            self.put(judgement)

    def discard(self, judgement: Judgement) -> None:
        """Remove a judgement if it waits; a later one on the same component stays."""
        if judgement in self:
            self._remove(judgement.component)

    def withdraw_alarm(self, xname: str) -> None:
        """Remove the judgement on a component if it is a warning or its death."""
        judgement = self._latest.get(xname)
        if judgement is not None and judgement.transition.alarming:
            self._remove(xname)

    def next_kind(self) -> Iterable[Judgement]:
        """Return all judgements of one transition; transitions that have any take turns.

        So a mass death does not delay components that start.
        """
        for kind in list(self._by_kind):
            waiting = self._by_kind.pop(kind)
            self._by_kind[kind] = waiting
            if waiting:
                return waiting.values()
        return ()

    def _remove(self, xname: str) -> None:
        judgement = self._latest.pop(xname, None)
        if judgement is not None:
            del self._by_kind[judgement.transition][xname]
