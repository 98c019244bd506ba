"""Counts and latencies of a fleet's heartbeats."""

from collections import Counter, deque
from typing import Final, NamedTuple

# Enough latencies for a steady 99th percentile, few enough to sort for each line of progress.
_KEPT: Final = 20_000


class Latency(NamedTuple):
    """Seconds from heartbeats' due times to their answers: median, 99th percentile, maximum."""

    p50: float
    p99: float
    max: float


class Statistics:
    """Counts of a fleet's heartbeats so far, and latencies of the answers."""

    def __init__(self) -> None:
        self.sent = 0
        """The number of heartbeats written to a connection."""

        self.answered = 0
        """The number of heartbeats with a 2xx answer."""

        self.failures: Counter[str] = Counter()
        """Counts of failed heartbeats by reason: `status 400`, `timeout`, `connection lost`, ..."""

        self._recent: deque[float] = deque(maxlen=_KEPT)
        self._longest = 0.0

    @property
    def failed(self) -> int:
        """The number of heartbeats that failed, for any reason."""
        return self.failures.total()

    def note_answer(self, seconds: float) -> None:
        """Count a heartbeat that was answered `seconds` after it was due."""
        self.answered += 1
        self._recent.append(seconds)
        self._longest = max(self._longest, seconds)

    def latency(self) -> Latency:
        """Return percentiles of the latest 20,000 latencies, and the longest latency so far.

        All are zero before the first answer.
        """
        ordered = sorted(self._recent)
        if not ordered:
            return Latency(0.0, 0.0, 0.0)
        last = len(ordered) - 1
        return Latency(ordered[round(0.5 * last)], ordered[round(0.99 * last)], self._longest)
