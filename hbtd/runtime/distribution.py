"""The distribution of durations: the counts in the buckets of a histogram, for the metrics."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate


class Distribution:
    """The counts of durations in buckets by length, from which percentiles can be estimated.

    The durations themselves are not kept, so the memory used does not grow.
    """

    def __init__(self, bounds: Iterable[float]) -> None:
        """Make an empty distribution; `bounds` are the upper limits of its buckets, in seconds.

        One more bucket, the last, has no upper limit.
        """
        self.bounds: Sequence[float] = tuple(sorted(bounds))
        """The upper limits, in seconds, of all buckets but the last one, which has none."""
        self._counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0
        """The sum of all durations counted so far, in seconds."""
        self.longest = 0.0
        """The longest duration counted so far, in seconds; 0 before the first."""

    def add(self, seconds: float) -> None:
        """Count a duration in seconds; a negative one, after a clock was set back, counts as 0."""
        seconds = max(seconds, 0.0)
        self._counts[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds
        self.longest = max(self.longest, seconds)

    @property
    def count(self) -> int:
        """The number of durations counted so far."""
        return sum(self._counts)

    def cumulative(self) -> list[int]:
        """Return, for each bucket in order, how many durations are in this or an earlier bucket."""
        return list(accumulate(self._counts))
