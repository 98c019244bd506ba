"""The monitor: takes heartbeats, finds silent components, passes on the tracker's judgements."""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from itertools import chain

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from hbtd.config.live_params import LiveParams
from hbtd.config.params import Params
from hbtd.guarding.live_guard import LiveGuard
from hbtd.hsm.notifier import Notifier
from hbtd.runtime.periodic import PeriodicService
from hbtd.store.checkpointer import Checkpointer
from hbtd.store.interface import IStore
from hbtd.store.journal import Journal
from hbtd.telemetry.publisher import Publisher
from hbtd.tracker.cohorts import Deadlines
from hbtd.tracker.components import Component, Unheard
from hbtd.tracker.forgotten import Forgotten
from hbtd.tracker.handover import returns, uncommitted_deaths
from hbtd.tracker.observed import TICK, ObservedClock
from hbtd.tracker.tracker import Tracker
from hbtd.tracker.transitions import ALARMS, Judgement, Transition

_BATCH = 500
"""The most judgements made before the reactor can do other work: a few milliseconds' worth."""


async def _settled() -> bool:
    return False


class Monitor:
    """Takes heartbeats, looks for silent components, and passes judgements on to HSM and Kafka.

    Judgements go first to the journal and, once they are committed, to the notifier (for HSM) and
    the publisher (for Kafka). Among replicas, only the leader judges; a follower only tracks
    components.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        observed: ObservedClock,
        tracker: Tracker,
        store: IStore,
        journal: Journal,
        checkpointer: Checkpointer,
        notifier: Notifier,
        publisher: Publisher,
        params: LiveParams,
        unheard: Callable[[], Unheard] = Unheard,
        settle: Callable[[], Awaitable[bool]] = _settled,
        guard: LiveGuard | None = None,
    ) -> None:
        """Make a monitor that has yet to be started.

        `journal` commits the judgements, and passes them on to `notifier` and `publisher`;
        `checkpointer` stores the records that heartbeats change. `unheard` returns the components
        whose judgement is postponed, because heartbeats from them may not have been read yet.
        `settle` waits while the rules are being changed, for a few seconds at most, and returns
        whether it has waited.
        `guard` says whose deaths wait; without one, nobody's do.
        """
        self._clock = clock
        self._observed = observed
        self._tracker = tracker
        self._store = store
        self._notifier = notifier
        self._publisher = publisher
        self._params = params
        self._unheard = unheard
        self._settle = settle
        self._guard = guard
        self._forgotten = Forgotten()
        self._journal = journal
        self._checkpointer = checkpointer
        self._ticking = PeriodicService(clock, TICK, self._tick, "the observed clock")
        self._sweeping = PeriodicService(
            clock, params.current.interval, self._sweep, "the sweep", now=False
        )
        self.now = observed.now
        """A function that returns the current time of the observed clock, in seconds."""
        self.beat_again = tracker.beat_again
        """A function that takes a heartbeat of a healthy component; see `Tracker.beat_again`.

        It returns `False`, and does nothing, if the component is not healthy. The attribute is
        `Tracker.beat_again` itself: a method that only called it would cost time per heartbeat.
        """
        self.running = False
        """Whether the monitor has been started, and has not been stopped since."""
        self.leading = False
        """Whether this replica is the leader, which is the only replica that judges."""
        self.judged = Counter(dict.fromkeys(Transition, 0))
        """The number of judgements since the start, by transition."""
        self.sweep_seconds = 0.0
        """The duration of the last sweep in seconds, including other work done meanwhile."""
        params.on_change(self._params_changed)

    async def start(self) -> None:
        """Restore the tracker from the store, and begin to judge.

        The observed clock stands still until `start_observing` is called. If the store is shared by
        replicas, the tracker is not restored and nothing is judged here: `hbtd.replicas` restores
        the tracker later, and calls `become_leader` once this replica leads. Raise `StoreUnusable`
        if a store that is not shared can't be read.
        """
        self.running = True
        if not self._store.shared:
            await self._checkpointer.restore()
        if self._guard is not None:
            self._guard.begin()
        self._advise(self._params.current)
        if not self._store.shared:
            await self.become_leader()
        self._checkpointer.begin()
        self._journal.begin()

    def start_observing(self) -> None:
        """Start the observed clock, because heartbeats can arrive from now on."""
        self._ticking.startService()

    def stop_observing(self) -> None:
        """Stop the sweeps and the observed clock, because heartbeats may no longer arrive."""
        self._sweeping.stopService()
        self._ticking.stopService()

    async def stop(self) -> None:
        """Stop judging; commit and pass on the remaining judgements, and store changed records.

        Work that is not done after `sm_timeout` seconds (a parameter of hbtd) is given up.
        """
        self.running = False
        self.stop_observing()
        self._checkpointer.end()
        stop_at = self._clock.seconds() + self._params.current.sm_timeout
        if await self._journal.close(stop_at - self._clock.seconds()):
            await self._checkpointer.finish(stop_at - self._clock.seconds())

    def beat(
        self,
        xname: str,
        timestamp: str,
        status: str,
        source: str | None = None,
        fresh: bool = False,
        hostname: str = "",
        nid: str = "",
    ) -> None:
        """Take a heartbeat of a component, whose `xname` must be valid and in normal form.

        `source` is the sender's IP address, `None` on a Unix socket; `fresh` says whether this is
        the first heartbeat on its connection. `hostname` and `nid` are empty if the heartbeat has
        none. Raise `TrackerFull` if the component is not tracked and the maximum number of
        components is reached.
        """
        if self._observed.stalled:
            self._tick()  # it was sent before, perhaps, and is read before the timers run
        at = self._observed.now()
        judgement = self._tracker.beat(xname, at, timestamp, status, source, fresh, hostname, nid)
        if judgement is not None:
            self.commit([judgement])

    def forget_on_request(self, xname: str) -> str | None:
        """Forget a component as `forget` does, but at most once in `errtime` seconds.

        Return the component's last state, in words for the caller's log line, or `None` if the
        component was not tracked.

        Raise `ForgottenLately`, and forget nothing, if the component is tracked, and was forgotten
        less than `errtime` seconds ago on the reactor's clock. Without this limit, a node could
        cause any number of transitions, updates of HSM and log lines, by sending heartbeats and
        requests to be forgotten in turn.
        """
        if xname in self._tracker:
            self._forgotten.check(xname, self._clock.seconds(), self._params.current.errtime)
        before = self._describe(xname)
        self._forget(xname)
        return before

    def forgotten(self) -> Deferred[None]:
        """Return a Deferred that fires when the store has carried out earlier calls of `forget`."""
        return self._checkpointer.forgotten()

    def forget(self, xname: str) -> None:
        """Stop tracking a component, and withdraw unsent alarms about that component.

        Call this method when another replica was asked to forget the component. The log of that
        replica says who asked.
        """
        if self._forget(xname):
            self._log.info(
                "{xname} is no longer tracked: another replica was asked to forget it.", xname=xname
            )

    def stop_tracking(self, xname: str) -> bool:
        """Stop tracking a component on request; return whether the component was tracked.

        The request may have been made to this replica or to another one: both kinds of requests
        count towards the limit of `forget_on_request`.
        """
        tracked = self._tracker.forget(xname)
        if tracked:
            self._forgotten.note(xname, self._clock.seconds(), self._params.current.errtime)
        return tracked

    def _describe(self, xname: str) -> str | None:
        """Return the state of a component in words; `None` if the component is not tracked."""
        record = self._tracker.record(xname, self._observed.now())
        if record is None:
            return "dead" if xname in self._tracker else None
        state = "warned about" if record.warned else "healthy"
        return f"{state}, last heard {max(record.age, 0.0):.1f} s before"

    def _forget(self, xname: str) -> bool:
        tracked = self.stop_tracking(xname)
        self._journal.forget(xname)
        self._notifier.withdraw(xname)
        return tracked

    def heartbeating(self, xnames: Iterable[str]) -> list[bool]:
        """Return, for each of `xnames`, whether it was last heard less than `errtime` seconds ago.

        The seconds are those of the observed clock. Dead components count as not heard.
        """
        at, errtime = self._observed.now(), self._params.current.errtime
        return [self._tracker.heartbeating(xname, at, errtime) for xname in xnames]

    @property
    def limits(self) -> Params:
        """The current parameters, among them the limits by which components are judged."""
        return self._params.current

    def silence(self, component: Component) -> float:
        """Return the observed seconds since a component was last heard; `inf` if not known."""
        return max(self._observed.now() - component.last_heard, 0.0)

    def judged_later(self, xname: str, component: Component) -> bool:
        """Return whether alarms about a component, named `xname`, are postponed.

        Alarms are postponed as long as heartbeats of the component may have reached a replica that
        has yet to read them.
        """
        return self._unheard().includes(xname, component)

    def store_ready(self) -> bool:
        """Return whether the store can be used now, or could be used less than five seconds ago.

        See `Journal.ready`.
        """
        return self._journal.ready()

    # Leading and following

    async def become_leader(self, started: Iterable[str] = ()) -> None:
        """Begin to judge, and send judgements that the previous leader or process left undelivered.

        `started` are components whose first heartbeat was taken by a follower. The healthy ones
        among them are judged to have started. Raise `StoreUnusable` if the store can't be read.
        """
        self.leading = True
        self._journal.lead()
        self._tracker.sort_queues()
        since = self._store.last_number()
        undelivered = await self._store.undelivered(self._tracker.share_texts())
        alarms = await self._store.judgements(ALARMS)
        # Others are kept only until they are delivered.
        deaths = uncommitted_deaths(self._tracker, chain(alarms, undelivered))
        at = self._observed.now()
        due = [*deaths, *returns(self._tracker, at, chain(alarms, undelivered), started)]
        del alarms, deaths
        undelivered = self._without_the_gone(undelivered)
        # Newer judgements must not be sent before those that are resumed.
        self._notifier.resume(undelivered, {judgement.component for judgement in due})
        self._publisher.lead(undelivered, since)
        self.commit(due)
        if self._guard is not None:
            self._guard.lead()
        self._sweeping.startService()

    def become_follower(self) -> None:
        """Stop judging, and drop unsent updates to HSM and messages to Kafka.

        The new leader sends them.
        """
        self.leading = False
        self._sweeping.stopService()
        if self._guard is not None:
            self._guard.follow()
        self._journal.follow()
        self._notifier.drop_all()
        self._publisher.follow()

    def judge_returns(self, started: Iterable[str] = (), warned: Iterable[str] = ()) -> None:
        """Judge that healthy components have started or restarted; do nothing on a follower.

        `started` are components that started while this replica was a follower. The follower asked
        the leader of that time to judge them; now that this replica leads, it judges them itself.
        `warned` are components whose warnings HSM may have received from an original hbtd, which
        stores no judgements.
        """
        if self.leading:
            self.commit(returns(self._tracker, self._observed.now(), [], started, warned))

    def _without_the_gone(self, undelivered: list[Judgement]) -> list[Judgement]:
        """Return `undelivered` without judgements on warned components that are no longer tracked.

        An original hbtd has declared these components dead, told HSM, and deleted their records.
        """
        warned = {j.component for j in undelivered if j.transition is Transition.WARNED}
        gone = {xname for xname in warned if xname not in self._tracker}
        for xname in gone:
            self._journal.forget(xname)
        if not gone:
            return undelivered
        return [each for each in undelivered if each.component not in gone]

    # Periodic work and commits

    def _advise(self, params: Params) -> None:
        """Log a warning if `warntime` is so long that components die without being warned about."""
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
        at = self._observed.ticked_at
        self._tracker.tick(at, reads_late=self._store.shared and at < self._observed.caught_up_at)

    async def _sweep(self) -> None:
        """Judge all overdue components, in batches between which the reactor can do other work."""
        began = self._clock.seconds()
        more, again = True, False
        while more:
            # Whatever arrived before this moment is read in between, and counts.
            at = self._observed.now()
            await deferLater(self._clock, 0)
            if await self._settle():
                continue
            if not (self.running and self.leading):
                return
            held: Mapping[str, Deadlines] = {}
            if self._guard is not None:
                held = await self._guard.prepare(at, self._unheard(), again=again)
                if await self._settle():
                    continue  # the rules have begun to change meanwhile
                if not (self.running and self.leading):
                    return
            params = self._params.current
            judgements = self._tracker.sweep(
                at, params.warntime, params.errtime, _BATCH, self._unheard(), held
            )
            self.commit(judgements)
            more, again = len(judgements) + self._tracker.held_back >= _BATCH, True
        self.sweep_seconds = self._clock.seconds() - began

    def commit(self, judgements: Sequence[Judgement]) -> None:
        """Pass judgements to the journal, which commits them.

        On a follower, the store does not commit them, but turns them into requests to the leader.
        """
        if self.leading:
            self.judged.update(judgement.transition for judgement in judgements)
        self._journal.add(judgements)
