"""The ledger by itself; with the monitor around it, it is tested in `test_monitor_handover`."""

from collections.abc import Sequence

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from hbtd.ledger import Ledger
from hbtd.params import LiveParams, Params
from hbtd.store.memory import MemoryStore
from hbtd.tracker.observed import ObservedClock
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
