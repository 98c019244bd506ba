"""Periodic tasks: work that is repeated as long as a service runs."""

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

Work = Callable[[], Coroutine[Deferred[Any], Any, None] | None]
"""The work of a `PeriodicService`: a function or coroutine function without arguments."""


class PeriodicService(Service):
    """A service that repeats some work at a fixed interval, with a `LoopingCall`.

    Unlike a bare `LoopingCall`, the service continues after exceptions: they are logged, and the
    work runs again after the interval. Runs never overlap: a run that outlasts the interval delays
    the next one. The service can be started again after it was stopped.
    """

    _log = Logger()

    def __init__(
        self, clock: IReactorTime, interval: float, work: Work, name: str, *, now: bool = True
    ) -> None:
        """Make a service that runs `work` every `interval` seconds of `clock`.

        With `now` the first run begins when the service is started, otherwise one interval later.
        `name` names the work in log lines, as in "the sweep".
        """
        self._clock = clock
        self._interval = interval
        self._work = work
        self._name = name
        self._now = now
        self._loop = LoopingCall(self._survive)
        self._finished: Deferred[Any] = succeed(None)

    @property
    def interval(self) -> float:
        """Seconds from the start of one run to the start of the next."""
        return self._interval

    @interval.setter
    def interval(self, seconds: float) -> None:
        """Set the interval; the next run begins `seconds` from now.

        If a run is in progress, the new interval takes effect only after that run.
        """
        self._interval = seconds
        if self._loop.running:
            if self._loop.call is None:
                self._loop.interval = seconds
            else:
                self._loop.stop()
                self._start(now=False)

    def startService(self) -> None:
        """Start the runs; if a run has not finished since the last stop, wait for its end first."""
        if not self.running:
            super().startService()
            self._finished.addCallback(lambda _: self._start(now=self._now))

    def stopService(self) -> Deferred[None]:
        """Stop the runs.

        Return a Deferred that fires once a run in progress, which is not cancelled, has finished.
        """
        super().stopService()
        if self._loop.running:
            self._loop.stop()
        finished: Deferred[None] = Deferred()
        self._finished.addCallback(lambda _: finished.callback(None))
        return finished

    def _start(self, *, now: bool) -> None:
        if self.running and not self._loop.running:
            # A new loop each time: the last one may have been stopped during its run.
            self._loop = LoopingCall(self._survive)
            self._loop.clock = self._clock
            self._finished = self._loop.start(self._interval, now=now)

    async def _survive(self) -> None:
        try:
            going_on = self._work()
            if going_on is not None:
                await going_on
        except Exception:  # noqa: BLE001  # no caller could handle it, and there is a next run
            self._log.failure(
                "Periodic task {name} failed because of a bug in hbtd; next run in {interval} s.",
                name=self._name,
                interval=self._interval,
            )
