"""The rule by which components that change their state again and again are marked as flapping."""

from array import array
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

HOUR: Final = 3600
"""The seconds within which changes of a component's state are counted."""

_SKEW: Final = 60
"""The seconds by which a change may lie in the future, before the wall clock counts as set back."""


class Flapping:
    """Counts the changes of each component within the last hour, and marks who has too many.

    A component is marked when it has changed more than `most` times within an hour, and until it
    has changed no more than half as often, rounded down: a component at the limit does not get and
    lose its mark again and again. The mark is for people and tools, and decides nothing.

    Times are Unix times in seconds, counted as whole seconds: `at` is that of a change, and `now`
    the present one. The changes of a component may be noted in any order. Those that are older than
    an hour, and those that lie in the future because the clock was set back, do not count. A
    component that has not changed in the last hour takes no memory, and the others take a few bytes
    for each change, of which the latest `most` and one more are kept.
    """

    def __init__(self) -> None:
        # The times of the latest changes, four bytes each and in order. The components are in the
        # order in which they have changed last.
        self._changes: dict[str, bytes] = {}
        # Those whose marks were looked at longest ago come first.
        self._marked: OrderedDict[str, None] = OrderedDict()

    def __contains__(self, xname: object) -> bool:
        """Return whether a component is marked."""
        return xname in self._marked

    def marked(self) -> Sequence[str]:
        """Return the xnames of the components that are marked, in no particular order."""
        return list(self._marked)

    @property
    def remembered(self) -> int:
        """The number of components that take memory."""
        return len(self._changes)

    def changes(self, xname: str, now: float) -> int:
        """Return how often a component has changed within the last hour, as far as is known.

        No more changes are known than it takes to mark the component.
        """
        return len(self._within(xname, now))

    def note(self, xname: str, at: float, now: float, most: int) -> bool:
        """Note a change of a component; return whether it is marked because of that.

        `most` is 1 or more. If the component is marked already, the result is false.
        """
        times = self._within(xname, now)
        if now - HOUR < at:
            times = sorted([*times, int(min(at, now))])[-(most + 1) :]
        self._changes.pop(xname, None)
        if times:
            self._changes[xname] = array("I", times).tobytes()
        if len(times) <= most or xname in self._marked:
            return False
        self._marked[xname] = None
        return True

    def look(self, now: float, most: int, limit: int) -> list[str]:
        """Return the components whose marks end, and forget changes that no longer count.

        At most `limit` marks, and `limit` other components, are looked at in a call; those that
        were not looked at for longest come first.
        """
        ended: list[str] = []
        for _ in range(min(limit, len(self._marked))):
            xname, _ = self._marked.popitem(last=False)
            if self.changes(xname, now) <= most // 2:
                ended.append(xname)
            else:
                self._marked[xname] = None
        for _ in range(min(limit, len(self._changes))):
            xname = next(iter(self._changes))
            if self._within(xname, now):
                break
            del self._changes[xname]
        return ended

    def clear(self) -> None:
        """Forget all changes and marks."""
        self._changes.clear()
        self._marked.clear()

    def _within(self, xname: str, now: float) -> list[int]:
        times = array("I", self._changes.get(xname, b""))
        return [at for at in times if now - HOUR < at <= now + _SKEW]
