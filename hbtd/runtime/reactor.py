"""The reactor of hbtd: a subclass of Twisted's epoll reactor.

It times delayed calls by the monotonic clock, and is not blocked when thousands of clients hang up
at the same moment.
"""

import sys
import time
from select import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLRDHUP
from typing import Any

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.main import installReactor
from twisted.logger import Logger

_log = Logger()

_HUNG_UP = EPOLLRDHUP | EPOLLHUP | EPOLLERR

_HANG_UP_SECONDS = 0.02
"""Seconds in one iteration after which no further hang-ups are handled."""

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class MonotonicReactor(EPollReactor):
    """Twisted's epoll reactor, with delayed calls that are timed by the monotonic clock.

    Twisted's own reactors use the wall clock: if that were set back by an hour, hbtd would not look
    for silent components for an hour.
    """

    seconds = staticmethod(time.monotonic)

    iterations = 0
    """The number of iterations of the reactor that have begun."""

    def runUntilCurrent(self) -> None:
        """Begin an iteration: count it, and make the delayed calls that are due."""
        self.iterations += 1
        super().runUntilCurrent()

    def _add(self, xer: Any, primary: Any, other: Any, selectables: Any, *events: int) -> None:
        super()._add(xer, primary, other, selectables, *map(_with_hang_up, events))

    def _remove(self, xer: Any, primary: Any, other: Any, selectables: Any, *events: int) -> None:
        super()._remove(xer, primary, other, selectables, *map(_with_hang_up, events))

    def doPoll(self, timeout: float | None) -> None:
        """Wait at most `timeout` seconds for events, without limit if `None`; handle them.

        Two things differ from Twisted's method: no log context is set up for each event, because
        hbtd does not use it; and `doRead` is called directly for the most frequent event, a socket
        that is readable. Both together save a sixth of the time needed for a heartbeat.

        Connections whose clients have hung up are handled last, and for at most 20 ms in each
        iteration. The failure of a switch may end ten thousand connections at once, and closing
        all of them takes a second.
        """
        selectables: dict[int, Any] = self._selectables
        try:
            events = self._poller.poll(-1 if timeout is None else timeout, len(selectables))
        except InterruptedError:
            return
        hung_up: list[tuple[int, int, Any]] = []
        for number, event in events:
            selectable = selectables.get(number)
            if selectable is None:
                continue
            if event == EPOLLIN:
                try:
                    why = selectable.doRead()
                except Exception as error:  # noqa: BLE001  # as Twisted does
                    _log.failure(
                        "Reading from {what!r} failed because of a bug in hbtd; the connection is"
                        " closed.",
                        what=selectable,
                    )
                    why = error
                if why:
                    self._disconnectSelectable(selectable, why, True)
            elif event & _HUNG_UP:
                hung_up.append((number, event, selectable))
            else:
                self._doReadOrWrite(selectable, number, event)
        if hung_up:
            self._handle_hang_ups(hung_up)

    def _handle_hang_ups(self, events: list[tuple[int, int, Any]]) -> None:
        """Handle events, for a limited time; epoll reports those that are left again."""
        end = self.seconds() + _HANG_UP_SECONDS
        for number, event, selectable in events:
            # Meanwhile the file descriptor may have become another connection's.
            if self._selectables.get(number) is selectable:
                self._doReadOrWrite(selectable, number, event)
                if self.seconds() >= end:
                    return

    doIteration = doPoll


def _with_hang_up(event: int) -> int:
    """Return an event for epoll to report, with hang-ups if the event is that data have arrived."""
    return event | EPOLLRDHUP if event & EPOLLIN else event


def elapsed_seconds() -> float:
    """Return the seconds of a monotonic clock that also advances while the host is suspended.

    Such a clock is needed to know what has expired on other hosts, such as a lease in etcd.
    """
    return time.clock_gettime(_CLOCK)


def install() -> None:
    """Install `MonotonicReactor` as the process's reactor, if no reactor is installed yet."""
    if "twisted.internet.reactor" not in sys.modules:
        installReactor(MonotonicReactor())
