"""Dead components whose heartbeats arrive at several replicas start after enough of them."""

from collections.abc import Sequence

from twisted.trial.unittest import SynchronousTestCase

from hbtd.tracker.starting import Progress
from hbtd.tracker.transitions import Phase
from tests.support.hsm_memory import DIED, STARTED, WARNED, nodes
from tests.support.mixed_memory import ERRTIME, WARNTIME, Original, Ours, World

A, B = nodes(2)
PERIOD = 2.0
NEEDED = 4
DEAD = [STARTED, WARNED, DIED]


class StartingTests(SynchronousTestCase):
    """Two replicas; B lives, and beats at the one that leads."""

    def setUp(self) -> None:
        """Let A live and die."""
        world = self.world = World()
        self.addCleanup(world.close)
        self.leader = world.ours(NEEDED)
        world.advance(3.0)
        self.follower = world.ours(NEEDED)
        world.advance(3.0)
        self.assertTrue(self.leader.monitor.leading)
        self.beat([self.leader])
        self.wait(ERRTIME + 4.0)
        self.assertEqual(world.kinds(A), DEAD)

    def wait(self, seconds: float) -> None:
        """Let time pass, while B beats at one that leads."""
        end = self.world.now + seconds
        while self.world.now < end - 1e-9:
            for process in (self.leader, self.follower):
                if process.serves and process.monitor.leading:
                    process.beat(B)
            self.world.advance(min(PERIOD, end - self.world.now))

    def beat(self, takers: Sequence[Ours | Original], pause: float = PERIOD) -> None:
        """Let A beat once at each of these processes in turn."""
        for taker in takers:
            taker.beat(A)
            self.wait(pause)

    def told(self, *expected: object) -> None:
        """Check what HSM is told of A at last, and that B lives."""
        self.assertEqual(self.world.kinds(A), list(expected))
        self.assertEqual(self.world.kinds(B), [STARTED])

    def test_at_one(self) -> None:
        """The last of so many heartbeats starts it, whichever replica takes them."""
        for process in (self.leader, self.follower):
            before = self.world.kinds(A)
            self.beat([process] * (NEEDED - 1))
            self.told(*before)
            self.beat([process])
            self.told(*before, STARTED)
            for each in (self.leader, self.follower):
                self.assertEqual(each.tracker.phase(A), Phase.HEALTHY)
            self.wait(ERRTIME + 4.0)

    def test_in_turn(self) -> None:
        """Replicas that each hear a part of the heartbeats start it as one does."""
        for last in ([self.leader], [self.follower]):
            before = self.world.kinds(A)
            self.beat([self.follower, self.leader, self.follower])
            self.told(*before)
            for each in (self.leader, self.follower):
                progress = each.tracker.starting(A, each.monitor.now())
                self.assertEqual(progress, Progress(NEEDED - 1, NEEDED))
            self.beat(last)
            self.told(*before, STARTED)
            self.wait(ERRTIME + 4.0)

    def test_at_the_same_time(self) -> None:
        """The leader starts it by heartbeats of others which none of these knows to be the last."""
        third = self.world.ours(NEEDED)
        self.wait(3.0)
        self.beat([self.follower, third])
        self.follower.beat(A)
        third.beat(A)
        self.wait(2.0)
        self.told(*DEAD, STARTED)

    def test_far_apart_at_each(self) -> None:
        """It is in time if it is so for both together, though at each of them it is not."""
        pause = WARNTIME - 1.0
        self.beat([self.leader, self.follower] * 2, pause)
        self.assertEqual(self.world.kinds(A)[:4], [*DEAD, STARTED])

    def test_too_late(self) -> None:
        """One that comes Warntime later begins the count anew, at all replicas."""
        self.beat([self.follower] * 3)
        self.wait(WARNTIME)
        self.beat([self.leader, self.follower, self.leader])
        self.told(*DEAD)
        self.beat([self.leader])
        self.told(*DEAD, STARTED)

    def test_leader_ends(self) -> None:
        """The next leader has counted what both have heard."""
        self.beat([self.leader, self.follower, self.leader])
        self.leader.stop()
        self.world.advance(1.0)
        self.beat([self.follower])
        self.told(*DEAD, STARTED)

    def test_leader_is_killed(self) -> None:
        """A component lives again at last although the leader was killed in the middle."""
        self.beat([self.leader, self.follower, self.leader])
        self.leader.kill()
        self.beat([self.follower] * 15)
        self.assertEqual(self.world.kinds(A), [*DEAD, STARTED])

    def test_joined_meanwhile(self) -> None:
        """A replica that joins in the middle does not start it early, nor keep it dead."""
        self.beat([self.follower, self.leader])
        third = self.world.ours(NEEDED)
        self.wait(3.0)
        third.beat(A)
        self.wait(1.0)
        self.told(*DEAD)
        self.beat([third, third, third])
        self.told(*DEAD, STARTED)

    def test_read_anew(self) -> None:
        """A follower that reads all of etcd again in the middle does not begin anew."""
        self.beat([self.follower, self.leader, self.follower])
        self.follower.replica.sync.reload()
        self.wait(1.0)
        self.assertTrue(self.follower.replica.synchronized)
        self.beat([self.follower])
        self.told(*DEAD, STARTED)

    def test_etcd_fails(self) -> None:
        """Heartbeats that were not shared at once, as etcd failed, are shared after that."""
        self.world.etcd.refused = "/kv/txn"
        self.follower.beat(A)
        self.world.advance(1.0)
        self.world.etcd.refused = ""
        self.wait(2.0)
        progress = self.leader.tracker.starting(A, self.leader.monitor.now())
        self.assertEqual(progress, Progress(1, NEEDED))

    def test_changed_meanwhile(self) -> None:
        """A rule that is changed at one replica holds at all, also for what was counted."""
        self.beat([self.follower, self.leader])
        self.leader.params.patch({"Start_beats": "3"})
        self.wait(2.0)
        self.assertEqual(self.follower.params.current.start_beats, 3)
        self.beat([self.follower])
        self.told(*DEAD, STARTED)

    def test_original(self) -> None:
        """One heartbeat that an original takes starts it, as the original tells HSM that it has."""
        original = self.world.original()
        self.wait(3.0)
        self.beat([self.follower, self.follower])
        self.told(*DEAD)
        original.beat(A)
        self.wait(3.0)
        self.assertEqual(self.world.kinds(A, ours=True), [*DEAD, STARTED])

    def test_beside_an_original(self) -> None:
        """While an original runs, and there are no other blocks, replicas share the count."""
        self.world.original()
        self.wait(3.0)
        self.beat([self.follower, self.leader, self.follower])
        self.told(*DEAD)
        self.beat([self.leader])
        self.assertEqual(self.world.kinds(A, ours=True), [*DEAD, STARTED])

    def test_record(self) -> None:
        """There is no record of it before it is started: others would take it for living."""
        self.beat([self.follower, self.leader, self.follower])
        self.assertNotIn(A, self.world.etcd.records())
        self.beat([self.follower])
        self.assertIn(A, self.world.etcd.records())

    def test_its_words(self) -> None:
        """Whoever leads and hears of the last heartbeat elsewhere knows what it said."""
        self.beat([self.leader, self.leader, self.leader])
        self.follower.beat(A)
        sent = f"t{self.world.now:.2f}"
        self.wait(2.0)
        self.told(*DEAD, STARTED)
        record = self.leader.tracker.record(A, self.leader.monitor.now())
        assert record is not None
        self.assertEqual(record.timestamp, sent)
