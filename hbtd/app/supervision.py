"""hbtd's messages to systemd: that hbtd serves, what it is doing, and that it does not hang."""

from collections.abc import Callable, Mapping
from enum import Enum, auto

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from hbtd.runtime.logs import escaped
from hbtd.runtime.outage import Outage
from hbtd.runtime.periodic import PeriodicService
from hbtd.runtime.service_manager import NotifySocket, watchdog_period

_PERIOD = 1.0
"""Seconds between two looks at what there is to tell; fewer if the watchdog's time is short."""

_STATUS_PAUSE = 5.0
"""Seconds between two texts about what hbtd does while it serves."""

_LONGEST_STATUS = 1000
"""Characters of such a text."""

_MORE_TO_START = 300
"""Seconds that a step of the start may take: a million components to load on a busy machine."""

_MORE_TO_STOP = 60
"""Seconds that hbtd may hang while it stops."""

_log = Logger()


class _Phase(Enum):
    STARTING = auto()
    SERVING = auto()
    STOPPING = auto()


class Supervision:
    """Sends systemd messages about the state of hbtd, in the format of sd_notify(3).

    While hbtd starts or stops, systemd is asked for more time at least once a second, as long as
    the reactor runs. While hbtd serves, the watchdog's message is sent only if the observed clock
    has ticked since the previous watchdog's message. So systemd restarts an hbtd that hangs, but
    not an hbtd that is only slow. If a change of state can't be sent, each later message repeats
    the change, until a message is sent successfully.
    """

    def __init__(
        self,
        clock: IReactorTime,
        send: Callable[[str], None] | None = None,
        watchdog: float | None = None,
    ) -> None:
        """Prepare to send messages with `send`, which may raise `OSError`.

        If `send` is `None`, no messages are sent. systemd restarts hbtd after `watchdog` seconds
        without the watchdog's message; if `watchdog` is `None`, there is no watchdog.
        """
        self._clock = clock
        self._send = send
        self._phase = _Phase.STARTING
        self._watchdog_every = None if watchdog is None else watchdog / 4
        self._watchdog_sent_at = clock.seconds()
        self._ticked_at = lambda: 0.0
        self._last_tick = 0.0
        self._describe = lambda: ""
        self._described_at = clock.seconds()
        self._status = ""
        self._unsent = ""
        self._outage = Outage(self._outage_began, self._outage_ended, clock.seconds)
        turn = _PERIOD if self._watchdog_every is None else min(_PERIOD, self._watchdog_every)
        self._reporting = PeriodicService(clock, turn, self._report, "telling systemd", now=False)

    def watch(self, ticked_at: Callable[[], float]) -> None:
        """Start the timer that sends messages, if there is a systemd to send them to.

        `ticked_at` returns when the observed clock of hbtd last ticked, in seconds of a monotonic
        clock. If the value has not changed since the watchdog's last message, the watchdog's
        message is not sent again, because hbtd seems to hang.
        """
        self._ticked_at = ticked_at
        if self._send is not None:
            self._reporting.startService()

    def step(self, doing: str) -> None:
        """Send the status text `doing`, which names a step of hbtd's start or stop.

        Also ask systemd for more time.
        """
        self._tell(self._as_status(f"{doing} ..."), *self._more_time())

    def serving(self, describe: Callable[[], str]) -> None:
        """Notify systemd that hbtd serves requests; `describe` returns the status text.

        From now on, `describe` is called every five seconds, and its text is sent if it has
        changed.
        """
        self._phase = _Phase.SERVING
        self._describe = describe
        self._described_at = self._clock.seconds()
        self._tell_state("READY=1", self._as_status(describe()))

    def reload(self, work: Callable[[], None]) -> None:
        """Call `work`, which reloads files; if hbtd serves, tell systemd before and afterwards."""
        if self._phase is not _Phase.SERVING:
            work()  # to tell that hbtd is ready would be wrong
            return
        self._tell_state("RELOADING=1", f"MONOTONIC_USEC={round(self._clock.seconds() * 1e6)}")
        try:
            work()
        finally:
            self._tell_state("READY=1")

    def stopping(self) -> None:
        """Notify systemd that hbtd is stopping, and ask systemd for more time."""
        self._phase = _Phase.STOPPING
        self._tell_state("STOPPING=1", *self._more_time())

    def failed(self, reason: str) -> None:
        """Send the reason why hbtd can't start, as the text that `systemctl status` shows."""
        self._tell(self._as_status(f"Could not start: {reason}"))

    def stopped(self) -> Deferred[None]:
        """Stop the timer that sends messages; return a Deferred that fires when it has stopped.

        The other methods still send messages when they are called.
        """
        return self._reporting.stopService()

    def _report(self) -> None:
        messages = []
        now = self._clock.seconds()
        if self._phase is not _Phase.SERVING:
            messages += self._more_time()
        elif now - self._described_at >= _STATUS_PAUSE:
            self._described_at = now
            before = self._status
            status = self._as_status(self._describe())
            messages += [status] if status != before else []
        messages += self._watchdog_lines(now)
        if messages or self._unsent:
            self._tell(*messages)

    def _watchdog_lines(self, now: float) -> list[str]:
        """Return a list with the watchdog's message, or an empty one.

        It is empty if the message is not due yet, or if hbtd hangs.
        """
        if self._watchdog_every is None or now - self._watchdog_sent_at < self._watchdog_every:
            return []
        ticked_at = self._ticked_at()
        if self._phase is _Phase.SERVING and ticked_at == self._last_tick:
            return []
        self._last_tick = ticked_at
        self._watchdog_sent_at = now
        return ["WATCHDOG=1"]

    def _more_time(self) -> list[str]:
        seconds = _MORE_TO_STOP if self._phase is _Phase.STOPPING else _MORE_TO_START
        return [f"EXTEND_TIMEOUT_USEC={seconds * 1_000_000}"]

    def _as_status(self, text: str) -> str:
        self._status = f"STATUS={escaped(text)[:_LONGEST_STATUS]}"
        return self._status

    def _tell_state(self, *lines: str) -> None:
        """Send lines about a change of state.

        If that fails, each later message begins with these lines until one is sent.
        """
        self._unsent = "\n".join(lines)
        self._tell()

    def _tell(self, *lines: str) -> None:
        if self._send is None:
            return
        message = "\n".join([*([self._unsent] if self._unsent else []), *lines])
        try:
            self._send(message)
        except OSError as error:
            self._outage.fail(error.strerror or str(error))
        else:
            self._unsent = ""
            self._outage.recover()

    def _outage_began(self, reason: str) -> None:
        _log.warn(
            "hbtd can't send its state to systemd (NOTIFY_SOCKET): {reason}. It keeps trying.",
            reason=reason,
        )

    def _outage_ended(self) -> None:
        _log.info("hbtd can send its state to systemd again.")


def make_supervision(clock: IReactorTime, environ: Mapping[str, str], pid: int) -> Supervision:
    """Return the `Supervision` of the process `pid`, made from environment variables of systemd.

    `NOTIFY_SOCKET` names the socket for the messages, and `WATCHDOG_USEC` and `WATCHDOG_PID` say
    whether the process has a watchdog. If `NOTIFY_SOCKET` is not set, or can't be used, the result
    sends no messages.
    """
    address = environ.get("NOTIFY_SOCKET")
    if not address:
        return Supervision(clock)
    try:
        notify = NotifySocket(address)
    except ValueError as error:
        _log.warn(
            "NOTIFY_SOCKET can't be used, so hbtd does not send its state to systemd: {error}.",
            error=str(error),
        )
        return Supervision(clock)
    return Supervision(clock, notify.send, watchdog_period(environ, pid))
