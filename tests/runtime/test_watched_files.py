"""Watched files: when they are loaded again, and what is logged of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs, eventAsText
from twisted.trial.unittest import SynchronousTestCase

from hbtd.runtime.watched_files import PERIOD, FileWatcher, WatchedFiles


class Unusable(Exception):
    """The file can't be used."""


def logged(events: Sequence[Any], level: Any) -> list[str]:
    """Return the messages that were logged at a level."""
    return [
        eventAsText(event, includeTimestamp=False, includeSystem=False)
        for event in events
        if event["log_level"] is level
    ]


class WatchedFilesTests(SynchronousTestCase):
    """A file of one number is loaded again when it changes."""

    def setUp(self) -> None:
        self.trouble: Exception = Unusable("can't be read")
        self.broken = False
        self.loads = 0
        self.path = Path(self.mktemp())
        self.path.write_text("1")
        self.clock = Clock()
        self.watch(WatchedFiles("The numbers", [str(self.path)], self.load, Unusable))

    def watch(self, files: WatchedFiles[int]) -> None:
        """Watch files."""
        self.files = files
        self.watcher = FileWatcher(self.clock, [files])
        self.watcher.startService()
        self.addCleanup(self.watcher.stopService)

    def load(self) -> int:
        """Return the number in the file, or raise `trouble` if it is broken."""
        self.loads += 1
        if self.broken:
            raise self.trouble
        text = self.path.read_text()
        if not text.isdecimal():
            raise Unusable(f"{text!r} is no number")
        return int(text)

    def errors(self, *periods: float) -> list[str]:
        """Let time pass; return the errors logged meanwhile."""
        with capturedLogs() as events:
            self.clock.pump(periods)
        return logged(events, LogLevel.error)

    def test_first(self) -> None:
        """The files are loaded at once, and an error is raised."""
        self.assertEqual(self.files.current, 1)
        self.path.write_text("x")
        self.assertRaises(
            Unusable, WatchedFiles, "The numbers", [str(self.path)], self.load, Unusable
        )

    def test_changed(self) -> None:
        """Changed files are loaded at the next check, and listeners are called once."""
        seen: list[int] = []
        self.files.on_change(lambda: seen.append(self.files.current))
        self.path.write_text("22")
        with capturedLogs() as events:
            self.clock.pump([PERIOD - 1, 1, PERIOD, PERIOD])
        self.assertEqual((self.files.current, seen), (22, [22]))
        self.assertEqual(logged(events, LogLevel.info), ["The numbers were read again."])

    def test_still_wrong(self) -> None:
        """An error is logged once, at the second check, and the old content stays."""
        self.path.write_text("wrong")
        self.assertEqual(self.errors(PERIOD), [])
        (line,) = self.errors(*[PERIOD] * 5)
        self.assertIn("the old ones stay in force: 'wrong' is no number", line)
        self.assertEqual(self.files.current, 1)

    def test_wrong_anew(self) -> None:
        """Files that are wrong again, after another change, are logged again."""
        for text in ("wrong", "as wrong"):
            self.path.write_text(text)
            self.assertEqual(self.errors(PERIOD), [])
            (line,) = self.errors(*[PERIOD] * 2)
            self.assertIn(repr(text), line)

    def test_half_written(self) -> None:
        """Files that were wrong at one check only are not logged."""
        for text in ("half", "halves", "22"):
            self.path.write_text(text)
            self.assertEqual(self.errors(PERIOD), [])
        self.assertEqual(self.errors(PERIOD), [])
        self.assertEqual(self.files.current, 22)

    def test_tried_again(self) -> None:
        """Files that could not be used are loaded again at each check, though they don't change."""
        for trouble in (Unusable("not valid yet"), Unusable("can't be read: input/output error")):
            self.trouble, self.broken = trouble, True
            self.path.write_text(f"{self.files.current}0")
            (line,) = self.errors(*[PERIOD] * 5)
            self.assertIn(str(trouble), line)
            self.broken = False
            self.assertEqual(self.errors(PERIOD), [])
            self.assertEqual(str(self.files.current), self.path.read_text())

    def test_tokens_tried_again(self) -> None:
        """Content that stands in for unusable files is replaced when they can be used again."""
        self.watch(WatchedFiles("The numbers", [str(self.path)], self.load, Unusable, instead=0))
        self.path.write_text("22")
        self.broken = True
        self.files.reload_if_changed()
        self.assertEqual(self.files.current, 0)
        self.broken = False
        self.files.reload_if_changed()  # which is cheap, and done for every request
        self.assertEqual(self.files.current, 0)
        self.clock.advance(PERIOD)
        self.assertEqual(self.files.current, 22)

    def test_bounded(self) -> None:
        """Files that can't be used are loaded once at each check, and no more than that."""
        self.path.write_text("wrong")
        self.loads = 0
        self.clock.pump([PERIOD / 10] * 100)
        self.assertEqual(self.loads, 10)

    def test_another_cause(self) -> None:
        """Each cause that lasts is logged once, also without a change of the files."""
        self.path.write_text("22")
        self.broken = True
        causes = [Unusable("one"), Unusable("two"), Unusable("one")]
        lines = []
        for self.trouble in causes:
            lines += self.errors(*[PERIOD] * 3)
        self.assertEqual([line.rpartition(": ")[2] for line in lines], ["one", "two"])

    def test_ever_other_causes(self) -> None:
        """A cause that is another one at each check is logged, once a minute."""
        self.path.write_text("22")
        self.broken = True
        lines = []
        for number in range(24):
            self.trouble = Unusable(f"cause {number}")
            lines += self.errors(PERIOD)
        self.assertEqual(len(lines), 4)

    def test_listener(self) -> None:
        """A listener that fails is logged, and keeps no other from being called."""
        seen: list[int] = []
        self.files.on_change(lambda: seen.append(1 // 0))
        self.files.on_change(lambda: seen.append(self.files.current))
        self.path.write_text("22")
        self.clock.advance(PERIOD)
        self.assertEqual(seen, [22])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_instead(self) -> None:
        """With `instead`, that is the content while the files can't be used."""
        self.watch(WatchedFiles("The numbers", [str(self.path)], self.load, Unusable, instead=0))
        self.path.write_text("wrong")
        self.files.reload_if_changed()
        self.assertEqual(self.files.current, 0)
        self.path.write_text("22")
        self.files.reload_if_changed()
        self.assertEqual(self.files.current, 22)

    def test_on_request(self) -> None:
        """On request files are loaded even if unchanged, and errors are logged at once."""
        calls: list[None] = []
        self.files.on_change(lambda: calls.append(None))
        self.watcher.reload()
        self.assertEqual(len(calls), 1)
        self.path.write_text("wrong")
        for _ in range(2):
            with capturedLogs() as events:
                self.watcher.reload()
            self.assertEqual(len(logged(events, LogLevel.error)), 1)
        self.assertEqual(self.errors(PERIOD, PERIOD), [])

    def test_stopped(self) -> None:
        """A stopped watcher does not check files, and can be started again."""
        self.watcher.stopService()
        self.path.write_text("22")
        self.clock.advance(2 * PERIOD)
        self.assertEqual(self.files.current, 1)
        self.watcher.startService()
        self.clock.advance(PERIOD)
        self.assertEqual(self.files.current, 22)
