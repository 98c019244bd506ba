"""The maintenances that are in force, and the components in each of them, without I/O."""

from collections.abc import Callable, Iterable

from hbtd.rules.maintenance import UNDER_WAY, Maintenance
from hbtd.tracker.names import NameDict


class Entry:
    """A maintenance that is in force."""

    __slots__ = ("began", "ends", "left", "maintenance", "number", "said", "tried")

    def __init__(self, maintenance: Maintenance, began: float, ends: float) -> None:
        """Make an entry without components.

        `began` is the observed time from which on it holds, as far as this replica knows. `ends` is
        when it ends at the latest: in seconds of the host's elapsed clock or, if a component has
        said that it will be away, in observed seconds.
        """
        self.maintenance = maintenance
        self.began = began
        self.ends = ends
        self.number = 0
        """The number of components that are in it."""
        self.left: set[str] = set()
        """The components for which it has ended already, as they are back."""
        self.said = 0
        """How many of these were logged."""
        self.tried = 0
        """How many there were when the store could not be told, as the text was too long."""


Notice = Callable[[Entry, str], None]
"""A function that is told what has become of a maintenance: it was set, changed, or has ended."""


def tell_nobody(entry: Entry, what: str) -> None:
    """Do nothing: nobody has asked to be told."""


class InForce:
    """The maintenances that are in force, and which components each of them includes.

    A component may be in any number of maintenances, and is in maintenance as long as it is in one
    of them at least.
    """

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        """All maintenances that are in force, by identifier, in the order in which they came."""
        # Which maintenances include a component; most are in one, which is one tuple for all.
        self._including = NameDict[tuple[Entry, ...]]()

    def __contains__(self, xname: str) -> bool:
        """Return whether a component is in maintenance."""
        return xname in self._including

    def __len__(self) -> int:
        """Return the number of components, tracked or not, that are in maintenance."""
        return len(self._including)

    def including(self, xname: str) -> tuple[Entry, ...]:
        """Return the maintenances that include a component."""
        return self._including.get(xname, ())

    def latest(self, xname: str) -> Entry | None:
        """Return the maintenance of a component that ends last; `None` if it is in none."""
        return max(self.including(xname), key=lambda entry: entry.maintenance.until, default=None)

    def begin(self, entry: Entry) -> None:
        """Put a maintenance in force, without any components."""
        self.entries[entry.maintenance.id] = entry

    def include(self, entry: Entry, xnames: Iterable[str]) -> list[str]:
        """Add components to a maintenance, but those that have left it; return those added."""
        alone, added = (entry,), []
        for xname in xnames:
            before = self._including.get(xname, ())
            if xname in entry.left or entry in before:
                continue
            self._including[xname] = (*before, entry) if before else alone
            added.append(xname)
        entry.number += len(added)
        return added

    def exclude(self, entry: Entry, xnames: Iterable[str]) -> list[str]:
        """Remove components from a maintenance; return those that are in no maintenance now."""
        free: list[str] = []
        for xname in xnames:
            before = self._including.get(xname, ())
            if entry not in before:
                continue
            entry.number -= 1
            rest = tuple(each for each in before if each is not entry)
            if rest:
                self._including[xname] = rest
            else:
                del self._including[xname]
                free.append(xname)
        return free

    def is_return(
        self, xname: str, at: float, last_heard: float, patience: Callable[[str], float]
    ) -> bool:
        """Return whether a component that is heard at the observed time `at` is back.

        `last_heard` is the observed time of the heartbeat before, and `patience` returns the
        silence, in observed seconds, after which a component is warned about. A component that has
        said that it will be away is back with any heartbeat that is not one of those that were
        under way then.
        """
        for entry in self._including.get(xname, ()):
            if not entry.maintenance.back:
                continue
            if entry.maintenance.away:
                if at >= entry.began + UNDER_WAY:
                    return True
            elif at - last_heard >= patience(xname):
                return True
        return False

    def leave(self, xname: str) -> list[Entry]:
        """End all maintenances that end with a component's return; return these maintenances."""
        ended = [entry for entry in self.including(xname) if entry.maintenance.back]
        for entry in ended:
            self.exclude(entry, [xname])
            entry.left.add(xname)
        return ended
