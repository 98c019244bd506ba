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
        self._waiting: dict[str, Difference] = {}
        self._until: float | None = None

    def __len__(self) -> int:
        """Return how many components are to be told of."""
        return len(self._waiting)

    def count_from(self, components: Iterable[str], since: float) -> None:
        """Count the heartbeats of these components, and no others, from now on.

        Those count that were taken after the time `since`.
        """
        self.clear()
        self._heard = dict.fromkeys(components, (0, since))

    def counted(self) -> list[str]:
        """Return the components whose heartbeats are counted."""
        return list(self._heard)

    def look(self, components: Iterable[str]) -> None:
        """Note which of some components were heard since the last look."""
        for xname in components:
            if self._until is not None and xname not in self._waiting:
                self._heard.pop(xname, None)
                continue
            seen = self._heard.get(xname)
            at = self._last_heard(xname)
            if seen is not None and seen[0] < _NEEDED and at is not None and at > seen[1]:
                self._heard[xname] = seen[0] + 1, at

    def wait_for(self, differences: Iterable[Difference]) -> None:
        """Let HSM be told of these, too, as soon as they were heard twice."""
        # Nobody is waited for whose heartbeats are not counted: that may have been ended.
        self._waiting.update(
            (each.component, each) for each in differences if each.component in self._heard
        )

    def wait_until(self, until: float) -> None:
        """Wait until a time at the latest for those of `wait_for`, and count no others."""
        self._until = until

    def take(self, components: Iterable[str], now: float) -> list[Difference]:
        """Return those of some components of which HSM is to be told now, and drop them.

        Those that have waited for too long are dropped, too.
        """
        heard: list[Difference] = []
        late = self._until is not None and self._until < now
        for xname in components:
            twice = self._heard.get(xname, (0, 0.0))[0] >= _NEEDED
            if (twice or late) and xname in self._waiting:
                difference = self._waiting.pop(xname)
                self._heard.pop(xname, None)
                heard += [difference] if twice else []
        return heard

    def clear(self) -> None:
        """Drop all."""
        self._waiting, self._heard, self._until = {}, {}, None
