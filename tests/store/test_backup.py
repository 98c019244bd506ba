"""The command `hbtd-backup`: copies that are complete, also while hbtd runs, and how it fails."""

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from hbtd.store.backup import BackupFailed, TooLate, back_up
from hbtd.store.sqlite import SqliteStore
from tests.support.processes import CHECKOUT
from tests.support.sqlite_files import SqliteFixture
from tests.support.store_contract import DIED, judgement, record
from tests.support.tmpfs import small_filesystem


class Time:
    """A clock that sleeping advances, and nothing else."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept = 0

    def clock(self) -> float:
        """Return the time in seconds."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Advance the clock."""
        self.now += seconds
        self.slept += 1


class BackupTestCase(SqliteFixture, TestCase):
    """A store, and a directory for copies."""

    def setUp(self) -> None:
        """Choose paths."""
        super().setUp()
        self.folder = Path(self.mktemp()).resolve()
        self.folder.mkdir()
        self.path = self.folder / "hbtd.sqlite"
        self.copy = self.folder / "copy"
        self.time = Time()

    def back_up(self, **more: Any) -> tuple[int, int]:
        """Make a backup, within ten seconds of the test's clock."""
        options = {"sleep": self.time.sleep, "clock": self.time.clock, **more}
        progress = options.pop("progress", lambda done, pages: None)
        return back_up(str(self.path), str(self.copy), 10.0, progress, **options)

    async def filled(self, count: int = 5000) -> SqliteStore:
        """Open a store with records and judgements."""
        store: SqliteStore = await self.opened()
        died = [judgement(f"x{i}", DIED) for i in range(count, count + 10)]
        await store.commit(died, [record(f"x{i}", i / 100) for i in range(count)])
        return store

    async def assert_copy(self, count: int = 5000) -> None:
        """Check that the copy has what `filled` has written, and nothing is beside it."""
        self.assertEqual([each.name for each in self.folder.glob("copy*")], ["copy"])
        with closing(sqlite3.connect(self.copy)) as alone:
            self.assertEqual(alone.execute("SELECT count(*) FROM session").fetchone(), (0,))
        copied = self.make_store(self.copy)
        await copied.open()
        await self.assertRecords(copied, [record(f"x{i}", i / 100) for i in range(count)])
        died = [judgement(f"x{i}", DIED) for i in range(count, count + 10)]
        await self.assertKept(copied, died, died)
        await copied.close()


class BackupTests(BackupTestCase):
    """Backups that are made."""

    async def test_in_use(self) -> None:
        """A store that is in use is copied with its latest changes, and goes on."""
        store = await self.filled()
        self.assertEqual(await deferToThread(self.back_up), (5000, 10))
        self.assertEqual(self.time.slept, 0)
        await store.checkpoint([record("x0", 3.0)])
        self.assertTrue(store.usable())
        await self.assert_copy()

    async def test_one_moment(self) -> None:
        """What is written during the backup is in it as a whole, or not at all."""
        store = await self.filled()
        steps: list[int] = []

        def write_meanwhile(done: int, pages: int) -> None:
            steps.append(done)
            self.time.now += 0.1
            with closing(sqlite3.connect(self.path)) as writer:
                writer.execute("UPDATE record SET timestamp = 'later'")
                writer.commit()

        found = await deferToThread(self.back_up, progress=write_meanwhile, pages=5)
        self.assertEqual(found, (5000, 10))
        self.assertGreater(len(steps), 3)
        self.assertEqual(steps, sorted(steps))
        await self.assert_copy()
        await store.checkpoint([])

    async def test_closed(self) -> None:
        """A store that is closed is copied as well, and left as it is."""
        await (await self.filled()).close()
        before = self.path.read_bytes(), os.listdir(self.folder)
        self.path.chmod(0o600)
        self.assertEqual(self.back_up(), (5000, 10))
        self.assertEqual(self.copy.stat().st_mode & 0o777, 0o600)
        await self.assert_copy()
        self.copy.unlink()
        self.assertEqual((self.path.read_bytes(), os.listdir(self.folder)), before)

    async def test_killed(self) -> None:
        """So is one whose hbtd was killed, with what is in its log alone."""
        await self.filled()
        killed = self.folder / "killed"
        for end in ("", "-wal"):
            shutil.copy(f"{self.path}{end}", f"{killed}{end}")
        self.path = killed
        self.assertEqual(self.back_up(), (5000, 10))
        await self.assert_copy()

    async def test_restored(self) -> None:
        """A copy that takes the place of the file, as --help says, is used without remarks."""
        store = await self.filled()
        await deferToThread(self.back_up)
        await store.commit([judgement("x1", DIED)])
        await store.close()
        for end in ("", "-wal", "-shm"):
            Path(f"{self.path}{end}").unlink(missing_ok=True)
        shutil.copy(self.copy, self.path)
        restored = await self.opened()
        await self.assertRecords(restored, [record(f"x{i}", i / 100) for i in range(5000)])

    async def test_overwritten(self) -> None:
        """An existing file is overwritten only on request."""
        await self.filled()
        self.copy.write_text("mine")
        with self.assertRaisesRegex(BackupFailed, "exists already"):
            self.back_up()
        self.assertEqual(self.copy.read_text(), "mine")
        await deferToThread(self.back_up, replace=True)
        await self.assert_copy()


class FailureTests(BackupTestCase):
    """Backups that can't be made leave nothing behind."""

    def assert_fails(self, kind: type[Exception], words: str, **more: Any) -> None:
        """Check that a backup fails, and there is no file."""
        with self.assertRaisesRegex(kind, words):
            self.back_up(**more)
        self.assertEqual(list(self.folder.glob("copy*")), [])

    async def test_locked(self) -> None:
        """A file that another program keeps locked is waited for, and not for ever."""
        await (await self.filled()).close()
        with closing(sqlite3.connect(self.path)) as other:
            other.execute("PRAGMA locking_mode = EXCLUSIVE")
            other.execute("BEGIN EXCLUSIVE")
            other.execute("UPDATE record SET timestamp = ''")
            self.assert_fails(TooLate, "another program keeps .* locked")
            self.assertIn(self.time.slept, (49, 50))
            self.time.now = 0.0

            def sleep(seconds: float) -> None:
                other.close()

            self.assertEqual(self.back_up(sleep=sleep), (5000, 10))

    async def test_slow(self) -> None:
        """A backup that is not ready in time is given up."""
        await self.filled()
        self.time.now = 10.0
        self.assert_fails(TooLate, "not copied in time")

    async def test_no_directory(self) -> None:
        """Where the copy's directory is missing, it is said."""
        await self.written()
        self.copy = self.folder / "missing" / "copy"
        folder = self.copy.parent
        self.assert_fails(BackupFailed, f"unable to open.*; there is no directory {folder}: create")

    async def test_not_hbtds(self) -> None:
        """What is no file of hbtd is refused, and so is one that is not there, or damaged."""
        self.assert_fails(BackupFailed, "there is no file")
        self.path.touch()
        self.assert_fails(BackupFailed, "is empty")
        self.path.write_bytes(b"no database" * 1000)
        self.assert_fails(BackupFailed, "not a database")
        self.path.unlink()
        with closing(sqlite3.connect(self.path)) as other:
            other.execute("CREATE TABLE recipe (name TEXT)")
        self.assert_fails(BackupFailed, "some other program")
        self.path.unlink()
        await self.written()
        whole = self.path.read_bytes()
        self.path.write_bytes(whole[:8192] + bytes(4096 * 6) + whole[8192 + 4096 * 6 :])
        self.assert_fails(BackupFailed, "damaged|malformed")

    async def test_no_room(self) -> None:
        """On a disk without room for the copy nothing is left behind."""
        await self.filled()
        self.copy = small_filesystem(self, 100) / "copy"
        with self.assertRaisesRegex(BackupFailed, "full|I/O"):
            self.back_up()
        self.assertEqual(list(self.copy.parent.iterdir()), [])
        self.copy = self.folder / "none" / "copy"
        self.assert_fails(BackupFailed, "unable to open")


class CommandTests(BackupTestCase):
    """The command line."""

    async def run_it(self, *arguments: str) -> tuple[int, str, str]:
        """Run the command; return its exit status, output and errors."""
        done = await deferToThread(
            subprocess.run,
            [sys.executable, "-m", "hbtd.store.backup", *arguments],
            capture_output=True,
            text=True,
            cwd=CHECKOUT,
            timeout=60,
        )
        return done.returncode, done.stdout, done.stderr

    async def test_done(self) -> None:
        """It says what is in the copy, and with --progress how far it is."""
        store = await self.filled()
        running: Deferred[Any] = Deferred.fromCoroutine(
            self.run_it(f"sqlite:{self.path}", str(self.copy))
        )
        said = f"hbtd-backup: {self.copy} has 5000 records and 10 judgements.\n"
        self.assertEqual(await running, (0, said, ""))
        await self.assert_copy()
        status, out, errors = await self.run_it(
            "--progress", "--force", str(self.path), str(self.copy)
        )
        self.assertEqual((status, out), (0, said))
        self.assertRegex(errors, r"\Ahbtd-backup: (\d+) of \1 pages, 100 %\n\Z")
        await store.checkpoint([])

    async def test_failed(self) -> None:
        """The exit status says whether another attempt may help."""
        status, out, errors = await self.run_it(str(self.path), str(self.copy))
        self.assertEqual(
            (status, out, errors), (1, "", f"hbtd-backup: there is no file {self.path}\n")
        )
        await (await self.filled()).close()
        with closing(sqlite3.connect(self.path)) as other:
            other.execute("PRAGMA locking_mode = EXCLUSIVE")
            other.execute("BEGIN EXCLUSIVE")
            status, _, errors = await self.run_it("--timeout=0.5", str(self.path), str(self.copy))
        self.assertEqual(status, 75, errors)

    async def test_help(self) -> None:
        """It has help with the exit statuses; a wrong command line has status 2."""
        status, out, _ = await self.run_it("--help")
        self.assertEqual(status, 0)
        for words in ("--timeout SECONDS", "To restore a copy", "75 "):
            self.assertIn(words, out)
        for wrong in ((), ("a",), ("a", "b", "--timeout=0"), ("a", "b", "--timeout=x")):
            status, _, errors = await self.run_it(*wrong)
            self.assertEqual(status, 2)
            self.assertIn("usage: hbtd-backup", errors)
