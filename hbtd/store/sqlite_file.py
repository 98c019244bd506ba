"""The file of the store `sqlite:`: its format, its lock, and checks that it is undamaged."""

import fcntl
import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from hbtd.formats.counts import counted
from hbtd.store.sqlite_identities import IDENTITY_SCHEMA
from hbtd.store.sqlite_log import LOG_SCHEMA, add_columns, count_entries, last_number
from hbtd.store.sqlite_notes import NOTES_SCHEMA
from hbtd.store.sqlite_silences import SILENCE_SCHEMA

APPLICATION: Final = 0x68627464  # "hbtd"
VERSION: Final = 1

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

# Has a row while a process uses the file; a copy of the file alone, made meanwhile, has it, too.
_SESSION: Final = "CREATE TABLE IF NOT EXISTS session (one INTEGER PRIMARY KEY CHECK (one = 1))"

# When HSM has acknowledged the judgement with this number: the Unix time. A version that does not
# know this table leaves rows behind whose judgements have other numbers by then, and don't count.
_TOLD: Final = """CREATE TABLE IF NOT EXISTS log_told (
        component TEXT PRIMARY KEY, number INTEGER NOT NULL, at REAL NOT NULL
    ) WITHOUT ROWID"""

_RESTORE = "Restore a copy made by hbtd-backup if you have one"
"""What an operator can do about a file that has lost data."""


class StoreDamaged(Exception):
    """Raised when a store's file can't be used, for example because it is damaged or locked.

    The message says why. The file has not been changed.
    """


class FileLost(Exception):
    """Raised when the store's open file was removed, replaced or overwritten, and can't be used.

    The message says what happened to the file.
    """


class Found(NamedTuple):
    """The result of `DatabaseFile.lock`: the state of the file before it is opened."""

    sound: bool
    """Whether the file was checked and is undamaged; `False` if it could not be checked."""
    empty: bool
    """Whether there was no file, or an empty one."""
    log: bool
    """Whether there was a file with SQLite's write-ahead log (`-wal`) beside the file."""


class Contents(NamedTuple):
    """The result of `prepare`: the contents of the file when it is opened."""

    now: float
    """The time of the file's clock, in seconds."""
    doubts: Sequence[str]
    """Reasons to suspect that the file has lost data, in words for operators; normally empty."""
    last_number: int
    """The number of the last entry in the log of transitions; 0 if there is none."""
    entries: int
    """The number of entries in the log of transitions."""


class DatabaseFile:
    """Locks the file of a store, and checks whether other programs have changed it.

    All methods are called in the store's thread. The lock, which is made with `flock`, keeps other
    hbtd processes from using the file. Other programs, such as `hbtd-backup`, can still read it.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = -1
        self._size = 0
        self._changed_at = 0
        # The write-ahead log, once there is one.
        self._log: tuple[int, int] | None = None
        self._overwritten = False

    def lock(self) -> Found:
        """Lock the file, or create and lock an empty one; check the file without changing it.

        Raise `StoreDamaged` if the file can't be opened, is locked by another hbtd, is damaged, or
        belongs to another program or to a newer hbtd.
        """
        self._path = os.path.realpath(self._path)
        if os.path.isdir(self._path):
            raise StoreDamaged("unable to open a directory as a file")
        try:
            self._take(self._path)
        except OSError as error:
            raise StoreDamaged(f"unable to open the file: {error.strerror}") from error
        self._overwritten = False
        log = os.path.exists(f"{self._path}-wal")
        empty = not (log or os.fstat(self._lock).st_size)
        return Found(check_unopened(self._path, log=log), empty, log)

    def unlock(self) -> None:
        """Release the lock. Call this only after all connections to the file are closed.

        Releasing the lock closes a descriptor of the file. Closing it would also end the locks by
        which SQLite protects connections that are still open.
        """
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def note(self) -> None:
        """Record the size and modification time of the file and the identity of its `-wal` file.

        `check` compares them with the present ones. Call this method after each change that hbtd
        makes to the file.
        """
        status = os.fstat(self._lock)
        self._size, self._changed_at = status.st_size, status.st_mtime_ns
        if self._log is None:
            self._log = _identity(f"{self._path}-wal")

    def check(self, connection: Any) -> str | None:
        """Check whether other programs have changed the file; if it was removed, write it again.

        If the file or its write-ahead log was removed, a new file with all that `connection` sees
        is written. Return a text for the log that says what other programs have done to the file,
        or `None` if they have not changed it.

        Raise `FileLost` if the new file can't be written, or if another program has replaced or
        overwritten the file; a file that was replaced or overwritten is left as it is.
        """
        if self._overwritten:
            raise self._not_ours()
        try:
            return self._check(connection)
        except OSError as error:
            raise FileLost(f"the file can't be looked at: {error.strerror}") from error

    def _check(self, connection: Any) -> str | None:
        now = _identity(self._path)
        if now is None:
            return self._renew(connection, "was removed")
        status = os.fstat(self._lock)
        if now != (status.st_dev, status.st_ino):
            # SQLite would apply the log to that file when it is opened next.
            if self._log is not None and _identity(f"{self._path}-wal") == self._log:
                self._remove_log()
            raise FileLost(
                "there is another file in place of the one that hbtd uses; move it away, and hbtd"
                " will write its own anew, or restart hbtd to use it"
            )
        if status.st_size < self._size or (
            status.st_mtime_ns != self._changed_at and not _is_sound(connection)
        ):
            self._overwritten = True
            raise self._not_ours()
        if self._log is not None and _identity(f"{self._path}-wal") != self._log:
            return self._renew(connection, "has lost its write-ahead log")
        if status.st_mtime_ns != self._changed_at:
            self.note()
            return "was touched by another program, and is sound"
        return None

    def _not_ours(self) -> FileLost:
        return FileLost(
            "the file was overwritten or truncated while hbtd was using it; stop hbtd, then restore"
            " the file, or remove it to begin without records"
        )

    def _take(self, path: str) -> None:
        """Lock the file that is at `path` now, in place of the one that was locked before, if any.

        Raise `StoreDamaged` if another process has locked it; the one before then stays locked.
        """
        try:
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except PermissionError:
            lock = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # a file system that is read-only
            if not os.path.exists(path):
                raise
            lock = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise StoreDamaged("the file is locked") from None
        except OSError:
            pass  # a file system without such locks
        before, self._lock = self._lock, lock
        if before >= 0:
            os.close(before)

    def _renew(self, connection: Any, why: str) -> str:
        """Write a new file in place of one that was lost, with all that an open connection sees.

        `why` says what was wrong with the file. Return a sentence, for the log, that repeats it and
        says what was done; raise `FileLost` if the file can't be written.
        """
        new = f"{self._path}-new"
        try:
            with suppress(FileNotFoundError):
                os.unlink(new)
            with closing(sqlite3.connect(new)) as target:
                connection.backup(target)
            os.chmod(new, os.fstat(self._lock).st_mode & 0o7777)
            self._remove_log()  # SQLite would take the old file's for the new one's
            if _identity(self._path) is None:
                os.link(new, self._path)  # fails if there is a file by now
                os.unlink(new)
            else:
                os.replace(new, self._path)
            synchronize(os.path.dirname(self._path) or ".")
            connection.reconnect()
            self._take(self._path)
        except (OSError, sqlite3.Error, StoreDamaged) as error:
            with suppress(OSError):
                os.unlink(new)
            hint = missing_directory(self._path)
            raise FileLost(f"the file {why}, and can't be written anew: {error}{hint}") from error
        self._log = None
        self.note()
        return f"{why}, and has been written anew, with all that was in it"

    def _remove_log(self) -> None:
        for end in ("-wal", "-shm"):
            with suppress(FileNotFoundError):
                os.unlink(self._path + end)


def set_up(connection: Any) -> None:
    """Set up a new SQLite connection so that each commit is flushed to the disk.

    The file is not changed.
    """
    connection.execute("PRAGMA synchronous = FULL")


def prepare(connection: Any, found: Found) -> Contents:
    """Check the file of an SQLite connection, create missing tables, and return its `Contents`.

    `found` is the result of `DatabaseFile.lock`. Raise `StoreDamaged` if the check fails.
    """
    cursor = connection.cursor()
    written = _check(cursor, sound=found.sound)
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("BEGIN IMMEDIATE")
    doubts = _doubts(cursor, found, written=written)
    if not written:
        for statement in _SCHEMA:
            cursor.execute(statement)
        cursor.execute(f"PRAGMA application_id = {APPLICATION}")
        cursor.execute(f"PRAGMA user_version = {VERSION}")
    own = (_SESSION, _TOLD, IDENTITY_SCHEMA, NOTES_SCHEMA, *LOG_SCHEMA, *SILENCE_SCHEMA)
    for statement in own:
        cursor.execute(statement)
    add_columns(cursor)
    cursor.execute("INSERT OR IGNORE INTO session VALUES (1)")
    (now,) = cursor.execute("SELECT now FROM clock").fetchone()
    contents = Contents(float(now), doubts, last_number(cursor), count_entries(cursor))
    connection.commit()
    flush(cursor)
    return contents


def end_session(cursor: Any) -> None:
    """Record in the file that hbtd has closed it properly, which ends this process's session."""
    cursor.execute("DELETE FROM session")


def flush(cursor: Any) -> None:
    """Move the contents of the write-ahead log into the file, as far as other connections allow."""
    cursor.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


def _doubts(cursor: Any, found: Found, *, written: bool) -> list[str]:
    """Return the reasons to suspect that the file has lost data; empty if there are none.

    `found` is the condition of the file before it was opened; `written` says whether the file had
    tables.
    """
    if not written:
        lost = "it is empty although it was in use: was it copied without its -wal file?"
        return [] if found.empty else [f"{lost} {_RESTORE}"]
    (records,) = cursor.execute("SELECT count(*) FROM record").fetchone()
    (judgements,) = cursor.execute("SELECT count(*) FROM judgement").fetchone()
    (sessions,) = cursor.execute(
        "SELECT count(*) FROM sqlite_schema WHERE name = 'session'"
    ).fetchone()
    doubts = []
    if sessions and not found.log and cursor.execute("SELECT * FROM session").fetchall():
        doubts.append(
            "it is probably a plain copy: it was not closed and has no -wal file, so the latest"
            f" changes are missing. It has {counted(records, 'record')}. {_RESTORE}"
        )
    # SQLite remembers the highest number that a judgement ever had.
    if (
        not records
        and not judgements
        and cursor.execute("SELECT * FROM sqlite_sequence").fetchall()
    ):
        doubts.append(f"it once had records, and has none now. {_RESTORE}")
    return doubts


def check_unopened(path: str, *, log: bool) -> bool:
    """Check a database file without changing it; return whether the check was possible.

    `log` says whether there is a write-ahead log beside the file. Raise `StoreDamaged` if the file
    is damaged, or belongs to another program or a newer hbtd.

    The file is opened read-only for this check. An ordinary connection would change it: when such a
    connection is closed, SQLite moves what is in the write-ahead log into the file.
    """
    # To read a write-ahead log SQLite needs a lock and further files; without one it needs neither.
    how = "mode=ro" if log else "immutable=1"
    # If a check needs to write, such as to roll back an unfinished write, it is left to the pool.
    try:
        with (
            suppress(sqlite3.OperationalError),
            closing(sqlite3.connect(f"file:{quote(path)}?{how}", uri=True, timeout=0.0)) as opened,
        ):
            _check(opened, sound=False)
            return True
    except sqlite3.DatabaseError as error:  # SQLite has "file is not a database"
        if "not a database" not in str(error):
            raise
        raise StoreDamaged(
            "this is not an SQLite file, or its beginning was overwritten; move it away, or restore"
            " a backup"
        ) from error
    return False


def _check(connection: Any, *, sound: bool) -> bool:
    """Check that a file belongs to this or an older hbtd; return whether the file has tables.

    Unless the file is known to be `sound`, check also that it is not damaged. Raise `StoreDamaged`
    if a check fails.
    """
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if tables and application != APPLICATION:
        raise StoreDamaged("this is a file of some other program")
    if version > VERSION:
        raise StoreDamaged(f"this file is of a newer hbtd: version {version}, not {VERSION}")
    if tables and not sound:
        (verdict,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
        if verdict != "ok":
            raise StoreDamaged(_damaged(" ".join(verdict.split())))
        try:
            for table in ("clock", "record", "judgement"):
                for _ in connection.execute(f"SELECT * FROM {table}"):  # noqa: S608
                    pass
        except sqlite3.OperationalError as error:  # such as a text that is not UTF-8
            raise StoreDamaged(_damaged(str(error))) from error
    return bool(tables)


def _damaged(why: str) -> str:
    return f"this file is damaged: {why}; move it away, or restore a backup"


def _is_sound(connection: Any) -> bool:
    """Return whether SQLite, reading a connection's file from the disk, finds no damage in it."""
    try:
        connection.execute("PRAGMA shrink_memory")
        return [row[0] for row in connection.execute("PRAGMA quick_check(1)")] == ["ok"]
    except sqlite3.DatabaseError:
        return False


def _identity(path: str) -> tuple[int, int] | None:
    """Return the device number and inode number of a file; `None` if there is no file."""
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_dev, status.st_ino


def missing_directory(path: str) -> str:
    """Return a hint for an error message if the directory of `path` is missing.

    If the directory exists, return an empty text.
    """
    folder = os.path.dirname(os.path.abspath(path))
    return "" if os.path.isdir(folder) else f"; there is no directory {folder}: create it"


def synchronize(path: str) -> None:
    """Flush the contents of a file, or the file names in a directory, to the disk."""
    number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(number)
    finally:
        os.close(number)
