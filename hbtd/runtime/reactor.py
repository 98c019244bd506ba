"""A reactor whose timers don't care what the wall clock does."""

import sys
import time
from typing import Any

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.main import installReactor

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class MonotonicReactor(EPollReactor):
    """Twisted's epoll reactor on the monotonic clock.

    Twisted's own reactors time by the wall clock: set back by an hour, nothing would be swept for
    an hour.
    """

    seconds = staticmethod(time.monotonic)

    def doPoll(self, timeout: float | None) -> None:
        """Wait for events for so many seconds and have them handled.

        Twisted's own sets up a context for log messages around each, which nothing of ours reads
        and which costs as much as a tenth of a heartbeat.
        """
        selectables: dict[int, Any] = self._selectables
        try:
            events = self._poller.poll(-1 if timeout is None else timeout, len(selectables))
        except InterruptedError:
            return
        for number, event in events:
            selectable = selectables.get(number)
            if selectable is not None:
                self._doReadOrWrite(selectable, number, event)

    doIteration = doPoll


def elapsed_seconds() -> float:
    """Give seconds that never go back and that pass even while this machine is suspended.

    So does the time of what others hold for us, such as a lease.
    """
    return time.clock_gettime(_CLOCK)


def install() -> None:
    """Make this the process's reactor, if none has been chosen yet."""
    if "twisted.internet.reactor" not in sys.modules:
        installReactor(MonotonicReactor())
