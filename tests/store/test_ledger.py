"""The ledger by itself; `tests.test_monitor_handover` tests it together with the monitor."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock, deferLater
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from hbtd.config.live_params import LiveParams
from hbtd.config.params import Params
from hbtd.simulator.fleet import node_names
from hbtd.store.interface import StoreUnusable
from hbtd.store.ledger import Ledger
from hbtd.store.memory import MemoryStore
from hbtd.tracker.observed import TICK, ObservedClock
from hbtd.tracker.records import Record
from hbtd.tracker.tracker import Tracker
from hbtd.tracker.transitions import Judgement, Transition


class FaultTests(SynchronousTestCase):
    """The ledger outlives errors of its callback."""

    def test_callback_fails(self) -> None:
        """An error while passing judgements on is logged, and the next ones are passed on."""
        clock = Clock()
        told: list[Judgement] = []

        def tell(judgements: Sequence[Judgement]) -> None:
            if judgements[0].component == "x0":
                raise RuntimeError("no")
            told.extend(judgements)

        ledger = Ledger(
            clock,
            ObservedClock(clock.seconds, lambda: 10.0),
            Tracker(),
            MemoryStore(),
            LiveParams(Params(kv_url="mem:")),
            [tell],
            lambda: 0.125,
        )
        ledger.lead()
        ledger.begin()
        first, second = (Judgement(name, Transition.STARTED, "t") for name in ("x0", "x1"))
        ledger.add([first])
        clock.advance(1)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        ledger.add([second])
        clock.advance(1)
        self.assertEqual(told, [second])


class Uncancellable(MemoryStore):
    """A store whose commits never end, and fail like any other call if they are cancelled."""

    durable = True

    def __init__(self) -> None:
        super().__init__()
        self.tried = 0

    def commit(
        self, judgements: Sequence[Judgement], records: Sequence[Record] = ()
    ) -> Deferred[bool]:
        """Wait for the cancellation, and fail."""
        self.tried += 1
        return Deferred(lambda call: call.errback(StoreUnusable("etcd: no such name")))


class CloseTests(SynchronousTestCase):
    """The end of the ledger."""

    def test_cancelled(self) -> None:
        """A commit that is given up is not tried again, although it fails like any other."""
        clock = Clock()
        store = Uncancellable()
        ledger = Ledger(
            clock,
            ObservedClock(clock.seconds, lambda: 10.0),
            Tracker(),
            store,
            LiveParams(Params(kv_url="mem:", sm_timeout=3)),
            [],
            lambda: 0.125,
        )
        ledger.begin()
        ledger.add([Judgement("x0", Transition.STARTED, "t")])
        clock.advance(1)
        with capturedLogs() as events:
            closing = Deferred.fromCoroutine(ledger.close())
            clock.advance(3)
        self.successResultOf(closing)
        self.assertIn("1 judgements could not be committed", str(formatEvent(events[-1])))
        clock.pump([1] * 60)
        self.assertEqual(store.tried, 1)


class SharedStore(MemoryStore):
    """A store that other replicas use, too, and that takes its time, or fails."""

    durable = True
    shared = True
    gather = 0.5

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self.seconds = 0.0
        """The duration of a checkpoint, in seconds of the clock."""
        self.failing = False
        """Whether all calls fail."""
        self.written: list[tuple[float, list[str]]] = []
        """The components of each checkpoint, and its time."""
        self.commits: list[float] = []
        """The times of all commits, those that failed included."""
        self.committed: list[str] = []
        """The components whose records were committed with judgements."""

    def commit(
        self, judgements: Sequence[Judgement], records: Sequence[Record] = ()
    ) -> Deferred[bool]:
        """Note the components of the records; this takes as long as four checkpoints."""
        self.commits.append(self._clock.seconds())
        if self.failing:
            return fail(StoreUnusable("disk full"))

        def done() -> bool:
            self.committed += [record.component for record in records]
            return True

        return deferLater(self._clock, 4 * self.seconds, done)

    def checkpoint(self, records: Sequence[Record]) -> Deferred[None]:
        """Note the components of the records."""
        if self.failing:
            return fail(StoreUnusable("disk full"))
        if records:
            names = [record.component for record in records]
            self.written.append((self._clock.seconds(), names))
        return deferLater(self._clock, self.seconds)


class SharedTests(SynchronousTestCase):
    """Checkpoints of a store that other replicas share."""

    def setUp(self) -> None:
        """Start a ledger without components."""
        self.start()

    def start(self, **params: Any) -> None:
        """Start a ledger with these parameters."""
        self.clock = Clock()
        self.observed = ObservedClock(self.clock.seconds, lambda: 10.0)
        self.tracker = Tracker(note_changes=True)
        self.store = SharedStore(self.clock)
        self.ledger = Ledger(
            self.clock,
            self.observed,
            self.tracker,
            self.store,
            LiveParams(Params(kv_url="mem:", **params)),
            [],
            lambda: 0.125,
        )
        self.ledger.begin()

    def beat(self, names: Sequence[str], seconds: float) -> None:
        """Let these components send ten heartbeats a second for `seconds`."""
        for _ in range(round(seconds / TICK)):
            self.clock.advance(TICK)
            self.observed.tick()
            self.tracker.tick(self.observed.ticked_at)
            for name in names:
                self.tracker.beat(name, self.observed.now(), "t", "OK")

    def test_few(self) -> None:
        """A replica with a thousand components writes their records every half a second."""
        self.beat(node_names(1000), 5.0)
        times = [at for at, _ in self.store.written]
        gaps = [later - at for at, later in pairwise(times[::2])]
        self.assertLess(max(gaps), 0.75)

    def test_many(self) -> None:
        """With more components, no record waits for longer than a third of `warntime`."""
        self.check_many()

    def test_many_alone(self) -> None:
        """The same is true of a store that is not shared."""
        self.store.shared = False
        self.check_many()

    def check_many(self) -> None:
        """Check how often the record of one of many components is written."""
        names = node_names(20_000)
        self.beat(names, 12.0)
        times = [at for at, some in self.store.written if names[0] in some]
        gaps = [later - at for at, later in pairwise(times)]
        self.assertGreater(min(gaps), 2.0)
        self.assertLess(max(gaps), 10 / 3 + 0.75)

    def test_judged_meanwhile(self) -> None:
        """A component that is judged during a checkpoint is written with its judgement instead."""
        names = node_names(1500)
        self.store.seconds = 0.5
        self.beat(names, 0.5)
        last = names[-1]
        self.ledger.add([Judgement(last, Transition.STARTED, "t")])
        self.clock.pump([0.1] * 16)
        written = {name for _, some in self.store.written for name in some}
        self.assertEqual(len(written), len(names) - 1)
        self.assertFalse(last in written)
        self.assertTrue(self.ledger.has_unstored(last))
        self.clock.pump([0.1] * 10)
        self.assertEqual(self.store.committed, [last])

    def written(self) -> set[str]:
        """Return the components that were in any checkpoint."""
        return {name for _, names in self.store.written for name in names}

    def test_old_heartbeats(self) -> None:
        """A heartbeat that could not be stored for ten seconds, or for `warntime`, is dropped."""
        for params, seconds in (({"warntime": 30, "errtime": 60}, 10.0), ({"warntime": 5}, 5.0)):
            self.start(**params)
            self.store.failing = True
            self.beat(["x0"], 1.0)
            self.beat([], seconds - 0.5)
            self.assertTrue(self.ledger.has_unstored("x0"))
            self.assertEqual(self.ledger.unstored(), {"x0"})
            self.beat(["x1"], 0.8)
            self.assertFalse(self.ledger.has_unstored("x0"))
            self.assertEqual(self.ledger.unstored(), {"x1"})
            self.store.failing = False
            self.beat([], 2.0)
            self.assertEqual(self.written(), {"x1"})

    def test_old_heartbeats_in_a_slow_store(self) -> None:
        """Heartbeats that become too old while others are stored are not stored."""
        self.start(warntime=30, errtime=60)
        self.store.seconds = 6.0
        names = node_names(1500)
        self.beat(names, 0.5)
        self.beat([], 20.0)
        # Three batches: the last one could begin after twelve seconds.
        self.assertEqual(self.written(), set(names[:1000]))

    def test_old_heartbeats_alone(self) -> None:
        """In a store that is not shared, heartbeats are stored however late."""
        self.store.shared = False
        self.store.failing = True
        self.beat(["x0"], 1.0)
        self.beat([], 60.0)
        self.assertTrue(self.ledger.has_unstored("x0"))
        self.store.failing = False
        self.beat([], 2.0)
        self.assertEqual(self.written(), {"x0"})

    def test_old_heartbeats_judged(self) -> None:
        """A heartbeat counts for as long as its judgement could not be committed."""
        self.store.failing = True
        self.beat(["x0"], 1.0)
        self.ledger.add([Judgement("x0", Transition.STARTED, "t")])
        self.beat([], 30.0)
        self.assertTrue(self.ledger.has_unstored("x0"))
        self.assertEqual(self.ledger.unstored(), {"x0"})
        self.store.failing = False
        self.beat([], 3.0)
        self.assertEqual(self.store.committed, ["x0"])

    def test_retries(self) -> None:
        """A failed commit is tried again after pauses that grow, and are short again later."""
        for seconds in (4.0, 2.0):
            self.store.commits.clear()
            self.store.failing = True
            self.ledger.add([Judgement("x0", Transition.STARTED, "t")])
            self.beat([], seconds)
            pauses = [later - at for at, later in pairwise(self.store.commits)]
            self.assertGreater(len(pauses), 0)
            self.assertApproximates(pauses[0], 0.8, 0.1)
            self.assertEqual(pauses, sorted(pauses))
            self.assertLess(max(pauses), 1.8)
            self.store.failing = False
            self.beat([], 2.0)
