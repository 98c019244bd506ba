"""The client of etcd, with a real one."""

from twisted.internet.defer import CancelledError
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from hbtd.etcd.client import MAX_OPERATIONS
from hbtd.etcd.errors import NOT_FOUND, Compacted, EtcdRefused, LockNotHad
from hbtd.etcd.messages import Compare, Delete, Get, Outcome, Put, prefix_end
from tests.etcd_running import EVERYTHING, EtcdTestCase
from tests.running import reactor

BYTES = bytes(range(256))


class KeyTests(EtcdTestCase):
    """Keys are put, read and deleted."""

    async def test_put_and_get(self) -> None:
        """A key that is put is read back, with the revisions that made and changed it."""
        first = await self.client.put(b"key", b"one")
        second = await self.client.put(b"key", b"two")
        self.assertGreater(second, first)
        found = await self.client.get(b"key")
        assert found is not None
        self.assertEqual(found, (b"key", b"two", first, second, 0))
        self.assertIsNone(await self.client.get(b"ke"))

    async def test_bytes(self) -> None:
        """Keys and values may be any bytes; values may also be none."""
        values = {BYTES: BYTES[::-1], b"\0": b"", b"\xff\xfe": b"\0", "é".encode("latin-1"): b"\n"}
        for key, value in values.items():
            await self.client.put(key, value)
        for key, value in values.items():
            found = await self.client.get(key)
            assert found is not None
            self.assertEqual((found.key, found.value), (key, value))
        self.assertEqual(await self.keys(), sorted(values))

    async def test_etcdctl_agrees(self) -> None:
        """What is put here, others read, and the other way round."""
        await self.client.put(b"x0c0s0b0n0", b'{"Component":"x0c0s0b0n0"}')
        self.assertIn('{"Component":"x0c0s0b0n0"}', await self.ctl("get", "x0c0s0b0n0"))
        await self.ctl("put", "params", "{}")
        found = await self.client.get(b"params")
        assert found is not None
        self.assertEqual(found.value, b"{}")

    async def test_delete(self) -> None:
        """What is deleted is counted, and gone."""
        for key in (b"a", b"b1", b"b2", b"c"):
            await self.client.put(key, b"")
        self.assertEqual(await self.client.delete(b"a"), 1)
        self.assertEqual(await self.client.delete(b"a"), 0)
        self.assertEqual(await self.client.delete_range(b"b", prefix_end(b"b")), 2)
        self.assertEqual(await self.keys(), [b"c"])

    async def test_no_key(self) -> None:
        """Etcd refuses the empty key."""
        with self.assertRaises(EtcdRefused) as raised:
            await self.client.put(b"", b"")
        self.assertIn("key is not provided", raised.exception.message)

    def test_prefix_end(self) -> None:
        """The end of a prefix's range comes right after all keys that begin with it."""
        self.assertEqual(prefix_end(b"hbtd/"), b"hbtd0")
        self.assertEqual(prefix_end(b"a\xff\xff"), b"b")
        self.assertEqual(prefix_end(b"\xff"), b"\0")
        self.assertEqual(prefix_end(b""), b"\0")


class RangeTests(EtcdTestCase):
    """Ranges are read in pages, at one revision."""

    async def fill(self, count: int) -> list[bytes]:
        """Put so many keys; gives them in their order."""
        keys = [b"x%05d" % number for number in range(count)]
        for first in range(0, count, MAX_OPERATIONS):
            await self.client.txn((), [Put(key, b"") for key in keys[first : first + 128]])
        return keys

    async def test_limit(self) -> None:
        """A page has no more keys than asked for, and tells whether there are more."""
        keys = await self.fill(5)
        page = await self.client.range(b"x", b"y", limit=3)
        self.assertEqual([item.key for item in page.items], keys[:3])
        self.assertTrue(page.more)
        page = await self.client.range(keys[3], keys[4], limit=3)
        self.assertEqual([item.key for item in page.items], [keys[3]])
        self.assertFalse(page.more)

    async def test_pages(self) -> None:
        """Pages bring each key once, as all were when the first page was read."""
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
        """Keys that fill their pages are followed by no empty one; a range without keys has it."""
        await self.fill(4)
        pages = [page async for page in self.client.pages(b"x", b"y", size=2)]
        self.assertEqual([len(page.items) for page in pages], [2, 2])
        (page,) = [page async for page in self.client.pages(b"y", b"z")]
        self.assertEqual(page.items, [])

    async def test_revision(self) -> None:
        """A range is read as it was, until etcd is compacted."""
        old = await self.client.put(b"x", b"old")
        new = await self.client.put(b"x", b"new")
        page = await self.client.range(b"x", b"y", revision=old)
        self.assertEqual((page.items[0].value, page.revision), (b"old", old))
        await self.ctl("compact", str(new))
        with self.assertRaises(Compacted):
            await self.client.range(b"x", b"y", revision=old)
        with self.assertRaises(EtcdRefused) as raised:
            await self.client.range(b"x", b"y", revision=new + 1)
        self.assertIn("future revision", str(raised.exception))


class TxnTests(EtcdTestCase):
    """Transactions do all or nothing, on conditions."""

    async def test_compares(self) -> None:
        """Each compare holds when it should, and not otherwise."""
        created = await self.client.put(b"key", b"first")
        modified = await self.client.put(b"key", b"value")
        true = [
            Compare.exists(b"key"),
            Compare.missing(b"none"),
            Compare.create_revision(b"key", created),
            Compare.create_revision(b"none", 0),
            Compare.mod_revision(b"key", modified),
            Compare.mod_revision(b"key", modified + 1, "LESS"),
            Compare.mod_revision(b"key", created, "GREATER"),
            Compare.mod_revision(b"none", created, "NOT_EQUAL"),
            Compare.value(b"key", b"value"),
            Compare.value(b"key", b"\xff", "LESS"),  # what etcd has is less than this
        ]
        false = [
            Compare.exists(b"none"),
            Compare.missing(b"key"),
            Compare.create_revision(b"key", modified),
            Compare.mod_revision(b"key", created),
            Compare.mod_revision(b"key", created, "LESS"),
            Compare.value(b"key", b"first"),
            Compare.value(b"none", b""),
            Compare.value(b"none", b"value", "NOT_EQUAL"),
        ]
        for compare in true:
            self.assertTrue((await self.client.txn([compare], ())).succeeded, compare)
        for compare in false:
            self.assertFalse((await self.client.txn([compare], ())).succeeded, compare)
        self.assertTrue((await self.client.txn(true, ())).succeeded)
        self.assertFalse((await self.client.txn([*true, false[0]], ())).succeeded)

    async def test_outcomes(self) -> None:
        """A transaction tells what came of each operation; all see one revision."""
        await self.client.txn((), [Put(b"a", BYTES), Put(b"b1", b"1"), Put(b"b2", b"2")])
        result = await self.client.txn(
            (),
            [Get(b"a"), Delete(b"b", b"c"), Get(b"b", b"c"), Put(b"c", b"3"), Get(b"a", b"d", 1)],
        )
        self.assertTrue(result.succeeded)
        got, deleted, nothing, put, limited = result.responses
        self.assertEqual([item.value for item in got.found], [BYTES])
        self.assertEqual(deleted, Outcome([], 2))
        self.assertEqual(nothing, put)
        self.assertEqual(nothing, Outcome([], 0))
        self.assertEqual([item.key for item in limited.found], [b"a"])
        found = await self.client.get(b"c")
        assert found is not None
        self.assertEqual(found.mod_revision, result.revision)

    async def test_otherwise(self) -> None:
        """When a compare fails, the alternative is done and nothing else."""
        await self.client.put(b"key", b"theirs")
        result = await self.client.txn(
            [Compare.missing(b"key")], [Put(b"key", b"ours")], [Get(b"key")]
        )
        self.assertFalse(result.succeeded)
        self.assertEqual([item.value for item in result.responses[0].found], [b"theirs"])

    async def test_limit(self) -> None:
        """A transaction has 128 operations, no more."""
        puts = [Put(b"%d" % number, b"") for number in range(129)]
        result = await self.client.txn((), puts[:128])
        self.assertEqual(len(result.responses), 128)
        with self.assertRaises(ValueError):
            self.client.txn((), puts)
        with self.assertRaises(ValueError):
            self.client.txn((), (), puts)

    async def test_same_key_twice(self) -> None:
        """Etcd refuses to change a key twice, and does nothing then."""
        with self.assertRaises(EtcdRefused) as raised:
            await self.client.txn((), [Put(b"a", b""), Put(b"b", b"1"), Put(b"b", b"2")])
        self.assertIn("duplicate key", str(raised.exception))
        self.assertEqual(await self.keys(), [])


class LeaseTests(EtcdTestCase):
    """Keys on a lease go with it."""

    async def test_revoke(self) -> None:
        """A lease that is revoked takes its keys along; revoking it again does no harm."""
        lease = await self.client.grant(60)
        await self.client.put(b"leased", b"", lease)
        await self.client.txn((), [Put(b"too", b"", lease), Put(b"free", b"")])
        found = await self.client.get(b"leased")
        assert found is not None
        self.assertEqual(found.lease, lease)
        self.assertEqual(await self.client.keep_alive(lease), 60)
        await self.client.revoke(lease)
        await self.client.revoke(lease)
        self.assertEqual(await self.keys(), [b"free"])
        self.assertEqual(await self.client.keep_alive(lease), 0)

    async def test_no_lease(self) -> None:
        """A put on a lease that does not exist is refused as such."""
        for call in (
            self.client.put(b"key", b"", 12345),
            self.client.txn((), [Put(b"key", b"", 12345)]),
        ):
            with self.assertRaises(EtcdRefused) as raised:
                await call
            self.assertEqual(raised.exception.code, NOT_FOUND)

    async def test_expiry(self) -> None:
        """A lease lasts for as long as it is kept alive, and no longer."""
        kept, left = await self.client.grant(1), await self.client.grant(1)
        await self.client.put(b"kept", b"", kept)
        await self.client.put(b"left", b"", left)

        deadline = reactor.seconds() + 10
        while b"left" in await self.keys():
            self.assertLess(reactor.seconds(), deadline)
            self.assertEqual(await self.client.keep_alive(kept), 1)
            await deferLater(reactor, 0.2)
        self.assertEqual(await self.client.keep_alive(left), 0)
        self.assertEqual(await self.keys(), [b"kept"])


class LockTests(EtcdTestCase):
    """A lock is held by one at a time."""

    NAME = b"hbtd_dist_lock"

    async def queued(self, count: int) -> None:
        """Wait until so many hold the lock or wait for it."""
        deadline = reactor.seconds() + 5
        while len(await self.keys()) != count:
            self.assertLess(reactor.seconds(), deadline)

    async def test_exclusion(self) -> None:
        """Who comes second waits until the first lets go."""
        one, two = await self.client.grant(60), await self.client.grant(60)
        held = await self.client.lock(self.NAME, one, wait=10)
        self.assertEqual(held, b"%s/%x" % (self.NAME, one))
        waiting = self.client.lock(self.NAME, two, wait=10)
        await self.queued(2)
        self.assertFalse(waiting.called)
        await self.client.unlock(held)
        self.assertEqual(await waiting, b"%s/%x" % (self.NAME, two))
        self.assertEqual(await self.keys(), [b"%s/%x" % (self.NAME, two)])

    async def test_fence(self) -> None:
        """A transaction can depend on a lock's being held."""
        lease = await self.client.grant(60)
        held = await self.client.lock(self.NAME, lease, wait=10)
        fenced = [Compare.exists(held)], [Put(b"judgement", b"")]
        self.assertTrue((await self.client.txn(*fenced)).succeeded)
        await self.client.revoke(lease)
        self.assertFalse((await self.client.txn(*fenced)).succeeded)

    async def test_takeover(self) -> None:
        """When the holder's lease runs out, the next has the lock."""
        one, two = await self.client.grant(1), await self.client.grant(60)
        held = await self.client.lock(self.NAME, one, wait=10)
        self.assertNotEqual(await self.client.lock(self.NAME, two, wait=10), held)
        self.assertEqual(await self.client.keep_alive(one), 0)

    async def test_cancelled(self) -> None:
        """Who gives up waiting leaves nothing behind, and the next in line is next."""
        leases = [await self.client.grant(60) for _ in range(3)]
        held = await self.client.lock(self.NAME, leases[0], wait=10)
        waiting = self.client.lock(self.NAME, leases[1], wait=10)
        await self.queued(2)
        last = self.client.lock(self.NAME, leases[2], wait=10)
        await self.queued(3)
        waiting.cancel()
        with self.assertRaises(CancelledError):
            await waiting
        self.assertEqual(await self.client.keep_alive(leases[1]), 0)
        self.assertEqual(len(await self.keys()), 2)
        await self.client.unlock(held)
        await last

    async def test_cancelled_at_once(self) -> None:
        """Giving up before etcd has so much as heard of it leaves nothing behind either."""
        lease = await self.client.grant(60)
        attempt = self.client.lock(self.NAME, lease, wait=10)
        attempt.cancel()
        with self.assertRaises(CancelledError):
            await attempt
        self.assertEqual(await self.keys(), [])
        self.assertEqual(await self.client.keep_alive(lease), 0)

    async def test_not_had(self) -> None:
        """Who has waited for long enough leaves nothing behind."""
        one, two = await self.client.grant(60), await self.client.grant(60)
        held = await self.client.lock(self.NAME, one, wait=10)
        with self.assertRaises(LockNotHad):
            await self.client.lock(self.NAME, two, wait=0.2)
        self.assertEqual(await self.keys(), [held])
        self.assertEqual(await self.client.keep_alive(two), 0)

    async def test_lease_ends(self) -> None:
        """Whose lease ends while waiting is refused the lock when it is free."""
        one, two = await self.client.grant(60), await self.client.grant(60)
        held = await self.client.lock(self.NAME, one, wait=10)
        waiting = self.client.lock(self.NAME, two, wait=10)
        await self.queued(2)
        await self.client.revoke(two)
        await self.client.unlock(held)
        with self.assertRaises(EtcdRefused):
            await waiting
        with self.assertRaises(EtcdRefused):
            await self.client.lock(self.NAME, two, wait=10)

    async def test_etcdctl_agrees(self) -> None:
        """Others' mutexes of that name are this lock."""
        lease = await self.client.grant(60)
        held = await self.client.lock(self.NAME, lease, wait=10)
        other = deferToThread(
            self.etcd.etcdctl, "lock", "--ttl=5", self.NAME.decode(), "echo", "had"
        )
        await self.queued(2)
        self.assertFalse(other.called)
        await self.client.unlock(held)
        self.assertIn("had", await other)


class StatusTests(EtcdTestCase):
    """etcd tells how it is."""

    async def test_status(self) -> None:
        """A member tells its version, its leader and its size."""
        revision = await self.client.put(b"key", b"")
        status = await self.client.status()
        self.assertRegex(status.version, r"^3\.\d+\.\d+$")
        self.assertEqual(status.leader, status.member)
        self.assertGreater(status.db_size, 0)
        self.assertEqual(status.revision, revision)
        self.assertEqual(status.errors, [])

    async def test_empty(self) -> None:
        """A range of all keys of an etcd without any is empty."""
        self.assertEqual((await self.client.range(*EVERYTHING)).items, [])
