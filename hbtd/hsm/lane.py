"""One of the notifier's connections to HSM."""

from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from hbtd.runtime.wakeup import Wakeup

_AFTER_A_BUG = 1.0
"""Seconds until a lane does its next step after an unexpected exception."""


class Lane:
    """A connection of the notifier to HSM, on which at most one update is in flight."""

    _log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self.wakeup = Wakeup(clock)
        self.abandoned = False
        """Whether the last update failed because `abandon` cancelled it, not because of HSM."""
        self.in_flight: frozenset[str] = frozenset()
        """The components in the update in flight; empty if there is none."""
        self._call: Deferred[None] | None = None

    def run(
        self,
        going_on: Callable[[], bool],
        step: Callable[["Lane"], Coroutine[Deferred[Any], Any, None]],
    ) -> None:
        """Start to call `step` with this lane again and again, while `going_on` returns true.

        `step` sends a batch, or waits for one. It is called again when its coroutine has ended. If
        the coroutine raises an exception, the exception is logged, and `step` is called again after
        a second.
        """
        Deferred.fromCoroutine(self._run(going_on, step))

    async def _run(
        self,
        going_on: Callable[[], bool],
        step: Callable[["Lane"], Coroutine[Deferred[Any], Any, None]],
    ) -> None:
        while going_on():
            try:
                await step(self)
            except Exception:  # noqa: BLE001  # a bug must not end the loop
                self._log.failure(
                    "Notifying HSM failed because of a bug in hbtd; hbtd tries again."
                )
                if going_on():
                    await self.wakeup.pause(_AFTER_A_BUG)

    async def wait_for(self, call: Deferred[None], components: Iterable[str]) -> None:
        """Wait until `call`, the Deferred of an update with `components`, has fired.

        Raise the exception that `call` fails with. While this method waits, `abandon` cancels
        `call`.
        """
        self.abandoned = False
        self._call, self.in_flight = call, frozenset(components)
        try:
            await call
        finally:
            self._call, self.in_flight = None, frozenset()

    def abandon(self) -> None:
        """Cancel the update in flight, if there is one."""
        if self._call is not None:
            self.abandoned = True
            self._call.cancel()
