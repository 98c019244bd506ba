"""What `hbtd --check` has found: a line for each thing, and the exit status."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from twisted.logger import LogEvent, LogLevel, eventAsText, globalLogPublisher

from hbtd.app.errors import WRONG_OPTION, StartupError
from hbtd.formats.counts import counted
from hbtd.runtime.logs import escaped


class Findings:
    """Prints findings as they come, and remembers what hbtd could not start with."""

    def __init__(self, write: Callable[[str], object]) -> None:
        """Make it; `write` is given each line, without its end."""
        self._write = write
        self._errors: list[StartupError] = []
        self._warnings = 0

    @property
    def status(self) -> int:
        """The exit status that hbtd would have; 0 if it could start.

        If there are several errors, one because of which another attempt is useless comes first.
        """
        statuses = {error.status for error in self._errors}
        return WRONG_OPTION if WRONG_OPTION in statuses else max(statuses, default=0)

    def fine(self, text: str) -> None:
        """Print that something is as it should be."""
        self._say("ok", text)

    def warning(self, text: str) -> None:
        """Print what is wrong, but keeps hbtd from nothing at its start."""
        self._warnings += 1
        self._say("warning", text)

    def error(self, error: StartupError) -> None:
        """Print what keeps hbtd from starting."""
        self._errors.append(error)
        self._say("error", str(error))

    @contextmanager
    def catching(self) -> Iterator[None]:
        """Return a context manager that makes a finding of a `StartupError` in its block."""
        try:
            yield
        except StartupError as error:
            self.error(error)

    @contextmanager
    def hearing(self) -> Iterator[None]:
        """Return a context manager that makes warnings of what hbtd logs as such in its block."""

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
        """Print the last line: whether hbtd could start."""
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
