"""The store `sqlite:PATH`, a file that one hbtd process uses."""

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

# Times in the file are on a clock of its own: the observed seconds of all processes that have used
# it, added up. So a step of the wall clock makes no component's heartbeat seem older.
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


_ROWS_PER_STATEMENT = 100
"""The number of records that one SQL statement writes.

Between two statements the store's thread and the reactor compete for the interpreter's lock, which
slows the reactor down: one statement per record would cost too much.
"""

_REPLACE = (
    "REPLACE INTO record (component, last_heard, timestamp, status, warned) VALUES (?, ?, ?, ?, ?)"
)
_REPLACE_MANY = _REPLACE + ", (?, ?, ?, ?, ?)" * (_ROWS_PER_STATEMENT - 1)


class StoreDamaged(Exception):
    """A store's file can't be used, now or later; the message says why. It was left unchanged."""


@implementer(IStore)
class SqliteStore:
    """Keeps judgements and records in an SQLite file; see `IStore`.

    Calls are carried out in one thread. When the Deferred of a call fires, its changes are safe on
    the disk. The file is locked while it is open, so that no two processes can use it.

    The file has a clock of its own: the observed seconds of all processes that have used the file,
    added up. Each write stores the time of this clock.
    """

    durable = True
    shared = False
    gather = 1.0

    def __init__(self, path: str, reactor: Any, observed: Callable[[], float]) -> None:
        """Make the store in the file `path`.

        `reactor` provides `IReactorThreads`; `observed` returns the observed time in seconds.
        """
        self._path = path
        self._reactor = reactor
        self._observed = observed
        self._clock_offset = 0.0
        self._pool: ConnectionPool | None = None
        self._trouble: str | None = "Not initialized"

    def open(self) -> Deferred[None]:
        """Open the file, or create it if there is none.

        The Deferred fails with `StoreDamaged` if the file can't be created, is in use, is damaged,
        or belongs to another program or to a newer hbtd.
        """
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
        # The file is checked before the pool's first connection, which might change it, is made.
        checked: Deferred[bool] = deferToThreadPool(
            self._reactor, self._pool.threadpool, _check_unopened, self._path
        )
        opened: Deferred[float] = checked.addCallback(
            lambda sound: self._run(lambda cursor: _prepare(cursor, sound))
        )

        def loaded(now: float) -> None:
            self._clock_offset = now - self._observed()
            if self._trouble != "Closed":
                self._trouble = None

        return opened.addCallbacks(loaded, self._not_opened)

    def close(self) -> Deferred[None]:
        """Close the file once all earlier calls are done."""
        self._trouble = "Closed"
        pool, self._pool = self._pool, None
        if pool is None:
            return succeed(None)
        # The pool's only thread comes to this after all earlier calls.
        done: Deferred[None] = deferToThreadPool(self._reactor, pool.threadpool, lambda: None)
        return done.addBoth(lambda _: pool.close())

    def commit(
        self, judgements: Sequence[Judgement], records: Sequence[Record] = ()
    ) -> Deferred[bool]:
        """See `IStore.commit`; all is written in one transaction, and the result is `True`."""

        def work(cursor: Any, now: float) -> None:
            # In this order: a component may be in the list more than once.
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
        """See `IStore.checkpoint`; the time of the file's clock is stored even without records."""
        return self._write(lambda cursor, now: _write(cursor, now, records))

    def delivered(self, judgements: Sequence[Judgement]) -> Deferred[None]:
        """See `IStore.delivered`."""

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
        """See `IStore.forget`."""

        def work(cursor: Any, now: float) -> None:
            for table in ("record", "judgement"):
                cursor.execute(f"DELETE FROM {table} WHERE component = ?", (xname,))  # noqa: S608

        return self._write(work)

    def clear_records(self) -> Deferred[None]:
        """See `IStore.clear_records`."""
        return self._write(lambda cursor, now: cursor.execute("DELETE FROM record"))

    def records(self) -> Deferred[list[Record]]:
        """See `IStore.records`; the ages are as of the last write to the file."""

        def work(cursor: Any) -> list[Record]:
            cursor.execute(
                "SELECT component, clock.now - last_heard, timestamp, status, warned != 0"
                " FROM record, clock"
            )
            return [Record(*row) for row in cursor.fetchall()]

        return self._noting(self._run(work))

    def undelivered(self) -> Deferred[list[Judgement]]:
        """See `IStore.undelivered`."""
        return self._judgements("WHERE NOT delivered")

    def judgements(self) -> Deferred[list[Judgement]]:
        """See `IStore.judgements`."""
        return self._judgements("")

    def usable(self) -> bool:
        """Return whether the file is open and the last call succeeded."""
        return self._trouble is None

    def health(self) -> str:
        """Return why the store can't be used, or the original hbtd's text for a store that can."""
        return self._trouble or "Initialization key present: HBTD_OK"

    def _judgements(self, where: str) -> Deferred[list[Judgement]]:
        def work(cursor: Any) -> list[Judgement]:
            cursor.execute(
                f"SELECT component, transition, timestamp FROM judgement {where} ORDER BY number"  # noqa: S608
            )
            return [Judgement(name, Transition[kind], at) for name, kind, at in cursor.fetchall()]

        return self._noting(self._run(work))

    def _run(self, work: Callable[[Any], _T]) -> Deferred[_T]:
        """Call `work` with a cursor, in the store's thread and in a transaction.

        The Deferred fires with the result of `work`, or fails with the exception that it raises. It
        fails with `StoreUnusable` if the store is not open.
        """
        if self._pool is None:
            return fail(StoreUnusable(self.health()))
        done: Deferred[_T] = self._pool.runInteraction(work)
        return done

    def _write(self, work: Callable[[Any, float], object]) -> Deferred[None]:
        """Call `work` with a cursor and the time of the file's clock, in seconds.

        The transaction in which `work` runs also stores that time.
        """
        now = self._clock_offset + self._observed()

        def interaction(cursor: Any) -> None:
            cursor.execute("UPDATE clock SET now = ?", (now,))
            work(cursor, now)

        return self._noting(self._run(interaction))

    def _noting(self, deferred: Deferred[_T]) -> Deferred[_T]:
        """Note for `usable` and `health` whether a call succeeds.

        SQLite errors become `StoreUnusable`.
        """

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
        # SQLite quotes bytes that it can't interpret; decoding them raises UnicodeError.
        failure.trap(sqlite3.Error, StoreDamaged, UnicodeError)
        why = failure.getErrorMessage()
        self._trouble = f"{self._path}: {why}"
        if "locked" in why:
            self._trouble = f"{self._path} is in use by another hbtd"
        raise StoreDamaged(self._trouble) from failure.value


def _set_up(connection: Any) -> None:
    """Set exclusive locking and full synchronization on a new connection; don't change the file."""
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("PRAGMA synchronous = FULL")


def _check_unopened(path: str) -> bool:
    """Check a file without changing it; return whether that was possible.

    Raise `StoreDamaged` if the file is damaged, or belongs to another program or a newer hbtd. An
    ordinary connection would change the file: when it is closed, it applies the write-ahead log
    that a killed process has left behind.
    """
    if not os.path.isfile(path):
        return False
    # To read a write-ahead log SQLite needs a lock and further files; without one it needs neither.
    how = "mode=ro" if os.path.exists(f"{path}-wal") else "immutable=1"
    # If a check needs to write, such as to roll back an unfinished write, it is left to the pool.
    with (
        suppress(sqlite3.OperationalError),
        closing(sqlite3.connect(f"file:{quote(path)}?{how}", uri=True, timeout=0.0)) as connection,
    ):
        _check(connection, sound=False)
        return True
    return False


def _check(connection: Any, *, sound: bool) -> bool:
    """Check that a file belongs to this or an older hbtd; return whether the file has tables.

    Unless the file is known to be `sound`, check also that it is not damaged. Raise `StoreDamaged`
    if a check fails.
    """
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
        except sqlite3.OperationalError as error:  # such as a text that is not UTF-8
            raise StoreDamaged(f"this file is damaged: {error}") from error
    return bool(tables)


def _prepare(cursor: Any, sound: bool) -> float:
    """Check the file, create its tables if it has none, and lock it.

    Return the time of the file's clock, in seconds. Raise `StoreDamaged` if the check fails;
    `sound` is as for `_check`.
    """
    written = _check(cursor, sound=sound)
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("BEGIN IMMEDIATE")  # locks the file for as long as it is open
    if not written:
        for statement in _SCHEMA:
            cursor.execute(statement)
        cursor.execute(f"PRAGMA application_id = {_APPLICATION}")
        cursor.execute(f"PRAGMA user_version = {_VERSION}")
    (now,) = cursor.execute("SELECT now FROM clock").fetchone()
    return float(now)


def _write(cursor: Any, now: float, records: Sequence[Record]) -> None:
    rows = [(r.component, now - r.age, r.timestamp, r.status, r.warned) for r in records]
    left = len(rows) % _ROWS_PER_STATEMENT
    for start in range(0, len(rows) - left, _ROWS_PER_STATEMENT):
        cursor.execute(
            _REPLACE_MANY, list(chain.from_iterable(rows[start : start + _ROWS_PER_STATEMENT]))
        )
    cursor.executemany(_REPLACE, rows[len(rows) - left :])
