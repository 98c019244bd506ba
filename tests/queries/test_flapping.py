"""Components that change again and again are marked, from the log of transitions."""

from collections.abc import Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from hbtd.config.live_params import LiveParams
from hbtd.config.params import Params
from hbtd.queries.flapping import FlapWatch, Mark
from hbtd.store.interface import LogEntry, StoreUnusable
from hbtd.store.log_follower import LogFollower
from hbtd.store.memory import MemoryStore
from hbtd.store.past import EVERYTHING, Selection, Span
from hbtd.tracker.flapping import HOUR
from hbtd.tracker.observed import ObservedClock
from hbtd.tracker.tracker import Tracker
from hbtd.tracker.transitions import Judgement, Transition
from tests.support.hsm_memory import lines, nodes

A, B = nodes(2)
WALL = 1.8e9
MOST = 4


class SlowStore(MemoryStore):
    """A store that fails, or answers questions about the past when told to."""

    failing = False
    held: list[Deferred[None]] | None = None

    def history(
        self, span: Span, selection: Selection = EVERYTHING, most: int = 1000
    ) -> Deferred[Sequence[LogEntry]]:
        """Read, or fail, at once or later."""
        if self.failing:
            return fail(StoreUnusable("disk full"))
        found = super().history(span, selection, most)
        if self.held is None:
            return found
        later: Deferred[None] = Deferred()
        self.held.append(later)
        return later.addCallback(lambda _: found)


class WatchTestCase(SynchronousTestCase):
    """One replica or more on a log, with the time in the hands of a test."""

    def setUp(self) -> None:
        """Begin with an empty log."""
        self.clock = Clock()
        self.store = SlowStore("nid1:28500")
        self.successResultOf(self.store.open())
        self.marks: list[Mark] = []
        self.leads = True
        self.services: Sequence[Service] = ()
        self.watch = self.start()

    def wall(self) -> float:
        """Return the Unix time."""
        return WALL + float(self.clock.seconds())

    def start(self, **params: Any) -> FlapWatch:
        """Start a process on the log; the one before, if any, has ended."""
        for service in self.services:
            service.stopService()
        tracker = Tracker()
        for name in (A, B):
            tracker.beat(name, 0.0, "t", "OK")
        self.tracker = tracker
        self.params = LiveParams(Params(**{"flap_changes": MOST, "kv_url": "mem:", **params}))
        watch = FlapWatch(
            self.clock,
            self.wall,
            self.store,
            tracker,
            self.params,
            lambda: self.leads,
            self.marks.append,
        )
        observed = ObservedClock(self.clock.seconds, lambda: 10.0)
        follower = LogFollower(
            self.clock, self.wall, observed, self.store, tracker, lambda: 0.0, [watch]
        )
        self.services = (watch, follower)
        for service in self.services:
            service.startService()
        self.follower = follower
        self.pass_time(3)
        return watch

    def pass_time(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.pump([0.5] * round(2 * seconds))

    def change(self, name: str, times: int = 1, every: float = 1.0) -> None:
        """Let a component change its state."""
        for _ in range(times):
            judgement = Judgement(name, Transition.STARTED, "t").made_at(self.wall())
            self.successResultOf(self.store.commit([judgement]))
            self.follower.notify()
            self.pass_time(every)

    def said(self) -> list[tuple[str, bool]]:
        """Return the marks that have begun and ended."""
        return [(each.component, each.flapping) for each in self.marks]


class MarkTests(WatchTestCase):
    """Marks begin and end."""

    def test_begins_and_ends(self) -> None:
        """Each is announced once, with what is known, and has one line in the log."""
        with capturedLogs() as logged:
            self.change(A, MOST)
            self.assertEqual((self.said(), A in self.watch), ([], False))
            self.change(A, 3)
            self.assertEqual(self.said(), [(A, True)])
            self.assertEqual(self.marks[0].changes, MOST + 1)
            self.assertAlmostEqual(self.marks[0].at, self.wall() - 3, delta=1.1)
            self.assertEqual((self.watch.marked(), A in self.watch), ([A], True))
            self.pass_time(HOUR)
        self.assertEqual(self.said(), [(A, True), (A, False)])
        self.assertEqual((self.watch.marked(), A in self.watch), ([], False))
        self.assertEqual(
            lines(logged, "info"),
            [
                f"Flapping, with more than 4 state changes within an hour: {A}",
                f"No longer flapping, with 2 state changes or fewer within the last hour: {A}",
            ],
        )

    def test_several(self) -> None:
        """Several at once are announced each, and have one line together."""
        with capturedLogs() as logged:
            for _ in range(MOST + 1):
                made = [Judgement(x, Transition.DIED, "t").made_at(self.wall()) for x in (A, B)]
                self.successResultOf(self.store.commit(made))
            self.follower.notify()
            self.pass_time(1)
        self.assertEqual(self.said(), [(A, True), (B, True)])
        self.assertEqual(len(lines(logged, "info")), 1)
        self.assertIn("2 components: ", lines(logged, "info")[0])

    def test_follower(self) -> None:
        """A replica that does not lead has the same marks and events, and writes no lines."""
        self.leads = False
        with capturedLogs() as logged:
            self.change(A, MOST + 1)
        self.assertEqual((self.said(), lines(logged, "info")), ([(A, True)], []))

    def test_counted(self) -> None:
        """It is known how often each has changed within the last hour."""
        self.change(B, 3, every=600)
        self.assertEqual((self.watch.changes(A), self.watch.changes(B)), (0, 3))
        self.pass_time(1800)
        self.assertEqual(self.watch.changes(B), 2)

    def test_forgotten(self) -> None:
        """A component that is forgotten is not among the marked ones; if it is back, it is."""
        self.change(A, MOST + 1)
        self.tracker.forget(A)
        self.assertEqual(self.watch.marked(), [])
        self.tracker.beat(A, 1.0, "t", "OK")
        self.assertEqual(self.watch.marked(), [A])

    def test_shares_names(self) -> None:
        """Who is remembered takes no second copy of its name."""
        self.change(A, MOST + 1)
        component = self.tracker.component(A)
        assert component is not None
        (marked,) = self.watch.marked()
        self.assertIs(marked, component.xname)

    def test_off(self) -> None:
        """With 0 nothing is read, counted or marked."""
        self.store.failing = True
        watch = self.start(flap_changes=0)
        self.change(A, 200, every=0.5)
        self.assertEqual((watch.marked(), watch.changes(A), self.said()), ([], 0, []))
        self.follower.stopService()
        self.pass_time(5)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.params.patch({"Flap_changes": "0x4"})
        self.params.patch({"Flap_changes": "0"})
        self.pass_time(1)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class RestartTests(WatchTestCase):
    """What is known after a start, or with another limit."""

    def test_restart(self) -> None:
        """After a start the marks are as before, and are not announced anew; their ends are."""
        self.change(A, MOST + 1)
        self.change(B, MOST - 1)
        self.marks.clear()
        with capturedLogs() as logged:
            watch = self.start()
            self.assertEqual((watch.marked(), watch.changes(B)), ([A], MOST - 1))
            self.assertEqual((self.said(), lines(logged, "info")), ([], []))
        self.change(B, 2)
        self.assertEqual(self.said(), [(B, True)])
        self.marks.clear()
        self.pass_time(HOUR)
        self.assertEqual(sorted(self.said()), [(A, False), (B, False)])

    def test_long_log(self) -> None:
        """A log of many entries is read in portions; what is older than an hour does not matter."""
        old = [Judgement(B, Transition.DIED, "t").made_at(WALL - HOUR - 9)] * 50
        crowd = [Judgement(f"x9c0s{i}", Transition.DIED, "t").made_at(WALL) for i in range(1200)]
        often = [Judgement(A, Transition.DIED, "t").made_at(WALL)] * (MOST + 1)
        for made in (old, crowd, often):
            self.successResultOf(self.store.commit(made))
        self.clock.pump([0.0])
        self.assertEqual(self.start().marked(), [A])

    def test_changed_limit(self) -> None:
        """With another limit the marks are made anew, without being announced."""
        self.change(A, MOST + 1)
        self.change(B, MOST - 1)
        self.marks.clear()
        for most, marked in ((2, [A, B]), (0, []), (4, [A]), (50, [])):
            self.params.patch({"Flap_changes": str(most)})
            self.pass_time(3)
            self.assertEqual(sorted(self.watch.marked()), marked)
        self.assertEqual(self.said(), [])
        self.params.patch({"Flap_changes": "3"})
        self.pass_time(3)
        self.change(B, 1)
        self.assertEqual(self.said(), [(B, True)])

    def test_store_fails(self) -> None:
        """If the log can't be read, it is read when it can be; what comes meanwhile counts once."""
        self.change(A, MOST)
        self.store.failing = True
        watch = self.start()
        self.change(A, 1)
        self.marks.clear()
        self.assertEqual(watch.changes(A), 0)
        self.store.failing = False
        self.pass_time(2)
        self.assertEqual((watch.changes(A), watch.marked()), (MOST + 1, [A]))
        self.assertEqual(self.said(), [(A, True)])
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_ahead_of_the_follower(self) -> None:
        """What was read before the follower of the log passes it on counts once, too."""
        self.store.failing = True
        watch = self.start()
        made = Judgement(A, Transition.DIED, "t").made_at(self.wall())
        self.successResultOf(self.store.commit([made]))
        self.store.failing = False
        self.pass_time(1.5)
        self.assertEqual((watch.changes(A), self.follower.read_to), (1, 0))
        self.pass_time(6)
        self.assertEqual((watch.changes(A), self.follower.read_to), (1, 1))

    def test_entries_meanwhile(self) -> None:
        """Entries that come while the log is read count once, also if it was empty before."""
        for before in (0, 1):
            self.store.held = []
            self.change(A, before)
            watch = self.start()
            self.change(A, 2)
            known = watch.changes(A)
            for held in self.store.held:
                held.callback(None)
            self.store.held = None
            self.pass_time(3)
            self.assertEqual((known, watch.changes(A)), (0, 2 + 2 * before + before))

    def test_limit_changes_while_read(self) -> None:
        """A limit that changes while the log is read holds, and nothing counts twice."""
        for most, changes in ((10, 3), (0, 0)):
            self.change(A, 3 if most else 0)
            self.store.held = []
            watch = self.start()
            self.params.patch({"Flap_changes": str(most)})
            for held in self.store.held:
                held.callback(None)
            self.store.held = None
            self.pass_time(3)
            self.assertEqual((watch.changes(A), watch.marked()), (changes, []))
