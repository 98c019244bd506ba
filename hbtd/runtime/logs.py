"""Logging: which events are logged, and how they are formatted.

hbtd logs with `twisted.logger`. Control characters are escaped, so that texts sent by clients can't
forge a line of the log.
"""

import logging
import re
import sys
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import TextIO

import orjson
from twisted.logger import (
    FilteringLogObserver,
    ILogObserver,
    LogEvent,
    Logger,
    LogLevel,
    PredicateResult,
    eventAsText,
)

from hbtd.formats.counts import counted

# Surrogates stand for bytes that the system could not decode; they can't be encoded.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

# The prefixes from which journald takes the priority of a line: sd-daemon(3).
_PRIORITIES = {
    LogLevel.debug: "<7>",
    LogLevel.info: "<6>",
    LogLevel.warn: "<4>",
    LogLevel.error: "<3>",
    LogLevel.critical: "<2>",
}


LineFormat = Callable[[LogEvent], str]
"""A function that formats a log event as one or more lines of the log."""


def line_format(log_format: str, environ: Mapping[str, str]) -> LineFormat:
    """Return the function that formats events; the parameter `log_format` is `text` or `json`.

    If `environ` has `JOURNAL_STREAM`, lines of text are formatted for journald: with its prefixes
    for priorities, and without a time, which journald records itself.
    """
    if log_format == "json":
        return json_line
    return journal_line if "JOURNAL_STREAM" in environ else text_line


def observer(
    write: Callable[[str], object], line: LineFormat, debug: Callable[[], int]
) -> ILogObserver:
    """Return an observer that formats each event with `line`, and passes the text to `write`.

    Events that the option `--debug` excludes are ignored; `debug()` returns the current value of
    this option.
    """

    def observe(event: LogEvent) -> None:
        write(line(event))

    def wanted(event: LogEvent) -> object:
        return PredicateResult.maybe if _wanted(event, debug()) else PredicateResult.no

    return FilteringLogObserver(observe, [wanted])  # type: ignore[arg-type,list-item]  # zope interface


def dropped_lines(line: LineFormat, now: Callable[[], float]) -> Callable[[int], str]:
    """Return a function that takes a number of dropped lines, and returns a log line about them.

    The log line is formatted by `line`. `now` returns the seconds since the epoch.
    """

    def notice(count: int) -> str:
        return line(
            {
                "log_level": LogLevel.warn,
                "log_namespace": __name__,
                "log_time": now(),
                "log_format": "{lines} missing here: the reader of the log, or its disk, was"
                " too slow, full or gone; check both.",
                "lines": counted(count, "line of the log is", "lines of the log are"),
            }
        )

    return notice


def _wanted(event: LogEvent, debug: int) -> bool:
    """Return whether to log an event if the option `--debug` is `debug`; see docs/options.md."""
    level = event.get("log_level", LogLevel.info)
    if str(event.get("log_namespace", "")).partition(".")[0] == "hbtd":
        least = LogLevel.info if debug == 0 else LogLevel.debug
    else:
        least = LogLevel.warn if debug < 2 else LogLevel.debug
    return bool(level >= least)


def escaped(text: str) -> str:
    r"""Return a text with its control characters written as `\n`, `\xNN` or `\uNNNN`."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def text_line(event: LogEvent) -> str:
    """Return an event as a line of text: time in UTC, level, origin, message.

    If the event has a traceback, its lines follow, indented.
    """
    return f"{_time(event)} {_level(event).name:<8} {_message(event)}"


def journal_line(event: LogEvent) -> str:
    """Return an event as a line of text for journald: priority, origin, message.

    If the event has a traceback, its lines follow, indented, each with the priority.
    """
    prefix = _PRIORITIES[_level(event)]
    return "".join(f"{prefix}{line}\n" for line in _message(event).splitlines())


def json_line(event: LogEvent) -> str:
    """Return an event as a line with a JSON object.

    The object's fields are `time`, `level`, `origin`, `message` and, if there is a traceback,
    `traceback`.
    """
    line = {
        "time": _time(event),
        "level": _level(event).name,
        "origin": _origin(event),
        "message": _text(event),
    }
    traceback = _traceback(event)
    if traceback:
        line["traceback"] = traceback
    # Surrogates can't be encoded.
    sound = {key: text.encode("utf-8", "backslashreplace").decode() for key, text in line.items()}
    document = orjson.dumps(sound).decode("utf-8")
    return _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", document) + "\n"


def _message(event: LogEvent) -> str:
    lines = [f"[{_origin(event)}] {escaped(_text(event))}"]
    lines += [f"    {escaped(line)}" for line in _traceback(event).splitlines()]
    return "\n".join(lines) + "\n"


def _time(event: LogEvent) -> str:
    moment = datetime.fromtimestamp(event.get("log_time", 0.0), timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _level(event: LogEvent) -> LogLevel:
    return event.get("log_level") or LogLevel.info  # type: ignore[no-any-return]


def _origin(event: LogEvent) -> str:
    return str(event.get("log_namespace", "-"))


def _text(event: LogEvent) -> str:
    return eventAsText(event, includeTraceback=False, includeTimestamp=False, includeSystem=False)


def _traceback(event: LogEvent) -> str:
    failure = event.get("log_failure")
    return failure.getTraceback() if failure is not None else ""


class LibraryLog(logging.Handler):
    """A `logging` handler that writes the messages of a library to hbtd's log, at debug level.

    Libraries repeat warnings for as long as a server is unreachable; hbtd itself logs one line when
    the server becomes unreachable, and one when it can be reached again.
    """

    def __init__(self, library: str) -> None:
        super().__init__()
        self._log = Logger(namespace=library)
        self._logger = logging.getLogger(library)
        self._before = (self._logger.propagate, self._logger.level)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a message of the library to hbtd's log."""
        try:
            self._log.debug("{text}", text=record.getMessage())
        except Exception:  # noqa: BLE001  # handlers must not raise
            self.handleError(record)

    def start(self) -> None:
        """Begin to receive the library's messages, in place of the handlers of parent loggers."""
        self._before = (self._logger.propagate, self._logger.level)
        self._logger.addHandler(self)
        self._logger.propagate = False
        self._logger.setLevel(logging.INFO)

    def stop(self) -> None:
        """Restore the library's logger to its state before `start`."""
        self._logger.removeHandler(self)
        self._logger.propagate, level = self._before
        self._logger.setLevel(level)


def error_stream() -> TextIO | None:
    """Return the stream for the log of an hbtd that runs in the foreground: standard error.

    The result is `None` if the process was started without standard error.
    """
    return sys.stderr
