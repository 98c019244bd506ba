"""Which failure domain is disrupted: the smallest that explains who is silent."""

from twisted.trial.unittest import SynchronousTestCase

from hbtd.guard.disruptions import silence_limit
from tests.support.guard_memory import GuardTestCase


class SilenceLimitTests(SynchronousTestCase):
    """When a component counts as silent."""

    def test_limit(self) -> None:
        """It is silent after two of its periods, or Warntime if it has none, or at its death."""
        for mean, limit in ((3.0, 6.0), (0.0, 10.0), (-1.0, 10.0), (12.0, 24.0), (20.0, 30.0)):
            self.assertEqual(silence_limit(mean, 10.0, 30.0), limit)
        self.assertEqual(silence_limit(0.0, 60.0, 30.0), 30.0)


class ShareTests(GuardTestCase):
    """How many must be silent, among whom, and when."""

    def test_more_than_two(self) -> None:
        """Two silent components are no disruption, even if they are all that there are."""
        self.begin("x1000c0s0b0n[0-1]")
        self.silence("x1000c0s0b0n[0-1]")
        self.decide(7.0)
        self.assertDisrupted()
        self.begin("x1000c0s0b0n[0-2]")
        self.silence("x1000c0s0b0n[0-2]")
        self.decide(7.0)
        self.assertDisrupted("x1000c0s0")

    def test_exact_share(self) -> None:
        """Exactly the share is enough: 11 of 20 are 55 %, also in floating-point numbers."""
        self.begin("x1000c0s0b0n[0-19]")
        self.silence("x1000c0s0b0n[0-9]")
        self.decide(7.0)
        self.assertDisrupted()
        self.silence("x1000c0s0b0n10")
        self.decide(7.0)
        self.assertDisrupted("x1000c0s0")

    def test_share_is_a_parameter(self) -> None:
        """The share that is needed is the parameter."""
        self.begin("x1000c0s0b0n[0-9]")
        self.silence("x1000c0s0b0n[0-6]")
        self.settings = self.settings._replace(share=80)
        self.decide(7.0)
        self.assertDisrupted()
        self.settings = self.settings._replace(share=70)
        self.decide(7.0)
        self.assertDisrupted("x1000c0s0")

    def test_not_living(self) -> None:
        """Who is dead, forgotten or in maintenance does not count among the living."""
        for leave in ("dead", "gone"):
            self.begin("x1000c0s0b0n[0-5]")
            self.silence("x1000c0s0b0n[0-2]")
            self.decide(7.0)
            self.assertDisrupted()
            if leave == "dead":
                self.guard.note_dead("x1000c0s0b0n5")
            else:
                self.guard.note_gone("x1000c0s0b0n5", living=True)
            self.decide(7.0)
            self.assertDisrupted("x1000c0s0")

    def test_living_again(self) -> None:
        """Who has started, or is out of maintenance, counts again."""
        self.begin("x1000c0s0b0n[0-5]")
        self.guard.note_dead("x1000c0s0b0n5")
        self.guard.note_living("x1000c0s0b0n5")
        self.silence("x1000c0s0b0n[0-2]")
        self.decide(7.0)
        self.assertDisrupted()

    def test_dead_silences(self) -> None:
        """The dead do not make a domain disrupted, however recently they died."""
        self.silence("x1000c0s0b0n[0-1]")
        self.decide(7.0)
        self.dead("x1000c0s0b0n[0-1]")
        self.silence("x1000c0s0b0n2")
        self.decide(31.0)
        self.assertDisrupted()

    def test_within_errtime(self) -> None:
        """Silences count together if they began within one Errtime, and not if they did not."""
        for third, disrupted in ((30.0, ["x1000c0s0"]), (30.5, [])):
            self.begin("x1000c0s0b0n[0-3]")
            self.silence("x1000c0s0b0n0", 0.0)
            self.silence("x1000c0s0b0n1", 15.0)
            self.silence("x1000c0s0b0n2", third)
            self.decide(37.0)
            self.assertDisrupted(*disrupted)

    def test_most_within_errtime(self) -> None:
        """Of silences that began over a longer time, the most that began together count."""
        self.silence("x1000c0s0b0n0", 0.0)
        self.silence("x1000c0s0b0n1", 31.0)
        self.silence("x1000c0s0b0n[2-3]", 33.0)
        self.decide(40.0)
        self.assertDisrupted("x1000c0s0")
        self.assertHeld("x1000c0s0b0n[1-3]")


class SmallestTests(GuardTestCase):
    """Of all domains that meet the condition, the smallest one that explains it all."""

    def test_each_kind(self) -> None:
        """A slot, chassis, cabinet or system that is silent is disrupted, and nothing else."""
        everything = "x[1000-1002]c[0-3]s[0-7]b0n[0-3]"
        for nodeset, domain in (
            ("x1000c2s3b0n[0-3]", "x1000c2s3"),
            ("x1000c2s[0-7]b0n[0-3]", "x1000c2"),
            ("x1000c[0-3]s[0-7]b0n[0-3]", "x1000"),
            (everything, "s0"),
        ):
            self.begin(everything)
            self.silence(nodeset)
            decisions = self.decide(30.0)
            self.assertEqual(self.told(decisions), [domain])
            self.assertDisrupted(domain)
            self.assertHeld(nodeset, 120.0)

    def test_only_slot(self) -> None:
        """A slot that is all there is of its chassis, cabinet and system is the one disrupted."""
        self.begin("x1000c2s3b0n[0-3]")
        self.silence("x1000c2s3b0n[0-3]")
        self.decide(7.0)
        self.assertDisrupted("x1000c2s3")

    def test_mostly_one_slot(self) -> None:
        """A slot that is most of what a cabinet has living is no reason for the cabinet as well."""
        self.begin("x1000c2s3b0n[0-3],x1000c0s0b0n[0-1]")
        self.silence("x1000c2s3b0n[0-3]")
        self.decide(7.0)
        self.assertDisrupted("x1000c2s3")

    def test_random_nodes(self) -> None:
        """Many nodes here and there make the chassis disrupted, not the slots that are hit most."""
        self.silence("x1000c0s0b0n[0-3],x1000c0s[1-7]b0n[0-1]")
        self.decide(7.0)
        self.assertDisrupted("x1000c0")

    def test_part_of_chassis(self) -> None:
        """Several silent slots are one disruption of their chassis if they are most of it."""
        self.begin("x1000c0s[0-2]b0n[0-3]")
        self.silence("x1000c0s[0-1]b0n[0-3]")
        decisions = self.decide(30.0)
        self.assertEqual(self.told(decisions), ["x1000c0"])
        self.assertDisrupted("x1000c0")

    def test_few_slots(self) -> None:
        """Two silent slots that are little of their chassis are two disruptions."""
        self.silence("x1000c0s[0-1]b0n[0-3]")
        self.decide(7.0)
        self.assertDisrupted("x1000c0s0", "x1000c0s1")

    def test_stray(self) -> None:
        """A chassis and a stray node are no disrupted system; the stray node is not held."""
        self.begin("x1000c0s[0-7]b0n[0-3],x1001c0s[0-3]b0n[0-3]")
        self.silence("x1000c0s[0-7]b0n[0-3],x1001c0s0b0n0")
        self.decide(7.0)
        self.assertDisrupted("x1000c0")
        self.assertHeld("x1000c0s[0-7]b0n[0-3]")

    def test_and_the_rest(self) -> None:
        """A chassis and most of the rest of the system are a disrupted system."""
        self.begin("x1000c0s[0-7]b0n[0-3],x1001c0s[0-1]b0n[0-3]")
        self.silence("x1000c0s[0-7]b0n[0-3],x1001c0s0b0n[0-3],x1001c0s1b0n0")
        self.decide(7.0)
        self.assertDisrupted("s0")

    def test_three_quarters(self) -> None:
        """A part with three quarters of the silent nodes explains them; with less it does not."""
        for others, disrupted in (("1", ["x1000c0s0"]), ("[1-2]", ["x1000c0"])):
            self.begin("x1000c0s0b0n[0-3],x1000c0s[1-6]b0n0")
            self.silence(f"x1000c0s0b0n[0-3],x1000c0s{others}b0n0")
            self.settings = self.settings._replace(share=50)
            self.decide(7.0)
            self.assertDisrupted(*disrupted)

    def test_everywhere(self) -> None:
        """Most of all nodes, here and there, are a disrupted system."""
        self.begin("x[1000-1009]c0s[0-3]b0n0,d0w1,d1w1")
        self.silence("x[1000-1009]c0s[0-2]b0n0")
        self.decide(7.0)
        self.assertDisrupted("s0")


class GroupTests(GuardTestCase):
    """Groups of an operator's own."""

    ALL = "x1000c0s[0-7]b0n[0-3]"

    def test_group(self) -> None:
        """A group that is silent is disrupted, and not the chassis that it is most of."""
        self.begin(self.ALL, pdu="x1000c0s[0-7]b0n[0-2]")
        self.silence("x1000c0s[0-7]b0n[0-2]")
        decisions = self.decide(30.0)
        self.assertEqual(self.told(decisions), ["pdu"])
        self.assertDisrupted("pdu")
        self.assertHeld("x1000c0s[0-7]b0n[0-2]", 120.0)

    def test_across(self) -> None:
        """A group in several chassis explains what each of them has only a part of."""
        self.begin("x1000c[0-3]s[0-7]b0n[0-3]", pdu="x1000c[0-1]s[0-7]b0n[0-2]")
        self.silence("x1000c[0-1]s[0-7]b0n[0-2]")
        self.decide(7.0)
        self.assertDisrupted("pdu")

    def test_slot_in_group(self) -> None:
        """A slot that is silent is disrupted, and not the group that it is most of."""
        self.begin(self.ALL, pdu="x1000c0s0b0n[0-3],x1000c0s1b0n[0-1]")
        self.silence("x1000c0s0b0n[0-3]")
        self.decide(7.0)
        self.assertDisrupted("x1000c0s0")

    def test_overlapping(self) -> None:
        """Of overlapping groups that are silent together, the one that explains most is told."""
        self.begin(self.ALL, a="x1000c0s[0-1]b0n[0-3]", b="x1000c0s[1-2]b0n[0-3]")
        self.silence("x1000c0s[0-1]b0n[0-3]")
        self.decide(7.0)
        self.assertDisrupted("a")

    def test_both_feeds(self) -> None:
        """Two groups that make up a chassis are one disruption, of the chassis."""
        self.begin(self.ALL, a="x1000c0s[0-7]b0n[0-1]", b="x1000c0s[0-7]b0n[2-3]")
        self.silence(self.ALL)
        self.decide(7.0)
        self.assertDisrupted("x1000c0")

    def test_same_as_chassis(self) -> None:
        """A group of the same nodes as a chassis gives way to the chassis."""
        self.begin("x1000c[0-3]s[0-7]b0n[0-3]", switch="x1000c0")
        self.silence(self.ALL)
        self.decide(7.0)
        self.assertDisrupted("x1000c0")

    def test_of_chassis(self) -> None:
        """A group that lists chassis has all their nodes."""
        self.begin("x1000c[0-3]s[0-7]b0n[0-3]", pdu="x1000c[0-1]")
        self.silence("x1000c[0-1]s[0-7]b0n[0-3]")
        self.decide(7.0)
        self.assertDisrupted("pdu")

    def test_small_group(self) -> None:
        """A group of two is never disrupted."""
        self.begin(self.ALL, two="x1000c0s0b0n[0-1]")
        self.silence("x1000c0s0b0n[0-1]")
        self.decide(7.0)
        self.assertDisrupted()


class SpreadTests(GuardTestCase):
    """What falls silent beside what is disrupted already."""

    def test_larger_takes_over(self) -> None:
        """A disruption that spreads becomes that of a larger domain, which names its parts."""
        self.begin("x1000c0s[0-7]b0n[0-3]")
        self.silence("x1000c0s[0-1]b0n[0-3]", 0.0)
        self.decide(6.5)
        decisions = self.decide(10.0)
        self.assertEqual(sorted(self.told(decisions)), ["x1000c0s0", "x1000c0s1"])
        self.silence("x1000c0s[2-7]b0n[0-3]", 20.0)
        decisions = self.decide(27.0)
        self.assertEqual(decisions[:2], ((), ()))
        self.assertDisrupted("x1000c0")
        decisions = self.decide(30.0)
        self.assertEqual(self.told(decisions), ["x1000c0"])
        (statement,) = decisions.disrupted
        self.assertEqual(sorted(statement.includes), ["x1000c0s0", "x1000c0s1"])
        self.assertEqual((statement.away, statement.living, statement.start), (32, 32, 0.0))
        self.assertEqual(decisions.ended, ())

    def test_explained_parts(self) -> None:
        """A cabinet is disrupted although two of its slots are, if enough others are silent."""
        self.begin("x1000c0s[0-7]b0n[0-3]")
        self.silence("x1000c0s[0-1]b0n[0-3]", 0.0)
        self.decide(10.0)
        self.silence("x1000c0s[2-7]b0n0,x1000c0s[2-4]b0n1", 5.0)
        self.decide(12.0)
        self.assertDisrupted("x1000c0s0", "x1000c0s1")
        self.silence("x1000c0s5b0n1", 5.0)
        self.decide(12.5)
        self.assertDisrupted("x1000c0")

    def test_nothing_new(self) -> None:
        """Parts do not become one disruption because others leave, without a further silence."""
        self.begin("x1000c0s[0-3]b0n[0-3],x1000c1s[0-3]b0n[0-3]")
        self.silence("x1000c0s[0-1]b0n[0-3]", 0.0)
        self.decide(7.0)
        for each in ("x1000c0s3b0n0", "x1000c0s3b0n1"):
            self.guard.note_gone(each, living=True)
        self.silence("x1000c1s0b0n0", 1.0)
        self.decide(8.0)
        self.assertDisrupted("x1000c0s0", "x1000c0s1")
        self.silence("x1000c0s2b0n0", 1.0)
        self.decide(9.0)
        self.assertDisrupted("x1000c0")

    def test_return(self) -> None:
        """A return makes nothing disrupted, even if it leaves silences that one part explained."""
        self.begin("x1000c0s[0-1]b0n[0-3],x1000c1s0b0n[0-2],x[1001-1004]c0s[0-7]b0n0")
        self.silence("x1000c0s[0-1]b0n[0-2],x1000c1s0b0n[0-1]")
        self.decide(7.0)
        self.assertDisrupted("x1000c0")
        self.heard("x1000c0s0b0n0")
        self.silence("x1001c0s0b0n0", 1.0)
        self.decide(8.0)
        self.assertDisrupted("x1000c0")
        self.silence("x1000c1s0b0n2", 1.0)
        self.decide(9.0)
        self.assertDisrupted("x1000")

    def test_other_cause(self) -> None:
        """What falls silent more than Errtime later is a disruption of its own beside the first."""
        self.begin("x1000c0s[0-7]b0n[0-3]")
        self.silence("x1000c0s[0-4]b0n[0-3]", 0.0)
        self.decide(10.0)
        self.assertDisrupted("x1000c0")
        self.silence("x1000c0s[5-7]b0n[0-3]", 31.0)
        self.decide(40.0)
        self.assertDisrupted("x1000c0", "x1000c0")
        self.assertHeld("x1000c0s[0-7]b0n[0-3]")
        self.assertEqual(self.guard.held["x1000c0s0b0n0"], 100.0)
        self.assertEqual(self.guard.held["x1000c0s5b0n0"], 130.0)

    def test_group_and_chassis(self) -> None:
        """A group keeps what the larger domain that overlaps it does not have."""
        self.begin("x1000c[0-1]s[0-7]b0n[0-3]", pdu="x1000c0s0b0n[0-3],x1000c1s0b0n[0-3]")
        self.silence("x1000c[0-1]s0b0n[0-3]", 0.0)
        self.decide(10.0)
        self.assertDisrupted("pdu")
        self.silence("x1000c0s[1-7]b0n[0-3]", 9.0)
        self.decide(16.0)
        self.assertDisrupted("pdu", "x1000c0")
        self.assertEqual(len(self.guard.members("pdu")), 4)
        self.assertEqual(len(self.guard.members("x1000c0")), 32)

    def test_inside_larger(self) -> None:
        """A slot in a disrupted chassis is no disruption of its own: its nodes are members."""
        self.begin("x1000c0s[0-7]b0n[0-3]")
        self.silence("x1000c0s[0-5]b0n[0-3]", 0.0)
        self.decide(10.0)
        self.silence("x1000c0s6b0n[0-3]", 8.0)
        self.decide(15.0)
        self.assertDisrupted("x1000c0")
        self.assertHeld("x1000c0s[0-6]b0n[0-3]", 100.0)
