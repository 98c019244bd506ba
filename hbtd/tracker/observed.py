"""The observed clock: time that passes only while we are able to hear."""

from collections.abc import Callable

TICK = 0.1
"""Seconds between two ticks that whoever owns the clock must see to."""

_LATE = 0.5
"""A tick this many seconds after the one before means that we could not hear in between."""


class ObservedClock:
    """Monotonic time less every stretch in which we were deaf.

    A component's silence counts only while hbtd could have heard it, and it can hear when its
    reactor goes round: then every connection gets its turn. The ticks come with these rounds,
    every `TICK` seconds, unless the process was stopped or a round took long. All of such a gap
    but a tick is not counted. After it the clock stands still for as long again, but for no longer
    than `patience()`: a node whose heartbeat ran into the gap has to time out, connect again and
    wait for its next turn before it can be heard, and must not be judged before that.
    """

    def __init__(self, monotonic: Callable[[], float], patience: Callable[[], float]) -> None:
        """`monotonic` gives seconds that never go back; `patience` the longest stand-still."""
        self._monotonic = monotonic
        self._patience = patience
        self.ticked_at = monotonic()
        """When it last ticked, on the clock that this is made from."""
        self._observed = 0.0
        self._standstill = 0.0
        self._deaf = False
        self._deaf_for = 0.0
        self.deaf_seconds = 0.0
        """How many seconds were not counted because we could not hear."""

    def tick(self) -> None:
        """Count the time since the last tick, as far as we could hear in it."""
        ticked_at = self._monotonic()
        elapsed = ticked_at - self.ticked_at
        self.ticked_at = ticked_at
        if self._deaf:
            self._deaf_for += elapsed
            self.deaf_seconds += elapsed
        elif elapsed > _LATE:
            gap = elapsed - TICK
            self.deaf_seconds += gap
            self._standstill = max(self._standstill, min(gap, self._patience()))
            self._observed += TICK
        else:
            held = min(elapsed, self._standstill)
            self._standstill -= held
            self._observed += elapsed - held

    def deafen(self, unheard: float) -> None:
        """Count no time until `hear`: what others hear does not reach us.

        `unheard` are observed seconds before now of which that was true already. They have been
        counted, and time does not go back; so the clock stands still for as long once it goes
        again. What it owes already is a part of them, or they of that: both end now.
        """
        if not self._deaf:
            self.tick()
            self._deaf = True
            self._standstill = max(self._standstill, unheard)

    def hear(self, *, patiently: bool) -> None:
        """Count time again; `patiently`: as after a gap of our own, not at once."""
        if self._deaf:
            self.tick()
            self._deaf = False
            if patiently:
                patience = min(self._deaf_for, self._patience())
                self._standstill = max(self._standstill, patience)
            self._deaf_for = 0.0

    def now(self) -> float:
        """Give the observed seconds since this clock was made.

        Between ticks no more is counted than the next tick is sure to count.
        """
        if self._deaf:
            return self._observed
        # Asked for every heartbeat: min() and max() would cost as much as all the rest of it.
        elapsed = self._monotonic() - self.ticked_at
        if elapsed > TICK:
            elapsed = TICK
        if elapsed <= self._standstill:
            return self._observed
        return self._observed + elapsed - self._standstill
