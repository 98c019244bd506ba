"""The journal by itself; `tests.test_monitor_handover` tests it with the monitor."""

from collections.abc import Sequence
from itertools import pairwise

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from hbtd.config.live_params import LiveParams
from hbtd.config.params import Params
from hbtd.store.interface import StoreUnusable
from hbtd.store.memory import MemoryStore
from hbtd.tracker.observed import ObservedClock
from hbtd.tracker.records import Record
from hbtd.tracker.tracker import Tracker
from hbtd.tracker.transitions import Judgement, Phase, Transition
from tests.support.journal_memory import WALL, make_journal
from tests.support.slow_store import SharedStore


class FaultTests(SynchronousTestCase):
    """The journal outlives errors of its callback."""

    def test_callback_fails(self) -> None:
        """An error while passing judgements on is logged, and the next ones are passed on."""
        clock = Clock()
        told: list[Judgement] = []

        def tell(judgements: Sequence[Judgement]) -> None:
            if judgements[0].component == "x0":
                raise RuntimeError("no")
            told.extend(judgements)

        journal, _ = make_journal(
            clock,
            ObservedClock(clock.seconds, lambda: 10.0),
            Tracker(),
            MemoryStore(),
            LiveParams(Params(kv_url="mem:")),
            [tell],
        )
        journal.lead()
        journal.begin()
        first, second = (Judgement(name, Transition.STARTED, "t") for name in ("x0", "x1"))
        journal.add([first])
        clock.advance(1)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        journal.add([second])
        clock.advance(1)
        self.assertEqual(told, [second])

    def test_logged(self) -> None:
        """The log has a line for each transition, with the components as a sorted nodeset."""
        clock = Clock()
        journal, _ = make_journal(
            clock,
            ObservedClock(clock.seconds, lambda: 10.0),
            Tracker(),
            MemoryStore(),
            LiveParams(Params(kv_url="mem:")),
            [],
        )
        journal.lead()
        journal.begin()
        names = [f"x1000c7s{slot}b0n{node}" for slot in range(10, -1, -1) for node in (1, 0)]
        with capturedLogs() as events:
            journal.add([Judgement(name, Transition.DIED, "t") for name in names])
            journal.add([Judgement("x1c0", Transition.STARTED, "t")])
            clock.advance(1)
        self.assertEqual(
            [formatEvent(event) for event in events],
            [
                "Heartbeat stopped -- declared dead: 22 components: x1000c7s[0-10]b0n[0-1]",
                "Heartbeat started: x1c0",
            ],
        )

    def test_when(self) -> None:
        """Judgements are committed and passed on with the time when they were made."""
        clock = Clock()
        told: list[Judgement] = []
        journal, _ = make_journal(
            clock,
            ObservedClock(clock.seconds, lambda: 10.0),
            Tracker(),
            MemoryStore(),
            LiveParams(Params(kv_url="mem:")),
            [told.extend],
        )
        journal.lead()
        journal.begin()
        earlier = Judgement("x1", Transition.DIED, "t", Phase.WARNED, "silent", 7.5)
        journal.add([Judgement("x0", Transition.DIED, "t", Phase.WARNED, "silent"), earlier])
        clock.advance(1)
        self.assertEqual([each.at for each in told], [WALL, 7.5])
        self.assertEqual({(each.before, each.why) for each in told}, {(Phase.WARNED, "silent")})


class ForgettingTests(SynchronousTestCase):
    """Components that are forgotten while a judgement on them is being committed."""

    def setUp(self) -> None:
        """Begin to commit the start of a component, which takes two seconds."""
        self.clock = Clock()
        self.store = SharedStore(self.clock)
        self.store.seconds = 0.5
        self.tracker = Tracker()
        self.journal, checkpointer = make_journal(
            self.clock,
            ObservedClock(self.clock.seconds, lambda: 10.0),
            self.tracker,
            self.store,
            LiveParams(Params(kv_url="mem:")),
        )
        checkpointer.begin()
        self.journal.begin()

    def start(self) -> None:
        """Start committing."""
        self.journal.add([Judgement("x0", Transition.STARTED, "t")])
        self.clock.advance(0.2)

    def test_once(self) -> None:
        """The store, which does one thing after the other, is told once to forget."""
        self.start()
        self.journal.forget("x0")
        self.clock.pump([0.1] * 100)
        self.assertEqual(self.store.forgotten, ["x0"])

    def test_again(self) -> None:
        """If the commit is tried again, the store has to forget again what that has stored."""
        for heard in (False, True):
            self.setUp()
            self.store.failing = True
            self.start()
            self.store.failing = False
            self.journal.forget("x0")
            if heard:
                self.tracker.beat("x0", 0.0, "t", "OK")
            self.clock.pump([0.1] * 100)
            # Not if it is tracked again: then it must not forget that.
            self.assertEqual(self.store.forgotten, ["x0"] * (1 if heard else 2))


class Uncancellable(MemoryStore):
    """A store whose commits never end, and fail like any other call if they are cancelled."""

    durable = True

    def __init__(self) -> None:
        super().__init__()
        self.tried = 0

    def commit(
        self, judgements: Sequence[Judgement], records: Sequence[Record] = ()
    ) -> Deferred[bool]:
        """Wait for the cancellation, and fail."""
        self.tried += 1
        return Deferred(lambda call: call.errback(StoreUnusable("etcd: no such name")))


class CloseTests(SynchronousTestCase):
    """The end of the journal."""

    def test_cancelled(self) -> None:
        """A commit that is given up is not tried again, although it fails like any other."""
        clock = Clock()
        store = Uncancellable()
        journal, _ = make_journal(
            clock,
            ObservedClock(clock.seconds, lambda: 10.0),
            Tracker(),
            store,
            LiveParams(Params(kv_url="mem:", sm_timeout=3)),
        )
        journal.begin()
        journal.add([Judgement("x0", Transition.STARTED, "t")])
        clock.advance(1)
        with capturedLogs() as events:
            closing = Deferred.fromCoroutine(journal.close(3.0))
            clock.advance(3)
        self.assertFalse(self.successResultOf(closing))
        self.assertIn("1 judgement could not be committed", str(formatEvent(events[-1])))
        clock.pump([1] * 60)
        self.assertEqual(store.tried, 1)


class RetryTests(SynchronousTestCase):
    """Commits that fail."""

    def setUp(self) -> None:
        """Begin a journal."""
        self.clock = Clock()
        self.store = SharedStore(self.clock)
        self.journal, _ = make_journal(
            self.clock,
            ObservedClock(self.clock.seconds, lambda: 10.0),
            Tracker(),
            self.store,
            LiveParams(Params(kv_url="mem:")),
        )
        self.journal.begin()

    def test_retries(self) -> None:
        """A failed commit is tried again after pauses that grow, and are short again later."""
        for seconds in (4.0, 2.0):
            self.store.commits.clear()
            self.store.failing = True
            self.journal.add([Judgement("x0", Transition.STARTED, "t")])
            self.clock.pump([0.1] * round(10 * seconds))
            pauses = [later - at for at, later in pairwise(self.store.commits)]
            self.assertGreater(len(pauses), 0)
            self.assertApproximates(pauses[0], 0.8, 0.1)
            self.assertEqual(pauses, sorted(pauses))
            self.assertLess(max(pauses), 1.8)
            self.store.failing = False
            self.clock.pump([0.1] * 20)
