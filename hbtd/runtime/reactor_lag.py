"""The lag of the reactor: how late it makes delayed calls."""

from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from hbtd.runtime.distribution import Distribution

_INTERVAL = 0.1
"""Seconds between two measurements."""

_BOUNDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class ReactorLag(Service):
    """A service that measures, ten times a second, how late the reactor makes a delayed call.

    While the reactor is late, hbtd answers nobody: some part of hbtd works for too long without a
    pause, or the host gives hbtd no processor time. (A `PeriodicService` can't be used for this,
    because its work does not learn when a run was due.)
    """

    def __init__(self, clock: IReactorTime) -> None:
        """Make a service that is not started; `clock` is the reactor."""
        self._clock = clock
        self._call: IDelayedCall | None = None
        self.lags = Distribution(_BOUNDS)
        """The distribution of the measured lags, in seconds."""

    def startService(self) -> None:
        """Begin to measure the lag."""
        if not self.running:
            super().startService()
            self._schedule()

    def stopService(self) -> None:
        """Stop measuring the lag."""
        super().stopService()
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _schedule(self) -> None:
        due = self._clock.seconds() + _INTERVAL
        self._call = self._clock.callLater(_INTERVAL, self._measure, due)

    def _measure(self, due: float) -> None:
        self.lags.add(self._clock.seconds() - due)
        self._schedule()
