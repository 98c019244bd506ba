"""The differences between HSM's table and the tracker, and which of them HSM is told of.

The rules are those of docs/design.md, "HSM's table is compared". They do no I/O: `reconciler.py`
reads the table, waits, and tells HSM.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

from hbtd.formats import xnames
from hbtd.hsm.tellings import Tellings
from hbtd.runtime.logs import escaped
from hbtd.tracker.transitions import Phase, Transition

MOST_DEATHS: Final = 100
"""The most deaths that one comparison tells HSM of, unless an operator has asked for it."""

_LONGEST: Final = 32
"""The most characters that are kept of a state or a flag; HSM's have nine at most."""

_WORDS: Final = {
    Phase.HEALTHY: Transition.STARTED,
    Phase.WARNED: Transition.WARNED,
    Phase.DEAD: Transition.DIED,
}


class Difference(NamedTuple):
    """A component whose state and flag in HSM's table do not fit its phase in the tracker."""

    component: str
    """The component's xname."""
    phase: Phase
    """The phase of the component in the tracker."""
    since: float
    """The Unix time at which the component entered the phase; 0 if not known."""
    said: str
    """The component's state and flag in HSM's table, such as `Standby/Alert`."""

    @property
    def transition(self) -> Transition:
        """The transition that HSM is told to correct its table."""
        return _WORDS[self.phase]


def agrees(phase: Phase, state: str, flag: str) -> bool:
    """Return whether state and flag in HSM's table, in any letter case, fit a component's phase.

    `Off` fits components that are warned or dead: HSM knows why they are silent, and ignores
    updates of them.
    """
    if phase is not Phase.HEALTHY and state.lower() == "off":
        return True
    word = _WORDS[phase]
    return (state.lower(), flag.lower()) == (word.state.lower(), word.flag.lower())


def _word(text: str) -> str:
    """Return a state or a flag as it can be kept, logged and shown, whatever it is."""
    return escaped(text if len(text) <= _LONGEST else text[:_LONGEST] + "...")


class Look:
    """One reading of HSM's table, which compares each row with the tracker."""

    def __init__(
        self, phase: Callable[[str], Phase], since: Callable[[str], float] = lambda _: 0.0
    ) -> None:
        """Begin to read the table.

        `phase` returns the present phase of a component. `since` returns the Unix time at which the
        component entered it, or 0 if that is not known.
        """
        self._phase = phase
        self._since = since
        self._known: set[str] = set()
        self.rows = 0
        """The number of rows that were added."""
        self.differences: dict[str, Difference] = {}
        """The differences found so far, by xname."""

    def add(self, name: str, state: str, flag: str) -> None:
        """Compare a row of HSM's table with the tracker; ignore a component that is not tracked."""
        self.rows += 1
        phase = self._phase(name)
        if phase is Phase.UNKNOWN:
            name = xnames.normalise(name)
            phase = self._phase(name)
            if phase is Phase.UNKNOWN:
                return
        self._known.add(name)
        if not agrees(phase, state, flag):
            said = f"{_word(state)}/{_word(flag)}"
            self.differences[name] = Difference(name, phase, self._since(name), said)

    def missing(self, components: Iterable[str]) -> list[str]:
        """Return those of `components` that have no row in HSM's table."""
        return [each for each in components if each not in self._known]


def confirmed(
    first: Mapping[str, Difference], second: Mapping[str, Difference]
) -> list[Difference]:
    """Return the differences of the second look that the first look had, too.

    The component must be in the same phase in both; its state and flag in HSM's table may have
    changed in between.
    """
    return [
        each
        for each in second.values()
        if each.component in first and first[each.component].phase is each.phase
    ]


class Decision(NamedTuple):
    """What is done about confirmed differences: each difference is in exactly one of the lists."""

    tell: list[Difference]
    """The differences that HSM is told of at once."""
    listen: list[Difference]
    """Differences that HSM is told of once the component was heard twice since the first look."""
    held: list[Difference]
    """Deaths that HSM is not told of without an operator's request, because they are too many."""
    contested: list[Difference]
    """Differences of components that somebody else keeps changing in HSM; they are left alone."""
    unsettled: list[Difference]
    """Differences that are left alone because an update of the component may be on its way."""


def decide(
    differences: Iterable[Difference],
    *,
    settled: Callable[[str], bool],
    tellings: Tellings,
    now: float,
    approved: bool,
) -> Decision:
    """Return what is done about confirmed differences.

    `settled` says whether HSM has acknowledged the latest judgement on a component, and no
    judgement on it waits, is in doubt or is set aside. `tellings` counts how often HSM was told
    again before; `now` is the Unix time. `approved` says whether an operator asked for the
    comparison: then HSM is told of any number of deaths.
    """
    tell: list[Difference] = []
    listen: list[Difference] = []
    deaths: list[Difference] = []
    contested: list[Difference] = []
    unsettled: list[Difference] = []
    for each in differences:
        if not settled(each.component):
            unsettled.append(each)
        elif not tellings.allow(each.component, each.phase, each.since, now):
            contested.append(each)
        elif each.phase is Phase.HEALTHY:
            listen.append(each)
        elif each.phase is Phase.DEAD:
            deaths.append(each)
        else:
            tell.append(each)
    tell += deaths
    decision = Decision(tell, listen, [], contested, unsettled)
    return decision if approved else hold_back(decision)


def hold_back(decision: Decision) -> Decision:
    """Return the same decision, with its deaths held back if they are too many."""
    deaths = [each for each in decision.tell if each.phase is Phase.DEAD]
    if len(deaths) <= MOST_DEATHS:
        return decision
    tell = [each for each in decision.tell if each.phase is not Phase.DEAD]
    return decision._replace(tell=tell, held=[*decision.held, *deaths])
