"""Tests of the settings that replicas share."""

from itertools import permutations

from twisted.trial.unittest import SynchronousTestCase

from hbtd.store.settings import Setting, Settings


def _setting(name: str, text: str | None) -> Setting:
    return Setting("m", name, text)


class SettingsTests(SynchronousTestCase):
    """Tests of `Settings`."""

    def test_any_order(self) -> None:
        """In whichever order changes are heard of, the latest one of each setting remains."""
        changes = [("a", "1", 1), ("a", None, 2), ("a", "3", 3), ("b", "4", 4), ("b", None, 5)]
        for order in permutations(changes):
            settings = Settings()
            for name, text, number in order:
                settings.apply(_setting(name, text), number)
            self.assertEqual(settings.texts("m"), {"a": "3"})

    def test_told_of_changes_only(self) -> None:
        """A listener is called when a setting of its kind has changed, and not otherwise."""
        settings, told = Settings(), list[str]()
        settings.on_change("m", lambda *_: told.append("m"))
        settings.on_change("other", lambda *_: told.append("other"))
        settings.apply(_setting("a", "1"), 1)
        settings.apply(_setting("a", "1"), 2)
        settings.apply(_setting("b", None), 3)
        settings.replace([(_setting("a", "1"), 4)])
        self.assertEqual(told, ["m"])
        settings.replace([(_setting("c", "1"), 5)])
        self.assertEqual((told, settings.texts("m")), (["m", "m"], {"c": "1"}))

    def test_lost(self) -> None:
        """What a store has lost stays in force, and is to be written until it has come back."""
        settings = Settings()
        for number, name in enumerate("abc", 1):
            settings.apply(_setting(name, name), number)
        settings.apply(_setting("c", None), 4)
        settings.merge([(_setting("a", "new"), 1)])
        self.assertEqual(settings.texts("m"), {"a": "new", "b": "b"})
        self.assertEqual(settings.lost, [_setting("b", "b")])
        settings.apply(_setting("b", "b"), 2)
        self.assertEqual(settings.lost, [])

    def test_told_which(self) -> None:
        """A listener is told which settings have changed, and whether all are new."""
        settings, told = Settings(), list[tuple[list[str], bool]]()
        settings.on_change("m", lambda names, anew: told.append((sorted(names), anew)))
        settings.apply(_setting("a", "1"), 1)
        settings.apply(Setting("other", "z", "1"), 1)
        settings.apply(_setting("a", "1"), 2)
        settings.apply(_setting("b", "2"), 3)
        self.assertEqual(told, [(["a"], False), (["b"], False)])
        settings.replace([(_setting("b", "2"), 3), (_setting("c", "3"), 4)])
        self.assertEqual(told[2:], [(["a", "c"], True)])
        settings.merge([(_setting("c", "4"), 1)])
        self.assertEqual(told[3:], [(["c"], True)])
        self.assertEqual([settings.text("m", name) for name in "abc"], [None, "2", "4"])

    def test_removed_counts_no_more(self) -> None:
        """A removed setting that was set again is not among those that may be dropped."""
        settings = Settings()
        settings.apply(_setting("a", None), 1)
        settings.apply(_setting("a", "1"), 2)
        for number in range(3, 3000):
            settings.apply(_setting(str(number), None), number)
        self.assertEqual(settings.texts("m"), {"a": "1"})

    def test_removed_are_bounded(self) -> None:
        """Only so many removed settings are remembered, however many there were."""
        settings = Settings()
        for number in range(5000):
            settings.apply(_setting(str(number), "1"), 2 * number + 1)
            settings.apply(_setting(str(number), None), 2 * number + 2)
        self.assertEqual(settings.texts("m"), {})
        self.assertLess(len(settings._known), 1500)
