"""The log: the form of its lines, the levels, and protection from forged lines."""

import json
import logging
import re
import unicodedata
from io import StringIO
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.logger import Logger, LogLevel, LogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from hbtd.runtime.logs import (
    LibraryLog,
    dropped_lines,
    escaped,
    journal_line,
    json_line,
    line_format,
    observer,
    text_line,
)

LEVELS = [LogLevel.debug, LogLevel.info, LogLevel.warn, LogLevel.error, LogLevel.critical]
PRIORITIES = {"debug": "<7>", "info": "<6>", "warn": "<4>", "error": "<3>", "critical": "<2>"}
# Some seconds past noon on 27 July 2026.
NOON = 1785153612.345
# Characters that some reader takes for the end of a line, or a terminal for a command.
CONTROLS = [
    *map(chr, range(0x20)),
    *map(chr, range(0x7F, 0xA0)),
    "\u2028",
    "\u2029",
]


def event(text: str = "hello", level: Any = LogLevel.info, **more: Any) -> dict[str, Any]:
    """Return an event whose message is a text."""
    return {
        "log_format": "{said}",
        "said": text,
        "log_level": level,
        "log_namespace": "hbtd.example",
        "log_time": NOON,
        **more,
    }


def failure(said: str = "it broke") -> Failure:
    """Return a failure with a traceback."""
    try:
        raise ValueError(said)
    except ValueError:
        return Failure()


class LineTests(SynchronousTestCase):
    """An event becomes a line."""

    def test_text(self):
        """A text line consists of time, level, origin and message."""
        self.assertEqual(
            text_line(event("hello")),
            "2026-07-27T12:00:12.345Z info     [hbtd.example] hello\n",
        )

    def test_levels_aligned(self):
        """The origin begins in the same column at every level."""
        columns = {text_line(event(level=level)).index("[") for level in LEVELS}
        self.assertEqual(len(columns), 1)

    def test_journal(self):
        """A line for journald has a priority and no time."""
        for level in LEVELS:
            line = journal_line(event("hello", level))
            self.assertEqual(line, f"{PRIORITIES[level.name]}[hbtd.example] hello\n")

    def test_json(self):
        """A JSON line is an object with time, level, origin and message."""
        self.assertEqual(
            json.loads(json_line(event("hello", LogLevel.warn))),
            {
                "time": "2026-07-27T12:00:12.345Z",
                "level": "warn",
                "origin": "hbtd.example",
                "message": "hello",
            },
        )

    def test_traceback(self):
        """In text, the lines of a traceback follow the message, indented."""
        first, *rest = text_line(event("sorry", log_failure=failure())).splitlines()
        self.assertTrue(first.endswith("[hbtd.example] sorry"))
        self.assertTrue(all(line.startswith("    ") for line in rest))
        self.assertIn("it broke", rest[-1])
        self.assertIn("Traceback", rest[0])

    def test_journal_traceback(self):
        """For journald, every line of a traceback has the priority."""
        lines = journal_line(event("sorry", LogLevel.critical, log_failure=failure())).splitlines()
        self.assertGreater(len(lines), 2)
        self.assertTrue(all(line.startswith("<2>    ") for line in lines[1:]), lines)

    def test_json_traceback(self):
        """In JSON, a traceback is a field of the object."""
        line = json_line(event("sorry", log_failure=failure()))
        self.assertEqual(line.count("\n"), 1)
        parsed = json.loads(line)
        self.assertEqual(parsed["message"], "sorry")
        self.assertIn("ValueError: it broke", parsed["traceback"])

    def test_incomplete_events(self):
        """An event without the usual fields, as old libraries emit, becomes a line, too."""
        for incomplete in (
            {},
            {"log_format": "{missing}"},
            {"log_format": None},
            {"message": ("old",), "isError": 0, "log_text": "old"},
            {"log_format": "{0}", "log_level": None},
        ):
            for line in (text_line, journal_line, json_line):
                written = line(dict(incomplete))
                self.assertEqual(written.count("\n"), 1)
                self.assertTrue(written.endswith("\n"))


class EscapingTests(SynchronousTestCase):
    """Text from outside stays within its line."""

    def test_every_control_character(self):
        """Every control character and line separator is written as an escape sequence."""
        for character in CONTROLS:
            code = ord(character)
            written = escaped(f"a{character}b")
            self.assertTrue(written.isprintable(), written)
            self.assertRegex(written, r"\Aa\\[a-z0-9]+b\Z")
            if character not in "\t\n\r":
                width = "x%02x" if code < 0x100 else "u%04x"
                self.assertEqual(written, "a\\" + width % code + "b")
        for character in "\t\n\r":
            self.assertEqual(escaped(character), repr(character)[1:-1])

    def test_other_text(self):
        """Other text is left as it is."""
        for text in ("", "x1000c0s0b0n0", "Grüße, 日本", "C:\\new", '"quoted"', "{braces}"):
            self.assertEqual(escaped(text), text)

    def test_forgery(self):
        """No line end in a message begins a new line."""
        for end in ["\n", "\r", "\r\n", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028"]:
            forged = f"up{end}{text_line(event('x1 died'))}"
            for line in (text_line(event(forged)), journal_line(event(forged))):
                self.assertEqual(len(line.splitlines()), 1)
            self.assertEqual(json_line(event(forged)).count("\n"), 1)

    def test_forgery_in_traceback(self):
        """A line end in an error's text begins only an indented line."""
        for end in ["\n", "\r", "\x85", "\u2028"]:
            lines = text_line(event(log_failure=failure(f"oops{end}forged"))).splitlines()
            self.assertEqual([x for x in lines[1:] if not x.startswith("    ")], [])
            lines = journal_line(event(log_failure=failure(f"oops{end}<2>x"))).splitlines()
            self.assertEqual([x for x in lines[1:] if not x.startswith("<6>    ")], [])

    @settings(max_examples=200)
    @given(st.text())
    def test_any_text(self, text):
        """Any message becomes one line of text without control characters."""
        for line in (text_line(event(text)), journal_line(event(text))):
            self.assertEqual(line.splitlines(), [line[:-1]])
            self.assertNotIn("Cc", {unicodedata.category(c) for c in line[:-1]})

    @settings(max_examples=200)
    @given(st.text())
    def test_any_json(self, text):
        """Any message becomes one line of JSON that contains it."""
        line = json_line(event(text))
        self.assertEqual(line.count("\n"), 1)
        self.assertEqual(json.loads(line)["message"], text)

    def test_undecodable(self):
        """A file name with undecodable bytes can be logged."""
        for line in (text_line, journal_line, json_line):
            try:
                written = line(event("no such file: caf\udce9.pem"))
            except TypeError as error:
                self.fail(f"{line.__name__}: {error}")
            self.assertIn("no such file: caf", written)


class ObserverTests(SynchronousTestCase):
    """The observer writes the wanted events to the stream."""

    def setUp(self):
        self.stream = StringIO()
        self.level = 0

    def logger(self, namespace: str, log_format: str = "text", **environ: str) -> Logger:
        """Return a logger whose messages go to the stream."""
        line = line_format(log_format, environ)
        made = observer(lambda said: self.stream.write(said), line, lambda: self.level)
        return Logger(namespace, observer=LogPublisher(made))

    def test_forms(self):
        """Lines have the form asked for; under journald, text has its form."""
        for log_format, environ, form in [
            ("text", {}, r"2\S+Z info     \[hbtd\.x\] hello\n"),
            ("text", {"JOURNAL_STREAM": "8:1"}, r"<6>\[hbtd\.x\] hello\n"),
            ("json", {}, r'\{"time":.*"message":"hello"\}\n'),
            ("json", {"JOURNAL_STREAM": "8:1"}, r'\{"time":.*"message":"hello"\}\n'),
        ]:
            self.stream = StringIO()
            self.logger("hbtd.x", log_format, **environ).info("hello")
            self.assertTrue(re.fullmatch(form, self.stream.getvalue()), self.stream.getvalue())

    def test_levels(self):
        """At every debug level, hbtd logs at least as much as its libraries."""
        for namespace, least in [
            ("hbtd", ["info", "debug", "debug", "debug"]),
            ("hbtd.hsm.notifier", ["info", "debug", "debug", "debug"]),
            ("kafka", ["warn", "warn", "debug", "debug"]),
            ("twisted.web", ["warn", "warn", "debug", "debug"]),
            ("hbtdish", ["warn", "warn", "debug", "debug"]),
        ]:
            for debug, lowest in zip([0, 1, 2, 2**32 - 1], least, strict=True):
                self.stream, self.level = StringIO(), debug
                logger = self.logger(namespace, "json")
                for level in LEVELS:
                    logger.emit(level, "hello")
                said = [json.loads(line)["level"] for line in self.stream.getvalue().splitlines()]
                names = [level.name for level in LEVELS]
                self.assertEqual(said, names[names.index(lowest) :], (namespace, debug))

    def test_level_changes(self):
        """A new debug level applies to the next message."""
        logger = self.logger("hbtd.x")
        for debug in (0, 1, 0):
            self.level = debug
            logger.debug("level {debug}", debug=debug)
        self.assertEqual(self.stream.getvalue().count("\n"), 1)
        self.assertIn("level 1", self.stream.getvalue())

    def test_failure(self):
        """A logged failure is written with its traceback."""
        self.logger("hbtd.x").failure("It broke.", failure("badly"))
        self.assertIn("critical [hbtd.x] It broke.\n", self.stream.getvalue())
        self.assertIn("ValueError: badly", self.stream.getvalue())

    def test_dropped(self):
        """Lines that were dropped are a warning, in the format of the log."""
        for line in (text_line, json_line):
            said = dropped_lines(line, lambda: NOON)(17)
            self.assertIn("17 lines of the log are missing here", said)
            self.assertIn("2026-07-27T12:00:12.345Z", said)
            self.assertIn("warn", said)
            self.assertEqual(said.count("\n"), 1)


class LibraryLogTests(SynchronousTestCase):
    """Messages of libraries that use `logging` reach the log."""

    library = "hbtd_tests_library"

    def setUp(self):
        self.logger = logging.getLogger(self.library)
        self.log = LibraryLog(self.library)
        self.addCleanup(self.log.stop)

    def test_as_debug(self):
        """A library's message becomes a debug message, formatted as the library asked."""
        self.log.start()
        seen: list[tuple[Any, ...]] = []
        self.patch(self.log, "_log", Logger(self.library, observer=self.noting(seen)))
        self.logger.warning("%s has {braces}: %d %%", "it", 5)
        self.assertEqual(seen, [(LogLevel.debug, self.library, "it has {braces}: 5 %")])

    def noting(self, seen: list[tuple[Any, ...]]) -> Any:
        """Return an observer that appends level, origin and message to a list."""
        return lambda event: seen.append(
            (event["log_level"], event["log_namespace"], json.loads(json_line(event))["message"])
        )

    def test_instead(self):
        """While it is started, no other handler gets the messages; `stop` restores them."""
        told: list[logging.LogRecord] = []
        parent = logging.Handler()
        self.patch(parent, "emit", told.append)
        root = logging.getLogger()
        root.addHandler(parent)
        self.addCleanup(root.removeHandler, parent)
        before = list(self.logger.handlers)
        self.logger.warning("before")
        self.log.start()
        self.logger.warning("during")
        self.log.stop()
        self.logger.warning("after")
        self.assertEqual([record.getMessage() for record in told], ["before", "after"])
        self.assertEqual(self.logger.handlers, before)
        self.assertTrue(self.logger.propagate)
