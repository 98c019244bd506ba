"""The wake-ups of a loop."""

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from hbtd.runtime.wakeup import Wakeup


class WakeupTests(SynchronousTestCase):
    """What ends waits and pauses."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.wakeup = Wakeup(self.clock)

    def wait(self) -> Deferred[None]:
        """Begin to wait."""
        return Deferred.fromCoroutine(self.wakeup.wait())

    def pause(self, seconds: float = 3.0) -> Deferred[None]:
        """Begin to pause."""
        return Deferred.fromCoroutine(self.wakeup.pause(seconds))

    def test_wait(self) -> None:
        """A wait lasts until a notification or an interruption."""
        for end in (self.wakeup.notify, self.wakeup.interrupt):
            waiting = self.wait()
            self.clock.advance(1000)
            self.assertNoResult(waiting)
            end()
            self.successResultOf(waiting)

    def test_wait_at_most(self) -> None:
        """A wait can have an end, and leaves nothing on the clock when it ends before."""
        waiting = Deferred.fromCoroutine(self.wakeup.wait(2.0))
        self.clock.advance(1.9)
        self.assertNoResult(waiting)
        self.clock.advance(0.1)
        self.successResultOf(waiting)
        waiting = Deferred.fromCoroutine(self.wakeup.wait(2.0))
        self.wakeup.notify()
        self.successResultOf(waiting)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_pause(self) -> None:
        """A pause lasts for its time, whatever notifications there are."""
        pausing = self.pause(3.0)
        self.clock.advance(2.9)
        self.wakeup.notify()
        self.assertNoResult(pausing)
        self.clock.advance(0.1)
        self.successResultOf(pausing)

    def test_interrupted(self) -> None:
        """An interruption ends a pause, and leaves nothing on the clock."""
        pausing = self.pause()
        self.wakeup.interrupt()
        self.successResultOf(pausing)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_after_a_pause(self) -> None:
        """Notifications count again once a pause is over, however it ended."""
        self.pause()
        self.clock.advance(3.0)
        self.pause()
        self.wakeup.interrupt()
        waiting = self.wait()
        self.wakeup.notify()
        self.successResultOf(waiting)

    def test_not_remembered(self) -> None:
        """A notification while nothing waits does not shorten the next wait."""
        self.wakeup.notify()
        waiting = self.wait()
        self.wakeup.notify()
        self.wakeup.notify()
        self.assertNoResult(self.wait())
        self.successResultOf(waiting)

    def test_again_at_once(self) -> None:
        """A loop that is woken and waits again at once needs another notification."""
        rounds: list[int] = []

        async def loop() -> None:
            for number in range(3):
                await self.wakeup.wait()
                rounds.append(number)

        looping = Deferred.fromCoroutine(loop())
        for number in range(3):
            self.wakeup.notify()
            self.assertEqual(rounds[-1], number)
        self.successResultOf(looping)

    def test_cancelled(self) -> None:
        """A wait or pause that is cancelled leaves nothing behind."""
        for begin in (self.wait, self.pause):
            waiting = begin()
            waiting.cancel()
            self.failureResultOf(waiting, CancelledError)
            self.assertEqual(self.clock.getDelayedCalls(), [])
            self.wakeup.notify()
            waiting = self.wait()
            self.wakeup.notify()
            self.successResultOf(waiting)
