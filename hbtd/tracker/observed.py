"""The observed clock: time that passes only while hbtd can hear components."""

from collections.abc import Callable, Mapping, Sequence
from math import inf

from hbtd.tracker.gaps import Gap, GapKind, Gaps

TICK = 0.1
"""Seconds between two calls of `ObservedClock.tick`; the owner of the clock has to call it."""

_BUSY_WITHIN = 10
"""Within this many times `most_busy` seconds, at most `most_busy` seconds are left out."""

_LATE = 0.5
"""Seconds between two ticks, beyond which hbtd counts as having been deaf."""

LONG_STALL = 10.0
"""The least time between two ticks, in seconds, that counts as a long stall.

During a long stall, other replicas may have judged components that send to this replica. If
`patience()` is less than this time, a stall of `patience()` seconds is a long one already.
"""

_READ_LATE = 2.0
"""Seconds in which hbtd reads what was sent to it during a long stall, after the stall.

With a short `patience()`, a third of that: this has to end well before the standstill after the
stall does, so that whoever beats is heard before anybody is judged.
"""


class ObservedClock:
    """Monotonic time, without the stretches in which hbtd was deaf and the standstills after them.

    A component's silence counts only while hbtd could have heard the component, that is while the
    reactor runs: in each iteration of the reactor every connection is read. `tick` is called
    from the reactor every `TICK` seconds. If a tick comes more than half a second after the
    previous one, because the process was stopped or an iteration took long, hbtd was deaf between
    the two ticks: of this time, only `TICK` seconds are counted. Then follows a standstill, as long
    as the deaf stretch but no longer than `patience()` seconds. A node that sent a heartbeat in the
    deaf stretch may have to time out and connect again before hbtd can hear it, and must not be
    judged before that::

        ticks      |||||||||                |||||||||||||||||||||||||||||||||||
                   hears   | deaf           | standstill     | hears
        observed   0 ... 5 | 5 (+ one tick) | 5              | 5 ... 8

    `docs/design.md` has the same drawing to scale, and another for `deafen` and `hear`.
    """

    def __init__(
        self,
        monotonic: Callable[[], float],
        patience: Callable[[], float],
        busy: Callable[[], float] = lambda: 0.0,
        most_busy: Callable[[], float] = lambda: inf,
        wall: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """Make a clock that starts at zero.

        `monotonic` returns seconds that never decrease; `patience` returns the longest standstill
        after a deaf stretch, in seconds. `wall` returns the Unix time in seconds, for `gaps`.

        `busy` returns the seconds of processor time that the calling thread, the reactor's, has
        used. Gaps that are due to work of this thread are limited: in any stretch of ten times
        `most_busy()` seconds, no more than `most_busy()` seconds of such gaps are left out of the
        observed time.
        """
        self._monotonic = monotonic
        self._patience = patience
        self._busy = busy
        self._most_busy = most_busy
        self._busy_until = busy()
        # Seconds that may be left out because this thread was busy, at the time of that.
        self._allowance, self._allowed_at = inf, 0.0
        self.ticked_at = monotonic()
        """The time of the last call of `tick`, in seconds of `monotonic`."""
        self.caught_up_at = -inf
        """The time by which hbtd has read all data that was sent to it during the last long stall.

        The time is in seconds of `monotonic`; it is `-inf` before the first long stall. A heartbeat
        that hbtd reads earlier, after the stall, may have been sent during the stall, by a
        component that has died since.
        """
        self._ticked = False
        self._observed = 0.0
        self._standstill = 0.0
        self._wall = wall
        self._gaps = Gaps()
        self._deaf = False
        self._deaf_because = ""
        self._deaf_for = 0.0
        self.deaf_seconds = 0.0
        """The total number of seconds for which hbtd was deaf; standstills are not included."""

    def tick(self) -> None:
        """Advance the clock: add the time since the last tick, without gaps, to the observed time.

        The owner of the clock must call this every `TICK` seconds.
        """
        ticked_at, busy_until = self._monotonic(), self._busy()
        elapsed, busy = ticked_at - self.ticked_at, busy_until - self._busy_until
        self.ticked_at, self._busy_until = ticked_at, busy_until
        # Nothing is heard before the first tick.
        if self._ticked and elapsed >= min(self._patience(), LONG_STALL):
            self.caught_up_at = ticked_at + min(_READ_LATE, self._patience() / 3)
        if self._deaf:
            self._deaf_for += elapsed
            self.deaf_seconds += elapsed
            self._note(GapKind.DEAFEN, elapsed, self._deaf_because)
        elif elapsed > _LATE:
            deaf = elapsed - TICK
            self.deaf_seconds += deaf
            standstill = max(min(deaf, self._patience()) - self._standstill, 0.0)
            counted = self._beyond_allowance((deaf + standstill) * min(busy / elapsed, 1.0))
            self._standstill += max(standstill - counted, 0.0)
            passed = TICK + max(counted - standstill, 0.0)
            self._observed += passed
            cause = "hbtd was busy" if busy > elapsed / 2 else "hbtd did not run"
            self._note(GapKind.STALL, max(elapsed - passed, 0.0), cause)
        else:
            held = min(elapsed, self._standstill)
            self._standstill -= held
            if held:
                self._note(GapKind.STANDSTILL, held, "components may have to connect again")
            if elapsed > held:
                self._gaps.close()
            self._observed += elapsed - held
        self._ticked = True

    def _note(self, kind: GapKind, seconds: float, cause: str) -> None:
        if not self._ticked:
            kind, cause = GapKind.START, "hbtd started"
        self._gaps.note(self._wall(), seconds, kind, cause, self._observed)

    def _beyond_allowance(self, own: float) -> float:
        """Return how many of `own` seconds are counted, although hbtd was deaf or in a standstill.

        `own` are the seconds of deafness and standstill that this thread's own work has caused.
        Only a part of them may be left out (see `__init__`): otherwise, a client that keeps hbtd
        busy could delay every judgement.
        """
        most, now = self._most_busy(), self.ticked_at
        # Half of it may be left out at once, and half of it in the time that follows.
        regained = (now - self._allowed_at) / _BUSY_WITHIN / 2
        allowance = min(self._allowance + regained, most / 2)
        left_out = min(own, allowance)
        self._allowance, self._allowed_at = allowance - left_out, now
        return own - left_out

    @property
    def stalled(self) -> bool:
        """Whether a long stall has just ended, and `tick` has not been called since.

        Before that tick, hbtd may already read heartbeats that have waited in its sockets.
        """
        return self._monotonic() - self.ticked_at >= min(self._patience(), LONG_STALL)

    def deafen(self, unheard: float, cause: str = "") -> None:
        """Stop the clock until `hear` is called: heartbeats that other replicas take don't arrive.

        `unheard` is the number of seconds that the clock has counted although these heartbeats did
        not arrive. Because the clock is not set back, the call of `hear` is followed by a
        standstill of `unheard` seconds, or by the rest of the current standstill if this rest is
        longer. If the clock is stopped already, nothing changes. `cause` says in words, for `gaps`,
        why the heartbeats don't arrive.
        """
        if not self._deaf:
            self.tick()
            self._deaf, self._deaf_because = True, cause
            self._standstill = max(self._standstill, unheard)

    def hear(self, *, patiently: bool) -> None:
        """Let the clock, which `deafen` has stopped, run again after a standstill.

        `deafen` says how long the standstill lasts. If `patiently` is true, the standstill lasts at
        least as long as the clock was stopped, or at least `patience()` seconds if the clock was
        stopped for longer than that. If the clock is not stopped, nothing changes.
        """
        if self._deaf:
            self.tick()
            self._deaf = False
            if patiently:
                patience = min(self._deaf_for, self._patience())
                self._standstill = max(self._standstill, patience)
            self._deaf_for = 0.0

    def gaps(self) -> Sequence[Gap]:
        """Return the latest hundred gaps, the oldest first.

        A gap that has not ended is included, with its length so far.
        """
        return self._gaps.all()

    @property
    def lasting_gap(self) -> Gap | None:
        """The last gap if it has not ended; `None` if the clock runs."""
        return self._gaps.lasting

    def gap_totals(self) -> Mapping[GapKind, tuple[int, float]]:
        """Return, for each kind, the number of gaps so far and their total length in seconds."""
        return self._gaps.totals()

    def seconds_ago(self, observed: float) -> float:
        """Return how many real seconds ago the observed time was `observed`.

        If the clock stood still at `observed`, return how long ago that gap ended. Only the latest
        hundred gaps are known. If there were more gaps since then, the result is too small by the
        total length of the gaps that are not known.
        """
        now = self.now()
        uncounted = self._monotonic() - self.ticked_at - (now - self._observed)
        return now - observed + max(uncounted, 0.0) + self._gaps.since(observed)

    def shown(self, seconds_ago: float) -> float:
        """Return the value, in seconds, that this clock had `seconds_ago` real seconds ago.

        The result is negative for a time before the clock was made. Gaps before the latest hundred
        are not known, and are ignored.
        """
        now = self.now()
        uncounted = self._monotonic() - self.ticked_at - (now - self._observed)
        return self._gaps.observed_before(max(seconds_ago - max(uncounted, 0.0), 0.0), now)

    def now(self) -> float:
        """Return the current observed time: the observed seconds since this clock was made.

        Between two ticks, the result grows by `TICK` seconds at most, because hbtd may have been
        deaf since the last call of `tick`.
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
