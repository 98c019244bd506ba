"""How often HSM is told again of a component."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hbtd.hsm.tellings import DAY, MOST, Tellings, read_telling
from hbtd.tracker.transitions import Phase

DEAD, HEALTHY = Phase.DEAD, Phase.HEALTHY
NOW = 1_800_000_000.0


class TellingsTests(SynchronousTestCase):
    """HSM is told three times a day, then the component is contested until it changes."""

    def setUp(self):
        self.tellings = Tellings()

    def tell(self, now: float, phase: Phase = DEAD, since: float = 5.0) -> bool:
        """Tell HSM again if that is allowed; return whether it is."""
        allowed = self.tellings.allow("x0", phase, since, now)
        if allowed:
            self.tellings.add("x0", phase, since, now)
        return allowed

    def test_three(self):
        """The fourth time within a day is one too many, for good."""
        told = [self.tell(NOW + hour * 3600) for hour in range(100)]
        self.assertEqual(told, [True] * MOST + [False] * (100 - MOST))

    def test_seldom(self):
        """Once every ten hours is allowed for ever."""
        self.assertTrue(all(self.tell(NOW + each * (DAY / 2 + 1)) for each in range(20)))

    def test_change(self):
        """When the component changes, its tellings are counted anew."""
        for _ in range(4):
            self.tell(NOW)
        self.assertFalse(self.tell(NOW))
        self.assertTrue(self.tell(NOW, since=6.0))
        self.assertTrue(self.tell(NOW, HEALTHY, since=6.0))

    def test_unknown_time(self):
        """A component whose last change has no known time has not changed for that."""
        for _ in range(MOST):
            self.tell(NOW, since=0.0)
        self.assertFalse(self.tell(NOW, since=5.0))
        self.assertFalse(self.tell(NOW, since=0.0))

    def test_clock(self):
        """A wall clock that is set back does not allow more."""
        told = [self.tell(NOW - hour * 3600) for hour in range(10)]
        self.assertEqual(sum(told), MOST)

    def test_outdated(self):
        """What was told a day ago, or of another state, is forgotten; what is contested is not."""
        for name, times in (("x0", MOST), ("x1", 1), ("x2", 1), ("x3", 1)):
            for _ in range(times):
                self.tellings.add(name, DEAD, 5.0, NOW)
        self.tellings.add("x2", DEAD, 5.0, NOW + DAY)
        current = [("x0", DEAD, 5.0), ("x1", DEAD, 5.0), ("x2", DEAD, 5.0), ("x3", HEALTHY, 9.0)]
        self.assertEqual(self.tellings.outdated(NOW, current), ["x3"])
        self.assertEqual(self.tellings.outdated(NOW + DAY, current[:3]), ["x1"])
        self.assertEqual(len(self.tellings), 2)
        self.assertFalse(self.tellings.allow("x0", DEAD, 5.0, NOW + DAY))

    @given(st.lists(st.tuples(st.sampled_from((DEAD, HEALTHY)), st.floats(0, 3e9)), max_size=8))
    def test_notes(self, told: list[tuple[Phase, float]]) -> None:
        """What the store keeps is all that is needed to go on counting."""
        tellings, notes = Tellings(), {}
        for phase, now in told:
            notes["x0"] = tellings.add("x0", phase, 5.0, now)
        again = Tellings(notes)
        for phase in (DEAD, HEALTHY):
            self.assertEqual(
                again.allow("x0", phase, 5.0, NOW), tellings.allow("x0", phase, 5.0, NOW)
            )

    @given(st.text())
    def test_any_note(self, text: str) -> None:
        """A note that is not understood counts as none."""
        telling = read_telling(text)
        self.assertIsNone(telling)
        self.assertEqual(len(Tellings({"x0": text})), 0)
