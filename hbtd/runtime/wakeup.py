"""A wakeup: an object on which a loop waits until there is work, and pauses after failures."""

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime


class Wakeup:
    """An object on which one loop waits until other code wakes the loop.

    A call of `notify` or `interrupt` while the loop does not wait has no effect. So a loop that
    finds nothing to do must call `wait` at once, without awaiting anything else in between.
    """

    def __init__(self, clock: IReactorTime) -> None:
        """Make a wakeup whose pauses are measured by `clock`."""
        self._clock = clock
        self._waiting: Deferred[None] | None = None
        self._pausing = False

    async def wait(self, at_most: float | None = None) -> None:
        """Wait until `notify` or `interrupt` is called, or for `at_most` seconds, if given."""
        alarm = None if at_most is None else self._clock.callLater(at_most, self.interrupt)
        self._waiting = Deferred()
        try:
            await self._waiting
        finally:
            if alarm is not None and alarm.active():
                alarm.cancel()

    async def pause(self, seconds: float) -> None:
        """Wait for `seconds`, or until `interrupt` is called; `notify` does not end a pause."""
        self._pausing = True
        try:
            await self.wait(seconds)
        finally:
            self._pausing = False

    def notify(self) -> None:
        """Wake the loop from `wait`, because there may be work; do not end a `pause`."""
        if not self._pausing:
            self.interrupt()

    def interrupt(self) -> None:
        """Wake the loop from `wait` or `pause`."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)
