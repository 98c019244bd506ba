"""Components that must be heard twice more before HSM is told that they are alive."""

from collections.abc import Callable, Iterable
from typing import Final

from hbtd.hsm.difference import Differences

_NEEDED: Final = 2
"""Heartbeats after which HSM is told that a component is alive.

One might be old: delayed by the network, or sent while HSM was answering.
"""


class Listeners:
    """Components that must be heard twice more before HSM is told that they are alive.

    Each comparison of HSM's table makes a collection: it counts the heartbeats of those in the
    first look's differences, and waits for those that are left after the second look. Heartbeats
    are counted by looking at the time of a component's last heartbeat, about once a second. All
    times are in seconds of the observed clock.
    """

    def __init__(
        self, last_heard: Callable[[str], float | None], earlier: "Listeners | None" = None
    ) -> None:
        """Make a collection without components; `count` adds them.

        `last_heard` returns the time of a component's last heartbeat, or `None` if it is not known.
        Of those that `earlier` waits for, the heartbeats that it has counted are counted: with
        comparisons in quick succession, no component need be heard twice between two of them.
        """
        self._last_heard = last_heard
        self._earlier = earlier
        # By component: the heartbeats seen, and when the last one of these was taken.
        self._heard: dict[str, tuple[int, float]] = {}
        self._waiting = Differences()
        self._until: Callable[[str], float] | None = None

    def __len__(self) -> int:
        """Return the number of components passed to `wait_for` that have yet to be heard twice."""
        return len(self._waiting)

    def count(self, components: Iterable[str], since: float) -> None:
        """Begin to count the heartbeats that each of `components` sends after the time `since`."""
        for xname in components:
            self._heard[xname] = self._counted_before(xname) or (0, since)

    def _counted_before(self, xname: str) -> tuple[int, float] | None:
        """Return what the earlier collection has counted of a component that it waits for."""
        if self._earlier is None or xname not in self._earlier._waiting:
            return None
        return self._earlier._heard.get(xname)

    def counted(self) -> list[str]:
        """Return the components whose heartbeats are counted."""
        return list(self._heard)

    def look(self, components: Iterable[str]) -> None:
        """Count the last heartbeat of each of `components`, unless it has been counted before.

        After a call of `wait_for`, drop those of `components` that were not passed to it.
        """
        for xname in components:
            if self._until is not None and xname not in self._waiting:
                self._heard.pop(xname, None)
                continue
            seen = self._heard.get(xname)
            at = self._last_heard(xname)
            if seen is not None and seen[0] < _NEEDED and at is not None and at > seen[1]:
                self._heard[xname] = seen[0] + 1, at

    def wait_for(self, differences: Differences, until: Callable[[str], float]) -> None:
        """Have `take` return each of `differences` once its component has been heard twice.

        The collection is emptied by that. Differences of components whose heartbeats are not
        counted are ignored. After the time that `until` returns for a component, `take` drops its
        difference if it was not heard twice.
        """
        self._earlier = None
        self._waiting, self._until = differences, until

    def take(self, components: Iterable[str], now: float) -> Differences:
        """Return the differences of those of `components` that were heard twice, and drop them.

        `now` is the current time. Those of `components` that were not heard twice are dropped, too,
        if it is later than the time that `until`, the argument of `wait_for`, returns for them.
        """
        heard = Differences()
        for xname in components:
            late = self._until is not None and self._until(xname) < now
            twice = self._heard.get(xname, (0, 0.0))[0] >= _NEEDED
            if twice or late:
                difference = self._waiting.pop(xname)
                if difference is None:
                    continue
                self._heard.pop(xname, None)
                if twice:
                    heard.add(difference)
        return heard
