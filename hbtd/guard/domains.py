"""Failure domains: which ones a component is in, and how many living components each one has.

A failure domain is what one cause can silence: a slot, a chassis, a cabinet, a group that the file
of `--groups` lists (`hbtd.guard.groups`), and the whole system. They are known by their names: the
first three by their xnames, the system by its own, `s0`. A slot may be one of routers.

Which domains a component is in follows from its name and the groups whenever it is asked, and is
kept for nobody. What is kept is one number for each domain: its living components. That is a
hundred bytes for each slot, or 30 bytes for each node where a slot has four.

The numbers are kept up to date with each component that begins or ceases to count, in O(1), rather
than asked of the tracker when they are needed: they are needed exactly when thousands of components
fall silent or die at once, and the tracker would have to look at everybody for them.
"""

from collections.abc import Iterable
from enum import Enum
from functools import lru_cache
from typing import Final

from hbtd.formats.xnames import PLACE
from hbtd.guard.groups import SYSTEM, Groups

_PLACES_KEPT: Final = 4096
"""The number of places whose domains are kept for the next component there."""


class DomainKind(Enum):
    """The kinds of failure domains.

    Of two domains with equally many living components, the one whose kind comes first here counts
    as the smaller one.
    """

    SLOT = "slot"
    CHASSIS = "chassis"
    CABINET = "cabinet"
    GROUP = "group"
    SYSTEM = "system"


_KINDS: Final = tuple(DomainKind)
_GROUP: Final = _KINDS.index(DomainKind.GROUP)
_SYSTEM: Final = _KINDS.index(DomainKind.SYSTEM)

Size = tuple[int, int, str]
"""The size of a domain, by which domains are compared; see `Domains.size`."""


class Domains:
    """The failure domains of all components, and the number of living components in each."""

    def __init__(self, groups: Groups | None = None) -> None:
        """Make domains without living components; `groups` are those of the operator."""
        self._groups = groups or Groups()
        self._living: dict[str, int] = {}
        self._found = lru_cache(_PLACES_KEPT)(self._find)

    def of(self, xname: str) -> tuple[str, ...]:
        """Return the names of the domains of a component, whose name must be in normal form.

        The slot, chassis and cabinet come first, as far as the name has them, then the groups that
        list the component or one of these parts, and the whole system comes last.
        """
        # What is before the board or BMC is the same for most components of a slot.
        return self._found(xname.partition("b")[0], self._groups.listing(xname))

    def _find(self, place: str, listing: tuple[str, ...]) -> tuple[str, ...]:
        """Return the domains of a component whose name begins with `place`.

        `listing` are the groups that list the component itself.
        """
        match = PLACE.match(place)
        ends = [] if match is None else [match.end(part) for part in (3, 2, 1) if match[part]]
        parts = [place[:end] for end in ends]
        around = (group for part in parts for group in self._groups.listing(part))
        return (*parts, *dict.fromkeys((*listing, *around)), SYSTEM)

    def kind(self, domain: str) -> DomainKind:
        """Return the kind of a domain.

        A name that is no part of the machine is taken for a group, also if there is no such group.
        """
        return _KINDS[self._rank(domain)]

    def _rank(self, domain: str) -> int:
        if domain == SYSTEM:
            return _SYSTEM
        match = PLACE.fullmatch(domain)
        if match is None:
            return _GROUP
        return 0 if match[3] else 1 if match[2] else 2

    def size(self, domain: str) -> Size:
        """Return what the domain is compared with others by; the smaller one is less.

        That is the number of its living components; its kind decides between equal ones, and then
        its name, so that no two domains are equal.
        """
        return self._living.get(domain, 0), self._rank(domain), domain

    def living(self, domain: str) -> int:
        """Return the number of components in a domain that are living and not in maintenance."""
        return self._living.get(domain, 0)

    def add(self, xname: str) -> None:
        """Count a component as living, once: it has not been added, or was removed since."""
        living = self._living
        for domain in self.of(xname):
            living[domain] = living.get(domain, 0) + 1

    def remove(self, xname: str) -> None:
        """Cease to count a component, which was added, as living."""
        living = self._living
        for domain in self.of(xname):
            left = living.get(domain, 0) - 1
            if left > 0:
                living[domain] = left
            else:
                living.pop(domain, None)

    def recount(self, xnames: Iterable[str]) -> None:
        """Count these components as living, and no others; half a second for a million."""
        self._living.clear()
        for xname in xnames:
            self.add(xname)

    def counts(self) -> dict[str, int]:
        """Return a copy of the numbers of living components by domain, for self-checks."""
        return dict(self._living)
