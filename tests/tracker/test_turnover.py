"""The turnover: who begins or ceases to count among the living, each net change once."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hbtd.tracker.cohorts import Deadlines, Limits
from hbtd.tracker.records import Record
from hbtd.tracker.tracker import Tracker
from hbtd.tracker.turnover import Standing, Turnover

COUNTED, DEAD, OUT = Standing.COUNTED, Standing.DEAD, Standing.OUT
LIMITS = (10.0, 30.0)
NAMES = [f"x0c0s{slot}b0n0" for slot in range(4)]


class TurnoverTests(SynchronousTestCase):
    """A tracker that notes its turnover."""

    def setUp(self) -> None:
        self.tracker = Tracker()
        self.turnover = self.tracker.turnover = Turnover()

    def beat(self, *names: str, at: float = 0.0) -> None:
        """Let components beat."""
        for name in names:
            self.tracker.beat(name, at, "t", "OK")

    def assertTurned(self, before: Standing, now: Standing) -> None:
        """Check that only one component has changed, and how."""
        self.assertEqual((self.turnover.take(), self.tracker.standing("x0")), ({"x0": before}, now))

    def test_life(self) -> None:
        """A start, a death, a return and being forgotten are changes; warnings are none."""
        self.beat("x0")
        self.assertEqual(self.turnover.take(), {"x0": OUT})
        self.beat("x0", at=1.0)
        self.tracker.sweep(12.0, *LIMITS, 10)
        self.assertEqual(self.turnover.take(), {})
        self.tracker.sweep(40.0, *LIMITS, 10)
        self.assertEqual(
            (self.turnover.take(), self.tracker.standing("x0")), ({"x0": COUNTED}, DEAD)
        )
        self.beat("x0", at=41.0)
        self.assertEqual(self.turnover.take(), {"x0": DEAD})
        self.tracker.forget("x0")
        self.assertEqual(
            (self.turnover.take(), self.tracker.standing("x0")), ({"x0": COUNTED}, OUT)
        )

    def test_spared(self) -> None:
        """Who is spared does not count; judged anew, it counts again."""
        self.beat("x0")
        self.turnover.take()
        self.tracker.spare(["x0", "x1"])
        self.assertEqual(
            (self.turnover.take(), self.tracker.standing("x0")), ({"x0": COUNTED}, OUT)
        )
        self.beat("x1")
        self.assertEqual(self.tracker.standing("x1"), OUT)
        self.turnover.take()
        self.tracker.judge_anew(["x0"], 5.0, LIMITS)
        self.assertEqual(
            (self.turnover.take(), self.tracker.standing("x0")), ({"x0": OUT}, COUNTED)
        )

    def test_all(self) -> None:
        """If the store has lost its data, everybody is to be looked at."""
        self.beat("x0", "x1")
        self.tracker.keep_only(["x0"])
        self.assertTrue(self.turnover.anew)
        self.assertEqual(len(self.turnover), 0)

    def test_not_wanted(self) -> None:
        """Without anybody who asks nothing is noted."""
        self.tracker.turnover = None
        self.beat("x0")
        self.assertEqual(len(self.turnover), 0)

    @settings(max_examples=150, deadline=None)
    @given(st.data())
    def test_net_changes(self, data: Any) -> None:
        """Whatever happens, who applies each change once knows who counts."""
        self.setUp()
        tracker, counted, at = self.tracker, set[str](), 0.0
        names = st.sampled_from(NAMES)
        for _ in range(data.draw(st.integers(1, 40))):
            at += data.draw(st.sampled_from((0.0, 1.0, 12.0, 31.0)))
            what, name = data.draw(st.integers(0, 9)), data.draw(names)
            record = Record(name, 5.0, "t", "OK", data.draw(st.booleans()))
            if what == 0:
                self.beat(name, at=at)
            elif what == 1:
                held = {name: Deadlines(at + 5, at + 5, held=True)}
                tracker.sweep(at, *LIMITS, 3, held=held)
            elif what == 2:
                tracker.forget(name)
            elif what == 3:
                tracker.apply_death(name)
            elif what == 4:
                tracker.apply_warning(record, at, *LIMITS)
            elif what == 5:
                tracker.apply_gap(record, at)
            elif what == 6:
                tracker.restore([record], [NAMES[0]], at, *LIMITS)
            elif what == 7:
                tracker.spare([name])
            elif what == 8:
                tracker.judge_anew([name], at, LIMITS)
            else:
                for xname, before in self.turnover.take().items():
                    self.assertEqual(xname in counted, before is COUNTED)
                    now = tracker.standing(xname) is COUNTED
                    (counted.add if now else counted.discard)(xname)
                expected = {x for x in NAMES if tracker.standing(x) is COUNTED}
                self.assertEqual(counted, expected)


class DueTests(SynchronousTestCase):
    """Whether a death is due, and deaths that are held back."""

    def setUp(self) -> None:
        self.tracker = Tracker()

    def due(self, at: float) -> bool:
        """Return whether one is due."""
        return self.tracker.death_due(at, LIMITS)

    def test_due(self) -> None:
        """A death is due from Errtime on, whether or not there was a warning."""
        self.tracker.beat("x0", 0.0, "t", "OK")
        self.assertEqual((self.due(29.0), self.due(30.0)), (False, True))
        self.tracker.sweep(12.0, *LIMITS, 10)
        self.assertEqual((self.due(29.0), self.due(30.0)), (False, True))
        self.tracker.beat("x0", 29.5, "t", "OK")
        self.assertFalse(self.due(30.0))

    def test_own_limits(self) -> None:
        """Own limits and deadlines count; those that are spared or held back have none due."""
        self.tracker.set_limits(lambda xname: Limits(5.0, 8.0))
        self.tracker.beat("x0", 0.0, "t", "OK")
        self.assertEqual((self.due(7.0), self.due(8.0)), (False, True))
        self.tracker.judge_anew(["x0"], 8.0, LIMITS)
        self.assertEqual((self.due(15.0), self.due(16.0)), (False, True))
        self.tracker.sweep(16.0, *LIMITS, 10, held={"x0": Deadlines(16.0, 40.0, held=True)})
        self.assertFalse(self.due(50.0))
        self.tracker.spare(["x0"])
        self.assertFalse(self.due(50.0))

    def test_held_back(self) -> None:
        """Deaths that are held back are counted, so that a sweep knows whether more are due."""
        for number in range(5):
            self.tracker.beat(f"x{number}", 0.0, "t", "OK")
        held = {f"x{number}": Deadlines(40.0, 90.0, held=True) for number in range(3)}
        found = []
        for _ in range(3):
            judgements = self.tracker.sweep(35.0, 40.0, 30.0, 2, held=held)
            found.append((len(judgements), self.tracker.held_back))
        self.assertEqual(found, [(0, 2), (1, 1), (1, 0)])

    def test_released(self) -> None:
        """Who is released dies with the next sweep; whose time has come needs no release."""
        self.tracker.beat("x0", 0.0, "t", "OK")
        self.tracker.sweep(35.0, *LIMITS, 5, held={"x0": Deadlines(60.0, 60.0, held=True)})
        rule = self.tracker.rule("x0")
        self.tracker.release(["x0", "x1"], 60.0)
        self.assertIs(self.tracker.rule("x0"), rule)
        self.tracker.release(["x0"], 50.0)
        self.assertEqual(len(self.tracker.sweep(50.0, *LIMITS, 5)), 1)
