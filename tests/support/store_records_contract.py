"""The contract of all stores about records; `store_contract.py` says how to use it."""

from twisted.internet.defer import gatherResults

from hbtd.tracker.records import Record
from tests.support.store_contract import (
    DIED,
    RESTARTED,
    STARTED,
    WARNED,
    StoreFixture,
    judgement,
    record,
)


class RecordsContract(StoreFixture):
    """The tests of records."""

    async def test_no_records(self):
        """A new store has no records, and empty calls add none."""
        store = await self.opened()
        await self.assertRecords(store, [])
        await store.checkpoint([])
        await store.commit([], [])
        await self.assertRecords(store, [])

    async def test_checkpoint(self):
        """Records are kept unchanged, and are no judgements."""
        store = await self.opened()
        kept = [record("x1", 0.0), record("x2", 12.25, "then", "poor", True), record("x3", 1e-3)]
        await store.checkpoint(kept)
        await self.assertRecords(store, kept)
        await self.assertKept(store, [], [])
        for each in await store.records():
            self.assertIsInstance(each, Record)
            self.assertIsInstance(each.age, float)
            self.assertIsInstance(each.warned, bool | int)

    async def test_latest_record(self):
        """A record replaces the one before it of its component, whichever is older."""
        store = await self.opened()
        await store.checkpoint([record("x1", 5.0), record("x2", 5.0)])
        for age, timestamp, status, warned in ((0.5, "a", "", True), (29.0, "b", "bad", False)):
            await store.checkpoint([record("x1", age, timestamp, status, warned)])
            await self.assertRecords(
                store, [record("x1", age, timestamp, status, warned), record("x2", 5.0)]
            )

    async def test_latest_record_at_once(self):
        """Of several records of a component in one call the last one is kept."""
        store = await self.opened()
        await store.checkpoint([record("x1", 5.0), record("x2", 4.0), record("x1", 3.0)])
        await self.assertRecords(store, [record("x1", 3.0), record("x2", 4.0)])
        await store.commit([], [record("x2", 2.0), record("x2", 1.0)])
        await self.assertRecords(store, [record("x1", 3.0), record("x2", 1.0)])

    async def test_pages_of_records(self):
        """Records can be read page by page, in the order of their names."""
        store = await self.opened()
        names = [
            "d0w1",
            "x1000c0s0b0n0",
            "x1000c0s0b0n1",
            "x1000c0s10b0n0",
            "x1000c0s2b0n0",
            "x9c0s0b0n0",
        ]
        await store.checkpoint([record(name, 5.0) for name in reversed(names)])
        found, after = [], ""
        while page := await store.records(after, 2):
            self.assertLessEqual(len(page), 2)
            after = page[-1].component
            found += page
        self.assertEqual([each.component for each in found], names)
        self.assertEqual([each.component for each in await store.records("x1000c0s1")], names[3:])

    async def test_commit_with_records(self):
        """A commit keeps both judgements and records."""
        store = await self.opened()
        await store.checkpoint([record("x1", 9.0), record("x4", 1.0)])
        judgements = [judgement("x1", WARNED), judgement("x2", STARTED), judgement("x3", RESTARTED)]
        await store.commit(judgements, [record("x1", 10.0, warned=True), record("x2", 0.1)])
        await self.assertKept(store, judgements, judgements)
        await self.assertRecords(
            store, [record("x1", 10.0, warned=True), record("x2", 0.1), record("x4", 1.0)]
        )

    async def test_died(self):
        """The record of a component that died is dropped; other judgements leave records alone."""
        store = await self.opened()
        await store.checkpoint([record(f"x{i}") for i in range(5)])
        await store.commit(
            [
                judgement("x1", STARTED),
                judgement("x2", WARNED),
                judgement("x3", RESTARTED),
                judgement("x4", DIED),
                judgement("x5", DIED),
            ]
        )
        await self.assertRecords(store, [record(f"x{i}") for i in range(4)])

    async def test_died_and_started(self):
        """A component that dies and starts in one commit has the record of that commit."""
        store = await self.opened()
        await store.checkpoint([record("x1", 20.0), record("x2", 20.0)])
        await store.commit(
            [judgement("x1", DIED), judgement("x1", STARTED), judgement("x2", DIED)],
            [record("x1", 0.2)],
        )
        await self.assertRecords(store, [record("x1", 0.2)])

    async def test_delivered_leaves_records(self):
        """Marking judgements as delivered leaves records alone."""
        store = await self.opened()
        both = [judgement("x1", STARTED), judgement("x2", WARNED)]
        await store.commit(both, [record("x1"), record("x2", warned=True)])
        await store.delivered(both)
        await self.assertRecords(store, [record("x1"), record("x2", warned=True)])

    async def test_forget_drops_records(self):
        """Forgetting a component drops its record; it may get a new one."""
        store = await self.opened()
        await store.commit([judgement("x1")], [record("x1", warned=True), record("x2")])
        for name in ("x1", "x1", "x99"):
            await store.forget(name)
        await self.assertRecords(store, [record("x2")])
        await self.assertKept(store, [], [])
        await store.checkpoint([record("x1", 0.0)])
        await self.assertRecords(store, [record("x1", 0.0), record("x2")])

    async def test_in_no_cabinet(self):
        """Components outside of cabinets have records like all others."""
        store = await self.opened()
        records = [record(name) for name in ("all", "all_svc", "d1w2", "p3.4", "s0", "sms5")]
        await store.checkpoint([*records, record("x1d1")])
        await self.assertRecords(store, [*records, record("x1d1")])
        await store.clear_records()
        await self.assertRecords(store, [])

    async def test_clear_records(self):
        """Clearing drops all records, and keeps judgements, delivered or not."""
        store = await self.opened()
        await store.commit(
            [judgement("x1", DIED), judgement("x2", WARNED)],
            [record("x2", warned=True), record("x3")],
        )
        await store.delivered([judgement("x1", DIED)])
        for _ in range(2):
            await store.clear_records()
            await self.assertRecords(store, [])
            await self.assertKept(
                store,
                [judgement("x2", WARNED)],
                [judgement("x1", DIED), judgement("x2", WARNED)],
            )
        await store.checkpoint([record("x3", 2.0)])
        await self.assertRecords(store, [record("x3", 2.0)])

    async def test_reopen_records(self):
        """A store that is opened again has its records, with the ages that they had."""
        first = self.make_store()
        await first.open()
        await first.commit([judgement("x1", WARNED)], [record("x1", 12.5, warned=True)])
        await first.checkpoint([record("x2", 0.125), record("x3", 1e6)])
        await first.forget("x3")
        await first.close()
        kept = [record("x1", 12.5, warned=True), record("x2", 0.125)]
        for _ in range(3):
            store = self.make_store()
            await store.open()
            await self.assertRecords(store, kept)
            await store.close()
        last = await self.opened()
        await last.checkpoint([record("x2", 0.25)])
        await self.assertRecords(last, [kept[0], record("x2", 0.25)])

    async def test_records_one_after_the_other(self):
        """Calls that don't wait for each other are carried out in their order."""
        store = await self.opened()
        await gatherResults(
            [
                store.checkpoint([record("x1", 1.0), record("x2", 1.0), record("x3", 1.0)]),
                store.commit([judgement("x1", DIED)]),
                store.checkpoint([record("x2", 2.0)]),
                store.forget("x3"),
                store.commit([judgement("x1", STARTED)], [record("x1", 3.0)]),
            ]
        )
        await self.assertRecords(store, [record("x1", 3.0), record("x2", 2.0)])

    async def test_any_text(self):
        """Timestamp and status are kept to the letter."""
        store = await self.opened()
        texts = ["", " ", "'", '"', "\\", "%s", "{}", "NULL", "007", "1e3", "\n", "\0", "a\0b"]
        texts += ["é日\U0001f600", "e\u0301", "\u202e", "x" * 60_000]
        kept = [record(f"x{i}", 1.0, text, text[::-1]) for i, text in enumerate(texts)]
        await store.checkpoint(kept)
        await self.assertRecords(store, kept)

    async def test_many_records(self):
        """Thousands of records are kept in one call, and dropped by deaths in another."""
        store = await self.opened()
        everybody = [record(f"x{i}", i / 100, f"t{i}") for i in range(3000)]
        await store.checkpoint(everybody)
        await self.assertRecords(store, everybody)
        await store.commit([judgement(f"x{i}", DIED) for i in range(1, 3000)])
        await self.assertRecords(store, everybody[:1])
