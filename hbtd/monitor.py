"""The monitor: drives the tracker, and hands on what it finds."""

from collections import Counter
from collections.abc import Iterable, Sequence

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from hbtd.config.params import LiveParams, Params
from hbtd.hsm.notifier import Notifier
from hbtd.runtime.periodic import periodic
from hbtd.store.interface import IStore
from hbtd.store.ledger import Ledger
from hbtd.telemetry.publisher import Publisher
from hbtd.tracker.observed import TICK, ObservedClock
from hbtd.tracker.records import Record
from hbtd.tracker.tracker import Tracker
from hbtd.tracker.transitions import Judgement, Transition

_PORTION = 500
"""Judgements made before the reactor gets its turn: they take few milliseconds."""


class Monitor(Service):
    """Takes heartbeats, sweeps for silence, and has HSM and Kafka told of every judgement.

    Judgements go to the ledger first, and to the others once they are safe in the store.
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
    ) -> None:
        self._clock = clock
        self._observed = observed
        self._tracker = tracker
        self._store = store
        self._notifier = notifier
        self._publisher = publisher
        self._params = params
        self._ledger = Ledger(clock, observed, tracker, store, params, self._tell)
        self._listening = periodic(clock, self._listen)
        self._sweeping = periodic(clock, self._sweep)
        self.leading = False
        """Whether it is us who judge."""
        self.judged = Counter(dict.fromkeys(Transition, 0))
        """How many judgements of each kind were made."""
        self.sweep_seconds = 0.0
        """How long the last sweep took, waiting for its turns included."""
        params.on_change(self._params_changed)

    def beat(self, xname: str, timestamp: str, status: str) -> None:
        """Take a heartbeat of a component, named in normal form."""
        judgement = self._tracker.beat(xname, self._observed.now(), timestamp, status)
        if judgement is not None:
            self._hand_over([judgement])

    def beat_again(self, xname: str, timestamp: str, status: str) -> bool:
        """Take a heartbeat of a component that is healthy under exactly this name, in any form.

        Tells whether there is one; otherwise nothing has happened. This is what nearly all
        heartbeats are, and saves them the check of the name.
        """
        return self._tracker.beat_again(xname, self._observed.now(), timestamp, status)

    def forget(self, xname: str) -> None:
        """Stop following a component, and raise no alarm about it any more."""
        if self._tracker.forget(xname):
            self._log.info("{xname} is going away and is forgotten.", xname=xname)
        self._ledger.forget(xname)
        self._notifier.withdraw(xname)

    def heartbeating(self, xnames: Iterable[str]) -> list[bool]:
        """Tell of each component whether it was heard less than `errtime` seconds ago."""
        at, errtime = self._observed.now(), self._params.current.errtime
        return [self._tracker.heartbeating(xname, at, errtime) for xname in xnames]

    def ready(self) -> bool:
        """Tell whether we can do our work."""
        return self._ledger.ready()

    async def start(self) -> None:
        """Begin to take heartbeats; judge, too, unless a store is shared, whose replicas settle it.

        What a store of our own has is taken up first.
        """
        super().startService()
        if not self._store.shared:
            await self._ledger.open()
        self._listening.start(TICK)
        self._advise(self._params.current)
        if not self._store.shared:
            await self.lead()
        self._ledger.begin()

    async def lead(self, started: Iterable[str] = ()) -> None:
        """Judge from now on, beginning with what whoever did so before has left undone.

        `started` are components that somebody else has heard to start, to be judged if they live.
        """
        self.leading = True
        self._tracker.put_in_order()
        undelivered, standing = await self._store.undelivered(), await self._store.standing()
        due = [*self._unsaid_deaths(standing), *self._due(standing, started)]
        # News must not overtake what is picked up.
        self._notifier.resume(undelivered, {judgement.component for judgement in due})
        self._publisher.tell(undelivered)
        self._hand_over(due)
        self._start_sweeping()

    def follow(self) -> None:
        """Leave judging and telling to another replica."""
        self.leading = False
        if self._sweeping.running:
            self._sweeping.stop()
        self._ledger.withdraw_alarms()
        self._notifier.drop_all()
        self._publisher.drop_all()

    def _unsaid_deaths(self, standing: Iterable[Judgement]) -> list[Judgement]:
        """Judge once more who has died and was not committed: etcd lost its data before that."""
        said = {each.component: each for each in standing}
        unsaid: list[Judgement] = []
        for xname in self._tracker.dead_components():
            last = said.get(xname)
            if last is None or last.transition is not Transition.DIED:
                timestamp = "" if last is None else last.timestamp
                unsaid.append(Judgement(xname, Transition.DIED, timestamp))
        return unsaid

    def _due(self, standing: Iterable[Judgement], started: Iterable[str]) -> list[Judgement]:
        """Judge who lives although the last word on it was an alarm, or there was none."""
        at = self._observed.now()
        last = dict.fromkeys(started, Transition.DIED)
        last.update((each.component, each.transition) for each in standing)
        due: list[Judgement] = []
        for xname, transition in last.items():
            record = self._tracker.record(xname, at)
            if transition.alarming and record is not None and not record.warned:
                back = (
                    Transition.RESTARTED if transition is Transition.WARNED else Transition.STARTED
                )
                due.append(Judgement(xname, back, record.timestamp))
        return due

    # What other replicas do

    def take_up(self, records: Iterable[Record], dead: Iterable[str]) -> None:
        """Believe the store instead of what we knew, but for what it has yet to hear from us."""
        params = self._params.current
        self._ledger.withdraw_alarms()
        self._tracker.start_over(self._ledger.unstored())
        self._tracker.restore(records, dead, self._observed.now(), params.warntime, params.errtime)

    def add(self, records: Iterable[Record]) -> None:
        """Learn of components that we don't know, beside what we knew."""
        params = self._params.current
        self._tracker.restore(records, (), self._observed.now(), params.warntime, params.errtime)

    def heard_elsewhere(self, record: Record) -> None:
        """Note a heartbeat that another replica took."""
        judgement = self._tracker.heard(
            record.component, self._observed.now(), record.timestamp, record.status
        )
        if judgement is not None and self.leading:
            self._hand_over([judgement])

    def warned_elsewhere(self, record: Record) -> None:
        """Note a warning that the leader has made, unless we have heard the component since."""
        known = record.component in self._tracker
        if (self.leading and known) or self._ledger.has_news_of(record.component):
            return
        params = self._params.current
        self._tracker.warned_by(record, self._observed.now(), params.warntime, params.errtime)

    def died_elsewhere(self, xname: str) -> None:
        """Note a death that the leader has made out, unless we have heard the component since."""
        if not self._ledger.has_news_of(xname):
            self._tracker.died(xname)

    def gone(self, xname: str) -> None:
        """Note that a component's record is gone: nobody is to follow it, unless it is back."""
        if self.stored(xname):
            self._tracker.forget(xname)
            self._notifier.withdraw(xname)

    def started_here(self, xname: str) -> None:
        """Judge who started here before we led, if nobody else was left to do it."""
        if self.leading:
            self._hand_over(self._due([], [xname]))

    def forgotten_elsewhere(self, xname: str) -> None:
        """Forget who has said goodbye to another replica; the leader does so for all.

        Also if we have heard it since it was stored: that was before. Should it be back already,
        its next heartbeat tells.
        """
        if self.leading:
            self.forget(xname)
        else:
            self._tracker.forget(xname)

    def note_all(self) -> None:
        """Have everybody's record stored anew."""
        self._tracker.mark_all_changed(self._observed.ticked_at)

    def stored(self, xname: str) -> bool:
        """Tell whether a component lives, and the store knows it: not only we, since just now."""
        living = self._tracker.record(xname, self._observed.now()) is not None
        return living and not self._ledger.has_news_of(xname)

    def settled(self, xnames: Iterable[str]) -> list[str]:
        """Give those of whom no judgement is still to be committed."""
        pending = self._ledger.pending
        return [xname for xname in xnames if xname not in pending]

    def startService(self) -> None:
        """Do as `start`."""
        Deferred.fromCoroutine(self.start()).addErrback(
            lambda failure: self._log.failure("The monitor could not start.", failure)
        )

    def stop_listening(self) -> None:
        """Judge nobody's silence, and count no time, any more: from now on we may not hear."""
        for loop in (self._sweeping, self._listening):
            if loop.running:
                loop.stop()

    async def stop(self) -> None:
        """Hand on what has been judged; a store that is in trouble gets `sm_timeout` seconds."""
        super().stopService()
        self.stop_listening()
        await self._ledger.close()

    def stopService(self) -> Deferred[None]:
        """Do as `stop`."""
        return Deferred.fromCoroutine(self.stop())

    def _advise(self, params: Params) -> None:
        """Say what is allowed but hardly meant."""
        if params.warntime >= params.errtime:
            self._log.warn(
                "Nobody will be warned about before being declared dead: warntime is {warntime} s,"
                " errtime {errtime} s.",
                warntime=params.warntime,
                errtime=params.errtime,
            )

    def _params_changed(self, old: Params, new: Params) -> None:
        if (new.warntime, new.errtime) != (old.warntime, old.errtime):
            self._advise(new)
        if self._sweeping.running and new.interval != old.interval:
            self._sweeping.stop()
            self._start_sweeping()

    def _listen(self) -> None:
        self._observed.tick()
        self._tracker.tick(self._observed.ticked_at)

    def _start_sweeping(self) -> None:
        # Anew, for a loop that is in the middle of a sweep can't be started again.
        self._sweeping = periodic(self._clock, self._sweep)
        self._sweeping.start(self._params.current.interval, now=False)

    async def _sweep(self) -> None:
        """Judge everybody who is overdue, in portions that leave the reactor free."""
        began = self._clock.seconds()
        while self.running and self.leading:
            params = self._params.current
            judgements = self._tracker.sweep(
                self._observed.now(), params.warntime, params.errtime, _PORTION
            )
            self._hand_over(judgements)
            if len(judgements) < _PORTION:
                break
            await deferLater(self._clock, 0)
        self.sweep_seconds = self._clock.seconds() - began

    def _hand_over(self, judgements: Sequence[Judgement]) -> None:
        """Have judgements committed and told; the store of who follows makes requests of them."""
        if self.leading:
            self.judged.update(judgement.transition for judgement in judgements)
        self._ledger.add(judgements)

    def _tell(self, judgements: Sequence[Judgement]) -> None:
        """Log judgements, a line for each kind, and have HSM and Kafka told.

        Not those that became safe when we had just ceased to lead: whoever leads now finds them.
        """
        if not self.leading:
            return
        components: dict[Transition, list[str]] = {}
        for judgement in judgements:
            components.setdefault(judgement.transition, []).append(judgement.component)
        for transition, xnames in components.items():
            self._log.info("{said}: {xnames}", said=transition.message, xnames=" ".join(xnames))
        self._notifier.tell(judgements)
        self._publisher.tell(judgements)
