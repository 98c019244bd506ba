"""What waits to be told to HSM, and how much of it goes into one PATCH."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from twisted.trial.unittest import SynchronousTestCase

from hbtd.hsm.batch_size import BatchSize
from hbtd.hsm.outbox import Outbox
from hbtd.tracker.transitions import Judgement, Transition

STARTED, WARNED, RESTARTED, DIED = Transition
NAMES = ["x1", "x2", "x3", "x4"]


class OutboxMachine(RuleBasedStateMachine):
    """Does the same to an outbox and to a list of what is to be sent, and compares."""

    def __init__(self) -> None:
        super().__init__()
        self.outbox = Outbox()
        self.waiting: list[Judgement] = []
        self.made: list[Judgement] = []

    def make(self, xname: str, kind: Transition) -> Judgement:
        """Make a judgement; they all look the same but are not."""
        self.made.append(Judgement(xname, kind, "t"))
        return self.made[-1]

    def drop(self, xname: str) -> None:
        """Take a component off the list."""
        self.waiting = [old for old in self.waiting if old.component != xname]

    @rule(xname=st.sampled_from(NAMES), kind=st.sampled_from(Transition))
    def put(self, xname, kind):
        """Put something in."""
        new = self.make(xname, kind)
        self.outbox.put(new)
        self.drop(xname)
        self.waiting.append(new)

    @rule(xname=st.sampled_from(NAMES), kind=st.sampled_from(Transition))
    def put_back(self, xname, kind):
        """Put something back that was set aside."""
        new = self.make(xname, kind)
        self.outbox.put_back(new)
        if xname not in [old.component for old in self.waiting]:
            self.waiting.append(new)

    @rule(data=st.data())
    def discard(self, data):
        """Take out something that may have been replaced long ago."""
        if self.made:
            old = data.draw(st.sampled_from(self.made))
            self.outbox.discard(old)
            self.waiting = [other for other in self.waiting if other is not old]

    @rule(xname=st.sampled_from(NAMES))
    def withdraw_alarm(self, xname):
        """Withdraw whatever alarm there is."""
        self.outbox.withdraw_alarm(xname)
        if any(old.component == xname and old.transition.alarming for old in self.waiting):
            self.drop(xname)

    @rule()
    def next_kind(self):
        """Ask for the next kind: all of it there is, oldest first."""
        taken = list(self.outbox.next_kind())
        if self.waiting:
            (kind,) = {old.transition for old in taken}
            assert taken == [old for old in self.waiting if old.transition is kind]
        else:
            assert taken == []

    @invariant()
    def same(self):
        """Compare what is in."""
        assert len(self.outbox) == len(self.waiting)
        present = {id(old) for old in self.waiting}
        for old in self.made:
            assert (old in self.outbox) == (id(old) in present)


class OutboxTests(SynchronousTestCase):
    """What waits, and whose turn it is."""

    def setUp(self):
        self.outbox = Outbox()

    def put(self, kind: Transition, *names: str) -> list[Judgement]:
        """Put judgements of a kind in."""
        judgements = [Judgement(name, kind, "t") for name in names]
        for judgement in judgements:
            self.outbox.put(judgement)
        return judgements

    def test_against_a_list(self):
        """Whatever is put in and taken out, of each component the latest waits in its turn."""
        run_state_machine_as_test(
            OutboxMachine,
            settings=settings(
                max_examples=100,
                stateful_step_count=30,
                deadline=None,
                suppress_health_check=[HealthCheck.too_slow],
            ),
        )

    def test_empty(self):
        """An empty outbox has no next kind."""
        self.assertEqual(list(self.outbox.next_kind()), [])
        self.assertEqual(len(self.outbox), 0)
        self.assertFalse(self.outbox)

    def test_latest_wins(self):
        """Of a component only the latest judgement waits, behind those that came before it."""
        (first,) = self.put(WARNED, "x1")
        (other,) = self.put(WARNED, "x2")
        (latest,) = self.put(WARNED, "x1")
        self.assertEqual(first, latest)
        self.assertNotIn(first, self.outbox)
        self.assertIn(latest, self.outbox)
        self.assertEqual(list(self.outbox.next_kind()), [other, latest])

    def test_equal_is_not_the_same(self):
        """That an earlier judgement needs no sending says nothing of a later one just like it."""
        (first,) = self.put(STARTED, "x1")
        (later,) = self.put(STARTED, "x1")
        self.outbox.discard(first)
        self.assertIn(later, self.outbox)

    def test_put_back(self):
        """What is put back waits again, unless there is news."""
        old = Judgement("x1", DIED, "t")
        self.outbox.put_back(old)
        self.assertIn(old, self.outbox)
        (news,) = self.put(STARTED, "x1")
        self.outbox.put_back(old)
        self.assertNotIn(old, self.outbox)
        self.assertIn(news, self.outbox)

    def test_withdraw_alarm(self):
        """Alarms can be withdrawn; that a component has started or restarted stays to be said."""
        for kind in Transition:
            (judgement,) = self.put(kind, "x1")
            self.outbox.withdraw_alarm("x1")
            self.assertEqual(judgement in self.outbox, not kind.alarming)
        self.outbox.withdraw_alarm("x2")

    def test_turns(self):
        """Kinds that have any take turns, so that a mass death does not keep the living waiting."""
        for kinds in ([DIED, STARTED], [WARNED, RESTARTED, DIED], list(Transition), [DIED]):
            self.outbox = Outbox()
            for number, kind in enumerate(kinds):
                self.put(kind, f"x{number}a", f"x{number}b")
            seen = [next(iter(self.outbox.next_kind())).transition for _ in range(12)]
            for i in range(12 - len(kinds)):
                self.assertEqual(set(seen[i : i + len(kinds)]), set(kinds))

    def test_newcomer_gets_its_turn(self):
        """A kind that had none is served next but one at the latest when it gets some."""
        self.put(DIED, *NAMES)
        for _ in range(5):
            self.outbox.next_kind()
        self.put(STARTED, "x9")
        seen = [next(iter(self.outbox.next_kind())).transition for _ in range(2)]
        self.assertIn(STARTED, seen)


class ChunkSizeTests(SynchronousTestCase):
    """How many components a PATCH names."""

    def setUp(self):
        self.chunks = BatchSize()

    def answer(self, per_component: float, target: float, overhead: float = 0.0) -> None:
        """Have a full chunk answered by an HSM of this speed."""
        size = self.chunks.size
        self.chunks.answered(size, overhead + size * per_component, target)

    def test_begins_small(self):
        """The first chunk is one that the slowest of HSMs takes within a second."""
        self.assertEqual(self.chunks.size, 100)

    def test_finds_the_size(self):
        """The size settles where HSM answers within the target and not much faster."""
        for per_component in (0.0005, 0.002, 0.01, 0.04):
            self.setUp()
            for _ in range(30):
                self.answer(per_component, 2.5)
            took = self.chunks.size * per_component
            self.assertLessEqual(took, 2.5)
            if self.chunks.size < 5000:
                self.assertGreaterEqual(took, 2.0)

    def test_slow_whatever_it_is_told(self):
        """An HSM whose answers take long by themselves is not sent ever smaller chunks."""
        for _ in range(30):
            self.answer(0.0, 2.5, overhead=3.0)
        self.assertEqual(self.chunks.size, 50)

    def test_at_most(self):
        """However fast HSM is, a chunk has no more than 5000 components."""
        for _ in range(30):
            self.answer(0.00001, 2.5)
        self.assertEqual(self.chunks.size, 5000)

    def test_follows(self):
        """An HSM that gets slower gets smaller chunks at once, one that gets faster larger ones."""
        for _ in range(30):
            self.answer(0.0005, 2.5)
        fast = self.chunks.size
        self.answer(0.005, 2.5)
        self.assertLessEqual(self.chunks.size * 0.005, 2.5)
        for _ in range(30):
            self.answer(0.0005, 2.5)
        self.assertEqual(self.chunks.size, fast)

    def test_part_of_a_chunk(self):
        """That HSM is quick with a few says nothing about many."""
        for count in (1, 50, 99):
            self.chunks.answered(count, 0.001, 2.5)
            self.assertEqual(self.chunks.size, 100)

    def test_timeouts(self):
        """Every timeout halves the size, down to one component."""
        sizes = []
        for _ in range(9):
            self.chunks.timed_out(self.chunks.size)
            sizes.append(self.chunks.size)
        self.assertEqual(sizes, [50, 25, 12, 6, 3, 1, 1, 1, 1])

    def test_timeout_of_a_small_chunk(self):
        """What counts at a timeout is how many components the chunk had."""
        self.chunks.timed_out(10)
        self.assertEqual(self.chunks.size, 5)

    def test_recovers(self):
        """From one component at a time the size grows again."""
        for _ in range(10):
            self.chunks.timed_out(self.chunks.size)
        for _ in range(30):
            self.answer(0.0005, 2.5)
        self.assertEqual(self.chunks.size, 5000)

    def test_no_time_at_all(self):
        """An answer that takes no measurable time is a fast one."""
        self.chunks.answered(100, 0.0, 2.5)
        self.assertGreater(self.chunks.size, 100)

    @settings(max_examples=200, deadline=None)
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
            before = self.chunks.size
            count = min(before, wanted)
            if answered:
                self.chunks.answered(count, took, target)
            else:
                self.chunks.timed_out(count)
            size = self.chunks.size
            self.assertTrue(1 <= size <= 5000, size)
            self.assertLessEqual(size, before * 1.5 + 1)
            if not answered or took > target:
                self.assertLessEqual(size, max(1, before))
            if answered and took <= target:
                self.assertGreaterEqual(size, before)
