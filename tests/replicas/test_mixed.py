"""Fleets that mix replicas of this hbtd with the original."""

from twisted.trial.unittest import SynchronousTestCase

from hbtd.store.etcd_format import JUDGEMENT, LOCK, PRESENCE, StoredJudgement, judgement_value
from hbtd.tracker.transitions import Judgement, Transition
from tests.support.hsm_memory import DIED, RESTARTED, STARTED, WARNED, nodes
from tests.support.mixed_memory import ERRTIME, INTERVAL, WARNTIME, Original, Ours, World
from tests.support.original_hbtd import record

A, B, C = nodes(3)
LEASE = 10
PERIOD = 2.0


class MixedTestCase(SynchronousTestCase):
    """Has a world, without processes at first."""

    def setUp(self) -> None:
        """Begin with an empty etcd."""
        self.world = World()
        self.addCleanup(self.world.close)

    def beat(self, seconds: float, *beats: tuple[Ours | Original, str]) -> None:
        """Let time pass while components send heartbeats to processes."""
        end = self.world.now + seconds
        while self.world.now < end - 1e-9:
            for process, name in beats:
                process.beat(name)
            self.world.advance(min(PERIOD, end - self.world.now))

    def put(self, name: str, warning: str = "", *, age: float = 0.0, timestamp: str = "t") -> None:
        """Write a component's record as somebody does who is no replica."""
        heard = int(self.world.wall() - age)
        self.world.etcd.put(name.encode(), record(name, heard, timestamp, "OK", warning))

    def following(self) -> Ours:
        """Start a replica while something else holds the lock."""
        self.world.etcd.hold_lock(LOCK)
        ours = self.world.ours()
        self.world.advance(3.0)
        self.assertFalse(ours.monitor.leading)
        return ours

    def lead(self, ours: Ours) -> None:
        """Let go of the lock, so that a replica leads."""
        self.world.etcd.release_lock()
        self.world.advance(3.0)
        self.assertTrue(ours.monitor.leading)

    def told_after(self, name: str, since: float) -> list[tuple[Transition, float]]:
        """Return what HSM was told of a component, and how long after `since`."""
        return [(each.what, each.at - since) for each in self.world.told.get(name, [])]

    def leading(self) -> Ours:
        """Start a replica, and wait until it leads."""
        ours = self.world.ours()
        self.world.advance(3.0)
        self.assertTrue(ours.monitor.leading)
        return ours


class HeartbeatTests(MixedTestCase):
    """Heartbeats that an original takes while a replica of ours leads."""

    def test_started(self) -> None:
        """A component that an original has heard is told to have started, and to have died."""
        self.leading()
        original = self.world.original()
        self.world.advance(1.0)
        self.beat(8.0, (original, A))
        self.assertEqual(self.world.kinds(A), [STARTED])
        self.world.advance(ERRTIME + INTERVAL + 1.0)
        self.assertEqual(self.world.kinds(A), [STARTED, WARNED, DIED])

    def test_warned_and_back(self) -> None:
        """A warned component that beats at an original alone is told to be back, and lives on."""
        ours, original = self.leading(), self.world.original()
        self.world.advance(1.0)
        self.beat(4.0, (ours, A))
        self.world.advance(WARNTIME + INTERVAL)
        self.assertEqual(self.world.kinds(A), [STARTED, WARNED])
        self.beat(3.0 * ERRTIME, (original, A))
        self.assertEqual(self.world.kinds(A), [STARTED, WARNED, RESTARTED])
        self.world.advance(ERRTIME + INTERVAL + 1.0)
        self.assertEqual(self.world.kinds(A), [STARTED, WARNED, RESTARTED, WARNED, DIED])

    def check_flag_left(self, ours: Ours) -> None:
        """Assert that a heartbeat with the flag of a warning is one."""
        self.put(A, age=WARNTIME)
        self.put(A, "WN", age=WARNTIME)
        self.world.advance(1.5)
        self.assertEqual((ours.tracker.healthy, ours.tracker.warned), (0, 1))
        self.put(A, "WN")
        self.world.advance(0.5)
        self.assertEqual((ours.tracker.healthy, ours.tracker.warned), (1, 0))

    def test_flag_left(self) -> None:
        """A record whose time has moved on is a heartbeat, although the flag of a warning is left.

        That is so on the leader.
        """
        self.check_flag_left(self.leading())

    def test_flag_left_on_a_follower(self) -> None:
        """It is one on a follower, too."""
        self.check_flag_left(self.following())

    def test_other_clocks(self) -> None:
        """A heartbeat is one although the clock of whoever took it is behind that of the others.

        The leader's warning, too, has put a later time into the record.
        """
        ours = self.leading()
        self.put(A, age=100.0)
        self.world.advance(1.0)
        self.put(A)
        self.world.advance(1.0)
        self.put(A, age=100.0)
        self.world.advance(WARNTIME - 0.5)
        self.assertEqual((ours.tracker.healthy, ours.tracker.warned), (1, 0))
        self.world.advance(INTERVAL + 0.5)
        self.assertEqual((ours.tracker.healthy, ours.tracker.warned), (0, 1))
        self.put(A, "WN", age=100.0)
        self.world.advance(0.5)
        self.assertEqual((ours.tracker.healthy, ours.tracker.warned), (1, 0))
        self.assertEqual(self.world.kinds(A)[-1], RESTARTED)


class SweepTests(MixedTestCase):
    """What an original's sweep writes is no heartbeat."""

    def test_overtaken(self) -> None:
        """A sweep may write what it has read before a heartbeat: that is no further heartbeat."""
        ours = self.leading()
        self.put(A)
        self.world.advance(2.0)
        self.put(A)
        self.world.advance(1.0)
        self.put(A, "WN", age=3.0)
        self.world.advance(0.5)
        self.assertEqual((ours.tracker.healthy, ours.tracker.warned), (0, 1))

    def test_warning(self) -> None:
        """A warning of an original does not renew the silence, which ends in a death in time."""
        ours = self.following()
        self.put(A)
        since = self.world.now
        self.world.advance(WARNTIME)
        self.put(A, "WN", age=WARNTIME)
        self.world.advance(0.5)
        self.lead(ours)
        self.world.advance(ERRTIME)
        ((what, after),) = self.told_after(A, since)
        self.assertIs(what, DIED)
        self.assertTrue(ERRTIME <= after <= ERRTIME + INTERVAL + 1.0, after)

    def test_warning_taken_back(self) -> None:
        """That an original takes a warning back does not renew the silence."""
        ours = self.following()
        self.put(A, age=WARNTIME)
        self.put(A, "WN", age=WARNTIME)
        self.put(A, "WN")
        since = self.world.now
        self.world.advance(WARNTIME - 1.0)
        self.put(A, age=WARNTIME - 1.0)
        self.world.advance(0.5)
        self.lead(ours)
        self.world.advance(ERRTIME)
        (_, (what, after)) = self.told_after(A, since)
        self.assertIs(what, DIED)
        self.assertTrue(ERRTIME <= after <= ERRTIME + INTERVAL + 1.0, after)

    def test_late_warning(self) -> None:
        """If an original warns HSM while a replica leads, HSM is told of the next heartbeat."""
        ours, original = self.leading(), self.world.original()
        self.world.advance(1.0)
        self.beat(4.0, (original, A))
        self.put(A, "WN", age=4.0)
        self.world.advance(0.5)
        self.assertEqual((ours.tracker.healthy, ours.tracker.warned), (0, 1))
        self.beat(ERRTIME, (original, A))
        self.assertEqual(self.world.kinds(A), [STARTED, RESTARTED])

    def test_very_late_warning(self) -> None:
        """A warning that several heartbeats have overtaken may be one: HSM is told that it is not.

        It might be a heartbeat, too, by a clock that is behind.
        """
        ours = self.leading()
        self.put(A)
        for _ in range(3):
            self.world.advance(1.0)
            self.put(A)
        self.put(A, "WN", age=3.0)
        self.world.advance(0.5)
        self.assertEqual((ours.tracker.healthy, ours.tracker.warned), (1, 0))
        self.world.advance(2.5)
        self.assertEqual(self.world.kinds(A), [STARTED, RESTARTED])

    def test_late_warning_of_the_dead(self) -> None:
        """A dead component that an original warns HSM about is declared dead once more."""
        ours = self.leading()
        self.put(A)
        self.world.advance(ERRTIME + INTERVAL + 1.0)
        self.assertEqual(self.world.kinds(A), [STARTED, WARNED, DIED])
        self.put(A, "WN", age=ERRTIME + INTERVAL)
        self.world.advance(ERRTIME + INTERVAL)
        self.assertEqual(self.world.kinds(A), [STARTED, WARNED, DIED, DIED])
        self.assertEqual(self.world.etcd.records(), {})
        self.assertEqual(ours.tracker.dead, 1)

    def test_removed(self) -> None:
        """HSM is told that a component is back which an original has declared dead."""
        ours = self.following()
        self.put(A)
        self.world.advance(ERRTIME)
        self.world.etcd.delete(A.encode())
        self.world.advance(0.5)
        self.assertEqual(ours.monitor.heartbeating([A]), [False])
        self.put(A)
        self.world.advance(0.5)
        self.lead(ours)
        self.assertEqual(self.world.kinds(A), [RESTARTED])

    def test_word_lost(self) -> None:
        """A death that an original has judged, and told nobody of, is told by who leads next."""
        ours = self.following()
        self.put(A)
        self.world.advance(ERRTIME)
        self.world.etcd.delete(A.encode())
        self.world.advance(0.5)
        self.lead(ours)
        self.world.advance(INTERVAL)
        self.assertEqual(self.world.kinds(A), [DIED])
        self.assertIn(JUDGEMENT + A.encode(), self.world.etcd.keys)

    def test_removed_too_early(self) -> None:
        """That counts from when this replica takes it for dead: an original may be wrong."""
        ours = self.following()
        self.put(A)
        since = self.world.now
        self.world.advance(1.0)
        self.world.etcd.delete(A.encode())
        self.world.advance(0.5)
        self.lead(ours)
        self.world.advance(ERRTIME)
        ((what, after),) = self.told_after(A, since)
        self.assertIs(what, DIED)
        self.assertGreaterEqual(after, ERRTIME)


class GapTests(MixedTestCase):
    """An original has warned about components with fresh times, as nobody was listening before."""

    def check(self, ours: Ours, *, before: list[Transition]) -> None:
        """Assert that a gap begins the silence of A and B anew, and tells nothing by itself."""
        for name in (A, B):
            self.put(name, "WG")
        since = self.world.now
        self.world.advance(0.5)
        if not ours.monitor.leading:
            self.lead(ours)
        while self.world.now < since + ERRTIME - 0.5:
            self.put(B, "WN")
            self.world.advance(1.0)
        self.assertEqual(self.world.kinds(A), before)
        self.assertEqual(self.world.kinds(B), [*before, RESTARTED])
        self.world.advance(INTERVAL + 1.0)
        self.assertEqual(self.world.kinds(A), [*before, DIED])

    def test_unknown(self) -> None:
        """It does so for components that a follower does not know."""
        self.check(self.following(), before=[])

    def test_known(self) -> None:
        """It does so for components that a follower knows, shortly before they would die."""
        ours = self.following()
        for name in (A, B):
            self.put(name)
        self.world.advance(ERRTIME - 3.5)
        self.check(ours, before=[])

    def test_leader(self) -> None:
        """It does so for components that the leader has just warned about."""
        ours = self.leading()
        for name in (A, B):
            self.put(name)
        self.world.advance(WARNTIME + INTERVAL + 1.0)
        self.check(ours, before=[STARTED, WARNED])

    def test_heard_here(self) -> None:
        """It does nothing to a component that was heard here since; HSM is told that it lives."""
        ours = self.leading()
        self.beat(4.0, (ours, A))
        ours.beat(A)
        self.put(A, "WG")
        self.world.advance(0.1)
        self.assertEqual((ours.tracker.healthy, ours.tracker.warned), (1, 0))
        self.assertEqual(self.world.kinds(A), [STARTED])
        self.world.advance(3.0)
        self.assertEqual(self.world.kinds(A), [STARTED, RESTARTED])

    def test_not_at_once(self) -> None:
        """That it lives is told a second later: an original stores a warning before it tells."""
        ours = self.leading()
        for name in nodes(4):
            # So that no checkpoint, every half second, stores the last heartbeat just then.
            self.beat(2.15, (ours, name))
            ours.beat(name)
            self.put(name, "WG")
            since = self.world.now
            self.world.advance(3.35)
            self.assertEqual(self.world.kinds(name), [STARTED, RESTARTED])
            self.assertGreater(self.world.told[name][-1].at - since, 1.0)


class OwnRecordsTests(MixedTestCase):
    """Records that replicas write."""

    def test_no_heartbeat(self) -> None:
        """The time in a record of a warned component may move on: that is no heartbeat."""
        ours = self.leading()
        self.put(A)
        since = self.world.now
        self.world.advance(WARNTIME + INTERVAL + 1.0)
        self.assertEqual(self.world.kinds(A), [STARTED, WARNED])
        value = record(A, int(self.world.wall()) - WARNTIME + 2, "t", "OK", "WN")
        self.world.etcd.put_as_replica(PRESENCE + b"77", A.encode(), value)
        self.world.advance(0.5)
        self.assertEqual(ours.tracker.warned, 1)
        self.world.advance(since + ERRTIME + INTERVAL + 0.5 - self.world.now)
        self.assertEqual(self.world.kinds(A), [STARTED, WARNED, DIED])


class LoadTests(MixedTestCase):
    """What a replica finds in etcd when it starts."""

    def test_flag_left(self) -> None:
        """A warned component whose heartbeat is recent lives; HSM is told that it is back."""
        self.put(A, "WN", age=WARNTIME - 2.0)
        since = self.world.now
        ours = self.leading()
        self.assertEqual((ours.tracker.healthy, ours.tracker.warned), (1, 0))
        self.assertEqual(self.world.kinds(A), [RESTARTED])
        self.world.advance(ERRTIME + 0.5)
        self.assertEqual(self.world.kinds(A), [RESTARTED, WARNED, DIED])
        self.assertLess(self.world.told[A][-1].at - since, ERRTIME + INTERVAL + 1.5)

    def test_silent(self) -> None:
        """A warned component whose heartbeat is old is warned, and nothing is told at first."""
        self.put(A, "WN", age=WARNTIME)
        ours = self.leading()
        self.assertEqual((ours.tracker.healthy, ours.tracker.warned), (0, 1))
        self.world.advance(ERRTIME - WARNTIME + INTERVAL + 1.0)
        self.assertEqual(self.world.kinds(A), [DIED])

    def test_silence_of_original(self) -> None:
        """The warning of an original proves Warntime of silence, however old the heartbeat is.

        Since the warning, the original may have heard the component, cut off from etcd. A warning
        of replicas is judged by all that can hear.
        """
        value = judgement_value(StoredJudgement(Judgement(B, WARNED, "t"), 1, True))
        self.world.etcd.put(JUDGEMENT + B.encode(), value)
        for name in (A, B):
            self.put(name, "WN", age=ERRTIME)
        since = self.world.now
        self.leading()
        self.world.advance(ERRTIME + INTERVAL + 1.0)
        times = []
        for name, least in ((B, WARNTIME), (A, ERRTIME - WARNTIME)):
            ((what, after),) = self.told_after(name, since)
            self.assertEqual(what, DIED)
            self.assertTrue(least < after < least + INTERVAL + 1.5, after)
            times.append(after)
        self.assertLess(*times)

    def test_gap(self) -> None:
        """A component that was warned about after a gap is warned, however recent the time is."""
        self.put(A, "WG")
        since = self.world.now
        ours = self.leading()
        self.assertEqual((ours.tracker.healthy, ours.tracker.warned), (0, 1))
        self.world.advance(ERRTIME - 3.5)
        self.assertEqual(self.world.kinds(A), [])
        self.world.advance(INTERVAL + 1.5)
        ((what, after),) = self.told_after(A, since)
        self.assertEqual((what, after > ERRTIME - 0.5), (DIED, True))

    def test_judged(self) -> None:
        """A warning that a leader has judged of this very heartbeat counts, however recent."""
        for name, timestamp in ((A, "t"), (B, "earlier")):
            judgement = Judgement(name, WARNED, timestamp)
            value = judgement_value(StoredJudgement(judgement, 1, True))
            self.world.etcd.put(JUDGEMENT + name.encode(), value)
            self.put(name, "WN", age=WARNTIME - 2.0)
        ours = self.leading()
        self.assertEqual((ours.tracker.healthy, ours.tracker.warned), (1, 1))
        self.assertEqual(self.world.kinds(A), [])
        self.assertEqual(self.world.kinds(B), [RESTARTED])


class HandoverTests(MixedTestCase):
    """The lead passes from originals to a replica."""

    def test_warned_and_back(self) -> None:
        """A component that an original has warned about and heard again is told to be back."""
        ours = self.following()
        self.put(A, age=WARNTIME)
        self.put(A, "WN", age=WARNTIME)
        self.put(A, "WN")
        self.world.advance(0.5)
        self.lead(ours)
        self.assertEqual(self.world.kinds(A), [RESTARTED])
        self.assertEqual(self.world.etcd.records()[A]["Had_warning"], "")

    def test_declared_dead(self) -> None:
        """A warning that was not delivered is not told once an original has declared the death."""
        for name in (A, B):
            value = judgement_value(StoredJudgement(Judgement(name, WARNED, "t"), 1, False))
            self.world.etcd.put(JUDGEMENT + name.encode(), value)
        self.put(B, "WN", age=WARNTIME)
        self.leading()
        self.assertEqual((self.world.kinds(A), self.world.kinds(B)), ([], [WARNED]))
        self.assertNotIn(JUDGEMENT + A.encode(), self.world.etcd.keys)
