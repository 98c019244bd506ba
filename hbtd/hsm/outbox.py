"""What HSM has yet to be told."""

from collections.abc import Iterable

from hbtd.tracker.transitions import Judgement, Transition


class Outbox:
    """The judgements to be sent: of each component the latest, by kind, oldest first."""

    def __init__(self) -> None:
        self._latest: dict[str, Judgement] = {}
        # Dicts for their order: those in front have waited the longest.
        self._kinds: dict[Transition, dict[str, Judgement]] = {kind: {} for kind in Transition}

    def __len__(self) -> int:
        return len(self._latest)

    def __contains__(self, judgement: Judgement) -> bool:
        """Whether this very judgement is still to be sent: none has come since."""
        return self._latest.get(judgement.component) is judgement

    def put(self, judgement: Judgement) -> None:
        """Add a judgement, instead of what was to be said of its component before."""
        self._remove(judgement.component)
        self._latest[judgement.component] = judgement
        self._kinds[judgement.transition][judgement.component] = judgement

    def put_back(self, judgement: Judgement) -> None:
        """Add a judgement made earlier, unless there is a later one."""
        if judgement.component not in self._latest:
            self.put(judgement)

    def discard(self, judgement: Judgement) -> None:
        """Take out a judgement that needs no sending any more; a later one stays."""
        if judgement in self:
            self._remove(judgement.component)

    def withdraw_alarm(self, xname: str) -> None:
        """Take out what was to be said of a component if that was a warning or its death."""
        judgement = self._latest.get(xname)
        if judgement is not None and judgement.transition.alarming:
            self._remove(xname)

    def next_kind(self) -> Iterable[Judgement]:
        """Give the judgements of one kind, the kinds that have any taking turns.

        So a mass death does not keep the living waiting.
        """
        for kind in list(self._kinds):
            waiting = self._kinds.pop(kind)
            self._kinds[kind] = waiting
            if waiting:
                return waiting.values()
        return ()

    def _remove(self, xname: str) -> None:
        judgement = self._latest.pop(xname, None)
        if judgement is not None:
            del self._kinds[judgement.transition][xname]
