"""Which components have sent two heartbeats since a given time."""

from collections.abc import Callable, Iterable
from typing import Final

from hbtd.hsm.difference import Difference, Differences

_NEEDED: Final = 2
"""The heartbeats after which a component surely lives: one may have been on its way for long."""


class Listeners:
    """Components that HSM is told are alive only after two more heartbeats of each.

    Heartbeats are counted by looking at the time of a component's last heartbeat, about once a
    second. All times are observed seconds.
    """

    def __init__(self, last_heard: Callable[[str], float | None]) -> None:
        """Begin without components.

        `last_heard` returns the observed time of a component's last heartbeat, or `None` if
        unknown.
        """
        self._last_heard = last_heard
        # By component: the heartbeats seen, and when the last one of these was taken.
        self._heard: dict[str, tuple[int, float]] = {}
        self._waiting = Differences()
        self._until: float | None = None

    def __len__(self) -> int:
        """Return the number of components for which `wait_for` was called and that still wait."""
        return len(self._waiting)

    def count_from(self, components: Iterable[str], since: float) -> None:
        """Count the heartbeats of `components`, and of no others, taken after the time `since`."""
        self.clear()
        self._heard = dict.fromkeys(components, (0, since))

    def counted(self) -> list[str]:
        """Return the components whose heartbeats are counted."""
        return list(self._heard)

    def look(self, components: Iterable[str]) -> None:
        """Count a heartbeat of each of `components` that was heard since the last look."""
        for xname in components:
            if self._until is not None and xname not in self._waiting:
                self._heard.pop(xname, None)
                continue
            seen = self._heard.get(xname)
            at = self._last_heard(xname)
            if seen is not None and seen[0] < _NEEDED and at is not None and at > seen[1]:
                self._heard[xname] = seen[0] + 1, at

    def wait_for(self, differences: Iterable[Difference]) -> None:
        """Have `take` return each difference once its component was heard twice.

        Differences of components whose heartbeats are not counted are ignored.
        """
        # Nobody is waited for whose heartbeats are not counted: that may have been ended.
        for each in differences:
            if each.component in self._heard:
                self._waiting.add(each)

    def wait_until(self, until: float) -> None:
        """Wait until the time `until` at most, and count only components given to `wait_for`."""
        self._until = until

    def take(self, components: Iterable[str], now: float) -> Differences:
        """Return the differences of those of `components` that were heard twice, and drop them.

        Components that were not heard twice before the time of `wait_until` are dropped, too.
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
