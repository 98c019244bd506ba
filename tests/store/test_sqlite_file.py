"""The file of the store `sqlite:` while hbtd uses it: what others do to it, and copies of it."""

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from hbtd.store.interface import StoreUnusable
from hbtd.store.sqlite import SqliteStore
from tests.support.sqlite_files import OPENS, WELL, SqliteFixture
from tests.support.store_contract import DIED, WARNED, judgement, record
from tests.support.tmpfs import fill, small_filesystem


class FileTestCase(SqliteFixture, TestCase):
    """A store with some contents, in a directory of its own."""

    def setUp(self) -> None:
        """Choose a path, and collect what stores log."""
        super().setUp()
        self.folder = Path(self.mktemp()).resolve()
        self.folder.mkdir()
        self.path = self.folder / "hbtd.sqlite"
        self.said: list[str] = []

        @implementer(ILogObserver)
        def observe(event: LogEvent) -> None:
            if str(event.get("log_namespace")).startswith("hbtd.store"):
                self.said.append(formatEvent(event))

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)

    async def filled(self) -> SqliteStore:
        """Open a store, and write some records and judgements."""
        store: SqliteStore = await self.opened()
        self.assertEqual(self.said, [])
        await store.commit([judgement("x1", DIED), judgement("x2", WARNED)], [])
        await store.checkpoint([record("x2", 5.0, warned=True), record("x3", 1.0)])
        return store

    async def assert_all_there(self, store: SqliteStore, *more: Any) -> None:
        """Check that a store has what `filled` has written, and more records."""
        kept = [judgement("x1", DIED), judgement("x2", WARNED)]
        await self.assertKept(store, kept, kept)
        await self.assertRecords(store, [record("x2", 5.0, warned=True), record("x3", 1.0), *more])

    async def fails(self, store: SqliteStore, *words: str) -> None:
        """Check that a store says why it can't be used."""
        written: Deferred[Any] = store.checkpoint([record("x4")])
        error = await self.assertFailure(written, StoreUnusable)
        for word in (str(self.path), *words):
            self.assertIn(word, str(error))
        self.assertFalse(store.usable())
        self.assertEqual(store.health(), str(error))


class RemovedTests(FileTestCase):
    """What is removed is written anew."""

    async def assert_anew(self, store: SqliteStore, why: str) -> None:
        """Check that the next call writes the file anew, with everything, and says so."""
        await store.checkpoint([record("x4", 0.0)])
        self.assertTrue(store.usable())
        self.assertEqual(store.health(), WELL)
        await self.assert_all_there(store, record("x4", 0.0))
        said = f"The store {self.path} {why}, and has been written anew, with all that was in it."
        self.assertEqual(self.said, [said])
        names = {each.name for each in self.folder.iterdir()}
        self.assertEqual(names, {"hbtd.sqlite", "hbtd.sqlite-wal", "hbtd.sqlite-shm"})
        self.assertIn("in use by another hbtd", await self.elsewhere(OPENS))
        # As after a kill: what is on the disk is all there is.
        copy = self.folder / "copy"
        for end in ("", "-wal"):
            shutil.copy(f"{self.path}{end}", f"{copy}{end}")
        killed = self.make_store(copy)
        await killed.open()
        await self.assert_all_there(killed, record("x4", 0.0))
        await killed.close()
        await store.close()
        await self.assert_all_there(await self.opened(), record("x4", 0.0))
        self.assertEqual(self.said, [said])

    async def test_removed(self) -> None:
        """A file that is removed is written anew, whole."""
        store = await self.filled()
        self.path.chmod(0o640)
        self.path.unlink()
        await self.assert_anew(store, "was removed")
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o640)

    async def test_all_removed(self) -> None:
        """So is one that is removed together with its log."""
        store = await self.filled()
        for each in list(self.folder.iterdir()):
            each.unlink()
        await self.assert_anew(store, "was removed")

    async def test_moved(self) -> None:
        """So is one that is renamed, which stays as it was."""
        store = await self.filled()
        moved = self.folder.parent / f"{self.folder.name}-moved"
        self.path.rename(moved)
        before = moved.read_bytes()
        await self.assert_anew(store, "was removed")
        self.assertEqual(moved.read_bytes(), before)

    async def test_log_removed(self) -> None:
        """So is one of which only the log is removed, which has the latest changes."""
        store = await self.filled()
        Path(f"{self.path}-wal").unlink()
        await self.assert_anew(store, "has lost its write-ahead log")

    async def test_log_replaced(self) -> None:
        """The log of another file, put in place of its own, is not taken for its own."""
        store = await self.filled()
        other = self.make_store(self.folder.parent / f"{self.folder.name}-other")
        await other.open()
        self.addCleanup(other.close)
        await other.checkpoint([record(f"x{i}") for i in range(100, 400)])
        shutil.copy(f"{other._path}-wal", self.folder / "log")
        os.replace(self.folder / "log", f"{self.path}-wal")
        await self.assert_anew(store, "has lost its write-ahead log")

    async def test_removed_before_stopping(self) -> None:
        """A file that is removed just before hbtd stops is written anew as well."""
        store = await self.filled()
        self.path.unlink()
        await store.close()
        await self.assert_all_there(await self.opened())

    async def test_again_and_again(self) -> None:
        """It may be removed any number of times, a link to it as well as the file behind it."""
        linked = self.folder / "link"
        linked.symlink_to(self.path)
        self.path, real = linked, self.path
        store = await self.filled()
        for number in range(3):
            real.unlink()
            await store.checkpoint([])
            self.assertEqual(len(self.said), number + 1)
        await store.close()
        self.assertTrue(linked.is_symlink())
        await self.assert_all_there(await self.opened())

    async def test_directory(self) -> None:
        """While the directory is gone too, the reason is said; then the file is written anew."""
        store = await self.filled()
        shutil.rmtree(self.folder)
        for _ in range(3):
            await self.fails(store, "was removed, and can't be written anew", "unable to open")
        self.folder.mkdir()
        await self.assert_anew(store, "was removed")

    async def test_no_room(self) -> None:
        """While there is no room for a new file, the reason is said, and nothing is left behind."""
        self.folder = small_filesystem(self, 300)
        self.path = self.folder / "hbtd.sqlite"
        store = await self.filled()
        self.path.rename(self.folder / "moved")
        filler = fill(self.folder)
        for _ in range(2):
            await self.fails(store, "was removed, and can't be written anew")
            self.assertFalse(Path(f"{self.path}-new").exists())
        (self.folder / "moved").unlink()
        filler.unlink()
        await self.assert_anew(store, "was removed")


class OverwrittenTests(FileTestCase):
    """What others have put in place of the file is left alone, and hbtd says so."""

    async def older_copy(self) -> Path:
        """Return a copy of a store with other contents, closed in good order."""
        copy = self.folder.parent / f"{self.folder.name}-copy"
        store = self.make_store(copy)
        await store.open()
        await store.commit([judgement("x9", DIED)], [record(f"x{i}") for i in range(20, 600)])
        await store.close()
        return copy

    async def test_replaced(self) -> None:
        """Another file in its place is left as it is; when it is moved away, ours comes back."""
        store = await self.filled()
        copy = await self.older_copy()
        os.replace(copy, self.path)
        before = self.path.read_bytes()
        for _ in range(3):
            await self.fails(store, "another file in place", "move it away")
        self.assertFalse(Path(f"{self.path}-wal").exists())
        self.path.rename(copy)
        await store.checkpoint([])
        self.assertEqual(store.health(), WELL)
        await self.assert_all_there(store)
        self.assertEqual(copy.read_bytes(), before)

    async def test_replaced_and_restarted(self) -> None:
        """After a restart the file in its place is used, without anything of the former one."""
        store = await self.filled()
        os.replace(await self.older_copy(), self.path)
        await self.fails(store, "restart hbtd to use it")
        await store.close()
        again = await self.opened()
        await self.assertRecords(again, [record(f"x{i}") for i in range(20, 600)])
        await self.assertKept(again, [judgement("x9", DIED)], [judgement("x9", DIED)])

    async def test_other_hbtd(self) -> None:
        """A file that another hbtd has made meanwhile is left to that one."""
        store = await self.filled()
        self.path.unlink()
        Path(f"{self.path}-wal").unlink()
        other = await self.opened()
        await other.checkpoint([record("x7")])
        for _ in range(2):
            await self.fails(store, "another file in place")
            await other.checkpoint([record("x7")])
        await self.assertRecords(other, [record("x7")])

    async def test_truncated(self) -> None:
        """A file that is truncated, wholly or in part, can't be used any more."""
        for size in (0, 100, 4096):
            self.path = self.folder / f"{size}.sqlite"
            store = await self.filled()
            os.truncate(self.path, size)
            for _ in range(2):
                await self.fails(store, "overwritten or truncated", "stop hbtd, then restore")
            await store.close()

    async def test_copied_over(self) -> None:
        """The same is true of a file over which another was copied, whatever the sizes."""
        for size in (2000, 3):
            self.path = self.folder / f"{size}.sqlite"
            store = await self.filled()
            await store.checkpoint([record(f"x{i}") for i in range(1000, 1000 + size)])
            await store._run(lambda cursor: cursor.execute("PRAGMA wal_checkpoint").fetchall())
            shutil.copyfile(await self.older_copy(), self.path)
            await self.fails(store, "overwritten or truncated")
            await store.close()

    async def test_touched(self) -> None:
        """A file of which only the time has changed is still good."""
        store = await self.filled()
        os.utime(self.path, (1, 1))
        await store.checkpoint([])
        await store.checkpoint([])
        self.assertEqual(
            self.said, [f"The store {self.path} was touched by another program, and is sound."]
        )
        await self.assert_all_there(store)

    async def test_read_only(self) -> None:
        """A file that is made read-only is still open, and is written as before."""
        store = await self.filled()
        self.path.chmod(0o444)
        await store.checkpoint([record("x4")])
        self.assertEqual(store.health(), WELL)
        self.assertEqual(self.said, [])

    async def test_out_of_sight(self) -> None:
        """A file that can't be looked at is said, for as long as that lasts."""
        store = await self.filled()
        moved = self.folder.parent / f"{self.folder.name}-moved"
        self.folder.rename(moved)
        self.folder.symlink_to(self.folder)  # leads nowhere
        await self.fails(store, "can't be looked at")
        self.folder.unlink()
        moved.rename(self.folder)
        await store.checkpoint([])
        await self.assert_all_there(store)
        self.assertEqual(self.said, [])


class ReaderTests(FileTestCase):
    """Other programs read the file while hbtd uses it."""

    async def test_reader(self) -> None:
        """A program that reads sees the latest changes, and is in nobody's way."""
        store = await self.filled()
        with closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)) as reader:
            reader.execute("BEGIN")
            count = "SELECT count(*) FROM record"
            self.assertEqual(reader.execute(count).fetchone(), (2,))
            await store.checkpoint([record("x4")])
            await store._run(lambda cursor: cursor.execute("PRAGMA wal_checkpoint").fetchall())
            self.assertEqual(reader.execute(count).fetchone(), (2,))
            reader.rollback()
            self.assertEqual(reader.execute(count).fetchone(), (3,))
        await store.checkpoint([record("x5")])
        self.assertTrue(store.usable())
        self.assertEqual(self.said, [])


class CopyTests(FileTestCase):
    """Copies of the file, made while it was in use."""

    async def copied(self) -> SqliteStore:
        """Copy the file without its log, and open the copy."""
        copy = self.folder / "copy"
        shutil.copy(self.path, copy)
        store = self.make_store(copy)
        self.addCleanup(store.close)
        await store.open()
        return store

    async def test_without_log(self) -> None:
        """A copy without the log has what is a minute old, and says that something is missing."""
        store = await self.filled()
        self.now += 61
        await store.checkpoint([])
        await store.checkpoint([record("x4")])
        copied = await self.copied()
        names = {each.component for each in await copied.records()}
        self.assertLessEqual({"x2", "x3"}, names)
        (said,) = self.said
        self.assertIn("it is probably a plain copy: it was not closed and has no -wal file", said)
        end = r"It has \d+ records\. Restore a copy made by hbtd-backup if you have one\.$"
        self.assertRegex(said, end)

    async def test_at_once(self) -> None:
        """So does one that is made just after the file was."""
        await self.opened()
        copied = await self.copied()
        self.assertEqual(list(await copied.records()), [])
        self.assertIn("the latest changes are missing", self.said[0])

    async def test_as_before(self) -> None:
        """So does one whose tables were all in the log."""
        with closing(sqlite3.connect(self.path)) as old:
            old.execute("PRAGMA journal_mode = WAL")
        await self.opened()
        (said,) = self.said
        self.assertIn("it is empty although it was in use", said)

    async def test_emptied(self) -> None:
        """A file that once had records, and has none now, says so."""
        store = await self.filled()
        for name in ("x1", "x2", "x3"):
            await store.forget(name)
        await store.close()
        await self.opened()
        self.assertEqual(
            self.said,
            [
                f"The store {self.path} may have lost data: it once had records, and has none now."
                " Restore a copy made by hbtd-backup if you have one."
            ],
        )

    async def test_all_dead(self) -> None:
        """A file without records is nothing to be said of if all components have died."""
        store = await self.filled()
        await store.commit([judgement("x2", DIED), judgement("x3", DIED)])
        await store.close()
        await self.opened()
        self.assertEqual(self.said, [])

    async def test_closed_or_killed(self) -> None:
        """Nothing is said of a file that was closed, nor of one that was in use during a kill."""
        store = await self.filled()
        killed = self.folder / "killed"
        for end in ("", "-wal"):
            shutil.copy(f"{self.path}{end}", f"{killed}{end}")
        await store.close()
        await self.opened()
        other = self.make_store(killed)
        await other.open()
        await self.assert_all_there(other)
        await other.close()
        self.assertEqual(self.said, [])
