"""A guard of a small machine, with helpers that tell a story about it in few lines."""

from math import inf

from twisted.trial.unittest import SynchronousTestCase

from hbtd.formats.nodesets import expand
from hbtd.guard.disruptions import Decisions, GuardMode, GuardSettings
from hbtd.guard.domains import Domains
from hbtd.guard.groups import Groups
from hbtd.guard.rules import Guard

HOLD = GuardSettings(GuardMode.HOLD, share=55, hold=90.0, warntime=10.0, errtime=30.0)
"""The defaults of hbtd, but for the mode."""

LIMIT = 6.0
"""Twice the period of all nodes, which beat every three seconds."""


def names(nodeset: str) -> list[str]:
    """Return the names of a nodeset."""
    return list(expand(nodeset, 1_000_000))


class GuardTestCase(SynchronousTestCase):
    """The base of tests of the guard; times are observed seconds."""

    def setUp(self) -> None:
        """Begin with a machine of four chassis, each with eight slots of four nodes."""
        self.settings = HOLD
        self.begin("x1000c[0-3]s[0-7]b0n[0-3]")

    def begin(self, nodeset: str, **groups: str) -> None:
        """Begin anew with these nodes, all of which are heard, and groups."""
        self.groups = Groups((name, names(members)) for name, members in groups.items())
        self.steady_since = -inf
        self.guard = Guard(Domains(self.groups))
        self.guard.recount(names(nodeset))

    def silence(self, nodeset: str, since: float = 0.0) -> None:
        """Note that nodes are silent, which were heard last at a time."""
        for each in names(nodeset):
            self.guard.note_silent(each, since, LIMIT)

    def heard(self, nodeset: str) -> None:
        """Note that nodes were heard."""
        for each in names(nodeset):
            self.guard.note_heard(each)

    def dead(self, nodeset: str) -> None:
        """Note that nodes died."""
        for each in names(nodeset):
            self.guard.note_dead(each)

    def decide(self, now: float) -> Decisions:
        """Return what the guard decides."""
        return self.guard.decide(now, self.settings, self.steady_since)

    def assertDisrupted(self, *domains: str) -> None:
        """Check which domains are disrupted, told or not."""
        self.assertEqual(sorted(each.domain for each in self.guard.disruptions()), sorted(domains))

    def assertHeld(self, nodeset: str, until: float | None = None) -> None:
        """Check whose deaths wait, and until when if that is given."""
        self.assertEqual(sorted(self.guard.held), sorted(names(nodeset)))
        if until is not None:
            self.assertEqual({*self.guard.held.values()}, {until} if nodeset else set())

    def told(self, decisions: Decisions) -> list[str]:
        """Return the domains that are told to be disrupted."""
        return [each.domain for each in decisions.disrupted]

    def ended(self, decisions: Decisions) -> list[tuple[str, str]]:
        """Return the domains whose disruptions have ended, and why."""
        return [(each.domain, each.reason.value) for each in decisions.ended]
