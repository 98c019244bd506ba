"""The ledger by itself; with the monitor around it, it is tested in `test_monitor_handover`."""

from collections.abc import Sequence
from itertools import pairwise

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase

from hbtd.config.params import LiveParams, Params
from hbtd.simulator.fleet import node_names
from hbtd.store.ledger import Ledger
from hbtd.store.memory import MemoryStore
from hbtd.tracker.observed import TICK, ObservedClock
from hbtd.tracker.records import Record
from hbtd.tracker.tracker import Tracker
from hbtd.tracker.transitions import Judgement, Transition


class FaultTests(SynchronousTestCase):
    """What a fault of hbtd's own does not do."""

    def test_handing_on_fails(self) -> None:
        """When handing on raises, that is logged, and what comes next is handed on all the same."""
        clock = Clock()
        told: list[Judgement] = []

        def tell(judgements: Sequence[Judgement]) -> None:
            if judgements[0].component == "x0":
                raise RuntimeError("no")
            told.extend(judgements)

        ledger = Ledger(
            clock,
            ObservedClock(clock.seconds, lambda: 10.0),
            Tracker(),
            MemoryStore(),
            LiveParams(Params(kv_url="mem:")),
            tell,
        )
        ledger.begin()
        first, second = (Judgement(name, Transition.STARTED, "t") for name in ("x0", "x1"))
        ledger.add([first])
        clock.advance(1)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        ledger.add([second])
        clock.advance(1)
        self.assertEqual(told, [second])


class SharedStore(MemoryStore):
    """A store that others use, too, and that takes its time."""

    durable = True
    shared = True
    gather = 0.5

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self.seconds = 0.0
        """How long it takes to write a portion."""
        self.written: list[tuple[float, list[str]]] = []
        """Whose records were to be written, and when."""
        self.committed: list[str] = []
        """Whose records were committed with judgements."""

    def commit(
        self, judgements: Sequence[Judgement], records: Sequence[Record] = ()
    ) -> Deferred[bool]:
        """Note whose records go with judgements; takes as long as a few portions."""

        def done() -> bool:
            self.committed += [record.component for record in records]
            return True

        return deferLater(self._clock, 4 * self.seconds, done)

    def checkpoint(self, records: Sequence[Record]) -> Deferred[None]:
        """Note what is to be kept."""
        if records:
            names = [record.component for record in records]
            self.written.append((self._clock.seconds(), names))
        return deferLater(self._clock, self.seconds)


class SharedTests(SynchronousTestCase):
    """What is written to a store that others share, and when."""

    def setUp(self) -> None:
        """Begin with nobody heard."""
        self.clock = Clock()
        self.observed = ObservedClock(self.clock.seconds, lambda: 10.0)
        self.tracker = Tracker(note_changes=True)
        self.store = SharedStore(self.clock)
        self.ledger = Ledger(
            self.clock,
            self.observed,
            self.tracker,
            self.store,
            LiveParams(Params(kv_url="mem:")),
            lambda judgements: None,
        )
        self.ledger.begin()

    def beat(self, names: Sequence[str], seconds: float) -> None:
        """Let these beat ten times a second for so long."""
        for _ in range(round(seconds / TICK)):
            self.clock.advance(TICK)
            self.observed.tick()
            self.tracker.tick(self.observed.ticked_at)
            for name in names:
                self.tracker.beat(name, self.observed.now(), "t", "OK")

    def test_few(self) -> None:
        """A replica that hears a few thousand in three seconds writes every half a second."""
        self.beat(node_names(1000), 5.0)
        times = [at for at, _ in self.store.written]
        gaps = [later - at for at, later in pairwise(times[::2])]
        self.assertLess(max(gaps), 0.75)

    def test_many(self) -> None:
        """Of more no record waits for more than a third of the time until a warning."""
        self.check_many()

    def test_many_alone(self) -> None:
        """That is the same where nobody else uses the store."""
        self.store.shared = False
        self.check_many()

    def check_many(self) -> None:
        """See how often the record of one of many is written."""
        names = node_names(20_000)
        self.beat(names, 12.0)
        times = [at for at, some in self.store.written if names[0] in some]
        gaps = [later - at for at, later in pairwise(times)]
        self.assertGreater(min(gaps), 2.0)
        self.assertLess(max(gaps), 10 / 3 + 0.75)

    def test_judged_meanwhile(self) -> None:
        """Who is judged while others are written is left to its judgement's commit."""
        names = node_names(1500)
        self.store.seconds = 0.5
        self.beat(names, 0.5)
        last = names[-1]
        self.ledger.add([Judgement(last, Transition.STARTED, "t")])
        self.clock.pump([0.1] * 16)
        written = {name for _, some in self.store.written for name in some}
        self.assertEqual(len(written), len(names) - 1)
        self.assertFalse(last in written)
        self.assertTrue(self.ledger.has_news_of(last))
        self.clock.pump([0.1] * 10)
        self.assertEqual(self.store.committed, [last])
