"""The observed clock: time that passes only while we are able to hear."""

from collections.abc import Callable

TICK = 0.1
"""Seconds between two readings that whoever owns the clock must see to."""

_LATE = 0.5
"""A reading this many seconds after the one before means that we were not running in between."""


class ObservedClock:
    """Monotonic time less every stretch in which we were deaf.

    A component's silence counts only while hbtd could have heard it. When the process was stopped
    or stuck, the readings, which come every `TICK` seconds, come late; all of such a gap but a
    tick is not counted. After it the clock stands still for as long again, but for no longer than
    `patience()`: a node whose heartbeat ran into the gap has to time out, connect again and wait
    for its next turn before it can be heard, and must not be judged before that.
    """

    def __init__(self, monotonic: Callable[[], float], patience: Callable[[], float]) -> None:
        """`monotonic` gives seconds that never go back; `patience` the longest stand-still."""
        self._monotonic = monotonic
        self._patience = patience
        self._read_at = monotonic()
        self._observed = 0.0
        self._standstill = 0.0
        self.deaf_seconds = 0.0
        """How many seconds were not counted because we were not running."""

    def now(self) -> float:
        """Observed seconds since this clock was made."""
        read_at = self._monotonic()
        elapsed = read_at - self._read_at
        self._read_at = read_at
        if elapsed > _LATE:
            gap = elapsed - TICK
            self.deaf_seconds += gap
            self._standstill = max(self._standstill, min(gap, self._patience()))
            elapsed = TICK
        elif self._standstill > 0.0:
            held = min(elapsed, self._standstill)
            self._standstill -= held
            elapsed -= held
        self._observed += elapsed
        return self._observed
