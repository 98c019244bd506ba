"""Which of some components were heard twice since a time."""

from collections.abc import Callable, Iterable
from typing import Final

from hbtd.hsm.difference import Difference

_NEEDED: Final = 2
"""The heartbeats after which a component surely lives: one may have been on its way for long."""


class Listeners:
    """Components of which HSM is to be told that they live, once they were heard twice.

    Whether a component was heard is seen from the time of its last heartbeat, which is looked at
    once a second or so. All times are observed seconds.
    """

    def __init__(self, last_heard: Callable[[str], float | None]) -> None:
        """Begin with none; `last_heard` returns when a component was heard, `None` if unknown."""
        self._last_heard = last_heard
        # By component: the heartbeats seen, and when the last one of these was taken.
        self._heard: dict[str, tuple[int, float]] = {}
        self._waiting: dict[str, tuple[Difference, float]] = {}

    def __len__(self) -> int:
        """Return how many components are to be told of."""
        return len(self._waiting)

    def count_from(self, components: Iterable[str], since: float) -> None:
        """Count the heartbeats of these components, and no others, from now on.

        Those count that were taken after the time `since`.
        """
        self._waiting.clear()
        self._heard = dict.fromkeys(components, (0, since))

    def counted(self) -> list[str]:
        """Return the components whose heartbeats are counted."""
        return list(self._heard)

    def look(self, components: Iterable[str]) -> None:
        """Note which of some components were heard since the last look."""
        for xname in components:
            seen = self._heard.get(xname)
            at = self._last_heard(xname)
            if seen is not None and seen[0] < _NEEDED and at is not None and at > seen[1]:
                self._heard[xname] = seen[0] + 1, at

    def wait_for(self, differences: Iterable[Difference], until: float) -> None:
        """Let HSM be told of these as soon as they were heard twice, until a time at the latest.

        Heartbeats of other components are no longer counted.
        """
        self._waiting = {each.component: (each, until) for each in differences}
        self._heard = {xname: seen for xname, seen in self._heard.items() if xname in self._waiting}

    def take(self, now: float) -> list[Difference]:
        """Return the differences of which HSM is to be told now, and drop them.

        Those that have waited for too long are dropped, too.
        """
        heard = [
            each
            for xname, (each, _) in self._waiting.items()
            if self._heard.get(xname, (0, 0.0))[0] >= _NEEDED
        ]
        late = [xname for xname, (_, until) in self._waiting.items() if until < now]
        for xname in (*(each.component for each in heard), *late):
            self._waiting.pop(xname, None)
            self._heard.pop(xname, None)
        return heard

    def clear(self) -> None:
        """Drop all."""
        self._waiting.clear()
        self._heard.clear()
