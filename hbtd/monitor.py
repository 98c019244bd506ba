"""The monitor: drives the tracker and sees that what it finds is kept, and told."""

from collections import Counter
from collections.abc import Iterable, Sequence

from twisted.application.service import Service
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

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
        self._listening = LoopingCall(observed.tick)
        self._sweeping = LoopingCall(self._sweep)
        self._listening.clock = self._sweeping.clock = clock
        self._uncommitted: list[Judgement] = []
        # Being committed, and not told before that is done.
        self._in_hand: list[Judgement] = []
        self._committing: Deferred[None] | None = None
        # News must not overtake what is yet to be picked up from the store.
        self._resumed = False
        self._complained = False
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
        self._uncommitted = _without_alarm(self._uncommitted, xname)
        self._in_hand = _without_alarm(self._in_hand, xname)
        self._notifier.withdraw(xname)
        self._forget_stored(xname)

    def heartbeating(self, xnames: Iterable[str]) -> list[bool]:
        """Tell of each component whether it was heard less than `errtime` seconds ago."""
        at, errtime = self._observed.now(), self._params.current.errtime
        return [self._tracker.heartbeating(xname, at, errtime) for xname in xnames]

    async def start(self) -> None:
        """Pick up what has not been delivered, and begin to sweep."""
        super().startService()
        self._notifier.tell(await self._store.undelivered())
        self._resumed = True
        self._announce([])  # heartbeats may have come before
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
        if self._committing is not None:
            timeout = self._params.current.sm_timeout
            await self._committing.addTimeout(timeout, self._clock).addErrback(self._cut_short)

    def stopService(self) -> Deferred[None]:
        """Do as `stop`."""
        return Deferred.fromCoroutine(self.stop())

    def _cut_short(self, failure: Failure) -> None:
        failure.trap(TimeoutError)
        self._log.error(
            "The store could not take {count} judgements; HSM was not told of them.",
            count=len(self._in_hand) + len(self._uncommitted),
        )

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
        if self._uncommitted and self._committing is None and self._resumed:
            self._committing = Deferred.fromCoroutine(self._commit())

    async def _commit(self) -> None:
        """Commit and hand on until nothing is left."""
        await deferLater(self._clock, _GATHER)
        while self._uncommitted:
            self._in_hand = self._uncommitted[:_PORTION]
            del self._uncommitted[:_PORTION]
            judgements = self._in_hand
            while not await self._committed(judgements):
                await deferLater(self._clock, _COMMIT_RETRY)
                judgements = self._in_hand
            for forgotten in set(judgements).difference(self._in_hand):
                self._forget_stored(forgotten.component)
            judgements, self._in_hand = self._in_hand, []
            self._say(judgements)
            self._notifier.tell(judgements)
            self._publisher.tell(judgements)
            await deferLater(self._clock, 0)
        self._committing = None

    async def _committed(self, judgements: Sequence[Judgement]) -> bool:
        """Commit judgements; tells whether that could be done, and logs when it begins to fail."""
        try:
            await self._store.commit(judgements)
        except StoreUnusable as error:
            if not self._complained:
                self._log.warn(
                    "Judgements wait for the store, HSM is not told yet: {error}", error=str(error)
                )
        except Exception:  # noqa: BLE001  # not a reason to lose a judgement, whatever it is
            if not self._complained:
                self._log.failure("Judgements wait for the store, which has failed.")
        else:
            self._complained = False
            return True
        self._complained = True
        return False

    def _forget_stored(self, xname: str) -> None:
        self._store.forget(xname).addErrback(
            lambda failure: self._log.failure("The store could not forget a component.", failure)
        )

    def _say(self, judgements: Sequence[Judgement]) -> None:
        """Log judgements, a line for each kind."""
        components: dict[Transition, list[str]] = {}
        for judgement in judgements:
            components.setdefault(judgement.transition, []).append(judgement.component)
        for transition, xnames in components.items():
            self._log.info("{said}: {xnames}", said=transition.message, xnames=" ".join(xnames))


def _without_alarm(judgements: Iterable[Judgement], xname: str) -> list[Judgement]:
    """Leave out what would raise an alarm about a component."""
    return [j for j in judgements if j.component != xname or not j.transition.alarming]
