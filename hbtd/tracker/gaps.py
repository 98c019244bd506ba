"""The latest gaps: stretches of time that the observed clock has not counted, and their causes."""

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from enum import Enum
from operator import attrgetter
from typing import Final, NamedTuple

_MOST: Final = 100
"""The number of gaps that are kept."""


class GapKind(Enum):
    """The kinds of gaps: reasons why the observed clock does not count a stretch of time."""

    STALL = "stall"
    """hbtd could not hear components, because it did not run or was busy with something else."""
    STANDSTILL = "standstill"
    """After hbtd was deaf, components were given time to connect and to send a heartbeat."""
    DEAFEN = "deafen"
    """Heartbeats that other replicas had taken did not arrive at this replica."""


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
    """The value of the observed clock during the gap, in seconds."""


class Gaps:
    """The latest hundred gaps; successive gaps of one kind are joined until `close` is called."""

    def __init__(self) -> None:
        self._gaps: deque[Gap] = deque(maxlen=_MOST)
        # How much was not counted before each of them, and in all.
        self._before: deque[float] = deque(maxlen=_MOST)
        self._total = 0.0
        self._open = False

    def note(self, at: float, seconds: float, kind: GapKind, cause: str, observed: float) -> None:
        """Add a gap, or lengthen the last one: the clock did not count the `seconds` before `at`.

        `at` is a Unix time, `cause` says in words why the time was not counted, and `observed` is
        the value of the observed clock during the gap.
        """
        if self._open and self._gaps[-1].kind is kind:
            last = self._gaps[-1]
            self._gaps[-1] = last._replace(seconds=last.seconds + seconds, observed=observed)
            self._total += seconds
        elif seconds > 0.0:
            self._before.append(self._total)
            self._total += seconds
            self._gaps.append(Gap(at - seconds, seconds, kind, cause, observed))
            self._open = True

    def close(self) -> None:
        """End the last gap, because time is counted again: the next gap is not joined to it."""
        self._open = False

    def all(self) -> Sequence[Gap]:
        """Return the kept gaps, the latest one last."""
        return list(self._gaps)

    def since(self, observed: float) -> float:
        """Return the total seconds of the kept gaps since the clock had the value `observed`."""
        first = bisect_right(self._gaps, observed, key=attrgetter("observed"))
        return self._total - self._before[first] if first < len(self._gaps) else 0.0

    def observed_before(self, seconds: float, now: float) -> float:
        """Return the value that the observed clock had `seconds` real seconds ago.

        `now` is the current value of the observed clock.
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
