"""Looks every second for what hinders hbtd, for one list that health, `why` and metrics show."""

from collections.abc import Callable, Mapping

from twisted.internet.interfaces import IReactorTime

from hbtd.app.core import Core
from hbtd.formats.counts import counted
from hbtd.runtime.periodic import PeriodicService
from hbtd.tracker.gaps import GapKind
from hbtd.tracker.hindrances import Hindrance, Hindrances, TroubleKind
from hbtd.tracker.observed import ObservedClock

_PERIOD = 1.0
"""Seconds between two looks, and so the precision of the beginnings and ends of troubles."""

Causes = Mapping[TroubleKind, Callable[[], str | None]]
"""Functions that return the cause of a trouble of their kind in words; `None` if there is none."""


class HindranceWatch(PeriodicService):
    """A service that keeps the list of hindrances: it looks for troubles every second.

    The gaps of the observed clock are added when the list is asked for.
    """

    def __init__(
        self,
        clock: IReactorTime,
        wall: Callable[[], float],
        observed: ObservedClock,
        causes: Causes,
    ) -> None:
        """Make a service that calls the functions in `causes`, and asks `observed` for its gaps.

        `wall` returns the Unix time in seconds; lengths are measured by `clock`.
        """
        super().__init__(clock, _PERIOD, self._look, "the look for hindrances")
        self._wall = wall
        self._observed = observed
        self._causes = causes
        self._hindrances = Hindrances()

    def all(self) -> list[Hindrance]:
        """Return the latest hindrances in the order of `Hindrances.all`."""
        return self._hindrances.all(self._observed.gaps(), self._observed.lasting_gap)

    def totals(self) -> Mapping[GapKind | TroubleKind, tuple[int, float]]:
        """Return, for each kind, the number of hindrances and their total length in seconds.

        Both are counted since hbtd started. A gap and the standstill after it count separately.
        """
        totals: dict[GapKind | TroubleKind, tuple[int, float]] = {}
        totals.update(self._observed.gap_totals().items())
        totals.update(self._hindrances.totals().items())
        return totals

    def _look(self) -> None:
        found = {kind: cause() for kind, cause in self._causes.items()}
        present = {kind: cause for kind, cause in found.items() if cause is not None}
        self._hindrances.look(present, self._wall(), self._clock.seconds())


def causes_of(core: Core) -> Causes:
    """Return the functions that say which troubles the parts of `core` have."""

    def turned_away() -> str | None:
        number = core.scheduler.not_heard_count()
        if not number:
            return None
        errtime = core.params.current.errtime
        addresses = counted(number, "address", "addresses")
        return f"clients at {addresses} were turned away or gave up in the last {errtime} s"

    def elsewhere() -> str | None:
        number = len(core.replica.waiting_elsewhere)
        if not number:
            return None
        return f"heartbeats may wait at {counted(number, 'other replica')}"

    def slow_store() -> str | None:
        checkpointer = core.checkpointer
        if not (checkpointer.slow and core.store.usable()):
            return None
        return f"heartbeats of the last {checkpointer.behind:.0f} s have yet to be stored"

    return {
        TroubleKind.OVERLOAD: lambda: core.overload.reason,
        TroubleKind.TURNED_AWAY: turned_away,
        TroubleKind.ELSEWHERE: elsewhere,
        TroubleKind.STORE: lambda: None if core.store.usable() else core.store.health(),
        TroubleKind.SLOW_STORE: slow_store,
    }
