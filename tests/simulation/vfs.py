"""A file system of SQLite whose files lose, with the power, what was not synchronized.

It is made of SQLite's own one for Unix, on real files, of which it replaces what changes a file:
writing, truncating, synchronizing, deleting. Locks, reads and shared memory are SQLite's own.
"""

import _sqlite3  # the module whose copy of SQLite must know the file system
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import (
    CDLL,
    CFUNCTYPE,
    POINTER,
    Structure,
    c_char_p,
    c_int,
    c_int64,
    c_void_p,
    cast,
    memmove,
    pointer,
    sizeof,
    string_at,
)
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, Final

OK: Final = 0
FULL: Final = 13
IOERR_WRITE: Final = 778
IOERR_FSYNC: Final = 1034
IOERR_DELETE: Final = 2570

_OPEN_CREATE = 0x4
_JOURNALS = 0x800 | 0x4000 | 0x80000
"""Flags of journals, and of the write-ahead log: with the file SQLite synchronizes its folder."""

_SECTOR = 512

_Close = CFUNCTYPE(c_int, c_void_p)
_Write = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64)
_Truncate = CFUNCTYPE(c_int, c_void_p, c_int64)
_Sync = CFUNCTYPE(c_int, c_void_p, c_int)
# The name is a pointer, not a text of Python's: SQLite's file keeps it.
_Open = CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_int, c_void_p)
_Delete = CFUNCTYPE(c_int, c_void_p, c_char_p, c_int)


class _Methods(Structure):
    """SQLite's `sqlite3_io_methods`."""

    _fields_ = (
        ("version", c_int),
        ("close", _Close),
        ("read", c_void_p),
        ("write", _Write),
        ("truncate", _Truncate),
        ("sync", _Sync),
        ("rest", c_void_p * 13),
    )


class _Vfs(Structure):
    """SQLite's `sqlite3_vfs`."""

    _fields_ = (
        ("version", c_int),
        ("file_size", c_int),
        ("longest_path", c_int),
        ("next", c_void_p),
        ("name", c_char_p),
        ("data", c_void_p),
        ("open", _Open),
        ("delete", _Delete),
        ("rest", c_void_p * 14),
    )


_METHODS_SIZES = {1: 13, 2: 17, 3: 19}
"""How many pointers, with the version's, each version of `sqlite3_io_methods` has."""

_numbers = count(1)
"""Numbers for the names of file systems: SQLite has one list of them."""


class _Contents:
    """What a file has after a loss of power, at least, and what was written since."""

    def __init__(self, synced: bytes = b"") -> None:
        self.synced = bytearray(synced)
        self.unsynced: list[tuple[int, bytes | None]] = []
        """Offsets, and what was written there; `None` is for a file that was truncated there."""

    def sync(self) -> None:
        """Have all that was written be on the disk."""
        for offset, data in self.unsynced:
            _apply(self.synced, offset, data)
        self.unsynced.clear()

    def forget_some(self, random: Random) -> None:
        """Have some of what was written never reach the disk, as when it fails to synchronize.

        The kernel takes the pages for clean then: the next call that synchronizes succeeds.
        """
        self.unsynced = [each for each in self.unsynced if random.random() < 0.5]

    def after_loss(self, random: Random) -> bytes:
        """Return the contents after a loss of power; what was not synchronized may be lost."""
        contents = bytearray(self.synced)
        written = self.unsynced
        how = random.choice(("nothing", "prefix", "some", "all"))
        if how == "nothing":
            written = []
        elif how == "prefix":
            written = written[: random.randint(0, len(written))]
        for at, (offset, data) in enumerate(written):
            if how == "some" and random.random() < 0.5:
                continue
            whole = data
            if how == "prefix" and at == len(written) - 1 and data:
                # The write itself was torn.
                whole = data[: random.randrange(0, len(data) + _SECTOR, _SECTOR)]
            _apply(contents, offset, whole)
        return bytes(contents)


def _apply(contents: bytearray, offset: int, data: bytes | None) -> None:
    if data is None:
        del contents[offset:]
        return
    if not data:
        return
    contents.extend(bytes(max(offset - len(contents), 0)))
    contents[offset : offset + len(data)] = data


class Files:
    """A folder of files that SQLite reads and writes by way of this file system.

    Call `close` at the end. All is done in the calling thread.
    """

    def __init__(self, folder: Path, random: Random) -> None:
        """Make the file system, for files in `folder`; `random` decides what a loss takes."""
        self.name = f"simulated-{next(_numbers)}"
        """The name of the file system, as in `file:PATH?vfs=NAME`."""
        self.fault: Callable[[str, int], int] = lambda what, more: OK
        """Called before a file is changed: "write", with the bytes by which the file is to grow,
        "sync" or "delete". It returns SQLite's code for what goes wrong then, or `OK`."""
        self._folder = folder
        self._random = random
        self._contents: dict[str, _Contents] = {}
        """By path, what each file has, as far as it was not deleted."""
        self._durable: dict[str, _Contents] = {}
        """By path, which files there are after a loss of power."""
        self._open_files: dict[int, tuple[str, _Contents, int]] = {}
        """By the address of SQLite's object: the path, the contents, the flags."""
        self._methods: dict[int, _Methods] = {}
        self._library = CDLL(_sqlite3.__file__)
        self._library.sqlite3_vfs_find.restype = POINTER(_Vfs)
        self._library.sqlite3_vfs_find.argtypes = (c_char_p,)
        self._native = self._library.sqlite3_vfs_find(None)
        self._vfs = _Vfs()
        memmove(pointer(self._vfs), self._native, sizeof(_Vfs))
        self._vfs.next = None
        self._vfs.name = self.name.encode()
        self._vfs.open = _Open(self._open)
        self._vfs.delete = _Delete(self._delete)
        self._check(self._library.sqlite3_vfs_register(pointer(self._vfs), 0))

    def close(self) -> None:
        """Have SQLite forget the file system; all files must be closed."""
        assert not self._open_files, self._open_files
        self._check(self._library.sqlite3_vfs_unregister(pointer(self._vfs)))

    @property
    def in_use(self) -> bool:
        """Whether a file is open."""
        return bool(self._open_files)

    @staticmethod
    def _check(code: int) -> None:
        if code != OK:
            raise OSError(f"SQLite says {code}")

    def lose_power(self) -> None:
        """Put the files into a state in which a loss of power may leave them.

        All of them must be closed. What was synchronized is there, and of what was not, nothing,
        all or some.
        """
        assert not self._open_files, self._open_files
        there: dict[str, _Contents] = {}
        for path in sorted({*self._contents, *self._durable}):
            now, durable = self._contents.get(path), self._durable.get(path)
            kept = now if now is durable or self._random.random() < 0.5 else durable
            if kept is not None:
                data = kept.after_loss(self._random)
                Path(path).write_bytes(data)
                there[path] = _Contents(data)
            elif os.path.exists(path):
                os.unlink(path)
        # Nothing of it is kept by the disk: that is the kernel's.
        for shared in self._folder.glob("*-shm"):
            shared.unlink()
        self._contents = there
        self._durable = dict(there)

    # What SQLite calls

    def _open(self, vfs: int, name: int | None, file: int, flags: int, given: int) -> int:
        code: int = self._native.contents.open(
            cast(self._native, c_void_p).value, name, file, flags, given
        )
        if code != OK or name is None:
            return code
        path = os.fsdecode(string_at(name))
        contents = self._contents.get(path)
        if contents is None:
            contents = self._contents[path] = _Contents(Path(path).read_bytes())
        self._open_files[file] = (path, contents, flags)
        methods = cast(file, POINTER(c_void_p))
        methods[0] = c_void_p(self._replaced(methods[0]))
        return code

    def _replaced(self, native: int) -> int:
        """Return the address of methods that are those at an address, but for some."""
        made = self._methods.get(native)
        if made is None:
            theirs = cast(native, POINTER(_Methods)).contents
            made = self._methods[native] = _Methods()
            memmove(pointer(made), native, 8 * _METHODS_SIZES[theirs.version])
            made.close = _Close(self._closer(theirs))
            made.write = _Write(self._writer(theirs))
            made.truncate = _Truncate(self._truncater(theirs))
            made.sync = _Sync(self._sync)
        address = cast(pointer(made), c_void_p).value
        assert address is not None
        return address

    def _closer(self, native: Any) -> Callable[[int], int]:
        def close(file: int) -> int:
            self._open_files.pop(file, None)
            code: int = native.close(file)
            return code

        return close

    def _writer(self, native: Any) -> Callable[[int, int, int, int], int]:
        def write(file: int, data: int, size: int, offset: int) -> int:
            path, contents, _ = self._open_files[file]
            more = max(offset + size - os.stat(path).st_size, 0) if os.path.exists(path) else 0
            code = self.fault("write", more)
            if code == OK:
                code = native.write(file, data, size, offset)
            if code == OK:
                contents.unsynced.append((offset, string_at(data, size)))
            return code

        return write

    def _truncater(self, native: Any) -> Callable[[int, int], int]:
        def truncate(file: int, size: int) -> int:
            code = self.fault("write", 0)
            if code == OK:
                code = native.truncate(file, size)
            if code == OK:
                self._open_files[file][1].unsynced.append((size, None))
            return code

        return truncate

    def _sync(self, file: int, flags: int) -> int:
        path, contents, opened = self._open_files[file]
        code = self.fault("sync", 0)
        if code == IOERR_FSYNC:
            contents.forget_some(self._random)
        if code != OK:
            return code
        contents.sync()
        if opened & _JOURNALS and opened & _OPEN_CREATE and self._durable.get(path) is not contents:
            self._durable = dict(self._contents)
        return OK

    def _delete(self, vfs: int, name: bytes, durably: int) -> int:
        code = self.fault("delete", 0)
        if code != OK:
            return code
        native = cast(self._native, c_void_p).value
        code = int(self._native.contents.delete(native, name, 0))
        if code == OK:
            self._contents.pop(os.fsdecode(name), None)
            if durably:
                self._durable = dict(self._contents)
        return code

    @contextmanager
    def killed(self) -> Iterator[None]:
        """Return a context manager in whose block nothing is changed: its process was killed."""
        fault, self.fault = self.fault, lambda what, more: IOERR_WRITE
        try:
            yield
        finally:
            self.fault = fault
