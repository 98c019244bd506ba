"""The contract of all stores about host names and NIDs; `store_contract.py` says how to use it."""

from hbtd.tracker.records import Identity
from tests.support.store_contract import DIED, StoreFixture, judgement, record

ONE = Identity("x1000c0s0b0n0", "nid000001", "1")
TWO = Identity("x1000c0s0b0n1", "nid000002", "2")
FAR = Identity("x3000c7s40b0n0", "gw\n1", "0x10")
ODD = Identity("s0", "Größe", "-7")


class IdentitiesContract(StoreFixture):
    """The tests of host names and NIDs."""

    async def test_identities(self) -> None:
        """Host names and NIDs are kept verbatim, and later ones replace them."""
        store = await self.opened()
        self.assertEqual(list(await store.identities()), [])
        await store.identify([FAR, TWO, ODD])
        await store.identify([ONE, TWO._replace(hostname="new", nid="3")])
        expected = [ODD, ONE, TWO._replace(hostname="new", nid="3"), FAR]
        self.assertEqual(list(await store.identities()), expected)
        await store.identify([])
        self.assertEqual(list(await store.identities()), expected)

    async def test_pages_of_identities(self) -> None:
        """They can be read page by page, in the order of the components' names."""
        store = await self.opened()
        await store.identify([FAR, TWO, ODD, ONE])
        self.assertEqual(list(await store.identities("", 2)), [ODD, ONE])
        self.assertEqual(list(await store.identities(ONE.component, 2)), [TWO, FAR])
        self.assertEqual(list(await store.identities(FAR.component, 2)), [])

    async def test_identity_of_the_dead(self) -> None:
        """They outlive the component, its record and the records' deletion."""
        store = await self.opened()
        await store.commit([], [record(ONE.component)])
        await store.identify([ONE])
        await store.commit([judgement(ONE.component, DIED)])
        await store.clear_records()
        self.assertEqual(list(await store.identities()), [ONE])

    async def test_identity_forgotten(self) -> None:
        """They are forgotten with the component, and those of its neighbours stay."""
        store = await self.opened()
        await store.identify([ONE, TWO, FAR])
        await store.forget(TWO.component)
        await store.forget("x1000c0s0b0n7")
        self.assertEqual(list(await store.identities()), [ONE, FAR])

    async def test_identities_reopened(self) -> None:
        """They are there when the store is opened again."""
        store = await self.opened()
        await store.identify([ONE, FAR])
        await store.close()
        again = await self.opened()
        self.assertEqual(list(await again.identities()), [ONE, FAR])
