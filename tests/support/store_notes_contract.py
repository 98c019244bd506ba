"""The contract of all stores about notes; `store_contract.py` says how to use it."""

from tests.support.store_contract import StoreFixture


class NotesContract(StoreFixture):
    """The tests of notes."""

    async def test_notes(self) -> None:
        """Notes are kept verbatim by kind and name; later ones replace them, `None` deletes."""
        store = await self.opened()
        self.assertEqual(await store.notes("told"), {})
        await store.write_notes("told", {"x0c0s0b0n0": "Größe\n1", "x0c0s0b0n1": ""})
        await store.write_notes("told-not", {"x0c0s0b0n0": "another kind"})
        expected = {"x0c0s0b0n0": "Größe\n1", "x0c0s0b0n1": ""}
        self.assertEqual(await store.notes("told"), expected)
        await store.write_notes("told", {"x0c0s0b0n0": None, "x0c0s0b0n2": "2", "x0": None})
        self.assertEqual(await store.notes("told"), {"x0c0s0b0n1": "", "x0c0s0b0n2": "2"})
        self.assertEqual(await store.notes("told-not"), {"x0c0s0b0n0": "another kind"})
        await store.write_notes("told", {})

    async def test_many_notes(self) -> None:
        """There can be more notes than fit into a transaction or an answer of etcd."""
        store = await self.opened()
        many = {f"x0c0s0b0n{number}": "." * 100 for number in range(3000)}
        await store.write_notes("told", many)
        self.assertEqual(await store.notes("told"), many)

    async def test_notes_reopened(self) -> None:
        """They are there when the store is opened again, and what is forgotten is not theirs."""
        store = await self.opened()
        await store.write_notes("told", {"x0c0s0b0n0": "1"})
        await store.forget("x0c0s0b0n0")
        await store.close()
        again = await self.opened()
        self.assertEqual(await again.notes("told"), {"x0c0s0b0n0": "1"})
