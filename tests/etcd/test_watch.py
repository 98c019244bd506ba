"""Watching etcd, with a real one."""

from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock

from hbtd.etcd.client import MAX_OPERATIONS
from hbtd.etcd.errors import Compacted, EtcdRefused
from hbtd.etcd.messages import Delete, Event, Put
from tests.support.etcd_running import EVERYTHING, EtcdTestCase, WatchTestCase
from tests.support.running import until


class EventTests(WatchTestCase, EtcdTestCase):
    """Changes are told."""

    async def setUp(self):  # type: ignore[override]  # trial waits for it
        """Find out from where on to watch."""
        await super().setUp()
        self.start = (await self.client.status()).revision + 1

    async def test_changes(self) -> None:
        """Puts and deletes come in their order, with all that belongs to them."""
        watching = self.watch(self.client, self.start)
        lease = await self.client.grant(60)
        binary = bytes(range(256))
        first = await self.client.put(binary, binary[::-1], lease)
        second = await self.client.put(b"key", b"")
        await self.client.delete(binary)
        third = await self.client.put(b"key", b"last")
        await until(lambda: len(watching.events) == 4)
        self.assertEqual(
            watching.events,
            [
                (binary, binary[::-1], first, lease),
                (b"key", b"", second, 0),
                (binary, None, second + 1, 0),
                (b"key", b"last", third, 0),
            ],
        )
        self.assertEqual(watching.watch.revision, third)
        self.assertEqual(watching.calls[-1][1], third)

    async def test_lease(self) -> None:
        """Keys that go with their lease are told as deleted."""
        watching = self.watch(self.client, self.start)
        lease = await self.client.grant(60)
        await self.client.put(b"key", b"", lease)
        await self.client.revoke(lease)
        await until(lambda: len(watching.events) == 2)
        self.assertIsNone(watching.events[-1].value)

    async def test_resume(self) -> None:
        """A watch that starts after where another ended brings just what that one did not."""
        for number in range(5):
            await self.client.put(b"%d" % number, b"")
        first = self.watch(self.client, self.start)
        await until(lambda: len(first.events) == 5)
        first.ended.cancel()
        with self.assertRaises(CancelledError):
            await first.ended
        await self.client.put(b"late", b"")
        await self.client.put(b"later", b"")
        second = self.watch(self.client, first.watch.revision + 1)
        await until(lambda: len(second.events) == 2)
        self.assertEqual(second.keys, [b"late", b"later"])
        self.assertEqual(len(first.events), 5)

    async def test_ranges(self) -> None:
        """Several ranges are watched in one go, and nothing beside them."""
        watching = self.watch(
            self.client, self.start, (b"x0", b"xz"), (b"params", b""), (b"hbtd/", b"hbtd0")
        )
        for key in (b"x00", b"xz", b"x", b"params", b"params2", b"hbtd/a", b"hbtd0"):
            await self.client.put(key, key)
        await until(lambda: len(watching.events) == 3)
        self.assertEqual(sorted(watching.keys), [b"hbtd/a", b"params", b"x00"])
        # Of the range where nothing else happened, nothing is known since.
        self.assertEqual(watching.watch.revision, self.start)
        await self.client.txn((), [Put(k, b"") for k in (b"x00", b"params", b"hbtd/a")])
        await until(lambda: len(watching.events) == 6)
        self.assertEqual(watching.watch.revision, self.start + 7)

    async def test_transaction(self) -> None:
        """What one transaction did comes as one revision, and at once."""
        watching = self.watch(self.client, self.start)
        result = await self.client.txn(
            (), [Put(b"%03d" % number, b"") for number in range(MAX_OPERATIONS)]
        )
        await self.client.txn((), [Delete(*EVERYTHING)])
        await until(lambda: len(watching.events) == 256)
        self.assertEqual({event.mod_revision for event in watching.events[:128]}, {result.revision})
        self.assertEqual([len(events) for events, _ in watching.calls], [128, 128])

    async def test_catching_up(self) -> None:
        """Of much that happened before, each change comes once, and nothing is told too early."""
        for number in range(1200):
            await self.client.put(b"small", b"%d" % number)
        for _ in range(3):
            await self.client.txn(
                (), [Put(b"large%02d" % number, bytes(40_000)) for number in range(30)]
            )
        watching = self.watch(self.client, self.start)
        await until(lambda: len(watching.events) == 1290)
        values = [event.value for event in watching.events[:1200]]
        self.assertEqual(values, [b"%d" % number for number in range(1200)])
        self.assertEqual(watching.keys[1200:], [b"large%02d" % n for n in range(30)] * 3)
        # etcd has split up revisions; such a one is told to the end only when all of it is.
        self.assertTrue(any(told < events[-1].mod_revision for events, told in watching.calls))
        for number, (_, told) in enumerate(watching.calls):
            later = [event for events, _ in watching.calls[number + 1 :] for event in events]
            self.assertTrue(all(event.mod_revision > told for event in later))
        self.assertEqual(watching.watch.revision, watching.events[-1].mod_revision)

    async def test_compacted(self) -> None:
        """A watch of what etcd has forgotten ends, and tells what there still is."""
        await self.client.put(b"key", b"1")
        now = await self.client.put(b"key", b"2")
        await self.ctl("compact", str(now))
        with self.assertRaises(Compacted) as raised:
            await self.watch(self.client, self.start - 1).ended
        self.assertEqual(raised.exception.compact_revision, now)
        watching = self.watch(self.client, now)
        await until(lambda: watching.events)

    async def test_compacted_meanwhile(self) -> None:
        """A watch that is up to date outlives compaction."""
        watching = self.watch(self.client, self.start)
        now = await self.client.put(b"key", b"1")
        await until(lambda: watching.events)
        await self.ctl("compact", str(now))
        await self.client.put(b"key", b"2")
        await until(lambda: len(watching.events) == 2)

    async def test_refused(self) -> None:
        """Etcd watches no range that ends before it begins."""
        with self.assertRaises(EtcdRefused) as raised:
            await self.watch(self.client, self.start, (b"b", b"a")).ended
        self.assertIn("empty", str(raised.exception))
        for start, ranges in ((0, [EVERYTHING]), (1, [])):
            with self.assertRaises(ValueError):
                self.client.watch(ranges, start, lambda events, revision: None, silence=1)

    async def test_callback_raises(self) -> None:
        """What goes wrong with an event ends the watch, and is not swallowed."""

        def fail(events: list[Event], revision: int) -> None:
            raise ZeroDivisionError

        watch = self.client.watch([EVERYTHING], self.start, fail, silence=20)
        await self.client.put(b"key", b"")
        with self.assertRaises(ZeroDivisionError):
            await watch.ended

    async def test_cancelled_by_callback(self) -> None:
        """Once a watch is cancelled it tells nothing, even of what it has received."""
        for number in range(3):
            await self.client.put(b"%d" % number, bytes(1_000_000))
        told = []

        def stop(events: list[Event], revision: int) -> None:
            told.append(revision)
            watch.ended.cancel()

        watch = self.client.watch([EVERYTHING], self.start, stop, silence=20)
        with self.assertRaises(CancelledError):
            await watch.ended
        await self.client.put(b"late", b"")
        self.assertEqual(len(told), 1)

    async def test_silence(self) -> None:
        """A watch that brings nothing for too long counts as broken; whatever comes, it brings."""
        clock = Clock()
        client = self.connect(self.etcd.address, clock=clock)
        watching = self.watch(client, self.start, silence=5)
        for number in range(3):
            await self.client.put(b"key", b"")
            await until(lambda n=number: len(watching.events) == n + 1)  # type: ignore[misc]  # not inferred
            clock.advance(4.9)
            self.assertNoResult(watching.ended)
        clock.advance(0.2)
        error = await self.unavailable(watching.ended)
        self.assertTrue(error.timed_out)
        self.assertEqual(str(error), f"{self.etcd.address} sends nothing for 5 s")
