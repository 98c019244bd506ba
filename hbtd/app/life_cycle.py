"""The life cycle of a service made of parts, which stop in the reverse order of their start."""

from collections.abc import Awaitable, Callable

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from hbtd.runtime.deadline import DeadlineExceeded, bounded

Step = Callable[[], Awaitable[object] | None]
"""A function that starts or stops a part, at once or once the returned awaitable is done."""


class LifeCycle:
    """A stack of the parts that were started.

    A part may use those below it, which are started before it and stopped after it. Stopping takes
    any of these in its stride: a start that failed or was cancelled half-way, a part that raises an
    exception when it is stopped, and one that does not stop at all.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, patience: Callable[[], float]) -> None:
        """`patience` returns the seconds of `clock` that each part has to stop."""
        self._clock = clock
        self._patience = patience
        self._stops: list[tuple[str, Step]] = []
        self._stopping = False

    async def start(self, name: str, start: Step, stop: Step) -> None:
        """Start a part that will be stopped by `stop`, also when starting it fails.

        Raise what `start` raises, and `CancelledError` when the other parts are being stopped.
        """
        if self._stopping:
            raise CancelledError
        self.add(name, stop)
        await _done(start())

    def add(self, name: str, stop: Step) -> None:
        """Put a part on the stack that has been started already, or is about to be."""
        self._stops.append((name, stop))

    async def stop(self) -> None:
        """Stop all parts, the last one first. Failures are logged, and the next part follows."""
        self._stopping = True
        while self._stops:
            name, stop = self._stops.pop()
            try:
                await bounded(self._clock, self._patience(), _stopped(stop))
            except DeadlineExceeded as late:
                self._log.error(
                    "Stopping {name} takes more than {seconds:g} s; it is abandoned.",
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
