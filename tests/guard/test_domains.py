"""Failure domains: which ones a component is in, and how many living components they have."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hbtd.guard.domains import DomainKind, Domains
from hbtd.guard.groups import Groups
from tests.support.guard_memory import names

GROUPS = Groups(
    [
        ("pdu", names("x1000c0s[0-1]b0n[0-3]")),
        ("row", ["x1000", "x1001c0s0b0n0"]),
        ("switch", ["x1000c0", "x1000c0s0b0n0"]),
        ("router", ["x1000c0r0"]),
    ]
)
MACHINE = [
    *names("x[1000-1001]c[0-1]s[0-1]b[0-1]n[0-1]"),
    "x1000c0r0b0",
    "x1000c0b0",
    "x1000b0",
    "x1000m0p0",
    "d0w1",
    "x1000c0",
    "x10000c0s0b0n0",
]


class DomainsTests(SynchronousTestCase):
    """The domains of a component."""

    def test_parts(self) -> None:
        """A component is in its slot, chassis and cabinet, if it has them, and in the system."""
        domains = Domains()
        for xname, expected in (
            ("x1000c1s12b0n1", ("x1000c1s12", "x1000c1", "x1000", "s0")),
            ("x1000c1s12b0n1v3", ("x1000c1s12", "x1000c1", "x1000", "s0")),
            ("x1000c1r3b0", ("x1000c1r3", "x1000c1", "x1000", "s0")),
            ("x1000c1b0", ("x1000c1", "x1000", "s0")),
            ("x1000c1", ("x1000c1", "x1000", "s0")),
            ("x1000c1w2", ("x1000c1", "x1000", "s0")),
            ("x1000b0", ("x1000", "s0")),
            ("x1000m0p0", ("x1000", "s0")),
            ("d0w1", ("s0",)),
        ):
            self.assertEqual(domains.of(xname), expected, xname)

    def test_groups(self) -> None:
        """A component is in the groups that list it, its slot, its chassis or its cabinet, once."""
        domains = Domains(GROUPS)
        for xname, groups in (
            ("x1000c0s0b0n0", {"pdu", "row", "switch"}),
            ("x1000c0s0b1n0", {"row", "switch"}),
            ("x1000c0s2b0n0", {"row", "switch"}),
            ("x1000c1s0b0n0", {"row"}),
            ("x1000c0r0b0", {"row", "switch", "router"}),
            ("x1001c0s0b0n0", {"row"}),
            ("x1001c0s0b0n1", set()),
        ):
            of = domains.of(xname)
            self.assertEqual({*of[3:-1]}, groups, xname)
            self.assertEqual((of[-1], len({*of})), ("s0", len(of)), xname)

    def test_kinds(self) -> None:
        """The kind of a domain follows from its name; all that is no place is a group."""
        domains = Domains(GROUPS)
        for name, kind in (
            ("x1000c1s12", DomainKind.SLOT),
            ("x1000c1r0", DomainKind.SLOT),
            ("x1000c1", DomainKind.CHASSIS),
            ("x1000", DomainKind.CABINET),
            ("s0", DomainKind.SYSTEM),
            ("pdu", DomainKind.GROUP),
            ("x1000m0", DomainKind.GROUP),
            ("gone", DomainKind.GROUP),
        ):
            self.assertIs(domains.kind(name), kind, name)

    def test_smaller(self) -> None:
        """The domain with fewer living is smaller; between equals a slot is, then a chassis."""
        domains = Domains(Groups([("pdu", names("x1000c0s0b0n[0-3]"))]))
        domains.recount(names("x1000c0s0b0n[0-3]"))
        order = ["x1000c0s0", "x1000c0", "x1000", "pdu", "s0"]
        self.assertEqual(sorted(order, key=domains.size), order)
        domains.add("x1000c0s1b0n0")
        domains.add("x1000c1s1b0n0")
        order = ["x1000c0s0", "pdu", "x1000c0", "x1000", "s0"]
        self.assertEqual(sorted(order, key=domains.size), order)

    @given(st.lists(st.sampled_from(MACHINE)))
    def test_living(self, changes: list[str]) -> None:
        """The numbers of the living are those of an actual count, whatever comes and goes."""
        domains, living = Domains(GROUPS), set[str]()
        for xname in changes:
            if xname in living:
                living.remove(xname)
                domains.remove(xname)
            else:
                living.add(xname)
                domains.add(xname)
        expected: dict[str, int] = {}
        for xname in living:
            for domain in domains.of(xname):
                expected[domain] = expected.get(domain, 0) + 1
        self.assertEqual(domains.counts(), expected)
        for domain, count in expected.items():
            self.assertEqual(domains.living(domain), count)
        domains.add("x5c0s0b0n0")
        domains.recount(living)
        self.assertEqual(domains.counts(), expected)
