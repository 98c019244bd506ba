"""Logging: what is said, how a line looks, and where it goes.

hbtd's own modules say what they have to say with `twisted.logger`; here it becomes lines. Text
from outside can't break out of its line: control characters are escaped.
"""

import logging
import re
import sys
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import TextIO

import orjson
from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    ILogObserver,
    LogEvent,
    Logger,
    LogLevel,
    PredicateResult,
    eventAsText,
)

# Surrogates are what the system could not decode; they can't be encoded either.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

# sd-daemon(3): journald takes the priority from a prefix.
_PRIORITIES = {
    LogLevel.debug: "<7>",
    LogLevel.info: "<6>",
    LogLevel.warn: "<4>",
    LogLevel.error: "<3>",
    LogLevel.critical: "<2>",
}


def observer(
    stream: TextIO, log_format: str, debug: Callable[[], int], environ: Mapping[str, str]
) -> ILogObserver:
    """Make the observer that writes hbtd's log to a stream.

    `log_format` is `text` or `json`; `debug` gives the present debug level. Under journald, which
    `environ` tells, text lines carry its priorities instead of the time, which it knows itself.
    """
    if log_format == "json":
        line = json_line
    elif "JOURNAL_STREAM" in environ:
        line = journal_line
    else:
        line = text_line

    def wanted(event: LogEvent) -> object:
        return PredicateResult.maybe if _wanted(event, debug()) else PredicateResult.no

    return FilteringLogObserver(FileLogObserver(stream, line), [wanted])  # type: ignore[list-item]  # it fits


def _wanted(event: LogEvent, debug: int) -> bool:
    """Level 0: what an operator needs; 1: what hbtd does besides; 2: what its libraries say too."""
    level = event.get("log_level", LogLevel.info)
    if str(event.get("log_namespace", "")).partition(".")[0] == "hbtd":
        least = LogLevel.info if debug == 0 else LogLevel.debug
    else:
        least = LogLevel.warn if debug < 2 else LogLevel.debug
    return bool(level >= least)


def escaped(text: str) -> str:
    r"""Write control characters as `\xNN` or `\uNNNN`."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def text_line(event: LogEvent) -> str:
    """Write an event as a line: time in UTC, level, origin, message; tracebacks follow indented."""
    return f"{_time(event)} {_level(event).name:<8} {_message(event)}"


def journal_line(event: LogEvent) -> str:
    """Write an event as a line for journald."""
    prefix = _PRIORITIES[_level(event)]
    return "".join(f"{prefix}{line}\n" for line in _message(event).splitlines())


def json_line(event: LogEvent) -> str:
    """Write an event as a JSON object in a line."""
    line = {
        "time": _time(event),
        "level": _level(event).name,
        "origin": _origin(event),
        "message": _text(event),
    }
    traceback = _traceback(event)
    if traceback:
        line["traceback"] = traceback
    # What the system could not decode can't be encoded either.
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
    return event.get("log_level") or LogLevel.info  # type: ignore[no-any-return]  # it is one


def _origin(event: LogEvent) -> str:
    return str(event.get("log_namespace", "-"))


def _text(event: LogEvent) -> str:
    return eventAsText(event, includeTraceback=False, includeTimestamp=False, includeSystem=False)


def _traceback(event: LogEvent) -> str:
    failure = event.get("log_failure")
    return failure.getTraceback() if failure is not None else ""


class LibraryLog(logging.Handler):
    """Takes what a library says through `logging` into hbtd's log, as debug messages.

    Such a library is noisy about what is not worth a warning to an operator; hbtd says itself,
    once, when a neighbour goes and when it returns.
    """

    def __init__(self, library: str) -> None:
        super().__init__()
        self._log = Logger(namespace=library)
        self._logger = logging.getLogger(library)
        self._before = (self._logger.propagate, self._logger.level)

    def emit(self, record: logging.LogRecord) -> None:
        """Hand on one message."""
        try:
            self._log.debug("{text}", text=record.getMessage())
        except Exception:  # noqa: BLE001  # as every handler does: not the caller's business
            self.handleError(record)

    def start(self) -> None:
        """Begin to listen, instead of whoever listens otherwise."""
        self._before = (self._logger.propagate, self._logger.level)
        self._logger.addHandler(self)
        self._logger.propagate = False
        self._logger.setLevel(logging.INFO)

    def stop(self) -> None:
        """Listen no more."""
        self._logger.removeHandler(self)
        self._logger.propagate, level = self._before
        self._logger.setLevel(level)


def error_stream() -> TextIO:
    """Give the stream that a foreground service writes its log to."""
    return sys.stderr
