"""What hbtd knows after it was ended or killed, and what it says then."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from hbtd.tracker.records import Record, age_after_restart
from tests.support.crashing import World
from tests.support.hsm_memory import DIED, RESTARTED, STARTED, WARNED, nodes

A, B, C = nodes(3)

seconds = st.floats(0, 1e6, allow_nan=False)


class AgeTests(SynchronousTestCase):
    """How old components come back."""

    @given(st.floats(-10, 1e6), seconds, seconds, st.booleans())
    def test_age(self, age, warntime, errtime, warned):
        """Nobody comes back older than it was, or due before it had `warntime` to be heard."""
        back = age_after_restart(Record("x1", age, "t", "OK", warned), warntime, errtime)
        self.assertGreaterEqual(back, 0.0)
        self.assertLessEqual(back, max(age, 0.0))
        due = errtime if warned else min(warntime, errtime)
        self.assertGreaterEqual(due - back, min(warntime, errtime) - 1e-6)
        if not warned:
            self.assertEqual(back, 0.0)

    @given(st.integers(1, 100), st.integers(0, 100), st.floats(0, 300), st.booleans())
    def test_not_too_young(self, warntime, more, age, warned):
        """Of who has been warned about no more is taken off than must be."""
        errtime = warntime + more
        back = age_after_restart(Record("x1", age, "t", "OK", warned), warntime, errtime)
        if warned:
            self.assertEqual(back, min(age, more))


class RestartTests(SynchronousTestCase):
    """A restart in good time and a kill are the same to the nodes."""

    def assertPaired(self, world: World) -> None:
        """Check that judgements and records were never apart."""
        self.assertEqual(world.unpaired, [])

    def test_alone(self):
        """A restart alone is no news, however often nodes beat and however long it takes."""
        for period in (0.5, 3.0, 7.3, 9.6):
            for gap in (0.1, 2.0, 25.0, 500.0):
                world = World({A: period, B: period})
                world.up()
                world.start(A, B)
                world.advance(20)
                for _ in range(3):
                    world.restart(gap)
                    world.advance(17)
                world.advance(60)
                self.assertEqual(world.kinds(A), [STARTED], (period, gap))
                self.assertEqual(world.kinds(B), [STARTED], (period, gap))
                self.assertPaired(world)

    def test_again_and_again(self):
        """Restarts in short succession are no news, either."""
        world = World({A: 3.0})
        world.up()
        world.start(A)
        world.advance(5)
        for number in range(40):
            world.restart(0.1 * number)
            world.advance(0.3 * number)
        world.advance(60)
        self.assertEqual(world.kinds(A), [STARTED])

    def test_heartbeating(self):
        """Who was heartbeating before does so right after; who is dead does not."""
        world = World({A: 3.0, B: 3.0, C: 3.0})
        world.up()
        world.start(A, B, C)
        world.advance(10)
        world.silence(B, C)
        world.advance(15)
        world.start(C)
        world.advance(27)
        process = world.restart()
        self.assertEqual(process.monitor.heartbeating([A, B, C]), [True, False, True])

    def test_died_meanwhile(self):
        """Who dies while hbtd is down is declared dead in time, counted from its return."""
        for gap in (0.1, 10.0, 1000.0):
            world = World({A: 3.0, B: 3.0})
            world.up()
            world.start(A, B)
            world.advance(20)
            world.down()
            world.silence(B)
            world.restart(gap)
            back = world.now
            world.advance(30 + 5 + 1)
            self.assertEqual(world.kinds(B), [STARTED, WARNED, DIED])
            self.assertGreaterEqual(world.told[B][1].at - back, 10)
            self.assertGreaterEqual(world.told[B][2].at - back, 30)
            self.assertEqual(world.kinds(A), [STARTED])
            self.assertPaired(world)

    def test_warned(self):
        """Who was warned about is warned still: it restarts when it beats, or dies in time."""
        for silent in (14.0, 18.0, 24.0):
            world = World({A: 3.0, B: 3.0})
            world.up(interval=1)
            world.start(A, B)
            world.advance(6)
            world.silence(A, B)
            world.advance(silent)
            self.assertEqual(world.kinds(A), [STARTED, WARNED])
            process = world.restart(5, interval=1)
            self.assertEqual(process.tracker.warned, 2)
            world.start(A)
            back = world.now
            world.advance(31)
            self.assertEqual(world.kinds(A), [STARTED, WARNED, RESTARTED])
            self.assertEqual(world.kinds(B), [STARTED, WARNED, DIED])
            # Silent for as long as before, but with `warntime` to be heard.
            due = max(10.0, 30.0 - silent - 3)
            self.assertGreater(world.told[B][2].at - back, due - 1)
            self.assertLess(world.told[B][2].at - back, due + 5)
            self.assertPaired(world)

    def test_dead(self):
        """Who is dead is known to be: nothing is said again, and when it beats it has started."""
        world = World({A: 3.0})
        world.up()
        world.start(A)
        world.advance(6)
        world.silence(A)
        world.advance(40)
        for _ in range(2):
            process = world.restart()
            self.assertEqual(process.tracker.dead, 1)
            world.advance(60)
        self.assertEqual(world.kinds(A), [STARTED, WARNED, DIED])
        world.start(A)
        world.advance(1)
        self.assertEqual(world.kinds(A), [STARTED, WARNED, DIED, STARTED])
        world.restart()
        world.advance(60)
        self.assertEqual(len(world.kinds(A)), 4)

    def test_untold(self):
        """What HSM has not heard when hbtd is killed it hears from the next one."""
        world = World({A: 3.0, B: 3.0})
        world.up()
        world.start(A, B)
        world.advance(6)
        world.hsm.behaviour.ready = False
        world.silence(A)
        world.advance(40)
        world.restart()
        world.advance(20)
        self.assertEqual(world.kinds(A), [STARTED])
        world.restart()
        world.hsm.behaviour.ready = True
        world.advance(6)
        self.assertEqual(world.kinds(A), [STARTED, DIED])
        world.restart()
        world.advance(60)
        self.assertEqual(world.kinds(A), [STARTED, DIED])
        self.assertEqual(world.kinds(B), [STARTED])

    def test_ended(self):
        """An end in good order stores who was heard up to it."""
        world = World({A: 3.0})
        process = world.up()
        world.advance(0.95)
        world.start(A)
        world.advance(0.2)
        stopped = Deferred.fromCoroutine(process.monitor.stop())
        world.silence(A)
        world.advance(0.3)
        self.successResultOf(stopped)
        self.assertEqual(list(world.disk.records), [A])
        self.assertEqual(world.kinds(A), [STARTED])

    def test_clear_on_gap(self):
        """With `clear_on_gap` who was heard is forgotten; the dead and what is untold are not."""
        world = World({A: 3.0, B: 3.0, C: 3.0})
        world.up()
        world.start(A, B)
        world.advance(6)
        world.silence(B)
        world.advance(40)
        world.hsm.behaviour.ready = False
        world.advance(6)
        world.start(C)
        world.advance(6)
        process = world.restart(1, clear_on_gap=True)
        self.assertEqual((process.tracker.healthy, process.tracker.dead), (0, 1))
        world.hsm.behaviour.ready = True
        world.silence(C)
        world.advance(60)
        self.assertEqual(world.kinds(A), [STARTED, STARTED])
        self.assertEqual(world.kinds(B), [STARTED, WARNED, DIED])
        self.assertEqual(world.kinds(C), [STARTED])

    def test_forgotten(self):
        """Who said goodbye is not missed after a restart."""
        world = World({A: 3.0, B: 3.0})
        world.up()
        world.start(A, B)
        world.advance(20)
        world.forget(A)
        world.restart()
        world.advance(60)
        self.assertEqual(world.kinds(A), [STARTED])


class CheckpointTests(SynchronousTestCase):
    """When which records are stored."""

    def begin(self) -> World:
        """Have three nodes heard."""
        world = World({A: 3.0, B: 0.3, C: 1000.0})
        world.up()
        world.start(A, B, C)
        world.advance(0.5)
        return world

    def checkpoints(self, world: World) -> list[tuple[float, list[str]]]:
        """Give when which components were stored, and begin to count anew."""
        writes = [(at, names) for at, what, names in world.disk.writes if what == "checkpoint"]
        world.disk.writes.clear()
        return writes

    def test_changes(self):
        """Once a second those are stored that were heard since, and nobody else."""
        world = self.begin()
        world.advance(2)
        self.checkpoints(world)
        world.advance(6)
        stored = self.checkpoints(world)
        self.assertEqual(len(stored), 6)
        for earlier, later in pairwise(stored):
            self.assertAlmostEqual(later[0] - earlier[0], 1.0, places=3)
        self.assertTrue(all(B in names and C not in names for _, names in stored))
        self.assertEqual(sum(A in names for _, names in stored), 2)
        self.assertLess(world.disk.records[C].age, 1.1)

    def test_not_before_its_judgement(self):
        """A component is not stored before what was judged of it is; the others are."""
        world = self.begin()
        world.advance(20)
        world.silence(A)
        world.advance(20)
        assert world.process is not None
        world.process.store.hangs_on = "commit"
        world.start(A)
        world.advance(1)
        self.checkpoints(world)
        world.advance(5)
        stored = self.checkpoints(world)
        self.assertEqual(len(stored), 5)
        self.assertTrue(all(names == [B] for _, names in stored), stored)
        self.assertTrue(world.disk.records[A].warned)

    def test_failed(self):
        """What could not be stored is stored with what follows."""
        world = self.begin()
        world.advance(2.5)
        world.disk.failing = True
        world.advance(2)
        world.silence(A, B)
        world.advance(2)
        world.disk.failing = False
        self.checkpoints(world)
        world.advance(2)
        self.assertEqual([names for _, names in self.checkpoints(world)], [[A, B], []])

    def test_forgotten(self):
        """Who could not be forgotten is, once that can be done; who has come back is not."""
        world = self.begin()
        world.advance(3)
        world.disk.failing = True
        world.forget(A)
        world.forget(B)
        world.advance(3)
        world.start(B)
        world.advance(1)
        self.assertIn(A, world.disk.records)
        world.disk.failing = False
        world.advance(3)
        self.assertEqual(set(world.disk.records), {B, C})
        world.restart()
        world.advance(100)
        self.assertEqual(world.kinds(A), [STARTED])
        self.assertEqual(set(world.kinds(B)), {STARTED})


class TroubleTests(SynchronousTestCase):
    """A store in trouble."""

    def test_ready(self):
        """It is ready from when it has read the store, until that fails for five seconds."""
        world = World({A: 0.5})
        process = world.up()
        self.assertTrue(process.monitor.store_ready())
        world.start(A)
        world.advance(60)
        world.disk.failing = True
        world.advance(4)
        self.assertTrue(process.monitor.store_ready())
        world.advance(3)
        self.assertFalse(process.monitor.store_ready())
        world.disk.failing = False
        world.advance(2)
        self.assertTrue(process.monitor.store_ready())

    def test_hanging(self):
        """A store that never answers does not keep hbtd from ending."""
        world = World({A: 0.5})
        process = world.up(sm_timeout=3)
        process.store.hangs_on = ""
        world.start(A)
        world.advance(5)
        stopped = Deferred.fromCoroutine(process.monitor.stop())
        world.advance(10)
        self.successResultOf(stopped)

    def test_died_before_it_was_committed(self):
        """A start or warning that is committed after a death was judged has its record."""
        for wait in (0.0, 3.0, 12.0):
            world = World({A: 0.5, B: 0.5})
            process = world.up(interval=1)
            world.start(A)
            world.advance(wait)
            world.disk.failing = True
            world.start(A)
            world.advance(2)
            world.silence(A)
            world.advance(40)
            self.assertEqual(process.tracker.dead, 1)
            world.disk.failing = False
            process.store.crash_in, process.store.crash_after = 0, True
            process.store.crash_on = "commit"
            while world.process is not None:
                world.advance(0.1)
            self.assertEqual(world.unpaired, [])
            world.restart(1, interval=1)
            world.advance(45)
            self.assertEqual(world.kinds(A)[-1], DIED)
