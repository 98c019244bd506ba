"""Maintenance on two replicas, whichever is asked, hears, leads, and is killed."""

from collections.abc import Coroutine
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from hbtd.formats.nodesets import fold
from hbtd.tracker.transitions import Transition
from tests.support.hsm_memory import DIED, STARTED, nodes
from tests.support.mixed_memory import ERRTIME, INTERVAL, Ours, World

A, B, *OTHERS = nodes(12)
_PERIOD = 2.0


class MaintenanceTests(SynchronousTestCase):
    """Two replicas on an etcd in memory, of which the first one leads, and nodes."""

    def setUp(self) -> None:
        self.world = World()
        self.addCleanup(self.world.close)
        self.leader = self.world.ours()
        self.world.advance(3)
        self.follower = self.world.ours()
        self.world.advance(3)
        self.assertTrue(self.leader.monitor.leading)
        # Who takes the heartbeats of each node; a node that is down is not in it.
        self.takers: dict[str, Ours] = {}

    def beating(self, taker: Ours, *names: str) -> None:
        """Have nodes beat, from now on, at a replica."""
        self.takers.update(dict.fromkeys(names, taker))

    def advance(self, seconds: float) -> None:
        """Let time pass, in which those that are up beat, unless their replica is away."""
        end = self.world.now + seconds
        while self.world.now < end - 1e-6:
            for name, taker in self.takers.items():
                if taker.serves:
                    taker.beat(name)
            self.world.advance(min(_PERIOD, end - self.world.now))

    def done(self, work: Coroutine[Deferred[Any], Any, Any]) -> Any:
        """Carry out what is asked of a replica; return the result."""
        asked = Deferred.fromCoroutine(work)
        self.world.advance(0.5)
        return self.successResultOf(asked)

    def set(self, at: Ours, *names: str, **fields: object) -> str:
        """Set a maintenance at a replica."""
        end = at.maintenances.read_end(fields)
        wanted = self.done(at.maintenances.set(fold(names), end, "", ""))
        return str(wanted.id)

    def told(self, name: str) -> list[Transition]:
        """Return what HSM was told of a node since it has started."""
        return self.world.kinds(name)[1:]

    def spared(self, name: str) -> list[bool]:
        """Return which replicas spare a node, the first one first."""
        return [each.tracker.is_spared(name) for each in (self.leader, self.follower)]

    def kept(self) -> int:
        """Return how many maintenances are in etcd."""
        settings = self.follower.store.settings
        return len(settings.texts("maintenance")) + len(settings.texts("away"))

    def test_any_replica(self) -> None:
        """What is set at a follower is in force at the leader, and ended there by anybody."""
        self.beating(self.leader, A, B)
        self.advance(5)
        id = self.set(self.follower, A, For=600)
        self.assertEqual(self.spared(A), [True, True])
        self.takers.clear()
        self.advance(ERRTIME + 10)
        self.assertEqual([self.told(name)[-1:] for name in (A, B)], [[], [DIED]])
        leader = self.leader.maintenances
        self.done(leader.end(leader.find(id)))
        self.assertEqual(self.spared(A), [False, False])
        self.advance(ERRTIME + 2 * INTERVAL)
        self.assertEqual(self.told(A)[-1], DIED)

    def test_leader_killed(self) -> None:
        """When the leader is killed in the middle, the next one judges nobody before the end."""
        self.beating(self.follower, A, B)
        self.advance(5)
        self.set(self.leader, A, B, For=120)
        del self.takers[A]
        self.advance(30)
        self.leader.kill()
        self.advance(60)
        self.assertTrue(self.follower.monitor.leading)
        self.assertEqual([self.told(A), self.told(B)], [[], []])
        self.advance(120 - 90.5 + ERRTIME - 2)
        self.assertNotIn(DIED, self.told(A))
        self.advance(2 + 2 * INTERVAL)
        self.assertEqual([self.told(A)[-1], self.told(B)], [DIED, []])
        self.assertEqual(self.kept(), 0)

    def test_started_in_the_middle(self) -> None:
        """A replica that starts in the middle spares those whose records it reads, and leads."""
        self.beating(self.leader, B)
        self.beating(self.follower, A)
        self.advance(5)
        self.set(self.leader, A, For=600)
        del self.takers[A]
        self.advance(20)
        self.follower.stop()
        self.advance(5)
        self.follower = self.world.ours()
        self.advance(10)
        self.leader.stop()
        self.beating(self.follower, B)
        self.advance(60)
        self.assertTrue(self.follower.monitor.leading)
        self.assertEqual([self.told(A), self.told(B)], [[], []])

    def test_no_replica_for_a_while(self) -> None:
        """After a time without any replica, only who was silent before that is back."""
        self.beating(self.leader, A, B)
        self.advance(10)
        self.set(self.leader, A, B, Until="back")
        del self.takers[B]
        self.advance(30)
        self.leader.kill()
        self.follower.kill()
        self.world.advance(60)
        self.leader = self.follower = self.world.ours()
        self.world.advance(3)
        self.beating(self.leader, A, B)
        self.advance(20)
        self.assertEqual(self.spared(A) + self.spared(B), [True, True, False, False])
        self.assertEqual([self.told(A), self.told(B)], [[], [STARTED]])

    def test_back(self) -> None:
        """Who is back is let go, whichever replica hears it first, and etcd is told."""
        for taker in (self.leader, self.follower):
            self.beating(self.leader, A)
            self.beating(self.follower, B)
            self.advance(10)
            self.set(taker, A, B, Until="back")
            self.takers.clear()
            self.advance(30)
            self.assertEqual(self.spared(A) + self.spared(B), [True] * 4)
            self.beating(self.follower, A)
            self.beating(self.leader, B)
            self.advance(8)
            self.assertEqual(self.spared(A) + self.spared(B), [False] * 4)
            self.assertEqual(self.kept(), 0)
        self.assertEqual([self.told(A), self.told(B)], [[STARTED, STARTED]] * 2)

    def test_back_as_the_leader_is_killed(self) -> None:
        """Who is back as the leader is killed, before that could write it, is let go as well."""
        for number, name in enumerate((A, B)):
            self.beating(self.follower, *OTHERS, A, B)
            self.advance(10)
            self.set(self.leader, name, *OTHERS, Until="back")
            del self.takers[name]
            self.advance(30)
            self.beating(self.follower if number else self.leader, name)
            self.advance(0.3)
            self.leader.kill()
            self.beating(self.follower, name)
            self.advance(40)
            self.assertTrue(self.follower.monitor.leading)
            self.assertFalse(self.follower.tracker.is_spared(name))
            self.assertEqual(len(self.follower.maintenances.in_force), len(OTHERS))
            self.assertEqual(self.told(name)[-1], STARTED)
            self.assertNotIn(DIED, self.told(name))
            self.leader, self.follower = self.follower, self.world.ours()
            self.advance(10)

    def test_away(self) -> None:
        """A node that says to a follower that it is away starts once when it is back in time."""
        self.beating(self.follower, A, *OTHERS)
        self.advance(10)
        self.assertTrue(self.done(self.follower.maintenances.away(A, 100.0, "reboot")))
        del self.takers[A]
        self.advance(60)
        self.assertEqual(self.spared(A), [True, True])
        self.beating(self.leader, A)
        self.advance(10)
        self.assertEqual(self.told(A), [STARTED])
        self.assertEqual((self.spared(A), self.kept()), ([False, False], 0))

    def test_not_back(self) -> None:
        """A node that is not back in time is told dead then, whoever leads by then, and once."""
        self.beating(self.follower, A, B, *OTHERS)
        self.advance(10)
        for name in (A, B):
            self.done(self.follower.maintenances.away(name, 60.0, "reboot"))
            del self.takers[name]
            self.advance(20)
            if name == B:
                self.leader.kill()
                self.leader = self.follower
            self.advance(38)
            self.assertEqual(self.told(name), [])
            # What the killed leader had heard could not be known until its lease had ended.
            self.advance(3 * INTERVAL + (30 if name == B else 0))
            self.assertEqual(self.told(name), [DIED], name)
            self.assertEqual(self.kept(), 0)

    def test_reboot_of_many(self) -> None:
        """In a planned reboot nobody is told dead but the node that does not return."""
        names = [A, B, *OTHERS]
        for number, name in enumerate(names):
            self.beating(self.leader if number % 2 else self.follower, name)
        self.advance(10)
        self.set(self.follower, *names, Until="back", For=200)
        for name in names:
            del self.takers[name]
            self.advance(1.5)
        self.leader.kill()
        self.advance(30)
        for name in names[1:]:
            self.beating(self.follower, name)
            self.advance(2.5)
        self.assertEqual({tuple(self.told(name)) for name in names[1:]}, {(STARTED,)})
        self.assertEqual(self.told(A), [])
        self.advance(200 + ERRTIME)
        self.assertEqual(self.told(A)[-1], DIED)
        self.assertEqual({tuple(self.told(name)) for name in names[1:]}, {(STARTED,)})
        self.assertEqual(self.kept(), 0)
