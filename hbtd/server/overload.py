"""Detection of an overload, in which clients wait because more connect than hbtd can serve."""

import socket
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from struct import Struct
from typing import Any, NamedTuple

from twisted.internet import tcp, unix
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from hbtd.formats.counts import counted
from hbtd.runtime.outage import Outage
from hbtd.runtime.periodic import PeriodicService
from hbtd.server.scheduler import LONG_WAIT, Scheduler

_INTERVAL = 0.25
"""Seconds between two checks."""

_OVER = 5.0
"""Seconds without a sign of overload after which it is over."""

_TCP_INFO = Struct("=8x6I")
"""Linux's `struct tcp_info` up to the two fields that make an `AcceptQueue` of a listening port."""


class AcceptQueue(NamedTuple):
    """The accept queue of a listening socket: its length, and the greatest length it may have."""

    length: int
    """The number of connections that wait to be accepted."""
    most: int
    """The most connections that may wait to be accepted; if more come, the kernel drops those."""

    @property
    def full(self) -> bool:
        """Whether the queue is full, so that the kernel drops new connections."""
        return self.length >= self.most


def accept_queue(port: Any) -> AcceptQueue | None:
    """Return the accept queue of a port; `None` if the port is not TCP, or does not listen."""
    # One of a Unix socket is a kind of TCP port to Twisted.
    if not isinstance(port, tcp.Port) or isinstance(port, unix.Port) or not port.connected:
        return None
    info = port.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
    *_, length, most = _TCP_INFO.unpack(info)
    return AcceptQueue(length, most)


class Overload(PeriodicService):
    """A service that checks how long clients have to wait, and logs when hbtd is overloaded.

    An overload begins when an accept queue is full, or when a connection has waited for its turn
    for more than half a second. It is over when neither has been the case for five seconds.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        wall_clock: Callable[[], float],
        queues: Callable[[], Iterable[AcceptQueue]],
        scheduler: Scheduler,
    ) -> None:
        """Make a service that checks accept queues, and connections that wait for their turn.

        `queues` returns the accept queues, `scheduler` gives the turns, and `wall_clock` returns
        the seconds since the epoch.
        """
        super().__init__(clock, _INTERVAL, self._look, "watching for overload")
        self._clock = clock
        self._wall_clock = wall_clock
        self._queues = queues
        self._scheduler = scheduler
        self._outage = Outage(self._began, self._ended, clock.seconds, self._say)
        self._since = 0.0
        self._last_sign = 0.0
        self._last_full: float | None = None
        self.longest_queue = 0
        """The number of connections in the longest accept queue at the last check."""
        self.longest_wait = 0.0
        """The longest time, in seconds, for which a connection had been waiting for a turn.

        It is the result of the last check; 0 means that no connection was waiting.
        """

    @property
    def queue_full(self) -> bool:
        """Whether an accept queue was full in the last five seconds.

        If so, nodes that make a new connection for each heartbeat may have failed to connect.
        """
        return self._last_full is not None and self._clock.seconds() - self._last_full < _OVER

    @property
    def overloaded(self) -> bool:
        """Whether there is an overload."""
        return self._outage.reason is not None

    @property
    def reason(self) -> str | None:
        """Why hbtd counts as overloaded, in words; `None` if it does not."""
        return self._outage.reason

    def health(self) -> str | None:
        """Return a text for operators about the current overload; `None` if there is none."""
        if self._outage.reason is None:
            return None
        since = datetime.fromtimestamp(self._since, timezone.utc).isoformat(timespec="seconds")
        return f"Overloaded since {since}: {self._outage.reason}"

    def _look(self) -> None:
        now = self._clock.seconds()
        queues = list(self._queues())
        self.longest_queue = max((queue.length for queue in queues), default=0)
        self.longest_wait = self._scheduler.longest_wait()
        full = next((queue for queue in queues if queue.full), None)
        if full is not None:
            self._last_full = self._last_sign = now
            self._outage.fail(
                f"{counted(full.length, 'connection waits', 'connections wait')} to be accepted;"
                " the queue is full",
                "queue",
            )
        elif self.longest_wait > LONG_WAIT:
            self._last_sign = now
            reason = f"a connection has waited for its turn for {self.longest_wait:.1f} s"
            self._outage.fail(reason, "turns")
        elif now - self._last_sign >= _OVER:
            self._outage.recover()

    def _began(self, reason: str) -> None:
        self._since = self._wall_clock()
        self._say(reason)

    def _say(self, reason: str) -> None:
        self._log.warn(
            "hbtd is overloaded: {reason}. Judgements on components whose heartbeats may be unread"
            " are delayed.",
            reason=reason,
        )

    def _ended(self) -> None:
        self._log.info(
            "hbtd is no longer overloaded; the overload lasted {seconds:.0f} s.",
            seconds=max(self._wall_clock() - self._since, 0.0),
        )
