"""Watches of an etcd: the tests that a real etcd and the one in memory pass."""

from typing import TYPE_CHECKING

from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock

from hbtd.etcd.client import MAX_OPERATIONS
from hbtd.etcd.errors import Compacted, EtcdRefused
from hbtd.etcd.messages import Delete, Event, Put
from tests.support.etcd_running import EVERYTHING, WatchTestCase
from tests.support.running import until

if TYPE_CHECKING:
    _Base = WatchTestCase
else:
    _Base = object


class WatchContract(_Base):
    """A watch reports changes."""

    async def setUp(self):  # type: ignore[override]  # trial waits for it
        """Find out the next revision."""
        await super().setUp()  # type: ignore[misc]  # trial waits for it
        self.start = (await self.client.status()).revision + 1

    async def test_changes(self) -> None:
        """Puts and deletes are reported in their order, with value, revision and lease."""
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
        """Keys that are deleted with their lease are reported as deleted."""
        watching = self.watch(self.client, self.start)
        lease = await self.client.grant(60)
        await self.client.put(b"key", b"", lease)
        await self.client.revoke(lease)
        await until(lambda: len(watching.events) == 2)
        self.assertIsNone(watching.events[-1].value)

    async def test_resume(self) -> None:
        """A watch that begins after the revision of another reports the changes since."""
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
        """A watch of several ranges reports their changes, and no others."""
        watching = self.watch(
            self.client, self.start, (b"x0", b"xz"), (b"params", b""), (b"hbtd/", b"hbtd0")
        )
        for key in (b"x00", b"xz", b"x", b"params", b"params2", b"hbtd/a", b"hbtd0"):
            await self.client.put(key, key)
        await until(lambda: len(watching.events) == 3)
        self.assertEqual(sorted(watching.keys), [b"hbtd/a", b"params", b"x00"])
        # Nothing is known of the range without later changes.
        self.assertEqual(watching.watch.revision, self.start)
        await self.client.txn((), [Put(k, b"") for k in (b"x00", b"params", b"hbtd/a")])
        await until(lambda: len(watching.events) == 6)
        self.assertEqual(watching.watch.revision, self.start + 7)

    async def test_transaction(self) -> None:
        """The changes of one transaction have one revision, and are reported together."""
        watching = self.watch(self.client, self.start)
        result = await self.client.txn(
            (), [Put(b"%03d" % number, b"") for number in range(MAX_OPERATIONS)]
        )
        await self.client.txn((), [Delete(*EVERYTHING)])
        await until(lambda: len(watching.events) == 256)
        self.assertEqual({event.mod_revision for event in watching.events[:128]}, {result.revision})
        self.assertEqual([len(events) for events, _ in watching.calls], [128, 128])

    async def test_catching_up(self) -> None:
        """Of many past changes each is reported once, and no revision is reported too early."""
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
        # etcd has split revisions; such a one is complete only with its last part.
        self.assertTrue(any(told < events[-1].mod_revision for events, told in watching.calls))
        for number, (_, told) in enumerate(watching.calls):
            later = [event for events, _ in watching.calls[number + 1 :] for event in events]
            self.assertTrue(all(event.mod_revision > told for event in later))
        self.assertEqual(watching.watch.revision, watching.events[-1].mod_revision)

    async def test_compacted(self) -> None:
        """A watch of compacted revisions fails with the oldest revision that etcd still has."""
        await self.client.put(b"key", b"1")
        now = await self.client.put(b"key", b"2")
        await self.client.compact(now)
        with self.assertRaises(Compacted) as raised:
            await self.watch(self.client, self.start - 1).ended
        self.assertEqual(raised.exception.compact_revision, now)
        watching = self.watch(self.client, now)
        await until(lambda: watching.events)

    async def test_compacted_meanwhile(self) -> None:
        """A watch that is current is not affected by compaction."""
        watching = self.watch(self.client, self.start)
        now = await self.client.put(b"key", b"1")
        await until(lambda: watching.events)
        await self.client.compact(now)
        await self.client.put(b"key", b"2")
        await until(lambda: len(watching.events) == 2)

    async def test_refused(self) -> None:
        """A range that ends before it begins is refused."""
        with self.assertRaises(EtcdRefused) as raised:
            await self.watch(self.client, self.start, (b"b", b"a")).ended
        self.assertIn("empty", str(raised.exception))
        for start, ranges in ((0, [EVERYTHING]), (1, [])):
            with self.assertRaises(ValueError):
                self.client.watch(ranges, start, lambda events, revision: None, silence=1)

    async def test_callback_raises(self) -> None:
        """An exception in the callback ends the watch, which fails with it."""

        def fail(events: list[Event], revision: int) -> None:
            raise ZeroDivisionError

        watch = self.client.watch([EVERYTHING], self.start, fail, silence=20)
        await self.client.put(b"key", b"")
        with self.assertRaises(ZeroDivisionError):
            await watch.ended

    async def test_cancelled_by_callback(self) -> None:
        """A watch that is cancelled reports nothing more, even of what was received."""
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
        """A watch that is silent for too long is broken; every message counts against that."""
        clock = Clock()
        client = self.connect(self.address, clock=clock)
        watching = self.watch(client, self.start, silence=5)
        for number in range(3):
            await self.client.put(b"key", b"")
            await until(lambda n=number: len(watching.events) == n + 1)  # type: ignore[misc]  # not inferred
            clock.advance(4.9)
            self.assertNoResult(watching.ended)
        clock.advance(0.2)
        error = await self.unavailable(watching.ended)
        self.assertTrue(error.timed_out)
        self.assertEqual(str(error), f"{self.address} sends nothing for 5 s")
