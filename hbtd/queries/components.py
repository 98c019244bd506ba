"""Descriptions of single components, and queries for components."""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Container, Sequence
from math import isfinite
from typing import NamedTuple

from hbtd.formats.nodesets import natural_key, within
from hbtd.formats.times import format_time
from hbtd.formats.xnames import type_of_valid
from hbtd.hsm.standing import Standing
from hbtd.queries.flapping import FlapWatch
from hbtd.queries.machine import Machine, Turn, sort_names
from hbtd.tracker.components import Component
from hbtd.tracker.observed import ObservedClock
from hbtd.tracker.tracker import Tracker
from hbtd.tracker.transitions import Phase

_AT_ONCE = 1000
"""The most components that are looked at before others have their turns: a millisecond's worth."""

_FEW = 5000
"""The most silent components that are sorted for themselves, without all others."""

_WHOLE_MACHINE = frozenset({"s0", "all"})


class Selection(NamedTuple):
    """The conditions of a query, which selects the components that meet all of them."""

    states: frozenset[Phase] | None = None
    """The states of the components; `None` for any."""
    maintenance: bool = False
    """Whether components in maintenance are selected, too, whatever their states."""
    types: frozenset[str] | None = None
    """The types of the components, such as `Node`; `None` for any."""
    under: str = ""
    """The part of the machine that contains the components, as an xname; empty for all parts."""
    names: Collection[str] | None = None
    """The xnames of the components, without duplicates; `None` for any."""
    after: str = ""
    """Only components that come after this xname in natural order are selected; empty for all."""
    flapping: bool | None = None
    """Whether the components are marked as flapping; `None` for both kinds."""


_MAPPED = "::ffff:"
"""How an IPv4 address begins on a socket that takes connections of IPv6, too."""


class Facts:
    """Describes tracked components.

    The tracker has the times of heartbeats in observed seconds; this class converts them to real
    times.
    """

    def __init__(
        self,
        tracker: Tracker,
        observed: ObservedClock,
        wall: Callable[[], float],
        standing: Callable[[str], Standing],
        maintenance: Callable[[str], dict[str, object] | None] = lambda _: None,
        flapping: Container[str] = (),
        guard: Callable[[str], dict[str, object] | None] = lambda _: None,
    ) -> None:
        """Make the object; `wall` returns the Unix time in seconds.

        `standing` takes an xname, and returns whether HSM was told of the component's latest
        transition. `maintenance` takes an xname, and returns the API's object about the maintenance
        that the component is in, `None` if it is in none. `flapping` has the components that
        are marked as flapping. `guard` returns a description of
        the disruption that explains a component's silence, or `None` if there is none.
        """
        self._tracker = tracker
        self._observed = observed
        self._wall = wall
        self._standing = standing
        self._maintenance = maintenance
        self._flapping = flapping
        self._guard = guard

    def age(self, component: Component) -> float | None:
        """Return the real seconds since a component was last heard from; `None` if not known.

        Time that the observed clock has not counted is included.
        """
        if not isfinite(component.last_heard):
            return None
        return max(self._observed.seconds_ago(component.last_heard), 0.0)

    def at(self, observed: float) -> float:
        """Return the Unix time, in seconds, at which the observed time was `observed`."""
        return self._wall() - max(self._observed.seconds_ago(observed), 0.0)

    def last_heartbeat(self, component: Component) -> float:
        """Return the Unix time, in seconds, of a component's last heartbeat; 0 if not known."""
        age = self.age(component)
        return 0.0 if age is None else self._wall() - age

    def describe(self, xname: str) -> dict[str, object] | None:
        """Return the API's JSON object about a component; `None` if it is not tracked."""
        component = self._tracker.component(xname)
        if component is None:
            return None
        age = self.age(component)
        told, maintenance = self._standing(xname), self._maintenance(xname)
        disruption = self._guard(xname)
        return {
            "XName": xname,
            "Type": type_of_valid(xname),
            "State": self._tracker.phase(xname).value,
            "Flapping": xname in self._flapping,
            "Since": format_time(component.since),
            "LastHeartbeat": None if age is None else format_time(self._wall() - age),
            "Age": None if age is None else round(age, 3),
            "Timestamp": component.timestamp,
            "Status": component.status,
            "Source": (component.source or "").removeprefix(_MAPPED) or None,
            "Hostname": component.hostname,
            "NID": component.nid,
            "HSM": {"State": told.told.value, "At": format_time(told.at), "Reason": told.reason},
            **({} if maintenance is None else {"Maintenance": maintenance}),
            **({} if disruption is None else {"Disruption": disruption}),
        }


async def select(
    tracker: Tracker,
    machine: Machine,
    marks: FlapWatch,
    selection: Selection,
    most: int,
    turn: Turn,
) -> tuple[list[str], str | None]:
    """Return the xnames of the first `most` of the selected components, in natural order.

    Also return the xname after which to continue; `None` if there are no more. `marks` says which
    components are flapping. `turn` is awaited between portions of the work.
    """
    candidates = await _candidates(tracker, machine, marks, selection, turn)
    start = bisect_right(candidates, natural_key(selection.after), key=natural_key)
    under = "" if selection.under in _WHOLE_MACHINE else selection.under
    if under:
        start = max(start, bisect_left(candidates, natural_key(under), key=natural_key))
    found: list[str] = []
    for begin in range(start, len(candidates), _AT_ONCE):
        if begin > start:
            await turn()
        for xname in candidates[begin : begin + _AT_ONCE]:
            if under and not within(xname, under):
                return found, None
            if not _fits(tracker, selection, xname):
                continue
            if selection.flapping is not None and (xname in marks) is not selection.flapping:
                continue
            if len(found) == most:
                return found, found[-1]
            found.append(xname)
    return found, None


def _fits(tracker: Tracker, selection: Selection, xname: str) -> bool:
    phase = tracker.phase(xname)
    if phase is Phase.UNKNOWN:
        return False
    spared = selection.maintenance and tracker.is_spared(xname)
    if selection.states is not None and phase not in selection.states and not spared:
        return False
    return selection.types is None or type_of_valid(xname) in selection.types


async def _candidates(
    tracker: Tracker, machine: Machine, marks: FlapWatch, selection: Selection, turn: Turn
) -> Sequence[str]:
    """Return components in natural order, among them all that `selection` selects.

    `turn` is awaited between portions of the work.
    """
    if selection.names is not None:
        return await sort_names(selection.names, turn)
    if selection.flapping:
        return await sort_names(marks.marked(), turn)
    silent = selection.states is not None and Phase.HEALTHY not in selection.states
    if silent and not selection.maintenance and tracker.warned + tracker.dead <= _FEW:
        return await sort_names(tracker.silent_components(), turn)
    return await machine.order(turn)
