"""What hbtd knows, judges and sends after it was stopped or killed."""

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
    """The age of components after a restart."""

    @given(st.floats(-10, 1e6), seconds, seconds, st.booleans())
    def test_age(self, age, warntime, errtime, warned):
        """No component gets older, or is due before it had `warntime` seconds to be heard."""
        back = age_after_restart(Record("x1", age, "t", "OK", warned), warntime, errtime)
        self.assertGreaterEqual(back, 0.0)
        self.assertLessEqual(back, max(age, 0.0))
        due = errtime if warned else min(warntime, errtime)
        self.assertGreaterEqual(due - back, min(warntime, errtime) - 1e-6)
        if not warned:
            self.assertEqual(back, 0.0)

    @given(st.integers(1, 100), st.integers(0, 100), st.floats(0, 300), st.booleans())
    def test_not_too_young(self, warntime, more, age, warned):
        """A component that was warned about gets no younger than necessary."""
        errtime = warntime + more
        back = age_after_restart(Record("x1", age, "t", "OK", warned), warntime, errtime)
        if warned:
            self.assertEqual(back, min(age, more))


class RestartTests(SynchronousTestCase):
    """Restarts and kills, as nodes see them."""

    def assertPaired(self, world: World) -> None:
        """Check that no judgement was ever stored without its record, nor the reverse."""
        self.assertEqual(world.unpaired, [])

    def test_alone(self):
        """A restart alone causes no judgement, however long it takes."""
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
        """Restarts in short succession cause no judgement, either."""
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
        """Components that were heartbeating are right after a restart; dead ones are not."""
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
        """A component that dies while hbtd is down is declared dead `errtime` after the restart."""
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
        """A component keeps its warning: it restarts when it is heard, or dies in time."""
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
        """A dead component stays dead without another judgement, and starts when it is heard."""
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
        """Judgements that were not sent before a kill are sent by the next process.

        They are sent again until HSM must have finished whatever was sent before.
        """
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
        told = world.kinds(A)
        self.assertEqual((told[0], set(told[1:])), (STARTED, {DIED}))
        world.restart()
        world.advance(60)
        self.assertEqual(world.kinds(A), told)
        self.assertEqual(world.kinds(B), [STARTED])

    def test_ended(self):
        """A stop stores the records of all components heard before it."""
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
        """With `clear_on_gap` records are dropped; deaths and unsent judgements are not."""
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
        # Twice, as the last process may have sent another judgement that HSM has yet to carry out.
        self.assertEqual(world.kinds(C), [STARTED, STARTED])

    def test_forgotten(self):
        """A forgotten component is not missed after a restart."""
        world = World({A: 3.0, B: 3.0})
        world.up()
        world.start(A, B)
        world.advance(20)
        world.forget(A)
        world.restart()
        world.advance(60)
        self.assertEqual(world.kinds(A), [STARTED])


class CheckpointTests(SynchronousTestCase):
    """Which records are stored, and when."""

    def begin(self) -> World:
        """Let three nodes be heard."""
        world = World({A: 3.0, B: 0.3, C: 1000.0})
        world.up()
        world.start(A, B, C)
        world.advance(0.5)
        return world

    def checkpoints(self, world: World) -> list[tuple[float, list[str]]]:
        """Return the components stored since the last call, with the times."""
        writes = [(at, names) for at, what, names in world.disk.writes if what == "checkpoint"]
        world.disk.writes.clear()
        return writes

    def test_changes(self):
        """Every second, the components heard since the last time are stored, and no others."""
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
        """A component is not stored before its judgement is; the others are."""
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
        """Records that could not be stored are stored with the next ones."""
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
        """A component that the store could not forget is forgotten later, unless it is back."""
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
    """A store that fails."""

    def test_ready(self):
        """It is ready once the store is read, until the store has failed for five seconds."""
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
        """A store that never answers does not keep hbtd from stopping."""
        world = World({A: 0.5})
        process = world.up(sm_timeout=3)
        process.store.hangs_on = ""
        world.start(A)
        world.advance(5)
        stopped = Deferred.fromCoroutine(process.monitor.stop())
        world.advance(10)
        self.successResultOf(stopped)

    def test_died_before_it_was_committed(self):
        """A start or warning committed after a death was judged is stored with its record."""
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
