"""The space in etcd's database."""

from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock, deferLater
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from hbtd.etcd.errors import EtcdUnavailable
from hbtd.etcd.messages import DatabaseSize
from hbtd.replicas.space import FULL, INTERVAL, Space
from tests.support.hsm_memory import lines
from tests.support.replicas_running import OwnReplicasTestCase
from tests.support.running import reactor, until

MIB = 2**20


class MemoryClient:
    """A client that tells a size."""

    def __init__(self) -> None:
        self.size: DatabaseSize | None = None

    def database_size(self) -> Deferred[DatabaseSize]:
        """Tell the size."""
        return succeed(self.size) if self.size else fail(EtcdUnavailable("no etcd"))


class SpaceTests(SynchronousTestCase):
    """Looks at a database that grows and shrinks."""

    def setUp(self) -> None:
        """Start to look."""
        self.clock = Clock()
        self.client = MemoryClient()
        client: Any = self.client
        self.space = Space(client, self.clock)
        self.space.startService()
        self.addCleanup(self.space.stopService)

    def look(self, *size: Any) -> list[str]:
        """Look three times at this size; return the warnings and messages."""
        self.client.size = DatabaseSize(*size) if size else None
        with capturedLogs() as events:
            self.clock.pump([INTERVAL] * 3)
        return lines(events, "warn") + lines(events, "info")

    def test_nearly_full(self) -> None:
        """A database that is nearly full is reported once, and once when it no longer is."""
        self.assertEqual(self.look(79 * MIB, 5 * MIB, 100 * MIB), [])
        (line,) = self.look(80 * MIB, 5 * MIB, 100 * MIB)
        self.assertIn("nearly full (80 of 100 MiB, of which 5 MiB are in use)", line)
        self.assertIn("Compact it, then defragment each member", line)
        self.assertEqual(self.look(), [])
        self.assertEqual(self.look(99 * MIB, 5 * MIB, 100 * MIB), [])
        self.assertEqual(
            self.look(6 * MIB, 5 * MIB, 100 * MIB), ["etcd's database has enough room again."]
        )

    def test_full(self) -> None:
        """One that is full is said to be so, once, and so is an alarm that outlives it."""
        (line,) = self.look(90 * MIB, 80 * MIB, 100 * MIB)
        self.assertIn("is nearly full (90 of 100 MiB", line)
        (line,) = self.look(101 * MIB, 80 * MIB, 100 * MIB)
        self.assertIn("is full (101 of 100 MiB, of which 80 MiB are in use); nothing is", line)
        self.assertEqual(self.look(101 * MIB, 5 * MIB, 100 * MIB, True), [])
        (line,) = self.look(5 * MIB, 5 * MIB, 100 * MIB, True)
        self.assertIn("although there is room now (5 of 100 MiB", line)
        self.assertEqual(
            self.look(5 * MIB, 5 * MIB, 100 * MIB), ["etcd's database has enough room again."]
        )

    def test_alarm(self) -> None:
        """The alarm counts, also if the size is just below the quota, or the quota not known."""
        (line,) = self.look(99 * MIB, 80 * MIB, 100 * MIB, True)
        self.assertIn("is full (99 of 100 MiB", line)
        self.setUp()
        (line,) = self.look(99 * MIB, 80 * MIB, 0, True)
        self.assertIn("is full (99 MiB, of which 80 MiB are in use)", line)

    def test_no_quota(self) -> None:
        """Without a known quota nothing is said; the size is known all the same."""
        self.assertEqual(self.look(10**12, 10**12, 0), [])
        self.assertEqual(self.space.size, DatabaseSize(10**12, 10**12, 0))

    def test_trouble(self) -> None:
        """While etcd does not answer, the last size is that which is known."""
        self.look(1, 1, 100)
        self.assertEqual(self.look(), [])
        self.assertEqual(self.space.size, DatabaseSize(1, 1, 100))


class MetricsTests(OwnReplicasTestCase):
    """The metrics of a replica."""

    async def test_metrics(self) -> None:
        """Size, use and quota of etcd are metrics, and so is whether blocks are written."""
        quota = 64 * MIB
        etcd = await self.start(quota=quota)
        self.begin(etcd.address)
        with capturedLogs() as events:
            client = self.connect(etcd.address)
            while (await client.database_size()).size < FULL * quota:
                await client.put(b"hbtd/test", bytes(MIB))
                await deferLater(reactor, 0.15)  # etcd commits to its file in batches
            (one,) = await self.replicas(1)
            await until(lambda: any("nearly full" in line for line in lines(events, "warn")))
        response = await one.client.treq.get(f"{one.url}/metrics", timeout=20, reactor=reactor)
        text = (await response.content()).decode()
        found = dict(line.split() for line in text.splitlines() if line.startswith("hbtd_store"))
        self.assertEqual(float(found["hbtd_store_quota_bytes"]), quota)
        self.assertGreater(float(found["hbtd_store_size_bytes"]), 0.8 * quota)
        self.assertIn("hbtd_store_in_use_bytes", found)
        self.assertEqual(float(found["hbtd_store_blocks"]), 1)
