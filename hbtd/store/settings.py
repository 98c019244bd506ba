"""Settings: texts that operators have set while hbtd runs, the same for all replicas.

Maintenance and thresholds are such texts. Unlike parameters, there can be any number of them, and
unlike notes, every replica may write them, and learns of those that others write.
"""

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

_MOST_REMOVED: Final = 1000
"""The most removed settings that are remembered, so that none comes back with a late answer."""


class Setting(NamedTuple):
    """The key and the text of a setting."""

    kind: str
    """What the setting is about, such as `maintenance`."""
    name: str
    """The name, which no other setting of this kind has."""
    text: str | None
    """The text; `None` if the setting was removed."""


class Settings:
    """The settings that this replica knows, and the listeners: functions called when they change.

    The store fills this object: all replicas end up with the same settings, in whichever order
    changes and the answers to their own writes reach them.
    """

    def __init__(self) -> None:
        """Make an object without settings."""
        # By kind and name: the text, and the number of the change by which it came.
        self._known: dict[tuple[str, str], tuple[str | None, int]] = {}
        self._lost: set[tuple[str, str]] = set()
        self._listeners: dict[str, list[Callable[[], None]]] = {}

    def texts(self, kind: str) -> dict[str, str]:
        """Return the texts of all settings of a kind, by name."""
        return {
            name: text
            for (each, name), (text, _) in self._known.items()
            if each == kind and text is not None
        }

    def on_change(self, kind: str, listener: Callable[[], None]) -> None:
        """Call `listener()` whenever settings of a kind have changed, from now on."""
        self._listeners.setdefault(kind, []).append(listener)

    def apply(self, setting: Setting, number: int) -> None:
        """Take over a change, unless a later one is known; call the listeners if it matters.

        `number` is the number of the change: a later one has a higher number.
        """
        key = (setting.kind, setting.name)
        text, known = self._known.get(key, (None, 0))
        if number < known:
            return
        self._lost.discard(key)
        # Those that were changed last are last.
        self._known.pop(key, None)
        self._known[key] = setting.text, number
        if text != setting.text:
            self._trim()
            self._tell({setting.kind})

    def replace(self, settings: Iterable[tuple[Setting, int]]) -> None:
        """Take over all settings of the store, each with its number; others are gone."""
        before = {key: text for key, (text, _) in self._known.items() if text is not None}
        self._known = {(kind, name): (text, n) for (kind, name, text), n in settings}
        self._lost.clear()
        after = {key: text for key, (text, _) in self._known.items()}
        self._tell({key[0] for key, _ in before.items() ^ after.items()})

    def merge(self, settings: Iterable[tuple[Setting, int]]) -> None:
        """Take over settings of a store that has lost data; those that it lacks are `lost`."""
        found = {(kind, name): (text, number) for (kind, name, text), number in settings}
        before = {key: text for key, (text, _) in self._known.items() if text is not None}
        self._lost = before.keys() - found.keys()
        self._known = {**{key: (before[key], 0) for key in self._lost}, **found}
        changed = {key for key, (text, _) in found.items() if before.get(key) != text}
        self._tell({kind for kind, _ in changed})

    @property
    def lost(self) -> list[Setting]:
        """The settings that the store has lost, and that have to be written again."""
        return [Setting(kind, name, self._known[kind, name][0]) for kind, name in self._lost]

    def _trim(self) -> None:
        removed = [key for key, (text, _) in self._known.items() if text is None]
        for key in removed[:-_MOST_REMOVED]:
            del self._known[key]

    def _tell(self, kinds: Iterable[str]) -> None:
        for kind in kinds:
            for listener in self._listeners.get(kind, ()):
                listener()
