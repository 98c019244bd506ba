"""The turnover: which components have begun or ceased to count among the living, and when asked.

Whoever counts the living, by failure domain for example, need not be told of each change, but only
of what has changed since it has asked last. So nothing is done with a heartbeat, and what comes and
goes in between counts for nothing.
"""

from enum import Enum


class Standing(Enum):
    """Whether a component counts among the living."""

    COUNTED = "counted"
    """It is living, and its silence is judged."""
    DEAD = "dead"
    OUT = "out"
    """It is not tracked, or it is spared: it is in maintenance."""


class Turnover:
    """The components whose standing may have changed, each with its standing before."""

    def __init__(self) -> None:
        self._before: dict[str, Standing] = {}
        self.anew = False
        """Whether so much has changed at once that all components have to be looked at."""

    def __len__(self) -> int:
        return len(self._before)

    def note(self, xname: str, before: Standing) -> None:
        """Note that a component may be about to change, which has the standing `before`."""
        self._before.setdefault(xname, before)

    def note_all(self) -> None:
        """Note that any component may have changed."""
        self._before.clear()
        self.anew = True

    def take(self) -> dict[str, Standing]:
        """Return the components that may have changed, with their standings before; forget them.

        What the next call returns are the changes from now on.
        """
        taken, self._before = self._before, {}
        return taken

    def discard(self, xname: str) -> None:
        """Forget that a component may have changed, because its standing of now is known."""
        self._before.pop(xname, None)
