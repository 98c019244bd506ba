"""The checkpointer by itself; `tests.test_monitor_handover` tests it with the monitor."""

import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from hbtd.config.live_params import LiveParams
from hbtd.config.params import Params
from hbtd.simulator.fleet import node_names
from hbtd.store.interface import StoreUnusable
from hbtd.store.memory import MemoryStore
from hbtd.tracker.cohorts import ORDINARY, Limits
from hbtd.tracker.observed import TICK, ObservedClock
from hbtd.tracker.records import Record
from hbtd.tracker.tracker import Tracker
from hbtd.tracker.transitions import Judgement, Transition
from tests.support.journal_memory import make_journal
from tests.support.slow_store import SharedStore


class SharedTests(SynchronousTestCase):
    """Checkpoints of a store that other replicas share."""

    def setUp(self) -> None:
        """Start a checkpointer without components."""
        self.start()

    def start(self, **params: Any) -> None:
        """Start a checkpointer with these parameters."""
        self.clock = Clock()
        self.observed = ObservedClock(self.clock.seconds, lambda: params.get("warntime", 10.0))
        self.tracker = Tracker(note_changes=True)
        self.store = SharedStore(self.clock)
        self.journal, self.checkpointer = make_journal(
            self.clock,
            self.observed,
            self.tracker,
            self.store,
            LiveParams(Params(kv_url="mem:", **params)),
            synchronized=lambda: self.synchronized,
        )
        self.synchronized = True
        self.checkpointer.begin()
        self.journal.begin()

    def beat(self, names: Sequence[str], seconds: float) -> None:
        """Let these components send ten heartbeats a second for `seconds`."""
        for _ in range(round(seconds / TICK)):
            self.clock.advance(TICK)
            self.observed.tick()
            self.tracker.tick(self.observed.ticked_at)
            for name in names:
                self.tracker.beat(name, self.observed.now(), "t", "OK")

    def test_few(self) -> None:
        """A replica with a thousand components writes their records every half a second."""
        self.beat(node_names(1000), 5.0)
        times = [at for at, _ in self.store.written]
        gaps = [later - at for at, later in pairwise(times[::2])]
        self.assertLess(max(gaps), 0.75)

    def test_many(self) -> None:
        """With more components, no record waits for longer than a third of `warntime`."""
        self.check_many()

    def test_many_alone(self) -> None:
        """The same is true of a store that is not shared."""
        self.store.shared = False
        self.check_many()

    def check_many(self, longest: float = 10 / 3, count: int = 20_000) -> None:
        """Check that the record of one of many components is written each `longest` seconds."""
        names = node_names(count)
        self.beat(names, 12.0)
        times = [at for at, some in self.store.written if names[0] in some]
        gaps = [later - at for at, later in pairwise(times)]
        self.assertGreater(min(gaps), longest * 0.6)
        self.assertLess(max(gaps), longest + 0.75)

    def test_judged_meanwhile(self) -> None:
        """A component that is judged during a checkpoint is written with its judgement instead."""
        names = node_names(1500)
        self.store.seconds = 0.5
        self.beat(names, 0.5)
        last = names[-1]
        self.journal.add([Judgement(last, Transition.STARTED, "t")])
        self.clock.pump([0.1] * 16)
        written = {name for _, some in self.store.written for name in some}
        self.assertEqual(len(written), len(names) - 1)
        self.assertFalse(last in written)
        self.assertTrue(self.checkpointer.has_news(last))
        self.clock.pump([0.1] * 10)
        self.assertEqual(self.store.committed, [last])

    def written(self) -> set[str]:
        """Return the components that were in any checkpoint."""
        return {name for _, names in self.store.written for name in names}

    def test_old_heartbeats(self) -> None:
        """A heartbeat that could not be stored for ten seconds, or for `warntime`, is dropped."""
        for params, seconds in (({"warntime": 30, "errtime": 60}, 10.0), ({"warntime": 5}, 5.0)):
            self.start(**params)
            self.store.failing = True
            self.beat(["x0"], 1.0)
            self.beat([], seconds - 0.5)
            self.assertTrue(self.checkpointer.has_news("x0"))
            self.assertEqual(self.checkpointer.unstored(), {"x0"})
            self.beat(["x1"], 0.8)
            self.assertFalse(self.checkpointer.has_news("x0"))
            self.assertEqual(self.checkpointer.unstored(), {"x1"})
            self.store.failing = False
            self.beat([], 2.0)
            self.assertEqual(self.written(), {"x1"})

    def test_old_by_its_own_warntime(self) -> None:
        """A heartbeat that could not be stored for its component's own warntime is dropped."""
        self.tracker.set_limits(lambda x: Limits(2.0, 4.0) if x == "x0" else ORDINARY)
        self.store.failing = True
        self.beat(["x0", "x1"], 1.0)
        self.beat([], 1.5)
        news = [self.checkpointer.has_news(name) for name in ("x0", "x1")]
        self.assertEqual((news, self.checkpointer.news()), ([True, True], {"x0", "x1"}))
        self.beat([], 0.6)
        news = [self.checkpointer.has_news(name) for name in ("x0", "x1")]
        self.assertEqual((news, self.checkpointer.news()), ([False, True], {"x1"}))
        self.assertEqual(self.checkpointer.unstored(), {"x1"})
        self.store.failing = False
        self.beat([], 2.0)
        self.assertEqual(self.written(), {"x1"})

    def test_many_with_a_short_warntime(self) -> None:
        """No record waits for longer than a third of the shortest warntime that is in use."""
        self.tracker.set_limits(lambda x: Limits(3.0, 6.0) if x.endswith("n0") else ORDINARY)
        self.check_many(1.0, 6000)

    def test_old_heartbeats_in_a_slow_store(self) -> None:
        """Heartbeats that become too old while others are stored are not stored."""
        self.start(warntime=30, errtime=60)
        self.store.seconds = 6.0
        names = node_names(1500)
        self.beat(names, 0.5)
        self.beat([], 20.0)
        # Three batches: the last one could begin after twelve seconds.
        self.assertEqual(self.written(), set(names[:1000]))

    def test_old_heartbeats_alone(self) -> None:
        """In a store that is not shared, heartbeats are stored however late."""
        self.store.shared = False
        self.store.failing = True
        self.beat(["x0"], 1.0)
        self.beat([], 60.0)
        self.assertTrue(self.checkpointer.has_news("x0"))
        self.store.failing = False
        self.beat([], 2.0)
        self.assertEqual(self.written(), {"x0"})

    def test_old_heartbeats_judged(self) -> None:
        """A heartbeat counts for as long as its judgement could not be committed."""
        self.store.failing = True
        self.beat(["x0"], 1.0)
        self.journal.add([Judgement("x0", Transition.STARTED, "t")])
        self.beat([], 30.0)
        self.assertTrue(self.checkpointer.has_news("x0"))
        self.assertEqual(self.checkpointer.unstored(), {"x0"})
        self.store.failing = False
        self.beat([], 3.0)
        self.assertEqual(self.store.committed, ["x0"])

    def test_read_late(self) -> None:
        """What may have been sent before a long stall is stored later, and is no news to others."""
        for params, stall in (({"warntime": 30, "errtime": 60}, 10.0), ({"warntime": 5}, 5.0)):
            self.start(**params)
            self.beat(["x0", "x1"], 1.0)
            self.store.written.clear()
            self.clock.advance(stall)
            self.beat(["x0"], 1.5)
            self.assertEqual(self.written(), set())
            self.assertFalse(self.checkpointer.has_news("x0"))
            self.assertEqual(self.checkpointer.news(), set())
            self.assertEqual(self.checkpointer.unstored(), {"x0"})
            self.synchronized = False  # judgements of others have yet to arrive
            self.beat([], 1.0)
            self.assertEqual(self.written(), set())
            self.synchronized = True
            self.beat(["x1"], 0.3)
            self.assertTrue(self.checkpointer.has_news("x1"))
            self.beat([], 1.0)
            self.assertEqual(self.written(), {"x0", "x1"})
            # The last one to be heard before a stall is not heard now.
            self.store.written.clear()
            self.beat(["x2"], TICK)
            self.clock.advance(stall + 0.5)
            self.beat([], 3.0)
            self.assertEqual(self.written(), set())

    def test_judged_late(self) -> None:
        """Judgements of a follower from before a long stall are committed when it has caught up."""
        self.beat(["x0"], 1.0)
        self.journal.add([Judgement("x0", Transition.STARTED, "t")])
        self.clock.advance(30.0)
        self.beat([], TICK)
        self.assertFalse(self.checkpointer.has_news("x0"))
        self.assertEqual(self.checkpointer.old_judgements(), {"x0"})
        self.assertEqual(self.checkpointer.news(), set())
        self.synchronized = False
        self.beat([], 5.0)
        self.assertEqual(self.store.commits, [])
        self.synchronized = True
        self.beat([], 2.0)
        self.assertEqual(self.store.committed, ["x0"])

    def test_judged_late_by_the_leader(self) -> None:
        """The leader commits at once, also after a long stall: it would have lost the lock."""
        self.journal.lead()
        self.beat(["x0"], 1.0)
        self.journal.add([Judgement("x0", Transition.STARTED, "t")])
        self.clock.advance(30.0)
        self.beat([], 0.2)
        self.assertEqual(self.store.committed, ["x0"])

    def test_judged_while_the_store_failed(self) -> None:
        """A judgement that waits for the store is news, but for one that also waited for us."""
        self.store.failing = True
        self.beat(["x0"], 1.0)
        self.journal.add([Judgement("x0", Transition.STARTED, "t")])
        self.beat([], 30.0)
        self.assertEqual(self.checkpointer.news(), {"x0"})
        self.clock.advance(10.0)
        self.beat([], TICK)
        self.assertEqual(self.checkpointer.news(), set())
        self.checkpointer.withdraw("x0")
        self.assertFalse(self.checkpointer.has_uncommitted("x0"))
        self.store.failing = False
        self.beat([], 5.0)
        self.assertEqual(self.store.committed, [])

    def test_finish(self) -> None:
        """The last checkpoint is made however long ago the observed clock was stopped."""
        self.beat(["x0"], 1.05)
        self.checkpointer.end()
        self.store.written.clear()
        self.tracker.beat("x0", self.observed.now(), "t", "OK")
        self.clock.advance(20.0)
        Deferred.fromCoroutine(self.checkpointer.finish(5.0))
        self.clock.advance(TICK)
        self.assertEqual(self.written(), {"x0"})

    def test_short_stalls(self) -> None:
        """After a shorter stall, nobody can have judged meanwhile: all is news."""
        self.start(warntime=30, errtime=60)
        self.beat(["x0", "x1"], 1.0)
        for _ in range(20):
            self.clock.advance(9.0)
            self.beat(["x0"], 0.2)
            self.assertTrue(self.checkpointer.has_news("x0"))

    def test_slow(self) -> None:
        """A store that has just failed is not called slow as well."""
        self.start(warntime=30, errtime=60)
        self.store.failing = True
        self.beat(["x0"], 5.0)
        self.assertTrue(self.checkpointer.late)
        self.store.failing = False
        self.store.seconds = 10.0
        self.beat(["x0"], 1.0)
        self.assertEqual((self.checkpointer.late, self.checkpointer.slow), (True, False))
        self.beat(["x0"], 5.0)
        self.assertTrue(self.checkpointer.slow)
        # Nor is it called slow because this process was stopped.
        self.store.seconds = 0.0
        self.beat(["x0"], 12.0)
        self.clock.rightNow += 20.0
        for seconds in (0.0, 1.0):  # at first, no timer has run yet
            self.beat(["x0"], seconds)
            self.assertEqual((self.checkpointer.late, self.checkpointer.slow), (True, False))

    def test_forgotten_and_heard_again(self) -> None:
        """A component that is heard again while the store forgets others is not forgotten."""
        names = node_names(2)
        self.store.failing = True
        for name in names:
            self.tracker.beat(name, self.observed.now(), "t", "OK")
            self.tracker.forget(name)
            self.journal.forget(name)
        self.store.failing, self.store.held = False, []
        self.clock.advance(0.5)
        for name in names:
            self.tracker.beat(name, self.observed.now(), "t", "OK")
        for held in self.store.held:
            held.callback(None)
        self.assertEqual(len(self.store.forgotten), 1)

    def test_being_forgotten(self) -> None:
        """While the store forgets a component it is not told so again; only if that fails it is."""
        for failing in (False, True):
            self.start()
            self.store.held = []
            self.tracker.beat("x0", self.observed.now(), "t", "OK")
            self.tracker.forget("x0")
            self.journal.forget("x0")
            self.clock.advance(1.0)
            self.assertEqual(len(self.store.held), 1)
            (held,), self.store.held = self.store.held, None
            if failing:
                held.errback(StoreUnusable("not now"))
                self.clock.advance(1.0)
            else:
                held.callback(None)
            self.assertEqual(self.store.forgotten, ["x0"] * (1 + failing))

    def test_end(self) -> None:
        """At the end, the records of what was heard since the last checkpoint are stored."""
        self.beat(["x0"], 0.3)
        self.checkpointer.end()
        finishing = Deferred.fromCoroutine(self.checkpointer.finish(3.0))
        self.clock.advance(0.1)
        self.successResultOf(finishing)
        self.assertEqual(self.written(), {"x0"})

    def test_end_is_bounded(self) -> None:
        """A store that takes too long at the end is given up; the log says what that means."""
        self.beat(["x0"], 0.3)
        self.store.seconds = 60.0
        self.checkpointer.end()
        with capturedLogs() as events:
            finishing = Deferred.fromCoroutine(self.checkpointer.finish(3.0))
            self.clock.advance(2.9)
            self.assertNoResult(finishing)
            self.clock.advance(0.2)
        self.successResultOf(finishing)
        self.assertIn("could not be stored in time", str(formatEvent(events[-1])))


class PagingStore(MemoryStore):
    """A store that notes how many records it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.pages: list[int] = []
        """The number of records in each answer."""

    def records(self, after: str = "", most: int = sys.maxsize) -> Deferred[Sequence[Record]]:
        """Return records, and note their number."""
        page = self.successful(super().records(after, most))
        self.pages.append(len(page))
        return succeed(page)

    def successful(self, deferred: Deferred[Sequence[Record]]) -> Sequence[Record]:
        """Return the result of a Deferred that has fired."""
        found: list[Sequence[Record]] = []
        deferred.addCallback(found.append)
        return found[0]


class RestoreTests(SynchronousTestCase):
    """The start."""

    def setUp(self) -> None:
        """Make a checkpointer of a store."""
        self.clock = Clock()
        self.store = PagingStore()
        self.tracker = Tracker()
        _, self.checkpointer = make_journal(
            self.clock,
            ObservedClock(self.clock.seconds, lambda: 10.0),
            self.tracker,
            self.store,
            LiveParams(Params(kv_url="mem:", warntime=10, errtime=30)),
        )

    def restore(self) -> None:
        """Restore the tracker from the store."""
        self.successResultOf(Deferred.fromCoroutine(self.checkpointer.restore()))

    def test_pages(self) -> None:
        """However many records there are, no more than 2,000 are in memory beside the tracker."""
        names = node_names(4500)
        self.store.checkpoint([Record(name, 1.0, "t", "OK", False) for name in names])
        self.restore()
        self.assertEqual(self.store.pages, [2000, 2000, 500, 0])
        self.assertEqual(set(self.tracker.living()), set(names))

    def test_order(self) -> None:
        """Of components on different pages, the one that was heard first is judged first."""
        names = sorted(node_names(3000))
        ages = {name: 20.0 - i / 1000 for i, name in enumerate(reversed(names))}
        self.store.checkpoint([Record(name, age, "t", "OK", True) for name, age in ages.items()])
        self.restore()
        died = self.tracker.sweep(11.0, 10.0, 30.0, 5000)
        self.assertEqual([each.component for each in died], names[:0:-1][: len(died)])
        self.assertGreater(len(died), 900)

    def test_dead(self) -> None:
        """Whoever died is dead; whoever started, and HSM was not told of, is not."""
        self.store.commit([Judgement("x0", Transition.DIED, "t")])
        self.store.commit([Judgement("x1", Transition.WARNED, "t")])
        self.store.commit([Judgement("x2", Transition.STARTED, "t")])
        self.store.checkpoint([Record("x2", 1.0, "t", "OK", False)])
        self.restore()
        self.assertEqual(list(self.tracker.dead_components()), ["x0"])
        self.assertEqual(list(self.tracker.living()), ["x2"])
