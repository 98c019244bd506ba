"""The ledger: commits judgements before anything acts on them, and stores records."""

from collections.abc import Callable, Iterable, Sequence

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
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
"""Seconds for which judgements are gathered, so that a boot storm becomes a few PATCHes."""

_RETRY = (0.75, 1.5)
"""The shortest and the longest pause, in seconds, before a failed commit is tried again."""

_PATIENCE = 5.0
"""Seconds for which a store may fail before hbtd reports that it is not ready."""

_SHARED_WITHIN = 10.0
"""Seconds within which a heartbeat has to be stored for other replicas; later it is dropped."""

_BATCH = 500
"""Judgements passed on, or records written, before other work of the reactor gets its turn.

A batch takes a few milliseconds; in a store that replicas share it is four transactions.
"""

_RECORDS_PER_SECOND = 3000
"""Records that are written in a second, unless more have to be.

Components that send more heartbeats than this allows are written less often, but often enough not
to seem silent to other replicas. This leaves the processor to heartbeats: writing a record costs
as much as a heartbeat, and several times that in etcd.
"""


class Ledger:
    """Commits judgements and passes them on once they are safe, in the order in which they come.

    If the store is durable, the ledger also stores the records of the components that were heard:
    every `gather` seconds of the store, or less often where `_RECORDS_PER_SECOND` demands it. While
    a component has a judgement to be committed, its record is stored together with that: the store
    never has one without the other.
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
        """`tellers` are called with judgements that are safe; `jitter` returns from 0 to 1."""
        self._clock = clock
        self._observed = observed
        self._tracker = tracker
        self._store = store
        self._params = params
        self._tellers = tellers
        self._leading = False
        self._waiting: list[Judgement] = []
        # The judgements that are being committed.
        self._in_hand: list[Judgement] = []
        self._committing: Deferred[None] | None = None
        # Components that were forgotten while being committed: the store has to forget them after.
        self._forgotten_in_hand: set[str] = set()
        # Components that the store still has to forget.
        self._forgotten: set[str] = set()
        self._checkpoints = PeriodicService(
            clock, store.gather, lambda: self._checkpoint(store.gather), "the checkpoint", now=False
        )
        self._next_checkpoint = 0.0
        self._open = False
        self._backoff = Backoff(*_RETRY, jitter)
        self._outage = Outage(self._outage_began, self._outage_ended)
        self._usable_at = -_PATIENCE

    async def open(self) -> None:
        """Restore the tracker from the store; with `clear_on_gap`, drop the stored records first.

        Raise `StoreUnusable`.
        """
        params = self._params.current
        if params.clear_on_gap:
            await self._store.clear_records()
        records, stored = await self._store.records(), await self._store.judgements()
        dead = (j.component for j in stored if j.transition is Transition.DIED)
        self._tracker.restore(records, dead, self._observed.now(), params.warntime, params.errtime)
        if records:
            self._log.info("{count} components are known from before.", count=len(records))

    def begin(self) -> None:
        """Begin to commit judgements, those added before included, and to store records."""
        self._open = True
        self.ready()
        self.add([])
        if self._store.durable:
            self._checkpoints.startService()

    @property
    def pending(self) -> set[str]:
        """The components with judgements that are not committed yet."""
        return {judgement.component for judgement in (*self._in_hand, *self._waiting)}

    def has_unstored(self, xname: str) -> bool:
        """Return whether a component was heard here recently, and that has yet to be stored."""
        at = self._tracker.changed_at(xname)
        return at is not None and (at >= self._shared_since() or xname in self.pending)

    def unstored(self) -> set[str]:
        """Return the components that were heard here recently, which has yet to be stored."""
        return self._tracker.changed_since(self._shared_since()).keys() | self.pending

    def lead(self) -> None:
        """Tell of judgements once they are safe, as this replica judges from now on."""
        self._leading = True

    def follow(self) -> None:
        """Tell of nothing more, as another replica judges from now on."""
        self._leading = False
        self.withdraw_alarms()

    def withdraw_alarms(self) -> None:
        """Drop the alarms that are not committed yet: another replica judges now."""
        self._waiting = [each for each in self._waiting if not each.transition.alarming]
        self._in_hand = [each for each in self._in_hand if not each.transition.alarming]

    async def close(self) -> None:
        """Commit and store what is left; a failing store gets `sm_timeout` seconds for that."""
        timeout = self._params.current.sm_timeout
        finished = Deferred.fromCoroutine(self._finish())
        await finished.addTimeout(timeout, self._clock).addErrback(self._cut_short)

    async def _finish(self) -> None:
        checkpointing = self._checkpoints.running
        # A checkpoint in hand ends at its next pause; nothing has to wait for that.
        self._checkpoints.stopService()
        if self._committing is not None:
            await self._committing
        if checkpointing:
            self._next_checkpoint = 0.0
            await self._checkpoint(0.0)

    def ready(self) -> bool:
        """Return whether the store can be used, or could within the last seconds.

        It knows that from calls in these seconds, of which every checkpoint makes one.
        """
        if self._store.usable():
            self._usable_at = self._clock.seconds()
        return self._clock.seconds() - self._usable_at < _PATIENCE

    def add(self, judgements: Sequence[Judgement]) -> None:
        """Commit judgements and pass them on, together with others that are added about now."""
        self._waiting.extend(judgements)
        if self._waiting and self._committing is None and self._open:
            committing = Deferred.fromCoroutine(self._commit_all())
            self._committing = committing.addErrback(self._commit_failed)

    def forget(self, xname: str) -> None:
        """Drop what is stored about a component, and the alarms about it that are not committed."""
        self._waiting = _without_alarm(self._waiting, xname)
        if any(each.component == xname for each in self._in_hand):
            self._in_hand = _without_alarm(self._in_hand, xname)
            self._forgotten_in_hand.add(xname)
        self._forgotten.add(xname)
        Deferred.fromCoroutine(self._drop(xname))

    async def _commit_all(self) -> None:
        """Commit and pass on judgements until none are left."""
        await deferLater(self._clock, _GATHER)
        while self._waiting:
            self._in_hand = self._waiting[:_BATCH]
            del self._waiting[:_BATCH]
            judgements = self._in_hand
            while (ours := await self._commit(judgements)) is None:
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
        """Log judgements that are safe, a line for each kind, and pass them on.

        A replica that has ceased to lead since tells nothing: the next leader finds them stored.
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
        """Go on with the next judgements after an unexpected error."""
        if failure.check(CancelledError):
            failure.raiseException()
        self._log.failure("Passing on judgements failed.", failure)
        self._committing = None
        self.add([])

    async def _commit(self, judgements: Sequence[Judgement]) -> bool | None:
        """Commit judgements with their records; return whether they are to be passed on.

        They are not where another replica judges instead. Return `None` if the commit failed.
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
        """Let the store forget a component; if that fails, the next checkpoint tries again."""
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

        The batches are spread over `within` seconds: the store's thread and the reactor may have to
        share a processor.
        """
        if not self.ready():
            self._failed(StoreUnusable(self._store.health()))
        # The records of those that have come back are overwritten, which serves as well.
        self._forgotten = {xname for xname in self._forgotten if xname not in self._tracker}
        for xname in list(self._forgotten):
            await self._drop(xname)
        began = self._clock.seconds()
        if began < self._next_checkpoint:
            return
        # Older heartbeats are not shared: other replicas may have judged since.
        waiting = self._tracker.drop_changes_before(self._shared_since(), keep=self.pending)
        # An empty batch is written, too: the store in a file notes the observed time with it.
        for start in range(0, max(len(waiting), 1), _BATCH):
            if start and within:
                due = began + within * start / len(waiting)
                await deferLater(self._clock, max(due - self._clock.seconds(), 0.0))
                if not self._checkpoints.running:
                    return
            if not await self._checkpoint_batch(waiting[start : start + _BATCH]):
                return
        # To other replicas a component whose record is late seems silent.
        longest = self._params.current.warntime / 3
        self._next_checkpoint = began + min(len(waiting) / _RECORDS_PER_SECOND, longest)

    async def _checkpoint_batch(self, xnames: Sequence[str]) -> bool:
        """Store the records of components without pending judgements; return whether it worked."""
        pending = self.pending
        settled = (xname for xname in xnames if xname not in pending)
        taken = self._tracker.take_changed(settled, self._shared_since())
        records = self._records(taken)
        try:
            await self._store.checkpoint(records)
        except CancelledError:
            raise
        except Exception as error:  # noqa: BLE001  # the next checkpoint tries again
            self._tracker.put_back({each.component: taken[each.component] for each in records})
            self._failed(error)
            return False
        self._worked()
        return True

    def _shared_since(self) -> float:
        """Return the time since which heartbeats are shared, by the clock of `ticked_at`."""
        if not self._store.shared:
            return 0.0
        return self._observed.ticked_at - min(self._params.current.warntime, _SHARED_WITHIN)

    def _records_of(self, judgements: Sequence[Judgement]) -> list[Record]:
        """Return the records that are committed with judgements.

        They agree with the last judgement of each component in these. Judgements made since are
        committed later, with the record as it is then.
        """
        if not self._store.durable:
            return []
        last = {judgement.component: judgement for judgement in judgements}
        found = {record.component: record for record in self._records(last)}
        records: list[Record] = []
        for xname, (_, transition, timestamp) in last.items():
            if transition is Transition.DIED or xname not in self._tracker:
                continue
            # One without a record here has died since, which is committed later.
            record = found.get(xname) or Record(xname, 0.0, timestamp, "", False)
            records.append(record._replace(warned=transition is Transition.WARNED))
        return records

    def _records(self, xnames: Iterable[str]) -> list[Record]:
        at = self._observed.now()
        found = (self._tracker.record(xname, at) for xname in xnames)
        return [record for record in found if record is not None]

    def _failed(self, error: Exception) -> None:
        """Note that the store has failed."""
        if isinstance(error, NotLeading):
            return  # this replica is about to follow, or to lead again
        if not isinstance(error, StoreUnusable) and self._outage.reason is None:
            self._log.failure("The store has failed unexpectedly.", Failure(error))
        self._outage.fail(str(error))

    def _worked(self) -> None:
        """Note that the store has done something."""
        if self._store.usable():
            self._outage.recover()

    def _outage_began(self, reason: str) -> None:
        self._log.warn(
            "The store can't be used, judgements wait and HSM is not told of them: {error}",
            error=reason,
        )

    def _outage_ended(self) -> None:
        self._log.info("The store can be used again.")

    def _cut_short(self, failure: Failure) -> None:
        failure.trap(TimeoutError)
        self._log.error(
            "The store did not commit {count} judgements in time; HSM was not told of them.",
            count=len(self._in_hand) + len(self._waiting),
        )


def _without_repeats(safe: Iterable[Judgement], then: Iterable[Judgement]) -> list[Judgement]:
    """Return the judgements of `then` that differ from the latest one of their component.

    They repeat it when a replica becomes the leader while its request to the leader is pending.
    """
    last = {judgement.component: judgement.transition for judgement in safe}
    kept: list[Judgement] = []
    for judgement in then:
        if last.get(judgement.component) is not judgement.transition:
            kept.append(judgement)
            last[judgement.component] = judgement.transition
    return kept


def _without_alarm(judgements: Iterable[Judgement], xname: str) -> list[Judgement]:
    """Return the judgements except the alarms about a component."""
    return [j for j in judgements if j.component != xname or not j.transition.alarming]
