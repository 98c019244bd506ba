"""Distributions of durations, and the reactor's lag."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from hbtd.runtime.distribution import Distribution
from hbtd.runtime.reactor_lag import ReactorLag

SECONDS = st.floats(-1, 100, allow_nan=False)


class DistributionTests(SynchronousTestCase):
    """What is counted."""

    @given(st.lists(SECONDS), st.sets(st.floats(0, 50), min_size=1))
    def test_any(self, durations, bounds):
        """Each bucket has the durations up to its limit; negative ones count as zero."""
        made = Distribution(bounds)
        for each in durations:
            made.add(each)
        positive = [max(each, 0.0) for each in durations]
        expected = [sum(each <= bound for each in positive) for bound in sorted(bounds)]
        self.assertEqual(made.cumulative(), [*expected, len(durations)])
        self.assertEqual(made.count, len(durations))
        self.assertAlmostEqual(made.total, sum(positive))
        self.assertEqual(made.longest, max(positive, default=0.0))


class LagTests(SynchronousTestCase):
    """The lag of a reactor whose time is in the test's hands."""

    def setUp(self):
        self.clock = Clock()
        self.lag = ReactorLag(self.clock)
        self.lag.startService()
        self.addCleanup(self.lag.stopService)

    def test_idle(self):
        """A reactor that makes each call when it is due has no lag."""
        self.clock.pump([0.1] * 50)
        self.assertEqual(self.lag.lags.count, 50)
        self.assertLess(self.lag.lags.longest, 1e-6)

    def test_blocked(self):
        """A block is measured once, as long as it was, and the time after it is not."""
        self.clock.pump([0.1] * 10)
        self.clock.advance(0.1 + 2.5)
        self.clock.pump([0.1] * 20)
        self.assertAlmostEqual(self.lag.lags.longest, 2.5)
        self.assertAlmostEqual(self.lag.lags.total, 2.5)
        at_most = dict(zip(self.lag.lags.bounds, self.lag.lags.cumulative(), strict=False))
        self.assertEqual(self.lag.lags.count - at_most[0.1], 1)

    def test_started_again(self):
        """The time between a stop and the next start is no lag."""
        self.lag.stopService()
        self.clock.advance(100)
        self.lag.startService()
        self.clock.pump([0.1] * 5)
        self.assertLess(self.lag.lags.longest, 1e-6)
