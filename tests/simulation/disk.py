"""A disk of the world, with the file of hbtd's store, and the one thread that works on it."""

import gc
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote

from twisted.enterprise.adbapi import ConnectionPool
from twisted.python.failure import Failure

from hbtd.store.sqlite import SqliteStore
from tests.simulation.vfs import FULL, IOERR_FSYNC, IOERR_WRITE, OK, Files

_MEMORY = "/dev/shm"  # faster than a disk; a folder of its own is made in it


class Disk:
    """What outlives a process: the store's file, and what is wrong with the disk.

    It belongs to one process at a time. Call `close` at the end.
    """

    def __init__(self, random: Random) -> None:
        """Make an empty disk; `random` decides how long it takes, and what it loses."""
        self.random = random
        self.room: int | None = None
        """By how many bytes the files may still grow; `None` is for as many as they like."""
        self.errors = 0.0
        """How often, of once, a call fails that writes or synchronizes."""
        self.usual = 0.02
        """How many seconds a call of the store takes, at most."""
        self.slow = 0.0
        """How many seconds a call of the store may take, at most, besides the usual."""
        self.folder = tempfile.TemporaryDirectory(
            prefix="hbtd-disk-", dir=_MEMORY if os.path.isdir(_MEMORY) else None
        )
        self.path = Path(self.folder.name).resolve() / "hbtd.db"
        self.files = Files(self.path.parent, random)
        self.files.fault = self._fault
        self._pool: DiskPool | None = None
        self._store: SqliteStore | None = None

    def close(self) -> None:
        """Remove the files."""
        self.kill()
        self.files.close()
        self.folder.cleanup()

    @property
    def waiting(self) -> bool:
        """Whether the store's thread has something to do."""
        return self._pool is not None and bool(self._pool.thread.waiting)

    def store(self, reactor: Any, observed: Callable[[], float], judge: str) -> SqliteStore:
        """Return a store for a new process; the one before must have ended."""
        self.kill()
        self._store = SqliteStore(str(self.path), reactor, observed, judge, self.pool)
        return self._store

    def pool(self, *arguments: Any, **options: Any) -> ConnectionPool:
        """Return a pool of one connection, made as a `ConnectionPool` is."""
        self._pool = DiskPool(self, *arguments, **options)
        return self._pool

    def kill(self) -> None:
        """End the process that uses the disk, as SIGKILL does; what the kernel has, it keeps."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        pool.thread.kill()
        with self.files.killed():
            for connection in pool.connections.values():
                connection.close()
            if self.files.in_use:
                # SQLite closes its files when the last statement is gone, too: a failed call's may
                # wait in a cycle.
                gc.collect()
        # Its lock ends, too.
        if self._store is not None:
            self._store._file.unlock()

    def lose_power(self) -> None:
        """End the process with its host: what was not synchronized may be lost."""
        self.kill()
        self.files.lose_power()

    def takes(self) -> float:
        """Return how many seconds the store's next call takes."""
        usual = self.random.uniform(self.usual / 40, self.usual)
        if self.slow and self.random.random() < 0.2:
            return usual + self.random.uniform(0.0, self.slow)
        return usual

    def _fault(self, what: str, more: int) -> int:
        if self.errors and what != "delete" and self.random.random() < self.errors:
            return IOERR_FSYNC if what == "sync" else IOERR_WRITE
        if self.room is not None:
            if more > self.room:
                return FULL
            self.room -= more
        return OK


class DiskThread:
    """The one thread of a pool, in the reactor of its process: the disk's time passes in between.

    Nothing is done of what comes after the process was killed, and only a part of what is done
    when that happens.
    """

    def __init__(self, disk: Disk, reactor: Any) -> None:
        self.waiting: list[tuple[Callable[[bool, Any], None], Callable[[], Any]]] = []
        """What is to be done, the next first: what to call with the result, and the call."""
        self._disk = disk
        self._reactor = reactor
        self._killed = False

    def start(self) -> None:
        """Do nothing: it runs at once."""

    def stop(self) -> None:
        """Do nothing: the pool is only closed when all is done."""

    def callInThreadWithCallback(
        self,
        done: Callable[[bool, Any], None],
        call: Callable[..., Any],
        *arguments: Any,
        **options: Any,
    ) -> None:
        """Call something when all before it is done; call `done` with its result, or `Failure`."""
        self.waiting.append((done, lambda: call(*arguments, **options)))
        if len(self.waiting) == 1:
            self._go_on()

    def _go_on(self) -> None:
        self._reactor.callLater(self._disk.takes(), self._do)

    def _do(self) -> None:
        if self._killed:
            return
        done, call = self.waiting[0]
        try:
            succeeded, result = True, call()
        except Exception:  # noqa: BLE001  # as a thread pool does
            succeeded, result = False, Failure()
        del self.waiting[0]
        if self.waiting:
            self._go_on()
        done(succeeded, result)

    def kill(self) -> None:
        """End it in the midst of what it does."""
        self._killed = True
        if not self.waiting:
            return
        files, left = self._disk.files, self._disk.random.randint(0, 8)
        before = files.fault

        def fault(what: str, more: int) -> int:
            nonlocal left
            left -= 1
            return before(what, more) if left >= 0 else IOERR_WRITE

        files.fault = fault
        try:
            self.waiting[0][1]()
        except Exception:  # noqa: BLE001  # nobody is left who could be told
            pass
        finally:
            files.fault = before


class DiskPool(ConnectionPool):
    """A pool whose one connection uses a simulated disk, and whose thread does."""

    def __init__(self, disk: Disk, module: str, path: str, **options: Any) -> None:
        """Make the pool; `path` is that of the file, and the rest is as for `ConnectionPool`."""
        uri = f"file:{quote(path)}?vfs={disk.files.name}"
        self.running = True  # so that no real thread is started
        super().__init__(module, uri, uri=True, **options)
        self.thread = DiskThread(disk, options["cp_reactor"])
        self.threadpool = self.thread  # type: ignore[assignment]  # what the pool uses of one
        self.threadID = lambda: 1
