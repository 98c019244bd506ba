"""The store `sqlite:`: the contract of all stores, and its file."""

import random
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from threading import Event
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from hbtd.store.interface import StoreUnusable
from hbtd.store.sqlite import SqliteStore
from hbtd.store.sqlite_file import StoreDamaged
from tests.support.running import reactor
from tests.support.sqlite_files import OPENS, WELL, WRITES, SqliteFixture
from tests.support.store_contract import (
    DIED,
    STARTED,
    WARNED,
    StoreContract,
    judgement,
    record,
)
from tests.support.store_identities_contract import IdentitiesContract
from tests.support.store_log_contract import LogContract
from tests.support.store_notes_contract import NotesContract
from tests.support.store_past_contract import PastContract
from tests.support.store_records_contract import RecordsContract
from tests.support.store_settings_contract import SettingsContract
from tests.support.store_silences_contract import SilencesContract
from tests.support.tmpfs import fill, small_filesystem


class SqliteStoreTests(
    StoreContract,
    RecordsContract,
    LogContract,
    PastContract,
    IdentitiesContract,
    NotesContract,
    SilencesContract,
    SettingsContract,
    SqliteFixture,
    TestCase,
):
    """The contract, for the store in a file."""


class FileTests(SqliteFixture, TestCase):
    """The format of the file, and its safety."""

    async def test_settings(self) -> None:
        """The file has hbtd's application id and version; writes are synchronous."""
        store = await self.opened()
        await store.checkpoint([record("x1")])
        pragmas = {
            "application_id": 0x68627464,
            "user_version": 1,
            "journal_mode": "wal",
            "synchronous": 2,
            "locking_mode": "normal",
        }
        for pragma, expected in pragmas.items():
            rows = await store._run(_asking(pragma))
            self.assertEqual(rows, [(expected,)], pragma)

    async def test_empty_file(self) -> None:
        """An empty file is used like a new one."""
        self.path.touch()
        store = await self.opened()
        await store.checkpoint([record("x1")])
        await self.assertRecords(store, [record("x1")])

    async def test_close(self) -> None:
        """Closing waits for all calls before it."""
        store = self.make_store()
        await store.open()
        asked: list[Deferred[Any]] = [store.checkpoint([record(f"x{i}")]) for i in range(50)]
        asked.append(store.commit([judgement("x0", DIED)]))
        await store.close()
        self.assertTrue(all(each.called for each in asked))
        await gatherResults(asked)
        again = await self.opened()
        await self.assertRecords(again, [record(f"x{i}") for i in range(1, 50)])
        await self.assertKept(again, [judgement("x0", DIED)], [judgement("x0", DIED)])

    async def test_closed(self) -> None:
        """A store that is closed, or was never open, refuses calls."""
        closed = self.make_store()
        await closed.open()
        await closed.close()
        await closed.close()
        for store in (closed, self.make_store()):
            calls: list[Deferred[Any]] = [
                store.checkpoint([record("x1")]),
                store.commit([judgement("x1")]),
                store.forget("x1"),
                store.records(),
                store.judgements(),
            ]
            for call in calls:
                await self.assertFailure(call, StoreUnusable)
            self.assertFalse(store.usable())
        self.assertEqual(list(await (await self.opened()).judgements()), [])

    async def test_opened_again(self) -> None:
        """A store that was closed can be opened again."""
        store = self.make_store()
        for age in (1.0, 2.0):
            await store.open()
            await store.checkpoint([record("x1", age)])
            await self.assertRecords(store, [record("x1", age)])
            self.assertEqual(store.health(), WELL)
            await store.close()

    async def test_killed(self) -> None:
        """Commits survive the process being killed."""
        said = await self.elsewhere(WRITES)
        self.assertEqual(said, "")
        store = await self.opened()
        await self.assertKept(store, [judgement("x1", DIED)], [judgement("x1", DIED)])
        await self.assertRecords(store, [record(f"x{i}", 7.0) for i in range(2, 400)])


class UndeliveredTests(SqliteFixture, TestCase):
    """How undelivered judgements are read."""

    async def test_shared(self) -> None:
        """They are read in portions, and what is kept is what `share` returns."""
        store = await self.opened()
        made = [judgement(f"x{i}", WARNED if i % 3 else DIED, f"t{i}") for i in range(12_000)]
        for start in range(0, 12_000, 1000):
            await store.commit(made[start : start + 1000])
        await store.delivered(made[::2])
        left = made[1::2]
        seen: list[int] = []
        reads: list[int] = []
        run = store._run

        def noting(work: Any) -> Any:
            reads.append(len(seen))
            return run(work)

        store._run = noting

        def share(xname: str, timestamp: str) -> tuple[str, str]:
            seen.append(1)
            mine = left[len(seen) - 1]
            self.assertEqual((xname, timestamp), (mine.component, mine.timestamp))
            return mine.component, mine.timestamp

        kept = await store.undelivered(share)
        self.assertEqual(kept, left)
        for found, mine in zip(kept, left, strict=True):
            self.assertIs(found.component, mine.component)
            self.assertIs(found.timestamp, mine.timestamp)
        self.assertEqual(reads, [0, 5000, 6000])
        self.assertEqual(await store.undelivered(), left)


class ClockTests(SqliteFixture, TestCase):
    """The ages of records."""

    async def test_observed(self) -> None:
        """A record ages by observed time, up to the last write."""
        store = await self.opened()
        self.now = 1000.0
        await store.checkpoint([record("x1", 5.0)])
        self.now += 3
        await self.assertRecords(store, [record("x1", 5.0)])
        await store.checkpoint([])
        await self.assertRecords(store, [record("x1", 8.0)])
        self.now += 4
        await store.commit([judgement("x9")], [record("x2", 1.0)])
        await self.assertRecords(store, [record("x1", 12.0), record("x2", 1.0)])

    async def test_between_processes(self) -> None:
        """No record ages while no process runs, whatever the next clock begins with."""
        age = 5.0
        for begins in (0.0, 1e6, -40.0, 3.0):
            store = self.make_store()
            self.now = begins
            await store.open()
            if begins == 0.0:
                await store.checkpoint([record("x1", age)])
            await self.assertRecords(store, [record("x1", age)])
            self.now += 2
            await store.checkpoint([])
            age += 2
            await self.assertRecords(store, [record("x1", age)])
            self.now += 100  # not written any more
            await store.close()


class SharedTests(SqliteFixture, TestCase):
    """Two processes can't use one file."""

    async def goes_on(self, store: SqliteStore) -> None:
        """Check that a store still works."""
        await store.commit([judgement("x2", WARNED)], [record("x2")])
        await self.assertRecords(store, [record("x1"), record("x2")])
        self.assertTrue(store.usable())

    async def test_same_process(self) -> None:
        """A file in use is refused to another store, and the first one goes on."""
        first = await self.opened()
        await first.checkpoint([record("x1")])
        for _ in range(2):
            second = self.make_store()
            error = await self.damaged(second)
            self.assertEqual(str(error), f"{self.path} is in use by another hbtd")
            await second.close()
            await self.goes_on(first)

    async def test_other_process(self) -> None:
        """The same is true of another process, until the first one closes the file."""
        first = await self.opened()
        await first.checkpoint([record("x1")])
        said = await self.elsewhere(OPENS)
        self.assertEqual(said, f"StoreDamaged {self.path} is in use by another hbtd\n")
        await self.goes_on(first)
        await first.close()
        self.assertEqual(await self.elsewhere(OPENS), "opened\n")

    async def test_from_the_first_moment(self) -> None:
        """A file is in use from when it is opened, even before it is written."""
        await self.opened()
        self.assertIn("in use by another hbtd", await self.elsewhere(OPENS))

    async def test_at_once(self) -> None:
        """When several processes open a new file at once, at most one succeeds, and it is sound."""
        said = await gatherResults(
            [Deferred.fromCoroutine(self.elsewhere(OPENS)) for _ in range(4)]
        )
        for each in said:
            self.assertIn(
                each, ("opened\n", f"StoreDamaged {self.path} is in use by another hbtd\n")
            )
        await self.opened()


class RefusedTests(SqliteFixture, TestCase):
    """Files that can't be used are refused with a reason, and left unchanged."""

    def change(self, statement: str) -> None:
        """Execute a statement on the file, past hbtd."""
        with closing(sqlite3.connect(self.path)) as connection:
            connection.execute(statement)
            connection.commit()

    async def test_other_program(self) -> None:
        """A database of another program is refused."""
        self.change("CREATE TABLE recipe (name TEXT)")
        await self.assertRefused("some other program")

    async def test_newer_version(self) -> None:
        """A file of a newer hbtd is refused."""
        await self.written(10)
        self.change("PRAGMA user_version = 2")
        await self.assertRefused("newer hbtd", "version 2")

    async def test_newer_version_killed(self) -> None:
        """So is that of a newer hbtd that was killed and has left a log beside it."""
        await self.elsewhere(WRITES)
        newer = "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1]);"
        newer += "c.execute('PRAGMA user_version = 2'); c.commit(); os.kill(os.getpid(), 9)"
        await self.elsewhere(newer)
        self.assertTrue(Path(f"{self.path}-wal").stat().st_size)
        await self.assertRefused("newer hbtd", "version 2")

    async def test_garbage(self) -> None:
        """A file that is not a database is refused."""
        for contents in (b"no database", random.Random(1).randbytes(50_000), bytes(8192)):
            self.path.write_bytes(contents)
            await self.assertRefused("not an SQLite file")

    async def test_truncated(self) -> None:
        """A file that is cut off anywhere is refused."""
        await self.written()
        whole = self.path.read_bytes()
        for size in (50, 100, 512, 4096, 5000, 8192, len(whole) // 2, len(whole) - 4096):
            self.path.write_bytes(whole[:size])
            await self.assertRefused()

    async def test_damaged_page(self) -> None:
        """A file with any page overwritten is refused."""
        await self.written()
        whole = self.path.read_bytes()
        garbage = random.Random(2).randbytes(4096)
        for page in range(0, len(whole), 4096):
            for damage in (garbage, bytes(4096), b"\xff" * 4096):
                self.path.write_bytes(whole[:page] + damage + whole[page + 4096 :])
                await self.assertRefused()

    async def test_damaged_bytes(self) -> None:
        """A file with a few wrong bytes is refused, or can be used without errors."""
        await self.written()
        whole = self.path.read_bytes()
        rng = random.Random(3)
        refused = 0
        for _ in range(150):
            damaged = bytearray(whole)
            place = rng.randrange(100, len(damaged) - 8)
            damaged[place : place + 4] = rng.randbytes(4)
            self.path.write_bytes(damaged)
            store = self.make_store()
            try:
                await store.open()
                await store.records()
                await store.judgements()
                await store.checkpoint([record("x1")])
                await store.close()
            except StoreDamaged:
                refused += 1
                await store.close()
                self.assertEqual(self.path.read_bytes(), damaged)
        self.assertGreater(refused, 20)

    async def test_damaged_and_killed(self) -> None:
        """A damaged file is refused and left unchanged, also with the log of a killed process."""
        await self.written()
        await self.elsewhere(WRITES)
        self.assertTrue(Path(f"{self.path}-wal").stat().st_size)
        damaged = bytearray(self.path.read_bytes())
        damaged[3 * 4096 : 20 * 4096] = bytes(17 * 4096)
        self.path.write_bytes(damaged)
        await self.assertRefused()

    async def test_no_file(self) -> None:
        """A directory, a path below a file, and one in a missing directory are refused."""
        self.path.mkdir()
        await self.assertRefused("unable to open")
        await self.assertRefused("unable to open", path=self.path / "none" / "hbtd.db")
        file = self.path / "file"
        file.write_bytes(b"text")
        await self.assertRefused("unable to open", path=file / "hbtd.db")
        self.assertEqual(list(self.path.iterdir()), [file])

    async def test_read_only(self) -> None:
        """A file that can't be written, or not be created, is refused."""
        where = small_filesystem(self, 1000)
        self.path = where / "hbtd.db"
        await self.written(10)
        subprocess.run(["mount", "-o", "remount,ro", str(where)], check=True)
        await self.assertRefused()
        await self.assertRefused("unable to open", path=where / "other.db")

    async def test_misleading_name(self) -> None:
        """A damaged file whose name has 'locked' in it is not reported as in use."""
        folder = Path(self.mktemp()).resolve() / "locked"
        folder.mkdir(parents=True)
        self.path = folder / "locked.db"
        self.path.write_bytes(b"no database")
        await self.assertRefused("not an SQLite file")


class Ahead:
    """The reactor, with a clock that a test can move."""

    ahead = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)

    def seconds(self) -> float:
        """Return the time of the clock."""
        return float(reactor.seconds()) + self.ahead


class TroubleTests(SqliteFixture, TestCase):
    """Writes that fail."""

    async def test_disk_full(self) -> None:
        """On a full disk a write fails as a whole, with a reason; with room it works again."""
        where = small_filesystem(self, 400)
        self.path = where / "hbtd.db"
        store = await self.opened()
        await store.commit([judgement("x1", WARNED)], [record("x1", warned=True)])
        filler = fill(where)
        many = [record(f"x{i}", 1.0, "t" * 100) for i in range(2, 400)]
        for _ in range(3):
            error = await self.assertFailure(
                store.commit([judgement("x2", DIED), judgement("x1", DIED)], many), StoreUnusable
            )
            self.assertIn(str(self.path), str(error))
            self.assertRegex(str(error), "full|I/O")
            self.assertFalse(store.usable())
            self.assertEqual(store.health(), str(error))
        await self.assertKept(store, [judgement("x1", WARNED)], [judgement("x1", WARNED)])
        await self.assertRecords(store, [record("x1", warned=True)])
        filler.unlink()
        await store.commit([judgement("x2", DIED)], many[1:])
        self.assertTrue(store.usable())
        self.assertEqual(store.health(), WELL)
        await store.close()
        again = await self.opened()
        both = [judgement("x1", WARNED), judgement("x2", DIED)]
        await self.assertKept(again, both, both)
        await self.assertRecords(again, [record("x1", warned=True), *many[1:]])

    async def test_hanging_disk(self) -> None:
        """While a call hangs for long, the store can't be used; once it ends, it can."""
        clock = Ahead()
        store = SqliteStore(str(self.path), clock, lambda: 0.0, "test:0")
        self.addCleanup(store.close)
        await store.open()
        answer = Event()
        self.addCleanup(answer.set)
        hanging = store._run(lambda cursor: answer.wait())
        waiting = store.commit([judgement("x1", DIED)])
        clock.ahead += 25
        self.assertTrue(store.usable())
        clock.ahead += 10
        self.assertFalse(store.usable())
        self.assertIn("the disk does not answer", store.health())
        answer.set()
        await hanging
        self.assertTrue(store.usable())
        await waiting
        await store.cursor("kafka")  # which comes after all others
        clock.ahead += 100
        self.assertTrue(store.usable())
        self.assertEqual(store.health(), WELL)

    async def test_many_forgotten(self) -> None:
        """Thousands that are forgotten at once take few transactions; a commit's place stays."""
        store = await self.opened()
        names = [f"x{number}" for number in range(3000)]
        await store.commit([judgement(name, DIED) for name in names])
        assert store._pool is not None
        (connection,) = store._pool.connections.values()
        statements: list[str] = []
        connection.set_trace_callback(statements.append)
        last = [store.forget(name) for name in names[:-1]][-1]
        again = store.commit([judgement("x0", STARTED), judgement("x2999", WARNED)])
        await gatherResults([last, again, store.forget("x2999")])
        connection.set_trace_callback(None)
        self.assertLess(statements.count("COMMIT"), 20)
        self.assertEqual(await store.judgements(), [judgement("x0", STARTED)])

    async def test_forgotten_in_vain(self) -> None:
        """Each of those that can't be forgotten is said so, also once the store is closed."""
        store = await self.opened()
        self.path.write_bytes(b"other")
        calls = [store.forget(f"x{number}") for number in range(3)]
        for each in calls:
            await self.assertFailure(each, StoreUnusable)
        await store.close()
        await self.assertFailure(store.forget("x1"), StoreUnusable)

    async def test_no_room_to_begin(self) -> None:
        """On a full disk a new file is refused for that reason."""
        where = small_filesystem(self, 40)
        fill(where)
        store = self.make_store(where / "hbtd.db")
        error = await self.damaged(store)
        self.assertRegex(str(error), "full|I/O")
        await store.close()


def _asking(pragma: str) -> Callable[[Any], list[Any]]:
    return lambda cursor: list(cursor.execute(f"PRAGMA {pragma}").fetchall())
