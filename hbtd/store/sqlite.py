"""`sqlite:PATH`, the store of a single hbtd on a service host."""

import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from itertools import chain
from typing import Any, Final, TypeVar
from urllib.parse import quote

from twisted.enterprise.adbapi import ConnectionPool
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from zope.interface import implementer

from hbtd.store.interface import IStore, StoreUnusable
from hbtd.tracker.records import Record
from hbtd.tracker.transitions import Judgement, Transition

_T = TypeVar("_T")

_APPLICATION: Final = 0x68627464  # "hbtd"
_VERSION: Final = 1

# Times are on a clock of the file's own: the observed seconds of all processes that wrote to it,
# one after the other. So no wall clock can make anybody older.
_SCHEMA: Final = (
    "CREATE TABLE clock (one INTEGER PRIMARY KEY CHECK (one = 1), now REAL NOT NULL)",
    "INSERT INTO clock VALUES (1, 0.0)",
    """CREATE TABLE record (
        component TEXT PRIMARY KEY, last_heard REAL NOT NULL, timestamp TEXT NOT NULL,
        status TEXT NOT NULL, warned INTEGER NOT NULL
    ) WITHOUT ROWID""",
    """CREATE TABLE judgement (
        number INTEGER PRIMARY KEY AUTOINCREMENT, component TEXT NOT NULL UNIQUE,
        transition TEXT NOT NULL
            CHECK (transition IN ('STARTED', 'WARNED', 'RESTARTED', 'DIED')),
        timestamp TEXT NOT NULL, delivered INTEGER NOT NULL
    )""",
)


_ROWS = 100
"""Records that are written by one statement.

Between two, SQLite asks for the interpreter, and the reactor has to wait: for each record, that
would slow everything down.
"""

_REPLACE = (
    "REPLACE INTO record (component, last_heard, timestamp, status, warned) VALUES (?, ?, ?, ?, ?)"
)
_REPLACE_MANY = _REPLACE + ", (?, ?, ?, ?, ?)" * (_ROWS - 1)


class StoreDamaged(Exception):
    """A file that can't be used, now or later; the message says why. It was left as it is."""


@implementer(IStore)
class SqliteStore:
    """Keeps records and judgements in an SQLite file; see `IStore`.

    All work is done in one thread, call after call, and is safe on the disk when a call's Deferred
    fires. The file is locked while it is open: two processes can't share it.
    """

    durable = True
    shared = False
    gather = 1.0

    def __init__(self, path: str, reactor: Any, observed: Callable[[], float]) -> None:
        """`reactor` runs the thread's results (`IReactorThreads`), `observed` is hbtd's clock."""
        self._path = path
        self._reactor = reactor
        self._observed = observed
        self._began = 0.0
        self._pool: ConnectionPool | None = None
        self._trouble: str | None = "Not initialized"

    def open(self) -> Deferred[None]:
        """Open the file, making it if there is none; fails with `StoreDamaged`, too."""
        self._trouble = "Not initialized"
        self._pool = ConnectionPool(
            "sqlite3",
            self._path,
            cp_min=1,
            cp_max=1,
            cp_reactor=self._reactor,
            cp_openfun=_set_up,
            check_same_thread=False,
            timeout=0.0,
        )
        self._pool.start()
        # The first connection's thread looks at the file before that connection is made.
        looked: Deferred[bool] = deferToThreadPool(
            self._reactor, self._pool.threadpool, _look, self._path
        )
        opened: Deferred[float] = looked.addCallback(
            lambda sound: self._run(lambda cursor: _prepare(cursor, sound))
        )

        def began(now: float) -> None:
            self._began = now - self._observed()
            if self._trouble != "Closed":
                self._trouble = None

        return opened.addCallbacks(began, self._not_opened)

    def close(self) -> Deferred[None]:
        """Close the file, once what was asked for is done."""
        self._trouble = "Closed"
        pool, self._pool = self._pool, None
        if pool is None:
            return succeed(None)
        # The one thread comes to this when it has done all else.
        done: Deferred[None] = deferToThreadPool(self._reactor, pool.threadpool, lambda: None)
        return done.addBoth(lambda _: pool.close())

    def commit(
        self, judgements: Sequence[Judgement], records: Sequence[Record] = ()
    ) -> Deferred[bool]:
        """Keep judgements as not delivered, and records, in one transaction."""

        def work(cursor: Any, now: float) -> None:
            # One after the other: a component may be in the list more than once.
            for judgement in judgements:
                cursor.execute(
                    "REPLACE INTO judgement (component, transition, timestamp, delivered)"
                    " VALUES (?, ?, ?, 0)",
                    (judgement.component, judgement.transition.name, judgement.timestamp),
                )
            died = (each.component for each in judgements if each.transition is Transition.DIED)
            cursor.executemany("DELETE FROM record WHERE component = ?", ((each,) for each in died))
            _write(cursor, now, records)

        return self._write(work).addCallback(lambda _: True)

    def checkpoint(self, records: Sequence[Record]) -> Deferred[None]:
        """Keep records, and how late it is."""
        return self._write(lambda cursor, now: _write(cursor, now, records))

    def delivered(self, judgements: Sequence[Judgement]) -> Deferred[None]:
        """Note that HSM has acknowledged these."""

        def work(cursor: Any, now: float) -> None:
            these = [(j.component, j.transition.name, j.timestamp) for j in judgements]
            cursor.executemany(
                "UPDATE judgement SET delivered = 1"
                " WHERE component = ? AND transition = ? AND timestamp = ?",
                these,
            )
            cursor.execute(
                "DELETE FROM judgement WHERE delivered AND transition IN (?, ?)",
                (Transition.STARTED.name, Transition.RESTARTED.name),
            )

        return self._write(work)

    def forget(self, xname: str) -> Deferred[None]:
        """Drop whatever is kept of a component."""

        def work(cursor: Any, now: float) -> None:
            for table in ("record", "judgement"):
                cursor.execute(f"DELETE FROM {table} WHERE component = ?", (xname,))  # noqa: S608

        return self._write(work)

    def clear_records(self) -> Deferred[None]:
        """Drop all records."""
        return self._write(lambda cursor, now: cursor.execute("DELETE FROM record"))

    def records(self) -> Deferred[list[Record]]:
        """Get all records."""

        def work(cursor: Any) -> list[Record]:
            cursor.execute(
                "SELECT component, clock.now - last_heard, timestamp, status, warned != 0"
                " FROM record, clock"
            )
            return [Record(*row) for row in cursor.fetchall()]

        return self._noting(self._run(work))

    def undelivered(self) -> Deferred[list[Judgement]]:
        """Get what HSM has yet to acknowledge."""
        return self._judgements("WHERE NOT delivered")

    def standing(self) -> Deferred[list[Judgement]]:
        """Get all judgements."""
        return self._judgements("")

    def usable(self) -> bool:
        """Whether it is open, and the last thing asked of it could be done."""
        return self._trouble is None

    def health(self) -> str:
        """Tell people how the store is."""
        return self._trouble or "Initialization key present: HBTD_OK"

    def _judgements(self, which: str) -> Deferred[list[Judgement]]:
        def work(cursor: Any) -> list[Judgement]:
            cursor.execute(
                f"SELECT component, transition, timestamp FROM judgement {which} ORDER BY number"  # noqa: S608
            )
            return [Judgement(name, Transition[kind], at) for name, kind, at in cursor.fetchall()]

        return self._noting(self._run(work))

    def _run(self, work: Callable[[Any], _T]) -> Deferred[_T]:
        """Do something in the thread, in a transaction."""
        if self._pool is None:
            return fail(StoreUnusable(self.health()))
        done: Deferred[_T] = self._pool.runInteraction(work)
        return done

    def _write(self, work: Callable[[Any, float], object]) -> Deferred[None]:
        """Do something in a transaction, which also notes how late it is."""
        now = self._began + self._observed()

        def interaction(cursor: Any) -> None:
            cursor.execute("UPDATE clock SET now = ?", (now,))
            work(cursor, now)

        return self._noting(self._run(interaction))

    def _noting(self, deferred: Deferred[_T]) -> Deferred[_T]:
        """Note whether something could be done."""

        def done(result: _T) -> _T:
            if self._trouble != "Closed":
                self._trouble = None
            return result

        def failed(failure: Failure) -> _T:
            failure.trap(sqlite3.Error)
            if self._pool is None:
                raise StoreUnusable(self.health()) from failure.value
            self._trouble = f"{self._path}: {failure.getErrorMessage()}"
            raise StoreUnusable(self._trouble) from failure.value

        return deferred.addCallbacks(done, failed)

    def _not_opened(self, failure: Failure) -> None:
        # SQLite quotes what it can't make sense of, which need not be a text.
        failure.trap(sqlite3.Error, StoreDamaged, UnicodeError)
        why = failure.getErrorMessage()
        self._trouble = f"{self._path}: {why}"
        if "locked" in why:
            self._trouble = f"{self._path} is in use by another hbtd"
        raise StoreDamaged(self._trouble) from failure.value


def _set_up(connection: Any) -> None:
    """Make a new connection as safe as it can be; touches the file only to look at it."""
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("PRAGMA synchronous = FULL")


def _look(path: str) -> bool:
    """Refuse a file that is not ours or not sound, before anything could change it.

    Tells whether that could be found out. Any other connection, when it is closed, brings the log
    that a killed process has left behind into the file.
    """
    if not os.path.isfile(path):
        return False
    # Merely to read a log takes a lock and files beside it; without one, there is no need.
    how = "mode=ro" if os.path.exists(f"{path}-wal") else "immutable=1"
    # What can't be done without writing, such as undoing a write cut short, is left to the other.
    with (
        suppress(sqlite3.OperationalError),
        closing(sqlite3.connect(f"file:{quote(path)}?{how}", uri=True, timeout=0.0)) as connection,
    ):
        _check(connection, sound=False)
        return True
    return False


def _check(connection: Any, *, sound: bool) -> bool:
    """See that a file is ours, and sound if that is not known; tells if anything is in it yet."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if tables and application != _APPLICATION:
        raise StoreDamaged("this is a file of some other program")
    if version > _VERSION:
        raise StoreDamaged(f"this file is of a newer hbtd: version {version}, not {_VERSION}")
    if tables and not sound:
        (verdict,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
        if verdict != "ok":
            raise StoreDamaged(f"this file is damaged: {' '.join(verdict.split())}")
        try:
            for table in ("clock", "record", "judgement"):
                connection.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608
        except sqlite3.OperationalError as error:  # such as texts that are none
            raise StoreDamaged(f"this file is damaged: {error}") from error
    return bool(tables)


def _prepare(cursor: Any, sound: bool) -> float:
    """See that the file is ours and sound, or make it so; gives how late it is by its clock."""
    written = _check(cursor, sound=sound)
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("BEGIN IMMEDIATE")  # takes the lock, which is kept
    if not written:
        for statement in _SCHEMA:
            cursor.execute(statement)
        cursor.execute(f"PRAGMA application_id = {_APPLICATION}")
        cursor.execute(f"PRAGMA user_version = {_VERSION}")
    (now,) = cursor.execute("SELECT now FROM clock").fetchone()
    return float(now)


def _write(cursor: Any, now: float, records: Sequence[Record]) -> None:
    rows = [(r.component, now - r.age, r.timestamp, r.status, r.warned) for r in records]
    left = len(rows) % _ROWS
    for start in range(0, len(rows) - left, _ROWS):
        cursor.execute(_REPLACE_MANY, list(chain.from_iterable(rows[start : start + _ROWS])))
    cursor.executemany(_REPLACE, rows[len(rows) - left :])
