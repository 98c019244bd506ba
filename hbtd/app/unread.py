"""Which components may have sent heartbeats that no replica has read yet."""

from collections.abc import Callable, Iterable, Mapping

from hbtd.config.live_params import LiveParams
from hbtd.replicas.applier import source_of
from hbtd.replicas.hearing import SILENCE
from hbtd.replicas.sign_of_life import MOST_NAMED, Waiting, waiting_at
from hbtd.server.overload import Overload
from hbtd.server.scheduler import Scheduler
from hbtd.tracker.components import Unheard
from hbtd.tracker.observed import ObservedClock
from hbtd.tracker.tracker import Tracker


class UnreadHeartbeats:
    """Tells the monitor, and the other replicas, whose heartbeats may wait to be read."""

    def __init__(
        self,
        scheduler: Scheduler,
        overload: Overload,
        tracker: Tracker,
        observed: ObservedClock,
        params: LiveParams,
        elsewhere: Callable[[], Mapping[int, Waiting]],
    ) -> None:
        """Look at the connections that wait here, and at other replicas.

        `elsewhere` returns whose heartbeats wait at the others, by the numbers of these.
        """
        self._scheduler = scheduler
        self._overload = overload
        self._tracker = tracker
        self._observed = observed
        self._params = params
        self._elsewhere = elsewhere

    def unheard(self) -> Unheard:
        """Return the components that may have sent heartbeats that no replica has read."""
        elsewhere = self._elsewhere()
        unheard = self._from_addresses(elsewhere.values())
        all_of = {source_of(number) for number, each in elsewhere.items() if each.heard_here}
        return Unheard(
            unheard.sources | all_of | ({None} if all_of else set()),
            unheard.fresh,
            frozenset[str]().union(*(each.components for each in elsewhere.values())),
            any(each.everybody for each in elsewhere.values()),
        )

    def waiting(self) -> Waiting:
        """Return whose heartbeats wait here, as this replica's sign of life tells the others.

        Only this replica knows from which addresses it took heartbeats. So it names the components
        of addresses that wait, here or elsewhere, from `SILENCE` before these are due: the leader
        has their names in time, or its observed clock stands still, as this replica is not heard.
        What other replicas say of components is not passed on: it would come back.
        """
        unheard = self._from_addresses(self._elsewhere().values())
        if not (unheard.sources or unheard.fresh):
            return Waiting()
        params = self._params.current
        silent = min(params.warntime, params.errtime) - SILENCE
        found = self._tracker.unheard(self._observed.now(), silent, unheard, MOST_NAMED)
        return waiting_at(self._scheduler.waiting_long(), found, self._overload.queue_full)

    def _from_addresses(self, elsewhere: Iterable[Waiting]) -> Unheard:
        """Return those that this replica heard last from where connections wait, here or there."""
        sources: set[str | None] = self._scheduler.waiting_long()
        fresh = self._overload.queue_full
        for waiting in elsewhere:
            sources |= waiting.addresses
            fresh |= waiting.fresh
        if sources or fresh:
            # Those not heard since hbtd started, or took the lead, may be the ones that wait.
            sources.add(None)
        return Unheard(sources, fresh)
