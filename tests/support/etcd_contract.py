"""What etcd does, as its client sees it: the tests that a real etcd and the one in memory pass."""

from typing import TYPE_CHECKING

from twisted.internet.defer import CancelledError
from twisted.internet.task import deferLater

from hbtd.etcd.client import MAX_OPERATIONS
from hbtd.etcd.errors import NOT_FOUND, Compacted, EtcdRefused, LockTimeout
from hbtd.etcd.messages import Compare, Delete, Put
from tests.support.etcd_running import EVERYTHING, ClientTestCase
from tests.support.replicas_running import until_true
from tests.support.running import reactor

if TYPE_CHECKING:
    _Base = ClientTestCase
else:
    _Base = object

BYTES = bytes(range(256))


class KeyContract(_Base):
    """Keys are put and read."""

    async def test_put_and_get(self) -> None:
        """A key that is put is read back, with the revisions that created and changed it."""
        first = await self.client.put(b"key", b"one")
        second = await self.client.put(b"key", b"two")
        self.assertGreater(second, first)
        found = await self.client.get(b"key")
        assert found is not None
        self.assertEqual(found, (b"key", b"two", first, second, 0))
        self.assertIsNone(await self.client.get(b"ke"))

    async def test_bytes(self) -> None:
        """Keys and values may be any bytes; values may be empty."""
        values = {BYTES: BYTES[::-1], b"\0": b"", b"\xff\xfe": b"\0", "é".encode("latin-1"): b"\n"}
        for key, value in values.items():
            await self.client.put(key, value)
        for key, value in values.items():
            found = await self.client.get(key)
            assert found is not None
            self.assertEqual((found.key, found.value), (key, value))
        self.assertEqual(await self.keys(), sorted(values))

    async def test_no_key(self) -> None:
        """The empty key is refused."""
        with self.assertRaises(EtcdRefused) as raised:
            await self.client.put(b"", b"")
        self.assertIn("key is not provided", raised.exception.message)


class HistoryContract(_Base):
    """Keys are counted, and history is dropped."""

    async def test_count(self) -> None:
        """Keys in several ranges are counted together."""
        self.assertEqual(await self.client.count([(b"\0", b"\0")]), 0)
        for key in (b"a", b"b", b"c", b"\xff"):
            await self.client.put(key, b"")
        self.assertEqual(await self.client.count([(b"a", b"b"), (b"c", b"\0")]), 3)
        self.assertEqual(await self.client.count([(b"\0", b"a")]), 0)

    async def test_compact(self) -> None:
        """History before a revision is dropped; keys, and what came since, stay."""
        revisions = [await self.client.put(b"key", b"%d" % number) for number in range(4)]
        self.assertEqual(await self.client.compact(revisions[2]), revisions[3])
        with self.assertRaises(Compacted):
            await self.client.range(b"key", b"kez", revision=revisions[1])
        page = await self.client.range(b"key", b"kez", revision=revisions[2])
        self.assertEqual([each.value for each in page.items], [b"2"])
        with self.assertRaises(Compacted):
            await self.client.compact(revisions[2])
        with self.assertRaises(EtcdRefused):
            await self.client.compact(revisions[3] + 100)


class RangeContract(_Base):
    """Ranges are read in pages, at one revision."""

    async def fill(self, count: int) -> list[bytes]:
        """Put `count` keys; return them in their order."""
        keys = [b"x%05d" % number for number in range(count)]
        for first in range(0, count, MAX_OPERATIONS):
            await self.client.txn((), [Put(key, b"") for key in keys[first : first + 128]])
        return keys

    async def test_empty(self) -> None:
        """The range of all keys is empty in an etcd without keys."""
        self.assertEqual((await self.client.range(*EVERYTHING)).items, [])

    async def test_limit(self) -> None:
        """A page has at most `limit` keys, and says whether there are more."""
        keys = await self.fill(5)
        page = await self.client.range(b"x", b"y", limit=3)
        self.assertEqual([item.key for item in page.items], keys[:3])
        self.assertTrue(page.more)
        page = await self.client.range(keys[3], keys[4], limit=3)
        self.assertEqual([item.key for item in page.items], [keys[3]])
        self.assertFalse(page.more)

    async def test_pages(self) -> None:
        """Pages have each key once, as of when the first page was read."""
        keys = await self.fill(1000)
        revision = (await self.client.status()).revision
        found = []
        async for page in self.client.pages(b"x", b"y", size=300):
            self.assertEqual(page.revision, revision)
            found += page.items
            await self.client.txn(
                (), [Put(keys[0], b"late"), Put(keys[-1], b"late"), Delete(b"x0099", b"x00999")]
            )
            await self.client.put(b"x00500+", b"late")
        self.assertEqual([item.key for item in found], keys)
        self.assertEqual({item.value for item in found}, {b""})

    async def test_exact_pages(self) -> None:
        """Full pages are not followed by an empty one, which only a range without keys has."""
        await self.fill(4)
        pages = [page async for page in self.client.pages(b"x", b"y", size=2)]
        self.assertEqual([len(page.items) for page in pages], [2, 2])
        (page,) = [page async for page in self.client.pages(b"y", b"z")]
        self.assertEqual(page.items, [])

    async def test_revision(self) -> None:
        """A range can be read as of an old revision until etcd is compacted."""
        old = await self.client.put(b"x", b"old")
        new = await self.client.put(b"x", b"new")
        page = await self.client.range(b"x", b"y", revision=old)
        self.assertEqual((page.items[0].value, page.revision), (b"old", old))
        await self.client.compact(new)
        with self.assertRaises(Compacted):
            await self.client.range(b"x", b"y", revision=old)
        with self.assertRaises(EtcdRefused) as raised:
            await self.client.range(b"x", b"y", revision=new + 1)
        self.assertIn("future revision", str(raised.exception))


class TxnContract(_Base):
    """Transactions have all of their operations carried out, or none."""

    async def test_compares(self) -> None:
        """Each kind of compare holds when it should, and not otherwise."""
        created = await self.client.put(b"key", b"first")
        modified = await self.client.put(b"key", b"value")
        true = [
            Compare.exists(b"key"),
            Compare.mod_revision(b"key", modified),
            Compare.mod_revision(b"none", 0),
        ]
        false = [
            Compare.exists(b"none"),
            Compare.mod_revision(b"key", created),
            Compare.mod_revision(b"key", 0),
            Compare.mod_revision(b"none", modified),
        ]
        for compare in true:
            self.assertTrue((await self.client.txn([compare], ())).succeeded, compare)
        for compare in false:
            self.assertFalse((await self.client.txn([compare], ())).succeeded, compare)
        self.assertTrue((await self.client.txn(true, ())).succeeded)
        self.assertFalse((await self.client.txn([*true, false[0]], ())).succeeded)

    async def test_operations(self) -> None:
        """A transaction puts and deletes keys and ranges in one revision, which it returns."""
        names = (b"a1", b"a2", b"b1", b"b2", b"c")
        before = (await self.client.txn((), [Put(name, BYTES) for name in names])).revision
        result = await self.client.txn((), [Delete(b"a1"), Delete(b"b", b"c"), Put(b"c", b"3")])
        self.assertTrue(result.succeeded)
        self.assertEqual(result.revision, before + 1)
        self.assertEqual(
            (await self.client.range(*EVERYTHING)).items,
            [(b"a2", BYTES, before, before, 0), (b"c", b"3", before, result.revision, 0)],
        )

    async def test_nothing_done(self) -> None:
        """When a compare fails, no operation is carried out."""
        await self.client.put(b"key", b"theirs")
        result = await self.client.txn(
            [Compare.mod_revision(b"key", 0)], [Put(b"key", b"ours"), Put(b"other", b"")]
        )
        self.assertFalse(result.succeeded)
        self.assertEqual(
            [item[:2] for item in (await self.client.range(*EVERYTHING)).items],
            [(b"key", b"theirs")],
        )

    async def test_limit(self) -> None:
        """A transaction has at most 128 operations and 128 compares."""
        puts = [Put(b"%d" % number, b"") for number in range(129)]
        compares = [Compare.mod_revision(each.key, 0) for each in puts]
        self.assertTrue((await self.client.txn(compares[:128], puts[:128])).succeeded)
        self.assertEqual(len(await self.keys()), 128)
        with self.assertRaises(ValueError):
            self.client.txn((), puts)
        with self.assertRaises(ValueError):
            self.client.txn(compares, ())

    async def test_same_key_twice(self) -> None:
        """A transaction that changes a key twice is refused."""
        with self.assertRaises(EtcdRefused) as raised:
            await self.client.txn((), [Put(b"a", b""), Put(b"b", b"1"), Put(b"b", b"2")])
        self.assertIn("duplicate key", str(raised.exception))
        self.assertEqual(await self.keys(), [])


class LeaseContract(_Base):
    """Keys on a lease are deleted with it."""

    async def test_revoke(self) -> None:
        """Revoking a lease deletes its keys; revoking it again is no error."""
        lease = await self.client.grant(60)
        await self.client.put(b"leased", b"", lease)
        await self.client.txn((), [Put(b"too", b"", lease), Put(b"free", b"")])
        found = await self.client.get(b"leased")
        assert found is not None
        self.assertEqual(found.lease, lease)
        self.assertEqual(await self.client.renew(lease), 60)
        await self.client.revoke(lease)
        await self.client.revoke(lease)
        self.assertEqual(await self.keys(), [b"free"])
        self.assertEqual(await self.client.renew(lease), 0)

    async def test_no_lease(self) -> None:
        """A put on a lease that does not exist is refused with `NOT_FOUND`."""
        for call in (
            self.client.put(b"key", b"", 12345),
            self.client.txn((), [Put(b"key", b"", 12345)]),
        ):
            with self.assertRaises(EtcdRefused) as raised:
                await call
            self.assertEqual(raised.exception.code, NOT_FOUND)

    async def test_expiry(self) -> None:
        """A lease lasts for as long as it is renewed, and no longer."""
        kept, left = await self.client.grant(1), await self.client.grant(1)
        await self.client.put(b"kept", b"", kept)
        await self.client.put(b"left", b"", left)

        deadline = reactor.seconds() + 30
        while b"left" in await self.keys():
            self.assertLess(reactor.seconds(), deadline)
            self.assertEqual(await self.client.renew(kept), 1)
            await deferLater(reactor, 0.2)
        self.assertEqual(await self.client.renew(left), 0)
        self.assertEqual(await self.keys(), [b"kept"])


class LockContract(_Base):
    """A lock is held by one at a time."""

    NAME = b"hbtd_dist_lock"

    async def queued(self, count: int) -> None:
        """Wait until `count` clients hold the lock or wait for it."""

        async def all_there() -> bool:
            return len(await self.keys()) == count

        await until_true(all_there)

    async def test_exclusion(self) -> None:
        """The second client waits until the first one releases the lock."""
        one, two = await self.client.grant(60), await self.client.grant(60)
        held = await self.client.lock(self.NAME, one, wait=10)
        self.assertEqual(held, b"%s/%x" % (self.NAME, one))
        waiting = self.client.lock(self.NAME, two, wait=10)
        await self.queued(2)
        self.assertFalse(waiting.called)
        await self.client.revoke(one)
        self.assertEqual(await waiting, b"%s/%x" % (self.NAME, two))
        self.assertEqual(await self.keys(), [b"%s/%x" % (self.NAME, two)])

    async def test_fence(self) -> None:
        """A transaction can be fenced by a lock."""
        lease = await self.client.grant(60)
        held = await self.client.lock(self.NAME, lease, wait=10)
        fenced = [Compare.exists(held)], [Put(b"judgement", b"")]
        self.assertTrue((await self.client.txn(*fenced)).succeeded)
        await self.client.revoke(lease)
        self.assertFalse((await self.client.txn(*fenced)).succeeded)

    async def test_takeover(self) -> None:
        """When the holder's lease expires, the next client acquires the lock."""
        one, two = await self.client.grant(1), await self.client.grant(60)
        held = await self.client.lock(self.NAME, one, wait=10)
        self.assertNotEqual(await self.client.lock(self.NAME, two, wait=10), held)
        self.assertEqual(await self.client.renew(one), 0)

    async def test_cancelled(self) -> None:
        """A client that gives up waiting leaves nothing behind, and those after it move up."""
        leases = [await self.client.grant(60) for _ in range(3)]
        await self.client.lock(self.NAME, leases[0], wait=10)
        waiting = self.client.lock(self.NAME, leases[1], wait=10)
        await self.queued(2)
        last = self.client.lock(self.NAME, leases[2], wait=10)
        await self.queued(3)
        waiting.cancel()
        with self.assertRaises(CancelledError):
            await waiting
        self.assertEqual(await self.client.renew(leases[1]), 0)
        self.assertEqual(len(await self.keys()), 2)
        await self.client.revoke(leases[0])
        await last

    async def test_cancelled_at_once(self) -> None:
        """Giving up before the request is sent leaves nothing behind either."""
        lease = await self.client.grant(60)
        attempt = self.client.lock(self.NAME, lease, wait=10)
        attempt.cancel()
        with self.assertRaises(CancelledError):
            await attempt
        self.assertEqual(await self.keys(), [])
        self.assertEqual(await self.client.renew(lease), 0)

    async def test_timeout(self) -> None:
        """A client whose wait times out leaves nothing behind."""
        one, two = await self.client.grant(60), await self.client.grant(60)
        held = await self.client.lock(self.NAME, one, wait=10)
        with self.assertRaises(LockTimeout):
            await self.client.lock(self.NAME, two, wait=0.2)
        self.assertEqual(await self.keys(), [held])
        self.assertEqual(await self.client.renew(two), 0)

    async def test_lease_ends(self) -> None:
        """A client whose lease ends while it waits is refused the lock once that is free."""
        one, two = await self.client.grant(60), await self.client.grant(60)
        await self.client.lock(self.NAME, one, wait=10)
        waiting = self.client.lock(self.NAME, two, wait=10)
        await self.queued(2)
        await self.client.revoke(two)
        await self.client.revoke(one)
        with self.assertRaises(EtcdRefused):
            await waiting
        with self.assertRaises(EtcdRefused):
            await self.client.lock(self.NAME, two, wait=10)
