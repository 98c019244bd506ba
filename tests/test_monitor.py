"""The monitor: from heartbeats and silence to what is kept, and what HSM is told."""

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.task import deferLater
from twisted.logger import capturedLogs

from hbtd.monitor import Monitor
from hbtd.store.memory import MemoryStore
from hbtd.telemetry.publisher import Publisher
from hbtd.tracker.observed import ObservedClock
from hbtd.tracker.records import Record
from hbtd.tracker.tracker import Tracker
from hbtd.tracker.transitions import Judgement, Transition
from tests.support.hsm_memory import (
    DIED,
    RESTARTED,
    STARTED,
    WARNED,
    HSMTestCase,
    judge,
    kind,
    lines,
    nodes,
)

A, B, C = nodes(3)


class TroubledStore(MemoryStore):
    """A memory store that fails or takes its time as it is told to."""

    def __init__(self, clock: Any) -> None:
        super().__init__()
        self._clock = clock
        self.failures: list[Exception] = []
        """What the next commits fail with."""
        self.seconds = 0.0
        """How long everything takes."""
        self.commits: list[list[Judgement]] = []
        """What was committed."""

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

    def undelivered(self) -> Deferred[list[Judgement]]:
        """Give what there is when asked, but later."""
        return (
            super()
            .undelivered()
            .addCallback(lambda found: self._later().addCallback(lambda _: found))
        )

    def _later(self) -> Deferred[None]:
        return deferLater(self._clock, self.seconds) if self.seconds else MemoryStore().open()


class WatchedTracker(Tracker):
    """A tracker that can be made to fail, and notes how it looked one turn after each sweep."""

    def __init__(self, clock: Any) -> None:
        super().__init__()
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


class MonitorTestCase(HSMTestCase):
    """Holds a monitor whose time is the test's, a store in memory, and a ready HSM."""

    def begin(self, **params: Any) -> None:
        super().begin(use_telemetry=False, **params)
        self.store = TroubledStore(self.clock)
        self.successResultOf(self.store.open())
        self.tracker = WatchedTracker(self.clock)
        current = self.params
        observed = ObservedClock(self.clock.seconds, lambda: current.current.warntime)
        self.monitor = Monitor(
            self.clock,
            observed,
            self.tracker,
            self.store,
            self.notifier,
            Publisher(self.clock, self.params, lambda address: self.fail("Kafka")),
            self.params,
        )

    def start(self, **params: Any) -> None:
        """Begin anew with these parameters, and start."""
        if params:
            self.begin(**params)
        self.notifier.startService()
        self.monitor.startService()

    def _delivered(self, judgements: Sequence[Judgement]) -> Deferred[None]:
        super()._delivered(judgements)
        return self.store.delivered(judgements)

    def beat(self, *names: str) -> None:
        """Have components heartbeat."""
        for name in names:
            self.monitor.beat(name, "2026-11-23T00:00:00Z", "OK")

    def beat_for(self, seconds: float, *names: str, every: float = 3.0) -> None:
        """Let time go by with components that beat."""
        end = self.clock.seconds() + seconds
        while self.clock.seconds() < end:
            self.beat(*names)
            self.advance(min(every, end - self.clock.seconds()))

    def told(self, name: str) -> list[Transition]:
        """Give what HSM was told of a component."""
        return [kind(update) for update in self.hsm.updates if name in update.names]

    def standing(self) -> list[Judgement]:
        """Give what the store keeps."""
        return self.successResultOf(self.store.standing())


class LifeTests(MonitorTestCase):
    """What becomes of a component, and when."""

    def test_life(self):
        """A component starts, goes quiet, comes back, dies and starts again."""
        self.start(warntime=10, errtime=30, interval=5)
        self.beat(A)
        self.advance(0.3)
        self.assertEqual(self.told(A), [STARTED])

        self.beat_for(60, A)
        self.assertEqual(self.told(A), [STARTED])

        self.beat(A)
        self.advance(9.8)
        self.assertEqual(self.told(A), [STARTED])
        self.assertEqual(self.monitor.heartbeating([A, B]), [True, False])
        self.advance(5.5)
        self.assertEqual(self.told(A), [STARTED, WARNED])
        self.assertEqual(self.monitor.heartbeating([A]), [True])

        self.beat(A)
        self.advance(0.3)
        self.assertEqual(self.told(A), [STARTED, WARNED, RESTARTED])

        self.advance(29.4)
        self.assertEqual(self.told(A)[3:], [WARNED])
        self.advance(5.5)
        self.assertEqual(self.told(A)[3:], [WARNED, DIED])
        self.assertEqual(self.monitor.heartbeating([A]), [False])
        self.advance(600)
        self.assertEqual(len(self.told(A)), 5)

        self.beat(A)
        self.advance(0.3)
        self.assertEqual(self.told(A)[5:], [STARTED])
        counts = {STARTED: 2, WARNED: 2, RESTARTED: 1, DIED: 1}
        self.assertEqual(self.monitor.judged, counts)

    def test_gathered(self):
        """Starts within a moment are one commit and one update."""
        self.start()
        names = nodes(80)
        for name in names:
            self.beat(name)
            self.advance(0.001)
        self.advance(0.2)
        self.assertEqual(self.store.commits, [judge(STARTED, *names)])
        self.assertEqual(self.sent(), [(STARTED, names)])

    def test_kept(self):
        """The store has what is told before it is told, and what is true after."""
        self.start()
        self.hsm.behaviour.cost_ms = 100
        self.beat(A, B)
        self.advance(0.12)
        self.assertEqual(self.standing(), judge(STARTED, A, B))
        self.advance(0.3)
        self.assertEqual(self.standing(), [])
        self.beat_for(60, B)
        self.assertEqual(self.standing(), judge(DIED, A))
        self.assertEqual(self.successResultOf(self.store.undelivered()), [])

    def test_log(self):
        """Everything that happens to a component is in the log, by name."""
        with capturedLogs() as events:
            self.start()
            self.beat(A)
            self.advance(60)
        text = "\n".join(lines(events, "info"))
        for what in (STARTED, WARNED, DIED):
            self.assertIn(f"{what.message}: {A}", text)


class SweepTests(MonitorTestCase):
    """When it is looked for silence, and what can't prevent that."""

    def test_interval(self):
        """It is looked for silence every `interval` seconds."""
        self.start(interval=7)
        self.advance(30)
        self.assertEqual(self.tracker.swept_at, [7, 14, 21, 28])

    def test_interval_changes(self):
        """A new interval counts from the moment of the change."""
        self.start(interval=1000)
        self.advance(500)
        self.change(interval=4)
        self.advance(13)
        self.assertEqual(self.tracker.swept_at, [504, 508, 512])
        self.change(interval=100, warntime=11)
        self.advance(105)
        self.assertEqual(self.tracker.swept_at[3:], [613])

    def test_other_parameters(self):
        """Changes of others leave it in peace."""
        self.start(interval=10)
        self.advance(6)
        self.change(sm_timeout=7, warntime=12)
        self.advance(5)
        self.assertEqual(self.tracker.swept_at, [10])

    def test_times_change(self):
        """New times count from the next sweep on."""
        self.start(warntime=1000, errtime=2000, interval=5)
        self.beat(A)
        self.advance(50)
        self.change(warntime=20)
        self.advance(5.3)
        self.assertEqual(self.told(A), [STARTED, WARNED])
        self.change(errtime=40)
        self.advance(5.3)
        self.assertEqual(self.told(A), [STARTED, WARNED, DIED])

    def test_fails(self):
        """A sweep that fails is logged, and the next one comes in its time."""
        self.start()
        self.beat(A)
        self.tracker.failures = [ValueError("one"), KeyError("two")]
        self.advance(60)
        self.assertEqual(len(self.flushLoggedErrors(ValueError, KeyError)), 2)
        self.assertEqual(self.told(A)[-1], DIED)

    def test_portions(self):
        """While a whole machine dies, the reactor gets its turn again and again."""
        self.start(warntime=10, errtime=10)
        everybody = nodes(10_000)
        self.beat(*everybody)
        self.advance(1)
        self.tracker.dead_a_turn_later.clear()
        self.advance(30)
        self.assertEqual(self.tracker.dead, 10_000)
        growing = self.tracker.dead_a_turn_later
        steps = [later - earlier for earlier, later in zip([0, *growing], growing, strict=False)]
        self.assertLessEqual(max(steps), 1000)
        self.assertLessEqual(max(len(commit) for commit in self.store.commits), 1000)
        self.assertEqual({each.state for each in self.hsm.components.values()}, {"Standby"})
        self.assertEqual(len(self.hsm.components), 10_000)

    def test_stall(self):
        """When hbtd itself stood still, for however long, nobody is blamed for it."""
        for seconds in (0.6, 3, 9, 12, 31, 100, 3600, 1e6, 1e9):
            self.start(warntime=10, errtime=30, interval=5)
            self.beat_for(20, A, B)
            self.clock.advance(seconds)
            self.beat_for(9, A)
            self.beat_for(60, A, B)
            self.assertEqual(self.told(A), [STARTED], seconds)
            self.assertEqual(self.told(B), [STARTED], seconds)

    def test_stall_and_death(self):
        """Who dies while hbtd stands still is declared dead all the same, in time."""
        self.start(warntime=10, errtime=30, interval=5)
        self.beat_for(20, A, B)
        self.clock.advance(100)
        self.beat_for(10 + 30 + 5.3, A)
        self.assertEqual(self.told(B)[-1], DIED)
        self.assertEqual(self.told(A), [STARTED])
