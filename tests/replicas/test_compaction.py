"""Compaction of etcd's history by the leader."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from hbtd.config.live_params import LiveParams
from hbtd.config.params import Params
from hbtd.etcd.errors import Compacted, EtcdRefused, EtcdUnavailable
from hbtd.replicas.compaction import HISTORY, INTERVAL, OURS, Compaction, History, gaps
from hbtd.replicas.replica import Replica
from hbtd.runtime.reactor import elapsed_seconds
from tests.support.etcd_running import EtcdTestCase, OwnEtcdTestCase
from tests.support.hsm_memory import DIED, STARTED, WARNED, lines
from tests.support.replicas_running import A, ReplicasTestCase

keys = st.binary(min_size=1, max_size=3)


class GapsTests(SynchronousTestCase):
    """The ranges between ranges."""

    @given(st.lists(keys, unique=True, max_size=8), keys)
    def test_gaps(self, bounds: list[bytes], key: bytes) -> None:
        """A key is in one of the ranges or in one of the gaps, and never in both."""
        bounds = sorted(each for each in bounds if each != b"\0")
        ranges = list(zip(bounds[::2], bounds[1::2], strict=False))
        inside = sum(start <= key < end for start, end in ranges)
        between = [start <= key and (key < end or end == b"\0") for start, end in gaps(ranges)]
        self.assertEqual(inside + sum(between), 1)

    def test_ours(self) -> None:
        """Keys that any hbtd writes are ours; others, even similar ones, are not."""

        def ours(key: bytes) -> bool:
            return any(start <= key < end for start, end in OURS)

        for key in (
            b"x1000c0s0b0n0",
            *(b"all", b"d0", b"p12", b"s0", b"sms01", b"params", b"HBTD_HEALTH_KEY"),
            *(b"hbtd_lifekey-123", b"hbtd_dist_lock/2799a2145c509c0a", b"hbtd/judgement/x1"),
            *(b"hbtd/request/x1", b"hbtd/replica/1", b"hbtd/block/1/0"),
        ):
            self.assertTrue(ours(key), key)
        for key in (
            *(b"/registry/pods", b"a", b"allot", b"hbtd", b"hbtd_x", b"params2", b"service"),
            *(b"xerxes", b"z", b"\xff", b"HBTD_HEALTH_KEY2", b"HBTD", b"pod"),
        ):
            self.assertFalse(ours(key), key)


class HistoryTests(SynchronousTestCase):
    """Which revision is old enough."""

    def test_outdated(self) -> None:
        """The last revision of about a minute ago or earlier is outdated; each is returned once."""
        history = History()
        for at in range(0, 91, 30):
            history.note(at + 5, float(at))
        self.assertIsNone(history.outdated(58.9))
        # A timer that is a little early does not wait for the next time.
        self.assertEqual(history.outdated(59.99), 5)
        self.assertEqual(history.outdated(95.0), 35)
        self.assertIsNone(history.outdated(95.0))
        self.assertEqual(history.outdated(120.0), 65)

    def test_etcd_lost_its_data(self) -> None:
        """Revisions of an etcd that has begun again are not mixed up with those before."""
        history = History()
        history.note(1000, 0.0)
        history.note(7, 30.0)
        self.assertIsNone(history.outdated(60.0))
        self.assertEqual(history.outdated(90.0), 7)


class MemoryClient:
    """A client that notes what it is to compact."""

    def __init__(self) -> None:
        self.others = 0
        self.compacted: list[int] = []
        self.failure: Exception | None = None

    def count(self, ranges: Sequence[tuple[bytes, bytes]]) -> Deferred[int]:
        """Return how many keys of others there are."""
        return succeed(self.others)

    def compact(self, revision: int) -> Deferred[int]:
        """Note the revision, or fail."""
        if self.failure is not None:
            return fail(self.failure)
        self.compacted.append(revision)
        return succeed(revision)


class CompactionTests(SynchronousTestCase):
    """A replica that leads; etcd has ten revisions a second."""

    def start(self, kv_compact: str = "auto") -> None:
        """Start the compaction."""
        self.clock = Clock()
        self.client = MemoryClient()
        client: Any = self.client
        self.leading = True
        self.began = 1000
        compaction = Compaction(
            client,
            self.clock,
            self.clock.seconds,
            LiveParams(replace(Params(), kv_compact=kv_compact)),
            lambda: self.began + int(self.clock.seconds() * 10),
            lambda: self.leading,
        )
        compaction.startService()
        self.addCleanup(compaction.stopService)

    def advance(self, seconds: float) -> list[str]:
        """Let time pass; return the warnings and messages."""
        with capturedLogs() as events:
            self.clock.pump([1.0] * int(seconds))
        return lines(events, "warn") + lines(events, "info")

    def test_a_minute_is_kept(self) -> None:
        """Every half minute history is dropped but for the last minute."""
        self.start()
        self.assertEqual(self.advance(HISTORY + 2 * INTERVAL), [])
        self.assertEqual(self.client.compacted, [1000, 1300, 1600])

    def test_follower(self) -> None:
        """A follower compacts nothing; when it leads, it need not wait for a minute."""
        self.start()
        self.leading = False
        self.advance(300)
        self.assertEqual(self.client.compacted, [])
        self.leading = True
        self.advance(INTERVAL)
        self.assertEqual(self.client.compacted, [1000 + 2700])

    def test_keys_of_others(self) -> None:
        """While there are keys of others nothing is dropped, which is said once."""
        self.start()
        self.client.others = 2
        (line,) = self.advance(300)
        self.assertIn("refrains from compacting etcd: it has 2 keys of other programs", line)
        self.assertEqual(self.client.compacted, [])
        self.client.others = 0
        self.assertEqual(self.advance(90), ["hbtd compacts etcd from now on."])
        self.assertEqual(len(self.client.compacted), 3)

    def test_yes(self) -> None:
        """With `yes`, keys of others don't matter."""
        self.start("yes")
        self.client.others = 2
        self.assertEqual(self.advance(100), [])
        self.assertEqual(len(self.client.compacted), 2)

    def test_no(self) -> None:
        """With `no`, nothing is dropped, and nothing said."""
        self.start("no")
        self.assertEqual(self.advance(300), [])
        self.assertEqual(self.client.compacted, [])

    def test_trouble(self) -> None:
        """An etcd in trouble is tried again; one that refuses is reported once."""
        self.start()
        for failure, said in (
            (EtcdUnavailable("x"), 0),
            (Compacted(5), 0),
            (EtcdRefused(7, "y"), 1),
        ):
            self.client.failure = failure
            self.assertEqual(len(self.advance(150)), said, failure)
        self.client.failure = None
        self.assertEqual(len(self.advance(INTERVAL)), 1)
        self.assertEqual(len(self.client.compacted), 1)

    def test_out_of_sync(self) -> None:
        """A replica that has yet to read etcd notes nothing."""
        self.start()
        self.began = -10_000_000
        self.clock.pump([1.0] * 5)
        self.began = 0
        self.assertEqual(self.advance(HISTORY - 10), [])


class RealTests(EtcdTestCase):
    """Compaction with a real etcd."""

    async def test_count(self) -> None:
        """Only keys of others are counted."""
        for start, _ in OURS:
            await self.client.put(start, b"")
        self.assertEqual(await self.client.count(gaps(OURS)), 0)
        for key in (b"/registry/x", b"xerxes", b"\xff"):
            await self.client.put(key, b"")
        self.assertEqual(await self.client.count(gaps(OURS)), 3)


class FullTests(OwnEtcdTestCase):
    """Compaction of a real etcd that is full."""

    async def test_full(self) -> None:
        """It is compacted, so that defragmentation and the end of the alarm suffice for writes."""
        etcd = await self.start(quota=512 * 1024)
        client = self.connect(etcd.address)
        with self.assertRaises(EtcdRefused):
            for _ in range(100):
                await client.put(b"hbtd/test", bytes(32 * 1024))
        last = (await client.range(b"hbtd/test", b"hbtd/tesu")).items[0].mod_revision
        self.assertTrue((await client.database_size()).full)
        compaction = Compaction(
            client, Clock(), lambda: HISTORY, LiveParams(Params()), lambda: 0, lambda: True
        )
        compaction._history.note(last, 0.0)
        with capturedLogs() as events:
            await compaction._work()
        self.assertEqual(lines(events, "warn") + lines(events, "debug"), [])
        with self.assertRaises(Compacted):
            await client.range(b"a", b"b", revision=last - 1)
        with self.assertRaises(EtcdRefused):
            await client.put(b"hbtd/test", b"")
        for arguments in (["defrag"], ["alarm", "disarm"]):
            await deferToThread(etcd.etcdctl, *arguments)
        self.assertFalse((await client.database_size()).full)
        await client.put(b"hbtd/test", bytes(32 * 1024))


class LeaderTests(ReplicasTestCase):
    """Compaction in a replica."""

    async def test_leader(self) -> None:
        """The leader compacts an etcd with nothing but its components, and nobody is told of it."""
        replicas = await self.replicas(2)
        for each in replicas:
            self.assertEqual(await each.beat(A), 200)
        await self.is_told(A, STARTED)
        self.assertEqual(await self.client.count(gaps(OURS)), 0)
        first, last = [await self.client.put(b"params", b"{}") for _ in range(2)]
        for each in reversed(replicas):
            replica = each.service.replica
            assert isinstance(replica, Replica)
            replica._compaction._history.note(last, elapsed_seconds() - HISTORY)
            await replica._compaction._work()
            if each is not replicas[0]:
                await self.client.range(b"a", b"b", revision=first)
        with self.assertRaises(Compacted):
            await self.client.range(b"a", b"b", revision=first)
        await replicas[1].beat(A)
        await self.is_told(A, STARTED, WARNED, DIED)
