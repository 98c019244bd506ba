"""How often a component may be forgotten."""

from twisted.trial.unittest import SynchronousTestCase

from hbtd.tracker.forgotten import Forgotten, ForgottenLately

A, B = "x0c0s0b0n0", "x0c0s0b0n1"


class ForgottenTests(SynchronousTestCase):
    """The components that were forgotten lately."""

    def setUp(self):
        self.forgotten = Forgotten()

    def wait(self, xname: str, at: float, period: float) -> float:
        """Return how long a component can't be forgotten yet."""
        try:
            self.forgotten.check(xname, at, period)
        except ForgottenLately as error:
            return error.seconds
        return 0.0

    def test_period(self) -> None:
        """Each component can be forgotten again after a period, as long as that is now."""
        self.assertEqual(self.wait(A, 0, 30), 0)
        self.forgotten.note(A, 0, 30)
        self.forgotten.note(B, 10, 30)
        self.assertEqual((self.wait(A, 10, 30), self.wait(B, 10, 30)), (20, 30))
        self.assertEqual((self.wait(A, 10, 12.5), self.wait(A, 10, 5)), (2.5, 0))
        self.assertEqual((self.wait(A, 29.75, 30), self.wait(A, 30, 30)), (0.25, 0))
        self.forgotten.note(A, 30, 30)
        self.assertEqual((self.wait(A, 35, 30), self.wait(B, 35, 30)), (25, 5))

    def test_bounded(self) -> None:
        """Components are kept for a period only, those that are forgotten again too."""
        for second in range(1000):
            self.forgotten.note(f"x{second}c0s0b0n0", second, 30)
            self.forgotten.note(A, second, 30)
            self.assertLessEqual(len(self.forgotten), 31)
        self.assertEqual(self.wait("x970c0s0b0n0", 999, 30), 1)
        self.assertEqual(self.wait(A, 999, 30), 30)
