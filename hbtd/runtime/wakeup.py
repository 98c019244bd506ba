"""Wakeups, by which a loop waits until there is work, and pauses after failures."""

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime


class Wakeup:
    """The means by which one loop waits, and by which other code ends its wait.

    A notification while the loop does not wait is lost. So a loop that finds nothing to do must
    call `wait` at once, without awaiting anything else in between.
    """

    def __init__(self, clock: IReactorTime) -> None:
        """Make a wakeup whose pauses are measured by `clock`."""
        self._clock = clock
        self._waiting: Deferred[None] | None = None
        self._pausing = False

    async def wait(self) -> None:
        """Wait for `notify` or `interrupt`."""
        self._waiting = Deferred()
        await self._waiting

    async def pause(self, seconds: float) -> None:
        """Wait for some seconds, or until `interrupt`; `notify` does not end a pause."""
        alarm = self._clock.callLater(seconds, self.interrupt)
        self._pausing = True
        try:
            await self.wait()
        finally:
            self._pausing = False
            if alarm.active():
                alarm.cancel()

    def notify(self) -> None:
        """End a `wait`, as there may be work, but not a `pause`."""
        if not self._pausing:
            self.interrupt()

    def interrupt(self) -> None:
        """End a `wait` or a `pause`."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)
