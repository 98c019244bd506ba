"""The contract of all stores, as tests that each kind of store has to pass.

The test case of a store derives from `StoreContract`, from `RecordsContract` in
`store_records_contract.py`, from `LogContract` in `store_log_contract.py`, and from trial's
`TestCase` last: the contract itself is no test case that trial would run. It overrides
`make_store`.
"""

import random
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import gatherResults
from zope.interface.verify import verifyObject

from hbtd.store.interface import IStore
from hbtd.tracker.records import Record
from hbtd.tracker.transitions import Judgement, Transition

# The contract is a mixin, but its types are checked as those of a test case.
if TYPE_CHECKING:
    from twisted.trial.unittest import TestCase as _Base
else:
    _Base = object

STARTED, WARNED, RESTARTED, DIED = Transition


def judgement(component: str, transition: Transition = WARNED, timestamp: str = "t") -> Judgement:
    """Make a judgement."""
    return Judgement(component, transition, timestamp)


def record(
    component: str,
    age: float = 1.0,
    timestamp: str = "t",
    status: str = "OK",
    warned: bool = False,
) -> Record:
    """Make a record."""
    return Record(component, age, timestamp, status, warned)


class Model:
    """A model of what a store keeps."""

    def __init__(self) -> None:
        self.kept: list[tuple[Judgement, bool]] = []
        self.records: dict[str, Record] = {}

    def commit(self, judgements: list[Judgement], records: list[Record]) -> None:
        """Keep judgements as not delivered, and records; drop those of components that died."""
        for new in judgements:
            self.kept = [(old, done) for old, done in self.kept if old.component != new.component]
            self.kept.append((new, False))
            if new.transition is DIED:
                self.records.pop(new.component, None)
        self.checkpoint(records)

    def checkpoint(self, records: list[Record]) -> None:
        """Keep records."""
        self.records.update({new.component: new for new in records})

    def delivered(self, judgements: list[Judgement]) -> None:
        """Mark judgements that are still the latest; drop delivered ones that are no alarms."""
        marked = [(old, done or old in judgements) for old, done in self.kept]
        self.kept = [(old, done) for old, done in marked if not done or old.transition.alarming]

    def forget(self, xname: str) -> None:
        """Drop a component."""
        self.kept = [(old, done) for old, done in self.kept if old.component != xname]
        self.records.pop(xname, None)


class StoreFixture(_Base):
    """What the tests stand on; `make_store` says which store they are about.

    No observed time passes unless a test says so.
    """

    grain = 1e-6
    """The error in seconds that a stored age may have."""

    def make_store(self) -> Any:
        """Return a new store that is not open; all stores of one test have the same data."""
        raise NotImplementedError

    async def opened(self) -> Any:
        """Return an open store, which is closed when the test ends."""
        store = self.make_store()
        await store.open()
        self.addCleanup(store.close)
        return store

    async def assertKept(self, store: Any, undelivered: Any, standing: Any) -> None:
        """Check all judgements that a store keeps, and their order."""
        self.assertEqual(list(await store.undelivered()), list(undelivered))
        self.assertEqual(list(await store.judgements()), list(standing))

    async def assertRecords(self, store: Any, expected: Any) -> None:
        """Check all records that a store keeps, in any order, with their ages up to `grain`."""
        found = {each.component: each for each in await store.records()}
        wanted = {each.component: each for each in expected}
        self.assertEqual(
            {name: each._replace(age=0.0) for name, each in found.items()},
            {name: each._replace(age=0.0) for name, each in wanted.items()},
        )
        for name, each in wanted.items():
            self.assertApproximates(found[name].age, each.age, self.grain)


class StoreContract(StoreFixture):
    """The tests of judgements, and of a store as a whole."""

    def test_interface(self):
        """A store provides `IStore`."""
        self.assertTrue(verifyObject(IStore, self.make_store()))

    async def test_opened(self):
        """A store that is open can be used, is empty at first, and says that it is healthy."""
        store = self.make_store()
        self.assertFalse(store.usable())
        self.assertNotEqual(store.health(), "")
        store = await self.opened()
        self.assertTrue(store.usable())
        self.assertEqual(store.health(), "Initialization key present: HBTD_OK")
        await self.assertKept(store, [], [])

    async def test_closed(self):
        """A store that is closed can't be used, and says so."""
        store = self.make_store()
        await store.open()
        await store.close()
        self.assertFalse(store.usable())
        self.assertNotIn(store.health(), ("", "Initialization key present: HBTD_OK"))

    async def test_commit(self):
        """Judgements of every kind are kept unchanged, and as not delivered."""
        store = await self.opened()
        all_kinds = [judgement(f"x{i}", kind, f"t{i}") for i, kind in enumerate(Transition)]
        await store.commit(all_kinds)
        await self.assertKept(store, all_kinds, all_kinds)
        for kept in await store.judgements():
            self.assertIsInstance(kept, Judgement)
            self.assertIsInstance(kept.transition, Transition)

    async def test_nothing(self):
        """Empty calls change nothing."""
        store = await self.opened()
        await store.commit([judgement("x1")])
        await store.commit([])
        await store.delivered([])
        await self.assertKept(store, [judgement("x1")], [judgement("x1")])

    async def test_latest_wins(self):
        """A judgement replaces the one before it of its component, of whatever kinds they are."""
        store = await self.opened()
        for first in Transition:
            for second in Transition:
                await store.commit([judgement("x1", first, "1")])
                await store.commit([judgement("x1", second, "2")])
                latest = [judgement("x1", second, "2")]
                await self.assertKept(store, latest, latest)

    async def test_latest_wins_at_once(self):
        """Of several judgements of a component in one commit the last one is kept."""
        store = await self.opened()
        await store.commit(
            [judgement("x1", STARTED), judgement("x2", DIED), judgement("x1", WARNED)]
        )
        latest = [judgement("x2", DIED), judgement("x1", WARNED)]
        await self.assertKept(store, latest, latest)

    async def test_order(self):
        """Judgements are returned in the order of their commit, not of names or ages."""
        store = await self.opened()
        await store.commit([judgement("x3"), judgement("x1")])
        await store.commit([judgement("x2")])
        await store.commit([judgement("x3", DIED), judgement("x0")])
        expected = [judgement("x1"), judgement("x2"), judgement("x3", DIED), judgement("x0")]
        await self.assertKept(store, expected, expected)

    async def test_delivered(self):
        """Delivered judgements are not returned as undelivered; only alarms go on standing."""
        store = await self.opened()
        for kind in Transition:
            await store.commit([judgement("x1"), judgement("x2", kind), judgement("x3")])
            await store.delivered([judgement("x2", kind)])
            others = [judgement("x1"), judgement("x3")]
            standing = [judgement("x2", kind)] if kind.alarming else []
            await self.assertKept(store, others, [others[0], *standing, others[1]])

    async def test_delivered_twice(self):
        """A judgement may be marked as delivered twice."""
        store = await self.opened()
        await store.commit([judgement("x1", DIED), judgement("x2", STARTED)])
        for _ in range(2):
            await store.delivered([judgement("x1", DIED), judgement("x2", STARTED)])
            await self.assertKept(store, [], [judgement("x1", DIED)])

    async def test_delivered_too_late(self):
        """Marking a judgement that was replaced as delivered leaves the later one undelivered."""
        store = await self.opened()
        for later in (judgement("x1", DIED, "t"), judgement("x1", WARNED, "t2")):
            await store.commit([judgement("x1", WARNED, "t")])
            await store.commit([later])
            await store.delivered([judgement("x1", WARNED, "t")])
            await self.assertKept(store, [later], [later])

    async def test_delivered_but_unknown(self):
        """Marking a judgement that was never committed as delivered changes nothing."""
        store = await self.opened()
        await store.commit([judgement("x1")])
        await store.delivered([judgement("x2"), judgement("x1", DIED)])
        await self.assertKept(store, [judgement("x1")], [judgement("x1")])

    async def test_news_after_delivery(self):
        """A judgement after a delivered one is undelivered."""
        store = await self.opened()
        await store.commit([judgement("x1", WARNED), judgement("x2", WARNED)])
        await store.delivered([judgement("x1", WARNED), judgement("x2", WARNED)])
        await store.commit([judgement("x1", DIED)])
        await self.assertKept(
            store, [judgement("x1", DIED)], [judgement("x2", WARNED), judgement("x1", DIED)]
        )
        await store.commit([judgement("x2", RESTARTED)])
        await store.delivered([judgement("x1", DIED), judgement("x2", RESTARTED)])
        await self.assertKept(store, [], [judgement("x1", DIED)])

    async def test_some_judgements(self):
        """The judgements of some transitions can be read alone, delivered or not."""
        store = await self.opened()
        made = [judgement("x1", DIED), judgement("x2", STARTED), judgement("x3", WARNED)]
        await store.commit([*made, judgement("x4", RESTARTED), judgement("x5", DIED)])
        await store.delivered([judgement("x5", DIED)])
        found = await store.judgements([DIED, WARNED])
        self.assertEqual(list(found), [made[0], made[2], judgement("x5", DIED)])
        self.assertEqual(list(await store.judgements([STARTED])), [made[1]])

    async def test_forget(self):
        """Forgetting a component drops its judgement, delivered or not, and no others."""
        store = await self.opened()
        await store.commit([judgement("x1"), judgement("x2"), judgement("x3")])
        await store.delivered([judgement("x2")])
        for name in ("x1", "x2", "x1", "x99"):
            await store.forget(name)
        await self.assertKept(store, [judgement("x3")], [judgement("x3")])
        await store.commit([judgement("x1", STARTED)])
        expected = [judgement("x3"), judgement("x1", STARTED)]
        await self.assertKept(store, expected, expected)

    async def test_reopen(self):
        """A store that is opened again has its judgements, in their order."""
        first = self.make_store()
        await first.open()
        await first.commit([judgement("x3", DIED), judgement("x1"), judgement("x2", STARTED)])
        await first.commit([judgement("x3", STARTED), judgement("x4", DIED)])
        await first.delivered([judgement("x4", DIED)])
        await first.forget("x1")
        await first.close()
        second = await self.opened()
        undelivered = [judgement("x2", STARTED), judgement("x3", STARTED)]
        await self.assertKept(second, undelivered, [*undelivered, judgement("x4", DIED)])
        await second.commit([judgement("x0")])
        await self.assertKept(
            second,
            [*undelivered, judgement("x0")],
            [*undelivered, judgement("x4", DIED), judgement("x0")],
        )

    async def test_one_after_the_other(self):
        """Calls that don't wait for each other are carried out in their order."""
        store = await self.opened()
        await gatherResults(
            [
                store.commit([judgement("x1", WARNED), judgement("x2", WARNED)]),
                store.commit([judgement("x1", DIED)]),
                store.delivered([judgement("x2", WARNED)]),
                store.forget("x1"),
                store.commit([judgement("x1", STARTED)]),
                store.commit([judgement("x3", STARTED)]),
                store.delivered([judgement("x3", STARTED)]),
            ]
        )
        await self.assertKept(
            store,
            [judgement("x1", STARTED)],
            [judgement("x2", WARNED), judgement("x1", STARTED)],
        )

    async def test_any_timestamp(self):
        """Timestamps are kept to the letter."""
        store = await self.opened()
        texts = ["", " ", "'", '"', "\\", "%s", "{}", "NULL", "0", "1e3", "\n", "é日\U0001f600"]
        kept = [judgement(f"x{i}", DIED, text) for i, text in enumerate(texts)]
        await store.commit(kept)
        await self.assertKept(store, kept, kept)
        await store.delivered(kept)
        await self.assertKept(store, [], kept)

    async def test_many(self):
        """Thousands of judgements are committed and marked in one call."""
        store = await self.opened()
        dead = [judgement(f"x{i}", DIED) for i in range(3000)]
        await store.commit(dead)
        await self.assertKept(store, dead, dead)
        await store.delivered(dead[:-1])
        await self.assertKept(store, dead[-1:], dead)

    async def test_random_walk(self):
        """After any sequence of calls the store keeps what the model keeps."""
        store = await self.opened()
        for seed in range(5):
            rng, model = random.Random(seed), Model()
            for name in {each.component for each in await store.judgements()} | {"x4"}:
                await store.forget(name)
            await store.clear_records()
            for step in range(60):
                some = [
                    judgement(f"x{rng.randrange(4)}", rng.choice(list(Transition)), str(step % 3))
                    for _ in range(rng.randrange(4))
                ]
                heard = [
                    record(
                        f"x{rng.randrange(5)}", rng.uniform(0, 30), str(step), warned=step % 2 == 0
                    )
                    for _ in range(rng.randrange(3))
                ]
                known = [old for old, _ in model.kept if rng.random() < 0.7]
                what = ["commit", "delivered", "checkpoint", "forget", "clear"]
                for action in rng.choices(what, [10, 8, 8, 2, 1]):
                    if action == "commit":
                        await store.commit(some, heard)
                        model.commit(some, heard)
                    elif action == "delivered":
                        await store.delivered(known + some)
                        model.delivered(known + some)
                    elif action == "checkpoint":
                        await store.checkpoint(heard)
                        model.checkpoint(heard)
                    elif action == "forget":
                        await store.forget("x1")
                        model.forget("x1")
                    else:
                        await store.clear_records()
                        model.records.clear()
                await self.assertKept(
                    store,
                    [old for old, done in model.kept if not done],
                    [old for old, _ in model.kept],
                )
                await self.assertRecords(store, model.records.values())
