"""The ledger: commits judgements before HSM and Kafka are told of them, and stores records."""

from collections.abc import Callable, Iterable, Sequence

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from hbtd.config.live_params import LiveParams
from hbtd.runtime.backoff import Backoff
from hbtd.runtime.outage import Outage
from hbtd.runtime.periodic import PeriodicService
from hbtd.store.interface import IStore, NotLeading, StoreUnusable
from hbtd.tracker.observed import ObservedClock
from hbtd.tracker.records import Record
from hbtd.tracker.tracker import Tracker
from hbtd.tracker.transitions import Judgement, Transition

_GATHER = 0.1
"""Seconds for which judgements are gathered before a commit, to keep the updates to HSM few."""

_RETRY = (0.75, 1.5)
"""The shortest and the longest pause, in seconds, before a failed commit is tried again."""

_PATIENCE = 5.0
"""Seconds for which a store may fail before hbtd reports that it is not ready."""

_LATE = 1.0
"""Seconds by which a checkpoint may be complete later than usual before it is late."""

_SHARED_WITHIN = 10.0
"""The age in seconds above which a heartbeat is not written to a store that replicas share."""

_BATCH = 500
"""The most judgements that are committed, or records that are stored, in one call of the store.

Between two such batches the reactor can do other work. A batch takes a few milliseconds; in etcd it
takes about four transactions.
"""

_RECORDS_PER_SECOND = 3000
"""The number of records that are to be stored in a second, on average.

If more components are heard than this, their records are stored less often, but often enough that
the components do not seem silent to other replicas. That leaves time for heartbeats: to store a
record takes as much processor time as a heartbeat, and in etcd several times as much.
"""


class Ledger:
    """Commits judgements in the order in which they are added, and then passes them on.

    If the store is durable, the ledger also stores the records of the components that were heard,
    in checkpoints: `IStore.gather` seconds apart, or more if `_RECORDS_PER_SECOND` demands it.
    While a component has a judgement to be committed, its record is stored only together with the
    judgement, so that the store never has one without the other.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        observed: ObservedClock,
        tracker: Tracker,
        store: IStore,
        params: LiveParams,
        tellers: Sequence[Callable[[Sequence[Judgement]], None]],
        jitter: Callable[[], float],
    ) -> None:
        """Make the ledger of a tracker and a store.

        `tellers` are called with the judgements of each commit, if this replica leads. `jitter`
        returns a random number from 0 to 1.
        """
        self._clock = clock
        self._observed = observed
        self._tracker = tracker
        self._store = store
        self._params = params
        self._tellers = tellers
        self._leading = False
        self._waiting: list[Judgement] = []
        # The judgements that are being committed now.
        self._in_hand: list[Judgement] = []
        self._committing: Deferred[None] | None = None
        # Components that were forgotten while a judgement about them was being committed: the store
        # has to forget them after that.
        self._forgotten_in_hand: set[str] = set()
        # Components that the store still has to forget.
        self._forgotten: set[str] = set()
        self._checkpoints = PeriodicService(
            clock, store.gather, lambda: self._checkpoint(store.gather), "the checkpoint", now=False
        )
        self._next_checkpoint = 0.0
        # Seconds between the last two checkpoints, beyond `IStore.gather`.
        self._period = 0.0
        # The components whose records are being stored by a checkpoint.
        self._being_stored: set[str] = set()
        # When the last complete checkpoint began.
        self._stored_at = clock.seconds()
        self._open = False
        # Whether nobody waits any more for the judgements that are not committed yet.
        self._given_up = False
        self._backoff = Backoff(*_RETRY, jitter)
        self._outage = Outage(self._outage_began, self._outage_ended, clock.seconds)
        self._usable_at = -_PATIENCE

    async def open(self) -> None:
        """Restore the tracker from the store; with `clear_on_gap`, delete the stored records first.

        Raise `StoreUnusable` if the store can't be read or written.
        """
        params = self._params.current
        if params.clear_on_gap:
            await self._store.clear_records()
        records, stored = await self._store.records(), await self._store.judgements()
        dead = (j.component for j in stored if j.transition is Transition.DIED)
        self._tracker.restore(records, dead, self._observed.now(), params.warntime, params.errtime)
        if records:
            self._log.info("Restored {count} components from the store.", count=len(records))

    def begin(self) -> None:
        """Begin to commit judgements, including those added before, and to store records."""
        self._open = True
        self._stored_at = self._clock.seconds()
        self.ready()
        self.add([])
        if self._store.durable:
            self._checkpoints.startService()

    @property
    def pending(self) -> set[str]:
        """The components with judgements that are not committed yet."""
        return {judgement.component for judgement in (*self._in_hand, *self._waiting)}

    @property
    def behind(self) -> float:
        """Seconds since the last complete checkpoint began: what was heard before is stored."""
        if not (self._open and self._store.durable):
            return 0.0
        return self._clock.seconds() - self._stored_at

    @property
    def late(self) -> bool:
        """Whether heartbeats are stored so late that other replicas may miss them."""
        usual: float = self._period + 2 * self._store.gather
        return self.behind > usual + _LATE

    def has_unstored(self, xname: str) -> bool:
        """Return whether this replica took a heartbeat of the component and has yet to store it."""
        at = self._tracker.changed_at(xname)
        return at is not None and (at >= self._shared_since() or xname in self.pending)

    def unstored(self) -> set[str]:
        """Return the components with a heartbeat or judgement that has yet to be stored here."""
        changed = self._tracker.changed_since(self._shared_since())
        return self._being_stored.union(changed, self.pending)

    def lead(self) -> None:
        """Pass judgements on after each commit from now on: this replica has become the leader."""
        self._leading = True

    def follow(self) -> None:
        """Pass on no more judgements: this replica has become a follower.

        Also drop the uncommitted alarms (warned, died): another replica judges instead.
        """
        self._leading = False
        self._waiting = [each for each in self._waiting if not each.transition.alarming]
        self._in_hand = [each for each in self._in_hand if not each.transition.alarming]

    async def close(self) -> None:
        """Commit the remaining judgements and store the remaining records, within `sm_timeout`.

        If the store fails for that long, log an error and leave the rest uncommitted.
        """
        timeout = self._params.current.sm_timeout
        finished = Deferred.fromCoroutine(self._finish())
        # A call that is cancelled may fail like any other; it must not be tried again.
        giving_up = self._clock.callLater(timeout, self._give_up, finished)
        try:
            await finished
        except CancelledError:
            self._cut_short()
        finally:
            if giving_up.active():
                giving_up.cancel()

    def _give_up(self, finishing: Deferred[None]) -> None:
        self._given_up = True
        finishing.cancel()

    async def _finish(self) -> None:
        checkpointing = self._checkpoints.running
        # A checkpoint that is under way ends at its next pause; no need to wait for that.
        self._checkpoints.stopService()
        if self._committing is not None:
            await self._committing
        if checkpointing:
            self._next_checkpoint = 0.0
            await self._checkpoint(0.0)

    def ready(self) -> bool:
        """Return whether the store can be used, or could within the last `_PATIENCE` seconds.

        Only calls of this method check the store; each checkpoint makes such a call.
        """
        if self._store.usable():
            self._usable_at = self._clock.seconds()
        return self._clock.seconds() - self._usable_at < _PATIENCE

    def add(self, judgements: Sequence[Judgement]) -> None:
        """Commit judgements and pass them on, together with others that are added within 0.1 s."""
        self._waiting.extend(judgements)
        if self._waiting and self._committing is None and self._open:
            committing = Deferred.fromCoroutine(self._commit_all())
            self._committing = committing.addErrback(self._commit_failed)

    def forget(self, xname: str) -> None:
        """Make the store forget a component, and drop uncommitted alarms about that component.

        Alarms are the judgements that the component was warned or died.
        """
        self._waiting = _without_alarm(self._waiting, xname)
        if any(each.component == xname for each in self._in_hand):
            self._in_hand = _without_alarm(self._in_hand, xname)
            self._forgotten_in_hand.add(xname)
        self._forgotten.add(xname)
        Deferred.fromCoroutine(self._drop(xname))

    async def _commit_all(self) -> None:
        """Commit judgements, batch by batch, and pass them on, until none are left."""
        await deferLater(self._clock, _GATHER)
        while self._waiting:
            self._in_hand = self._waiting[:_BATCH]
            del self._waiting[:_BATCH]
            judgements = self._in_hand
            while (ours := await self._commit(judgements)) is None:
                if self._given_up:
                    raise CancelledError
                await deferLater(self._clock, self._backoff.next())
                judgements = self._in_hand
            safe, self._in_hand = self._in_hand, []
            while self._forgotten_in_hand:
                await self._drop(self._forgotten_in_hand.pop())
            if ours:
                self._waiting = _without_repeats(safe, self._waiting)
                self._tell(safe)
            await deferLater(self._clock, 0)
        self._committing = None

    def _tell(self, judgements: Sequence[Judgement]) -> None:
        """Log committed judgements, one line for each transition, and pass them on to the tellers.

        Do nothing if this replica has ceased to lead: the next leader finds the judgements in the
        store.
        """
        if not self._leading:
            return
        components: dict[Transition, list[str]] = {}
        for judgement in judgements:
            components.setdefault(judgement.transition, []).append(judgement.component)
        for transition, xnames in components.items():
            self._log.info("{said}: {xnames}", said=transition.message, xnames=" ".join(xnames))
        for tell in self._tellers:
            tell(judgements)

    def _commit_failed(self, failure: Failure) -> None:
        """Log an unexpected error of `_commit_all`, and commit the judgements that still wait."""
        if failure.check(CancelledError):
            failure.raiseException()
        self._log.failure(
            "Passing on judgements failed because of a bug in hbtd; HSM and Kafka may not be told"
            " of some of them.",
            failure,
        )
        self._committing = None
        self.add([])

    async def _commit(self, judgements: Sequence[Judgement]) -> bool | None:
        """Commit judgements together with the records of their components.

        Return `True` if the judgements are to be passed on, `False` if another replica judges
        instead, and `None` if the commit failed.
        """
        try:
            ours = await self._store.commit(judgements, self._records_of(judgements))
        except CancelledError:
            raise
        except Exception as error:  # noqa: BLE001  # it is tried again
            self._failed(error)
            return None
        self._backoff.reset()
        self._worked()
        return ours

    async def _drop(self, xname: str) -> None:
        """Make the store forget a component; if that fails, the next checkpoint tries again."""
        try:
            await self._store.forget(xname)
        except CancelledError:
            raise
        except Exception as error:  # noqa: BLE001  # the next checkpoint tries again
            self._failed(error)
        else:
            self._forgotten.discard(xname)

    async def _checkpoint(self, within: float) -> None:
        """Store the records of the components that were heard since the last checkpoint.

        The batches are spread over `within` seconds, since the store's thread and the reactor may
        have to share a processor. If the store fails, the records remain to be stored.
        """
        if not self.ready():
            self._failed(StoreUnusable(self._store.health()))
        # A component that is tracked again need not be forgotten: its record is overwritten.
        self._forgotten = {xname for xname in self._forgotten if xname not in self._tracker}
        for xname in list(self._forgotten):
            await self._drop(xname)
        began = self._clock.seconds()
        if began < self._next_checkpoint:
            return
        # Older heartbeats are not stored for other replicas, which may have judged since.
        waiting = self._tracker.drop_changes_before(self._shared_since(), keep=self.pending)
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
        longest = self._params.current.warntime / 3
        self._period = min(len(waiting) / _RECORDS_PER_SECOND, longest)
        self._next_checkpoint = began + self._period

    async def _checkpoint_batch(self, xnames: Sequence[str]) -> bool:
        """Store the records of those of `xnames` that have no uncommitted judgement.

        Return whether that succeeded; if not, the next checkpoint tries again.
        """
        pending = self.pending
        settled = (xname for xname in xnames if xname not in pending)
        taken = self._tracker.take_changed(settled, self._shared_since())
        records = self._records(taken)
        self._being_stored = set(taken)
        try:
            await self._store.checkpoint(records)
        except CancelledError:
            raise
        except Exception as error:  # noqa: BLE001  # the next checkpoint tries again
            self._tracker.put_back({each.component: taken[each.component] for each in records})
            self._failed(error)
            return False
        finally:
            self._being_stored = set()
        self._worked()
        return True

    def _shared_since(self) -> float:
        """Return the time, by `ObservedClock.ticked_at`, from which on heartbeats are stored.

        If replicas share the store, others may have judged a component since an earlier
        heartbeat. In a store that is not shared all heartbeats are stored: the result is 0.
        """
        if not self._store.shared:
            return 0.0
        return self._observed.ticked_at - min(self._params.current.warntime, _SHARED_WITHIN)

    def _records_of(self, judgements: Sequence[Judgement]) -> list[Record]:
        """Return the records that are to be committed with these judgements.

        Each record agrees with the last of `judgements` about its component, even if the tracker
        has judged the component again since: that judgement is committed later, with a new record.
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

    def _records(self, xnames: Iterable[str]) -> list[Record]:
        at = self._observed.now()
        found = (self._tracker.record(xname, at) for xname in xnames)
        return [record for record in found if record is not None]

    def _failed(self, error: Exception) -> None:
        """Note that the store has failed; the first failure of an outage is logged."""
        if isinstance(error, NotLeading):
            return  # this replica is about to follow, or to lead again
        if not isinstance(error, StoreUnusable) and self._outage.reason is None:
            self._log.failure(
                "The store has failed unexpectedly; hbtd tries again.", Failure(error)
            )
        self._outage.fail(str(error))

    def _worked(self) -> None:
        """Note that a call of the store has succeeded; the end of an outage is logged."""
        if self._store.usable():
            self._outage.recover()

    def _outage_began(self, reason: str) -> None:
        self._log.warn(
            "The store can't be used; until it recovers, judgements are held back and HSM is not"
            " updated: {error}",
            error=reason,
        )

    def _outage_ended(self) -> None:
        self._log.info("The store can be used again; judgements are committed and passed on.")

    def _cut_short(self) -> None:
        self._log.error(
            "hbtd stops although {count} judgements could not be committed to the store; HSM was"
            " not told of them.",
            count=len(self._in_hand) + len(self._waiting),
        )


def _without_repeats(safe: Iterable[Judgement], then: Iterable[Judgement]) -> list[Judgement]:
    """Return `then` without judgements that repeat the one before on the same component.

    To repeat is to state the same transition. That happens when a replica becomes the leader while
    its own request to the leader is pending. `safe` are the judgements before those of `then`.
    """
    last = {judgement.component: judgement.transition for judgement in safe}
    kept: list[Judgement] = []
    for judgement in then:
        if last.get(judgement.component) is not judgement.transition:
            kept.append(judgement)
            last[judgement.component] = judgement.transition
    return kept


def _without_alarm(judgements: Iterable[Judgement], xname: str) -> list[Judgement]:
    """Return the judgements without the alarms (warned, died) about this component."""
    return [j for j in judgements if j.component != xname or not j.transition.alarming]
