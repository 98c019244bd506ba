"""Where HSM's table differs from the tracker, and what follows from that.

The rules are those of docs/design.md, "HSM's table is compared". All of them are functions of what
was read and known; `reconciler.py` reads, waits and tells.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

from hbtd.formats import xnames
from hbtd.hsm.tellings import Tellings
from hbtd.runtime.logs import escaped
from hbtd.tracker.transitions import Phase, Transition

MOST_DEATHS: Final = 100
"""The most components that one comparison tells HSM are dead, unless an operator asks for it."""

_LONGEST: Final = 32
"""The most characters that are kept of a state or a flag; HSM's have nine at most."""

_WORDS: Final = {
    Phase.HEALTHY: Transition.STARTED,
    Phase.WARNED: Transition.WARNED,
    Phase.DEAD: Transition.DIED,
}


class Difference(NamedTuple):
    """A component of which HSM's table says something else than the tracker."""

    component: str
    """The xname."""
    phase: Phase
    """The phase of the component in the tracker."""
    since: float
    """When it entered that phase: the Unix time, 0 if not known."""
    said: str
    """State and flag in HSM's table, such as `Standby/Alert`."""

    @property
    def transition(self) -> Transition:
        """What HSM is told if the difference is to be put right."""
        return _WORDS[self.phase]


def agrees(phase: Phase, state: str, flag: str) -> bool:
    """Return whether state and flag in HSM's table, in any case, fit the phase of a component.

    `Off` fits components that are silent: HSM knows why, and ignores what it is told of them.
    """
    if phase is not Phase.HEALTHY and state.lower() == "off":
        return True
    word = _WORDS[phase]
    return (state.lower(), flag.lower()) == (word.state.lower(), word.flag.lower())


def _word(text: str) -> str:
    """Return a state or a flag as it can be kept, logged and shown, whatever it is."""
    return escaped(text if len(text) <= _LONGEST else text[:_LONGEST] + "...")


class Look:
    """One reading of HSM's table, which is compared with the tracker row by row."""

    def __init__(
        self, phase: Callable[[str], Phase], since: Callable[[str], float] = lambda _: 0.0
    ) -> None:
        """Begin a look.

        `phase` returns the present phase of a component, and `since` the Unix time at which it was
        entered, 0 if that is not known.
        """
        self._phase = phase
        self._since = since
        self._known: set[str] = set()
        self.rows = 0
        """How many rows were read."""
        self.differences: dict[str, Difference] = {}
        """The differences that were found, by component."""

    def add(self, name: str, state: str, flag: str) -> None:
        """Compare a row; one of a component that is not tracked is ignored."""
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
        """Return those of some components of which HSM's table has no row."""
        return [each for each in components if each not in self._known]


def confirmed(
    first: Mapping[str, Difference], second: Mapping[str, Difference]
) -> list[Difference]:
    """Return the differences that two looks have shown alike, as the second one has.

    What HSM's table says may have changed in between, but not the phase of the component.
    """
    return [
        each
        for each in second.values()
        if each.component in first and first[each.component].phase is each.phase
    ]


class Decision(NamedTuple):
    """What is done about confirmed differences; each of them is in one of the lists."""

    tell: list[Difference]
    """HSM is told at once."""
    listen: list[Difference]
    """HSM is told once the component was heard twice since the first look."""
    held: list[Difference]
    """Too many deaths to tell without being asked to."""
    contested: list[Difference]
    """Somebody else says something else of these, again and again; they are left alone."""
    unsettled: list[Difference]
    """HSM is being told of them anyway, or may be; they are left alone."""


def decide(
    differences: Iterable[Difference],
    *,
    settled: Callable[[str], bool],
    tellings: Tellings,
    now: float,
    approved: bool,
) -> Decision:
    """Return what is done about confirmed differences.

    `settled` says whether HSM has acknowledged the latest judgement on a component, and nothing
    about it waits, is in doubt or is set aside. `tellings` are those before, `now` is the Unix
    time. `approved` says whether an operator has asked for it: then deaths are told, however many.
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
    """Return a decision by which too many deaths are not told."""
    deaths = [each for each in decision.tell if each.phase is Phase.DEAD]
    if len(deaths) <= MOST_DEATHS:
        return decision
    tell = [each for each in decision.tell if each.phase is not Phase.DEAD]
    return decision._replace(tell=tell, held=[*decision.held, *deaths])
