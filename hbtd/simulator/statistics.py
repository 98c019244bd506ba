"""What became of a fleet's heartbeats, in numbers."""

from collections import Counter, deque
from typing import Final, NamedTuple

# Enough for a steady 99th percentile, few enough to be sorted for every line of progress.
_KEPT: Final = 20_000


class Latency(NamedTuple):
    """How long answers took, in seconds: the median, the 99th percentile, and the longest."""

    p50: float
    p99: float
    max: float


class Statistics:
    """Counters that only ever go up, and the latencies of the most recent answers."""

    def __init__(self) -> None:
        self.sent = 0
        """Heartbeats that were written to a connection."""

        self.answered = 0
        """Heartbeats that got a 2xx answer."""

        self.failures: Counter[str] = Counter()
        """All others, by reason: `status 400`, `timeout`, `connection lost`, ..."""

        self._recent: deque[float] = deque(maxlen=_KEPT)
        self._longest = 0.0

    @property
    def failed(self) -> int:
        """Count the heartbeats that failed, for whatever reason."""
        return self.failures.total()

    def note_answer(self, seconds: float) -> None:
        """Count a heartbeat that was answered so long after it was due."""
        self.answered += 1
        self._recent.append(seconds)
        self._longest = max(self._longest, seconds)

    def latency(self) -> Latency:
        """Sum up the latencies: percentiles of the latest 20,000 answers, maximum of them all.

        All zero as long as nothing was answered.
        """
        ordered = sorted(self._recent)
        if not ordered:
            return Latency(0.0, 0.0, 0.0)
        last = len(ordered) - 1
        return Latency(ordered[round(0.5 * last)], ordered[round(0.99 * last)], self._longest)
