"""Which failure domains are disrupted, by definition: every domain is looked at each time.

This shares no code with hbtd. It knows the names of nodes, and who is silent and who lives at one
moment; docs/protocol.md says what is disrupted then.
"""

from collections.abc import Collection, Iterable, Mapping, Set
from typing import NamedTuple

KINDS = ("slot", "chassis", "cabinet", "group", "system")
"""The kinds of domains; of two with as many nodes, the one whose kind comes first is smaller."""

SYSTEM = "s0"

FEWEST = 3
"""The fewest nodes that are a disruption: more than two."""


class Domain(NamedTuple):
    """A failure domain."""

    name: str
    kind: str
    nodes: frozenset[str]


def read_groups(text: str) -> dict[str, frozenset[str]]:
    """Return the groups in a file in which each line is a name, and nodes between commas."""
    lines = (line.split() for line in text.splitlines() if line and not line.startswith("#"))
    return {name: frozenset(nodes.split(",")) for name, nodes in lines}


def domains_of(names: Collection[str], groups: Mapping[str, frozenset[str]]) -> list[Domain]:
    """Return all failure domains of nodes with such names as x1000c0s0b0n0."""
    found: dict[tuple[str, str], set[str]] = {}
    for name in names:
        slot = name.partition("b")[0]
        chassis = slot.partition("s")[0]
        cabinet = chassis.partition("c")[0]
        for kind, place in zip(KINDS[:3], (slot, chassis, cabinet), strict=True):
            found.setdefault((kind, place), set()).add(name)
    domains = [Domain(place, kind, frozenset(nodes)) for (kind, place), nodes in found.items()]
    domains += [Domain(name, "group", nodes & {*names}) for name, nodes in groups.items()]
    return [*domains, Domain(SYSTEM, "system", frozenset(names))]


def meets(silent: int, among: int, share: float) -> bool:
    """Return whether so many silent nodes of so many living ones are a disruption."""
    return silent >= FEWEST and 100 * silent >= share * among


def disrupted(
    silent: Set[str],
    counted: Set[str],
    sized: Set[str],
    domains: Iterable[Domain],
    share: float,
) -> dict[str, frozenset[str]]:
    """Return the disrupted domains, by name, with the silent nodes that each one explains.

    `silent` are those who fell silent together, all of whom are `counted`, that is living, and
    explained by nothing before. Domains are as large as they have nodes in `sized`, which are the
    living and those whose deaths wait already.
    """

    def size(domain: Domain) -> tuple[int, int, str]:
        return len(domain.nodes & sized), KINDS.index(domain.kind), domain.name

    ordered = sorted(domains, key=size, reverse=True)
    found: dict[str, frozenset[str]] = {}
    left, among = {*silent}, {*counted}
    for number, domain in enumerate(ordered):
        inside = domain.nodes & left
        if not meets(len(inside), len(domain.nodes & among), share):
            continue
        smaller = ordered[number + 1 :]
        if not any(_explains(each, domain, left, among, share) for each in smaller):
            found[domain.name] = frozenset(inside)
            left -= inside
            among -= inside
    return found


def _explains(
    smaller: Domain, domain: Domain, silent: Set[str], among: Set[str], share: float
) -> bool:
    """Return whether a smaller domain is what is wrong in a domain that seems disrupted.

    It has three quarters of the silent nodes, and the others are too few for a disruption.
    """
    inside = domain.nodes & silent
    part = inside & smaller.nodes
    others, living = inside - part, (domain.nodes & among) - part
    return (
        4 * len(part) >= 3 * len(inside)
        and meets(len(smaller.nodes & silent), len(smaller.nodes & among), share)
        and not meets(len(others), len(living), share)
    )
