"""The console command `hbtd-backup`, which copies the file of a store `sqlite:PATH`.

hbtd may use the file in the meantime.
"""

import argparse
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from typing import Any
from urllib.parse import quote

from hbtd.formats.counts import counted
from hbtd.store.sqlite_file import APPLICATION, end_session, missing_directory, synchronize

_TIMEOUT = 30.0
"""Seconds that a backup may take, unless the command line gives another limit."""

_PAGES = 1000
"""The pages, of mostly 4 KiB, that are copied between two checks of the deadline."""

_RETRY = 0.2
"""Seconds between two attempts to read a file that another program has locked."""

_FAILED = 1
_LATE = 75  # EX_TEMPFAIL of sysexits.h

DESCRIPTION = """\
Copy the file of the store sqlite:PATH, whether hbtd is running or not.

The copy is one file, complete as of one moment, and checked. It appears under
its name only then."""

RESTORE = """\
To restore a copy: stop hbtd, remove the old file together with those that have
-wal and -shm after its name, put the copy in its place, for hbtd's user to read
and write, and start hbtd."""

MEANINGS = (
    (0, "the copy is there"),
    (_FAILED, "it could not be made"),
    (2, "the command line can't be used"),
    (_LATE, "it was not ready in time; another attempt may succeed"),
)
"""Each exit status of `hbtd-backup` with its meaning."""


class BackupFailed(Exception):
    """Raised when the backup could not be made; the message says why."""


class TooLate(BackupFailed):
    """Raised when the backup was not complete at its deadline."""


Progress = Callable[[int, int], None]
"""The type of functions called with the number of pages copied so far, and that of all pages."""


def back_up(
    source: str,
    target: str,
    deadline: float,
    progress: Progress,
    *,
    replace: bool = False,
    pages: int = _PAGES,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[int, int]:
    """Copy the file of a store; return the numbers of records and judgements in the copy.

    The copy is a consistent snapshot, even if hbtd writes to the file meanwhile. An existing file
    `target` is overwritten only if `replace` is true. After every `pages` pages, `progress` is
    called with the number of pages copied so far and the number of all pages, and the deadline is
    checked.

    Raise `TooLate` if the copy is not complete at `deadline`, in seconds of `clock`, for example
    because another program keeps the file locked. Raise `BackupFailed` if the copy can't be made
    for any other reason. In both cases there is no new file.
    """
    if not os.path.isfile(source):
        raise BackupFailed(f"there is no file {source}")
    if os.path.isdir(target) or (os.path.exists(target) and not replace):
        raise BackupFailed(f"{target} exists already; give another name, or --force")
    part = f"{target}.part-{os.getpid()}"

    def copied(_: int, left: int, total: int) -> None:
        progress(total - left, total)
        if clock() >= deadline:
            raise TooLate(f"{source} was not copied in time: {left} of {total} pages are missing")

    try:
        while True:
            try:
                found = _copy(source, part, pages, copied)
                break
            except sqlite3.OperationalError as error:
                if "locked" not in str(error):
                    raise
                if clock() + _RETRY >= deadline:
                    raise TooLate(f"another program keeps {source} locked") from error
            sleep(_RETRY)
        os.chmod(part, os.stat(source).st_mode & 0o777)
        _publish(part, target, replace=replace)
    except (OSError, sqlite3.Error) as error:
        hint = missing_directory(target)
        raise BackupFailed(f"{source} can't be copied to {target}: {error}{hint}") from error
    finally:
        for end in ("", "-journal", "-wal", "-shm"):
            with suppress(OSError):
                os.unlink(part + end)
    return found


def _copy(
    source: str, part: str, pages: int, copied: Callable[[int, int, int], None]
) -> tuple[int, int]:
    """Copy the file `source` to the file `part`, and check the copy.

    `copied` is the argument `progress` of `sqlite3.Connection.backup`: it is called after every
    `pages` pages. Return the numbers of records and judgements in the copy.
    """
    # Without a log nobody uses the file, and SQLite needs neither locks nor further files.
    how = "mode=ro" if os.path.exists(f"{source}-wal") else "immutable=1"
    with (
        closing(sqlite3.connect(f"file:{quote(source)}?{how}", uri=True, timeout=0.0)) as original,
        closing(sqlite3.connect(part)) as copy,
    ):
        original.execute("BEGIN")  # so that all is of one moment
        (application,) = original.execute("PRAGMA application_id").fetchone()
        if not original.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
            raise BackupFailed(f"{source} is empty")
        if application != APPLICATION:
            raise BackupFailed(f"{source} is a file of some other program")
        original.backup(copy, pages=pages, progress=copied)
        copy.execute("PRAGMA journal_mode = DELETE")
        with suppress(sqlite3.OperationalError):  # a file of an earlier hbtd
            end_session(copy)
        copy.commit()
        (verdict,) = copy.execute("PRAGMA integrity_check(1)").fetchone()
        if verdict != "ok":
            raise BackupFailed(f"{source} is damaged: {' '.join(verdict.split())}")
        return _count(copy, "record"), _count(copy, "judgement")


def _count(connection: Any, table: str) -> int:
    (count,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608
    return int(count)


def _publish(part: str, target: str, *, replace: bool) -> None:
    """Rename the complete copy `part` to `target`, and make sure that it is on the disk.

    If `target` exists, overwrite it if `replace` is true, otherwise raise `FileExistsError`.
    """
    synchronize(part)
    if replace:
        os.replace(part, target)
    else:
        os.link(part, target)  # fails if there is a file by now
    synchronize(os.path.dirname(target) or ".")


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < 1e6:
        raise ValueError
    return seconds


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line of `hbtd-backup`."""
    statuses = "\n".join(f"  {number:<3} {meaning}" for number, meaning in MEANINGS)
    parser = argparse.ArgumentParser(
        prog="hbtd-backup",
        description=DESCRIPTION,
        epilog=f"{RESTORE}\n\nexit status:\n{statuses}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", metavar="SOURCE", help="hbtd's file, or its --kv_url")
    parser.add_argument("target", metavar="TARGET", help="the copy that is made")
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=_seconds,
        default=_TIMEOUT,
        help=f"how long it may take, waiting included (default: {_TIMEOUT:g})",
    )
    parser.add_argument("--force", action="store_true", help="overwrite TARGET if it exists")
    parser.add_argument(
        "--progress",
        action="store_true",
        default=sys.stderr.isatty(),
        help="show how much is copied; without being asked, on a terminal only",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the backup that the command line asks for.

    `arguments` are those of the command line; `None` stands for those of this process. Raise
    `SystemExit` with the exit status if the backup could not be made.
    """
    options = make_parser().parse_args(arguments)
    source = options.source.removeprefix("sqlite:")

    def progress(done: int, pages: int) -> None:
        if options.progress:
            share = 100 * done // max(pages, 1)
            print(f"hbtd-backup: {done} of {pages} pages, {share} %", file=sys.stderr)

    try:
        records, judgements = back_up(
            source,
            options.target,
            time.monotonic() + options.timeout,
            progress,
            replace=options.force,
        )
    except BackupFailed as error:
        print(f"hbtd-backup: {error}", file=sys.stderr)
        raise SystemExit(_LATE if isinstance(error, TooLate) else _FAILED) from None
    has = f"{counted(records, 'record')} and {counted(judgements, 'judgement')}"
    print(f"hbtd-backup: {options.target} has {has}.")


if __name__ == "__main__":
    main()
