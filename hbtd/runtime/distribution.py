"""The distribution of durations: how many were at most so long, for histograms in metrics."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate


class Distribution:
    """Counts durations by size, so that percentiles can be estimated; takes the same memory always.

    The durations themselves are not kept.
    """

    def __init__(self, bounds: Iterable[float]) -> None:
        """Begin without durations; `bounds` are the upper limits of the buckets, in seconds."""
        self.bounds: Sequence[float] = tuple(sorted(bounds))
        """The upper limits of all buckets but the last one, which has none."""
        self._counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0
        """The sum of all durations, in seconds."""
        self.longest = 0.0
        """The longest duration, in seconds."""

    def add(self, seconds: float) -> None:
        """Count a duration; a negative one, as from a clock that was set back, counts as 0."""
        seconds = max(seconds, 0.0)
        self._counts[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds
        self.longest = max(self.longest, seconds)

    @property
    def count(self) -> int:
        """The number of durations."""
        return sum(self._counts)

    def cumulative(self) -> list[int]:
        """Return, for each bucket, how many durations are in it or in a smaller one."""
        return list(accumulate(self._counts))
