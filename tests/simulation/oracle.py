"""The oracle: what may be said of a component, and what must, by what truly happened alone.

It shares no code with hbtd. It knows when heartbeats were answered, when nodes died, and when hbtd
and HSM could work; not what hbtd has read, thought or written.
"""

from bisect import bisect_right
from itertools import pairwise

SLACK = 0.5
"""Seconds by which a silence may seem longer to hbtd: a message on its way, a tick of its clock."""

LATE = 12.0
"""Seconds, besides those of the rules, within which HSM must be told: commits, probes, retries."""


class Timeline:
    """When something was the case, and how long in all."""

    def __init__(self) -> None:
        self._times = [0.0]
        self._values = [False]
        self._sums = [0.0]

    def set(self, now: float, value: bool) -> None:
        """Note that from now on it is the case, or not."""
        if value == self._values[-1]:
            return
        self._sums.append(self.until(now))
        self._times.append(now)
        self._values.append(value)

    def until(self, time: float) -> float:
        """Return for how many seconds it was the case, up to a time."""
        i = bisect_right(self._times, time) - 1
        return self._sums[i] + (time - self._times[i] if self._values[i] else 0.0)

    def within(self, begin: float, end: float) -> float:
        """Return for how many seconds it was the case between two times."""
        return self.until(end) - self.until(begin)

    def begun(self, begin: float, end: float) -> int:
        """Return how often it began to be the case between two times."""
        return sum(
            value and begin < time <= end
            for time, value in zip(self._times, self._values, strict=True)
        )


class Violation(AssertionError):
    """Something was said that is not true, or was not said in time."""


class _Component:
    def __init__(self) -> None:
        self.answered: list[float] = []
        """When heartbeats were answered, since HSM was told of the last change before."""
        self.died: float | None = None
        self.told = ""


class Oracle:
    """Checks each thing that HSM is told, and that it is told of each death."""

    def __init__(self, warntime: float, errtime: float, interval: float) -> None:
        self._warntime, self._errtime, self._interval = warntime, errtime, interval
        self._components: dict[str, _Component] = {}
        self.hears = Timeline()
        """When hbtd ran."""
        self.works = Timeline()
        """When hbtd ran, and HSM answered it."""

    def _get(self, name: str) -> _Component:
        return self._components.setdefault(name, _Component())

    def answered(self, name: str, now: float) -> None:
        """Note that a heartbeat was answered."""
        component = self._get(name)
        component.answered.append(now)
        if len(component.answered) > 64:
            # Only the longest silence matters, and the newest heartbeats.
            del component.answered[1:33:2]
        component.died = None

    def died(self, name: str, now: float) -> None:
        """Note that a node has lost its power, or its agent was killed."""
        component = self._get(name)
        if component.answered:
            component.died = now

    def booted(self, name: str) -> None:
        """Note that a node begins to beat."""
        self._get(name).died = None

    def told(self, name: str, state: str, flag: str, now: float) -> None:
        """HSM was sent news of a component; raise `Violation` if that was not true then."""
        component = self._get(name)
        word = f"{state}/{flag}".lower()
        limit = {"ready/warning": self._warntime, "standby/alert": self._errtime}.get(word, 0.0)
        if limit:
            longest = self._longest_silence(component, now)
            if longest < limit - SLACK:
                raise Violation(
                    f"{name} is said to be {word}, but in the time in which hbtd could hear it was"
                    f" silent for {longest:.3f} s at most, of {limit:g} s"
                )
        elif not component.answered:
            raise Violation(f"{name} is said to be {word}, but no heartbeat of it was answered")
        component.told = word
        before = [time for time in component.answered if time <= now]
        component.answered = component.answered[max(len(before) - 1, 0) :]

    def _longest_silence(self, component: _Component, now: float) -> float:
        # A heartbeat may have been heard whose answer is still on its way, never the reverse.
        times = [*(time for time in component.answered if time <= now), now]
        if len(times) == 1:
            return float("inf")
        return max(self.hears.within(a, b) for a, b in pairwise(times))

    def check_deaths(self, now: float) -> None:
        """Raise `Violation` if HSM should have been told of a death by now, and was not."""
        rules = self._errtime + self._interval + LATE
        for name, component in self._components.items():
            if component.died is None or component.told == "standby/alert":
                continue
            worked = self.works.within(component.died, now)
            # After each pause of its own hbtd waits for its nodes, Warntime at most.
            bound = rules + self._warntime * (1 + self.hears.begun(component.died, now))
            if worked > bound:
                raise Violation(
                    f"{name} died at {component.died:.1f}; HSM knows {component.told or 'nothing'}"
                    f" after {worked:.1f} s in which all worked ({bound:g} s are allowed)"
                )

    def check_rest(self, alive: dict[str, bool]) -> None:
        """Raise `Violation` unless HSM's last words are the truth."""
        for name, lives in alive.items():
            component = self._get(name)
            if not component.answered:
                continue
            wanted = "ready/ok" if lives else "standby/alert"
            if component.told != wanted:
                raise Violation(
                    f"{name} at rest is {component.told or 'unknown'} in HSM, not {wanted}"
                )
