"""Descriptions of maintenances, and of the components that are in them."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from hbtd.config.live_params import LiveParams
from hbtd.formats.nodesets import natural_key, pieces
from hbtd.formats.times import format_time
from hbtd.queries.machine import Turn, sort_names
from hbtd.rules.in_force import Entry
from hbtd.rules.maintaining import components
from hbtd.rules.maintenances import Maintenances
from hbtd.tracker.components import Component
from hbtd.tracker.tracker import Tracker
from hbtd.tracker.transitions import Phase

_AT_ONCE: Final = 2000

_LONGEST_IN_LIST: Final = 4096
"""The most characters of a nodeset in a list of many."""


class MaintenanceCounts(NamedTuple):
    """How much of the machine is in maintenance."""

    set: int = 0
    """The number of maintenances that operators have set."""
    away: int = 0
    """The number of components that have said that they will be away."""
    components: int = 0
    """The number of tracked components that are in maintenance."""
    silent: int = 0
    """How many of these are silent: for `Warntime`, warned about, or dead."""
    warned: int = 0
    """How many of these were warned about, which is from before their maintenance."""
    dead: int = 0
    """How many of these are dead, from before their maintenance, too."""


class MaintenanceFacts:
    """Describes maintenances, and the components that are in them, as this replica sees them."""

    def __init__(
        self,
        maintenances: Maintenances,
        tracker: Tracker,
        observed: Callable[[], float],
        params: LiveParams,
    ) -> None:
        """Make the object; `observed` returns the observed time in seconds."""
        self._maintenances = maintenances
        self._tracker = tracker
        self._observed = observed
        self._params = params
        self.counts = MaintenanceCounts()
        """How much of the machine is in maintenance, as of the last `update`."""

    def of(self, xname: str) -> dict[str, object] | None:
        """Return the API's JSON object about the maintenance that a component is in.

        Of several, it is the one that ends last. Return `None` if the component is in none.
        """
        entry = self._maintenances.in_force.latest(xname)
        if entry is None:
            return None
        return {**self._maintenances.show(entry), "Silent": self._is_silent(xname)}

    def sentence(self, xname: str) -> str:
        """Return a sentence about the maintenance that a component is in; empty if in none."""
        entry = self._maintenances.in_force.latest(xname)
        if entry is None:
            return ""
        wanted, until = entry.maintenance, format_time(self._maintenances.until(entry))
        reason = f": {wanted.reason}" if wanted.reason else ""
        if wanted.away:
            return (
                f"It has said that it will be away, and be back by {until}{reason}. If it is not,"
                " it is declared dead then."
            )
        back = ", or until it is back" if wanted.back else ""
        by = f" (by {wanted.by})" if wanted.by else ""
        return f"In maintenance {wanted.id} until {until}{back}{by}{reason}; silence is no alarm."

    def row(self, entry: Entry, *, whole: bool = False) -> dict[str, object]:
        """Return the API's JSON object about a maintenance.

        Unless `whole`, a long nodeset is cut off.
        """
        nodeset = entry.maintenance.nodeset
        return {
            **self._maintenances.show(entry),
            "At": format_time(entry.maintenance.at),
            "Away": entry.maintenance.away,
            "Number": entry.number,
            "XNames": nodeset if whole else next(pieces(nodeset, _LONGEST_IN_LIST), ""),
        }

    async def rows(
        self, after: str, most: int, turn: Turn
    ) -> tuple[Sequence[dict[str, object]], str | None]:
        """Return the first `most` maintenances after an identifier, and the last one's if more.

        Those of operators come first, then the components that are away, in natural order.
        """
        entries = self._maintenances.in_force.entries
        away = await sort_names([id for id, e in entries.items() if e.maintenance.away], turn)
        of_operators = sorted(id for id, e in entries.items() if not e.maintenance.away)
        if after in away:
            ids = away[away.index(after) + 1 :]
        elif after.startswith("away-"):
            ids = [id for id in away if natural_key(id) > natural_key(after)]
        else:
            ids = [*(id for id in of_operators if id > after), *away]
        found = [entries[id] for id in ids[:most] if id in entries]
        following = ids[most - 1] if len(ids) > most else None
        return [self.row(entry) for entry in found], following

    async def detail(self, entry: Entry, turn: Turn) -> dict[str, object]:
        """Return all about a maintenance, with how many of its components are silent.

        `turn` is awaited between portions of the work.
        """
        silent = untracked = 0
        async for some in components(entry.maintenance, turn):
            for xname in some:
                untracked += xname not in self._tracker
                silent += self._is_silent(xname)
        return {**self.row(entry, whole=True), "Silent": silent, "Untracked": untracked}

    async def update(self, turn: Turn) -> MaintenanceCounts:
        """Bring the counts up to date, and return them; `turn` is awaited between portions."""
        number, away = self._maintenances.counts()
        tracked = self._tracker.spared_components()
        silent, phases = 0, Counter[Phase]()
        for start in range(0, len(tracked), _AT_ONCE):
            if start:
                await turn()
            some = tracked[start : start + _AT_ONCE]
            silent += sum(map(self._is_silent, some))
            phases.update(map(self._tracker.phase, some))
        self.counts = MaintenanceCounts(
            number, away, len(tracked), silent, phases[Phase.WARNED], phases[Phase.DEAD]
        )
        return self.counts

    async def marks(self, xnames: Sequence[str], turn: Turn) -> str | None:
        """Return a `1` for each component that is silent in maintenance, and a `0` for others.

        They are in one text, in the order of `xnames`. Return `None` if nothing is in maintenance.
        `turn` is awaited between portions of the work.
        """
        if not self._tracker.spares:
            return None
        marks: list[str] = []
        for start in range(0, len(xnames), _AT_ONCE):
            if start:
                await turn()
            for xname in xnames[start : start + _AT_ONCE]:
                marks.append("01"[self._tracker.is_spared(xname) and self._is_silent(xname)])
        return "".join(marks)

    def _is_silent(self, xname: str) -> bool:
        """Return whether a tracked component is silent, whether that is judged or not."""
        component: Component | None = self._tracker.component(xname)
        if component is None:
            return False
        if self._tracker.phase(xname) is not Phase.HEALTHY:
            return True
        params = self._params.current
        limit, _ = self._tracker.own_limits(xname).over(params.warntime, params.errtime)
        return self._observed() - component.last_heard >= limit
