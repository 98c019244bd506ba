"""The life cycle of a service made of parts, which stop in the reverse order of their start."""

from collections.abc import Awaitable, Callable

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from hbtd.runtime.deadline import DeadlineExceeded, bounded

Step = Callable[[], Awaitable[object] | None]
"""A function that starts or stops a part, at once or once the returned awaitable is done."""


class LifeCycle:
    """A stack of the parts that have been started.

    A part may use those below it, which are started before it and stopped after it. Stopping
    tolerates a start that failed or was cancelled half-way, a part that raises an exception when it
    is stopped, and a part that does not stop at all.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, patience: Callable[[], float]) -> None:
        """Make an empty stack; `patience` returns the seconds of `clock` a part has to stop."""
        self._clock = clock
        self._patience = patience
        self._stops: list[tuple[str, Step]] = []
        self._stopping = False

    async def start(self, name: str, start: Step, stop: Step) -> None:
        """Start a part by calling `start`; `stop` will stop it, even if starting it fails.

        `name` names the part in log lines. Pass on any exception that `start` raises; raise
        `CancelledError` if the other parts are being stopped already.
        """
        if self._stopping:
            raise CancelledError
        self.add(name, stop)
        await _done(start())

    def add(self, name: str, stop: Step) -> None:
        """Add a part that has been started already, or is about to be; `stop` will stop it."""
        self._stops.append((name, stop))

    async def stop(self) -> None:
        """Stop all parts, the last one first; log failures, and continue with the next part."""
        self._stopping = True
        while self._stops:
            name, stop = self._stops.pop()
            try:
                await bounded(self._clock, self._patience(), _stopped(stop))
            except DeadlineExceeded as late:
                self._log.error(
                    "Stopping {name} takes more than {seconds:g} s; hbtd no longer waits for it.",
                    name=name,
                    seconds=late.seconds,
                )
            except Exception:  # noqa: BLE001  # the parts below have to be stopped all the same
                self._log.failure("Stopping {name} failed.", name=name)


async def _stopped(stop: Step) -> None:
    await _done(stop())


async def _done(result: Awaitable[object] | None) -> None:
    if result is not None:
        await result
