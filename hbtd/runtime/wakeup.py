"""Wake-ups: one loop waits until there is work, and pauses after failures."""

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime


class Wakeup:
    """What one loop waits on, between the things that it does.

    A notification is not remembered: a loop that finds nothing to do has to wait at once, without
    giving way to others in between.
    """

    def __init__(self, clock: IReactorTime) -> None:
        """Measure pauses by `clock`."""
        self._clock = clock
        self._waiting: Deferred[None] | None = None
        self._pausing = False

    async def wait(self) -> None:
        """Wait for `notify` or `interrupt`."""
        self._waiting = Deferred()
        await self._waiting

    async def pause(self, seconds: float) -> None:
        """Wait for some seconds, or for `interrupt`; `notify` does not shorten it."""
        alarm = self._clock.callLater(seconds, self.interrupt)
        self._pausing = True
        try:
            await self.wait()
        finally:
            self._pausing = False
            if alarm.active():
                alarm.cancel()

    def notify(self) -> None:
        """End a `wait`, as there may be work."""
        if not self._pausing:
            self.interrupt()

    def interrupt(self) -> None:
        """End a `wait` or `pause`."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)
