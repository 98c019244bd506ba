"""The outbox: judgements that HSM has yet to acknowledge."""

from collections.abc import Iterable

from hbtd.tracker.transitions import Judgement, Transition


class Outbox:
    """The latest judgements on components, each kept until HSM has acknowledged it.

    Judgements on suspects, which are the components of failed updates, are held back (see `hold`);
    `Quarantine` decides when they are sent.
    """

    def __init__(self) -> None:
        # Dicts keep the order: in each, the judgement in front was added first. Each judgement is
        # in one dict only, since a million may wait.
        self._groups: dict[Transition, dict[str, Judgement]] = {each: {} for each in Transition}
        self._held_back: dict[str, Judgement] = {}
        self._all = (*self._groups.values(), self._held_back)
        self._held: set[str] = set()
        self._renewed: list[str] = []

    def __len__(self) -> int:
        return sum(map(len, self._all))

    def __contains__(self, judgement: Judgement) -> bool:
        """Return whether this very object is in the outbox, not an equal or a later judgement."""
        return self.latest(judgement.component) is judgement

    @property
    def has_free(self) -> bool:
        """Whether the outbox has a judgement that is not held back."""
        return any(self._groups.values())

    def latest(self, xname: str) -> Judgement | None:
        """Return the judgement on a component, `None` if there is none."""
        for judgements in self._all:
            judgement = judgements.get(xname)
            if judgement is not None:
                return judgement
        return None

    def put(self, judgement: Judgement) -> None:
        """Add a judgement; it replaces an earlier judgement on the same component."""
        self._remove(judgement.component)
        if judgement.component in self._held:
            self._held_back[judgement.component] = judgement
            self._renewed.append(judgement.component)
        else:
            self._groups[judgement.transition][judgement.component] = judgement

    def take_renewed(self) -> list[str]:
        """Return the components that got a new judgement while `hold` held them back.

        The list has a component once for each call of `put` with a judgement on it, since the last
        call of this method.
        """
        renewed, self._renewed = self._renewed, []
        return renewed

    def put_back(self, judgement: Judgement) -> None:
        """Add a judgement that was sent before, unless the outbox has one on the same component."""
        if self.latest(judgement.component) is None:
            self.put(judgement)

    def discard(self, judgement: Judgement) -> None:
        """Remove a judgement if it is in the outbox; a later one on the same component stays."""
        if judgement in self:
            self._remove(judgement.component)

    def withdraw_alarm(self, xname: str) -> None:
        """Remove the judgement on a component if it says that the component was warned or died."""
        judgement = self.latest(xname)
        if judgement is not None and judgement.transition.alarming:
            self._remove(xname)

    def hold(self, xname: str) -> None:
        """Exclude a component from the results of `next_group` until `release` is called for it."""
        self._held.add(xname)
        judgement = self._remove(xname)
        if judgement is not None:
            self._held_back[xname] = judgement

    def release(self, xname: str) -> None:
        """End the exclusion of a component by `hold`.

        Its judgement, if any, follows the other judgements of the same transition.
        """
        self._held.discard(xname)
        judgement = self._remove(xname)
        if judgement is not None:
            self.put(judgement)

    def next_group(self) -> Iterable[Judgement]:
        """Return all judgements of one transition, oldest first; empty if there is none.

        Successive calls go through the transitions in turn, so that a mass death does not delay
        components that start. Components for which `hold` was called are left out.
        """
        for transition in list(self._groups):
            waiting = self._groups.pop(transition)
            self._groups[transition] = waiting
            if waiting:
                return waiting.values()
        return ()

    def _remove(self, xname: str) -> Judgement | None:
        """Remove the judgement on a component; return it, or `None` if there is none."""
        for judgements in self._all:
            judgement = judgements.pop(xname, None)
            if judgement is not None:
                return judgement
        return None
