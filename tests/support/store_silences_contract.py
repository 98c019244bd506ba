"""The contract of all stores about long silences; `store_contract.py` says how to use it."""

from typing import Any

from hbtd.store.past import MOST_PROCESSES, Noticed, SilencesThen
from hbtd.tracker.silences import MOST_KEPT, LongSilence
from tests.support.store_contract import StoreFixture

A, B = "x1000c0s0b0n0", "x1000c0s0b0n1"
T0 = 1_772_600_767.25
ONE = LongSilence(A, T0, 6.5)
TWO = LongSilence(B, T0 + 1, 12.25)
THREE = LongSilence(A, T0 + 2, 40.0)


class SilencesContract(StoreFixture):
    """The tests of long silences."""

    reopens = True
    """Whether the table outlives the process."""

    async def all(self, store: Any, since: float = 0.0, least: float = 0.0, most: int = 2) -> Any:
        """Return all silences that ended since then and are so long, read in portions."""
        found: list[LongSilence] = []
        after: int | None = 0
        while after is not None:
            page: SilencesThen = await store.silences(since, least, after, most)
            self.assertLessEqual(len(page.silences), most)
            found += page.silences
            after = page.after
        return found

    async def test_silences(self) -> None:
        """Silences are kept in the order in which they come, also two that are equal."""
        store = await self.opened()
        nothing: SilencesThen = await store.silences()
        self.assertEqual([*map(list, (nothing.silences, nothing.noticed))], [[], []])
        self.assertEqual((nothing.after, nothing.whole_since), (None, None))
        await store.keep_silences([TWO, ONE], Noticed(T0 - 9))
        await store.keep_silences([THREE, ONE], Noticed(T0 - 8))
        for most in (1, 2, 3, 4, 5000):
            self.assertEqual(await self.all(store, most=most), [TWO, ONE, THREE, ONE])

    async def test_selected_silences(self) -> None:
        """Those that ended from a time on can be read, and those that are so long."""
        store = await self.opened()
        await store.keep_silences([ONE, TWO, THREE], Noticed(T0))
        for most in (1, 5000):
            self.assertEqual(await self.all(store, T0 + 1, most=most), [TWO, THREE])
            self.assertEqual(await self.all(store, T0 + 1.25, most=most), [THREE])
            self.assertEqual(await self.all(store, least=12.25, most=most), [TWO, THREE])
            self.assertEqual(await self.all(store, least=12.5, most=most), [THREE])
            self.assertEqual(await self.all(store, T0 + 1, 41.0, most=most), [])

    async def test_whole_since(self) -> None:
        """The table is whole since the first call, or since what was lost, if that is later."""
        store = await self.opened()
        for since, lost, expected in (
            (T0 - 9, T0 - 10, T0 - 9),
            (T0 - 5, T0 - 7, T0 - 7),
            (T0 - 5, T0 - 8, T0 - 7),
            (T0 + 5, T0 - 6, T0 - 6),
        ):
            await store.keep_silences([], Noticed(since, 0.0, lost))
            self.assertEqual((await store.silences()).whole_since, expected)
        await store.keep_silences([ONE], Noticed(T0))
        self.assertEqual((await store.silences()).whole_since, T0 - 6)

    async def test_noticed(self) -> None:
        """What each process said last is kept, the earliest first, as long as it is of use."""
        store = await self.opened()
        for since, missed in ((T0, 5.0), (T0, 6.5), (T0 + 9, 4.0), (T0 + 5, 3.0)):
            await store.keep_silences([], Noticed(since, missed))
        kept = [Noticed(T0, 6.5), Noticed(T0 + 5, 3.0), Noticed(T0 + 9, 4.0)]
        self.assertEqual((await store.silences(most=1)).noticed, kept)
        for lost, dropped in ((T0 + 4.75, 0), (T0 + 5, 1), (T0 + 20, 2)):
            await store.keep_silences([], Noticed(T0 + 9, 4.0, lost))
            self.assertEqual((await store.silences(most=1)).noticed, kept[dropped:])

    async def test_noticed_by_many(self) -> None:
        """Of too many processes, what the earliest said is joined."""
        store = await self.opened()
        for number in range(MOST_PROCESSES + 3):
            await store.keep_silences([], Noticed(T0 + number, 6.0 if number == 2 else 5.0))
        found = (await store.silences()).noticed
        self.assertEqual(found[0], Noticed(T0, 6.0))
        latest = [Noticed(T0 + 4 + number, 5.0) for number in range(MOST_PROCESSES - 1)]
        self.assertEqual(found[1:], latest)
        self.assertEqual((await store.silences()).whole_since, T0)

    async def test_bound_of_silences(self) -> None:
        """Of too many silences the first are dropped; the table is whole since they ended."""
        store = await self.opened()
        await store.keep_silences([THREE, ONE, TWO], Noticed(T0 - 9))
        many = [LongSilence(A, T0 + 3, 7.0)] * (MOST_KEPT - 1)
        await store.keep_silences(many, Noticed(T0 - 9))
        self.assertEqual(await self.all(store, least=7.5, most=5000), [TWO])
        self.assertEqual(len(await self.all(store, most=20_000)), MOST_KEPT)
        self.assertEqual((await store.silences(most=1)).whole_since, T0 + 2)

    async def test_silences_of_the_forgotten(self) -> None:
        """What is kept of a component that is forgotten stays."""
        store = await self.opened()
        await store.keep_silences([ONE], Noticed(T0))
        await store.forget(A)
        await store.clear_records()
        self.assertEqual(await self.all(store), [ONE])

    async def test_silences_reopened(self) -> None:
        """They are there when a store in a file is opened again, and others come after them."""
        store = await self.opened()
        await store.keep_silences([ONE, TWO], Noticed(T0 - 9))
        await store.close()
        again = await self.opened()
        await again.keep_silences([THREE], Noticed(T0 + 9))
        kept = [ONE, TWO, THREE] if self.reopens else [THREE]
        self.assertEqual(await self.all(again), kept)
        whole = T0 - 9 if self.reopens else T0 + 9
        self.assertEqual((await again.silences()).whole_since, whole)
