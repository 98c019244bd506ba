"""What the guard is told of components, and what can be asked about their silences."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from hbtd.guard.disruptions import Disrupted, Disruption, SilentMember
from hbtd.guard.domains import Domains


class Silences:
    """Who is silent, and by which disruption.

    The caller notes what becomes of components; each note takes O(1). No method of this class
    decides anything; the subclass `Guard` adds those that do.

    Every component that is living and not in maintenance must have been counted, by `recount` or
    `note_living`, and is counted until `note_dead` or `note_gone`.
    """

    def __init__(self, domains: Domains) -> None:
        self._domains = domains
        self._members: dict[str, SilentMember] = {}
        # In the order in which they began. Those that have ended are kept while a silence of theirs
        # may be noted yet.
        self._disruptions: dict[Disruption, None] = {}
        self._held: dict[str, float] = {}
        self.held: Mapping[str, float] = MappingProxyType(self._held)
        """The components whose deaths wait, and until when, in observed seconds."""
        # The domains in which there are fewer living since the last decision.
        self._fewer: set[str] = set()
        self._stale = False

    def recount(self, xnames: Iterable[str]) -> None:
        """Count these components as living and not in maintenance, and no others.

        Call this before anything else after a start or a change of the leader.
        """
        self._domains.recount(xnames)
        for member in self._members.values():
            member.new = True
        self._stale = True

    def note_living(self, xname: str) -> None:
        """Note that a component has begun to count: it has started, or is out of maintenance.

        It has just been heard, or is judged anew.
        """
        self._domains.add(xname)
        self.note_heard(xname)

    def note_silent(self, xname: str, since: float, limit: float) -> None:
        """Note that a living component is silent; a repeated note changes nothing.

        `since` is when it was heard last, `limit` what `silence_limit` returns for it.
        """
        member = self._members.get(xname)
        if member is not None:
            if member.since == since:
                return
            self.note_heard(xname)
        self._members[xname] = SilentMember(xname, since, limit, self._domains.of(xname))
        self._stale = True

    def note_heard(self, xname: str) -> None:
        """Note that a component was heard; it may be one that was not silent."""
        member = self._members.pop(xname, None)
        if member is None:
            return
        self._held.pop(xname, None)
        if member.disruption is not None:
            member.disruption.away.pop(xname, None)
            self._stale = self._stale or not member.disruption.away

    def note_dead(self, xname: str) -> None:
        """Note that a living component was declared dead."""
        self._cease_to_count(xname)
        self._held.pop(xname, None)
        member = self._members.get(xname)
        if member is not None:
            if member.disruption is not None and member.disruption.active:
                member.dead = True
            else:
                del self._members[xname]

    def note_gone(self, xname: str, *, living: bool) -> None:
        """Note that a component was forgotten, or is in maintenance from now on.

        `living` says whether it was counted until now, as components are that are not dead.
        """
        if living:
            self._cease_to_count(xname)
        self.note_heard(xname)

    def _cease_to_count(self, xname: str) -> None:
        self._domains.remove(xname)
        if self._members:
            # Who is silent may be enough of those who are left.
            self._fewer.update(self._domains.of(xname))
            self._stale = True

    @property
    def unsure(self) -> bool:
        """Whether a disruption of another process waits for who is silent to be noted."""
        return any(each.unsure for each in self._disruptions)

    def disruptions(self) -> list[Disrupted]:
        """Return all disruptions that have not ended, the earliest first, as they are now."""
        return [self._describe(each) for each in self._active()]

    def explanation(self, xname: str) -> Disrupted | None:
        """Return the disruption, not ended, whose member a component is; `None` if of none."""
        member = self._members.get(xname)
        disruption = None if member is None else member.disruption
        if disruption is None or not disruption.active:
            return None
        return self._describe(disruption)

    def silences(self) -> list[SilentMember]:
        """Return all that were noted as silent and not as heard since, dead or not."""
        return [*self._members.values()]

    def members(self, domain: str) -> list[str]:
        """Return the components that the disruptions of a domain have silenced, dead or not."""
        return [x for each in self._active() if each.domain == domain for x in each.away]

    def __contains__(self, xname: str) -> bool:
        """Return whether a component was noted as silent, and not as heard since."""
        return xname in self._members

    def _active(self) -> list[Disruption]:
        return [each for each in self._disruptions if each.active]

    def _describe(self, disruption: Disruption) -> Disrupted:
        return Disrupted(
            disruption.domain,
            self._domains.kind(disruption.domain),
            disruption.began,
            disruption.start,
            disruption.until,
            len(disruption.away),
            self._domains.living(disruption.domain),
            disruption.includes,
        )
