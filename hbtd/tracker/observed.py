"""The observed clock: time that passes only while hbtd can hear components."""

from collections.abc import Callable

TICK = 0.1
"""Seconds between two calls of `tick`, which the owner of the clock makes."""

_LATE = 0.5
"""The longest time between two ticks, in seconds, in which hbtd counts as having heard."""


class ObservedClock:
    """Monotonic time, less the periods in which hbtd was deaf, and a standstill after each.

    A component's silence counts only while hbtd could have heard it, that is while the reactor
    runs: in each of its rounds every connection gets its turn. `tick` is called from these rounds,
    every `TICK` seconds. When it comes late, because the process was stopped or a round took long,
    the gap is not counted, except for one tick. After the gap the clock stands still for as long
    again, but no longer than `patience()`: a node whose heartbeat ran into the gap has to time out
    and to connect again before it can be heard, and must not be judged before that::

        ticks      |||||||||                |||||||||||||||||||||||||||||||||||
                   hears   | gap, deaf      | standstill     | hears
        observed   0 ... 5 | 5 (+ one tick) | 5              | 5 ... 8

    `docs/design.md` draws this to scale, and what `deafen` and `hear` do.
    """

    def __init__(self, monotonic: Callable[[], float], patience: Callable[[], float]) -> None:
        """Begin at zero.

        `monotonic` returns seconds that never decrease, `patience` the longest standstill after a
        gap, in seconds.
        """
        self._monotonic = monotonic
        self._patience = patience
        self.ticked_at = monotonic()
        """The time of the last tick, in seconds of `monotonic`."""
        self._observed = 0.0
        self._standstill = 0.0
        self._deaf = False
        self._deaf_for = 0.0
        self.deaf_seconds = 0.0
        """The seconds in which hbtd was deaf; standstills are not included."""

    def tick(self) -> None:
        """Count the time since the last tick, unless hbtd was deaf in it."""
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
        """Stop the clock until `hear`: heartbeats that other replicas take don't arrive here.

        `unheard` is for how many observed seconds that has been so already. These have been
        counted, and the clock never goes back: instead it stands still for as long after `hear`. If
        it stands still now, the longer of the two standstills remains, as both periods end now.
        """
        if not self._deaf:
            self.tick()
            self._deaf = True
            self._standstill = max(self._standstill, unheard)

    def hear(self, *, patiently: bool) -> None:
        """Let the clock run again; `patiently`: after a standstill, as after a gap."""
        if self._deaf:
            self.tick()
            self._deaf = False
            if patiently:
                patience = min(self._deaf_for, self._patience())
                self._standstill = max(self._standstill, patience)
            self._deaf_for = 0.0

    def now(self) -> float:
        """Return the observed seconds since this clock was made.

        Between two ticks no more is counted than the next tick is certain to count.
        """
        if self._deaf:
            return self._observed
        # Called for every heartbeat: min() and max() would double the time that it takes.
        elapsed = self._monotonic() - self.ticked_at
        if elapsed > TICK:
            elapsed = TICK
        if elapsed <= self._standstill:
            return self._observed
        return self._observed + elapsed - self._standstill
