"""The etcd in memory: it does what a real one does, and has the troubles that a test wants."""

from hbtd.etcd.errors import RESOURCE_EXHAUSTED, EtcdRefused
from hbtd.etcd.messages import Delete, Put
from tests.support.etcd_contract import (
    HistoryContract,
    KeyContract,
    LeaseContract,
    LockContract,
    RangeContract,
    TxnContract,
)
from tests.support.etcd_running import EVERYTHING, MemoryEtcdTestCase, WatchTestCase
from tests.support.etcd_watch_contract import WatchContract


class KeyTests(KeyContract, MemoryEtcdTestCase):
    """Keys are put and read."""


class HistoryTests(HistoryContract, MemoryEtcdTestCase):
    """Keys are counted, and history is dropped."""


class RangeTests(RangeContract, MemoryEtcdTestCase):
    """Ranges are read in pages, at one revision."""


class TxnTests(TxnContract, MemoryEtcdTestCase):
    """Transactions have all of their operations carried out, or none."""


class LeaseTests(LeaseContract, MemoryEtcdTestCase):
    """Keys on a lease are deleted with it."""


class LockTests(LockContract, MemoryEtcdTestCase):
    """A lock is held by one at a time."""


class EventTests(WatchContract, WatchTestCase, MemoryEtcdTestCase):
    """A watch reports changes."""


class TroubleTests(MemoryEtcdTestCase):
    """What an etcd in trouble does."""

    async def test_full(self) -> None:
        """While there is no space, writes are refused; reads, renewals and deletions are not."""
        lease = await self.client.grant(60)
        await self.client.put(b"key", b"", lease)
        self.state.full = True
        for write in (
            lambda: self.client.put(b"key", b"1"),
            lambda: self.client.txn((), [Put(b"key", b"1")]),
            lambda: self.client.grant(60),
        ):
            with self.assertRaises(EtcdRefused) as raised:
                await write()
            self.assertEqual(raised.exception.code, RESOURCE_EXHAUSTED)
        with self.assertRaises(EtcdRefused):
            await self.client.lock(b"lock", lease, wait=1)
        self.assertTrue((await self.client.database_size()).full)
        self.assertEqual(await self.keys(), [])  # the lock's lease was revoked

    async def test_full_for_writes_only(self) -> None:
        """Nor are transactions refused that only read and delete."""
        lease = await self.client.grant(60)
        await self.client.txn((), [Put(b"leased", b"", lease), Put(b"gone", b"")])
        self.state.full = True
        self.assertEqual(await self.client.renew(lease), 60)
        self.assertTrue((await self.client.txn((), [Delete(b"gone")])).succeeded)
        self.assertEqual(await self.keys(), [b"leased"])

    async def test_lost_answer(self) -> None:
        """A request whose answer is lost has taken effect."""
        self.loses = True
        await self.unavailable(self.client.put(b"key", b"1"))
        self.loses = False
        self.assertEqual(await self.keys(), [b"key"])

    async def test_lost_data(self) -> None:
        """An etcd that has lost its data is empty, and begins to count again."""
        for _ in range(5):
            await self.client.put(b"key", b"1")
        self.state.lose_data()
        self.assertEqual((await self.client.range(*EVERYTHING)).items, [])
        self.assertEqual(await self.client.put(b"key", b"1"), 2)
