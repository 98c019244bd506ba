"""The life cycle of a service made of parts, which stop in the reverse order of their start."""

from collections.abc import Awaitable, Callable

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from hbtd.runtime.deadline import DeadlineExceeded, bounded

Step = Callable[[], Awaitable[object] | None]
"""A function that starts or stops a part; `LifeCycle` awaits the result if it is an awaitable."""


class LifeCycle:
    """A stack of the parts that have been started.

    A part may use the parts below it, which are started before it and stopped after it. All parts
    are stopped even if a start failed or was cancelled half-way, if a part raises an exception when
    it is stopped, or if a part takes too long to stop (see `patience`).
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        patience: Callable[[], float],
        note: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Make an empty stack; `patience` returns how many seconds `stop` waits for each part.

        `note` is called before each step with a text about the step, such as "Starting the store".
        """
        self._note = note
        self._clock = clock
        self._patience = patience
        self._stops: list[tuple[str, Step]] = []
        self._stopping = False

    async def start(self, name: str, start: Step, stop: Step) -> None:
        """Push a part on the stack and start it by calling `start`.

        The method `stop` will call the function `stop`, even if `start` fails. `name` names the
        part in log lines. Raise any exception that `start` raises. If the parts are already being
        stopped, raise `CancelledError`, and start nothing.
        """
        if self._stopping:
            raise CancelledError
        self.add(name, stop)
        self._note(f"Starting {name}")
        await _done(start())

    def add(self, name: str, stop: Step) -> None:
        """Push a part that the caller starts; the method `stop` will call the function `stop`.

        `name` names the part in log lines.
        """
        self._stops.append((name, stop))

    async def stop(self) -> None:
        """Stop all parts, the last one first; log failures, and continue with the next part."""
        self._stopping = True
        while self._stops:
            name, stop = self._stops.pop()
            self._note(f"Stopping {name}")
            try:
                await bounded(self._clock, self._patience(), _stopped(stop))
            except DeadlineExceeded as late:
                self._log.error(
                    "Stopping {name} takes more than {seconds:g} s; hbtd no longer waits for it.",
                    name=name,
                    seconds=late.seconds,
                )
            except Exception:  # noqa: BLE001  # the parts below have to be stopped all the same
                self._log.failure(
                    "Stopping {name} failed because of a bug in hbtd, which now stops its other"
                    " parts.",
                    name=name,
                )


async def _stopped(stop: Step) -> None:
    await _done(stop())


async def _done(result: Awaitable[object] | None) -> None:
    if result is not None:
        await result
