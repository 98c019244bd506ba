"""An observed clock, with the time below it in the hands of a test."""

from math import inf

from twisted.trial.unittest import SynchronousTestCase

from hbtd.tracker.observed import TICK, ObservedClock

PATIENCE = 10.0
"""The longest standstill, in seconds."""

EPSILON = 1e-6
"""What a sum of floating-point numbers may be off by."""


class ClockTestCase(SynchronousTestCase):
    """Has an observed clock, and the time below it."""

    def setUp(self):
        self.begin()

    def begin(self, patience: float = PATIENCE, most_busy: float = inf) -> None:
        """Replace the clock by a new one."""
        self.time = 1000.0
        self.busy = 0.0
        self.patience = patience
        self.clock = ObservedClock(
            lambda: self.time,
            lambda: self.patience,
            lambda: self.busy,
            lambda: most_busy,
            lambda: 1e9 + self.time,
        )

    def read_after(self, seconds: float) -> float:
        """Tick `seconds` after the last tick, and return the observed time."""
        self.time += seconds
        self.clock.tick()
        return self.clock.now()

    def work(self, seconds: float) -> float:
        """Use the processor for `seconds`, tick, and return the observed time."""
        self.busy += seconds
        return self.read_after(seconds)

    def listen(self, seconds: float) -> float:
        """Let `seconds` pass, with ticks in time, and return the observed time."""
        for _ in range(round(seconds / TICK)):
            self.read_after(TICK)
        return self.clock.now()

    def assertClose(self, value: float, expected: float) -> None:
        """Check that two times are equal, but for rounding."""
        self.assertApproximates(value, expected, EPSILON)
