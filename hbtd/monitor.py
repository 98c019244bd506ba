"""The monitor: drives the tracker, and hands on what it finds."""

from collections import Counter
from collections.abc import Iterable, Sequence

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from hbtd.hsm.notifier import Notifier
from hbtd.ledger import Ledger
from hbtd.params import LiveParams, Params
from hbtd.periodic import periodic
from hbtd.store.interface import IStore
from hbtd.telemetry.publisher import Publisher
from hbtd.tracker.observed import TICK, ObservedClock
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
        self._notifier = notifier
        self._publisher = publisher
        self._params = params
        self._ledger = Ledger(clock, observed, tracker, store, params, self._tell)
        self._listening = periodic(clock, observed.tick)
        self._sweeping = periodic(clock, self._sweep)
        self.judged = Counter(dict.fromkeys(Transition, 0))
        """How many judgements of each kind were made."""
        self.sweep_seconds = 0.0
        """How long the last sweep took, waiting for its turns included."""
        params.on_change(self._params_changed)

    def beat(self, xname: str, timestamp: str, status: str) -> None:
        """Take a heartbeat of a component, named in normal form."""
        judgement = self._tracker.beat(xname, self._observed.now(), timestamp, status)
        if judgement is not None:
            self._judged([judgement])

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
        """Go on where the store says that the last one stopped."""
        super().startService()
        self._notifier.tell(await self._ledger.open())
        # Only now: news must not overtake what was picked up.
        self._ledger.begin()
        self._advise(self._params.current)
        self._listening.start(TICK)
        self._sweeping.start(self._params.current.interval, now=False)

    def startService(self) -> None:
        """Do as `start`."""
        Deferred.fromCoroutine(self.start()).addErrback(
            lambda failure: self._log.failure("The monitor could not start.", failure)
        )

    def stop_sweeping(self) -> None:
        """Judge nobody's silence any more: from now on we may not hear."""
        for loop in (self._sweeping, self._listening):
            if loop.running:
                loop.stop()

    async def stop(self) -> None:
        """Hand on what has been judged; a store that is in trouble gets `sm_timeout` seconds."""
        super().stopService()
        self.stop_sweeping()
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
            # A loop that is in the middle of a sweep can't be started again.
            self._sweeping.stop()
            self._sweeping = periodic(self._clock, self._sweep)
            self._sweeping.start(new.interval, now=False)

    async def _sweep(self) -> None:
        """Judge everybody who is overdue, in portions that leave the reactor free."""
        began = self._clock.seconds()
        while self.running:
            params = self._params.current
            judgements = self._tracker.sweep(
                self._observed.now(), params.warntime, params.errtime, _PORTION
            )
            self._judged(judgements)
            if len(judgements) < _PORTION:
                break
            await deferLater(self._clock, 0)
        self.sweep_seconds = self._clock.seconds() - began

    def _judged(self, judgements: Sequence[Judgement]) -> None:
        self.judged.update(judgement.transition for judgement in judgements)
        self._ledger.add(judgements)

    def _tell(self, judgements: Sequence[Judgement]) -> None:
        """Log judgements, a line for each kind, and have HSM and Kafka told."""
        components: dict[Transition, list[str]] = {}
        for judgement in judgements:
            components.setdefault(judgement.transition, []).append(judgement.component)
        for transition, xnames in components.items():
            self._log.info("{said}: {xnames}", said=transition.message, xnames=" ".join(xnames))
        self._notifier.tell(judgements)
        self._publisher.tell(judgements)
