"""Work that is done again and again."""

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from hbtd.runtime.periodic import periodic


class PeriodicTests(SynchronousTestCase):
    """What becomes of work that fails, or takes long."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.done: list[float] = []

    def test_outlives_exceptions(self) -> None:
        """Work that raises is done again in its time, and what it raised is logged."""

        def work() -> None:
            self.done.append(self.clock.seconds())
            raise RuntimeError("no")

        loop = periodic(self.clock, work)
        loop.start(1.0)
        self.clock.pump([1.0] * 3)
        loop.stop()
        self.assertEqual(self.done, [0.0, 1.0, 2.0, 3.0])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 4)

    def test_outlives_failures(self) -> None:
        """So is a coroutine that fails later."""

        async def work() -> None:
            self.done.append(self.clock.seconds())
            await Deferred().addTimeout(0.5, self.clock)

        loop = periodic(self.clock, work)
        loop.start(1.0)
        self.clock.pump([0.5] * 4)
        loop.stop()
        self.assertEqual(self.done, [0.0, 1.0, 2.0])
        self.assertEqual(len(self.flushLoggedErrors()), 2)

    def test_never_overlaps(self) -> None:
        """Work that takes long is not begun again before it is done."""
        waiting: list[Deferred[None]] = []

        async def work() -> None:
            self.done.append(self.clock.seconds())
            waiting.append(Deferred())
            await waiting[-1]

        loop = periodic(self.clock, work)
        loop.start(1.0)
        self.clock.pump([1.0] * 3)
        self.assertEqual(self.done, [0.0])
        waiting[0].callback(None)
        self.clock.advance(1.0)
        self.assertEqual(self.done, [0.0, 4.0])
        loop.stop()
