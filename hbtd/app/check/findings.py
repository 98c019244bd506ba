"""The findings of `hbtd --check`, printed as one line each, and the exit status."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from twisted.logger import LogEvent, LogLevel, eventAsText, globalLogPublisher

from hbtd.app.errors import WRONG_OPTION, StartupError
from hbtd.formats.counts import counted
from hbtd.runtime.logs import escaped


class Findings:
    """Prints findings as they are made, and stores the errors that would prevent hbtd's start."""

    def __init__(self, write: Callable[[str], object]) -> None:
        """Begin without findings; `write` is called with each line, without a line end."""
        self._write = write
        self._errors: list[StartupError] = []
        self._warnings = 0

    @property
    def status(self) -> int:
        """The exit status with which hbtd would end because of the errors; 0 if it could start.

        If any error says that an option can't be used, the status is `WRONG_OPTION`: a retry with
        the same options would fail, too.
        """
        statuses = {error.status for error in self._errors}
        return WRONG_OPTION if WRONG_OPTION in statuses else max(statuses, default=0)

    def fine(self, text: str) -> None:
        """Print a sentence about something that is in order."""
        self._say("ok", text)

    def warning(self, text: str) -> None:
        """Print a sentence about something that is wrong, but does not keep hbtd from starting."""
        self._warnings += 1
        self._say("warning", text)

    def error(self, error: StartupError) -> None:
        """Print an error that would prevent hbtd's start, and store the error for `status`."""
        self._errors.append(error)
        self._say("error", str(error))

    @contextmanager
    def catching(self) -> Iterator[None]:
        """Return a context manager that catches a `StartupError` in its block, and reports it."""
        try:
            yield
        except StartupError as error:
            self.error(error)

    @contextmanager
    def hearing(self) -> Iterator[None]:
        """Return a context manager that prints, as findings, the warnings that its block logs.

        Only lines that hbtd itself logs are printed. Logged errors are printed as warnings, too.
        """

        def observe(event: LogEvent) -> None:
            ours = str(event.get("log_namespace", "")).partition(".")[0] == "hbtd"
            if ours and event.get("log_level", LogLevel.info) >= LogLevel.warn:
                self.warning(eventAsText(event, False, False, False))

        globalLogPublisher.addObserver(observe)  # type: ignore[arg-type]  # zope interface
        try:
            yield
        finally:
            globalLogPublisher.removeObserver(observe)  # type: ignore[arg-type]

    def conclude(self) -> None:
        """Print the last line: whether hbtd could start, and the numbers of errors and warnings."""
        also = f", with {counted(self._warnings, 'warning')}" if self._warnings else ""
        if not self._errors:
            self._write(f"hbtd could start{also}.")
            return
        self._write(
            f"hbtd could not start: {counted(len(self._errors), 'error')}{also}."
            f" It would exit with status {self.status}."
        )

    def _say(self, kind: str, text: str) -> None:
        self._write(escaped(f"{kind}: {text}"))
