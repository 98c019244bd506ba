"""The search for disrupted domains: which failure domains explain who is silent.

A domain *meets* the condition if more than two of its living components, and at least `share`
percent of them, fell silent within one `errtime` of each other. One cause makes several domains
meet it: when a chassis loses power, all its slots do as well, and a small cabinet with it. One of
them is disrupted, **the smallest that explains it**:

- Domains are looked at from the largest to the smallest, so that a chassis is found before its
  slots. A domain that is disrupted explains all its silent components; they count for no other.
- But a domain is passed over if a smaller one *explains* it: one that meets the condition too, or
  is disrupted, and contains three quarters or more of its silent components (the same part as in
  the blast radius), unless the others by themselves meet the condition among the rest. So a slot
  and a stray node do not make a cabinet disrupted, and a slot and most of the rest of the cabinet
  do.
- The silences that a smaller disruption has explained before count for a larger domain, if there is
  some yet unexplained silence in it: a disruption that spreads becomes one of the larger domain,
  which *absorbs* the smaller one.
- Only what gets worse is looked at: domains in which somebody has newly fallen silent, or in which
  there are fewer living. A return makes nothing disrupted, although a smaller domain may have
  explained a larger one only together with those who are back.
- The silences that an equal or larger disruption explains, or one that has ended, count for
  nothing; neither do these components count as living.

The functions have no state. With a hundred thousand components, ten thousand of which are silent,
and fifty groups, a search takes some milliseconds.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Generator, Iterable, Sequence, Set
from operator import attrgetter
from typing import Final, NamedTuple

from hbtd.guard.disruptions import SilentMember
from hbtd.guard.domains import Domains, Size
from hbtd.guard.groups import FEWEST

AT_ONCE: Final = 2000
"""The most silent components that are handled between two portions of the work."""

_MOSTLY: Final = 3, 4
"""The part of a domain's silent components, as a fraction, with which a smaller one explains it."""


class Found(NamedTuple):
    """A disrupted domain, and its silent components."""

    domain: str
    members: Sequence[SilentMember]


class _View(NamedTuple):
    """What is seen of a domain."""

    members: Sequence[SilentMember]
    """The silent components that count: the most that fell silent within one `errtime`."""
    among: int
    """The number of living components among which they count."""


def meets(silent: int, among: int, share: float) -> bool:
    """Return whether so many silent components, among so many living ones, are a disruption.

    `share` is in percent. The silent ones are living, whatever `among` is.
    """
    return silent >= FEWEST and silent * 100 >= share * max(among, silent)


def find_disrupted(
    members: Sequence[SilentMember],
    fewer: Set[str],
    domains: Domains,
    share: float,
    errtime: float,
) -> Generator[None, None, list[Found]]:
    """Return the domains that are disrupted and were not so far, the largest first.

    This is a generator, which yields between portions of the work. `members` are the living silent
    components whose silence counts, or is explained by a disruption already; `domains` has the
    numbers of living components, which have decreased in the domains `fewer`. No component is in
    two results.
    """
    search = _Search(fewer, domains, share, errtime)
    for start in range(0, len(members), AT_ONCE):
        search.add(members[start : start + AT_ONCE])
        yield
    yield from search.begin()
    return search.find()


class _Search:
    """One search for disrupted domains."""

    def __init__(self, fewer: Set[str], domains: Domains, share: float, errtime: float) -> None:
        self._domains, self._share, self._errtime = domains, share, errtime
        self._worse = {*fewer}
        self._unexplained, self._explained_by = 0, set[str]()
        # Neighbours share the tuple of their domains: most are added to these together.
        self._places: dict[int, list[SilentMember]] = defaultdict(list)
        self._inside: dict[str, list[SilentMember]] = defaultdict(list)
        self._taken: set[SilentMember] = set()

    def add(self, members: Iterable[SilentMember]) -> None:
        """Add silent components."""
        places, unexplained = self._places, 0
        for member in members:
            if member.disruption is None:
                unexplained += 1
            elif member.disruption.active:
                self._explained_by.add(member.disruption.domain)
            places[id(member.domains)].append(member)
        self._unexplained += unexplained

    def begin(self) -> Generator[None, None, None]:
        """Begin the search, once all are added."""
        domains, inside, living = self._domains, self._inside, self._domains.living
        for number, together in enumerate(self._places.values(), 1):
            if any(member.new for member in together):
                self._worse.update(together[0].domains)
            for domain in together[0].domains:
                inside[domain] += together
            if number % AT_ONCE == 0:
                yield
        self._disrupted = {domain: domains.size(domain) for domain in self._explained_by}
        # Most domains are left out here: too few in them are silent, whatever is explained.
        self._sizes: dict[str, Size] = {}
        for number, (domain, silent) in enumerate(inside.items(), 1):
            count = len(silent)
            if domain in self._disrupted or meets(count, living(domain) - count, self._share):
                self._sizes[domain] = domains.size(domain)
            if number % AT_ONCE == 0:
                yield
        yield

    def find(self) -> list[Found]:
        found: list[Found] = []
        worse = self._sizes.keys() & self._worse
        for domain in sorted(worse, key=self._sizes.__getitem__, reverse=True):
            if not self._unexplained:
                break
            view = self._view(domain)
            if (
                view is not None
                and any(member.disruption is None for member in view.members)
                and not self._is_explained(domain, view)
            ):
                found.append(Found(domain, view.members))
                self._taken.update(view.members)
                self._unexplained -= sum(member.disruption is None for member in view.members)
        return found

    def _view(self, domain: str) -> _View | None:
        """Return what is seen of a domain; `None` if that is no disruption."""
        silent, living = self._inside[domain], self._domains.living(domain)
        taken, disrupted, size = self._taken, self._disrupted, self._sizes[domain]
        counted = [
            member
            for member in silent
            if member not in taken
            and (
                (disruption := member.disruption) is None
                or (disruption.active and disrupted[disruption.domain] < size)
            )
        ]
        if len(counted) < FEWEST:
            return None
        together = _most_together(counted, self._errtime)
        # The silent ones from before count as living, unless something explains them.
        older = {*counted} - {*together} if len(together) < len(counted) else ()
        explained = len(silent) - len(counted)
        explained += sum(member.disruption is not None for member in older)
        among = living - explained
        return _View(together, among) if meets(len(together), among, self._share) else None

    def _is_explained(self, domain: str, view: _View) -> bool:
        """Return whether a smaller domain explains what is seen of a domain."""
        members, size = view.members, self._sizes[domain]
        part, whole = _MOSTLY
        count = len(members)
        most = -(-count * part // whole)  # rounded up
        # A domain that contains so many of them contains at least one of the first few.
        near = {each for member in members[: count - most + 1] for each in member.domains}
        for smaller in near:
            if smaller not in self._sizes or self._sizes[smaller] >= size:
                continue
            if len(self._inside[smaller]) < most:
                continue
            inside = sum(smaller in member.domains for member in members)
            if inside < most or meets(count - inside, view.among - inside, self._share):
                continue
            if self._is_disrupted(smaller) or self._view(smaller) is not None:
                return True
        return False

    def _is_disrupted(self, domain: str) -> bool:
        """Return whether a disruption of a domain has living members that nobody has taken."""
        return domain in self._disrupted and any(
            member.disruption is not None
            and member.disruption.active
            and member.disruption.domain == domain
            and member not in self._taken
            for member in self._inside[domain]
        )


_began = attrgetter("began")


def _most_together(members: Sequence[SilentMember], errtime: float) -> Sequence[SilentMember]:
    """Return the most members that fell silent within `errtime` of each other.

    Of several such sets the one that began first is returned.
    """
    first, last = min(map(_began, members)), max(map(_began, members))
    if last - first <= errtime:
        return members
    ordered = sorted(members, key=_began)
    times = [member.began for member in ordered]
    best, until = 0, 0
    for start, began in enumerate(times):
        end = bisect_right(times, began + errtime, lo=start)
        if end - start > until - best:
            best, until = start, end
    return ordered[best:until]
