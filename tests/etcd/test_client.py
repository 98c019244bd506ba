"""The calls of etcd, against a real one."""

import json

from twisted.internet.threads import deferToThread

from hbtd.etcd.messages import DatabaseSize
from tests.support.etcd_contract import (
    HistoryContract,
    KeyContract,
    LeaseContract,
    LockContract,
    RangeContract,
    TxnContract,
)
from tests.support.etcd_running import ClientTestCase, EtcdTestCase, FakeGateway
from tests.support.replicas_running import until_true


class KeyTests(KeyContract, EtcdTestCase):
    """Keys are put and read."""

    async def test_etcdctl_agrees(self) -> None:
        """What this client puts, etcdctl reads, and the other way round."""
        await self.client.put(b"x0c0s0b0n0", b'{"Component":"x0c0s0b0n0"}')
        self.assertIn('{"Component":"x0c0s0b0n0"}', await self.ctl("get", "x0c0s0b0n0"))
        await self.ctl("put", "params", "{}")
        found = await self.client.get(b"params")
        assert found is not None
        self.assertEqual(found.value, b"{}")


class HistoryTests(HistoryContract, EtcdTestCase):
    """Keys are counted, history is dropped, and the size of the database is told."""

    async def test_size(self) -> None:
        """The size of the database and its quota, by default 2 GiB, are told."""

        async def agrees() -> bool:
            """Compare with etcdctl; what is in use may change between the two, as it is freed."""
            found = await self.client.database_size()
            self.assertGreaterEqual(found.size, found.in_use)
            self.assertEqual(found.quota, 2 * 2**30)
            (said,) = json.loads(await self.ctl("endpoint", "status", "--write-out=json"))
            told = said["Status"]["dbSize"], said["Status"]["dbSizeInUse"]
            return (found.size, found.in_use) == told

        await self.client.put(b"key", bytes(10**6))
        await until_true(agrees)


class OldSizeTests(ClientTestCase):
    """Statuses of other versions of etcd."""

    async def test_without_metrics(self) -> None:
        """An etcd that tells its quota nowhere has none that is known."""
        status = b'{"header":{},"version":"3.4.0","dbSize":"100"}'
        client = self.connect(FakeGateway(status).listen(self))
        self.assertEqual(await client.database_size(), DatabaseSize(100, 100, 0))

    async def test_newer(self) -> None:
        """From etcd 3.6 on the quota is in the status."""
        status = b'{"header":{},"dbSize":"100","dbSizeInUse":"50","dbSizeQuota":"200"}'
        gateway = FakeGateway(status)
        client = self.connect(gateway.listen(self))
        self.assertEqual(await client.database_size(), DatabaseSize(100, 50, 200))
        self.assertEqual(len(gateway.requests), 1)


class RangeTests(RangeContract, EtcdTestCase):
    """Ranges are read in pages, at one revision."""


class TxnTests(TxnContract, EtcdTestCase):
    """Transactions have all of their operations carried out, or none."""


class LeaseTests(LeaseContract, EtcdTestCase):
    """Keys on a lease are deleted with it."""


class LockTests(LockContract, EtcdTestCase):
    """A lock is held by one at a time."""

    async def test_etcdctl_agrees(self) -> None:
        """A mutex of etcdctl with the same name is the same lock."""
        lease = await self.client.grant(60)
        await self.client.lock(self.NAME, lease, wait=10)
        other = deferToThread(
            self.etcd.etcdctl, "lock", "--ttl=5", self.NAME.decode(), "echo", "had"
        )
        await self.queued(2)
        self.assertFalse(other.called)
        await self.client.revoke(lease)
        self.assertIn("had", await other)
