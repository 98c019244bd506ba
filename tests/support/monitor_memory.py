"""A monitor in memory, with the time, the store and HSM in the hands of a test."""

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.task import deferLater

from hbtd.guarding.live_guard import LiveGuard
from hbtd.monitor import Monitor
from hbtd.replicas.remote_changes import RemoteChanges
from hbtd.rules.live_thresholds import LiveThresholds
from hbtd.store.memory import MemoryStore
from hbtd.telemetry.publisher import Publisher
from hbtd.tracker.observed import ObservedClock
from hbtd.tracker.records import Record
from hbtd.tracker.tracker import Tracker
from hbtd.tracker.transitions import Judgement, Transition
from tests.support.hsm_memory import HSMTestCase, kind
from tests.support.journal_memory import make_journal


class TroubledStore(MemoryStore):
    """A memory store that fails, or is slow, as it is told to."""

    def __init__(self, clock: Any) -> None:
        super().__init__()
        self._clock = clock
        self.failures: list[Exception] = []
        """The exceptions of the next commits."""
        self.seconds = 0.0
        """The duration of each call, in seconds."""
        self.commits: list[list[Judgement]] = []
        """The judgements of each commit."""
        self.share: Callable[[str, str], tuple[str, str]] | None = None
        """What was to make the undelivered judgements smaller."""

    def commit(
        self, judgements: Sequence[Judgement], records: Sequence[Record] = ()
    ) -> Deferred[bool]:
        """Commit, or fail."""
        if self.failures:
            error = self.failures.pop(0)
            return self._later().addCallback(lambda _: fail(error))
        committed = list(judgements)

        def done(_: object) -> Deferred[bool]:
            self.commits.append(committed)
            return MemoryStore.commit(self, committed, records)

        return self._later().addCallback(done)

    def forget(self, xname: str) -> Deferred[None]:
        """Forget a component after the calls before, as `IStore` demands."""
        return self._later().addCallback(lambda _: MemoryStore.forget(self, xname))

    def undelivered(
        self, share: Callable[[str, str], tuple[str, str]] | None = None
    ) -> Deferred[list[Judgement]]:
        """Return the undelivered judgements of now, but later."""
        self.share = share
        return (
            super()
            .undelivered(share)
            .addCallback(lambda found: self._later().addCallback(lambda _: found))
        )

    def _later(self) -> Deferred[None]:
        return deferLater(self._clock, self.seconds) if self.seconds else MemoryStore().open()


class WatchedTracker(Tracker):
    """A tracker that fails when told to, and notes the dead one turn after each sweep."""

    def __init__(self, clock: Any, *, note_changes: bool) -> None:
        super().__init__(note_changes=note_changes)
        self._clock = clock
        self.failures: list[Exception] = []
        self.dead_a_turn_later: list[int] = []
        self.swept_at: list[float] = []

    def sweep(self, *args: Any) -> list[Judgement]:
        """Sweep, or fail."""
        self.swept_at.append(round(self._clock.seconds() - 1000, 3))
        if self.failures:
            raise self.failures.pop(0)
        self._clock.callLater(0, lambda: self.dead_a_turn_later.append(self.dead))
        return super().sweep(*args)


class NotingPublisher(Publisher):
    """A publisher that notes from where it was to publish the log."""

    led_since: int | None = None

    def lead(self, undelivered: Sequence[Judgement], since: int) -> None:
        """Lead, and note it."""
        self.led_since = since
        super().lead(undelivered, since)


class MonitorTestCase(HSMTestCase):
    """Has a monitor with a clock of the test's, a store in memory, and a ready HSM."""

    def begin(self, **params: Any) -> None:
        super().begin(use_telemetry=False, **params)
        self.store = self.make_store()
        self.successResultOf(self.store.open())
        self.tracker = WatchedTracker(self.clock, note_changes=self.store.durable)
        current = self.params
        self.observed = ObservedClock(self.clock.seconds, lambda: current.current.warntime)
        self.thresholds = LiveThresholds(
            self.clock, self.observed.now, self.tracker, self.store, self.params
        )
        self.publisher = NotingPublisher(
            self.clock, self.store, self.params, lambda address: self.fail("Kafka"), lambda: 0.125
        )
        tellers = (self.notifier.tell, self.publisher.tell)
        journal, checkpointer = make_journal(
            self.clock,
            self.observed,
            self.tracker,
            self.store,
            current,
            tellers,
            self.uncommitted,
            self.notifier.judged,
        )
        self.monitor = Monitor(
            self.clock,
            self.observed,
            self.tracker,
            self.store,
            journal,
            checkpointer,
            self.notifier,
            self.publisher,
            current,
            settle=self.thresholds.settle,
            guard=self.make_guard(),
        )
        self.changes = RemoteChanges(
            self.observed, self.tracker, checkpointer, self.notifier, current, self.monitor
        )

    def make_guard(self) -> LiveGuard | None:
        """Return the guard that the monitor is to have; by default there is none."""
        return None

    def make_store(self) -> TroubledStore:
        """Return the store that the monitor is to have."""
        return TroubledStore(self.clock)

    def start(self, **params: Any) -> None:
        """Start the monitor, a new one if there are parameters."""
        if params:
            self.begin(**params)
        self.notifier.startService()
        self.start_monitor()

    def start_monitor(self) -> None:
        """Start the monitor alone."""
        started = Deferred.fromCoroutine(self.monitor.start())
        started.addCallback(lambda _: self.monitor.start_observing())

    def stop_monitor(self) -> Deferred[None]:
        """Stop the monitor; the Deferred fires when it has stopped."""
        return Deferred.fromCoroutine(self.monitor.stop())

    def _delivered(self, judgements: Sequence[Judgement]) -> Deferred[None]:
        super()._delivered(judgements)
        return self.store.delivered(judgements)

    def beat(self, *names: str) -> None:
        """Let components send heartbeats."""
        for name in names:
            self.monitor.beat(name, "2026-11-23T00:00:00Z", "OK")

    def beat_for(self, seconds: float, *names: str, every: float = 3.0) -> None:
        """Let time pass while components send heartbeats."""
        end = self.clock.seconds() + seconds
        while self.clock.seconds() < end:
            self.beat(*names)
            self.advance(min(every, end - self.clock.seconds()))

    def told(self, name: str) -> list[Transition]:
        """Return the transitions that HSM was told of a component."""
        return [kind(update) for update in self.hsm.updates if name in update.names]

    def standing(self) -> list[Judgement]:
        """Return the judgements in the store."""
        return self.successResultOf(self.store.judgements())
