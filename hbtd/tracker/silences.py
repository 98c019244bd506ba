"""Long silences, from which follows how many alarms there would have been with other limits.

A silence is long if it is over twice the mean period of its component's heartbeats. All long
silences that have ended are kept, in a table of the store: `hbtd.store.silences` moves them there.
Shorter ones are not kept; `Component.floor` and `Silences.missed_since` say how long these were.
"""

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from math import inf, isfinite
from typing import Final, NamedTuple

from hbtd.tracker.components import LONG_TIMES, NO_PERIOD, NOT_HEARD, Component, rounded_up

MOST_KEPT: Final = 100_000
"""The most long silences that the table of a store keeps, and that may wait to be put there."""

_LEAST: Final = 1.0
"""The seconds of silence that are never long: no limit is shorter.

Without this, whoever sends two heartbeats at once, so that their mean period is hardly anything,
could fill the table with the pauses in between.
"""

_FIRST_PERIOD: Final = 5.0
"""The mean period, in observed seconds, that is expected before any period is known."""


class LongSilence(NamedTuple):
    """A long silence that has ended: the time between two heartbeats of a component."""

    component: str
    """The component's xname."""
    ended: float
    """The time of the heartbeat that ended it: in Unix seconds, or observed ones in `Silences`."""
    seconds: float
    """The length of the silence, in observed seconds."""


class Limits(NamedTuple):
    """Limits of silence that might have been in force, and since when."""

    warntime: float
    """Observed seconds of silence after which a component would have been warned about."""
    errtime: float
    """Observed seconds of silence after which a component would have been declared dead."""
    since: float = -inf
    """The Unix time from which on alarms count."""

    @property
    def least(self) -> float:
        """The shorter one of the two limits: shorter silences cause no alarm."""
        return min(self.warntime, self.errtime)

    @property
    def warns(self) -> bool:
        """Whether there are warnings: as in `Tracker.sweep`, not if death is declared as soon."""
        return self.warntime < self.errtime


class Alarms:
    """The alarms of one kind, warnings or deaths, that there would have been with other limits."""

    def __init__(self) -> None:
        self.components: Counter[str] = Counter()
        """The number of these alarms about each component, by xname."""
        self.number = 0
        """The number of all these alarms."""
        self.back = 0
        """The number of those after which the component was heard again."""

    def add(self, component: str, *, back: bool) -> None:
        """Count an alarm; `back` says whether the component was heard again after it."""
        self.components[component] += 1
        self.number += 1
        self.back += back


class Tally:
    """Counts the alarms that there would have been with some limits."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.warnings = Alarms()
        self.deaths = Alarms()

    def add_ended(self, silences: Iterable[LongSilence]) -> None:
        """Count the alarms that silences would have caused, which have ended at Unix times.

        A silence counts as if the time in which hbtd could not hear had been at its beginning.
        """
        warntime, errtime, since = self._limits
        warns = self._limits.warns
        for component, ended, seconds in silences:
            if warns and seconds >= warntime and ended - (seconds - warntime) >= since:
                self.warnings.add(component, back=True)
            if seconds >= errtime and ended - (seconds - errtime) >= since:
                self.deaths.add(component, back=True)

    def add_open(self, component: str, seconds: float, warned_at: float, died_at: float) -> None:
        """Count the alarms that the silence of a component, which lasts, would have caused.

        It has lasted `seconds` observed seconds so far, and `Limits.warntime` seconds at the Unix
        time `warned_at` and `Limits.errtime` seconds at `died_at`, if it has lasted as long as
        that.
        """
        warntime, errtime, since = self._limits
        if self._limits.warns and seconds >= warntime and warned_at >= since:
            self.warnings.add(component, back=False)
        if seconds >= errtime and died_at >= since:
            self.deaths.add(component, back=False)


class Silences:
    """The long silences that the tracker has noticed, and that have yet to be put into a table.

    Times are observed seconds, in `LongSilence.ended`, too. If more than `most` silences wait, the
    oldest are lost.
    """

    def __init__(self, most: int = MOST_KEPT) -> None:
        self._most = most
        self._noted: deque[LongSilence] = deque()
        self._lost_at = -inf
        self._usual = _FIRST_PERIOD
        # Ever later and ever shorter: whatever ended before a longer one makes no difference.
        self._missed: list[tuple[float, float]] = []
        self.longest_missed = 0.0
        """The longest period that was not kept, in observed seconds rounded up like `floor`."""

    def note(self, component: Component, period: float, at: float) -> None:
        """Keep a period if it was a long silence; otherwise, raise the component's `floor` to it.

        `period` is in observed seconds; a heartbeat has ended it at the time `at`. Call this for
        each period longer than `component.notable`, and before `component.note_period`. As long as
        the component's mean period is not known, the mean of the first periods that components had
        lately stands in.
        """
        mean = component.mean
        if period > max(LONG_TIMES * (mean if mean > 0.0 else self._usual), _LEAST):
            self._keep(LongSilence(component.xname, at, period))
        elif mean is NOT_HEARD:
            # hbtd may have started in between, so it is no period, and not among `longest`.
            self._miss(period, at)
        else:
            component.raise_floor(period)
            self.longest_missed = max(self.longest_missed, component.floor)
        if mean is NO_PERIOD:
            self._usual += (period - self._usual) / 8

    def end(self, component: Component, at: float) -> None:
        """Keep the silence of a dead component, which a heartbeat ends at the time `at`.

        It is kept however long the component's periods are; but if it is not known when the
        component was heard last, it is not kept.
        """
        if isfinite(component.last_heard):
            self._keep(LongSilence(component.xname, at, at - component.last_heard))
        self.leave(component)

    def leave(self, component: Component) -> None:
        """Remember the `floor` of a component whose periods are about to be forgotten."""
        if component.floor > 0.0:
            self._miss(component.floor, component.last_heard)

    def missed_since(self, since: float) -> float:
        """Return the longest period, in observed seconds, that has ended since and was not kept.

        Not included are the periods of tracked components since they or hbtd started, of which
        `Component.floor` has the longest. The result may be too long by 0.1 s; it is 0 if there was
        no such period.
        """
        return next((seconds for at, seconds in self._missed if at >= since), 0.0)

    def __len__(self) -> int:
        return len(self._noted)

    def __iter__(self) -> Iterator[LongSilence]:
        return iter(self._noted)

    def take(self, most: int) -> list[LongSilence]:
        """Remove and return the first `most` silences that wait.

        The caller puts them into a table, and calls `put_back` if that fails.
        """
        return [self._noted.popleft() for _ in range(min(most, len(self._noted)))]

    def put_back(self, silences: Sequence[LongSilence]) -> None:
        """Let silences, which `take` has returned, wait again."""
        self._noted.extendleft(reversed(silences))
        self._limit()

    def take_lost(self) -> float | None:
        """Return when the last silence ended that was lost, and forget that.

        The result is in observed seconds, and `None` if none was lost since the last call.
        """
        lost_at, self._lost_at = self._lost_at, -inf
        return lost_at if isfinite(lost_at) else None

    def _keep(self, silence: LongSilence) -> None:
        self._noted.append(silence)
        self._limit()

    def _limit(self) -> None:
        while len(self._noted) > self._most:
            self._lost_at = max(self._lost_at, self._noted.popleft().ended)

    def _miss(self, period: float, at: float) -> None:
        seconds = rounded_up(period)
        self.longest_missed = max(self.longest_missed, seconds)
        while self._missed and self._missed[-1][1] <= seconds:
            at = max(at, self._missed.pop()[0])
        self._missed.append((at, seconds))
