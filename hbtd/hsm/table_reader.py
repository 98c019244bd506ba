"""Reads HSM's table, and compares its rows with the tracker."""

from collections.abc import Collection
from typing import Final

from twisted.internet.interfaces import IReactorTime

from hbtd.formats import xnames
from hbtd.hsm.client import HSMClient
from hbtd.hsm.difference import Look
from hbtd.hsm.second_signal import SecondSignal
from hbtd.runtime.portions import in_portions
from hbtd.tracker.tracker import Tracker
from hbtd.tracker.transitions import Phase

PORTION: Final = 250
"""The most components handled before the reactor does other work: some milliseconds' worth."""


class TableReader:
    """Reads HSM's table, compares its rows with the tracker, and shows them to a `SecondSignal`."""

    def __init__(
        self,
        clock: IReactorTime,
        client: HSMClient,
        tracker: Tracker,
        second_signal: SecondSignal,
    ) -> None:
        """Make a reader; between portions of the work, `clock` lets the reactor do other work."""
        self._clock = clock
        self._client = client
        self._tracker = tracker
        self._second_signal = second_signal

    async def look(self) -> Look:
        """Read HSM's table; return it as compared.

        The types of component are those of the tracked ones, and of those that may be expected.

        Raise `TableMissing` or `HSMUnavailable`, as `HSMClient.read_table` does.
        """
        types = {*await self._types(), *self._second_signal.types()}
        look = Look(self._tracker.phase, self.since)
        reading = self._second_signal.begin()

        def take(name: str, state: str, flag: str, enabled: bool) -> None:
            look.add(name, state, flag)
            reading.add(name, state, enabled=enabled)

        if types:
            await self._client.read_table(sorted(types), take)
        self._second_signal.take(reading)
        return look

    async def _types(self) -> Collection[str]:
        """Return the types of the tracked components."""
        types: set[str] = set()
        async for portion in in_portions(self._clock, self._tracker.tracked(), PORTION):
            types.update(map(xnames.type_of_valid, portion))
        return types - {""}

    async def unknown(self, first: Look, second: Look, before: float) -> list[str]:
        """Return the components that HSM's table had in neither look.

        They must have been healthy since the Unix time `before`, when the second look began.
        """
        unknown: list[str] = []
        async for portion in in_portions(self._clock, self._tracker.tracked(), PORTION):
            unknown += [
                each
                for each in first.missing(second.missing(portion))
                if self._tracker.phase(each) is Phase.HEALTHY and self.since(each) <= before
            ]
        return unknown

    def since(self, xname: str) -> float:
        """Return the Unix time at which a component entered its phase; 0 if not known."""
        component = self._tracker.component(xname)
        return 0.0 if component is None else component.since
