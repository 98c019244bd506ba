"""The latest gaps: stretches of time that the observed clock has not counted, and their causes."""

from bisect import bisect_right
from collections import Counter, defaultdict, deque
from collections.abc import Mapping, Sequence
from enum import Enum
from operator import attrgetter
from typing import Final, NamedTuple

_MOST: Final = 100
"""The number of gaps that are kept."""


class GapKind(Enum):
    """The kinds of gaps, by the reason for which the observed clock does not count the time."""

    START = "start"
    """A gap before the first tick, in which hbtd started and could not hear anybody yet."""
    STALL = "stall"
    """A gap in which hbtd could not read heartbeats, because it did not run or was busy."""
    STANDSTILL = "standstill"
    """A gap after a deaf stretch: components get time to connect again and send a heartbeat."""
    DEAFEN = "deafen"
    """A gap in which heartbeats that other replicas took did not arrive at this replica."""


class Gap(NamedTuple):
    """A stretch of time that the observed clock has not counted."""

    at: float
    """The Unix time, in seconds, at which the gap began."""
    seconds: float
    """The length of the gap, in seconds."""
    kind: GapKind
    cause: str
    """The cause of the gap, in a few words for operators; empty if not known."""
    observed: float
    """The observed time, in seconds, at which the observed clock stood still during the gap."""


class Gaps:
    """The latest hundred gaps of the observed clock.

    Successive gaps of the same kind are joined, unless `close` is called between them.
    """

    def __init__(self) -> None:
        self._gaps: deque[Gap] = deque(maxlen=_MOST)
        # How much was not counted before each of them, and in all.
        self._before: deque[float] = deque(maxlen=_MOST)
        self._total = 0.0
        self._open = False
        self._counts: Counter[GapKind] = Counter()
        self._seconds: defaultdict[GapKind, float] = defaultdict(float)

    @property
    def lasting(self) -> Gap | None:
        """The last gap if the clock has not counted since; `None` if it has.

        A start and a stall are over when they are recorded: only a standstill or a deafen can last.
        """
        over = (GapKind.START, GapKind.STALL)
        return self._gaps[-1] if self._open and self._gaps[-1].kind not in over else None

    def totals(self) -> Mapping[GapKind, tuple[int, float]]:
        """Return, for each kind, the number of gaps so far and their total length in seconds."""
        return {kind: (self._counts[kind], self._seconds[kind]) for kind in GapKind}

    def note(self, at: float, seconds: float, kind: GapKind, cause: str, observed: float) -> None:
        """Record that the observed clock did not count the `seconds` before the Unix time `at`.

        This adds a gap, or lengthens the last one if that is of the same `kind` and `close` has not
        been called since. `cause` says in words why the time was not counted; `observed` is the
        time of the observed clock, in seconds, during the gap.
        """
        if self._open and self._gaps[-1].kind is kind:
            last = self._gaps[-1]
            self._gaps[-1] = last._replace(seconds=last.seconds + seconds, observed=observed)
            self._total += seconds
            self._seconds[kind] += seconds
        elif seconds > 0.0:
            self._before.append(self._total)
            self._total += seconds
            self._gaps.append(Gap(at - seconds, seconds, kind, cause, observed))
            self._counts[kind] += 1
            self._seconds[kind] += seconds
            self._open = True

    def close(self) -> None:
        """End the last gap, because the clock counts again: a later gap is not joined to it."""
        self._open = False

    def all(self) -> Sequence[Gap]:
        """Return the latest hundred gaps, the oldest first."""
        return list(self._gaps)

    def since(self, observed: float) -> float:
        """Return the total length, in seconds, of the gaps after the observed time `observed`.

        Gaps that are no longer kept are left out.
        """
        first = bisect_right(self._gaps, observed, key=attrgetter("observed"))
        return self._total - self._before[first] if first < len(self._gaps) else 0.0

    def observed_before(self, seconds: float, now: float) -> float:
        """Return the value, in seconds, that the observed clock had `seconds` real seconds ago.

        `now` is the current observed time. Gaps that are no longer kept are ignored.
        """
        for gap in reversed(self._gaps):
            counted = now - gap.observed
            if seconds < counted:
                break
            now = gap.observed
            seconds -= counted + gap.seconds
            if seconds < 0.0:
                return now
        return now - seconds
