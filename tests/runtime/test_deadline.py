"""Deadlines."""

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from hbtd.runtime.deadline import DeadlineExceeded, bounded


class BoundedTests(SynchronousTestCase):
    """What comes of a coroutine with a deadline."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.step: Deferred[str] = Deferred()

    async def work(self) -> str:
        """Wait for a step, and return its result."""
        return await self.step

    def test_result(self) -> None:
        """Work that is done in time has its result, and leaves no timer behind."""
        outcome = bounded(self.clock, 5.0, self.work())
        self.assertNoResult(outcome)
        self.step.callback("done")
        self.assertEqual(self.successResultOf(outcome), "done")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_failure(self) -> None:
        """What the work raises comes through."""
        outcome = bounded(self.clock, 5.0, self.work())
        self.step.errback(ValueError("no"))
        self.failureResultOf(outcome, ValueError)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_at_once(self) -> None:
        """Work that waits for nothing is done at once."""
        self.step.callback("done")
        self.assertEqual(self.successResultOf(bounded(self.clock, 5.0, self.work())), "done")
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_deadline(self) -> None:
        """When time is up the work is cancelled, and the error says how long it had."""
        cancelled: list[Deferred[str]] = []
        self.step = Deferred(cancelled.append)
        outcome = bounded(self.clock, 5.0, self.work())
        self.clock.advance(4.9)
        self.assertNoResult(outcome)
        self.clock.advance(0.1)
        failure = self.failureResultOf(outcome, DeadlineExceeded)
        self.assertEqual(failure.getErrorMessage(), "not done within 5 s")
        self.assertEqual(cancelled, [self.step])

    def test_wrapped(self) -> None:
        """What the work makes of being cancelled does not hide that time was up."""

        async def wrapping() -> None:
            try:
                await self.step
            except CancelledError as error:
                raise ValueError("the request failed") from error

        outcome = bounded(self.clock, 5.0, wrapping())
        self.clock.advance(5.0)
        failure = self.failureResultOf(outcome, DeadlineExceeded)
        assert failure.value is not None
        self.assertIsInstance(failure.value.__cause__, ValueError)

    def test_stubborn(self) -> None:
        """Work that goes on although it was cancelled is not waited for."""
        later: Deferred[None] = Deferred()

        async def stubborn() -> None:
            try:
                await self.step
            except CancelledError:
                await later

        outcome = bounded(self.clock, 5.0, stubborn())
        self.clock.advance(5.0)
        self.failureResultOf(outcome, DeadlineExceeded)
        later.errback(ValueError("nobody listens"))
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_cancelled(self) -> None:
        """Whoever cancels gets a `CancelledError`, whatever the work makes of it."""

        async def wrapping() -> None:
            try:
                await self.step
            except CancelledError:
                raise ValueError("the request failed") from None

        outcome = bounded(self.clock, 5.0, wrapping())
        outcome.cancel()
        self.failureResultOf(outcome, CancelledError)
        self.assertEqual(self.clock.getDelayedCalls(), [])
