"""Periodic tasks."""

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from hbtd.runtime.periodic import PeriodicService, Work


class PeriodicServiceTests(SynchronousTestCase):
    """When work runs, and what becomes of runs that fail, or take long."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.done: list[float] = []
        self.waiting: list[Deferred[None]] = []

    def note(self) -> None:
        """Note when work ran."""
        self.done.append(self.clock.seconds())

    async def wait(self) -> None:
        """Note when work ran, and take until it is told to end."""
        self.note()
        self.waiting.append(Deferred())
        await self.waiting[-1]

    def start(self, work: Work, *, now: bool = True) -> PeriodicService:
        """Run some work once a second."""
        service = PeriodicService(self.clock, 1.0, work, "the work", now=now)
        service.startService()
        return service

    def test_first_run(self) -> None:
        """The first run comes at the start, or one interval later."""
        self.start(self.note)
        self.start(self.note, now=False)
        self.assertEqual(self.done, [0.0])
        self.clock.advance(1.0)
        self.assertEqual(self.done, [0.0, 1.0, 1.0])

    def test_survives_exceptions(self) -> None:
        """Work that raises runs again when its time comes, and what it raised is logged."""

        def work() -> None:
            self.note()
            raise RuntimeError("no")

        service = self.start(work)
        self.clock.pump([1.0] * 3)
        service.stopService()
        self.assertEqual(self.done, [0.0, 1.0, 2.0, 3.0])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 4)

    def test_survives_failures(self) -> None:
        """So does a coroutine that fails later."""

        async def work() -> None:
            self.note()
            await Deferred().addTimeout(0.5, self.clock)

        service = self.start(work)
        self.clock.pump([0.5] * 4)
        service.stopService()
        self.assertEqual(self.done, [0.0, 1.0, 2.0])
        self.assertEqual(len(self.flushLoggedErrors()), 2)

    def test_never_overlaps(self) -> None:
        """A run that outlasts the interval delays the next one."""
        self.start(self.wait)
        self.clock.pump([1.0] * 3)
        self.assertEqual(self.done, [0.0])
        self.waiting[0].callback(None)
        self.clock.advance(1.0)
        self.assertEqual(self.done, [0.0, 4.0])

    def test_stop(self) -> None:
        """A stopped one runs no more, and says at once that it has finished."""
        service = self.start(self.note)
        self.assertIsNone(self.successResultOf(service.stopService()))
        self.clock.pump([1.0] * 3)
        self.assertEqual(self.done, [0.0])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stop_twice(self) -> None:
        """Stopping one that does not run has no effect."""
        service = PeriodicService(self.clock, 1.0, self.note, "the work")
        self.assertIsNone(self.successResultOf(service.stopService()))
        self.assertIsNone(self.successResultOf(service.stopService()))

    def test_stop_waits(self) -> None:
        """Stopping has finished when the run in hand has."""
        service = self.start(self.wait)
        stopping = service.stopService()
        self.assertNoResult(stopping)
        self.waiting[0].callback(None)
        self.assertIsNone(self.successResultOf(stopping))
        self.clock.advance(1.0)
        self.assertEqual(self.done, [0.0])

    def test_start_again(self) -> None:
        """One that was stopped can be started again."""
        service = self.start(self.note)
        service.stopService()
        self.clock.advance(10.0)
        service.startService()
        self.clock.advance(1.0)
        self.assertEqual(self.done, [0.0, 10.0, 11.0])

    def test_start_again_within_a_run(self) -> None:
        """One that is stopped and started within a run waits for that to finish."""
        service = self.start(self.wait)
        service.stopService()
        service.startService()
        self.clock.advance(3.0)
        self.assertEqual(self.done, [0.0])
        self.waiting[0].callback(None)
        self.assertEqual(self.done, [0.0, 3.0])

    def test_interval(self) -> None:
        """A new interval counts from when it is set."""
        service = self.start(self.note, now=False)
        self.clock.advance(0.5)
        service.interval = 2.0
        self.clock.advance(1.75)
        self.assertEqual(self.done, [])
        self.clock.advance(0.25)
        self.assertEqual(self.done, [2.5])
        self.assertEqual(service.interval, 2.0)

    def test_interval_within_a_run(self) -> None:
        """Set within a run, it is that of the next one, and runs don't overlap."""
        service = self.start(self.wait)
        service.interval = 5.0
        self.clock.advance(6.0)
        self.assertEqual(self.done, [0.0])
        self.waiting[0].callback(None)
        self.clock.advance(5.0)
        self.assertEqual(len(self.done), 2)

    def test_interval_while_stopped(self) -> None:
        """Set while it does not run, it is that of the next start."""
        service = PeriodicService(self.clock, 1.0, self.note, "the work", now=False)
        service.interval = 3.0
        self.clock.advance(5.0)
        service.startService()
        self.clock.advance(3.0)
        self.assertEqual(self.done, [8.0])
