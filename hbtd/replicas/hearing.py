"""Stops the observed clock while etcd, or any living replica, has not been heard from for 3 s."""

from collections.abc import Callable, Mapping

from hbtd.replicas.applier import Moment
from hbtd.tracker.observed import ObservedClock

SILENCE = 3.0
"""Seconds without news from etcd, or from a living replica, after which hbtd counts as deaf."""


class Hearing:
    """Lets the observed clock run only while etcd and every living replica are heard from."""

    def __init__(
        self,
        observed: ObservedClock,
        moment: Callable[[], Moment],
        present: Mapping[int, Moment],
    ) -> None:
        """Make the object; set `heard` to the current time.

        `moment` returns the current time by two clocks. `present` has the time at which each living
        replica was last heard from, by replica number.
        """
        self._observed = observed
        self._moment = moment
        self._present = present
        self._was_deaf = False
        self.heard = moment()
        """The time, by two clocks, at which etcd was last heard from."""

    @property
    def silent_for(self) -> float:
        """Seconds since etcd was last heard from.

        Seconds during which this process did not run are included.
        """
        return self._moment().elapsed - self.heard.elapsed

    @property
    def current(self) -> bool:
        """Whether etcd was heard from within the last `SILENCE` seconds."""
        return self.silent_for < SILENCE

    def begin(self) -> None:
        """Stop the observed clock until etcd has been read; set `heard` to the current time."""
        self.hear()
        self._observed.deafen(0.0, "etcd has yet to be read")

    def hear(self) -> None:
        """Record that etcd was heard from just now."""
        self.heard = self._moment()

    def give(self, seconds: float) -> None:
        """Act as if etcd was heard from at most `seconds` ago, to give etcd more time to answer."""
        soonest = self._moment().elapsed - seconds
        self.heard = self.heard._replace(elapsed=max(self.heard.elapsed, soonest))

    def lose(self) -> None:
        """Stop the observed clock, because changes in etcd no longer reach this replica."""
        self._was_deaf = True
        self._deaf_since(self.heard, "changes in etcd did not arrive")

    def check(self, *, synchronized: bool) -> None:
        """Stop the observed clock, or let it run again. Call this several times a second.

        The clock runs if etcd and every living replica were heard from in the last `SILENCE`
        seconds. `synchronized` says whether this replica is synchronized; if not, do nothing.
        """
        if not synchronized:
            return
        if not self.current:
            self._deaf_since(self.heard, "etcd was silent")
            return
        now = self._moment()
        longest_silent = min(self._present.values(), default=now)
        if now.elapsed - longest_silent.elapsed >= SILENCE:
            self._deaf_since(longest_silent, "another replica was silent")
        else:
            self._observed.hear(patiently=self._was_deaf)
            self._was_deaf = False

    def _deaf_since(self, moment: Moment, cause: str) -> None:
        """Stop the observed clock until `check` finds that etcd and all replicas are heard from.

        A standstill then makes up for the seconds that the clock has counted since `moment`.
        `cause` says why the clock stops, for the log.
        """
        # In observed time, since a standstill makes up only for seconds that were counted.
        self._observed.deafen(self._observed.now() - moment.observed, cause)
