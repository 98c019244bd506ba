"""What follows from a disruption: one statement, deaths that wait, and an end in time."""

from hbtd.guard.disruptions import Disrupted, EndReason, GuardMode
from hbtd.guard.domains import DomainKind, Domains, Size
from hbtd.guard.rules import Guard
from tests.support.guard_memory import HOLD, LIMIT, GuardTestCase, names

SLOT = "x1000c0s0b0n[0-3]"
CHASSIS = "x1000c0s[0-7]b0n[0-3]"


class TellingTests(GuardTestCase):
    """When a disruption is told."""

    def test_once(self) -> None:
        """A disruption is told once, with its numbers and times."""
        self.silence(CHASSIS, 1.0)
        self.assertEqual(self.told(self.decide(8.0)), [])
        (statement,) = self.decide(11.0).disrupted
        self.assertEqual(statement.domain, "x1000c0")
        self.assertIs(statement.kind, DomainKind.CHASSIS)
        self.assertEqual((statement.began, statement.start, statement.until), (8.0, 1.0, 98.0))
        self.assertEqual((statement.away, statement.living, statement.includes), (32, 32, ()))
        for now in (11.0, 12.0, 50.0, 97.0):
            self.assertEqual(self.told(self.decide(now)), [])

    def test_one_by_one(self) -> None:
        """Nodes that fall silent one by one, as their heartbeats go, make one statement."""
        said: list[Disrupted] = []
        for index, each in enumerate(names(CHASSIS)):
            self.guard.note_silent(each, index * 3.0 / 32, LIMIT)
            said += self.decide(LIMIT + index * 3.0 / 32).disrupted
        self.assertDisrupted("x1000c0")
        for now in (9.5, 12.0, 20.0):
            said += self.decide(now).disrupted
        (statement,) = said
        self.assertEqual((statement.domain, statement.includes), ("x1000c0", ()))

    def test_slowest(self) -> None:
        """It is told one period of its slowest member after it is found."""
        self.silence("x1000c0s0b0n[0-2]")
        self.guard.note_silent("x1000c0s0b0n3", 0.0, 10.0)
        self.decide(11.0)
        self.assertEqual(self.told(self.decide(15.5)), [])
        self.assertEqual(self.told(self.decide(16.0)), ["x1000c0s0"])

    def test_before_the_first_death(self) -> None:
        """It is told when the first death is due at the latest."""
        for each in names(SLOT):
            self.guard.note_silent(each, 2.0, 28.0)
        self.decide(30.5)
        self.assertEqual(self.told(self.decide(31.0)), [])
        self.assertEqual(self.told(self.decide(32.0)), ["x1000c0s0"])

    def test_short(self) -> None:
        """A disruption that ends before it is told is told with its end."""
        self.silence(SLOT)
        self.decide(7.0)
        self.heard(SLOT)
        decisions = self.decide(8.0)
        self.assertEqual(self.told(decisions), ["x1000c0s0"])
        self.assertEqual(self.ended(decisions), [("x1000c0s0", "back")])

    def test_report(self) -> None:
        """In the mode report everything is told, and nobody is held."""
        self.settings = HOLD._replace(mode=GuardMode.REPORT)
        self.silence(SLOT)
        self.assertHeld("")
        self.assertEqual(self.told(self.decide(30.0)), ["x1000c0s0"])
        self.assertHeld("")
        self.dead(SLOT)
        self.assertEqual(self.ended(self.decide(119.0)), [])
        self.assertEqual(self.ended(self.decide(120.0)), [("x1000c0s0", "over")])
        self.assertNotIn("x1000c0s0b0n0", self.guard)

    def test_dead_and_back(self) -> None:
        """In the mode report a disruption ends when all who died are back."""
        self.settings = HOLD._replace(mode=GuardMode.REPORT)
        self.silence(SLOT)
        self.decide(7.0)
        self.dead(SLOT)
        self.decide(30.0)
        for each in names(SLOT):
            self.assertEqual(self.ended(self.decide(40.0)), [])
            self.guard.note_living(each)
        self.assertEqual(self.ended(self.decide(40.0)), [("x1000c0s0", "back")])

    def test_off(self) -> None:
        """In the mode off nothing is disrupted."""
        self.settings = HOLD._replace(mode=GuardMode.OFF)
        self.silence(CHASSIS)
        for now in (7.0, 30.0, 200.0):
            self.assertEqual(self.decide(now), ((), (), {}, ()))
        self.assertDisrupted()


class HoldTests(GuardTestCase):
    """Whose deaths wait, and for how long."""

    def test_until(self) -> None:
        """Deaths wait until guard_hold has passed since the beginning, then all of them are due."""
        self.silence(SLOT)
        self.decide(7.0)
        self.assertHeld(SLOT, 97.0)
        self.assertTrue(self.guard.holds("x1000c0s0b0n0", 96.9))
        self.assertFalse(self.guard.holds("x1000c0s0b0n0", 97.0))
        self.decide(96.9)
        self.assertHeld(SLOT)
        decisions = self.decide(97.0)
        self.assertHeld("")
        self.assertEqual(sorted(decisions.released), names(SLOT))
        self.assertEqual(self.ended(decisions), [("x1000c0s0", "over")])
        self.assertEqual(decisions.ended[0].away, 4)

    def test_nobody_else(self) -> None:
        """Nobody outside is held, nor a node of the domain that is heard."""
        self.silence("x1000c0s0b0n[0-2],x1000c0s1b0n0,x1000c1s0b0n[0-1]")
        self.decide(7.0)
        self.assertHeld("x1000c0s0b0n[0-2]")
        self.assertFalse(self.guard.holds("x1000c0s1b0n0", 8.0))

    def test_silent_before(self) -> None:
        """Who was silent more than Errtime before the others is not held, and not counted."""
        self.silence("x1000c0s0b0n0", 0.0)
        self.silence("x1000c0s0b0n[1-2]", 31.0)
        self.decide(40.0)
        self.assertDisrupted()
        self.silence("x1000c0s0b0n3", 31.0)
        self.decide(40.5)
        self.assertHeld("x1000c0s0b0n[1-3]")
        self.assertIsNone(self.guard.explanation("x1000c0s0b0n0"))

    def test_noticed_later(self) -> None:
        """Who fell silent with the others and is noticed later is held as long as they are."""
        self.silence("x1000c0s0b0n[0-2]", 0.0)
        self.decide(7.0)
        self.guard.note_silent("x1000c0s0b0n3", 1.0, 20.0)
        self.decide(22.0)
        self.assertHeld(SLOT, 97.0)

    def test_later(self) -> None:
        """A single node of the domain that falls silent more than Errtime later is not held."""
        self.silence("x1000c0s0b0n[0-2]", 0.0)
        self.decide(7.0)
        self.silence("x1000c0s0b0n3", 30.5)
        self.decide(40.0)
        self.assertHeld("x1000c0s0b0n[0-2]")

    def test_partial_return(self) -> None:
        """Of three of which one is back before the first death is due, the others are held on."""
        self.begin("x1000c0s0b0n[0-2]")
        self.silence("x1000c0s0b0n[0-2]")
        self.decide(7.0)
        self.heard("x1000c0s0b0n1")
        for now in (7.5, 12.0, 30.0, 60.0, 96.0):
            decisions = self.decide(now)
            self.assertEqual((decisions.ended, decisions.released), ((), ()))
            self.assertHeld("x1000c0s0b0n[0,2]", 97.0)
        self.assertEqual(self.ended(self.decide(97.0)), [("x1000c0s0", "over")])

    def test_heard_leaves(self) -> None:
        """Who is heard is held no more at once, before anything is decided."""
        self.silence(SLOT)
        self.decide(7.0)
        self.heard("x1000c0s0b0n1")
        self.assertFalse(self.guard.holds("x1000c0s0b0n1", 7.5))
        self.assertIsNone(self.guard.explanation("x1000c0s0b0n1"))

    def test_spread_is_no_longer(self) -> None:
        """A disruption that spreads holds nobody for longer than the first one allowed."""
        self.begin(CHASSIS)
        self.silence(SLOT, 0.0)
        self.decide(7.0)
        self.silence("x1000c0s[1-7]b0n[0-3]", 25.0)
        self.decide(32.0)
        self.assertDisrupted("x1000c0")
        self.assertEqual(self.guard.held["x1000c0s0b0n0"], 97.0)
        self.assertEqual(self.guard.held["x1000c0s1b0n0"], 122.0)
        decisions = self.decide(97.0)
        self.assertEqual(sorted(decisions.released), names(SLOT))
        self.assertEqual(decisions.ended, ())
        self.assertHeld("x1000c0s[1-7]b0n[0-3]", 122.0)

    def test_never_again(self) -> None:
        """A silence that has been held is never held again, whatever falls silent beside it."""
        self.begin(CHASSIS)
        self.silence("x1000c0s[0-4]b0n[0-3]", 0.0)
        self.decide(7.0)
        self.decide(97.0)
        self.assertHeld("")
        self.silence("x1000c0s[5-7]b0n[0-3]", 90.0)
        self.decide(98.0)
        self.assertHeld("x1000c0s[5-7]b0n[0-3]", 188.0)

    def test_short_hold(self) -> None:
        """A hold that ends before a death is due holds nobody then, and is not begun again."""
        self.settings = HOLD._replace(hold=5.0)
        self.silence(SLOT)
        self.decide(7.0)
        self.assertEqual(self.ended(self.decide(12.0)), [("x1000c0s0", "over")])
        for now in (13.0, 30.0):
            self.assertEqual(self.told(self.decide(now)), [])
            self.assertHeld("")

    def test_one_silence_each(self) -> None:
        """A node that is heard for a moment begins another silence, which may be held anew."""
        self.silence(SLOT, 0.0)
        self.decide(7.0)
        self.decide(97.0)
        self.silence(SLOT, 96.0)
        self.decide(103.0)
        self.assertHeld(SLOT, 193.0)


class EndTests(GuardTestCase):
    """The end of a disruption."""

    def test_all_back(self) -> None:
        """A domain that is back as a whole holds nobody: a single death later is not held."""
        self.silence(CHASSIS, 0.0)
        self.decide(10.0)
        self.heard(CHASSIS)
        self.silence("x1000c0s3b0n0", 12.0)
        decisions = self.decide(19.0)
        self.assertEqual(self.ended(decisions), [("x1000c0", "back")])
        self.assertHeld("")
        self.assertDisrupted()

    def test_rest_forgotten(self) -> None:
        """It ends, too, when those who are not back are forgotten or in maintenance."""
        self.silence(SLOT)
        self.decide(10.0)
        self.heard("x1000c0s0b0n[0-1]")
        for each in names("x1000c0s0b0n[2-3]"):
            self.assertEqual(self.ended(self.decide(11.0)), [])
            self.guard.note_gone(each, living=True)
        self.assertEqual(self.ended(self.decide(11.0)), [("x1000c0s0", "back")])

    def test_again(self) -> None:
        """A domain that falls silent again after it was back is disrupted again, held anew."""
        said: list[str] = []
        for begin in (0.0, 20.0, 40.0):
            self.silence(SLOT, begin)
            said += self.told(self.decide(begin + 7.0))
            said += self.told(self.decide(begin + 10.0))
            self.assertHeld(SLOT, begin + 97.0)
            self.heard(SLOT)
            self.assertEqual(self.ended(self.decide(begin + 11.0)), [("x1000c0s0", "back")])
        self.assertEqual(said, ["x1000c0s0"] * 3)

    def test_release(self) -> None:
        """An operator's release ends a disruption at once; a second one changes nothing."""
        self.silence(f"{SLOT},x1000c1s0b0n[0-3]")
        self.decide(10.0)
        decisions = self.guard.release("x1000c0s0", 11.0)
        self.assertEqual(self.ended(decisions), [("x1000c0s0", "released")])
        self.assertEqual(sorted(decisions.released), names(SLOT))
        self.assertHeld("x1000c1s0b0n[0-3]")
        self.assertDisrupted("x1000c1s0")
        for domain in ("x1000c0s0", "x1000c0", "nowhere"):
            self.assertEqual(self.guard.release(domain, 12.0)[:2], ((), ()))
        self.assertEqual(self.told(self.decide(12.0)), [])
        self.assertHeld("x1000c1s0b0n[0-3]")

    def test_release_all(self) -> None:
        """All disruptions can be released at once."""
        self.silence(f"{SLOT},x1000c1s0b0n[0-3]")
        self.decide(10.0)
        decisions = self.guard.release(None, 11.0)
        self.assertEqual(len(decisions.ended), 2)
        self.assertHeld("")
        self.assertEqual(self.guard.release(None, 11.0)[:2], ((), ()))

    def test_released_silences(self) -> None:
        """A silence of a released disruption is not held, also if it is noticed later."""
        self.silence("x1000c0s0b0n[0-2]", 0.0)
        self.decide(10.0)
        self.guard.release("x1000c0s0", 11.0)
        self.guard.note_silent("x1000c0s0b0n3", 1.0, 20.0)
        self.silence("x1000c0s0b0n3", 1.0)
        self.decide(22.0)
        self.assertHeld("")
        self.assertDisrupted()

    def test_released_and_more(self) -> None:
        """What is released counts for no other domain that falls silent, and is not held again."""
        self.begin("x1000c0s[0-1]b0n[0-3]")
        self.silence("x1000c0s0b0n[0-3]", 0.0)
        self.decide(10.0)
        self.guard.release("x1000c0s0", 11.0)
        self.silence("x1000c0s1b0n[0-1]", 5.0)
        self.decide(15.0)
        self.assertDisrupted()
        self.assertHeld("")
        self.silence("x1000c0s1b0n2", 5.0)
        self.decide(16.0)
        self.assertHeld("x1000c0s1b0n[0-2]", 106.0)

    def test_switched_off(self) -> None:
        """To switch the guard off, or to report, releases everybody who is held."""
        for mode, disrupted in ((GuardMode.OFF, []), (GuardMode.REPORT, ["x1000c0s0"])):
            self.begin(CHASSIS)
            self.settings = HOLD
            self.silence(SLOT)
            self.decide(10.0)
            self.settings = HOLD._replace(mode=mode)
            decisions = self.decide(11.0)
            self.assertEqual(sorted(decisions.released), names(SLOT))
            self.assertHeld("")
            self.assertDisrupted(*disrupted)

    def test_switched_on(self) -> None:
        """To switch from report to hold holds who is a member already, for the rest of the time."""
        self.settings = HOLD._replace(mode=GuardMode.REPORT)
        self.silence(SLOT)
        self.decide(10.0)
        self.settings = HOLD
        self.decide(15.0)
        self.assertHeld(SLOT, 100.0)

    def test_shorter_hold(self) -> None:
        """A hold that is made shorter is so for those who are held; a longer one is not longer."""
        self.silence(SLOT)
        self.decide(10.0)
        self.settings = HOLD._replace(hold=200.0)
        self.decide(11.0)
        self.assertHeld(SLOT, 100.0)
        self.settings = HOLD._replace(hold=40.0)
        self.decide(12.0)
        self.assertHeld(SLOT, 50.0)
        self.assertEqual(self.ended(self.decide(50.0)), [("x1000c0s0", "over")])

    def test_reasons(self) -> None:
        """The reasons of an end are three."""
        self.assertEqual([each.value for each in EndReason], ["back", "over", "released"])


class SteadyTests(GuardTestCase):
    """After a gap or a start of hbtd itself."""

    def test_reconnecting(self) -> None:
        """Nodes that have yet to connect again are no fallen domain for one Warntime."""
        self.steady_since = 20.0
        self.silence(CHASSIS, 15.0)
        self.decide(22.0)
        self.decide(29.5)
        self.assertDisrupted()
        self.heard(CHASSIS)
        self.decide(31.0)
        self.assertDisrupted()

    def test_silent_before_it(self) -> None:
        """Silences that were there when it began count at once, if their beginnings are known."""
        self.silence(CHASSIS, 14.0)
        self.guard.decide(22.0, self.settings, 20.0, known_since=14.5)
        self.assertDisrupted()
        self.setUp()
        self.silence(CHASSIS, 14.0)
        self.guard.decide(22.0, self.settings, 20.0, known_since=14.0)
        self.assertDisrupted("x1000c0")

    def test_after_warntime(self) -> None:
        """Silences from before it count when one Warntime has passed, though nobody is noted."""
        self.steady_since = 20.0
        self.silence(CHASSIS, 15.0)
        self.decide(22.0)
        self.decide(30.0)
        self.assertDisrupted("x1000c0")

    def test_short_errtime(self) -> None:
        """With a short Errtime they count one period before the first death is due."""
        self.settings = HOLD._replace(warntime=60.0)
        self.steady_since = 20.0
        self.silence(CHASSIS, 15.0)
        self.decide(41.5)
        self.assertDisrupted()
        self.decide(42.0)
        self.assertDisrupted("x1000c0")

    def test_death_due(self) -> None:
        """Those warned about before a start count when their deaths are due, if a gap follows it.

        They are due one Warntime after the start, however long the gap is.
        """
        self.steady_since = 3.0
        self.silence(CHASSIS, -20.0)
        for now in (8.0, 9.5):
            self.guard.decide(now, self.settings, self.steady_since, known_since=0.0)
            self.assertDisrupted()
        self.guard.decide(10.0, self.settings, self.steady_since, known_since=0.0)
        self.assertHeld(CHASSIS, 100.0)

    def test_later_silences(self) -> None:
        """Silences that begin after it count at once."""
        self.steady_since = 20.0
        self.silence(CHASSIS, 20.5)
        self.decide(27.0)
        self.assertDisrupted("x1000c0")

    def test_member_from_before(self) -> None:
        """A silence from before it is one of a domain that is disrupted already."""
        self.silence("x1000c0s0b0n[0-2]", 0.0)
        self.decide(7.0)
        self.steady_since = 7.5
        self.guard.note_silent("x1000c0s0b0n3", 1.0, 7.0)
        self.decide(8.5)
        self.assertHeld(SLOT, 97.0)


class CountingDomains(Domains):
    """Counts how often something is asked of it."""

    asked = 0

    def of(self, xname: str) -> tuple[str, ...]:
        """Count, and return the domains."""
        self.asked += 1
        return super().of(xname)

    def size(self, domain: str) -> Size:
        """Count, and return the size."""
        self.asked += 1
        return super().size(domain)

    def living(self, domain: str) -> int:
        """Count, and return the number of living components."""
        self.asked += 1
        return super().living(domain)


class CostTests(GuardTestCase):
    """What it costs when nothing happens."""

    def test_nothing_noted(self) -> None:
        """While nobody falls silent, a decision looks at nobody, however many are silent."""
        domains = CountingDomains()
        self.guard = Guard(domains)
        self.guard.recount(names("x1000c[0-3]s[0-7]b0n[0-3]"))
        self.silence(f"{CHASSIS},x1000c1s[0-7]b0n0")
        self.decide(7.0)
        self.decide(10.0)
        domains.asked = 0
        for now in (11.0, 20.0, 50.0, 90.0):
            self.assertEqual(self.decide(now)[:2], ((), ()))
            self.heard("x1000c1s0b0n0,x1000c2s0b0n0")
            self.silence("x1000c1s1b0n0")  # again
        self.assertEqual(domains.asked, 0)
        self.assertHeld(CHASSIS)


class QuestionTests(GuardTestCase):
    """What can be asked."""

    def test_questions(self) -> None:
        """Disruptions, their members, and what explains a silence can be asked at any time."""
        self.silence(f"{SLOT},x1000c1s0b0n0")
        self.assertEqual(self.guard.disruptions(), [])
        self.decide(7.0)
        self.heard("x1000c0s0b0n1")
        (disruption,) = self.guard.disruptions()
        self.assertEqual((disruption.domain, disruption.away), ("x1000c0s0", 3))
        self.assertEqual(self.guard.explanation("x1000c0s0b0n0"), disruption)
        self.assertEqual(sorted(self.guard.members("x1000c0s0")), names("x1000c0s0b0n[0,2-3]"))
        self.assertEqual(self.guard.members("x1000c0"), [])
        for each in ("x1000c0s0b0n1", "x1000c1s0b0n0", "x1000c2s0b0n0"):
            self.assertIsNone(self.guard.explanation(each))
        self.assertIn("x1000c1s0b0n0", self.guard)
        self.assertNotIn("x1000c0s0b0n1", self.guard)
        self.guard.release(None, 8.0)
        self.assertIsNone(self.guard.explanation("x1000c0s0b0n0"))
