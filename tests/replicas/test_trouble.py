"""Replicas during outages of etcd: nothing is lost, and no component is warned about."""

from typing import Any

from twisted.internet.threads import deferToThread
from twisted.logger import LogEvent, capturedLogs

from hbtd.replicas.replica import Replica
from hbtd.store.etcd_format import EVERYTHING, HEALTH, LIFE, PARAMS, PRESENCE
from hbtd.store.etcd_log_format import CURSOR
from tests.support.etcd_server import EtcdCluster, EtcdServer
from tests.support.hsm_memory import DIED, STARTED, WARNED, lines
from tests.support.replicas_running import A, B, until_all, until_true
from tests.support.replicas_trouble import TroubleTestCase, about_the_store, in_touch
from tests.support.running import Hbtd, reactor


def about_the_lock(events: list[LogEvent]) -> list[str]:
    """Return the errors that hbtd has logged about its lock."""
    return [line for line in lines(events, "error") if "lock" in line]


class OutageTests(TroubleTestCase):
    """An unreachable etcd."""

    async def test_unreachable_at_the_start(self):
        """Without etcd at the start, a replica takes heartbeats, is not ready, and judges later."""
        etcd = EtcdServer()
        self.addCleanup(deferToThread, etcd.close)
        self.begin(etcd.address)
        with capturedLogs() as events:
            hbtd = self.launch(warntime=1, errtime=2)
            self.assertEqual(await hbtd.beat(A), 200)
            self.assertEqual(await self.readiness(hbtd), 503)
            status, health = await hbtd.client.request("GET", f"{hbtd.url}/hmi/v1/health")
            self.assertEqual(status, 200)
            self.assertIn("etcd", health["KvStore"])
            await self.beat([hbtd], [A], 1.0)
            self.assertEqual(self.told(A), [])
            await deferToThread(etcd.start)
            await self.is_told(A, STARTED, WARNED, DIED)
            await self.recovered(hbtd)
        self.assertEqual(len(about_the_store(list(events))), 1, about_the_store(list(events)))


def revision(hbtd: Hbtd) -> int:
    """Return the revision that a replica has applied."""
    assert isinstance(hbtd.service.replica, Replica)
    return hbtd.service.replica.sync.revision


class CompactedTests(TroubleTestCase):
    """Compaction of changes that a watch has still to receive."""

    async def test_compacted(self):
        """Compaction has no effect, also while replicas are stopped."""
        etcd = await self.start()
        self.begin(etcd.address)
        replicas = await self.replicas(2)
        await self.beat(replicas, [A, B], 0.7)
        client = self.connect(etcd.address)
        with capturedLogs() as events:
            for each in replicas:
                link: Any = each.service.replica.sync  # type: ignore[union-attr]  # on etcd
                # As if it had been away for a while.
                link._position.revision = 1
                await deferToThread(
                    etcd.etcdctl, "compact", "--physical", str((await client.status()).revision)
                )
                link._break(None)
                await until_all([each], lambda each: in_touch(each) and revision(each) > 1)
            await self.recovered(*replicas)
            await self.beat(replicas, [A], 1.0)
        self.assertEqual(self.told(A), [STARTED])
        self.assertEqual(about_the_store(list(events)), [])
        await self.is_told(B, STARTED, WARNED, DIED)


class DeletedTests(TroubleTestCase):
    """hbtd's keys are deleted by other clients, or lost."""

    async def test_lock(self):
        """A leader whose lock was deleted runs again, and judging goes on."""
        etcd = await self.start()
        self.begin(etcd.address)
        (hbtd,) = await self.replicas(1)
        await self.beat([hbtd], [A], 0.7)
        await self.is_told(A, STARTED)
        with capturedLogs() as events:
            await deferToThread(etcd.etcdctl, "del", "--prefix", "hbtd_dist_lock")
            await self.is_told(A, STARTED, WARNED, DIED, within=20)
        self.assertEqual(len(about_the_lock(list(events))), 1)

    async def test_signs_of_life(self):
        """Signs of life that were deleted are written again soon."""
        etcd = await self.start()
        self.begin(etcd.address)
        await self.replicas(2)
        client = self.connect(etcd.address)

        async def signs() -> int:
            keys = [item.key for item in (await client.range(*EVERYTHING)).items]
            return sum(key.startswith((LIFE, PRESENCE)) for key in keys)

        self.assertEqual(await signs(), 4)
        await deferToThread(etcd.etcdctl, "del", "--prefix", "hbtd")

        async def back() -> bool:
            return await signs() == 4

        await until_true(back, within=10)

    async def test_everything(self):
        """An etcd that has lost its data is given records, parameters and cursors again.

        What is logged then has higher numbers than what was lost.
        """
        etcd = await self.start()
        self.begin(etcd.address)
        (hbtd,) = await self.replicas(1, warntime=20, errtime=40)
        await hbtd.beat(A)
        await self.is_told(A, STARTED)
        await hbtd.patch(Sm_retries="7")
        client = self.connect(etcd.address)
        await hbtd.service.store.move_cursor("kafka", 1)
        with capturedLogs() as events:
            await deferToThread(etcd.close)
            await deferToThread(etcd.start)

            async def back() -> object:
                record, health, cursor, params = [
                    await client.get(key)
                    for key in (A.encode(), HEALTH[0], CURSOR + b"kafka", PARAMS)
                ]
                restored = cursor and cursor.value == b"1"
                return (
                    record
                    and health
                    and restored
                    and params
                    and b'"Sm_retries":"7"' in params.value
                )

            await until_true(back, within=20)
            await self.recovered(hbtd)
        lost = [line for line in about_the_store(list(events)) if "has lost its data" in line]
        self.assertEqual(len(lost), 1)
        self.assertEqual(self.told(A), [STARTED])
        await hbtd.beat(B)
        await self.is_told(B, STARTED)
        entries = await hbtd.service.store.log(0, 10)
        self.assertEqual([(e.number, e.judgement.component) for e in entries], [(2, B)])


class ClusterTests(TroubleTestCase):
    """The loss of a member of etcd."""

    async def test_member_lost(self):
        """When any one of three members is lost, replicas go on with the others."""
        cluster = EtcdCluster()
        self.addCleanup(deferToThread, cluster.close)
        await deferToThread(cluster.start)
        self.begin(",".join(cluster.addresses))
        replicas = await self.replicas(2)
        await self.beat(replicas, [A], 0.7)
        await self.is_told(A, STARTED)
        await deferToThread(cluster.members[0].kill)
        await self.beat(replicas, [A], 2)
        await deferToThread(cluster.members[0].start)
        await deferToThread(cluster.members[1].kill)
        began = reactor.seconds()
        self.assertEqual(await replicas[1].beat(B), 200)
        while len(self.told(B)) < 3:
            await self.beat(replicas, [A], 0.3)
            self.assertLess(reactor.seconds() - began, 30)
        self.assertEqual(self.told(A), [STARTED])
        self.assertEqual(self.told(B), [STARTED, WARNED, DIED])
