"""The checkpointer, which regularly stores the records of components that have sent heartbeats."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from hbtd.config.live_params import LiveParams
from hbtd.formats.counts import counted
from hbtd.runtime.deadline import DeadlineExceeded, bounded
from hbtd.runtime.periodic import PeriodicService
from hbtd.store.condition import StoreCondition
from hbtd.store.identities import IdentityKeeper
from hbtd.store.interface import IStore, StoreUnusable
from hbtd.store.uncommitted import Uncommitted
from hbtd.tracker.observed import LONG_STALL, ObservedClock
from hbtd.tracker.records import Record
from hbtd.tracker.tracker import Tracker
from hbtd.tracker.transitions import ALARMS, Judgement, Transition

_LATE = 1.0
"""Seconds by which a checkpoint may end later than planned before it counts as late."""

_BATCH = 500
"""The most records that are stored in one call of the store.

Between two such batches the reactor can do other work. A batch takes a few milliseconds; in etcd it
takes about four transactions.
"""

_RECORDS_PER_SECOND = 3000
"""The number of records that are to be stored in a second, on average.

If more components are heard than this, their records are stored less often, but often enough that
the components do not seem silent to other replicas. That leaves time for heartbeats: to store a
record takes as much processor time as a heartbeat, and in etcd several times as much.
"""

_PAGE = 2000
"""The most records that are restored at a time: about five milliseconds' worth."""


class Checkpointer:
    """Stores the records of components, and restores the tracker from the stored records.

    If the store is durable, a checkpoint every `IStore.gather` seconds stores the records of the
    components that have sent heartbeats since the previous checkpoint. The time between checkpoints
    is longer if there are more than 3000 records to store per second. While a judgement on a
    component is uncommitted, the component's record is stored only together with the judgement, so
    that the store never has one of the two without the other.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        observed: ObservedClock,
        tracker: Tracker,
        store: IStore,
        params: LiveParams,
        uncommitted: Uncommitted,
        condition: StoreCondition,
        synchronized: Callable[[], bool],
    ) -> None:
        """Make the checkpointer of a tracker and a store.

        `uncommitted` has the judgements that the journal has not committed yet. `condition` is told
        whether calls of the store succeed. `synchronized` returns whether this replica knows
        everything that other replicas have stored.
        """
        self._clock = clock
        self._observed = observed
        self._tracker = tracker
        self._store = store
        self._params = params
        self._uncommitted = uncommitted
        self._condition = condition
        self._synchronized = synchronized
        # Components that the store could not forget so far.
        self._forgotten: set[str] = set()
        # The last call by which the store was told so.
        self._forgetting: Deferred[None] = succeed(None)
        self._checkpoints = PeriodicService(
            clock, store.gather, lambda: self._checkpoint(store.gather), "the checkpoint", now=False
        )
        self._identities = IdentityKeeper(clock, tracker, store, condition)
        self._next_checkpoint = 0.0
        # Seconds between the last two checkpoints, beyond `IStore.gather`.
        self._period = 0.0
        # The components whose records are being stored by a checkpoint.
        self._being_stored: set[str] = set()
        # When the last complete checkpoint began.
        self._stored_at = clock.seconds()
        self._begun = False
        # The `caught_up_at` of the last long stall after which this replica has caught up.
        self._caught_up = observed.caught_up_at
        # Whether records are to be stored once more at the end.
        self._unfinished = False

    async def restore(self) -> None:
        """Restore the tracker from the store: living and dead components, host names and NIDs.

        If the parameter `clear_on_gap` is set, all stored records are deleted first; then only the
        dead components, with their host names and NIDs, are restored. Raise `StoreUnusable` if the
        store can't be read or written.
        """
        params, at = self._params.current, self._observed.now()
        if params.clear_on_gap:
            await self._store.clear_records()
        count, after = 0, ""
        # Page by page, so that no second copy of a million records is ever in memory.
        while page := await self._store.records(after, _PAGE):
            self._tracker.restore_page(page, at, params.warntime, params.errtime)
            count, after = count + len(page), page[-1].component
        stored = await self._store.judgements(ALARMS)
        dead = (each.component for each in stored if each.transition is Transition.DIED)
        self._tracker.restore((), dead, at, params.warntime, params.errtime)
        await self._identities.restore()
        if count:
            components = counted(count, "component")
            self._log.info("Restored {components} from the store.", components=components)

    def begin(self) -> None:
        """Begin to store records, if the store is durable."""
        self._begun = True
        self._stored_at = self._clock.seconds()
        self._condition.ready()
        if self._store.durable:
            self._checkpoints.startService()
            self._identities.begin()
            self._unfinished = True

    def end(self) -> None:
        """Begin no more checkpoints; a checkpoint in progress ends after its present batch."""
        self._checkpoints.stopService()
        self._identities.end()

    async def finish(self, within: float) -> None:
        """Store the records, host names and NIDs that are not stored yet; call `end` before this.

        If this takes more than `within` seconds, give up, and log a warning. Do nothing if `begin`
        was not called, or if the store is not durable.
        """
        if not self._unfinished:
            return
        self._unfinished = False
        self._next_checkpoint = 0.0
        try:
            await bounded(self._clock, within, self._finish())
        except DeadlineExceeded:
            self._log.warn(
                "hbtd stops although the latest heartbeats could not be stored in time. Nothing"
                " need be done: after the next start, every component has Warntime seconds to be"
                " heard again."
            )

    async def _finish(self) -> None:
        await self._checkpoint(0.0)
        await self._identities.store_changed()

    @property
    def behind(self) -> float:
        """Seconds since the beginning of the last complete checkpoint.

        The store has all heartbeats that were taken before that checkpoint. The value is 0 if the
        store is not durable, and before `begin` is called.
        """
        if not (self._begun and self._store.durable):
            return 0.0
        return self._clock.seconds() - self._stored_at

    @property
    def late(self) -> bool:
        """Whether the next complete checkpoint is overdue by more than a second.

        If so, other replicas may consider components silent because their latest heartbeats are not
        stored.
        """
        return self.behind > self._late_after

    @property
    def slow(self) -> bool:
        """Whether a checkpoint is late although the store works and hbtd has not stalled lately.

        This is so if `late` is true, and if neither the last failure of the store nor the last long
        stall of hbtd is so recent that it may be the reason why the checkpoint is late.
        """
        if not self.late or self._observed.stalled:
            return False
        running_for = self._observed.ticked_at - self._observed.caught_up_at
        return min(self._condition.working_for, running_for) > self._late_after

    @property
    def _late_after(self) -> float:
        """The value of `behind`, in seconds, above which a checkpoint is late."""
        usual: float = self._period + 2 * self._store.gather
        return usual + _LATE

    def has_news(self, xname: str) -> bool:
        """Return whether this replica alone has the latest heartbeat of a component.

        The result is `True` if this replica has taken the heartbeat but not begun to store it. The
        result is nevertheless `False` if another replica may have judged the component after that
        heartbeat. This is possible in two cases:

        - hbtd took the heartbeat before it had read all data sent to it during its last long stall.
        - hbtd took the heartbeat so long ago that it will not be stored, and no judgement on the
          component is uncommitted on this replica.
        """
        at = self._tracker.changed_at(xname)
        if at is None or at < self._old_until():
            return False
        return at >= self._shared_since(xname) or xname in self._uncommitted

    def has_uncommitted(self, xname: str) -> bool:
        """Return whether this replica has an uncommitted judgement on the component `xname`."""
        return xname in self._uncommitted

    def unstored(self) -> set[str]:
        """Return the components with heartbeats or judgements that are not stored yet.

        Heartbeats that are too old to be stored do not count.
        """
        return self._unstored_since(self._shared_since())

    def news(self) -> set[str]:
        """Return the components about which this replica may know more than other replicas.

        For each of these components, this replica has a heartbeat or a judgement that is not stored
        yet. A heartbeat whose record is being stored at this moment counts as not stored. A
        heartbeat that may be older than judgements of other replicas is ignored.
        """
        since = max(self._shared_since(), self._old_until())
        return self._unstored_since(since).difference(self.old_judgements())

    def old_judgements(self) -> set[str]:
        """Return the components with uncommitted judgements that may be outdated.

        Such a judgement follows from a heartbeat that may have been sent before the end of this
        replica's last long stall. If another replica has judged the component since that heartbeat,
        the judgement of the other replica holds: call `withdraw` to drop this replica's judgement.
        """
        old_until = self._old_until()
        times = {x: self._tracker.changed_at(x) for x in self._uncommitted.components()}
        return {x for x, at in times.items() if at is not None and at < old_until}

    def withdraw(self, xname: str) -> None:
        """Drop the uncommitted judgements `STARTED` and `RESTARTED` on a component.

        Call this if another replica has judged the component after the heartbeats from which these
        judgements follow.
        """
        self._uncommitted.drop_returns(xname)

    def _unstored_since(self, since: float) -> set[str]:
        """Return the components with heartbeats or judgements that are not stored yet.

        Heartbeats count if they were taken at `since`, a time of `ObservedClock.ticked_at`, or
        later. Records that are being stored at this moment count as not stored.
        """
        changed = self._not_too_old(self._tracker.changed_since(since))
        return self._being_stored.union(changed, self._uncommitted.components())

    def behind_others(self) -> bool:
        """Return whether this replica, after a stall, may lack judgements of other replicas.

        While the result is `True`, judgements that this replica makes from heartbeats sent before
        the end of its last long stall might contradict those of other replicas. The result is
        `False` if no other replica can use the store.
        """
        if not self._store.shared:
            return False
        # This may be the first that runs after a stall; at the end, ticks are no longer made.
        if self._observed.stalled and self._checkpoints.running:
            self._observed.tick()
        caught_up_at = self._observed.caught_up_at
        if caught_up_at <= self._caught_up:
            return False
        if self._observed.ticked_at < caught_up_at or not self._synchronized():
            return True
        self._caught_up = caught_up_at
        return False

    def forget(self, xname: str) -> None:
        """Begin to make the store forget a component; return before the store has done so.

        If the store fails, the next checkpoint tries again.
        """
        self._forgetting = Deferred.fromCoroutine(self._forget(xname))

    def forgotten(self) -> Deferred[None]:
        """Return a Deferred that fires when the store has carried out the calls of `forget` so far.

        The Deferred fires even if some of these calls fail. A caller that calls `forget` for many
        components should wait for such a Deferred now and then, because a commit has to wait for
        all earlier calls of the store.
        """
        waiting: Deferred[None] = Deferred()

        def end(result: Any) -> Any:
            if not waiting.called:
                waiting.callback(None)
            return result

        self._forgetting.addBoth(end)
        return waiting

    async def forget_again(self, xname: str) -> None:
        """Make the store forget a component once more, unless the component is tracked again.

        A component that is tracked again need not be forgotten: its next record overwrites the old
        one.
        """
        if xname not in self._tracker:
            await self._forget(xname)

    async def _forget(self, xname: str) -> None:
        """Make the store forget a component; if that fails, the next checkpoint tries again.

        A call in progress is not repeated: the second one would drop a heartbeat that came between.
        """
        try:
            await self._store.forget(xname)
        except CancelledError:
            self._forgotten.add(xname)
            raise
        except Exception as error:  # noqa: BLE001  # the next checkpoint tries again
            self._forgotten.add(xname)
            self._condition.failed(error)

    def records_with(self, judgements: Sequence[Judgement]) -> list[Record]:
        """Return the records to be committed with `judgements`.

        Each record agrees with the last of `judgements` on its component, even if the tracker has
        judged the component again since: a newer judgement is committed later, with a record of its
        own. The result is empty if the store is not durable.
        """
        if not self._store.durable:
            return []
        last = {judgement.component: judgement for judgement in judgements}
        found = {record.component: record for record in self._records(last)}
        records: list[Record] = []
        for xname, judgement in last.items():
            if judgement.transition is Transition.DIED or xname not in self._tracker:
                continue
            # A component without a record has died since; its death is committed later.
            record = found.get(xname) or Record(xname, 0.0, judgement.timestamp, "", False)
            records.append(record._replace(warned=judgement.transition is Transition.WARNED))
        return records

    async def _checkpoint(self, within: float) -> None:
        """Store the records of the components that were heard since the last checkpoint.

        They are stored in batches, spread over `within` seconds, since the store's thread and the
        reactor may have to share a processor. If the store fails, the next checkpoint stores the
        remaining records.
        """
        if not self._condition.ready():
            self._condition.failed(StoreUnusable(self._store.health()))
        forgotten, self._forgotten = self._forgotten, set()
        for xname in forgotten:
            await self.forget_again(xname)
        began = self._clock.seconds()
        if began < self._next_checkpoint:
            return
        waiting = self._tracker.changed()
        # An empty batch is written, too: the store in a file saves the observed time with it.
        for start in range(0, max(len(waiting), 1), _BATCH):
            if start and within:
                due = began + within * start / len(waiting)
                await deferLater(self._clock, max(due - self._clock.seconds(), 0.0))
                if not self._checkpoints.running:
                    return
            if not await self._checkpoint_batch(waiting[start : start + _BATCH]):
                return
        self._stored_at = began
        # A component whose record is late seems silent to other replicas.
        warntime: float = self._params.current.warntime
        if self._store.shared:
            warntime = self._tracker.shortest_warntime(warntime)
        longest = warntime / 3
        self._period = min(len(waiting) / _RECORDS_PER_SECOND, longest)
        self._next_checkpoint = began + self._period

    async def _checkpoint_batch(self, xnames: Sequence[str]) -> bool:
        """Store the records of those of `xnames` that have no uncommitted judgement.

        Return whether that succeeded; if not, the next checkpoint tries again.
        """
        if self.behind_others():
            return False
        settled = (xname for xname in xnames if xname not in self._uncommitted)
        # Older heartbeats are not stored for other replicas, which may have judged since.
        taken = self._not_too_old(self._tracker.take_changed(settled, self._shared_since()))
        records = self._records(taken)
        starting = self._tracker.starting_records(taken, self._observed.now())
        self._being_stored = set(taken)
        try:
            await self._store.checkpoint(records, starting)
        except CancelledError:
            raise
        except Exception as error:  # noqa: BLE001  # the next checkpoint tries again
            untold = [each.component for each in (*records, *starting)]
            self._tracker.put_back({xname: taken[xname] for xname in untold})
            self._condition.failed(error)
            return False
        finally:
            self._being_stored = set()
        self._condition.worked()
        return True

    def _shared_since(self, xname: str | None = None) -> float:
        """Return the time before which heartbeats are too old to be stored, in monotonic seconds.

        In a store that replicas share, heartbeats that were taken before this time are not stored,
        because another replica may have judged their components since. In any other store, all
        heartbeats are stored: the time is 0. For the component `xname` the time may be later than
        for components in general, since its own warntime may be shorter.
        """
        if not self._store.shared:
            return 0.0
        warntime: float = self._params.current.warntime
        if xname is not None:
            own = self._tracker.own_limits(xname).over(warntime, warntime)[0]
            warntime = min(warntime, own)
        return self._observed.ticked_at - min(warntime, LONG_STALL)

    def _not_too_old(self, changes: dict[str, float]) -> dict[str, float]:
        """Return `changes` without those that are too old by their components' own warntimes."""
        warntime = self._params.current.warntime
        if self._tracker.shortest_warntime(warntime) >= min(warntime, LONG_STALL):
            return changes
        return {xname: at for xname, at in changes.items() if at >= self._shared_since(xname)}

    def _old_until(self) -> float:
        """Return the time, by `ObservedClock.ticked_at`, until which heartbeats may be old.

        They may have waited during the last long stall. Others may have judged since these were
        sent, so their judgements hold.
        """
        return self._observed.caught_up_at if self._store.shared else 0.0

    def _records(self, xnames: Iterable[str]) -> list[Record]:
        return self._tracker.records(xnames, self._observed.now())
