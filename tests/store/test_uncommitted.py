"""The queue of judgements that are not committed yet."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hbtd.store.uncommitted import Uncommitted
from hbtd.tracker.transitions import Judgement, Transition

STARTED, WARNED, DIED = Transition.STARTED, Transition.WARNED, Transition.DIED

NAMES = ("x0", "x1", "x2")

JUDGEMENTS = st.builds(Judgement, st.sampled_from(NAMES), st.sampled_from(Transition), st.just("t"))

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.lists(JUDGEMENTS, max_size=5)),
        st.tuples(st.just("take"), st.integers(1, 3)),
        st.tuples(st.just("finish"), st.booleans()),
        st.tuples(st.just("forget"), st.sampled_from(NAMES)),
        st.tuples(st.just("follow"), st.none()),
    ),
    max_size=30,
)


def judgement(xname: str, transition: Transition = STARTED) -> Judgement:
    """Return a judgement."""
    return Judgement(xname, transition, "t")


class UncommittedTests(SynchronousTestCase):
    """What is in the queue, and what is taken from it."""

    def setUp(self) -> None:
        """Make an empty queue."""
        self.queue = Uncommitted()

    def test_order(self) -> None:
        """Judgements are taken in the order in which they were added, no more than are wanted."""
        all_of_them = [judgement(f"x{i}") for i in range(5)]
        self.queue.add(all_of_them)
        for expected in (all_of_them[:2], all_of_them[2:4], all_of_them[4:], []):
            self.assertEqual(list(self.queue.take(2)), expected)
            self.assertEqual(list(self.queue.finish(passed_on=True)), expected)
        self.assertEqual(len(self.queue), 0)

    def test_drop_returns(self) -> None:
        """That a component started or restarted is dropped; alarms, and other components, stay."""
        started, other = judgement("x0"), judgement("x1")
        died, restarted = judgement("x0", DIED), judgement("x0", Transition.RESTARTED)
        self.queue.add([started, other, died, restarted])
        self.queue.take(2)
        self.queue.drop_returns("x0")
        self.queue.drop_returns("x2")
        self.assertEqual(list(self.queue.in_hand), [other])
        self.assertTrue("x0" in self.queue)
        self.assertFalse(self.queue.was_heard("x0"))
        self.assertEqual(list(self.queue.finish(passed_on=True)), [other])
        self.assertEqual(list(self.queue.take(5)), [died])
        self.queue.finish(passed_on=True)
        self.assertEqual(len(self.queue), 0)
        self.assertFalse("x0" in self.queue)

    def test_in_hand(self) -> None:
        """A judgement counts as uncommitted until its commit is finished."""
        self.queue.add([judgement("x0"), judgement("x0", WARNED)])
        self.queue.take(1)
        self.queue.finish(passed_on=True)
        self.assertTrue("x0" in self.queue)
        self.queue.take(1)
        self.assertTrue("x0" in self.queue)
        self.queue.finish(passed_on=True)
        self.assertFalse("x0" in self.queue)

    def test_repeats(self) -> None:
        """What repeats a judgement that was passed on just before is dropped."""
        self.queue.add([judgement("x0"), judgement("x1"), judgement("x0"), judgement("x0", DIED)])
        self.queue.take(2)
        self.queue.finish(passed_on=True)
        self.assertEqual(list(self.queue.take(9)), [judgement("x0", DIED)])
        self.assertEqual(self.queue.components(), {"x0"})

    def test_repeats_of_others(self) -> None:
        """What repeats a judgement that was not passed on is kept: nobody was told."""
        self.queue.add([judgement("x0"), judgement("x0")])
        self.queue.take(1)
        self.queue.finish(passed_on=False)
        self.assertEqual(list(self.queue.take(9)), [judgement("x0")])

    def test_repeats_later(self) -> None:
        """Once nothing waits any more, the same transition is news again."""
        for _ in range(2):
            self.queue.add([judgement("x0")])
            self.assertEqual(list(self.queue.take(9)), [judgement("x0")])
            self.queue.finish(passed_on=True)

    def test_repeats_after_others_judged(self) -> None:
        """What was passed on before this replica followed makes no later alarm a repeat."""
        self.queue.add([judgement("x0", DIED), judgement("x1", DIED)])
        self.queue.take(1)
        self.queue.finish(passed_on=True)
        self.queue.drop_alarms()
        # It leads again; meanwhile, x0 has started elsewhere.
        self.queue.add([judgement("x0", DIED)])
        self.assertEqual(list(self.queue.take(9)), [judgement("x0", DIED)])

    def test_repeats_of_an_earlier_run(self) -> None:
        """What was passed on before nothing waited makes nothing a repeat while others wait."""
        self.queue.add([judgement("x0"), judgement("x1")])
        for _ in range(2):
            self.queue.take(1)
            self.queue.finish(passed_on=True)
        self.queue.add([judgement("x2"), judgement("x0")])
        self.queue.take(1)
        self.queue.finish(passed_on=True)
        self.assertEqual(list(self.queue.take(1)), [judgement("x0")])

    def test_repeats_only(self) -> None:
        """Once nothing but repeats was left, the same transition is news again."""
        self.queue.add([judgement("x0"), judgement("x0")])
        self.queue.take(1)
        self.queue.finish(passed_on=True)
        self.assertEqual(list(self.queue.take(9)), [])
        self.queue.add([judgement("x0")])
        self.assertEqual(list(self.queue.take(9)), [judgement("x0")])

    def test_forgotten_meanwhile(self) -> None:
        """A component that was forgotten in between starts anew."""
        self.queue.add([judgement("x0"), judgement("x0")])
        self.queue.take(1)
        self.queue.finish(passed_on=True)
        self.queue.forget("x0")
        self.assertEqual(list(self.queue.take(9)), [judgement("x0")])

    def test_forgotten_in_hand(self) -> None:
        """So does one that was forgotten during the commit: the store has to forget that one."""
        self.queue.add([judgement("x0"), judgement("x1")])
        self.queue.take(1)
        self.assertTrue(self.queue.forget("x0"))
        self.queue.add([judgement("x0")])
        self.queue.finish(passed_on=True)
        self.assertEqual(list(self.queue.take(9)), [judgement("x1"), judgement("x0")])

    def test_forget(self) -> None:
        """Alarms about a component that is forgotten are dropped, and no other judgements."""
        self.queue.add([judgement("x0", WARNED), judgement("x1", WARNED), judgement("x0")])
        self.queue.take(1)
        self.assertTrue(self.queue.forget("x0"))
        self.assertFalse(self.queue.forget("x1"))
        self.assertEqual(list(self.queue.finish(passed_on=True)), [])
        self.assertEqual(list(self.queue.take(9)), [judgement("x0")])

    @given(STEPS)
    def test_counts(self, steps: list[tuple[str, object]]) -> None:
        """The components, and how many judgements there are, agree with what comes out."""
        queue = Uncommitted()
        for what, value in steps:
            if what == "add":
                queue.add(value)  # type: ignore[arg-type]
            elif what == "take":
                queue.take(value)  # type: ignore[arg-type]
            elif what == "finish":
                queue.finish(passed_on=bool(value))
            elif what == "forget":
                queue.forget(str(value))
            else:
                queue.drop_alarms()
        # Nothing is dropped as a repeat from now on.
        queue.finish(passed_on=False)
        waiting, components = len(queue), queue.components()
        left = list(queue.take(1000))
        self.assertEqual(len(left), waiting)
        self.assertEqual({each.component for each in left}, components)
        self.assertEqual(components, {name for name in NAMES if name in queue})
        queue.finish(passed_on=True)
        self.assertEqual((len(queue), queue.components()), (0, set()))
