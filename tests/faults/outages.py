"""Replicas whose etcd has a long outage, is full, or has lost its data."""

from collections.abc import AsyncIterator
from typing import Any

from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.logger import capturedLogs

from hbtd.etcd.client import EtcdClient
from hbtd.etcd.messages import Page
from hbtd.replicas.election import LEASE
from hbtd.replicas.replica import Replica
from tests.support.etcd_running import EVERYTHING
from tests.support.etcd_server import EtcdServer
from tests.support.hsm_memory import DIED, STARTED, WARNED
from tests.support.replicas_running import ERRTIME, WARNTIME, A, B, C, D
from tests.support.replicas_trouble import TroubleTestCase, about_the_store
from tests.support.running import reactor, until


class OutageTests(TroubleTestCase):
    """etcd has a long outage, or loses its data."""

    async def test_stopped(self):
        """During an outage of etcd no node is judged; afterwards HSM gets all transitions."""
        etcd = await self.start()
        self.begin(etcd.address)
        replicas = await self.replicas(2, errtime=3)
        await self.beat(replicas, [A, B], 0.7)
        await self.is_told(A, STARTED)
        await self.is_told(B, STARTED)
        await self.all_acknowledged()
        with capturedLogs() as events:
            await deferToThread(etcd.stop)
            # C starts, D starts and dies, B dies.
            await self.beat(replicas, [A, C, D], 2.0)
            await self.beat(replicas, [A, C], 3 * 3 - 2.0)
            self.assertEqual([await self.readiness(each) for each in replicas], [503, 503])
            self.assertEqual((self.told(A), self.told(B)), ([STARTED], [STARTED]))
            self.assertEqual((self.told(C), self.told(D)), ([], []))
            await deferToThread(etcd.start)
            back = reactor.seconds()
            while not (DIED in self.told(B) and DIED in self.told(D)):
                await self.beat(replicas, [A, C], 0.3)
                self.assertLess(reactor.seconds() - back, 30)
        for name in (B, D):
            # There is no warning if the lock was acquired late.
            self.assertEqual([each for each in self.told(name) if each != WARNED], [STARTED, DIED])
        self.assertEqual(self.told(A), [STARTED])
        self.assertEqual(set(self.told(C)), {STARTED})  # perhaps twice: see QuotaTests
        await self.recovered(*replicas)
        self.assertEqual(len(about_the_store(list(events))), 2, about_the_store(list(events)))

    async def test_wiped(self):
        """When etcd has lost all its data, the replicas go on with the records that they have."""
        etcd = await self.start()
        self.begin(etcd.address)
        replicas = await self.replicas(2)
        await self.beat(replicas, [A, B], 1.5)
        await self.is_told(A, STARTED)
        await self.is_told(B, STARTED)
        await replicas[1].patch(Sm_retries="7")
        await deferToThread(etcd.close)
        await self.beat(replicas, [A], 1.0)
        with capturedLogs() as events:
            await deferToThread(etcd.start)
            began = reactor.seconds()
            while len(self.told(B)) < 3:
                await self.beat(replicas, [A], 0.3)
                self.assertLess(reactor.seconds() - began, 40)
            await self.recovered(*replicas)
        # Both replicas noticed, also the one that was not the first to write to it.
        lost = [line for line in about_the_store(list(events)) if "has lost its data" in line]
        self.assertEqual(len(lost), 2)
        self.assertNotIn(WARNED, self.told(A))
        self.assertEqual(self.told(B)[-2:], [WARNED, DIED])
        client = self.connect(etcd.address)
        keys = [item.key for item in (await client.range(*EVERYTHING)).items]
        self.assertIn(A.encode(), keys)
        self.assertIn(b"HBTD_HEALTH_KEY", keys)
        self.assertIn(b"params", keys)
        for each in replicas:
            self.assertEqual(each.service.params.current.sm_retries, 7)
        await replicas[0].patch(Sm_retries="8")
        await until(lambda: replicas[1].service.params.current.sm_retries == 8)
        for number, each in enumerate(replicas):
            await self.starts_and_dies([C, D][number], each)

    async def test_lost_before_a_death_was_kept(self):
        """HSM gets a death that was judged but not stored when etcd lost its data."""
        etcd = await self.start()
        self.begin(etcd.address)
        (hbtd,) = await self.replicas(1)
        await self.beat([hbtd], [A], 0.7)
        await self.is_told(A, STARTED, WARNED)
        etcd.freeze()
        await until(lambda: hbtd.service.tracker.dead == 1, ERRTIME - WARNTIME + 1)
        await deferToThread(etcd.close)
        await deferToThread(etcd.start)
        await self.is_told(A, STARTED, WARNED, DIED, within=40)

    async def test_long_reading(self):
        """Nodes of a replica that loads for longer than its lease's TTL are not declared dead."""
        etcd = await self.start()
        self.begin(etcd.address)
        # The others notice that a replica is silent after three seconds.
        _, slow = await self.replicas(2, warntime=5, errtime=7)
        await self.beat([slow], [A], 1.0)
        await self.is_told(A, STARTED)
        assert isinstance(slow.service.replica, Replica)
        link: Any = slow.service.replica.sync
        link._client = SlowReader(link._client, (LEASE + 10) / 2)
        link.reload()
        await self.beat([slow], [A], LEASE + 16)
        self.assertTrue(link.synchronized)
        self.assertEqual(self.told(A), [STARTED])


class SlowReader(EtcdClient):
    """A client that reads each page with a delay."""

    def __init__(self, client: EtcdClient, delay: float) -> None:
        self.__dict__.update(client.__dict__)
        self.delay = delay

    async def pages(self, start: bytes, end: bytes, **options: Any) -> AsyncIterator[Page]:
        """Read page by page, each after the delay."""
        async for page in super().pages(start, end, **options):
            await deferLater(reactor, self.delay)
            yield page


class QuotaTests(TroubleTestCase):
    """etcd has reached its quota."""

    async def fill(self, etcd: EtcdServer) -> None:
        """Write until etcd refuses."""
        client = self.connect(etcd.address)
        failure = None
        for number in range(100):
            try:
                await client.put(b"zz%d" % number, bytes(500_000))
            except Exception as error:  # noqa: BLE001  # any failure will do
                failure = error
                break
        self.assertIn("space exceeded", str(failure))

    async def test_full(self):
        """While etcd is full no node is judged, which is logged once; then HSM gets everything."""
        etcd = await self.start(quota=8 * 1024 * 1024)
        self.begin(etcd.address)
        leader, follower = await self.replicas(2)
        await self.beat([leader, follower], [A, B], 0.7)
        await self.is_told(A, STARTED)
        await self.is_told(B, STARTED)
        await self.all_acknowledged()
        with capturedLogs() as events:
            await self.fill(etcd)
            await self.beat([leader, follower], [A, C], ERRTIME + 3)
            self.assertEqual((self.told(A), self.told(B)), ([STARTED], [STARTED]))
            self.assertEqual(self.told(C), [])
            logged = about_the_store(list(events))
            self.assertEqual(len(logged), 2, logged)
            for line in logged:
                self.assertIn("database space exceeded", line)
                self.assertIn("quota", line)
            _, health = await leader.client.request("GET", f"{leader.url}/hmi/v1/health")
            self.assertIn("space exceeded", health["KvStore"])
            await deferToThread(etcd.etcdctl, "del", "zz", "--prefix")
            revision = (await self.connect(etcd.address).status()).revision
            await deferToThread(etcd.etcdctl, "compact", str(revision))
            await deferToThread(etcd.etcdctl, "defrag")
            await deferToThread(etcd.etcdctl, "alarm", "disarm")
            back = reactor.seconds()
            while DIED not in self.told(B):
                await self.beat([leader, follower], [A, C], 0.3)
                self.assertLess(reactor.seconds() - back, 30)
        self.assertEqual(self.told(A), [STARTED])
        # Both have heard C. If another one leads just after the outage, it may grant the follower's
        # request although HSM knows: a start may be told twice, but nothing else.
        self.assertEqual(set(self.told(C)), {STARTED})
        self.assertLessEqual(len(self.told(C)), 2)
        await self.recovered(leader, follower)
