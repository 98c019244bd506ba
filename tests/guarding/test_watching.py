"""What the guard is told, when, and that the reactor has its turns meanwhile."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from hbtd.guard.domains import Domains
from hbtd.guard.rules import Guard
from hbtd.guarding.turns import Steps, Turns
from hbtd.guarding.watching import Watcher, limit_of
from hbtd.tracker.cohorts import Limits
from hbtd.tracker.components import Component, Unheard
from hbtd.tracker.tracker import Tracker
from tests.support.guarded_memory import names

NODES = names("x1000c0s[0-1]b0n[0-3]")


class NotingGuard(Guard):
    """A guard that notes what it is told."""

    def __init__(self) -> None:
        super().__init__(Domains())
        self.told: list[tuple[str, str]] = []

    def take(self) -> list[tuple[str, str]]:
        """Return what it was told since the last call."""
        told, self.told = self.told, []
        return told

    def note_living(self, xname: str) -> None:
        """Note it."""
        self.told.append(("living", xname))
        super().note_living(xname)

    def note_silent(self, xname: str, since: float, limit: float) -> None:
        """Note it."""
        self.told.append(("silent", xname))
        super().note_silent(xname, since, limit)

    def note_dead(self, xname: str) -> None:
        """Note it."""
        self.told.append(("dead", xname))
        super().note_dead(xname)

    def note_gone(self, xname: str, *, living: bool) -> None:
        """Note it."""
        self.told.append(("gone" if living else "dead gone", xname))
        super().note_gone(xname, living=living)

    def note_heard(self, xname: str) -> None:
        """Note it."""
        self.told.append(("heard", xname))
        super().note_heard(xname)


class BusyClock(Clock):
    """A clock by which each look at it takes a while."""

    step = 0.0
    turns = 0

    def callLater(self, *args: Any, **kw: Any) -> Any:
        """Count the turns that are waited for."""
        self.turns += 1
        return super().callLater(*args, **kw)

    def seconds(self) -> float:
        """Return the time, which passes meanwhile."""
        self.rightNow += self.step
        return super().seconds()


class WatcherTests(SynchronousTestCase):
    """A tracker of eight nodes that beat every three seconds."""

    def setUp(self) -> None:
        self.clock = BusyClock()
        self.tracker, self.guard = Tracker(), NotingGuard()
        self.watch()
        for at in range(0, 19, 3):
            self.beat(*NODES, at=float(at))

    def watch(self, late: float = 0.0) -> None:
        """Watch anew."""
        self.watcher = Watcher(self.clock, self.tracker, self.guard, late)
        self.watcher.begin()

    def beat(self, *nodes: str, at: float) -> None:
        """Let nodes beat."""
        for node in nodes:
            self.tracker.beat(node, at, "t", "OK")

    def do(self, coroutine: Any) -> int:
        """Run a coroutine; return how many turns of the reactor it took."""
        before = self.clock.turns
        done = Deferred.fromCoroutine(coroutine)
        while not done.called:
            self.clock.advance(0)
        self.successResultOf(done)
        return self.clock.turns - before

    def counted(self) -> list[tuple[str, str]]:
        """Return what was told of who begins or ceases to live."""
        self.do(self.watcher.note_living())
        return [each for each in self.guard.take() if each[0] != "heard"]

    def silent(self, at: float, unheard: Unheard = Unheard()) -> list[str]:  # noqa: B008
        """Return who was told to be silent."""
        self.do(self.watcher.note_silent(at, 10.0, 30.0, unheard))
        return [xname for _, xname in self.guard.take()]

    def test_counted_once(self) -> None:
        """All are counted at first, and then only what has changed."""
        self.assertEqual(self.counted(), [("living", each) for each in NODES])
        self.assertEqual(self.counted(), [])
        self.beat("x1", at=19.0)
        self.tracker.forget(NODES[0])
        self.assertEqual(self.counted(), [("living", "x1"), ("gone", NODES[0])])

    def test_changed_meanwhile(self) -> None:
        """Who changes while changes are told is told as it is then, and not once more."""
        self.counted()
        self.beat(*(f"x{number}" for number in range(1000)), at=19.0)
        self.clock.step = 0.004
        done = Deferred.fromCoroutine(self.watcher.note_living())
        self.assertFalse(done.called)
        for number in range(1000):
            self.tracker.forget(f"x{number}")
        self.beat("x999", at=20.0)
        while not done.called:
            self.clock.advance(0)
        self.clock.step = 0.0
        self.do(self.watcher.note_living())
        self.assertEqual(self.guard._domains.living("s0"), len(NODES) + 1)

    def test_counting_takes_turns(self) -> None:
        """Whatever takes long leaves the reactor its turns every three milliseconds."""
        self.beat(*(f"x{number}" for number in range(2000)), at=19.0)
        self.clock.step = 0.001
        self.assertGreater(self.do(self.watcher.note_living()), 2)
        self.assertGreater(self.do(self.watcher.note_silent(200.0, 10.0, 30.0, Unheard())), 2)
        self.assertGreater(self.do(self.watcher.note_heard()), 2)
        self.clock.step = 0.0
        self.assertEqual(self.do(self.watcher.note_silent(200.0, 10.0, 30.0, Unheard())), 0)

    def test_silent(self) -> None:
        """Silent is who has missed more than two of its own periods, and nobody else."""
        self.counted()
        self.beat(*NODES[1:], at=21.0)
        self.assertEqual(self.silent(24.0), [])
        self.assertEqual(self.silent(24.1), [NODES[0]])

    def test_unknown_period(self) -> None:
        """Whose period is not known is silent after Warntime, and in any case after Errtime."""
        self.beat("x1", at=20.0)
        self.assertEqual([each for each in self.silent(29.9) if each == "x1"], [])
        self.assertEqual([each for each in self.silent(30.0) if each == "x1"], ["x1"])
        slow = Component("x2", 0.0, "", "")
        slow.mean = slow.longest = 9.0
        self.assertEqual(limit_of(slow, 10.0, 30.0, 3.0), 21.0)
        self.assertEqual(limit_of(slow, 10.0, 20.0, 3.0), 20.0)

    def test_long_silence(self) -> None:
        """Who was silent for long once does not seem to have a long period for that."""
        self.counted()
        self.beat(NODES[0], at=48.0)
        self.beat(NODES[0], at=51.0)
        self.assertNotIn(NODES[0], self.silent(60.9))
        self.assertIn(NODES[0], self.silent(61.0))

    def test_waited(self) -> None:
        """Heartbeats that come together say nothing about the period, as do few others at first."""
        self.counted()
        for at in (20.0, 20.0, 20.1):
            self.beat("x1", at=at)
        self.assertNotIn("x1", self.silent(21.0))
        self.beat("x1", at=22.0)
        for at in (25.0, 28.0, 31.0):
            self.beat("x1", at=at)
            self.assertNotIn("x1", self.silent(at + 2.9))
        self.assertIn("x1", self.silent(31.0 + 3.2))

    def test_own_limits(self) -> None:
        """Own limits take the place of the parameters."""
        self.tracker.set_limits(lambda xname: Limits(4.0, 8.0))
        self.beat("x1", at=20.0)
        self.assertEqual([each for each in self.silent(24.0) if each == "x1"], ["x1"])

    def test_known_late(self) -> None:
        """With replicas a heartbeat may be known late: the limit is that much longer."""
        self.watch(late=3.0)
        self.counted()
        self.assertEqual((self.silent(26.9), len(self.silent(27.1))), ([], 8))

    def test_unheard(self) -> None:
        """Who may have been heard is silent only Errtime later."""
        unheard = Unheard(everybody=True)
        self.assertEqual(self.silent(50.0, unheard), [])
        self.assertEqual(len(self.silent(54.1, unheard)), 8)

    def test_spared(self) -> None:
        """Who is spared is told to be gone, and is not silent; judged anew it lives again."""
        self.counted()
        self.tracker.spare([NODES[0]])
        self.assertEqual(self.counted(), [("gone", NODES[0])])
        self.assertNotIn(NODES[0], self.silent(200.0))
        self.tracker.judge_anew([NODES[0]], 200.0, (10.0, 30.0))
        self.assertEqual(self.counted(), [("living", NODES[0])])
        self.assertNotIn(NODES[0], self.silent(225.0))

    def test_heard(self) -> None:
        """Only who was silent is told to be heard."""
        self.counted()
        self.silent(30.0)
        self.beat(NODES[1], at=31.0)
        self.do(self.watcher.note_heard())
        self.assertEqual(self.guard.take(), [("heard", NODES[1])])
        self.do(self.watcher.note_heard())
        self.assertEqual(self.guard.take(), [])

    def test_dead(self) -> None:
        """A death is told once; forgotten afterwards, the dead are gone."""
        self.counted()
        self.silent(50.0)
        self.tracker.sweep(50.0, 10.0, 30.0, 100)
        self.assertEqual(self.counted(), [("dead", each) for each in NODES])
        self.tracker.forget(NODES[0])
        self.assertEqual(self.counted(), [("dead gone", NODES[0])])
        self.beat(NODES[1], at=51.0)
        self.assertEqual(self.counted(), [("living", NODES[1])])

    def test_back_at_once(self) -> None:
        """Who dies and is heard before the next look has only been heard."""
        self.counted()
        self.silent(50.0)
        self.tracker.sweep(50.0, 10.0, 30.0, 100)
        self.beat(*NODES, at=51.0)
        self.assertEqual(self.counted(), [])
        self.do(self.watcher.note_heard())
        self.assertEqual(self.guard.take(), [("heard", each) for each in NODES])

    def test_died_twice(self) -> None:
        """Who is heard and dies once more before the next look is no member any more."""
        self.counted()
        self.silent(50.0)
        self.tracker.sweep(50.0, 10.0, 30.0, 100)
        self.counted()
        self.beat(NODES[0], at=51.0)
        self.tracker.sweep(90.0, 10.0, 30.0, 100)
        self.assertEqual(self.counted(), [("dead gone", NODES[0])])

    def test_all_changed(self) -> None:
        """After a loss of data all are counted anew."""
        self.counted()
        self.silent(50.0)
        self.tracker.keep_only(NODES[:2])
        self.assertEqual(self.counted(), [("living", each) for each in NODES[:2]])
        self.assertEqual(self.guard._domains.living("s0"), 2)
        self.assertEqual(self.guard.silences(), [])

    def test_ended(self) -> None:
        """When nobody watches any more, the tracker notes nothing."""
        self.watcher.end()
        self.assertIsNone(self.tracker.turnover)
        other = Watcher(self.clock, self.tracker, self.guard)
        other.begin()
        self.watcher.end()
        self.assertIsNotNone(self.tracker.turnover)


class StepsTests(SynchronousTestCase):
    """A generator that is run in steps."""

    def test_finished(self) -> None:
        """Whoever needs the result at once runs the rest; the other one gets the same result."""
        clock, did = BusyClock(), []

        def work() -> Any:
            for number in range(4):
                did.append(number)
                yield
            return "done"

        steps: Steps[str] = Steps(work())
        clock.step = 0.01
        running = Deferred.fromCoroutine(steps.run(Turns(clock)))
        self.assertLess(len(did), 4)
        steps.finish()
        self.assertEqual(did, [0, 1, 2, 3])
        while not running.called:
            clock.advance(0)
        self.assertEqual((self.successResultOf(running), did), ("done", [0, 1, 2, 3]))
