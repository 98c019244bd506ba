"""The ledger: sees that what must outlive us is in the store before anybody acts on it."""

from collections.abc import Callable, Iterable, Sequence

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from hbtd.config.params import LiveParams
from hbtd.runtime.periodic import periodic
from hbtd.store.interface import IStore, NotLeading, StoreUnusable
from hbtd.tracker.observed import ObservedClock
from hbtd.tracker.records import Record
from hbtd.tracker.tracker import Tracker
from hbtd.tracker.transitions import Judgement, Transition

_GATHER = 0.1
"""Seconds for which judgements are gathered, so that a boot storm becomes a few PATCHes."""

_RETRY = 1.0
"""Seconds before a commit that the store could not do is tried again."""

_PATIENCE = 5.0
"""Seconds for which a store may fail before hbtd calls itself not ready."""

_OLD_NEWS = 10.0
"""Seconds after which that somebody was heard is no news to other replicas any more."""

_PORTION = 500
"""Judgements handed on, or records written, before others get their turn.

These take few milliseconds; in a store that replicas share, they are four transactions.
"""

_PACE = 3000
"""Records that we write in a second, where no more need be.

Who beats more often than that allows is written less often, for it says the same, but not so
seldom that it may seem silent to other replicas. This leaves the processor to heartbeats: a record
costs as much as one, and with etcd several times that.
"""


class Ledger:
    """Commits judgements and hands them on once they are safe, in the order in which they come.

    Also stores the records of who was heard, if the store outlives us: every `gather` seconds of
    the store, more seldom where `_PACE` says so. A component that has a judgement still to be
    committed gets its record stored with that: neither is ever in the store without the other.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        observed: ObservedClock,
        tracker: Tracker,
        store: IStore,
        params: LiveParams,
        tell: Callable[[Sequence[Judgement]], None],
    ) -> None:
        """`tell` is called with judgements that are safe."""
        self._clock = clock
        self._observed = observed
        self._tracker = tracker
        self._store = store
        self._params = params
        self._tell = tell
        self._waiting: list[Judgement] = []
        # Being committed, and not told before that is done.
        self._in_hand: list[Judgement] = []
        self._committing: Deferred[None] | None = None
        # Who was forgotten meanwhile, and has to be once more when the commit is done.
        self._forgotten_in_hand: set[str] = set()
        # Who is still to be dropped from the store.
        self._forgotten: set[str] = set()
        self._checkpointing = periodic(clock, lambda: self._checkpoint(store.gather))
        self._resting_until = 0.0
        self._open = False
        self._complained = False
        self._usable_at = -_PATIENCE

    async def open(self) -> None:
        """Have the tracker take up what the store has.

        With `clear_on_gap`, who was heard before this process is forgotten.
        """
        params = self._params.current
        if params.clear_on_gap:
            await self._store.clear_records()
        records, standing = await self._store.records(), await self._store.standing()
        dead = (j.component for j in standing if j.transition is Transition.DIED)
        self._tracker.restore(records, dead, self._observed.now(), params.warntime, params.errtime)
        if records:
            self._log.info("{count} components are known from before.", count=len(records))

    def begin(self) -> None:
        """Commit what has come in so far, and whatever comes."""
        self._open = True
        self.ready()
        self.add([])
        if self._store.durable:
            self._checkpointing.start(self._store.gather, now=False)

    @property
    def pending(self) -> set[str]:
        """Of whom there are judgements that are not safe yet."""
        return {judgement.component for judgement in (*self._in_hand, *self._waiting)}

    def has_news_of(self, xname: str) -> bool:
        """Tell whether we heard a component so lately that it has yet to be stored."""
        at = self._tracker.changed_at(xname)
        return at is not None and (at >= self._old_since() or xname in self.pending)

    def unstored(self) -> set[str]:
        """Give whom we heard so lately that it has yet to be stored."""
        return self._tracker.changed_since(self._old_since()).keys() | self.pending

    def withdraw_alarms(self) -> None:
        """Raise no alarm that is not safe yet: it is no longer for us to judge."""
        self._waiting = [each for each in self._waiting if not each.transition.alarming]
        self._in_hand = [each for each in self._in_hand if not each.transition.alarming]

    async def close(self) -> None:
        """Commit what is left; a store that is in trouble gets `sm_timeout` seconds for it."""
        timeout = self._params.current.sm_timeout
        finished = Deferred.fromCoroutine(self._finish())
        await finished.addTimeout(timeout, self._clock).addErrback(self._cut_short)

    async def _finish(self) -> None:
        checkpointing = self._checkpointing.running
        if checkpointing:
            self._checkpointing.stop()
        if self._committing is not None:
            await self._committing
        if checkpointing:
            self._resting_until = 0.0
            await self._checkpoint(0.0)

    def ready(self) -> bool:
        """Tell whether the store can be used, or could a moment ago.

        Has to be asked every now and then, to know that.
        """
        if self._store.usable():
            self._usable_at = self._clock.seconds()
        return self._clock.seconds() - self._usable_at < _PATIENCE

    def add(self, judgements: Sequence[Judgement]) -> None:
        """Have judgements committed and told, together with others that come about now."""
        self._waiting.extend(judgements)
        if self._waiting and self._committing is None and self._open:
            committing = Deferred.fromCoroutine(self._commit_all())
            self._committing = committing.addErrback(self._commit_failed)

    def forget(self, xname: str) -> None:
        """Drop what is stored of a component, and what would raise an alarm about it."""
        self._waiting = _without_alarm(self._waiting, xname)
        if any(each.component == xname for each in self._in_hand):
            self._in_hand = _without_alarm(self._in_hand, xname)
            self._forgotten_in_hand.add(xname)
        self._forgotten.add(xname)
        Deferred.fromCoroutine(self._drop(xname))

    async def _commit_all(self) -> None:
        """Commit and hand on until nothing is left."""
        await deferLater(self._clock, _GATHER)
        while self._waiting:
            self._in_hand = self._waiting[:_PORTION]
            del self._waiting[:_PORTION]
            judgements = self._in_hand
            while (ours := await self._commit(judgements)) is None:
                await deferLater(self._clock, _RETRY)
                judgements = self._in_hand
            safe, self._in_hand = self._in_hand, []
            while self._forgotten_in_hand:
                await self._drop(self._forgotten_in_hand.pop())
            if ours:
                self._waiting = _without_repeats(safe, self._waiting)
                self._tell(safe)
            await deferLater(self._clock, 0)
        self._committing = None

    def _commit_failed(self, failure: Failure) -> None:
        """Go on with what comes after something that is a fault of hbtd's."""
        if failure.check(CancelledError):
            failure.raiseException()
        self._log.failure("Handing on judgements failed.", failure)
        self._committing = None
        self.add([])

    async def _commit(self, judgements: Sequence[Judgement]) -> bool | None:
        """Commit judgements, with their records; `None` if that could not be done.

        Otherwise tells whether they are ours to tell, and not another replica's.
        """
        try:
            ours = await self._store.commit(judgements, self._records_of(judgements))
        except CancelledError:
            raise
        except Exception as error:  # noqa: BLE001  # not a reason to lose a judgement
            self._complain(error)
            return None
        self._recovered()
        return ours

    async def _drop(self, xname: str) -> None:
        """Have the store forget a component; if that fails, the next checkpoint tries again."""
        try:
            await self._store.forget(xname)
        except CancelledError:
            raise
        except Exception as error:  # noqa: BLE001  # the next checkpoint must come
            self._complain(error)
        else:
            self._forgotten.discard(xname)

    async def _checkpoint(self, within: float) -> None:
        """Store the records of who was heard since the last time.

        Spread over so many seconds: a store's thread may well be on the reactor's processor.
        """
        if not self.ready():
            self._complain(StoreUnusable(self._store.health()))
        # Who has come back since is stored anew, which is as good.
        self._forgotten = {xname for xname in self._forgotten if xname not in self._tracker}
        for xname in list(self._forgotten):
            await self._drop(xname)
        began = self._clock.seconds()
        if began < self._resting_until:
            return
        # Others may have judged those that were heard long ago.
        waiting = self._tracker.drop_changes_before(self._old_since(), keep=self.pending)
        # Also none: a file then learns what time it is.
        for start in range(0, max(len(waiting), 1), _PORTION):
            if start and within:
                due = began + within * start / len(waiting)
                await deferLater(self._clock, max(due - self._clock.seconds(), 0.0))
                if not self._checkpointing.running:
                    return
            if not await self._checkpoint_some(waiting[start : start + _PORTION]):
                return
        # Other replicas take somebody who is written late to be silent for that long.
        longest = self._params.current.warntime / 3
        self._resting_until = began + min(len(waiting) / _PACE, longest)

    async def _checkpoint_some(self, xnames: Sequence[str]) -> bool:
        """Store the records of these, as far as that is to be done now; tells whether it worked."""
        pending = self.pending
        settled = (xname for xname in xnames if xname not in pending)
        taken = self._tracker.take_changed(settled, self._old_since())
        records = self._records(taken)
        try:
            await self._store.checkpoint(records)
        except CancelledError:
            raise
        except Exception as error:  # noqa: BLE001  # the next checkpoint must come
            self._tracker.put_back({each.component: taken[each.component] for each in records})
            self._complain(error)
            return False
        self._recovered()
        return True

    def _old_since(self) -> float:
        """Give the time before which others may have judged whom we heard then."""
        if not self._store.shared:
            return 0.0
        return self._observed.ticked_at - min(self._params.current.warntime, _OLD_NEWS)

    def _records_of(self, judgements: Sequence[Judgement]) -> list[Record]:
        """Give the records that go with judgements, as the last on each component has them.

        What has come since is stored with what follows.
        """
        if not self._store.durable:
            return []
        last = {judgement.component: judgement for judgement in judgements}
        found = {record.component: record for record in self._records(last)}
        records: list[Record] = []
        for xname, (_, transition, timestamp) in last.items():
            if transition is Transition.DIED or xname not in self._tracker:
                continue
            # Without a record here, the one that has died since, which is yet to be committed.
            record = found.get(xname) or Record(xname, 0.0, timestamp, "", False)
            records.append(record._replace(warned=transition is Transition.WARNED))
        return records

    def _records(self, xnames: Iterable[str]) -> list[Record]:
        at = self._observed.now()
        found = (self._tracker.record(xname, at) for xname in xnames)
        return [record for record in found if record is not None]

    def _complain(self, error: Exception) -> None:
        """Say that the store is in trouble, once, until it is not."""
        if self._complained or isinstance(error, NotLeading):
            # A replica that no longer leads is told to follow, or to lead again, soon.
            return
        self._complained = True
        if isinstance(error, StoreUnusable):
            self._log.warn(
                "The store can't be used, judgements wait and HSM is not told of them: {error}",
                error=str(error),
            )
        else:
            self._log.failure("The store has failed, judgements wait.", Failure(error))

    def _recovered(self) -> None:
        if self._complained and self._store.usable():
            self._complained = False
            self._log.info("The store can be used again.")

    def _cut_short(self, failure: Failure) -> None:
        failure.trap(TimeoutError)
        self._log.error(
            "The store could not take {count} judgements; HSM was not told of them.",
            count=len(self._in_hand) + len(self._waiting),
        )


def _without_repeats(safe: Iterable[Judgement], then: Iterable[Judgement]) -> list[Judgement]:
    """Leave out what says of a component but what was said of it last.

    So it is when a replica begins to lead that had something to ask the leader for.
    """
    last = {judgement.component: judgement.transition for judgement in safe}
    kept: list[Judgement] = []
    for judgement in then:
        if last.get(judgement.component) is not judgement.transition:
            kept.append(judgement)
            last[judgement.component] = judgement.transition
    return kept


def _without_alarm(judgements: Iterable[Judgement], xname: str) -> list[Judgement]:
    """Leave out what would raise an alarm about a component."""
    return [j for j in judgements if j.component != xname or not j.transition.alarming]
