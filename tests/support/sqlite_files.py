"""Stores in SQLite files, for tests: made, written, opened in other processes, and refused."""

import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread

from hbtd.store.sqlite import SqliteStore
from hbtd.store.sqlite_file import StoreDamaged
from tests.support.processes import CHECKOUT
from tests.support.running import reactor
from tests.support.store_contract import DIED, StoreFixture, judgement, record

WELL = "Initialization key present: HBTD_OK"

OPENS = """
import sys
from twisted.internet import reactor
from hbtd.store.sqlite import SqliteStore
def opened(_):
    print("opened")
def refused(failure):
    print(failure.type.__name__, failure.getErrorMessage())
def begin():
    store.open().addCallbacks(opened, refused).addBoth(lambda _: store.close()).addBoth(
        lambda _: reactor.stop())
store = SqliteStore(sys.argv[1], reactor, reactor.seconds, "host:1")
reactor.callWhenRunning(begin)
reactor.run()
"""

WRITES = """
import os, signal, sys
from twisted.internet import reactor
from hbtd.store.sqlite import SqliteStore
from tests.support.store_contract import DIED, judgement, record
async def begin():
    await store.open()
    await store.commit([judgement("x1", DIED)], [record(f"x{i}", 7.0) for i in range(2, 400)])
    os.kill(os.getpid(), signal.SIGKILL)
store = SqliteStore(sys.argv[1], reactor, reactor.seconds, "host:1")
reactor.callWhenRunning(lambda: __import__("twisted").internet.defer.ensureDeferred(begin()))
reactor.run()
"""


class SqliteFixture(StoreFixture):
    """Makes stores on one file, with an observed clock that the test sets."""

    judge = "host:28500"

    def setUp(self) -> None:
        """Choose a path, without a file."""
        self.path = Path(self.mktemp()).resolve()
        self.now = 0.0

    def make_store(self, path: Path | None = None) -> SqliteStore:
        """Make a store on this test's file, or on another."""
        return SqliteStore(str(path or self.path), reactor, lambda: self.now, self.judge)

    async def written(self, count: int = 2000) -> list[Any]:
        """Write a sound file; return its records."""
        store = self.make_store()
        await store.open()
        records = [record(f"x{i}", i / 100, f"t{i}") for i in range(count)]
        await store.commit([judgement(f"x{i}", DIED) for i in range(count, 2 * count)], records)
        await store.close()
        return records

    async def elsewhere(self, script: str) -> str:
        """Run a script on the file in another process; return its output."""
        done = await deferToThread(
            subprocess.run,
            [sys.executable, "-c", script, str(self.path)],
            capture_output=True,
            text=True,
            cwd=CHECKOUT,
            timeout=60,
        )
        return done.stdout + done.stderr

    async def damaged(self, store: SqliteStore) -> StoreDamaged:
        """Open a store, which must fail; return the error."""
        opened: Deferred[Any] = store.open()
        error: StoreDamaged = await self.assertFailure(opened, StoreDamaged)
        return error

    async def assertRefused(self, *words: str, path: Path | None = None) -> None:
        """Check that a file is refused for a reason with these words, and is left unchanged."""
        path = path or self.path
        before = _contents(path)
        store = self.make_store(path)
        error = await self.damaged(store)
        for word in (str(path), *words):
            self.assertIn(word, str(error))
        self.assertNotIn("\n", str(error))
        self.assertFalse(store.usable())
        self.assertEqual(store.health(), str(error))
        await store.close()
        self.assertFalse(store.usable())
        self.assertEqual(_contents(path), before)


def _contents(path: Path) -> dict[str, str]:
    """Return digests of a file and its logs."""
    files = [path, Path(f"{path}-wal"), Path(f"{path}-journal")]
    return {each.name: sha256(each.read_bytes()).hexdigest() for each in files if each.is_file()}
