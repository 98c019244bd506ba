"""The contract of all stores about settings; `store_contract.py` says how to use it."""

from hbtd.store.settings import Setting
from tests.support.store_contract import StoreFixture


class SettingsContract(StoreFixture):
    """The tests of settings."""

    async def test_settings(self) -> None:
        """Settings are kept verbatim by kind and name; later ones replace them, `None` removes."""
        store = await self.opened()
        self.assertEqual(store.settings.texts("maintenance"), {})
        told: list[str] = []
        store.settings.on_change("maintenance", lambda *_: told.append("changed"))
        await store.write_settings([Setting("maintenance", "a", "Größe\n1")])
        await store.write_settings([Setting("maintenance", "b", ""), Setting("other", "a", "o")])
        self.assertEqual(store.settings.texts("maintenance"), {"a": "Größe\n1", "b": ""})
        self.assertEqual(len(told), 2)
        await store.write_settings([Setting("other", "a", "p"), Setting("maintenance", "a", None)])
        self.assertEqual(store.settings.texts("maintenance"), {"b": ""})
        self.assertEqual(store.settings.texts("other"), {"a": "p"})
        self.assertEqual(len(told), 3)

    async def test_replaced(self) -> None:
        """A setting is replaced, or removed, only if it has the text that it is said to have."""
        store = await self.opened()
        await store.write_settings([Setting("m", name, name) for name in "abc"])
        replaced = await store.replace_settings(
            [
                (Setting("m", "a", "1"), "a"),
                (Setting("m", "b", "1"), "a"),
                (Setting("m", "c", None), "c"),
                (Setting("m", "d", "1"), None),
                (Setting("m", "e", "1"), "e"),
            ]
        )
        self.assertEqual(replaced, [True, False, True, True, False])
        now = {"a": "1", "b": "b", "d": "1"}
        self.assertEqual(store.settings.texts("m"), now)
        # What is removed or changed in the same moment is not written over.
        removing = store.write_settings([Setting("m", "a", None), Setting("m", "b", "2")])
        replacing = store.replace_settings(
            [(Setting("m", "a", "2"), "1"), (Setting("m", "b", None), "b")]
        )
        await removing
        self.assertEqual(await replacing, [False, False])
        await store.close()
        again = await self.opened()
        self.assertEqual(again.settings.texts("m"), {"b": "2", "d": "1"})

    async def test_settings_reopened(self) -> None:
        """Settings are there when the store is opened again, and are no notes."""
        store = await self.opened()
        await store.write_settings([Setting("maintenance", "a", "1"), Setting("x", "b", None)])
        self.assertEqual(await store.notes("maintenance"), {})
        await store.close()
        again = await self.opened()
        self.assertEqual(again.settings.texts("maintenance"), {"a": "1"})

    async def test_many_settings(self) -> None:
        """Hundreds of settings are written in one call, some of them large, and all are there."""
        store = await self.opened()
        large = "x" * 200_000
        texts = {str(number): large if number % 100 == 0 else "1" for number in range(300)}
        await store.write_settings([Setting("m", name, text) for name, text in texts.items()])
        self.assertEqual(store.settings.texts("m"), texts)
        await store.write_settings([Setting("m", str(number), None) for number in range(1, 300)])
        await store.close()
        again = await self.opened()
        self.assertEqual(again.settings.texts("m"), {"0": large})
