"""The log of transitions in etcd: what is written, and how it is read and trimmed."""

import random
from collections.abc import Sequence
from typing import Any

import orjson
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from hbtd.etcd.client import PAGE, EtcdClient
from hbtd.etcd.errors import EtcdUnavailable
from hbtd.etcd.messages import Compare, Operation, Page, Put, TxnResult
from hbtd.replicas.compaction import OURS, gaps
from hbtd.store.etcd import EtcdStore
from hbtd.store.etcd_commits import Numbering
from hbtd.store.etcd_format import JUDGEMENT, LOCK, PRESENCE, InvalidValue
from hbtd.store.etcd_log_format import (
    CURSOR,
    LOG,
    LOG_END,
    as_entry,
    entry_value,
    log_key,
    log_value,
    read_cursor,
    read_last_number,
    read_stored,
)
from hbtd.store.etcd_mirror import EtcdMirror
from hbtd.store.etcd_trimming import EtcdTrimming
from hbtd.store.interface import LogEntry, NotLeading, StoreUnusable
from hbtd.tracker.transitions import Judgement, Phase
from tests.support.etcd_running import EtcdTestCase
from tests.support.hsm_memory import lines
from tests.support.store_contract import DIED, RESTARTED, STARTED, WARNED, judgement, record

WALL = 1_790_000_000.0
JUDGE = "nid1:28500"
EVER = 10**15


class FormatTests(SynchronousTestCase):
    """Keys and values of the log."""

    ENTRY = LogEntry(
        41,
        Judgement("x1", DIED, "2026-03-04T05:06:07.891Z", Phase.WARNED, "silent for 30 s", 17.25),
        JUDGE,
    )

    def test_entry(self) -> None:
        """An entry is read back with all of its fields, from the bytes that are documented."""
        value = log_value([entry_value(self.ENTRY)])
        self.assertEqual(
            value,
            b'[[41,"x1","DIED","warned",17.25,"2026-03-04T05:06:07.891Z","silent for 30 s",'
            b'"nid1:28500"]]',
        )
        (stored,) = read_stored(log_key(41), value)
        read = as_entry(stored)
        self.assertEqual(read, self.ENTRY)
        self.assertEqual(
            (read.judgement.before, read.judgement.why, read.judgement.at),
            (Phase.WARNED, "silent for 30 s", 17.25),
        )

    def test_keys(self) -> None:
        """The keys sort as their numbers do, within their range and that of hbtd's keys."""
        numbers = [1, 9, 10, 4096, 10**15, 2**53 - 1]
        keys = [log_key(number) for number in numbers]
        self.assertEqual(keys[0], b"hbtd/log/0000000000000001")
        self.assertEqual(sorted(keys), keys)
        self.assertTrue(keys[0] > LOG and keys[-1] < LOG_END)
        self.assertEqual([read_last_number(key, b"") for key in keys], numbers)
        for start, end in gaps(OURS):
            for key in (*keys, CURSOR + b"kafka"):
                self.assertFalse(start <= key and (key < end or end == b"\0"))

    def test_later_fields(self) -> None:
        """Fields that a later release adds to an entry are passed over, and kept."""
        value = log_value([entry_value(self.ENTRY)[:-1] + b',"more"]'])
        (stored,) = read_stored(log_key(41), value)
        self.assertEqual(as_entry(stored), self.ENTRY)
        self.assertEqual(stored.fields[-1], "more")

    def test_invalid(self) -> None:
        """Keys and values of any other form are invalid."""
        good = orjson.loads(entry_value(self.ENTRY))
        for place, wrong in (
            (0, 42), (0, 0), (0, True), (0, "1"), (1, 7), (2, "GONE"), (2, []), (3, "GONE"),
            (3, []), (4, "17"), (4, None), (5, None), (6, 1), (7, {}),
        ):  # fmt: skip
            fields = [*good[:place], wrong, *good[place + 1 :]]
            with self.assertRaises(InvalidValue, msg=fields):
                read_stored(log_key(41), orjson.dumps([fields]))
        for value in (b"", b"7", b"[7]", b'["nonsense"]', b"[[]]", b"null"):
            with self.assertRaises(InvalidValue, msg=value):
                read_stored(log_key(41), value)
        for digits in (b"", b"1", b"x" * 16, b"9" * 16, b"0" * 17):
            with self.assertRaises(InvalidValue, msg=digits):
                read_stored(LOG + digits, b"[]")
        for value in (b"", b"-1", b"1.0", b"9" * 16, b"1" * 400, "٣".encode()):
            with self.assertRaises(InvalidValue, msg=value):
                read_cursor(b"", value)


class NumberingTests(SynchronousTestCase):
    """The numbers of judgements."""

    def setUp(self) -> None:
        """Make a numbering."""
        self.mirror = EtcdMirror(lambda: WALL)
        self.numbering = Numbering(self.mirror)
        self.some = [judgement("x1", STARTED), judgement("x2", STARTED), judgement("x3", STARTED)]

    def test_rising(self) -> None:
        """Each commit has numbers above those that any replica has written."""
        self.assertEqual(self.numbering.assign(self.some, LOCK), [1, 2, 3])
        self.numbering.committed()
        self.mirror.apply(log_key(70), b"[]", 5)
        self.assertEqual(self.numbering.assign(self.some, LOCK), [71, 72, 73])
        self.numbering.committed()
        self.mirror.apply(CURSOR + b"kafka", b"90", 6)
        self.mirror.apply(log_key(70), None, 7)
        self.mirror.clear()
        self.assertEqual(self.numbering.assign(self.some, LOCK), [91, 92, 93])

    def test_tried_again(self) -> None:
        """What is tried again has its numbers again; what is new, and what is equal, has others."""
        first = self.numbering.assign(self.some, LOCK)
        self.mirror.apply(log_key(2), b"[]", 5)
        self.assertEqual(self.numbering.assign(self.some, LOCK), first)
        equal = judgement("x1", STARTED)
        self.assertEqual(self.numbering.assign([*self.some[1:], equal], LOCK), [2, 3, 4])
        self.assertEqual(self.numbering.assign([equal, self.some[1]], LOCK), [4, 5])

    def test_another_lock(self) -> None:
        """Under another lock the numbers are new: another replica may have led meanwhile."""
        self.numbering.assign(self.some, LOCK + b"/1")
        self.assertEqual(self.numbering.assign(self.some, LOCK + b"/2"), [4, 5, 6])


class Unreliable(EtcdClient):
    """A client whose transactions may fail, with or without effect."""

    def __init__(self, client: EtcdClient) -> None:
        self.__dict__.update(client.__dict__)
        self.faults: list[str] = []
        """What happens to the next transactions: "", "refuse" or "carry out and fail"."""
        self.limits: list[int] = []
        """How many keys were asked for at most, in each call."""

    def range(
        self, start: bytes, end: bytes, *, limit: int = PAGE, revision: int = 0
    ) -> "Deferred[Page]":
        """Note the limit, and read."""
        self.limits.append(limit)
        return super().range(start, end, limit=limit, revision=revision)

    def txn(
        self, compares: Sequence[Compare], operations: Sequence[Operation]
    ) -> "Deferred[TxnResult]":
        """Carry out a transaction, or fail."""
        return Deferred.fromCoroutine(self._txn(compares, operations))

    async def _txn(self, compares: Sequence[Compare], operations: Sequence[Operation]) -> TxnResult:
        fault = self.faults.pop(0) if self.faults else ""
        result = None if fault == "refuse" else await super().txn(compares, operations)
        if result is not None and not fault:
            return result
        raise EtcdUnavailable("no answer", timed_out=True)


class LogTestCase(EtcdTestCase):
    """The store of a leader on an empty etcd."""

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        """Open the store."""
        await super().setUp()
        await self.client.put(LOCK + b"/1", b"")
        self.unreliable = Unreliable(self.client)
        self.store = await self.leader(self.unreliable)

    async def leader(self, client: EtcdClient) -> EtcdStore:
        """Open the store of a replica that leads."""
        store = EtcdStore(client, lambda: WALL, judge=JUDGE)
        await store.open()
        store.writer.lock_gained(LOCK + b"/1")
        return store

    async def logged(self, after: int = 0, most: int = EVER) -> list[tuple[int, str]]:
        """Return the numbers and components of the log's entries."""
        entries = await self.store.log(after, most)
        return [(number, judgement.component) for number, judgement, _ in entries]

    async def transactions(self) -> list[tuple[set[str], set[str]]]:
        """Return, for each transaction, whose judgements it has logged, and whose it has stored.

        Only those of its changes that were not replaced since.
        """
        found: dict[int, tuple[set[str], set[str]]] = {}
        for item in (await self.client.range(b"hbtd/", b"hbtd0")).items:
            logged, stored = found.setdefault(item.mod_revision, (set(), set()))
            if item.key.startswith(LOG):
                logged.update(each.component for each in read_stored(item.key, item.value))
            elif item.key.startswith(JUDGEMENT):
                stored.add(item.key[len(JUDGEMENT) :].decode())
        return list(found.values())


class LostCursorTests(LogTestCase):
    """The cursors of an etcd that has lost its data."""

    async def test_restored(self) -> None:
        """They are written again, except one that another replica has written meanwhile."""
        for reader in ("a", "b", "c"):
            await self.store.move_cursor(reader, 5)
        await self.client.delete(CURSOR, CURSOR[:-1] + b"0")
        await self.client.put(CURSOR + b"a", b"4")
        self.store.mirror.lose({CURSOR + b"a"})
        await self.client.put(CURSOR + b"b", b"3")  # nobody has heard of it yet
        await self.store.restore_cursors()
        found = [await self.store.cursor(reader) for reader in ("a", "b", "c")]
        self.assertEqual(found, [4, 3, 5])
        await self.store.move_cursor("c", 6)
        await self.store.restore_cursors()
        self.assertEqual(await self.store.cursor("c"), 6)

    async def test_in_an_outage(self) -> None:
        """They are written when etcd works again."""
        await self.store.move_cursor("a", 5)
        await self.client.delete(CURSOR + b"a")
        self.store.mirror.lose(())
        self.unreliable.faults = ["refuse"]
        await self.assertFailure(
            Deferred.fromCoroutine(self.store.restore_cursors()), StoreUnusable
        )
        await self.store.restore_cursors()
        self.assertEqual(await self.store.cursor("a"), 5)


class CommitTests(LogTestCase):
    """Entries are written with the judgements."""

    async def test_one_key(self) -> None:
        """A commit logs all of its judgements in order, also those of one component, in one key."""
        made = [
            Judgement("x1", STARTED, "t", Phase.DEAD, "first heartbeat", 12.5),
            judgement("x2", STARTED),
            judgement("x1", WARNED),
        ]
        self.assertIs(await self.store.commit(made, [record("x1", warned=True)]), True)
        self.assertEqual(await self.store.judgements(), made[1:])
        entries = await self.store.log(0, 10)
        self.assertEqual(list(entries), [LogEntry(n + 1, made[n], JUDGE) for n in range(3)])
        self.assertEqual(entries[0].judgement.before, Phase.DEAD)
        self.assertEqual((entries[0].judgement.why, entries[0].judgement.at), (made[0].why, 12.5))
        self.assertEqual(self.store.last_number(), 3)
        page = await self.client.range(LOG, LOG_END)
        self.assertEqual([each.key for each in page.items], [log_key(3)])

    async def test_many(self) -> None:
        """Each transaction of a large commit logs the judgements that it stores, and no others."""
        made = [judgement(f"x{n}", STARTED) for n in range(500)]
        await self.store.commit(made, [record(f"x{n}") for n in range(500)])
        self.assertEqual(await self.logged(), [(n + 1, f"x{n}") for n in range(500)])
        transactions = await self.transactions()
        self.assertGreater(len(transactions), 7)
        for logged, stored in transactions:
            self.assertEqual(logged, stored)
        self.assertEqual(await self.logged(490, 5), [(n + 1, f"x{n}") for n in range(490, 495)])

    async def test_cut_off(self) -> None:
        """When the process ends between two transactions, each judgement is logged and stored.

        A component whose judgements are in several transactions has the record that its last
        stored judgement needs.
        """
        crowd = [judgement(f"x{n}", STARTED) for n in range(200)]
        made = [judgement("x900", STARTED), judgement("x901", WARNED), judgement("x902", DIED)]
        made += [judgement("x903", STARTED), *crowd, judgement("x900", WARNED)]
        made += [judgement("x901", DIED), judgement("x902", STARTED), judgement("x903", DIED)]
        records = [record("x900", warned=True), record("x902")]
        self.unreliable.faults = ["", "refuse"]
        with self.assertRaises(StoreUnusable):
            await self.store.commit(made, records)
        (logged, stored), *_ = await self.transactions()
        self.assertEqual(logged, stored)
        self.assertTrue({"x900", "x901", "x902", "x903"} < stored and len(stored) < 204)
        other = await self.leader(self.client)
        warned = {each.component: each.warned for each in await other.records()}
        self.assertEqual(warned, {"x900": False, "x901": True, "x903": False})
        await self.store.commit(made, records)
        await other.open()
        kept = {each.component: each.transition for each in await other.judgements()}
        self.assertEqual([kept[f"x90{n}"] for n in range(4)], [WARNED, DIED, STARTED, DIED])
        warned = {each.component: each.warned for each in await other.records()}
        self.assertEqual(warned, {"x900": True, "x902": False})

    async def test_forgotten_meanwhile(self) -> None:
        """A component that is forgotten after its judgement is left without a record."""
        crowd = [judgement(f"x{n}", STARTED) for n in range(200)]
        await self.store.commit([judgement("x900", STARTED), *crowd, judgement("x900", WARNED)])
        self.assertEqual(await self.store.records(), [])

    async def test_retries(self) -> None:
        """A commit is logged once, although nobody knew which of its transactions took effect."""
        made = [judgement(f"x{n}", STARTED) for n in range(200)]
        for faults in (["carry out and fail"], ["", "refuse"], ["", "carry out and fail"]):
            self.unreliable.faults = faults
            with self.assertRaises(StoreUnusable):
                await self.store.commit(made)
            # The watch reports it meanwhile.
            for item in (await self.client.range(LOG, LOG_END)).items:
                self.store.mirror.apply(item.key, item.value, item.mod_revision)
        await self.store.commit(made)
        self.assertEqual(await self.logged(), [(n + 1, f"x{n}") for n in range(200)])

    async def test_retries_of_less(self) -> None:
        """An entry is read once if a judgement before it was withdrawn between two attempts."""
        made = [judgement(f"x{n}", DIED) for n in range(200)]
        self.unreliable.faults = ["", "carry out and fail"]
        with self.assertRaises(StoreUnusable):
            await self.store.commit(made)
        await self.store.commit(made[:5] + made[6:])
        found = await self.logged()
        self.assertEqual(found, [(n + 1, f"x{n}") for n in range(200)])
        for after in range(0, 200, 9):
            self.assertEqual(await self.logged(after, 7), found[after : after + 7])

    async def test_given_up(self) -> None:
        """No entry takes the number of one that etcd may have stored."""
        self.unreliable.faults = ["carry out and fail"]
        with self.assertRaises(StoreUnusable):
            await self.store.commit([judgement("x1", DIED)])
        # A reader that begins now has yet to read it, if it is there.
        self.assertEqual(self.store.last_number(), 0)
        await self.store.commit([judgement("x2", DIED), judgement("x3", DIED)])
        self.assertEqual(self.store.last_number(), 3)
        self.assertEqual(await self.logged(), [(1, "x1"), (2, "x2"), (3, "x3")])

    async def test_fenced(self) -> None:
        """Without the key of the lock nothing is logged, trimmed or moved."""
        await self.store.commit([judgement("x1", WARNED), judgement("x1", DIED)])
        await self.client.delete(LOCK + b"/1")
        before = (await self.client.range(b"hbtd/", b"hbtd0")).items
        for attempt in (
            lambda: self.store.commit([judgement("x2", DIED)]),
            lambda: self.store.move_cursor("kafka", 1),
            lambda: self.store.trim(EVER, 0, EVER),
        ):
            with self.assertRaises(NotLeading):
                await attempt()
        self.assertEqual((await self.client.range(b"hbtd/", b"hbtd0")).items, before)
        self.store.writer.lock_lost()
        self.assertIs(await self.store.commit([judgement("x2", DIED)]), False)
        for attempt in (
            lambda: self.store.move_cursor("kafka", 1),
            lambda: self.store.trim(EVER, 0, EVER),
        ):
            with self.assertRaises(NotLeading):
                await attempt()
        self.assertEqual(await self.logged(), [(1, "x1"), (2, "x1")])
        self.assertTrue(self.store.usable())

    async def test_next_leader(self) -> None:
        """The next leader's numbers are higher, also if judgements and most entries are gone."""
        await self.store.commit([judgement("x1", STARTED), judgement("x2", STARTED)])
        await self.store.delivered([judgement("x1", STARTED), judgement("x2", STARTED)])
        other = await self.leader(self.client)
        self.assertEqual(other.last_number(), 2)
        await other.commit([judgement("x3", STARTED)])
        self.assertEqual(await self.logged(), [(1, "x1"), (2, "x2"), (3, "x3")])
        await self.client.delete(LOG, LOG_END)
        await self.client.put(CURSOR + b"kafka", b"77")
        other = await self.leader(self.client)
        self.assertEqual(other.last_number(), 77)

    async def test_limit(self) -> None:
        """A transaction that logs judgements has no more operations than etcd allows."""
        self.store.writer.set_presence(lambda: Put(PRESENCE + b"5", b"me"))
        await self.store.commit([judgement(f"x{n}", STARTED) for n in range(300)])
        self.assertEqual(len(await self.logged()), 300)

    async def test_long_timestamps(self) -> None:
        """A key of the log has 16 KiB at most, so that a page of them is no large answer."""
        made = [judgement(f"x{n}", STARTED, "\u20ac" * 300) for n in range(120)]
        await self.store.commit(made)
        items = (await self.client.range(LOG, LOG_END)).items
        self.assertLessEqual(max(len(each.value) for each in items), 17 * 1024)
        self.assertEqual(len(await self.logged()), 120)


class ReaderTests(LogTestCase):
    """The log is read, by readers with cursors."""

    async def test_pages(self) -> None:
        """Any part of the log can be read, whatever the keys that its entries are in."""
        sizes = random.Random(1)
        total = 0
        while total < 700:
            size = sizes.choice((1, 1, 2, 150))
            await self.store.commit([judgement(f"x{total + n}", STARTED) for n in range(size)])
            total += size
        whole = [(n + 1, f"x{n}") for n in range(total)]
        self.unreliable.limits.clear()
        self.assertEqual(await self.logged(), whole)
        self.assertLess(self.unreliable.limits[0], 50)
        self.assertLessEqual(max(self.unreliable.limits), 500)
        for after, most in ((0, 1), (3, 500), (total - 2, 5), (total, 5), (EVER, 5), (17, 17)):
            self.assertEqual(await self.logged(after, most), whole[after : after + most])

    async def test_nonsense(self) -> None:
        """A key that has no entries is passed over, and counted."""
        await self.store.commit([judgement("x1", STARTED)])
        await self.client.put(log_key(1)[:-1] + b"x", b"[]")
        await self.client.put(log_key(9), b"nonsense")
        with capturedLogs() as events:
            self.assertEqual(await self.logged(), [(1, "x1")])
        self.assertEqual(self.store.mirror.skipped_count, 2)
        self.assertEqual(len(lines(events, "warn")), 2)
        self.assertEqual(await self.store.trim(EVER, 0, EVER), 0)

    async def test_cursor(self) -> None:
        """A cursor is as the leader moved it last; each reader has its own, at first none."""
        self.assertIsNone(await self.store.cursor("kafka"))
        await self.store.move_cursor("kafka", 7)
        await self.store.move_cursor("kafka", 8)
        other = await self.leader(self.client)
        self.assertEqual(await other.cursor("kafka"), 8)
        self.assertIsNone(await other.cursor("events"))
        await self.client.put(CURSOR + b"kafka", b"nonsense")
        self.assertIsNone(await other.cursor("kafka"))

    async def test_closed(self) -> None:
        """A store that is closed refuses to read the log."""
        await self.store.close()
        for attempt in (self.store.log(0, 1), self.store.cursor("kafka")):
            with self.assertRaises(StoreUnusable):
                await attempt


class TrimTests(LogTestCase):
    """The log is trimmed."""

    async def fill(self, text: str, at: float = 0.0) -> None:
        """Log a transition of each of these components, by commits that commas divide."""
        for part in text.split(","):
            await self.store.commit(
                [Judgement(f"x{name}", WARNED, "t", at=at) for name in part.split()]
            )

    async def left(self) -> list[int]:
        """Return the numbers of the entries that are left."""
        return [number for number, _ in await self.logged()]

    async def test_age(self) -> None:
        """Old entries go, except for the last one of each component."""
        await self.fill("1 2 1, 3 2", at=10.0)
        await self.fill("2, 4", at=20.0)
        self.assertEqual(await self.store.trim(10.0, EVER, EVER), 0)
        self.assertEqual(await self.store.trim(15.0, EVER, EVER), 3)
        self.assertEqual(await self.left(), [3, 4, 6, 7])
        await self.fill("1 3", at=20.0)
        self.assertEqual(await self.store.trim(15.0, EVER, EVER), 2)
        self.assertEqual(await self.left(), [6, 7, 8, 9])

    async def test_count(self) -> None:
        """The first entries go, but no more than are too many, and no component's last one."""
        await self.fill("1 2 2, 2 2, 2")
        self.assertEqual(await self.store.trim(-1.0, 6, EVER), 0)
        self.assertEqual(await self.store.trim(-1.0, 4, EVER), 2)
        self.assertEqual(await self.left(), [1, 4, 5, 6])
        self.assertEqual(await self.store.trim(-1.0, 0, EVER), 2)
        self.assertEqual(await self.left(), [1, 6])
        self.assertEqual(await self.store.trim(EVER, 0, EVER), 0)

    async def test_told(self) -> None:
        """What a reader has yet to tell stays, whatever its age."""
        await self.fill("1 1 1, 1, 1", at=1.0)
        self.assertEqual(await self.store.trim(EVER, 0, 0), 0)
        self.assertEqual(await self.store.trim(EVER, 0, 2), 2)
        self.assertEqual(await self.left(), [3, 4, 5])

    async def test_read_afterwards(self) -> None:
        """The rest of the log keeps its numbers and its fields, and is read from any number."""
        await self.fill("1 2 3 1 2, 4 1", at=1.0)
        before = {entry.number: entry for entry in await self.store.log(0, EVER)}
        await self.store.trim(EVER, 0, EVER)
        after = await self.store.log(0, EVER)
        self.assertEqual([entry.number for entry in after], [3, 5, 6, 7])
        self.assertEqual([before[entry.number] for entry in after], list(after))
        self.assertEqual(await self.logged(3, 2), [(5, "x2"), (6, "x4")])
        await self.fill("9")
        self.assertEqual(await self.logged(7), [(8, "x9")])

    async def test_turns(self) -> None:
        """Other calls have their turn while a log is trimmed."""
        await self.store.commit([judgement(f"x{n % 3}", WARNED) for n in range(9000)])
        done: list[str] = []
        trimming = self.store.trim(EVER, 0, EVER).addCallback(lambda _: done.append("trimmed"))
        for n in range(5):
            await self.store.checkpoint([record(f"x{n}")])
            done.append("written")
        await trimming
        self.assertEqual(done, [*["written"] * 5, "trimmed"])
        self.assertEqual(len(await self.left()), 3)

    async def test_model(self) -> None:
        """Whatever is logged and trimmed, exactly that is left which a simple model leaves."""
        chances = random.Random(14)
        kept: list[tuple[int, str, float]] = []
        for _ in range(60):
            at = chances.randrange(100) / 1.0
            names = [f"x{chances.randrange(12)}" for _ in range(chances.randrange(1, 9))]
            number = self.store.last_number()
            await self.store.commit([Judgement(name, WARNED, "t", at=at) for name in names])
            kept += [(number + n, name, at) for n, name in enumerate(names, 1)]
            if chances.randrange(3):
                continue
            before, most = chances.randrange(100), chances.randrange(len(kept) + 1)
            told = chances.randrange(number + 2)
            expected = trimmed(kept, before, most, told)
            gone = await self.store.trim(before, most, told)
            self.assertEqual(await self.left(), [number for number, _, _ in expected])
            self.assertEqual(gone, len(kept) - len(expected))
            kept = expected

    async def test_large(self) -> None:
        """A large log is trimmed in portions, down to its bounds or nearly, and never too far."""
        chances = random.Random(15)
        trimming = EtcdTrimming(
            self.store._log, self.store.mirror, self.store.writer, small=20, portion=80
        )
        kept: list[tuple[int, str, float]] = []
        for at in range(60):
            names = [f"x{min(chances.randrange(300), 30)}" for _ in range(20)]
            number = self.store.last_number()
            await self.store.commit([Judgement(name, WARNED, "t", at=at) for name in names])
            kept += [(number + n, name, at) for n, name in enumerate(names, 1)]
            before, most, told = (at - 30, 1000, number) if at < 45 else (-1.0, 150, number + 20)
            await trimming.trim(before, most, told)
            last = {name: number for number, name, _ in kept}
            left = set(await self.left())
            self.assertLessEqual(set(last.values()), left)
            must_stay = {number for number, _, _ in trimmed(kept, before, most, told)}
            self.assertLessEqual(must_stay, left)
            self.assertLess(len(left), len(must_stay) * 1.15 + 5)

    async def test_another_leader(self) -> None:
        """A replica that leads again counts anew: another one may have trimmed or written."""
        trimming = EtcdTrimming(
            self.store._log, self.store.mirror, self.store.writer, small=2, portion=40
        )
        await self.fill("1 " * 60)
        self.assertEqual(await trimming.trim(-1.0, 50, EVER), 10)
        await self.client.put(LOCK + b"/2", b"")
        self.store.writer.lock_gained(LOCK + b"/2")
        await self.client.delete(LOG, LOG_END)
        entries = [entry_value(LogEntry(n, judgement("x1"), "")) for n in (61, 62)]
        await self.client.put(log_key(62), log_value(entries))
        self.store.mirror.apply(log_key(62), log_value(entries), 5)
        self.assertEqual(await trimming.trim(-1.0, 40, EVER), 0)
        self.assertEqual(await self.left(), [61, 62])
        self.assertEqual(await trimming.trim(-1.0, 1, EVER), 1)

    async def test_trouble(self) -> None:
        """After etcd has failed in between, trimming goes on."""
        await self.store.commit([judgement(f"x{n % 3}", WARNED) for n in range(9000)])
        self.unreliable.faults = ["", "refuse"]
        with self.assertRaises(StoreUnusable):
            await self.store.trim(EVER, 0, EVER)
        self.assertEqual(await self.store.trim(EVER, 0, EVER) > 0, True)
        self.assertEqual(await self.left(), [8998, 8999, 9000])

    async def test_cancelled(self) -> None:
        """Trimming that is cancelled, in whatever call, keeps nothing from being done later."""
        await self.store.commit([judgement(f"x{n % 3}", WARNED) for n in range(9000)])
        outcomes: set[Any] = set()
        for call in range(9):
            trimming: Deferred[Any]
            trimming = self.store.trim(EVER, 0, EVER)
            for _ in range(call):
                await self.store.flush()
            trimming.addErrback(lambda failure: failure.trap(CancelledError))
            trimming.cancel()
            outcomes.add(await trimming)
            await self.store.commit([judgement("x7", RESTARTED)])
            self.assertTrue(self.store.usable())
        self.assertIn(CancelledError, outcomes)
        await self.store.trim(EVER, 0, EVER)
        self.assertEqual(await self.left(), [8998, 8999, 9000, 9009])

    async def test_at_once(self) -> None:
        """Transitions that are logged while the log is trimmed stay."""
        await self.store.commit([judgement(f"x{n % 3}", WARNED) for n in range(3000)])
        made: list[Deferred[Any]]
        made = [self.store.commit([judgement(f"x{n}", RESTARTED)]) for n in range(5)]
        trimming = self.store.trim(EVER, 0, EVER)
        made += [self.store.commit([judgement(f"x{n}", RESTARTED)]) for n in range(5, 9)]
        await gatherResults([*made, trimming])
        self.assertEqual((await self.left())[-9:], list(range(3001, 3010)))


def trimmed(
    kept: list[tuple[int, str, float]], before: float, most: int, told: int
) -> list[tuple[int, str, float]]:
    """Return what a trimmed log has of these entries: number, component and time each."""
    last = {name: number for number, name, _ in kept}

    def may_go(number: int, name: str) -> bool:
        return number <= told and last[name] != number

    left = [each for each in kept if not (each[2] < before and may_go(each[0], each[1]))]
    first = [each for each in left if may_go(each[0], each[1])]
    surplus = first[: max(len(left) - most, 0)]
    return [each for each in left if each not in surplus]
