"""Finds the components that may have sent heartbeats which have yet to be read or stored."""

from collections.abc import Callable, Iterable, Mapping

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from hbtd.config.live_params import LiveParams
from hbtd.replicas.applier import source_of
from hbtd.replicas.hearing import SILENCE
from hbtd.replicas.sign_of_life import MOST_NAMED, Waiting, waiting_at
from hbtd.runtime.outage import Outage
from hbtd.server.overload import Overload
from hbtd.server.scheduler import Scheduler
from hbtd.store.checkpointer import Checkpointer
from hbtd.tracker.components import Unheard
from hbtd.tracker.observed import ObservedClock
from hbtd.tracker.tracker import Tracker


class UnreadHeartbeats:
    """Finds the components that may have sent heartbeats which have yet to be read or stored.

    The monitor puts off the judgement that such a component is silent. This replica's sign of life
    tells the other replicas the result of `waiting`.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        scheduler: Scheduler,
        overload: Overload,
        tracker: Tracker,
        observed: ObservedClock,
        params: LiveParams,
        checkpointer: Checkpointer,
        usable: Callable[[], bool],
        elsewhere: Callable[[], Mapping[int, Waiting]],
    ) -> None:
        """Make an object whose methods query the given parts whenever they are called.

        `scheduler` and `overload` know which connections wait to be read at this replica; `tracker`
        knows from which address each component was last heard, and `checkpointer` knows which
        heartbeats are not stored yet. `usable` returns whether the store can be used. `elsewhere`
        returns which heartbeats may wait at other replicas: a `Waiting` for each replica's number.
        """
        self._scheduler = scheduler
        self._overload = overload
        self._tracker = tracker
        self._observed = observed
        self._params = params
        self._checkpointer = checkpointer
        self._usable = usable
        self._elsewhere = elsewhere
        self._slowness = Outage(self._slowness_began, self._slowness_ended, clock.seconds)

    def unheard(self) -> Unheard:
        """Return the components that may have sent heartbeats not yet known to this replica.

        Such a heartbeat either waits to be read, at this or another replica, or has been read by
        another replica, which has yet to store it.
        """
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
        """Return the components whose heartbeats may wait at this replica, for its sign of life.

        The result has the IP addresses from which connections wait to be read at this replica, and
        the names of two kinds of components:

        - Components whose last heartbeat was taken by this replica, from an address from which
          connections now wait to be read, at this or another replica. Only this replica knows these
          components. The result names such a component from three seconds (`SILENCE`) before the
          component is due to be judged silent. So when the judgement is due, the leader either has
          received the name, or has stopped its observed clock because it has not heard from this
          replica.
        - Components whose heartbeats this replica has read, but is late to store: other replicas
          don't know of these heartbeats.

        Names are not copied from the signs of life of other replicas: otherwise the replicas would
        repeat each other's names for ever.
        """
        params = self._params.current
        unstored = self._unstored()
        unheard = self._from_addresses(self._elsewhere().values())
        if not (unheard.sources or unheard.fresh or unstored):
            return Waiting()
        limits = float(params.warntime), float(params.errtime)
        at = self._observed.now()
        found = self._tracker.unheard(at, limits, SILENCE, unheard, MOST_NAMED)
        addresses, fresh = self._scheduler.waiting_long(), self._overload.queue_full
        return waiting_at(addresses, found, fresh, unstored)

    def _unstored(self) -> set[str]:
        """Return the components whose heartbeats were read here but are late to be stored."""
        if not self._checkpointer.late:
            self._slowness.recover()
            return set()
        if self._checkpointer.slow and self._usable():  # otherwise the log has a better reason
            self._slowness.fail(f"{self._checkpointer.behind:.1f} s", "late")
        return self._checkpointer.unstored()

    def _slowness_began(self, behind: str) -> None:
        self._log.warn(
            "etcd is slow: heartbeats that were taken in the last {behind} have yet to be stored."
            " Until these heartbeats are stored, judgements on the components that sent them are"
            " delayed, by at most Errtime.",
            behind=behind,
        )

    def _slowness_ended(self) -> None:
        self._log.info("etcd is fast enough again: heartbeats are stored on schedule.")

    def _from_addresses(self, elsewhere: Iterable[Waiting]) -> Unheard:
        """Return the components last heard here from an address with waiting connections.

        The connections wait at this replica or, as `elsewhere` says, at another.
        """
        sources: set[str | None] = self._scheduler.waiting_long()
        fresh = self._overload.queue_full
        for waiting in elsewhere:
            sources |= waiting.addresses
            fresh |= waiting.fresh
        if sources or fresh:
            # Those not heard since hbtd started, or took the lead, may be the ones that wait.
            sources.add(None)
        return Unheard(sources, fresh)
