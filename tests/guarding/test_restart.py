"""The guard across restarts: nothing is held for ever, nothing is forgotten, nothing said twice."""

from hbtd.formats.nodesets import fold
from hbtd.store.settings import Setting
from tests.support.guarded_memory import GuardedTestCase, names
from tests.support.hsm_memory import DIED

C0, C0S0, C0S1 = "x1000c0s[0-1]b0n[0-3]", "x1000c0s0b0n[0-3]", "x1000c0s1b0n[0-3]"


class RestartTests(GuardedTestCase):
    """A guard that holds a chassis since some 18 seconds, and a restart."""

    def setUp(self):
        super().setUp()
        self.up()
        self.beat_all(45.0, silent=C0)
        self.assertHeld(C0)

    def test_goes_on(self) -> None:
        """The hold goes on, with what is left of it; who is back in it is never told dead."""
        self.restart(down=5.0)
        self.beat_all(40.0, silent=C0)
        self.assertHeld(C0)
        self.assertEqual(self.dead(), [])
        self.beat_all(67.0 - 40.0 - 1.0, silent=C0S1)
        self.assertEqual(self.dead(), [])
        self.beat_all(3.2, silent=C0S1)
        self.assertEqual(self.dead(), names(C0S1))
        self.assertEqual(self.told_of(C0S0, DIED), 0)

    def test_said_once(self) -> None:
        """What was said before the restart is not said again; the end is said once."""
        self.restart()
        self.beat_all(40.0, silent=C0)
        self.assertEqual(self.statements(), [("x1000c0", None)])
        self.beat_all(60.0, silent=C0)
        self.assertEqual(self.statements(), [("x1000c0", None), ("x1000c0", "over")])
        self.assertEqual([each.number for each in self.said], [1, 2])
        self.assertEqual((len(self.logged("warn")), len(self.logged("info"))), (1, 1))

    def test_all_back(self) -> None:
        """If all are back after the restart the disruption has ended so."""
        self.restart()
        self.beat_all(40.0)
        self.assertEqual(self.statements(), [("x1000c0", None), ("x1000c0", "back")])
        self.beat_all(35.0, silent="x1000c0s0b0n0")
        self.assertEqual(self.dead(), ["x1000c0s0b0n0"])

    def test_long_away(self) -> None:
        """After hours without hbtd the hold is over: deaths are told as after any restart."""
        self.restart(down=7200.0)
        self.beat_all(19.0, silent=C0)
        self.assertEqual(self.dead(), [])
        self.beat_all(3.2, silent=C0)
        self.assertEqual(fold(self.dead()), fold(names(C0)))

    def test_clock_set_back(self) -> None:
        """With the clock set back, the hold ends when it would have ended without the restart.

        But for the ten seconds after which the state is written again.
        """
        self.restart(down=5.0, jump=-7200.0)
        self.beat_all(72.0 - 5.0, silent=C0)
        self.assertEqual(self.dead(), [])
        self.beat_all(5.0 + 10.0 + 2.2, silent=C0)
        self.assertEqual(fold(self.dead()), fold(names(C0)))

    def test_again_and_again(self) -> None:
        """However often hbtd restarts with a clock that is set back, the hold comes to its end."""
        for _ in range(4):
            self.restart(down=1.0, jump=-7200.0)
            self.beat_all(21.0, silent=C0)
        self.beat_all(30.0 + 3.2, silent=C0)
        self.assertEqual(fold(self.dead()), fold(names(C0)))

    def test_clock_set_forward(self) -> None:
        """With the clock set forward the hold has ended: deaths are told as after any restart."""
        self.restart(down=5.0, jump=7200.0)
        self.beat_all(19.0, silent=C0)
        self.assertEqual(self.dead(), [])
        self.beat_all(3.2, silent=C0)
        self.assertEqual(fold(self.dead()), fold(names(C0)))

    def test_switched_off_meanwhile(self) -> None:
        """Started again without a guard, hbtd holds nobody, and says that it has ended."""
        self.restart(guard="off")
        self.beat_all(33.0, silent=C0)
        self.assertEqual(fold(self.dead()), fold(names(C0)))
        self.assertEqual(self.statements(), [("x1000c0", None), ("x1000c0", "released")])
        self.assertIsNone(self.tracker.turnover)

    def test_damaged(self) -> None:
        """A state in the store that can't be read is none: the disruption is found anew."""
        for text in ("", "{", "[]", '{"number":-1}', '{"disruptions":[{}],"statements":[7]}'):
            self.store.settings.apply(Setting("guard", "state", text), 0)
            self.restart()
            self.assertEqual(self.guard.rules.disruptions(), [], text)
        self.beat_all(40.0, silent=C0)
        self.assertHeld(C0)
        self.beat_all(75.0, silent=C0)
        self.assertEqual(self.dead(), names(C0))


class NewDisruptionTests(GuardedTestCase):
    """A restart in the middle of the story."""

    def test_before_it_was_found(self) -> None:
        """What falls silent after a restart is found as ever."""
        self.up()
        self.restart()
        self.beat_all(15.0)
        self.beat_all(45.0, silent=C0)
        self.assertHeld(C0)

    def test_nobody_is_back_yet(self) -> None:
        """Nodes that have yet to connect again after a restart are no disruption, for Warntime."""
        self.up(warntime=20)
        self.beat_all(30.0, silent=C0)
        self.assertHeld(C0)
        self.store.settings.apply(Setting("guard", "state", None), 0)
        self.restart(warntime=20)
        self.beat_all(19.5, silent=C0)
        self.assertEqual((self.statements()[1:], self.guard.rules.disruptions()), ([], []))
        self.beat_all(2.2, silent=C0)
        self.assertEqual([each.domain for each in self.guard.rules.disruptions()], ["x1000c0"])

    def test_warned_before(self) -> None:
        """Nor are nodes that were warned about before it: how long they are silent is not known."""
        self.up()
        self.beat_all(18.0, silent=C0)
        self.restart()
        self.beat_all(9.0, silent=C0)
        self.assertEqual(self.guard.rules.disruptions(), [])
        self.beat_all(30.0, silent=C0)
        self.assertHeld(C0)
