"""The store `sqlite:PATH`, which keeps everything in an SQLite file for one hbtd process."""

import sqlite3
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain
from math import inf
from typing import Any, TypeVar

from twisted.enterprise.adbapi import ConnectionPool
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from hbtd.store import (
    sqlite_identities,
    sqlite_log,
    sqlite_notes,
    sqlite_past,
    sqlite_silences,
)
from hbtd.store.forgetting import Forgetting
from hbtd.store.interface import IStore, LogEntry, StoreUnusable
from hbtd.store.past import (
    EVERYTHING,
    Noticed,
    Selection,
    SilencesThen,
    Span,
    StatesThen,
    StateThen,
)
from hbtd.store.questions import Questions
from hbtd.store.settings import Replacement, Setting, Settings
from hbtd.store.sqlite_file import (
    Contents,
    DatabaseFile,
    FileLost,
    Found,
    StoreDamaged,
    end_session,
    flush,
    prepare,
    set_up,
)
from hbtd.store.sqlite_judgements import read_judgements, read_undelivered
from hbtd.store.sqlite_log import ROWS_PER_STATEMENT, write_rows
from hbtd.tracker.records import Identity, Record
from hbtd.tracker.silences import MOST_KEPT, LongSilence
from hbtd.tracker.transitions import Judgement, Transition

_T = TypeVar("_T")

_REPLACE = (
    "REPLACE INTO record (component, last_heard, timestamp, status, warned) VALUES (?, ?, ?, ?, ?)"
)
_REPLACE_MANY = _REPLACE + ", (?, ?, ?, ?, ?)" * (ROWS_PER_STATEMENT - 1)

_PORTION = 5000
"""The most undelivered judgements that are read at a time."""

_HANGS = 30.0
"""Seconds in which the store's thread must finish some call, unless there is none to carry out.

Calls take a few milliseconds each, or a few hundred: a disk that is away can block one for minutes.
"""

_FLUSH = 60.0
"""Observed seconds after which the write-ahead log is moved into the file itself."""


@implementer(IStore)
class SqliteStore:
    """Keeps judgements, records and the log of transitions in an SQLite file; see `IStore`.

    Calls are carried out in one thread. When the Deferred of a call fires, the changes made by the
    call are safely on the disk. The file is locked while it is open, so that no two hbtd processes
    use it.

    Each call checks that the file is still there. If the file was removed, it is written anew, with
    all its contents. The store can't be used while there is another file at the path, or once
    another program has overwritten the file.

    The file has a clock of its own: the sum of the observed seconds of all processes that have used
    the file. Each write stores the time of this clock.
    """

    durable = True
    shared = False
    gather = 1.0

    _log = Logger()

    def __init__(
        self,
        path: str,
        reactor: Any,
        observed: Callable[[], float],
        judge: str,
        make_pool: Callable[..., ConnectionPool] = ConnectionPool,
    ) -> None:
        """Make a store that will use the file `path`, which is not opened yet.

        `reactor` provides `IReactorThreads` and `IReactorTime`; `observed` returns the current time
        of the observed clock, in seconds. `judge`, the host and port of this replica, is put in
        each log entry. `make_pool` makes a pool of one thread and one database connection, which
        all calls use.
        """
        self._path = path
        self._reactor = reactor
        self._observed = observed
        self._judge = judge
        self._make_pool = make_pool
        self._last_number = 0
        self._entries = 0
        self._clock_offset = 0.0
        self._pool: ConnectionPool | None = None
        self._file = DatabaseFile(path)
        self._questions = Questions()
        self._flushed_at: float | None = None
        self._commit_failed = False
        self._trouble: str | None = "Not initialized"
        # What is to be forgotten, if that was the last call.
        self._forgetting: Forgetting | None = None
        # The calls that the store's thread has yet to finish, and since when it has finished none.
        self._calls = 0
        self._calls_since = 0.0
        self.settings = Settings()
        """The settings in the file, which are read when it is opened."""

    def open(self) -> Deferred[None]:
        """Open the file, or create it if there is none.

        The Deferred fails with `StoreDamaged` if the file can't be created, is in use, is damaged,
        or belongs to another program or to a newer hbtd.
        """
        self._trouble = "Not initialized"
        self._pool = self._make_pool(
            "sqlite3",
            self._path,
            cp_min=1,
            cp_max=1,
            cp_reactor=self._reactor,
            cp_openfun=set_up,
            check_same_thread=False,
            timeout=1.0,
        )
        self._pool.start()
        pool = self._pool
        # The file is checked before the pool's first connection, which might change it, is made.
        locked: Deferred[Found] = deferToThreadPool(self._reactor, pool.threadpool, self._file.lock)
        opened: Deferred[Contents] = locked.addCallback(
            lambda found: pool.runWithConnection(self._prepare, found)
        )

        def loaded(contents: Contents) -> None:
            self._clock_offset = contents.now - self._observed()
            self._last_number, self._entries = contents.last_number, contents.entries
            self._flushed_at = None
            self._commit_failed = False
            for doubt in contents.doubts:
                self._log.warn(
                    "The store {path} may have lost data: {doubt}.", path=self._path, doubt=doubt
                )
            if self._trouble != "Closed":
                self._trouble = None

        return opened.addCallbacks(loaded, self._not_opened).addCallback(self._read_settings)

    def _read_settings(self, _: object) -> Deferred[None]:
        def replace(settings: Sequence[Setting]) -> None:
            self.settings.replace((setting, 0) for setting in settings)

        return self._noting(self._run(sqlite_notes.read_settings)).addCallback(replace)

    def close(self) -> Deferred[None]:
        """Close the file once all earlier calls are done."""
        trouble, self._trouble = self._trouble, "Closed"
        pool, self._pool = self._pool, None
        if pool is None:
            return succeed(None)
        # The pool's only thread comes to this after all earlier calls.
        done: Deferred[None] = deferToThreadPool(
            self._reactor, pool.threadpool, self._end, pool, trouble
        )
        return done.addBoth(lambda _: pool.close()).addBoth(lambda _: self._file.unlock())

    def commit(
        self, judgements: Sequence[Judgement], records: Sequence[Record] = ()
    ) -> Deferred[bool]:
        """Store judgements and records, and add the judgements to the log, in one transaction.

        The judgements are marked as not delivered. The Deferred's result is always `True`: the
        caller is to send the judgements to HSM and Kafka.
        """

        def work(cursor: Any, now: float) -> int:
            # In this order: a component may be in the list more than once.
            write_rows(
                cursor,
                "REPLACE INTO judgement (component, transition, timestamp, delivered)"
                " VALUES {rows}",
                "(?, ?, ?, 0)",
                [(each.component, each.transition.name, each.timestamp) for each in judgements],
            )
            died = [(each.component,) for each in judgements if each.transition is Transition.DIED]
            write_rows(cursor, "DELETE FROM record WHERE component IN ({rows})", "?", died)
            _write(cursor, now, records)
            return sqlite_log.append(cursor, judgements, self._judge)

        def committed(last: int) -> bool:
            self._last_number = last
            self._entries += len(judgements)
            return True

        return self._write(work, commits=True).addCallback(committed)

    def log(self, after: int, most: int) -> Deferred[Sequence[LogEntry]]:
        """Return the first `most` log entries with numbers above `after`, in order of number."""
        read: Deferred[Sequence[LogEntry]] = self._run(
            lambda cursor: sqlite_log.read(cursor, after, most)
        )
        return self._noting(read)

    def history(
        self, span: Span, selection: Selection = EVERYTHING, most: int = 1000
    ) -> Deferred[Sequence[LogEntry]]:
        """Return up to `most` log entries about the components in `selection`.

        `span` says from which stretch of time the entries are, and in which order to return them.

        The log is read in portions, between which other calls of the store are carried out.
        """
        return Deferred.fromCoroutine(self._history(span, selection, most))

    async def _history(self, span: Span, selection: Selection, most: int) -> Sequence[LogEntry]:
        found: list[LogEntry] = []
        begin = partial(sqlite_past.begin, span=span, selection=selection)
        place: sqlite_past.Place | None = await self._ask(begin)
        while place is not None:
            search = partial(sqlite_past.search, span=span, place=place, most=most - len(found))
            some, place = await self._ask(search)
            found += some
        return found

    def states_at(
        self,
        at: float,
        selection: Selection = EVERYTHING,
        after: str = "",
        most: int = sys.maxsize,
    ) -> Deferred[StatesThen]:
        """Return the states that the selected components had at the Unix time `at`.

        The result has the states of the first `most` of these components after the name `after`, in
        the order of the names. The log is read in portions, between which other calls of the store
        are carried out.
        """
        return Deferred.fromCoroutine(self._states_at(at, selection, after, most))

    async def _states_at(
        self, at: float, selection: Selection, after: str, most: int
    ) -> StatesThen:
        number_at = partial(sqlite_past.number_at, at=at)
        number, complete = await self._ask(number_at)
        found: list[StateThen] = []
        done: str | None = after
        while done is not None and len(found) < most:
            states = partial(
                sqlite_past.states,
                number=number,
                selection=selection,
                after=done,
                most=most - len(found),
            )
            some, done = await self._ask(states)
            found += some
        return StatesThen(found, complete)

    def last_number(self) -> int:
        """Return the number of the last entry of the log; 0 if there is none."""
        return self._last_number

    def entries(self) -> int:
        """Return the number of entries in the log."""
        return self._entries

    def cursor(self, reader: str) -> Deferred[int | None]:
        """Return the cursor of a reader of the log, or `None` if the reader has none yet.

        The cursor is the number of the last log entry that the reader has passed on.
        """
        return self._noting(self._run(lambda cursor: sqlite_log.read_cursor(cursor, reader)))

    def move_cursor(self, reader: str, number: int) -> Deferred[None]:
        """Set the cursor of a reader, which has passed on the log's entries up to `number`."""
        return self._write(lambda cursor, now: sqlite_log.move_cursor(cursor, reader, number))

    def trim(self, before: float, most: int, told: int) -> Deferred[int]:
        """Delete old entries of the log; return the number of deleted entries.

        Entries of judgements made before the Unix time `before` are deleted, and then the oldest of
        the other entries until `most` are left. Entries with numbers above `told`, and the last
        entry of each component, are never deleted.

        The entries are deleted in portions, between which other calls of the store are carried out.
        """
        return Deferred.fromCoroutine(self._trim(before, most, told))

    async def _trim(self, before: float, most: int, told: int) -> int:
        self._entries = await self._noting(self._run(sqlite_log.count_entries))
        deleted = await self._trim_by("at", before, told, lambda: self._entries)
        return deleted + await self._trim_by(
            "number", told + 1, told, lambda: max(self._entries - most, 0)
        )

    async def _trim_by(self, column: str, high: float, told: int, excess: Callable[[], int]) -> int:
        """Delete entries of the log whose `column` is below `high`, the lowest first.

        `excess` returns how many may still be deleted. Entries with numbers above `told`, and the
        last one of each component, stay. Return how many were deleted.
        """
        done: float | None = -inf
        deleted = 0
        while done is not None and excess() != 0:
            work = partial(sqlite_log.trim_portion, column=column, low=done, high=high, told=told)
            done, count = await self._noting(self._run(partial(work, most=excess())))
            deleted += count
            self._entries -= count
        return deleted

    def checkpoint(
        self, records: Sequence[Record], starting: Sequence[Record] = ()
    ) -> Deferred[None]:
        """Store the time of the file's clock, and records.

        The records replace the stored records of the same components. The file's clock shows the
        sum of the observed seconds of all processes that have used the file; its time is stored
        even if `records` is empty. `starting` is ignored, because there are no other replicas.
        """
        return self._write(lambda cursor, now: _write(cursor, now, records))

    def delivered(self, judgements: Sequence[Judgement], at: float = 0.0) -> Deferred[None]:
        """Mark judgements as delivered, because HSM has acknowledged them.

        `at` is the Unix time of the acknowledgement; 0 if not known. A judgement that is no longer
        the latest about its component is ignored.
        """

        def work(cursor: Any, now: float) -> None:
            these = [(j.component, j.transition.name, j.timestamp) for j in judgements]
            which = " WHERE NOT delivered AND component = ? AND transition = ? AND timestamp = ?"
            if at:
                # The others are deleted at once.
                cursor.executemany(
                    "REPLACE INTO log_told (component, number, at)"  # noqa: S608
                    f" SELECT component, number, ? FROM judgement{which}"
                    " AND transition IN ('WARNED', 'DIED')",
                    [(at, *each) for each in these],
                )
            cursor.executemany(f"UPDATE judgement SET delivered = 1{which}", these)  # noqa: S608
            cursor.execute(
                "DELETE FROM judgement WHERE delivered AND transition IN (?, ?)",
                (Transition.STARTED.name, Transition.RESTARTED.name),
            )

        return self._write(work)

    def forget(self, xname: str) -> Deferred[None]:
        """Delete the judgement, the record and the identity of a component.

        Successive calls share a transaction, unless other calls of the store come in between.
        """
        forgotten = self._forgetting and self._forgetting.add(xname)
        if forgotten:
            return forgotten
        batch = Forgetting()
        added = batch.add(xname)
        assert added is not None

        def work(cursor: Any, now: float) -> None:
            names = [(each,) for each in batch.take()]
            for table in ("record", "judgement", "log_told", "identity"):
                cursor.executemany(f"DELETE FROM {table} WHERE component = ?", names)  # noqa: S608

        done = self._write(work)
        self._forgetting = batch
        done.addBoth(batch.end)
        return added

    def clear_records(self) -> Deferred[None]:
        """Delete the records of all components, but no judgements."""

        def work(cursor: Any, now: float) -> None:
            cursor.execute("DELETE FROM record")

        return self._write(work)

    def records(self, after: str = "", most: int = sys.maxsize) -> Deferred[Sequence[Record]]:
        """Return the records of the first `most` components after the name `after`.

        The ages of the heartbeats are as of the last write to the file.
        """

        def work(cursor: Any) -> Sequence[Record]:
            cursor.execute(
                "SELECT component, clock.now - last_heard, timestamp, status, warned != 0"
                " FROM clock, record WHERE component > ? ORDER BY component LIMIT ?",
                (after, most),
            )
            return list(map(Record._make, cursor))

        return self._noting(self._run(work))

    def identities(self, after: str = "", most: int = sys.maxsize) -> Deferred[Sequence[Identity]]:
        """Return the identities of the first `most` components after the name `after`."""
        read: Deferred[Sequence[Identity]] = self._run(
            lambda cursor: sqlite_identities.read(cursor, after, most)
        )
        return self._noting(read)

    def identify(self, identities: Sequence[Identity]) -> Deferred[None]:
        """Store host names and NIDs, which replace the stored ones of the same components."""
        return self._write(lambda cursor, now: sqlite_identities.write(cursor, identities))

    def notes(self, kind: str) -> Deferred[dict[str, str]]:
        """Return all notes of a kind, as a dict from names to texts.

        Notes are texts that parts of hbtd keep across restarts; see `IStore.notes`.
        """
        return self._noting(self._run(lambda cursor: sqlite_notes.read(cursor, kind)))

    def write_notes(self, kind: str, notes: Mapping[str, str | None]) -> Deferred[None]:
        """Write notes of a kind; `notes` maps names to texts, or to `None` to delete the note."""
        return self._write(lambda cursor, now: sqlite_notes.write(cursor, kind, notes))

    def keep_silences(self, silences: Sequence[LongSilence], noticed: Noticed) -> Deferred[None]:
        """Add long silences to the table; see `IStore.keep_silences`."""
        return self._write(
            lambda cursor, now: sqlite_silences.keep(cursor, silences, noticed, MOST_KEPT)
        )

    def silences(
        self, since: float = -inf, least: float = 0.0, after: int = 0, most: int = 5000
    ) -> Deferred[SilencesThen]:
        """Return a portion of the long silences in the table; see `IStore.silences`."""
        return self._ask(lambda cursor: sqlite_silences.read(cursor, since, least, after, most))

    def write_settings(self, settings: Sequence[Setting]) -> Deferred[None]:
        """Write settings; remove those whose text is `None`."""

        def written(_: object) -> None:
            for setting in settings:
                self.settings.apply(setting, 0)

        write = self._write(lambda cursor, now: sqlite_notes.write_settings(cursor, settings))
        return write.addCallback(written)

    def replace_settings(self, replacements: Sequence[Replacement]) -> Deferred[Sequence[bool]]:
        """Write those settings that still have the texts that they are expected to have."""

        def written(replaced: Sequence[bool]) -> Sequence[bool]:
            for (setting, _), done in zip(replacements, replaced, strict=True):
                if done:
                    self.settings.apply(setting, 0)
            return replaced

        write = self._write(lambda cursor, now: sqlite_notes.replace_settings(cursor, replacements))
        return write.addCallback(written)

    def undelivered(
        self, share: Callable[[str, str], tuple[str, str]] | None = None
    ) -> Deferred[list[Judgement]]:
        """Return the judgements that are not marked as delivered, in the order of their commits.

        The judgements are read in portions. To save memory, `share` is called with the component's
        name and the timestamp of each judgement; it returns a name and a timestamp that are equal
        to its arguments, but may be objects that are in memory already. The judgement is made with
        these objects.
        """
        return Deferred.fromCoroutine(self._undelivered(share))

    async def _undelivered(
        self, share: Callable[[str, str], tuple[str, str]] | None
    ) -> list[Judgement]:
        found: list[Judgement] = []
        after = 0
        while rows := await self._noting(
            self._run(partial(read_undelivered, after=after, most=_PORTION))
        ):
            after = rows[-1].number
            for _, xname, transition, timestamp in rows:
                texts = (xname, timestamp) if share is None else share(xname, timestamp)
                found.append(Judgement(texts[0], transition, texts[1]))
        return found

    def judgements(
        self, of: Collection[Transition] = tuple(Transition)
    ) -> Deferred[list[Judgement]]:
        """Return the stored judgements whose transitions are in `of`, in the order of commits."""
        return self._noting(self._run(lambda cursor: read_judgements(cursor, of)))

    def told(self) -> Deferred[dict[str, tuple[Transition, float]]]:
        """Return the alarms that HSM has acknowledged and that no later judgement has replaced.

        Alarms are the judgements `WARNED` and `DIED`. The result maps each component's name to the
        transition and to the Unix time of the acknowledgement. Alarms for which this time is not
        known are left out.
        """

        def work(cursor: Any) -> dict[str, tuple[Transition, float]]:
            cursor.execute(
                "SELECT component, transition, at FROM judgement NATURAL JOIN log_told"
                " WHERE delivered"
            )
            return {name: (Transition[kind], told) for name, kind, told in cursor}

        return self._noting(self._run(work))

    def usable(self) -> bool:
        """Return whether the store can be used now.

        That is so if the file is open, the last call and the last commit succeeded, and the call
        that is in progress, if any, does not hang.
        """
        return self._trouble is None and not self._hangs

    def health(self) -> str:
        """Return a text for `/health`: why the store can't be used, or that it can be used.

        For a usable store, this is the text that the original hbtd has for its own store.
        """
        if self._trouble is None and self._hangs:
            return f"{self._path}: the disk does not answer, for more than {_HANGS:g} s now"
        return self._trouble or "Initialization key present: HBTD_OK"

    @property
    def _hangs(self) -> bool:
        return self._calls > 0 and self._reactor.seconds() - self._calls_since > _HANGS

    def _run(self, work: Callable[[Any], _T]) -> Deferred[_T]:
        """Call `work` with a cursor of SQLite, in the store's thread and in a transaction.

        The Deferred fires with the result of `work`, or fails with the exception that it raises. It
        fails with `StoreUnusable` if the store is not open.
        """
        if self._pool is None:
            return fail(StoreUnusable(self.health()))
        self._forgetting = None
        if not self._calls:
            self._calls_since = self._reactor.seconds()
        self._calls += 1

        def finished(result: Any) -> Any:
            self._calls -= 1
            self._calls_since = self._reactor.seconds()
            return result

        done: Deferred[_T] = self._pool.runWithConnection(self._interact, work)
        return done.addBoth(finished)

    def _ask(self, work: Callable[[Any], _T]) -> Deferred[_T]:
        """Call `work` as `_run` does, for a question about the past.

        Only two questions at a time are passed to the store's thread, so that a commit need not
        wait for many.
        """
        return self._questions.ask(lambda: self._noting(self._run(work)))

    # The following three methods run in the store's thread.

    def _interact(self, connection: Any, work: Callable[[Any], _T]) -> _T:
        happened = self._file.check(connection)
        if happened is not None:
            self._reactor.callFromThread(
                self._log.warn, "The store {path} {happened}.", path=self._path, happened=happened
            )
        try:
            result = work(connection.cursor())
            connection.commit()
        finally:
            self._file.note()
        return result

    def _prepare(self, connection: Any, found: Found) -> Contents:
        result = prepare(connection, found)
        self._file.note()
        return result

    def _end(self, pool: ConnectionPool, trouble: str | None) -> None:
        """Record in the file that it was closed, unless `trouble` says why it can't be used."""
        if trouble is None:
            with suppress(sqlite3.Error, FileLost):
                connection = pool.connectionFactory(pool)
                self._interact(connection, end_session)

    def _write(self, work: Callable[[Any, float], _T], *, commits: bool = False) -> Deferred[_T]:
        """Call `work` with a cursor of SQLite and the time of the file's clock, in seconds.

        That clock adds up the observed seconds of all processes that have used the file. The
        transaction in which `work` runs also stores the time of the clock. The Deferred fires with
        the result of `work`. `commits` says whether this is a commit, as for `_noting`.
        """
        now = self._clock_offset + self._observed()

        def interaction(cursor: Any) -> _T:
            cursor.execute("UPDATE clock SET now = ?", (now,))
            return work(cursor, now)

        done = self._noting(self._run(interaction), commits=commits)
        if self._flushed_at is None or now - self._flushed_at >= _FLUSH:
            # From now on, a copy of the file alone has what was heard a minute ago.
            self._flushed_at = now
            self._noting(self._run(flush)).addErrback(lambda failure: failure.trap(StoreUnusable))
        return done

    def _noting(self, deferred: Deferred[_T], *, commits: bool = False) -> Deferred[_T]:
        """Record for `usable` and `health` whether a call succeeds; if `commits`, it is a commit.

        On a disk that is nearly full, small calls may succeed although commits fail. So after a
        failed commit the store is unusable until a commit succeeds. SQLite errors become
        `StoreUnusable`.
        """

        def done(result: _T) -> _T:
            if commits:
                self._commit_failed = False
            if self._trouble != "Closed" and not self._commit_failed:
                self._trouble = None
            return result

        def failed(failure: Failure) -> _T:
            failure.trap(sqlite3.Error, FileLost)
            if self._pool is None:
                raise StoreUnusable(self.health()) from failure.value
            self._commit_failed = self._commit_failed or commits
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


def _write(cursor: Any, now: float, records: Sequence[Record]) -> None:
    rows = [(r.component, now - r.age, r.timestamp, r.status, r.warned) for r in records]
    left = len(rows) % ROWS_PER_STATEMENT
    for start in range(0, len(rows) - left, ROWS_PER_STATEMENT):
        cursor.execute(
            _REPLACE_MANY, list(chain.from_iterable(rows[start : start + ROWS_PER_STATEMENT]))
        )
    cursor.executemany(_REPLACE, rows[len(rows) - left :])
