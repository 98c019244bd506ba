"""Finds out which components have sent two heartbeats since a given time."""

from collections.abc import Callable, Iterable
from typing import Final

from hbtd.hsm.difference import Difference, Differences

_NEEDED: Final = 2
"""The heartbeats after which a component surely lives: one may have been on its way for long."""


class Listeners:
    """Components that must be heard twice more before HSM is told that they are alive.

    A component was heard twice if it has sent two heartbeats since the time given to `count`.
    Heartbeats are counted by looking at the time of a component's last heartbeat, about once a
    second. All times are in seconds of the observed clock.
    """

    def __init__(self, last_heard: Callable[[str], float | None]) -> None:
        """Make a collection without components; `count` and `wait_for` add them.

        `last_heard` returns the time of a component's last heartbeat, or `None` if it is not known.
        """
        self._last_heard = last_heard
        # By component: the heartbeats seen, and when the last one of these was taken.
        self._heard: dict[str, tuple[int, float]] = {}
        self._waiting = Differences()
        self._until: float | None = None

    def __len__(self) -> int:
        """Return the number of components passed to `wait_for` that have yet to be heard twice."""
        return len(self._waiting)

    def count(self, components: Iterable[str], since: float) -> None:
        """Begin to count the heartbeats that each of `components` sends after the time `since`."""
        self._heard.update(dict.fromkeys(components, (0, since)))

    def counted(self) -> list[str]:
        """Return the components whose heartbeats are counted."""
        return list(self._heard)

    def look(self, components: Iterable[str]) -> None:
        """Count the last heartbeat of each of `components`, unless it has been counted before.

        After a call of `wait_until`, drop those of `components` that were not passed to `wait_for`.
        """
        for xname in components:
            if self._until is not None and xname not in self._waiting:
                self._heard.pop(xname, None)
                continue
            seen = self._heard.get(xname)
            at = self._last_heard(xname)
            if seen is not None and seen[0] < _NEEDED and at is not None and at > seen[1]:
                self._heard[xname] = seen[0] + 1, at

    def wait_for(self, differences: Iterable[Difference]) -> None:
        """Have `take` return each difference once its component has been heard twice.

        Differences of components whose heartbeats are not counted are ignored.
        """
        # Nobody is waited for whose heartbeats are not counted: that may have been ended.
        for each in differences:
            if each.component in self._heard:
                self._waiting.add(each)

    def wait_until(self, until: float) -> None:
        """Set the time after which `take` drops components that were not heard twice.

        From now on, count only the heartbeats of components that were passed to `wait_for`.
        """
        self._until = until

    def take(self, components: Iterable[str], now: float) -> Differences:
        """Return the differences of those of `components` that were heard twice, and drop them.

        `now` is the current time. If it is later than the time given to `wait_until`, those of
        `components` that were not heard twice are dropped, too.
        """
        heard = Differences()
        late = self._until is not None and self._until < now
        for xname in components:
            twice = self._heard.get(xname, (0, 0.0))[0] >= _NEEDED
            if twice or late:
                difference = self._waiting.pop(xname)
                if difference is None:
                    continue
                self._heard.pop(xname, None)
                if twice:
                    heard.add(difference)
        return heard

    def clear(self) -> None:
        """Drop all components."""
        self._waiting, self._heard, self._until = Differences(), {}, None
