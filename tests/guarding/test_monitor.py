"""The monitor with a guard: whose deaths wait, how long, and what is said of it."""

from twisted.internet.task import deferLater

from hbtd.formats.nodesets import fold
from hbtd.guarding import turns
from hbtd.tracker.transitions import Transition
from tests.support.guarded_memory import PERIOD, GuardedTestCase, names
from tests.support.hsm_memory import DIED, RESTARTED, WARNED

C0, C0S0, C0S1 = "x1000c0s[0-1]b0n[0-3]", "x1000c0s0b0n[0-3]", "x1000c0s1b0n[0-3]"
STRAY = "x1000c1s0b0n0"
HOLD = 90.0


class HoldTests(GuardedTestCase):
    """With `--guard=hold`."""

    def test_both_promises(self) -> None:
        """Of a silent chassis, who returns is never told dead; who stays away is told, in time."""
        self.up()
        self.beat_all(45.0, silent=C0)
        self.assertEqual((self.dead(), self.told_dead()), ([], []))
        self.assertHeld(C0)
        self.assertEqual(self.told_of(C0, WARNED), 8)
        self.beat_all(30.0, silent=C0S1)
        self.assertEqual(self.told_of(C0S0, RESTARTED), 4)
        self.assertHeld(C0S1)
        self.assertEqual(self.dead(), [])
        # Their deaths were due 30 s after the last heartbeats, and wait for 90 s more.
        self.beat_all(30 - PERIOD + HOLD - 75 - 0.1, silent=C0S1)
        self.assertEqual(self.dead(), [])
        self.beat_all(2.3, silent=C0S1)
        self.assertEqual(fold(self.told_dead()), fold(names(C0S1)))
        self.assertEqual(self.told_of(C0S0, DIED), 0)

    def test_reason(self) -> None:
        """A death that has waited says so in its reason."""
        self.up()
        self.beat_all(125.0, silent=C0)
        why = {each.why for each in self.standing() if each.transition is Transition.DIED}
        self.assertEqual(len(why), 1)
        self.assertRegex(why.pop(), r"^silent for 12[0-9]\.[0-9] s; its death was held back by the")

    def test_nobody_outside_is_late(self) -> None:
        """A node outside of the domain, silent at the same time, is told dead as ever."""
        self.up()
        self.beat_all(26.9, silent=f"{C0},{STRAY}")
        self.assertEqual(self.told_dead(), [])
        self.beat_all(1.3, silent=f"{C0},{STRAY}")
        self.assertEqual(self.told_dead(), [STRAY])
        self.assertHeld(C0)

    def test_many_outside(self) -> None:
        """However many deaths are held back, all others are told in the same sweep."""
        self.machine = "x1000c0s[0-15]b[0-9]n[0-4],x1000c1s[0-15]b[0-9]n[0-4]"
        outside = ",".join(f"x1000c1s{slot}b0n0" for slot in range(16))
        self.up(interval=5)
        # Their deaths are due at 27 s, and the sweep is at 30.
        self.beat_all(30.5, silent=f"x1000c0s[0-15]b[0-9]n[0-4],{outside}")
        self.assertEqual(len(self.held()), 800)
        self.assertEqual(fold(self.told_dead()), fold(names(outside)))

    def test_silent_before(self) -> None:
        """Who had been silent before its chassis was is told dead in time."""
        self.up()
        self.beat_all(33.0 - 1.0, silent="x1000c0s0b0n0")
        self.assertEqual(self.told_dead(), ["x1000c0s0b0n0"])
        early = "x1000c0s0b0n1"
        self.beat_all(29.0, silent=f"x1000c0s0b0n0,{early}")
        self.beat_all(4.0, silent=C0)
        self.assertEqual(self.told_dead(), ["x1000c0s0b0n0", early])
        self.beat_all(40.0, silent=C0)
        self.assertHeld([each for each in names(C0) if each not in ("x1000c0s0b0n0", early)])

    def test_leaves_when_heard(self) -> None:
        """Who was heard is held no more: silent alone again, it dies in time; the rest waits."""
        self.up()
        self.beat_all(45.0, silent=C0)
        back = "x1000c0s0b0n0"
        rest = [each for each in names(C0) if each != back]
        self.beat_all(3.0, silent=fold(rest))
        self.assertHeld(rest)
        self.beat_all(31.3, silent=C0)
        self.assertEqual(self.told_dead(), [back])
        self.assertHeld(rest)

    def test_warnings_are_not_held(self) -> None:
        """With a warntime beyond errtime, a held component is warned about when that is due."""
        self.up(warntime=40)
        self.beat_all(35.0, silent=C0)
        self.assertHeld(C0)
        self.assertEqual(self.told_of(C0, WARNED), 0)
        self.beat_all(7.5, silent=C0)
        self.assertEqual(self.told_of(C0, WARNED), 8)
        self.assertHeld(C0)
        self.assertEqual(self.dead(), [])

    def test_released(self) -> None:
        """What an operator releases is told with the next sweep; again, there is nothing left."""
        self.up()
        self.beat_all(45.0, silent=C0)
        self.assertEqual(self.guard.release("x1000c1"), ([], 0))
        self.assertEqual(self.guard.release("x1000c0"), (["x1000c0"], 8))
        self.beat_all(1.1, silent=C0)
        self.assertEqual(fold(self.told_dead()), fold(names(C0)))
        self.assertEqual(self.guard.release("x1000c0"), ([], 0))
        self.assertEqual(self.guard.release(None), ([], 0))
        self.assertEqual(self.statements(), [("x1000c0", None), ("x1000c0", "released")])

    def test_released_while_decided(self) -> None:
        """What is released just as it is found is stated first, and then that it has ended."""
        self.up()
        self.patch(turns, "_AT_ONCE", -1.0)
        self.patch(turns, "deferLater", lambda clock, seconds: deferLater(clock, 0.02))
        self.beat_all(20.0, silent=C0)
        while not self.guard.rules.disruptions():
            self.clock.advance(0.01)
        self.assertEqual(self.statements(), [])
        self.guard.release(None)
        self.beat_all(5.0, silent=C0)
        self.assertEqual([ended for _, ended in self.statements()], [None, "released"])
        self.assertEqual([each.number for each in self.said], [1, 2])

    def test_switched_off(self) -> None:
        """Switched to `report` or `off`, the guard holds nobody any more."""
        for mode in ("report", "off"):
            self.begin()
            self.up()
            self.beat_all(45.0, silent=C0)
            self.params.patch({"Guard": mode})
            self.beat_all(1.1, silent=C0)
            self.assertEqual(fold(self.told_dead()), fold(names(C0)), mode)
            # What is off counts nobody.
            self.assertEqual(self.tracker.turnover is None, mode == "off")
            self.assertEqual(self.guard.domains.counts() == {}, mode == "off")

    def test_hold_shortened(self) -> None:
        """A hold that has begun ends earlier if `guard_hold` becomes shorter."""
        self.up()
        self.beat_all(45.0, silent=C0)
        self.params.patch({"Guard_hold": "20"})
        self.beat_all(1.9, silent=C0)
        self.assertEqual(self.dead(), [])
        self.beat_all(2.3, silent=C0)
        self.assertEqual(fold(self.told_dead()), fold(names(C0)))

    def test_share(self) -> None:
        """How much of a domain has to be silent is `guard_share`, also when that changes."""
        most = "x1000c0s0b0n[0-2]"
        self.up(guard_share=80)
        self.beat_all(28.2, silent=most)
        self.assertEqual((self.told_dead(), self.said), (names(most), []))
        self.beat_all(30.0)
        self.params.patch({"Guard_share": "75"})
        self.beat_all(28.2, silent=most)
        self.assertHeld(most)

    def test_spared(self) -> None:
        """Who is in maintenance is no living member: the rest is the chassis."""
        self.up()
        spared = "x1000c0s1b0n[0-3],x1000c0s0b0n3"
        self.tracker.spare(names(spared))
        self.beat_all(45.0, silent=C0)
        self.assertHeld("x1000c0s0b0n[0-2]")
        self.assertEqual(self.statements(), [("x1000c0s0", None)])
        self.assertEqual(self.said[0].living, 3)

    def test_judged_anew(self) -> None:
        """Who is not back at the end of a maintenance was silent before, and is not held."""
        self.up()
        self.tracker.spare(names(C0))
        self.beat_all(45.0, silent=C0)
        self.tracker.judge_anew(names(C0), self.observed.now(), (10.0, 30.0))
        self.beat_all(31.1, silent=C0)
        self.assertEqual(fold(self.told_dead()), fold(names(C0)))
        self.assertEqual(self.statements(), [])


class StatementTests(GuardedTestCase):
    """What is said, and how often."""

    def test_once(self) -> None:
        """A disruption is one statement and one line of the log, and so is its end."""
        self.up()
        self.beat_all(60.0, silent=C0)
        self.assertEqual(self.statements(), [("x1000c0", None)])
        self.assertEqual(
            self.logged("warn"),
            [
                "Chassis x1000c0 is disrupted: 8 of 8 living components in it fell silent together."
                " Their deaths wait for at most 90 s more (--guard=hold)."
            ],
        )
        self.beat_all(60.0)
        self.assertEqual(self.statements(), [("x1000c0", None), ("x1000c0", "back")])
        self.assertEqual(len(self.logged("warn")), 1)
        (end,) = self.logged("info")
        self.assertRegex(end, r"^The disruption of chassis x1000c0 has ended after 3[0-9] s: all ")
        self.assertEqual(self.told_dead(), [])

    def test_over(self) -> None:
        """When the hold is over the disruption has ended, and that is said once."""
        self.up()
        self.beat_all(200.0, silent=C0)
        self.assertEqual(self.statements(), [("x1000c0", None), ("x1000c0", "over")])
        self.assertEqual(self.said[1].away, 8)
        self.assertEqual(self.guard.rules.disruptions(), [])

    def test_before_the_first_death(self) -> None:
        """With `report` it is said before HSM is told of the first death; no death waits."""
        self.begin(guard="report")
        dead: list[int] = []
        self.sharing.on_statement(lambda _: dead.append(self.tracker.dead))
        self.up()
        self.beat_all(28.3, silent=C0)
        self.assertEqual(fold(self.told_dead()), fold(names(C0)))
        self.assertEqual((self.statements(), dead), ([("x1000c0", None)], [0]))
        self.assertNotIn("wait", self.logged("warn")[0])
        self.assertIsNone(self.said[0].until)

    def test_numbers(self) -> None:
        """A statement has what is known: when, who is silent since when, of how many."""
        self.up()
        began = self.wall()
        self.beat_all(33.0, silent=C0)
        (said,) = self.said
        self.assertEqual((said.number, said.away, said.living), (1, 8, 8))
        self.assertAlmostEqual(said.since, began - 3.0, delta=0.2)
        self.assertAlmostEqual(said.began, began + 27.0, delta=1.2)
        assert said.until is not None
        self.assertAlmostEqual(said.until - said.began, HOLD, delta=0.2)

    def test_twice(self) -> None:
        """A chassis that is back and falls silent once more is another disruption."""
        self.up()
        self.beat_all(45.0, silent=C0)
        self.beat_all(30.0)
        self.beat_all(45.0, silent=C0)
        self.assertEqual(
            self.statements(), [("x1000c0", None), ("x1000c0", "back"), ("x1000c0", None)]
        )
        self.assertHeld(C0)

    def test_dead_and_back(self) -> None:
        """Members that have died and start again count as living again, and once."""
        self.begin(guard="report")
        self.up()
        self.beat_all(33.0, silent=C0)
        self.beat_all(30.0)
        self.assertEqual(self.statements(), [("x1000c0", None), ("x1000c0", "back")])
        self.assertEqual(self.guard.domains.counts()["x1000c0"], 8)
        self.assertEqual(self.guard.domains.counts()["s0"], 32)

    def test_forgotten(self) -> None:
        """Who is forgotten is neither living nor silent; all forgotten, the disruption ends."""
        self.up()
        self.beat_all(45.0, silent=C0)
        for each in names(C0):
            self.monitor.forget(each)
        self.beat_all(2.0, silent=C0)
        self.assertEqual(self.statements(), [("x1000c0", None), ("x1000c0", "back")])
        self.assertNotIn("x1000c0", self.guard.domains.counts())

    def test_off(self) -> None:
        """Switched off, the guard says, holds, writes and counts nothing."""
        self.begin(guard="off")
        self.up()
        self.beat_all(45.0, silent=C0)
        self.assertEqual(fold(self.told_dead()), fold(names(C0)))
        self.assertEqual((self.statements(), self.store.settings.texts("guard")), ([], {}))
        self.assertIsNone(self.tracker.turnover)
        self.assertEqual(self.guard.domains.counts(), {})

    def test_switched_on(self) -> None:
        """Switched on while hbtd runs, the guard counts everybody and goes on from there."""
        self.begin(guard="off")
        self.up()
        self.beat_all(10.0, silent="x1000c3s0b0n0")
        self.params.patch({"Guard": "hold"})
        self.beat_all(45.0, silent=f"{C0},x1000c3s0b0n0")
        self.assertHeld(C0)
        self.assertEqual(self.told_dead(), ["x1000c3s0b0n0"])

    def test_nothing_is_written_in_peace(self) -> None:
        """While nothing is disrupted, nothing is written, even if nodes die."""
        self.up()
        self.beat_all(45.0, silent=STRAY)
        self.assertEqual(self.told_dead(), [STRAY])
        self.assertEqual(self.store.settings.texts("guard"), {})


class GapTests(GuardedTestCase):
    """When hbtd itself was deaf for a while."""

    def stall(self, seconds: float) -> None:
        """Let hbtd not run for a while."""
        self.clock.rightNow += seconds

    def test_silent_before_it(self) -> None:
        """A chassis that was silent before a gap is held, though hbtd is deaf before the deaths."""
        self.up()
        self.beat_all(24.0, silent=C0)
        self.stall(5.0)
        self.beat_all(20.0, silent=C0)
        self.assertHeld(C0)
        self.assertEqual((self.statements(), self.dead()), ([("x1000c0", None)], []))

    def test_cut_off_by_it(self) -> None:
        """Nodes that connect again late after a gap are no disruption, for Warntime."""
        self.up(warntime=14, errtime=18)
        self.stall(5.0)
        self.beat_all(4.9 + 10.0, silent=C0)
        self.assertEqual((self.dead(), self.statements()), ([], []))
        self.beat_all(20.0)
        self.assertEqual((self.dead(), self.statements()), ([], []))
        self.assertGreater(self.guard.steady_since, 50.0)

    def test_due_soon_after_it(self) -> None:
        """With a short Errtime a chassis is held whose deaths are due sooner than that."""
        self.up(warntime=14, errtime=15)
        self.stall(5.0)
        # The standstill after the gap; then Errtime, less the period before the gap.
        self.beat_all(4.9 + 15.0 - PERIOD + 1.1, silent=C0)
        self.assertHeld(C0)
        self.assertEqual((self.dead(), self.statements()), ([], [("x1000c0", None)]))
