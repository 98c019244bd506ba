"""Checks whether the file of the store `sqlite:` could be opened and written."""

import os
import shutil
import sqlite3
import stat
import tempfile

from hbtd.app.check.findings import Findings
from hbtd.app.check.owners import Owners
from hbtd.app.errors import StartupError
from hbtd.app.hints import path_hint
from hbtd.app.stores import describe_store
from hbtd.config.params import Params
from hbtd.store.sqlite_file import StoreDamaged, check_unopened

_LEAST = 256 * 1024
"""Bytes that SQLite needs, at most, to begin with: its tables, a log and its index."""

_LITTLE = 256 * 1024 * 1024
"""Bytes of free disk below which there is a warning; a million state changes take 110 MB."""


def check_store(params: Params, findings: Findings, owners: Owners) -> None:
    """Report whether the file of an SQLite store could be opened and written.

    For a store in memory, report only that records are kept in memory; for etcd, do nothing.
    """
    where = describe_store(params.kv_url)
    if not params.kv_url.startswith("sqlite:"):
        if params.kv_url == "mem:":
            findings.fine(f"--kv_url: records are kept {where}")
        return
    path = os.path.realpath(params.kv_url.removeprefix("sqlite:"))
    with findings.catching():
        try:
            also = _check_file(path, owners)
            _check_room(path, findings)
        except StoreDamaged as error:
            reason = f"--kv_url={params.kv_url}: {error}{path_hint(path)}"
            raise StartupError(reason, passing=True) from error
        except OSError as error:
            reason = f"--kv_url={params.kv_url}: {error.strerror or error}{path_hint(path)}"
            raise StartupError(reason, passing=True) from error
        findings.fine(f"--kv_url: records are kept {where}{also}")


def _check_file(path: str, owners: Owners) -> str:
    """Check the store's file, and return a remark on it, such as "; it will be made", or ''.

    Raise `StoreDamaged` if hbtd could not use the file.
    """
    folder = os.path.dirname(path)
    if os.path.isdir(path):
        raise StoreDamaged("unable to open a directory as a file")
    if not os.path.isdir(folder):
        raise StoreDamaged("unable to open the file")
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        raise StoreDamaged(f"the file system of {folder} is read-only")
    # The log and its index are made beside the file.
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
        raise StoreDamaged("the file can't be written")
    beside = [f"{path}{end}" for end in ("", "-wal", "-shm")]
    for each in filter(os.path.lexists, beside):
        if not stat.S_ISREG(os.stat(each).st_mode):
            raise StoreDamaged(f"{each} is no ordinary file")
        if not os.access(each, os.R_OK | os.W_OK, effective_ids=True):
            owner, mode = os.stat(each).st_uid, stat.filemode(os.stat(each).st_mode)
            raise StoreDamaged(
                f"{each} can't be read and written; it is of user {owner}, {mode}: change its owner"
                " or mode"
            )
    if not os.path.exists(path):
        return "; it will be made"
    holder = owners.lock_holder(path)
    if holder is not None:
        unit = owners.unit_of(holder)
        if not unit:
            by = f" by process {holder}" if holder else ""
            raise StoreDamaged(f"the file is locked{by}")
        return f"; {unit}, process {holder}, uses it"
    return _check_contents(path)


def _check_contents(path: str) -> str:
    """Check the contents of a store's file that no hbtd has locked; return a remark, or ''.

    The remark says that the file was not closed, or that only the start of hbtd can check it. It is
    empty for a file that was closed and is sound. Raise `StoreDamaged` if hbtd could not use the
    file.
    """
    if not os.path.exists(f"{path}-wal"):
        return "" if check_unopened(path, log=False) else "; it is checked at the start"
    # SQLite would change the files of a process that was killed: it applies their log.
    try:
        with tempfile.TemporaryDirectory(prefix="hbtd-check-") as copies:
            copy = os.path.join(copies, "copy")
            for end in ("", "-wal"):
                shutil.copyfile(f"{path}{end}", f"{copy}{end}")
            check_unopened(copy, log=True)
    except (OSError, sqlite3.OperationalError):
        return "; there is no room for a copy to check: it is checked at the start"
    return "; it was not closed, and is sound"


def _check_room(path: str, findings: Findings) -> None:
    """Raise `StoreDamaged` if the disk is full; warn if there is little room left."""
    system = os.statvfs(os.path.dirname(path))
    blocks = system.f_bfree if os.geteuid() == 0 else system.f_bavail
    free = blocks * system.f_frsize
    if free < _LEAST or (system.f_files and not system.f_favail):
        raise StoreDamaged(f"the disk is full: {free >> 10} KiB are free; make room")
    if free < _LITTLE:
        findings.warning(f"--kv_url: {free >> 20} MiB are free on the disk of {path}")
