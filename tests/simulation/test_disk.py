"""The simulated disk: the contract of stores, and what a kill and a loss of power leave of it."""

from pathlib import Path
from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from hbtd.store.interface import StoreUnusable
from hbtd.store.sqlite import SqliteStore
from hbtd.store.sqlite_file import StoreDamaged
from tests.simulation.disk import Disk
from tests.support.running import reactor
from tests.support.sqlite_files import SqliteFixture
from tests.support.store_contract import DIED, StoreContract, judgement, record
from tests.support.store_identities_contract import IdentitiesContract
from tests.support.store_log_contract import LogContract
from tests.support.store_past_contract import PastContract
from tests.support.store_records_contract import RecordsContract


class DiskStoreTests(
    StoreContract,
    RecordsContract,
    LogContract,
    PastContract,
    IdentitiesContract,
    SqliteFixture,
    TestCase,
):
    """The contract, for the store on a simulated disk."""

    def setUp(self) -> None:
        """Make a disk."""
        super().setUp()
        self.disk = Disk(Random(1))
        self.addCleanup(self.disk.close)
        self.disk.usual = 0.0
        self.path = self.disk.path

    def make_store(self, path: Path | None = None) -> SqliteStore:
        """Make a store on the disk."""
        return SqliteStore(
            str(path or self.path), reactor, lambda: self.now, self.judge, self.disk.pool
        )


class ProcessClock(Clock):
    """The reactor of a process that has no threads."""

    def callFromThread(self, call: Any, *args: Any, **kw: Any) -> None:
        """Call something in the next round."""
        self.callLater(0, call, *args, **kw)

    callWhenRunning = callFromThread

    def addSystemEventTrigger(self, *args: Any, **kw: Any) -> None:
        """Do nothing."""


class DiskTests(SynchronousTestCase):
    """What goes wrong with a disk."""

    def setUp(self) -> None:
        """Make a disk, with a store on it that is open."""
        self.clock = ProcessClock()
        self.disk = Disk(Random(self.id()))
        self.addCleanup(self.disk.close)
        self.store = self.opened()

    def opened(self) -> SqliteStore:
        """Return the store of another process, open."""
        store = self.disk.store(self.clock, self.clock.seconds, "host:28500")
        self.result(store.open())
        return store

    def result(self, deferred: Deferred[Any]) -> Any:
        """Return the result of a call of the store, or raise its exception."""
        results: list[Any] = []
        deferred.addBoth(results.append)
        while not results:
            self.assertLess(self.clock.seconds(), 10_000.0)
            self.clock.advance(0.01)
        if isinstance(results[0], Failure):
            results[0].raiseException()
        return results[0]

    def committed(self, number: int) -> None:
        """Commit a judgement."""
        self.result(self.store.commit([judgement(f"x{number}", DIED)], [record(f"r{number}")]))

    def assertCommitted(self, count: int) -> None:
        """Check that the store of a new process has that many judgements."""
        self.store = self.opened()
        self.assertEqual(len(self.result(self.store.judgements())), count)

    def test_kill(self):
        """A kill in the midst of a write leaves all that was committed, or that write, too."""
        seen = set()
        for count in range(1, 60):
            self.committed(count)
            self.result(self.store.records())  # after the write-ahead log was moved
            self.store.checkpoint([record("midst", 1.0, str(count))])
            self.disk.kill()
            self.assertCommitted(count)
            records = self.result(self.store.records())
            seen.add(any(each.timestamp == str(count) for each in records))
        self.assertEqual(seen, {False, True})

    def test_loss_of_power(self):
        """A loss of power leaves all that was committed."""
        for count in range(1, 60):
            self.committed(count)
            if count % 2:
                self.store.checkpoint([record("midst")])
            self.disk.lose_power()
            self.assertCommitted(count)

    def unsynchronized(self) -> None:
        """Have the store no longer synchronize what it writes."""
        pool = self.store._pool
        assert pool is not None
        self.result(pool.runWithConnection(lambda it: it.execute("PRAGMA synchronous = OFF")))

    def test_unsynchronized(self):
        """What was not synchronized is kept by a kill, and is lost, or damaged, with the power."""
        for count in range(1, 10):
            self.unsynchronized()
            self.committed(count)
            self.disk.kill()
            self.assertCommitted(count)

        def losses() -> None:
            for count in range(10, 30):
                self.unsynchronized()
                self.committed(count)
                self.disk.lose_power()
                self.assertCommitted(count)

        self.assertRaises((self.failureException, StoreDamaged), losses)

    def test_full(self):
        """On a full disk commits fail until there is room, and nothing committed is lost."""
        self.committed(1)
        self.disk.room = 0
        # SQLite first uses the beginning of its log again.
        many = self.store.commit([judgement(f"x{number}") for number in range(1000)])
        self.assertRaises(StoreUnusable, self.result, many)
        self.assertFalse(self.store.usable())
        self.assertIn("full", self.store.health())
        self.disk.room = None
        self.disk.kill()
        self.assertCommitted(1)
        self.committed(2)
        self.assertTrue(self.store.usable())

    def test_errors(self):
        """What fails to synchronize is no commit, and what is committed later is safe."""
        count = failed = 0
        for number in range(60):
            self.disk.errors = 0.03
            try:
                self.committed(number)
                count += 1
            except StoreUnusable:
                failed += 1
            self.disk.errors = 0.0
            if number % 5 == 4:
                self.disk.lose_power()
                self.store = self.opened()
                # A commit that failed may have been made nevertheless.
                found = len(self.result(self.store.judgements()))
                self.assertGreaterEqual(found, count)
                self.assertLessEqual(found, count + failed)
                count, failed = found, 0
        self.assertGreater(count, 10)

    def test_slow(self):
        """On a slow disk calls are done later, in their order."""
        self.disk.slow = 100.0
        done: list[int] = []
        for number in range(20):
            written = self.store.checkpoint([record("x", 0.0, str(number))])
            written.addCallback(lambda _, each: done.append(each), number)
        self.clock.pump([0.02] * 20)
        self.assertLess(len(done), 20)
        self.clock.pump([1.0] * 2000)
        self.assertEqual(done, list(range(20)))
