"""The monitor: drives the tracker and sees that what it finds is kept, and told."""

from collections import Counter
from collections.abc import Iterable, Sequence

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger

from hbtd.hsm.notifier import Notifier
from hbtd.params import LiveParams, Params
from hbtd.store.interface import IStore, StoreUnusable
from hbtd.telemetry.publisher import Publisher
from hbtd.tracker.observed import TICK, ObservedClock
from hbtd.tracker.tracker import Tracker
from hbtd.tracker.transitions import Judgement, Transition

_GATHER = 0.1
"""Seconds for which judgements are gathered, so that a boot storm becomes a few PATCHes."""

_COMMIT_RETRY = 1.0
"""Seconds before a commit that the store could not do is tried again."""

_PORTION = 500
"""Judgements made, or handed on, before the reactor gets its turn: they take few milliseconds."""


class Monitor(Service):
    """Takes heartbeats, sweeps for silence, and hands every judgement on.

    A judgement goes to the store first, and to HSM and Kafka once it is safe there; all in the
    order in which they were made.
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
        self._listening = LoopingCall(observed.now)
        self._sweeping = LoopingCall(self._sweep)
        self._listening.clock = self._sweeping.clock = clock
        self._swept: Deferred[None] | None = None
        self._uncommitted: list[Judgement] = []
        self._committing: Deferred[None] | None = None
        self.judged = Counter(dict.fromkeys(Transition, 0))
        """How many judgements of each kind were made."""
        self.sweep_seconds = 0.0
        """How long the last sweep took, waiting for its turns included."""
        params.on_change(self._params_changed)

    def beat(self, xname: str, timestamp: str, status: str) -> None:
        """Take a heartbeat of a component, named in normal form."""
        judgement = self._tracker.beat(xname, self._observed.now(), timestamp, status)
        if judgement is not None:
            self._announce([judgement])

    def forget(self, xname: str) -> None:
        """Stop following a component, and raise no alarm about it any more."""
        if self._tracker.forget(xname):
            self._log.info("{xname} is going away and is forgotten.", xname=xname)
        self._uncommitted = [
            judgement
            for judgement in self._uncommitted
            if judgement.component != xname or not judgement.transition.alarming
        ]
        self._notifier.withdraw(xname)
        self._store.forget(xname).addErrback(
            lambda failure: self._log.failure("The store could not forget a component.", failure)
        )

    def heartbeating(self, xnames: Iterable[str]) -> list[bool]:
        """Tell of each component whether it was heard less than `errtime` seconds ago."""
        at, errtime = self._observed.now(), self._params.current.errtime
        return [self._tracker.heartbeating(xname, at, errtime) for xname in xnames]

    async def start(self) -> None:
        """Pick up what has not been delivered, and begin to sweep."""
        super().startService()
        self._notifier.tell(await self._store.undelivered())
        self._listening.start(TICK)
        self._sweeping.start(self._params.current.interval, now=False)

    def startService(self) -> None:
        """Do as `start`."""
        Deferred.fromCoroutine(self.start()).addErrback(
            lambda failure: self._log.failure("The monitor could not start.", failure)
        )

    async def stop(self) -> None:
        """Sweep no more, and hand on what has been judged."""
        super().stopService()
        for loop in (self._sweeping, self._listening):
            if loop.running:
                loop.stop()
        while self._committing is not None:
            await self._committing

    def stopService(self) -> Deferred[None]:
        """Do as `stop`."""
        return Deferred.fromCoroutine(self.stop())

    def _params_changed(self, old: Params, new: Params) -> None:
        if self._sweeping.running and new.interval != old.interval:
            # A loop that is in the middle of a sweep can't be started again.
            self._sweeping.stop()
            self._sweeping = LoopingCall(self._sweep)
            self._sweeping.clock = self._clock
            self._sweeping.start(new.interval, now=False)

    async def _sweep(self) -> None:
        """Judge everybody who is overdue, in portions that leave the reactor free."""
        began = self._clock.seconds()
        try:
            while self.running:
                params = self._params.current
                judgements = self._tracker.sweep(
                    self._observed.now(), params.warntime, params.errtime, _PORTION
                )
                self._announce(judgements)
                if len(judgements) < _PORTION:
                    break
                await deferLater(self._clock, 0)
        except Exception:  # noqa: BLE001  # a sweep that fails must not be the last
            self._log.failure("A sweep failed; the next one comes in its time.")
        self.sweep_seconds = self._clock.seconds() - began

    def _announce(self, judgements: Sequence[Judgement]) -> None:
        """Have judgements committed and told, together with others made about now."""
        self.judged.update(judgement.transition for judgement in judgements)
        self._uncommitted.extend(judgements)
        if self._uncommitted and self._committing is None:
            self._committing = Deferred.fromCoroutine(self._commit())

    async def _commit(self) -> None:
        """Commit and hand on until nothing is left."""
        await deferLater(self._clock, _GATHER)
        complained = False
        while self._uncommitted:
            judgements = self._uncommitted[:_PORTION]
            del self._uncommitted[:_PORTION]
            try:
                await self._store.commit(judgements)
            except StoreUnusable as error:
                if not complained:
                    complained = True
                    self._log.warn(
                        "Judgements wait for the store, HSM is not told yet: {error}",
                        error=str(error),
                    )
                self._uncommitted[:0] = judgements
                await deferLater(self._clock, _COMMIT_RETRY)
                continue
            self._say(judgements)
            self._notifier.tell(judgements)
            self._publisher.tell(judgements)
            await deferLater(self._clock, 0)
        self._committing = None

    def _say(self, judgements: Sequence[Judgement]) -> None:
        """Log judgements, a line for each kind."""
        components: dict[Transition, list[str]] = {}
        for judgement in judgements:
            components.setdefault(judgement.transition, []).append(judgement.component)
        for transition, xnames in components.items():
            self._log.info(
                "{message}: {xnames}", message=transition.message, xnames=" ".join(xnames)
            )
