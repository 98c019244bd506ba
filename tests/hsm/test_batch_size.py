"""The number of components in an update, and how it follows HSM's speed."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hbtd.hsm.batch_size import BatchSize
from hbtd.simulator.behaviour import Behaviour
from tests.support.hsm_memory import DIED, STARTED, WARNED, StartedTestCase, nodes

REAL_COSTS = {"Standby": 2.0, "Ready": 0.5}
"""Milliseconds for a component, as measured on the real HSM."""


class BatchSizeTests(SynchronousTestCase):
    """The size of the next batch."""

    def setUp(self):
        self.batches = BatchSize()

    def answer(self, per_component: float, target: float, overhead: float = 0.0) -> None:
        """Have HSM answer a full batch at this speed."""
        size = self.batches.size
        self.batches.answered(size, overhead + size * per_component, target, 0.0)

    def test_begins_small(self):
        """The first batch is small enough for a slow HSM to answer within a second."""
        self.assertEqual(self.batches.size, 100)

    def test_finds_the_size(self):
        """The size settles where HSM answers within the target and not much faster."""
        for per_component in (0.0005, 0.002, 0.01, 0.04):
            self.setUp()
            for _ in range(30):
                self.answer(per_component, 2.5)
            took = self.batches.size * per_component
            self.assertLessEqual(took, 2.5)
            if self.batches.size < 5000:
                self.assertGreaterEqual(took, 2.0)

    def test_slow_whatever_the_size(self):
        """An HSM that is slow whatever the size does not get ever smaller batches."""
        for _ in range(30):
            self.answer(0.0, 2.5, overhead=3.0)
        self.assertEqual(self.batches.size, 50)

    def test_at_most(self):
        """However fast HSM is, a batch has at most 5000 components."""
        for _ in range(30):
            self.answer(0.00001, 2.5)
        self.assertEqual(self.batches.size, 5000)

    def test_follows(self):
        """Batches shrink at once when HSM becomes slower, and grow when it becomes faster."""
        for _ in range(30):
            self.answer(0.0005, 2.5)
        fast = self.batches.size
        self.answer(0.005, 2.5)
        self.assertLessEqual(self.batches.size * 0.005, 2.5)
        for _ in range(30):
            self.answer(0.0005, 2.5)
        self.assertEqual(self.batches.size, fast)

    def test_part_of_a_batch(self):
        """A fast answer to a small batch does not make the next one larger."""
        for count in (1, 50, 99):
            self.batches.answered(count, 0.001, 2.5, 0.0)
            self.assertEqual(self.batches.size, 100)

    def test_timeouts(self):
        """Every timeout halves the size, down to one component."""
        sizes = []
        for _ in range(9):
            self.batches.failed(self.batches.size, 0.0, timed_out=True)
            sizes.append(self.batches.size)
        self.assertEqual(sizes, [50, 25, 12, 6, 3, 1, 1, 1, 1])

    def test_timeout_of_a_small_batch(self):
        """After a timeout the next batch is half of the one that timed out."""
        self.batches.failed(10, 0.0, timed_out=True)
        self.assertEqual(self.batches.size, 5)

    def test_recovers(self):
        """From one component at a time the size grows again."""
        for _ in range(10):
            self.batches.failed(self.batches.size, 0.0, timed_out=True)
        for _ in range(30):
            self.answer(0.0005, 2.5)
        self.assertEqual(self.batches.size, 5000)

    def fail_at(self, size: int, now: float, *, timed_out: bool = False) -> None:
        """Have a full batch fail if it is larger than `size`, otherwise be accepted."""
        if self.batches.size > size:
            self.batches.failed(self.batches.size, now, timed_out=timed_out)
        else:
            self.batches.answered(self.batches.size, 0.01, 2.5, now)

    def test_too_large(self):
        """If only batches up to a size are accepted, that is found, and exceeded once a minute."""
        for timed_out in (False, True):
            self.setUp()
            sizes = []
            for second in range(130):
                sizes.append(self.batches.size)
                self.fail_at(40, 1000.0 + second, timed_out=timed_out)
            self.assertEqual(sizes[:6], [100, 50, 25, 38, 58, 29])
            self.assertLessEqual(len([size for size in sizes if size > 40]), 5, sizes)
            self.assertEqual(sizes[7:60], [38] * 53)

    def test_not_the_size(self):
        """Once a component is known to be to blame for a failure, the size grows again."""
        for _ in range(3):
            self.fail_at(150, 0.0)
        self.assertEqual((self.batches.size, self.batches._enough_until), (100, 60.0))
        self.batches.acquit()
        self.fail_at(5000, 1.0)
        self.fail_at(5000, 1.0)
        self.assertEqual(self.batches.size, 227)

    def test_part_of_a_batch_fails(self):
        """That a smaller batch than could be sent fails says nothing about the size."""
        self.batches.failed(99, 0.0, timed_out=False)
        self.assertEqual(self.batches.size, 100)

    def test_no_time_at_all(self):
        """An answer in no measurable time counts as fast."""
        self.batches.answered(100, 0.0, 2.5, 0.0)
        self.assertGreater(self.batches.size, 100)

    def test_patience(self):
        """Suspects get a few times what HSM took lately, for as many components, and a second."""
        self.assertIsNone(self.batches.patience(1))
        self.batches.answered(10, 0.5, 2.5, 0.0)
        for count, seconds in ((1, 3.0), (10, 3.0), (30, 7.0)):
            self.assertEqual(self.batches.patience(count), seconds)

    @settings(max_examples=200)
    @given(
        st.lists(
            st.tuples(st.booleans(), st.integers(1, 5000), st.floats(0.001, 60.0)), max_size=40
        ),
        st.sampled_from([0.25, 2.5, 1000.0]),
    )
    def test_limits(self, answers, target):
        """The size stays within 1 and 5000, and never grows by more than half, or one."""
        self.setUp()
        for answered, wanted, took in answers:
            before = self.batches.size
            count = min(before, wanted)
            if answered:
                self.batches.answered(count, took, target, 0.0)
            else:
                self.batches.failed(count, 0.0, timed_out=True)
            size = self.batches.size
            self.assertTrue(1 <= size <= 5000, size)
            self.assertLessEqual(size, before * 1.5 + 1)
            if not answered or took > target:
                self.assertLessEqual(size, max(1, before))
            if answered and took <= target:
                self.assertGreaterEqual(size, before)


class SizeTests(StartedTestCase):
    """Updates sent to HSMs of different speeds."""

    def assert_gentle(self) -> None:
        """Check that no update was much larger than the largest before it."""
        largest = 100
        for update in self.hsm.updates:
            self.assertLessEqual(len(update.names), largest * 1.5 + 1)
            largest = max(largest, len(update.names))

    def durations(self) -> list[float]:
        """Return how long HSM took for each update."""
        return [(update.answered or 1e9) - update.received for update in self.hsm.updates]

    def test_mass_death(self):
        """10,000 deaths take hardly longer than a real HSM needs, and no update times out."""
        self.hsm.behaviour.cost_ms_by_state = REAL_COSTS
        everybody = nodes(10_000)
        self.tell(DIED, *everybody)
        took = self.advance_until(lambda: self.notifier.pending_count == 0, within=60)
        self.assertLessEqual(took, 1.25 * 20)
        self.assertEqual(len(self.hsm.components), 10_000)
        self.assertEqual(sum(len(update.names) for update in self.hsm.updates), 10_000)
        self.assertLess(max(self.durations()), 10)
        self.assert_gentle()

    def test_target(self):
        """Updates come to take about a quarter of `sm_timeout`, whatever HSM's speed."""
        for timeout, cost in ((10, 2.0), (10, 0.6), (10, 40.0), (4, 2.0), (30, 5.0)):
            self.begin(sm_timeout=timeout)
            self.hsm.behaviour.cost_ms = cost
            self.tell(DIED, *nodes(30_000))
            self.advance(20 * timeout)
            slowest = max(self.durations()[-8:-1] or [0])
            self.assertLess(slowest, timeout / 4 * 1.05, (timeout, cost))
            self.assertGreater(slowest, timeout / 4 * 0.6, (timeout, cost))
            self.assert_gentle()

    def test_boot_storm(self):
        """A fast HSM gets few updates, which grow gently and to a limit."""
        self.tell(STARTED, *nodes(20_000))
        self.advance(1)
        self.assertEqual(self.notifier.pending_count, 0)
        self.assertLess(len(self.hsm.updates), 16)
        self.assertLessEqual(max(len(update.names) for update in self.hsm.updates), 5000)
        self.assert_gentle()

    def test_becomes_slow(self):
        """When HSM becomes slow, updates shrink and are soon in time again."""
        self.tell(STARTED, *nodes(5000))
        self.advance(1)
        self.hsm.updates.clear()
        self.hsm.behaviour.cost_ms = 10
        self.tell(STARTED, *nodes(5000))
        self.advance(200)
        self.assertEqual(self.notifier.pending_count, 0)
        # HSM goes on with updates that timed out, which delays the next ones.
        late = [took for took in self.durations() if took > 2.6]
        self.assertLessEqual(len(late), 6, late)

    def test_timeout(self):
        """An update that times out is retried with half as many components."""
        self.tell(WARNED, *nodes(3000))
        self.advance(1)
        size = max(len(update.names) for update in self.hsm.updates)
        self.assertGreater(size, 500)
        self.hsm.updates.clear()
        self.hsm.behaviour.hang = True
        self.tell(WARNED, *nodes(3000))
        self.advance(26)
        first, second, third = (len(update.names) for update in self.hsm.updates)
        self.assertEqual((first, second, third), (first, first // 2, first // 4))
        self.hsm.behaviour.hang = False
        self.advance(60)
        self.assertEqual(self.notifier.pending_count, 0)

    def assert_all_told(self, most: int, fault: str, within: float) -> None:
        """Check that all deaths are told in time to an HSM that takes only so many in an update."""
        self.begin(sm_timeout=10)
        self.advance(1)
        self.hsm.behaviour = Behaviour(largest=most, too_large=fault, cost_ms=2.0)
        everybody = nodes(3000)
        self.tell(DIED, *everybody)
        took = self.advance_until(lambda: set(everybody) <= set(self.hsm.components), within)
        self.assertEqual(self.notifier.set_aside_count, 0, (most, fault, took))

    def test_too_large_updates(self):
        """Whatever happens to large updates, all are told soon, as smaller ones are accepted."""
        for fault in ("413", "400", "500", "502", "504", "reset", "garbage"):
            self.assert_all_told(50, fault, within=20)
            self.assert_all_told(12, fault, within=30)

    def test_lost_updates(self):
        """If large updates get no answer at all, it takes few timeouts to find the size."""
        self.assert_all_told(50, "hang", within=45)
        self.assert_all_told(12, "hang", within=90)

    def test_kinds_apart(self):
        """Slow updates of one transition do not make those of others smaller."""
        self.hsm.behaviour.cost_ms_by_state = {"Standby": 60.0}
        self.tell(DIED, *nodes(200))
        self.advance(60)
        self.hsm.updates.clear()
        self.tell(STARTED, *nodes(100))
        self.assertEqual(len(self.hsm.updates), 1)

    def test_small_updates_teach_nothing(self):
        """Many updates of a single component do not make the next batch larger."""
        for name in nodes(200):
            self.tell(STARTED, name)
            self.advance(0.01)
        self.hsm.updates.clear()
        self.tell(STARTED, *nodes(1000))
        self.assertLessEqual(len(self.hsm.updates[0].names), 151)
