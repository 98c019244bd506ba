"""Long silences get from the tracker into the store's table."""

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from hbtd.store.condition import StoreCondition
from hbtd.store.interface import StoreUnusable
from hbtd.store.memory import MemoryStore
from hbtd.store.past import Noticed
from hbtd.store.silences import SilenceKeeper
from hbtd.tracker.components import Component
from hbtd.tracker.observed import ObservedClock
from hbtd.tracker.silences import LongSilence, Silences
from hbtd.tracker.tracker import Tracker

A = "x1000c0s0b0n0"
T0 = 1e9


class HeldStore(MemoryStore):
    """A store that waits until the test lets it go on, or fails."""

    broken = False
    held: Deferred[None] | None = None
    calls = 0

    def keep_silences(self, silences: Sequence[LongSilence], noticed: Noticed) -> Deferred[None]:
        """Store silences, perhaps later, or fail."""
        self.calls += 1
        if self.broken:
            return fail(StoreUnusable("broken"))
        keep = super().keep_silences
        if self.held is None:
            return keep(silences, noticed)
        return self.held.addCallback(lambda _: keep(silences, noticed))


class KeeperTests(SynchronousTestCase):
    """The service that moves them."""

    def setUp(self) -> None:
        """Begin with a store that works, at second 100 of the observed clock."""
        self.clock = Clock()
        self.observed = ObservedClock(self.clock.seconds, lambda: 10.0, wall=self.wall)
        self.pass_time(100.0)
        self.store = HeldStore()
        self.successResultOf(self.store.open())
        self.silences = Silences()
        self.keeper = self.make()
        self.keeper.startService()
        self.stopped = False
        self.addCleanup(self.stop)

    def make(self) -> SilenceKeeper:
        """Make a keeper of the silences that wait."""
        return SilenceKeeper(
            self.clock,
            self.wall,
            self.observed,
            self.silences,
            self.store,
            StoreCondition(self.store, self.clock.seconds),
        )

    def wall(self) -> float:
        """Return the Unix time."""
        return T0 + self.clock.seconds()

    def pass_time(self, seconds: float) -> None:
        """Let hbtd hear for some time, in steps that add up exactly."""
        for _ in range(round(seconds * 8)):
            self.clock.advance(0.125)
            self.observed.tick()

    def stop(self) -> None:
        """Stop the keeper, once."""
        if not self.stopped:
            self.stopped = True
            self.successResultOf(Deferred.fromCoroutine(self.keeper.stop()))

    def end(self, seconds: float = 40.0, xname: str = A) -> None:
        """Let a silence end now."""
        at = self.observed.now()
        self.silences.end(Component(xname, at - seconds, "t", "OK"), at)

    def table(self) -> Any:
        """Return what is in the table, the times rounded."""
        return self.rounded(self.successResultOf(self.store.silences(most=10**6)).silences)

    @staticmethod
    def rounded(silences: Sequence[LongSilence]) -> list[LongSilence]:
        """Return silences, the times rounded."""
        return [
            each._replace(ended=round(each.ended, 3), seconds=round(each.seconds, 3))
            for each in silences
        ]

    def whole_since(self) -> float:
        """Return since when no silence is missing."""
        stored = self.successResultOf(self.store.silences()).whole_since
        return self.keeper.whole_since(stored)

    def test_stored(self) -> None:
        """They are stored within five seconds, with the Unix time at which they ended."""
        self.pass_time(2.0)
        self.end()
        self.assertEqual(self.table(), [])
        self.pass_time(3.0)
        self.assertEqual(self.table(), [LongSilence(A, T0 + 102, 40.0)])
        self.pass_time(10.0)
        self.assertEqual(self.store.calls, 1)

    def test_dated_after_a_stall(self) -> None:
        """That time is right even if hbtd has not heard since then."""
        self.end()
        self.clock.advance(4.0)
        self.observed.tick()
        self.assertEqual(self.table(), [])
        self.pass_time(1.0)
        self.assertEqual(self.table(), [LongSilence(A, T0 + 100, 40.0)])

    def test_each_in_one_place(self) -> None:
        """Each is either in the table or among those that wait, also while it is stored."""
        self.store.held = Deferred()
        self.end(40.0)
        self.pass_time(5.0)
        self.end(41.0)
        waiting = self.rounded(self.keeper.dated(self.keeper.waiting()))
        both = [LongSilence(A, T0 + 100, 40.0), LongSilence(A, T0 + 105, 41.0)]
        self.assertEqual((self.table(), waiting), ([], both))
        self.store.held.callback(None)
        self.assertEqual((self.table(), self.keeper.waiting()), (both, []))

    def test_broken(self) -> None:
        """What can't be stored is stored later, before what comes after it, and waits meanwhile."""
        self.store.broken = True
        self.end(40.0)
        self.pass_time(5.0)
        self.end(41.0)
        self.assertEqual([round(each.seconds) for each in self.keeper.waiting()], [40, 41])
        self.store.broken = False
        self.pass_time(5.0)
        self.assertEqual([each.seconds for each in self.table()], [40.0, 41.0])

    def test_many(self) -> None:
        """Many are stored in portions, and no more than ten thousand at once."""
        for number in range(10_600):
            self.end(xname=f"x{number}")
        self.pass_time(5.0)
        self.assertEqual((len(self.table()), self.store.calls), (10_000, 20))
        self.pass_time(5.0)
        self.assertEqual((len(self.table()), self.store.calls), (10_600, 22))

    def test_stopped(self) -> None:
        """At the end all of them are stored."""
        for number in range(10_600):
            self.end(xname=f"x{number}")
        self.stop()
        self.assertEqual(len(self.table()), 10_600)

    def test_whole_since(self) -> None:
        """None is missing since the keeper was started, or since what an earlier process says."""
        self.assertEqual(self.whole_since(), T0 + 100)
        self.end()
        self.pass_time(5.0)
        self.assertEqual(self.whole_since(), T0 + 100)
        self.assertEqual(self.keeper.whole_since(T0 - 900), T0 - 900)

    def test_missed(self) -> None:
        """The store is told of the longest period that was not kept, when it has become longer."""
        tracker = Tracker()
        self.silences = tracker.silences
        self.keeper = self.make()
        self.keeper.startService()
        self.pass_time(10.0)
        self.assertEqual(self.store.calls, 0)
        for wait in (0.0, 3.0, 3.0):
            self.pass_time(wait)
            tracker.beat(A, self.observed.now(), "t", "OK")
        self.pass_time(4.0)
        tracker.beat(A, self.observed.now(), "t", "OK")
        self.assertEqual(self.said(), [Noticed(T0 + 100, 3.0)])
        self.assertEqual(self.store.calls, 1)
        self.stop()
        self.assertEqual(self.said(), [Noticed(T0 + 100, 4.0)])

    def said(self) -> Any:
        """Return what processes have said of the silences that they noticed."""
        return self.successResultOf(self.store.silences()).noticed

    def test_lost(self) -> None:
        """If too many wait, the table is whole only since the last one ended that was lost."""
        self.lose()
        self.assertAlmostEqual(self.whole_since(), T0 + 101, 3)

    def test_lost_for_good(self) -> None:
        """The store is told of that, too, and will know it after a restart."""
        self.lose()
        self.pass_time(2.0)
        self.assertEqual(len(self.table()), 2)
        stored = self.successResultOf(self.store.silences()).whole_since
        self.assertAlmostEqual(stored or 0.0, T0 + 101, 3)

    def lose(self) -> None:
        """Let three silences end in three seconds, where two can wait."""
        self.silences = Silences(2)
        self.keeper = self.make()
        self.keeper.startService()
        for _ in range(3):
            self.pass_time(1.0)
            self.end()
