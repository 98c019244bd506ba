"""The rule by which growth is judged."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.soak.growth import BOUNDS, Bound, judge, slope, verdicts

HOUR = [float(second) for second in range(0, 3600, 30)]


class SlopeTests(SynchronousTestCase):
    """The slope of samples."""

    @given(steep=st.floats(-10, 10), start=st.floats(-100, 100))
    def test_line(self, steep: float, start: float) -> None:
        """That of a line is its own."""
        points = [(float(x), start + steep * x) for x in range(20)]
        self.assertAlmostEqual(slope(points), steep, places=6)

    def test_wild(self) -> None:
        """A fifth of wild samples does not change it by much."""
        random = Random(1)
        points = [(x, 2 * x + (random.random() < 0.2) * 1000.0) for x in map(float, range(100))]
        self.assertAlmostEqual(slope(points), 2.0, delta=0.2)

    def test_one(self) -> None:
        """One sample, or several at one time, have none."""
        self.assertEqual(slope([(1.0, 5.0)]), 0.0)
        self.assertEqual(slope([(1.0, 5.0), (1.0, 9.0)]), 0.0)


class JudgeTests(SynchronousTestCase):
    """Whether something grows without bound."""

    bound = Bound(0.05, 4.0)

    def test_leak(self) -> None:
        """Memory that grows all the time by more than its bound is noticed."""
        verdict = judge("x", [(at, 80 + at / 300) for at in HOUR], self.bound)
        assert verdict is not None
        self.assertTrue(verdict.unbounded)
        self.assertAlmostEqual(verdict.growth, verdict.seconds / 300, places=3)

    def test_warm(self) -> None:
        """What grows at first only, while caches fill, is not growth."""
        verdict = judge("x", [(at, 80 + min(at, 1500) / 20) for at in HOUR], self.bound)
        assert verdict is not None
        self.assertFalse(verdict.unbounded)

    def test_peak(self) -> None:
        """A peak, even at the end, is not growth."""
        points = [(at, 500.0 if at > 3400 else 80.0) for at in HOUR]
        verdict = judge("x", points, self.bound)
        assert verdict is not None
        self.assertFalse(verdict.unbounded)

    def test_born(self) -> None:
        """A process that was started in between is judged by its own life alone."""
        points = [(at, 40.0 if at < 1700 else 90.0) for at in HOUR]
        young = judge("x", points, self.bound, born=1700)
        assert young is not None
        self.assertEqual(young.growth, 0.0)
        self.assertEqual(young.median, 90.0)

    def test_too_short(self) -> None:
        """Nothing is said of less than ten minutes, or of a few samples."""
        self.assertIsNone(judge("x", [(at, at) for at in HOUR[:30]], self.bound))
        self.assertIsNone(judge("x", [(at, at) for at in HOUR[::20]], self.bound))
        self.assertIsNone(judge("x", [], self.bound))


class VerdictTests(SynchronousTestCase):
    """All columns of a file."""

    def test_columns(self) -> None:
        """Measures with a bound are judged, over the life of their process; others are not."""
        rows = [
            {
                "seconds": f"{at}",
                "a.pid": "1" if at < 600 else "2",
                "a.rss_mb": f"{(50 if at < 600 else 90) + at / 60}",
                "a.log_mb": f"{at}",
                "b.fds": "" if at % 60 else "30",
            }
            for at in HOUR
        ]
        found = {verdict.column: verdict for verdict in verdicts(rows)}
        self.assertEqual(set(found), {"a.rss_mb", "b.fds"})
        self.assertTrue(found["a.rss_mb"].unbounded)
        self.assertAlmostEqual(found["a.rss_mb"].seconds, 1470)
        self.assertFalse(found["b.fds"].unbounded)

    def test_none(self) -> None:
        """Without samples there are none."""
        self.assertEqual(verdicts([]), [])

    def test_bounds(self) -> None:
        """Counters and logs, which grow by what happens, have no bound."""
        self.assertNotIn("log_mb", BOUNDS)
        self.assertNotIn("heartbeats", BOUNDS)
