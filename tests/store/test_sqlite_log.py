"""The log of transitions in the file of the store `sqlite:`."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from math import inf
from pathlib import Path
from time import thread_time
from typing import Any

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from hbtd.store.interface import StoreUnusable
from hbtd.store.past import Selection, Span
from hbtd.store.sqlite_past import states
from hbtd.tracker.records import Identity
from tests.support.processes import CHECKOUT
from tests.support.sqlite_files import SqliteFixture
from tests.support.store_contract import DIED, RESTARTED, STARTED, WARNED, judgement, record
from tests.support.store_log_contract import EVERYTHING, judged
from tests.support.tmpfs import fill, small_filesystem

# What hbtd 0.1.0 made of a new file before it had a log.
BEFORE = """
CREATE TABLE clock (one INTEGER PRIMARY KEY CHECK (one = 1), now REAL NOT NULL);
INSERT INTO clock VALUES (1, 0.0);
CREATE TABLE record (
    component TEXT PRIMARY KEY, last_heard REAL NOT NULL, timestamp TEXT NOT NULL,
    status TEXT NOT NULL, warned INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE judgement (
    number INTEGER PRIMARY KEY AUTOINCREMENT, component TEXT NOT NULL UNIQUE,
    transition TEXT NOT NULL
        CHECK (transition IN ('STARTED', 'WARNED', 'RESTARTED', 'DIED')),
    timestamp TEXT NOT NULL, delivered INTEGER NOT NULL
);
CREATE TABLE session (one INTEGER PRIMARY KEY CHECK (one = 1));
PRAGMA application_id = 0x68627464;
PRAGMA user_version = 1;
INSERT INTO record VALUES ('x1', -3.0, 't', 'OK', 1), ('x2', -1.0, 't', 'OK', 0);
INSERT INTO judgement (component, transition, timestamp, delivered)
    VALUES ('x1', 'WARNED', 't', 0), ('x2', 'STARTED', 't', 0), ('x3', 'DIED', 't', 1);
"""

# Commits without end, several at once, with the log trimmed meanwhile, until it is killed.
JUDGES = """
import os
import sys
from random import Random
from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred, gatherResults
from hbtd.store.sqlite import SqliteStore
from tests.support.store_contract import record
from tests.support.store_log_contract import DIED, RESTARTED, STARTED, WARNED, judged
rng = Random(int(sys.argv[2]))
store = SqliteStore(sys.argv[1], reactor, reactor.seconds, "host:1")
async def begin():
    await store.open()
    number = store.last_number()
    while True:
        calls = []
        for _ in range(5):
            some = []
            for _ in range(rng.choice([1, 3, 300])):
                number += 1
                what = rng.choice([STARTED, WARNED, RESTARTED, DIED])
                some.append(judged(f"x{rng.randrange(400)}", 1.0, what, timestamp=str(number)))
            alive = {each.component: each for each in some}
            records = [record(each.component, 1.0, each.timestamp)
                       for each in alive.values() if each.transition is not DIED]
            calls.append(store.commit(some, records))
        calls.append(store.trim(2.0, 0, store.last_number() - 2000))
        await gatherResults(calls)
        print(number, flush=True)
def failed(failure):
    failure.printTraceback()
    os._exit(1)
reactor.callWhenRunning(lambda: ensureDeferred(begin()).addErrback(failed))
reactor.run()
"""

_KILLS = int(os.environ.get("HBTD_TEST_KILLS", "6"))
"""How often a process is killed while it writes."""


class KillTests(SqliteFixture, TestCase):
    """A process is killed while it writes the log."""

    def killed(self, seed: int) -> int:
        """Let a process write, and kill it after some commits; return what it had committed."""
        with subprocess.Popen(
            [sys.executable, "-c", JUDGES, str(self.path), str(seed)],
            stdout=subprocess.PIPE,
            cwd=CHECKOUT,
            text=True,
        ) as process:
            assert process.stdout is not None
            said = ""
            for _ in range(1 + seed % 4):
                said = process.stdout.readline()
            process.send_signal(signal.SIGKILL)
        return int(said)

    def broken(self) -> list[Any]:
        """Return the components whose judgement and last entry of the log differ.

        The clock of the store says `timestamp` for both, and no two have the same.
        """
        with closing(sqlite3.connect(self.path)) as connection:
            return connection.execute(
                """
                SELECT judgement.component, judgement.timestamp, last.timestamp FROM judgement
                LEFT JOIN log_name ON log_name.name = judgement.component
                LEFT JOIN log AS last ON last.number =
                    (SELECT max(number) FROM log WHERE log.component = log_name.id)
                WHERE last.timestamp IS NOT judgement.timestamp
                UNION ALL
                SELECT log_name.name, judgement.timestamp, last.timestamp FROM log AS last
                JOIN log_name ON log_name.id = last.component
                LEFT JOIN judgement ON judgement.component = log_name.name
                WHERE last.number =
                    (SELECT max(number) FROM log WHERE log.component = last.component)
                AND judgement.timestamp IS NOT last.timestamp
                """
            ).fetchall()

    async def test_killed(self) -> None:
        """No judgement is without its entry in the log, no entry without its judgement."""
        for seed in range(_KILLS):
            committed = await deferToThread(self.killed, seed)
            self.assertEqual(self.broken(), [], seed)
            store = self.make_store()
            await store.open()
            self.assertGreaterEqual(store.last_number(), committed)
            entries = await store.log(max(0, store.last_number() - 1500), EVERYTHING)
            numbers = [each.number for each in entries]
            # Nothing of the last entries was trimmed, so none is missing.
            self.assertEqual(numbers, list(range(numbers[0], store.last_number() + 1)), seed)
            self.assertEqual([int(each.judgement.timestamp) for each in entries], numbers, seed)
            await store.close()


class BeforeTests(SqliteFixture, TestCase):
    """The file of an hbtd that had no log."""

    def execute(self, statement: str) -> list[Any]:
        """Execute a statement on the file, past hbtd."""
        with closing(sqlite3.connect(self.path)) as connection, connection:
            return connection.execute(statement).fetchall()

    async def test_taken_up(self) -> None:
        """It is taken up as it is, with an empty log, and its judgements are logged from then."""
        with closing(sqlite3.connect(self.path)) as connection:
            connection.executescript(BEFORE)
        store = await self.opened()
        told = [judgement("x1", WARNED), judgement("x2", STARTED)]
        await self.assertKept(store, told, [*told, judgement("x3", DIED)])
        await self.assertRecords(store, [record("x1", 3.0, warned=True), record("x2", 1.0)])
        self.assertEqual(store.last_number(), 0)
        self.assertEqual(list(await store.log(0, 9)), [])
        self.assertIs(await store.cursor("kafka"), None)
        await store.commit([judged("x1", transition=RESTARTED)])
        (entry,) = await store.log(0, 9)
        self.assertEqual(entry.judgement, judgement("x1", RESTARTED))

    async def test_given_back(self) -> None:
        """The tables that the version before knows are as it made them, and so is the version."""
        with closing(sqlite3.connect(self.path)) as connection:
            connection.executescript(BEFORE)
        asked = (
            "SELECT name, sql FROM sqlite_schema WHERE tbl_name NOT LIKE 'log%'"
            " AND tbl_name NOT LIKE 'silence%' AND tbl_name NOT IN ('identity', 'note')"
        )
        before = self.execute(asked)
        store = self.make_store()
        await store.open()
        await store.commit([judged("x4")], [record("x4")])
        await store.close()
        self.assertEqual(self.execute(asked), before)
        self.assertEqual(self.execute("PRAGMA user_version"), [(1,)])

    async def test_used_by_both(self) -> None:
        """What the version before has judged meanwhile is not in the log, which goes on."""
        store = self.make_store()
        await store.open()
        await store.commit([judged("x1", transition=STARTED)])
        await store.close()
        self.execute("REPLACE INTO judgement VALUES (9, 'x1', 'DIED', 't', 0)")
        store = await self.opened()
        await self.assertKept(store, [judgement("x1", DIED)], [judgement("x1", DIED)])
        await store.commit([judged("x1", transition=STARTED)])
        self.assertEqual([each.number for each in await store.log(0, 9)], [1, 2])


class EarlierLogTests(SqliteFixture, TestCase):
    """The file of an hbtd whose log did not say for how long components were silent."""

    async def test_both_ways(self) -> None:
        """It is taken up, and that version can go on with the file, whatever was added to it."""
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.executescript(BEFORE)
            connection.execute("CREATE TABLE log_name (id INTEGER PRIMARY KEY, name TEXT UNIQUE)")
            connection.execute(
                "CREATE TABLE log (number INTEGER PRIMARY KEY, component INTEGER NOT NULL,"
                " what INTEGER NOT NULL, at REAL NOT NULL, timestamp TEXT NOT NULL,"
                " why TEXT NOT NULL, judge INTEGER NOT NULL)"
            )
            connection.execute("INSERT INTO log_name VALUES (1, 'x1'), (2, 'nid1:28500')")
            connection.execute("INSERT INTO log VALUES (1, 1, 7, 5.0, 't', 'why', 2)")
        store = self.make_store()
        await store.open()
        (entry,) = await store.log(0, 9)
        self.assertEqual((entry.judgement.transition, entry.judgement.silent), (DIED, None))
        await store.commit([judged("x1", 6.0, DIED)])
        await store.delivered([judged("x1", 6.0, DIED)], 6.5)
        self.assertEqual(await store.told(), {"x1": (DIED, 6.5)})
        await store.close()
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute(
                "INSERT INTO log (number, component, what, at, timestamp, why, judge)"
                " VALUES (3, 1, 13, 7.0, 't', 'why', 2)"
            )
            connection.execute(
                "REPLACE INTO judgement (component, transition, timestamp, delivered)"
                " VALUES ('x1', 'WARNED', 't', 1)"
            )
        again = await self.opened()
        self.assertEqual([each.number for each in await again.log(0, 9)], [1, 2, 3])
        self.assertEqual(await again.told(), {})  # when it was told of this one is not known


class LogFileTests(SqliteFixture, TestCase):
    """The log's tables."""

    async def test_size(self) -> None:
        """An entry takes no more than 150 bytes of the file, whatever else is in it."""
        store = self.make_store()
        await store.open()
        whys = {STARTED: "heartbeat", WARNED: "silent for 12.4 s", DIED: "silent for 34.8 s"}
        count = 0
        for turn in range(40):
            for transition, why in whys.items():
                await store.commit(
                    [
                        judged(
                            f"x{1000 + i // 8}c{i % 8}s{turn % 2}b0n0",
                            1.76e9 + turn * 1000 + i / 7,
                            transition,
                            why=why,
                            timestamp="2026-03-04T05:06:07.890123-06:00",
                        )
                        for i in range(250)
                    ]
                )
                count += 250
        await store.close()
        self.assertLess(self.path.stat().st_size / count, 150)

    async def test_room_is_used_again(self) -> None:
        """The file does not grow any more once as much is trimmed as is logged."""
        store = await self.opened()
        sizes = []
        for turn in range(12):
            for _ in range(8):
                await store.commit([judged(f"x{i}", float(turn)) for i in range(250)])
            await store.trim(0.0, 4000, EVERYTHING)
            pages = await store._run(_asking("page_count"))
            sizes.append(pages[0][0])
        self.assertEqual(store.entries(), 4000)
        self.assertLess(sizes[-1], 1.1 * sizes[3])

    async def test_entries(self) -> None:
        """The store knows how many entries there are, also after a restart."""
        first = self.make_store()
        await first.open()
        self.assertEqual(first.entries(), 0)
        await first.commit([judged(f"x{i % 3}", float(i)) for i in range(10)])
        self.assertEqual(first.entries(), 10)
        self.assertEqual(await first.trim(5.0, EVERYTHING, EVERYTHING), 5)
        self.assertEqual(first.entries(), 5)
        await first.close()
        self.assertEqual((await self.opened()).entries(), 5)

    async def test_calls_while_trimming(self) -> None:
        """A long trim gives other calls their turn: they are done long before it is."""
        store = await self.opened()
        for _ in range(4):
            await store.commit([judged(f"x{i}", 1.0) for i in range(4000)])
        done: list[str] = []
        trim = store.trim(2.0, EVERYTHING, EVERYTHING).addCallback(lambda _: done.append("trim"))
        for i in range(4):
            await store.commit([judged("x1", 9.0, timestamp=str(i))])
            done.append("commit")
        self.assertEqual(done, ["commit"] * 4)
        await trim
        self.assertEqual(len(await store.log(0, EVERYTHING)), 4004 - 1)

    async def test_closed_while_trimming(self) -> None:
        """Closing the store ends a trim; what was to be deleted is deleted later."""
        store = self.make_store()
        await store.open()
        await store.commit([judged(f"x{i % 10}", 1.0) for i in range(5000)])
        trim = self.assertFailure(store.trim(2.0, EVERYTHING, EVERYTHING), StoreUnusable)
        await store.close()
        await trim
        again = await self.opened()
        await again.trim(2.0, EVERYTHING, EVERYTHING)
        self.assertEqual(again.entries(), 10)

    async def test_disk_full(self) -> None:
        """On a full disk neither judgement nor entry is stored, and no number is used."""
        where = small_filesystem(self, 400)
        self.path = where / "hbtd.db"
        store = await self.opened()
        await store.commit([judged("x1")])
        filler = fill(where)
        many = [judged(f"x{i}", timestamp="t" * 200) for i in range(2, 2000)]
        await self.assertFailure(store.commit(many), StoreUnusable)
        await self.assertKept(store, [judgement("x1")], [judgement("x1")])
        self.assertEqual([each.number for each in await store.log(0, EVERYTHING)], [1])
        self.assertEqual((store.last_number(), store.entries()), (1, 1))
        filler.unlink()
        await store.commit([judged("x2")])
        self.assertEqual([each.number for each in await store.log(0, EVERYTHING)], [1, 2])

    async def test_bad_text(self) -> None:
        """An entry whose text is damaged keeps nobody from reading those behind it."""
        store = self.make_store()
        await store.open()
        await store.commit([judged("x1"), judged("x2"), judged("x3")])
        await store.close()
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute("UPDATE log SET why = CAST(x'ff41' AS TEXT) WHERE number = 2")
        again = await self.opened()
        whys = [each.judgement.why for each in await again.log(0, 9)]
        self.assertEqual(whys, ["why", "\ufffdA", "why"])

    async def test_bad_name(self) -> None:
        """A name that is damaged keeps nobody from finding the others, and their states."""
        store = self.make_store()
        await store.open()
        await store.commit([judged(f"x1c{number}") for number in range(9)])
        await store.close()
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute(
                "UPDATE log_name SET name = CAST(x'783163ff' AS TEXT) WHERE name = 'x1c2'"
            )
        again = await self.opened()
        names = [f"x1c{number}" for number in range(9) if number != 2]
        for selection in (Selection(), Selection(under="x1"), Selection(names)):
            for most in (3, 100):
                found: list[str] = []
                while states := (await again.states_at(inf, selection, max(found, default=""),
                                                       most)).states:  # fmt: skip
                    found += [each.component for each in states if "\ufffd" not in each.component]
                    if len(states) < most or len(found) > 20:
                        break
                self.assertEqual(found, names, (selection, most))
            entries = await again.history(Span(), selection)
            self.assertEqual({each.judgement.component for each in entries} - {"x1c\ufffd"},
                             {*names})  # fmt: skip

    async def test_bad_identity(self) -> None:
        """A host name that is damaged keeps nobody from reading the others."""
        store = self.make_store()
        await store.open()
        await store.identify([Identity(f"x{number}", "nid", "1") for number in range(3)])
        await store.close()
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute(
                "UPDATE identity SET hostname = CAST(x'ff41' AS TEXT) WHERE component = 'x1'"
            )
        again = await self.opened()
        found = await again.identities()
        self.assertEqual([each.hostname for each in found], ["nid", "\ufffdA", "nid"])

    async def test_many_names(self) -> None:
        """A question about 100,000 names takes the store's thread a moment only."""
        store = await self.opened()
        some = [f"x{number}c1" for number in range(0, 5000, 2)]
        await store.commit([judged(name) for name in some])
        names = frozenset(f"x{number}c1" for number in range(100_000))
        calls = []

        def ask(cursor: Any) -> int:
            began = thread_time()
            after: str | None = ""
            count = 0
            while after is not None:
                found, after = states(cursor, 10**9, Selection(names), after, 10**9)
                count += len(found)
                calls.append(after)
            self.assertLess(thread_time() - began, 3.0)
            return count

        self.assertEqual(await store._run(ask), 2500)
        self.assertEqual(len(calls), 2)

    async def test_file_removed(self) -> None:
        """A file that is removed is written anew with its log and cursors."""
        store = await self.opened()
        await store.commit([judged("x1"), judged("x2")])
        await store.move_cursor("kafka", 1)
        self.path.unlink()
        await store.commit([judged("x1")])
        self.assertTrue(self.path.exists())
        with closing(sqlite3.connect(self.path)) as connection:
            self.assertEqual(connection.execute("SELECT count(*) FROM log").fetchone(), (3,))
        self.assertEqual(await store.cursor("kafka"), 1)

    async def test_last_of_each_by_index(self) -> None:
        """No portion of a trim reads the whole log: each statement uses an index."""
        store = await self.opened()
        statements: list[str] = []

        def note(statement: str) -> None:
            if statement.startswith("SELECT number FROM log AS old"):
                statements.append(statement.replace("Inf", "1e999"))

        assert store._pool is not None
        (connection,) = store._pool.connections.values()
        connection.set_trace_callback(note)
        await store.commit([judged(f"x{i % 10}", 1.0) for i in range(100)])
        await store.trim(2.0, 5, EVERYTHING)
        connection.set_trace_callback(None)
        self.assertEqual(len(statements), 2)
        with closing(sqlite3.connect(self.path)) as reader:
            for statement in statements:
                plan = [row[3] for row in reader.execute(f"EXPLAIN QUERY PLAN {statement}")]
                self.assertEqual([each for each in plan if each.startswith("SCAN")], [], plan)
                self.assertTrue(any("INDEX log_component (component=? AND rowid>?)" in each
                                    for each in plan), plan)  # fmt: skip


class BackupTests(SqliteFixture, TestCase):
    """A backup has the log."""

    async def test_backup(self) -> None:
        """The copy has the entries and the cursors as of one moment; it can be opened and used."""
        store = await self.opened()
        await store.commit([judged("x1"), judged("x2", transition=DIED)])
        await store.move_cursor("kafka", 1)
        copy = Path(self.mktemp()).resolve()
        done = await deferToThread(
            subprocess.run,
            [sys.executable, "-m", "hbtd.store.backup", str(self.path), str(copy)],
            capture_output=True,
            text=True,
            cwd=CHECKOUT,
            timeout=60,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        copied = self.make_store(copy)
        await copied.open()
        self.addCleanup(copied.close)
        self.assertEqual(list(await copied.log(0, 9)), list(await store.log(0, 9)))
        self.assertEqual(await copied.cursor("kafka"), 1)
        self.assertEqual(copied.last_number(), 2)


def _asking(pragma: str) -> Callable[[Any], list[Any]]:
    return lambda cursor: list(cursor.execute(f"PRAGMA {pragma}").fetchall())
