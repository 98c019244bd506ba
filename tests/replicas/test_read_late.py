"""What a replica does after a long stall, with what it took before, or reads late."""

from itertools import product

from twisted.trial.unittest import SynchronousTestCase

from hbtd.store.interface import StoreUnusable
from hbtd.tracker.transitions import Transition
from tests.support.hsm_memory import DIED, RESTARTED, STARTED, WARNED, nodes
from tests.support.mixed_memory import ERRTIME, WARNTIME, Ours, World

A, B = nodes(2)
PERIOD = 2.0
DEADLY, LONG = 25.0, 36.0
"""Seconds after which who was warned about is dead; and after which all of etcd is read anew."""


class ReadLateTests(SynchronousTestCase):
    """Two replicas, of which one is stopped for a while; B lives, and beats at the other."""

    def setUp(self) -> None:
        """Begin with an empty etcd."""
        self.begin(leader=False)

    def begin(self, *, leader: bool) -> None:
        """Start two replicas; the one to be stopped leads, or follows."""
        world = self.world = World()
        self.addCleanup(world.close)
        first = world.ours()
        world.advance(3.0)
        second = world.ours()
        world.advance(3.0)
        self.assertTrue(first.monitor.leading)
        self.stopped, self.other = (first, second) if leader else (second, first)

    def beat(self, seconds: float, *beats: tuple[Ours, str]) -> None:
        """Let time pass while these components, and B, send heartbeats."""
        end = self.world.now + seconds
        while self.world.now < end - 1e-9:
            for process, name in (*beats, (self.other, B)):
                process.beat(name)
            self.world.advance(min(PERIOD, end - self.world.now))

    def stop(self, seconds: float, *beats: tuple[Ours, str]) -> None:
        """Stop the replica for a while, in which these components, and B, send heartbeats."""
        self.stopped.paused = True
        self.beat(seconds, *beats)

    def told(self, name: str, *what: Transition) -> None:
        """Check what HSM was told of a component, at last, and that B lives."""
        self.beat(2 * ERRTIME)
        self.assertEqual(self.world.kinds(name), list(what))
        self.assertEqual(self.world.kinds(B), [STARTED])

    def test_warned(self) -> None:
        """What is read first after the stall does not revive whom it knows to be warned about."""
        for leader in (False, True):
            self.begin(leader=leader)
            self.beat(6.0, (self.stopped, A))
            self.beat(WARNTIME + PERIOD)
            self.assertEqual(self.world.kinds(A), [STARTED, WARNED])
            self.stop(LONG)
            self.stopped.wake(A)
            self.told(A, STARTED, WARNED, DIED)

    def test_dead(self) -> None:
        """Nor whom it knows to be dead, with what may have been sent long ago."""
        self.beat(6.0, (self.stopped, A))
        self.beat(ERRTIME + WARNTIME)
        self.assertEqual(self.world.kinds(A), [STARTED, WARNED, DIED])
        self.stop(DEADLY)
        self.stopped.wake(A)
        self.told(A, STARTED, WARNED, DIED)

    def test_return_before(self) -> None:
        """Nor does a return that it had yet to commit when it was stopped."""
        for leader, seconds in product((False, True), (DEADLY, LONG)):
            self.begin(leader=leader)
            self.beat(6.0, (self.stopped, A))
            self.beat(WARNTIME + PERIOD)
            self.assertEqual(self.world.kinds(A), [STARTED, WARNED])
            self.stopped.beat(A)
            self.stop(seconds)
            self.assertEqual(self.world.kinds(A), [STARTED, WARNED, DIED])
            self.stopped.wake()
            self.told(A, STARTED, WARNED, DIED)

    def test_short_life(self) -> None:
        """Nor does the first heartbeat of one that lived and died elsewhere meanwhile."""
        for leader in (False, True):
            for when in ("before", "first", "later"):
                self.begin(leader=leader)
                self.beat(4.0)
                if when == "before":
                    self.stopped.beat(A)
                self.stop(12.0)
                self.beat(4.0, (self.other, A))
                self.beat(LONG)
                self.stopped.wake(*([A] if when == "first" else []))
                if when == "later":
                    self.world.advance(0.2)
                    self.stopped.beat(A)
                self.told(A, STARTED, WARNED, DIED)

    def test_nobody_else_knows(self) -> None:
        """A first heartbeat that only the stopped replica took is told, however late."""
        for leader in (False, True):
            self.begin(leader=leader)
            self.beat(4.0)
            self.stopped.beat(A)
            self.stop(LONG)
            self.stopped.wake()
            self.beat(5.0)
            self.assertEqual(self.world.kinds(A), [STARTED])
            self.told(A, STARTED, WARNED, DIED)

    def test_warned_by_others(self) -> None:
        """One that is back at the stopped replica, and lives, is told to be back once."""
        for leader in (False, True):
            self.begin(leader=leader)
            self.beat(6.0, (self.stopped, A))
            self.beat(WARNTIME + PERIOD)
            self.stopped.beat(A)
            self.stop(WARNTIME + 5.0)
            self.stopped.wake(A)
            self.beat(3 * ERRTIME, (self.stopped, A))
            self.assertEqual(self.world.kinds(A), [STARTED, WARNED, RESTARTED])

    def test_living(self) -> None:
        """Who beats at the stopped replica alone, and lives, is not told to be silent."""
        for leader in (False, True):
            self.begin(leader=leader)
            self.beat(6.0, (self.stopped, A))
            self.stop(11.0)
            self.stopped.wake(A)
            self.beat(3 * ERRTIME, (self.stopped, A))
            self.assertEqual(self.world.kinds(A), [STARTED])

    def test_failed_once(self) -> None:
        """A call of etcd that fails after the stall does not keep heartbeats from being stored."""
        for leader in (False, True):
            self.begin(leader=leader)
            self.beat(6.0, (self.stopped, A))
            self.stop(11.0)
            self.stopped.wake(A)
            self.world.advance(1.5)
            self.assertTrue(self.stopped.replica.synchronized)
            self.world.etcd.refused = "/kv/range"
            asked = self.stopped.store.cursor("kafka")
            self.world.advance(0.1)
            self.failureResultOf(asked, StoreUnusable)
            self.world.etcd.refused = ""
            self.beat(3 * ERRTIME, (self.stopped, A))
            self.assertEqual(self.world.kinds(A), [STARTED])
