"""The differences between HSM's table and the tracker, and which of them HSM is told of.

The rules are those of docs/design.md, "HSM's table is compared". This module does no I/O:
`reconciler.py` reads the table, waits, and tells HSM.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Final, NamedTuple

from hbtd.formats import xnames
from hbtd.hsm.tellings import Tellings
from hbtd.runtime.logs import escaped
from hbtd.tracker.transitions import Phase, Transition

MOST_DEATHS: Final = 100
"""The maximum number of deaths that HSM is told of after a comparison.

If an operator requested the comparison, HSM is told of any number of deaths.
"""

_LONGEST: Final = 32
"""The most characters that are kept of a state or a flag; HSM's have nine at most."""

_WORDS: Final = {
    Phase.HEALTHY: Transition.STARTED,
    Phase.WARNED: Transition.WARNED,
    Phase.DEAD: Transition.DIED,
}

_PHASES: Final = {each.value: each for each in Phase}


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
        """The transition that is sent to HSM, so that HSM corrects its table."""
        return _WORDS[self.phase]


class Differences:
    """A collection of differences, at most one for each component.

    The differences are kept in a dictionary of texts, which the garbage collector does not visit.
    If it had to visit 100,000 objects, it would block the reactor for a tenth of a second, and so
    would several such dictionaries that grow at the same time.
    """

    def __init__(self, differences: Iterable[Difference] = ()) -> None:
        """Make a collection of `differences`; by default it is empty."""
        # By component: its phase, the time, and what the table says, with spaces between.
        self._texts: dict[str, str] = {}
        for each in differences:
            self.add(each)

    def add(self, difference: Difference) -> None:
        """Add a difference; it replaces an earlier one of the same component."""
        xname, phase, since, said = difference
        self._texts[xname] = f"{phase.value} {since!r} {said}"

    def update(self, more: "Differences") -> None:
        """Add the differences in another collection; they replace those of the same components."""
        self._texts.update(more._texts)

    def copy(self) -> "Differences":
        """Return another collection of the same differences."""
        other = Differences()
        other._texts = self._texts.copy()
        return other

    def get(self, xname: str) -> Difference | None:
        """Return the difference of a component; `None` if it has none."""
        text = self._texts.get(xname)
        return None if text is None else _difference(xname, text)

    def pop(self, xname: str) -> Difference | None:
        """Remove and return the difference of a component; `None` if it has none."""
        text = self._texts.pop(xname, None)
        return None if text is None else _difference(xname, text)

    def of(self, components: Iterable[str]) -> list[Difference]:
        """Return the differences of `components`; a component without a difference is left out."""
        return [each for each in map(self.get, components) if each is not None]

    def components(self, most: int | None = None) -> list[str]:
        """Return the xnames of the components that have a difference; at most `most`, if given."""
        return list(islice(self._texts, most))

    def __contains__(self, xname: object) -> bool:
        return xname in self._texts

    def __len__(self) -> int:
        return len(self._texts)

    def __iter__(self) -> Iterator[Difference]:
        return (_difference(xname, text) for xname, text in self._texts.items())


def _difference(xname: str, text: str) -> Difference:
    """Return a difference from the text in which `Differences` keeps it."""
    phase, since, said = text.split(" ", 2)
    return Difference(xname, _PHASES[phase], float(since), said)


def agrees(phase: Phase, state: str, flag: str) -> bool:
    """Return whether a component's state and flag in HSM's table fit its phase in the tracker.

    Upper and lower case make no difference. The state `Off` fits components that are warned or
    dead: HSM knows why they are silent, and ignores updates of them.
    """
    if phase is not Phase.HEALTHY and state.lower() == "off":
        return True
    word = _WORDS[phase]
    return (state.lower(), flag.lower()) == (word.state.lower(), word.flag.lower())


def _word(text: str) -> str:
    """Return a state or a flag as it can be kept, logged and shown, whatever it is."""
    return escaped(text if len(text) <= _LONGEST else text[:_LONGEST] + "...")


class Look:
    """One reading of HSM's table, in which each row is compared with the tracker."""

    def __init__(
        self, phase: Callable[[str], Phase], since: Callable[[str], float] = lambda _: 0.0
    ) -> None:
        """Make a look without rows; `add` is to be called with each row of HSM's table.

        `phase` returns the current phase of a component in the tracker. `since` returns the Unix
        time at which the component entered that phase, or 0 if the time is not known.
        """
        self._phase = phase
        self._since = since
        # Those without a difference. Not a set, which the garbage collector would go through.
        self._right: dict[str, None] = {}
        self.rows = 0
        """The number of rows for which `add` was called."""
        self.differences = Differences()
        """The differences between the rows added so far and the tracker."""

    def add(self, name: str, state: str, flag: str) -> None:
        """Compare a row of HSM's table with the tracker; ignore a component that is not tracked.

        `name`, `state` and `flag` are the fields of the row.
        """
        self.rows += 1
        phase = self._phase(name)
        if phase is Phase.UNKNOWN:
            name = xnames.normalise(name)
            phase = self._phase(name)
            if phase is Phase.UNKNOWN:
                return
        if agrees(phase, state, flag):
            self._right[name] = None
        else:
            said = f"{_word(state)}/{_word(flag)}"
            self.differences.add(Difference(name, phase, self._since(name), said))

    def missing(self, components: Iterable[str]) -> list[str]:
        """Return those of `components` that have no row in HSM's table."""
        return [
            each for each in components if each not in self._right and each not in self.differences
        ]


def confirmed(first: Differences, second: Iterable[Difference]) -> list[Difference]:
    """Return the elements of `second` whose component has a difference in `first`, too.

    `first` and `second` are the differences found in two readings of HSM's table. A component must
    have been in the same phase in the tracker both times, but its state and flag in HSM's table may
    have changed in between.
    """
    return [
        each
        for each in second
        if (before := first.get(each.component)) is not None and before.phase is each.phase
    ]


class Decision(NamedTuple):
    """The confirmed differences, divided into fields by what is done about them.

    Each difference is in exactly one of the fields.
    """

    warnings: Differences
    """Differences of components that are warned in the tracker; HSM is told of them at once."""
    deaths: Differences
    """Differences of components that are dead in the tracker; HSM is told of them at once."""
    listen: Differences
    """Differences that HSM is told of once the component has sent two more heartbeats."""
    held: Differences
    """Differences of dead components, if there are too many: more than `MOST_DEATHS` (100).

    HSM is told of them only at an operator's request.
    """
    contested: Differences
    """Differences that HSM is not told of, because another writer keeps changing HSM's table."""
    unsettled: Differences
    """Differences that HSM is not told of now, because `settled` (see `decide`) returned false."""


def decide(
    differences: Iterable[Difference],
    *,
    settled: Callable[[str], bool],
    tellings: Tellings,
    now: float,
    approved: bool,
) -> Decision:
    """Decide what is done about confirmed differences; return the decision.

    `settled` is called with an xname. It returns true if HSM has acknowledged the latest judgement
    on the component, and no judgement on the component waits, is in doubt or is set aside; it may
    also return false because the tracker's phase of the component is not certain yet. `tellings`
    counts how often HSM was told again before; `now` is the Unix time. `approved` says whether an
    operator requested the comparison: then HSM is told of any number of deaths.
    """
    found = Decision(*(Differences() for _ in Decision._fields))
    for each in differences:
        if not settled(each.component):
            found.unsettled.add(each)
        elif not tellings.allow(each.component, each.phase, each.since, now):
            found.contested.add(each)
        elif each.phase is Phase.HEALTHY:
            found.listen.add(each)
        elif each.phase is Phase.DEAD:
            found.deaths.add(each)
        else:
            found.warnings.add(each)
    return found if approved else hold_back(found)


def hold_back(decision: Decision) -> Decision:
    """Return `decision`; if `deaths` has more than `MOST_DEATHS` differences, move all to `held`.

    HSM is told of the differences in `held` only at an operator's request.
    """
    if len(decision.deaths) <= MOST_DEATHS:
        return decision
    return decision._replace(deaths=Differences(), held=decision.deaths)
