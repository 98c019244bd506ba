"""The summary of the machine: the numbers of components by state, and the mostly silent parts."""

from collections.abc import Callable, Coroutine, Iterable, Sequence
from itertools import islice
from operator import attrgetter
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred

from hbtd.formats.nodesets import fold
from hbtd.formats.times import clock_time, format_time
from hbtd.queries.blast_radius import (
    SilentGroup,
    cabinets,
    count_wholly_silent,
    find_silent_groups,
)
from hbtd.queries.components import Facts
from hbtd.queries.machine import Machine, Silence, Turn
from hbtd.queries.maintenance import MaintenanceCounts
from hbtd.tracker.components import Component
from hbtd.tracker.tracker import Tracker

_MOST_GROUPS = 100
"""The most groups that are listed; the components of further ones count as single ones."""

_MOST_SINGLE = 1000
"""The most silent components in no group that are named."""

_AT_ONCE = 10_000

_MOST_CABINETS = 256
"""The most cabinets that are counted by themselves; the rest are counted together."""


CountMaintenance = Callable[[Turn], Coroutine[Deferred[Any], Any, MaintenanceCounts]]
"""A function that counts what is in maintenance; it awaits its argument between portions."""


class TableFound(NamedTuple):
    """The time of the last comparison with HSM's table, and the numbers of differences found."""

    at: float
    """The Unix time, in seconds, at which the comparison began."""
    wrong: int
    """The number of components whose state or flag in HSM's table was wrong at that time."""
    held: int
    """The number of deaths that HSM is told of only at an operator's request; 0 unless over 100."""
    contested: int
    """The number of components that another client of HSM keeps overwriting in HSM's table."""


class HSMQueue(NamedTuple):
    """The state of updates to HSM: whether updates are sent, and how many wait or have failed."""

    told: bool
    """Whether updates are sent to HSM at all; false while `nosm` is set."""
    ready: bool
    waiting: int
    """The number of judgements that wait to be sent to HSM, including those not committed yet."""
    set_aside: int
    """The number of components that are set aside because their updates fail."""
    table: TableFound | None = None
    """The result of this replica's last comparison with HSM's table; `None` if it has none."""
    absent: int = 0
    """The number of nodes that are up according to HSM's table and were never heard."""


class Summary:
    """Summarises the state of the whole machine, for `GET /summary`."""

    def __init__(
        self,
        tracker: Tracker,
        machine: Machine,
        facts: Facts,
        wall: Callable[[], float],
        hsm: Callable[[], HSMQueue],
        leading: Callable[[], bool],
        leader: Callable[[], str | None],
        replica: str,
        maintenance: CountMaintenance | None = None,
        disruptions: Callable[[], list[dict[str, object]]] = list,
    ) -> None:
        """Make the object; `leading` returns whether this replica, named `replica`, leads.

        `leader` returns the name of the leader, `None` if it is not known. `wall` returns the Unix
        time in seconds, and `hsm` the state of updates to HSM. `maintenance` counts what is in
        maintenance, and `disruptions` returns JSON objects about disrupted failure domains.
        """
        self._tracker = tracker
        self._machine = machine
        self._facts = facts
        self._wall = wall
        self._hsm = hsm
        self._leading = leading
        self._leader = leader
        self._replica = replica
        self._maintenance = maintenance
        self._disruptions = disruptions

    async def summarise(self, turn: Turn) -> dict[str, object]:
        """Return the answer to `GET /summary`: counts, silent groups, and other silent components.

        `turn` is awaited between portions of the work.
        """
        silence = await self._machine.silence(turn)
        groups = (await find_silent_groups(silence, turn))[:_MOST_GROUPS]
        single, more = _in_no_group(silence, groups)
        tracker, hsm, disruptions = self._tracker, self._hsm(), self._disruptions()
        healthy, warned, dead = tracker.healthy, tracker.warned, tracker.dead
        return {
            "At": format_time(self._wall()),
            "Counts": {
                "healthy": healthy,
                "warned": warned,
                "dead": dead,
                "total": healthy + warned + dead,
            },
            "Groups": [await self._show_group(silence, group, turn) for group in groups],
            "Silent": fold(single),
            "More": more,
            "HSM": {
                "Told": hsm.told,
                "Ready": hsm.ready,
                "Waiting": hsm.waiting,
                "SetAside": hsm.set_aside,
                "Table": None if hsm.table is None else _show_table(hsm.table),
                "Absent": hsm.absent,
            },
            "Replica": self._replica,
            "Leader": self._leader(),
            "Leading": self._leading(),
            **(await self._show_maintenance(turn)),
            **({"Disruptions": disruptions} if disruptions else {}),
        }

    async def _show_maintenance(self, turn: Turn) -> dict[str, object]:
        """Return the field `Maintenance`, unless nothing is in maintenance."""
        if self._maintenance is None:
            return {}
        counts = await self._maintenance(turn)
        if not any(counts):
            return {}
        return {
            "Maintenance": {
                "Set": counts.set,
                "Away": counts.away,
                "Components": counts.components,
                "Silent": counts.silent,
                "Warned": counts.warned,
                "Dead": counts.dead,
            }
        }

    async def _show_group(
        self, silence: Silence, group: SilentGroup, turn: Turn
    ) -> dict[str, object]:
        since, told, untold = 0.0, 0.0, 0
        for start in range(group.start, group.end, _AT_ONCE):
            if start > group.start:
                await turn()
            end = min(start + _AT_ONCE, group.end)
            silent = self._tracker.silent(silence.layout.order[start:end])
            if not silent:
                continue
            since = max(since, self._silent_since(silent))
            times = list(map(attrgetter("told"), silent))
            told = max(told, *times)
            untold += times.count(0.0)
        text = f"{group.xname} {group.silent}/{group.total} silent"
        if since:
            text += f" since {clock_time(since, self._wall())}"
        text += self._told_text(told, untold, group.silent)
        return {
            "XName": group.xname,
            "Type": group.type,
            "Silent": group.silent,
            "Total": group.total,
            "Warned": group.warned,
            "Dead": group.dead,
            "Since": format_time(since),
            "Told": None if untold else format_time(told),
            "Text": text,
        }

    def _told_text(self, told: float, untold: int, silent: int) -> str:
        """Return the end of a sentence that says whether HSM was told of `silent` components.

        For `untold` of them, this replica does not know when HSM was told, or whether it was. If
        `untold` is 0, `told` is the Unix time at which HSM was told of the last of them.
        """
        if not untold:
            return f", HSM told {clock_time(told, self._wall())}"
        of = f" of {untold}" if untold < silent else ""
        if self._hsm().waiting:
            return f", HSM not told{of}"
        if self._leading():
            # Nothing waits: an earlier release noted that HSM was told, and not when.
            return f", HSM told, of {untold} not known when" if of else ", HSM told"
        return f", not known here whether HSM was told{of}"

    def _silent_since(self, components: Sequence[Component]) -> float:
        """Return the Unix time from which on all of `components` are silent.

        It is the time of the latest heartbeat from any of them. If none of their heartbeats is
        known, return the time of their latest transition, or 0 if no transition is known, either.
        """
        latest = max(components, key=attrgetter("last_heard"))
        return self._facts.last_heartbeat(latest) or max(map(attrgetter("since"), components))


def _show_table(found: TableFound) -> dict[str, object]:
    return {
        "At": format_time(found.at),
        "Wrong": found.wrong,
        "Held": found.held,
        "Contested": found.contested,
    }


def _in_no_group(silence: Silence, groups: Iterable[SilentGroup]) -> tuple[list[str], int]:
    """Return silent components that are in none of `groups`, and how many more there are.

    At most `_MOST_SINGLE` are returned.
    """
    found: list[int] = []
    count = 0
    for flags in (bytearray(silence.warned), bytearray(silence.dead)):
        for group in groups:
            flags[group.start : group.end] = bytes(group.total)
        count += flags.count(1)
        found += islice(_positions(flags), _MOST_SINGLE)
    found.sort()
    order = silence.layout.order
    return [order[place] for place in found[:_MOST_SINGLE]], max(count - _MOST_SINGLE, 0)


def _positions(flags: bytearray) -> Iterable[int]:
    place = flags.find(1)
    while place >= 0:
        yield place
        place = flags.find(1, place + 1)


class MachineCounts:
    """Counts components by cabinet, and wholly silent parts of the machine, for metrics."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.cabinets: dict[str, dict[str, int]] = {}
        """The numbers of components by cabinet and state, as of the last `update`.

        At most 256 cabinets, those with the most silent components, have their own numbers. All
        other components, including those outside of cabinets, are counted together as `other`.
        """
        self.silent_groups: dict[str, int] = {}
        """The numbers of wholly silent parts of the machine by type, as of the last `update`.

        Components in maintenance do not count as silent: their silence is no alarm.
        """

    async def update(self, turn: Turn) -> None:
        """Bring the counts up to date; `turn` is awaited between portions of the work."""
        silence = await self._machine.silence(turn)
        alarming = await self._machine.alarming(silence, turn)
        self.silent_groups = await count_wholly_silent(alarming, turn)
        everything = sorted(cabinets(silence), key=lambda each: (-each.silent, each.start))
        counted = everything[:_MOST_CABINETS]
        counted.sort(key=attrgetter("start"))
        self.cabinets = {
            each.xname: _by_state(each.total, each.warned, each.dead) for each in counted
        }
        warned, dead = silence.counts(0, len(silence.layout.order))
        total = len(silence.layout.order) - sum(each.total for each in counted)
        if total:
            self.cabinets["other"] = _by_state(
                total,
                warned - sum(each.warned for each in counted),
                dead - sum(each.dead for each in counted),
            )


def _by_state(total: int, warned: int, dead: int) -> dict[str, int]:
    return {"healthy": total - warned - dead, "warned": warned, "dead": dead}
