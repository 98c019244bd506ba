"""The files of hbtd's own secrets."""

from pathlib import Path

from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from hbtd.net.own_secrets import (
    BearerToken,
    Login,
    SecretFile,
    SecretUnusable,
    read_bearer,
    read_login,
)
from hbtd.runtime.watched_files import PERIOD, FileWatcher
from tests.support.logged import said

SECRET = "s3cret-enough-not-to-be-found"


class SecretTestCase(SynchronousTestCase):
    """Has a file for a secret."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp()).resolve()
        self.path.touch(0o600)

    def write(self, content: str) -> str:
        """Write the file, and return its path."""
        self.path.write_bytes(content.encode("utf-8", "surrogateescape"))
        return str(self.path)


class ReadTests(SecretTestCase):
    """Files are read, and refused without a word of what is in them."""

    def test_read(self) -> None:
        """A token is one word, a user and password one line in which space counts."""
        self.assertEqual(read_bearer(self.write(f" {SECRET}==\n")), BearerToken(SECRET + "=="))
        self.assertEqual(read_login(self.write("hbtd:a: b \n")), Login("hbtd", "a: b "))
        self.assertEqual(read_login(self.write("hbtd:a\r\n")), Login("hbtd", "a"))

    def test_refused(self) -> None:
        """What is no secret is refused, and the reason names the file, but not what it holds."""
        token = [
            "",
            "\n",
            f"{SECRET} two",
            f"{SECRET}\r\nX-Y:z",
            f"{SECRET}\xe9",
            f"{SECRET}\udcff",
        ]
        login = ["", SECRET, f":{SECRET}", f"{SECRET}:", f"a:{SECRET}\n{SECRET}", "a:\udcff"]
        for read, contents in ((read_bearer, token), (read_login, login)):
            for content in contents:
                with self.assertRaises(SecretUnusable) as raised:
                    read(self.write(content))
                self.assertIn(str(self.path), str(raised.exception))
                self.assertNotIn(SECRET, repr(raised.exception))
                self.assertIsNone(raised.exception.__cause__)
        self.write("x" * (16 * 1024 + 1))
        self.assertRaises(SecretUnusable, read_bearer, str(self.path))
        self.path.unlink()
        self.assertRaises(SecretUnusable, read_login, str(self.path))

    def test_shown(self) -> None:
        """No representation of a secret, alone or in something else, has it."""
        self.assertNotIn(SECRET, f"{[BearerToken(SECRET)]} {BearerToken(SECRET)!s}")
        self.assertEqual(f"{Login('hbtd', SECRET)}", "<Login 'hbtd'>")

    def test_open_to_all(self) -> None:
        """A file that every user may read is warned of, once each time that it is read."""
        for content, read in ((SECRET, read_bearer), (f"hbtd:{SECRET}", read_login)):
            for mode, warnings in ((0o640, 0), (0o644, 1), (0o602, 1)):
                self.write(content)
                self.path.chmod(mode)
                with capturedLogs() as events:
                    read(str(self.path))
                lines = said(events, LogLevel.warn)
                self.assertEqual(len(lines), warnings)
                self.assertNotIn(SECRET, str(lines))


class ChangeTests(SecretTestCase):
    """A file that is replaced while hbtd runs."""

    def setUp(self) -> None:
        super().setUp()
        self.file = SecretFile("The token", self.write("first"), read_bearer)
        self.clock = Clock()
        watcher = FileWatcher(self.clock, [self.file.watched])
        watcher.startService()
        self.addCleanup(watcher.stopService)

    def test_watched(self) -> None:
        """A changed file is read again; while it can't be used, the old secret stays in force."""
        self.write("second")
        self.clock.advance(PERIOD)
        self.assertEqual(self.file.current, BearerToken("second"))
        self.write("half of")
        with capturedLogs() as events:
            self.clock.pump([PERIOD] * 5)
        (line,) = said(events, LogLevel.error)
        self.assertIn("the old ones stay in force", line)
        self.assertNotIn("half", line)
        self.assertEqual(self.file.current, BearerToken("second"))

    def test_refused(self) -> None:
        """After a refusal the file is read at once; it counts as renewed if the secret differs."""
        self.assertFalse(self.file.renewed(self.file.current))
        self.write("second")
        self.assertTrue(self.file.renewed(BearerToken("first")))
        self.assertFalse(self.file.renewed(BearerToken("second")))
        self.assertTrue(self.file.renewed(BearerToken("first")))  # by another request

    def test_conceal(self) -> None:
        """What others say is free of the present secret, and of the one before it."""
        self.write("second")
        self.file.renewed(self.file.current)
        self.assertEqual(self.file.conceal("first, second, third"), "(a secret), (a secret), third")
