"""The monitor: drives the tracker, and passes its judgements on."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from hbtd.config.live_params import LiveParams
from hbtd.config.params import Params
from hbtd.hsm.notifier import Notifier
from hbtd.runtime.periodic import PeriodicService
from hbtd.store.interface import IStore
from hbtd.store.ledger import Ledger
from hbtd.telemetry.publisher import Publisher
from hbtd.tracker.observed import TICK, ObservedClock
from hbtd.tracker.records import Record
from hbtd.tracker.tracker import Tracker
from hbtd.tracker.transitions import Judgement, Transition

_BATCH = 500
"""Judgements made before other work of the reactor gets its turn: these take few milliseconds."""


class Monitor:
    """Takes heartbeats, sweeps for silent components, and has HSM and Kafka told of judgements.

    Judgements go to the ledger first, and to the notifier and the publisher once they are safe in
    the store. Of replicas only the leader judges; a follower tracks what the others write.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        observed: ObservedClock,
        tracker: Tracker,
        store: IStore,
        notifier: Notifier,
        publisher: Publisher,
        params: LiveParams,
        jitter: Callable[[], float],
    ) -> None:
        """`jitter` returns a random number from 0 to 1, as `random.random` does."""
        self._clock = clock
        self._observed = observed
        self._tracker = tracker
        self._store = store
        self._notifier = notifier
        self._publisher = publisher
        self._params = params
        tellers = (notifier.tell, publisher.tell)
        self._ledger = Ledger(clock, observed, tracker, store, params, tellers, jitter)
        self._ticking = PeriodicService(clock, TICK, self._tick, "the observed clock")
        self._sweeping = PeriodicService(
            clock, params.current.interval, self._sweep, "the sweep", now=False
        )
        self.running = False
        """Whether it was started, and not stopped since."""
        self.leading = False
        """Whether this replica is the one that judges."""
        self.judged = Counter(dict.fromkeys(Transition, 0))
        """The number of judgements of each kind."""
        self.sweep_seconds = 0.0
        """The duration of the last sweep, in seconds; other work in between is included."""
        params.on_change(self._params_changed)

    async def start(self) -> None:
        """Load what the store has, and begin to count observed time and to judge.

        With a shared store, the replica loads it and decides which one judges.
        """
        self.running = True
        if not self._store.shared:
            await self._ledger.open()
        self._ticking.startService()
        self._advise(self._params.current)
        if not self._store.shared:
            await self.become_leader()
        self._ledger.begin()

    def stop_observing(self) -> None:
        """Stop to judge silence and to count time: components may not be heard any more."""
        self._sweeping.stopService()
        self._ticking.stopService()

    async def stop(self) -> None:
        """Commit and pass on all judgements; a failing store gets `sm_timeout` seconds for it."""
        self.running = False
        self.stop_observing()
        await self._ledger.close()

    def beat(self, xname: str, timestamp: str, status: str) -> None:
        """Take a heartbeat of a component; `xname` is valid and in normal form.

        Raise `TrackerFull` for a new component when there is no room for it.
        """
        judgement = self._tracker.beat(xname, self._observed.now(), timestamp, status)
        if judgement is not None:
            self._commit([judgement])

    def beat_again(self, xname: str, timestamp: str, status: str) -> bool:
        """Take a heartbeat if `xname`, which need not be valid, is a healthy component.

        Return whether it is; if not, nothing has changed. Nearly all heartbeats are such, and are
        spared the check of the name.
        """
        return self._tracker.beat_again(xname, self._observed.now(), timestamp, status)

    def forget(self, xname: str) -> None:
        """Stop tracking a component, and withdraw alarms about it that were not sent."""
        if self._tracker.forget(xname):
            self._log.info("{xname} is going away and is forgotten.", xname=xname)
        self._ledger.forget(xname)
        self._notifier.withdraw(xname)

    def heartbeating(self, xnames: Iterable[str]) -> list[bool]:
        """Return for each component whether it was heard less than `errtime` seconds ago."""
        at, errtime = self._observed.now(), self._params.current.errtime
        return [self._tracker.heartbeating(xname, at, errtime) for xname in xnames]

    def store_ready(self) -> bool:
        """Return whether the store can be used, or could a moment ago."""
        return self._ledger.ready()

    # Leading and following

    async def become_leader(self, started: Iterable[str] = ()) -> None:
        """Judge from now on, and finish what the last leader, or the last process, has begun.

        `started` are components whose first heartbeat a follower took; those that live are judged.
        """
        self.leading = True
        self._ledger.lead()
        self._tracker.sort_queues()
        undelivered, stored = await self._store.undelivered(), await self._store.judgements()
        due = [*self._uncommitted_deaths(stored), *self._returns(stored, started)]
        # Newer judgements must not be sent before those that are resumed.
        self._notifier.resume(undelivered, {judgement.component for judgement in due})
        self._publisher.tell(undelivered)
        self._commit(due)
        self._sweeping.startService()

    def become_follower(self) -> None:
        """Leave judging, and what was not sent yet, to another replica."""
        self.leading = False
        self._sweeping.stopService()
        self._ledger.follow()
        self._notifier.drop_all()
        self._publisher.drop_all()

    def _uncommitted_deaths(self, stored: Iterable[Judgement]) -> list[Judgement]:
        """Judge dead components again whose death is not in the store: etcd has lost its data."""
        latest = {each.component: each for each in stored}
        deaths: list[Judgement] = []
        for xname in self._tracker.dead_components():
            judgement = latest.get(xname)
            if judgement is None or judgement.transition is not Transition.DIED:
                timestamp = "" if judgement is None else judgement.timestamp
                deaths.append(Judgement(xname, Transition.DIED, timestamp))
        return deaths

    def _returns(self, stored: Iterable[Judgement], started: Iterable[str]) -> list[Judgement]:
        """Judge healthy components whose latest judgement is an alarm, or that have none."""
        at = self._observed.now()
        latest = dict.fromkeys(started, Transition.DIED)
        latest.update((each.component, each.transition) for each in stored)
        returns: list[Judgement] = []
        for xname, transition in latest.items():
            record = self._tracker.record(xname, at)
            if transition.alarming and record is not None and not record.warned:
                back = (
                    Transition.RESTARTED if transition is Transition.WARNED else Transition.STARTED
                )
                returns.append(Judgement(xname, back, record.timestamp))
        return returns

    # What other replicas write

    def load(self, records: Iterable[Record], dead: Iterable[str]) -> None:
        """Replace what is known by what is stored, except for heartbeats that are not stored yet.

        `dead` are the components whose latest stored judgement is that they died.
        """
        params = self._params.current
        self._ledger.withdraw_alarms()
        self._tracker.keep_only(self._ledger.unstored())
        self._tracker.restore(records, dead, self._observed.now(), params.warntime, params.errtime)

    def add_missing(self, records: Iterable[Record]) -> None:
        """Track the components of records that are not known yet."""
        params = self._params.current
        self._tracker.restore(records, (), self._observed.now(), params.warntime, params.errtime)

    def apply_heartbeat(self, record: Record) -> None:
        """Apply a heartbeat that another replica took; the leader judges it."""
        judgement = self._tracker.apply_beat(
            record.component, self._observed.now(), record.timestamp, record.status
        )
        if judgement is not None and self.leading:
            self._commit([judgement])

    def apply_warning(self, record: Record) -> None:
        """Apply a warning by the leader, unless the component was heard here since."""
        known = record.component in self._tracker
        if (self.leading and known) or self._ledger.has_unstored(record.component):
            return
        params = self._params.current
        self._tracker.apply_warning(record, self._observed.now(), params.warntime, params.errtime)

    def apply_death(self, xname: str) -> None:
        """Apply a death that the leader has judged, unless the component was heard here since."""
        if not self._ledger.has_unstored(xname):
            self._tracker.apply_death(xname)

    def apply_removal(self, xname: str) -> None:
        """Stop tracking a component whose record was removed, unless it was heard here since."""
        if self.is_stored(xname):
            self._tracker.forget(xname)
            self._notifier.withdraw(xname)

    def apply_forget(self, xname: str) -> None:
        """Forget a component that another replica was asked to forget; the leader does so for all.

        This counts for more than a heartbeat here that is not stored yet, which came before. If the
        component is back already, its next heartbeat tells.
        """
        if self.leading:
            self.forget(xname)
        else:
            self._tracker.forget(xname)

    def judge_started(self, xname: str) -> None:
        """As the leader, judge a component that started here before this replica led."""
        if self.leading:
            self._commit(self._returns([], [xname]))

    def store_all(self) -> None:
        """Have the records of all living components stored anew."""
        self._tracker.mark_all_changed(self._observed.ticked_at)

    def is_stored(self, xname: str) -> bool:
        """Return whether a component lives and its last heartbeat here is in the store."""
        living = self._tracker.record(xname, self._observed.now()) is not None
        return living and not self._ledger.has_unstored(xname)

    def all_committed(self, xnames: Iterable[str]) -> list[str]:
        """Return those of some components whose judgements are all committed."""
        pending = self._ledger.pending
        return [xname for xname in xnames if xname not in pending]

    # The work itself

    def _advise(self, params: Params) -> None:
        """Warn of times that are allowed but hardly meant."""
        if params.warntime >= params.errtime:
            self._log.warn(
                "No component will be warned about before it is declared dead: warntime is"
                " {warntime} s, errtime {errtime} s.",
                warntime=params.warntime,
                errtime=params.errtime,
            )

    def _params_changed(self, old: Params, new: Params) -> None:
        if (new.warntime, new.errtime) != (old.warntime, old.errtime):
            self._advise(new)
        if new.interval != old.interval:
            self._sweeping.interval = new.interval

    def _tick(self) -> None:
        self._observed.tick()
        self._tracker.tick(self._observed.ticked_at)

    async def _sweep(self) -> None:
        """Judge all overdue components, in batches between which other work gets its turn."""
        began = self._clock.seconds()
        while self.running and self.leading:
            params = self._params.current
            judgements = self._tracker.sweep(
                self._observed.now(), params.warntime, params.errtime, _BATCH
            )
            self._commit(judgements)
            if len(judgements) < _BATCH:
                break
            await deferLater(self._clock, 0)
        self.sweep_seconds = self._clock.seconds() - began

    def _commit(self, judgements: Sequence[Judgement]) -> None:
        """Have judgements committed and told; a follower's store turns them into requests."""
        if self.leading:
            self.judged.update(judgement.transition for judgement in judgements)
        self._ledger.add(judgements)
