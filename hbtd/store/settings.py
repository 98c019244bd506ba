"""Settings: texts that operators have set while hbtd runs, the same for all replicas.

Maintenance and thresholds are such texts. Unlike parameters, there can be any number of them, and
unlike notes, every replica may write them, and learns of those that others write.
"""

from collections.abc import Callable, Collection, Iterable
from typing import Final, NamedTuple

Listener = Callable[[Collection[str], bool], None]
"""A function that is called with the names of changed settings, and whether all were read anew."""

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


Replacement = tuple[Setting, str | None]
"""A setting to be written, and the text that it must have until then; `None` if it must be new."""


class Settings:
    """The settings that this replica knows, and the listeners: functions called when they change.

    The store fills this object: all replicas end up with the same settings, in whichever order
    changes and the answers to their own writes reach them.
    """

    def __init__(self) -> None:
        """Make an object without settings."""
        # By kind and name: the text, and the number of the change by which it came.
        self._known: dict[tuple[str, str], tuple[str | None, int]] = {}
        # Those of them that were removed, in the order in which they were.
        self._removed: dict[tuple[str, str], None] = {}
        self._lost: set[tuple[str, str]] = set()
        self._listeners: dict[str, list[Listener]] = {}

    def texts(self, kind: str) -> dict[str, str]:
        """Return the texts of all settings of a kind, by name."""
        return {
            name: text
            for (each, name), (text, _) in self._known.items()
            if each == kind and text is not None
        }

    def text(self, kind: str, name: str) -> str | None:
        """Return the text of a setting; `None` if there is no such setting."""
        return self._known.get((kind, name), (None, 0))[0]

    def number(self, kind: str, name: str) -> int:
        """Return the number of the change by which a setting came; 0 if there is no setting."""
        text, number = self._known.get((kind, name), (None, 0))
        return 0 if text is None else number

    def on_change(self, kind: str, listener: Listener) -> None:
        """Call `listener(names, anew)` whenever settings of a kind have changed, from now on.

        `names` are the names of these settings. `anew` says whether all settings were read from the
        store: records may be read next, which are to meet what has been set.
        """
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
        self._known[key] = setting.text, number
        # Those that were removed last are last.
        self._removed.pop(key, None)
        if setting.text is None:
            self._removed[key] = None
            if len(self._removed) > _MOST_REMOVED:
                oldest = next(iter(self._removed))
                del self._removed[oldest], self._known[oldest]
        if text != setting.text:
            self._tell({key})

    def replace(self, settings: Iterable[tuple[Setting, int]]) -> None:
        """Take over all settings of the store, each with its number; others are gone."""
        before = {key: text for key, (text, _) in self._known.items() if text is not None}
        self._known = {(kind, name): (text, n) for (kind, name, text), n in settings}
        self._removed.clear()
        self._lost.clear()
        after = {key: text for key, (text, _) in self._known.items()}
        self._tell({key for key, _ in before.items() ^ after.items()}, anew=True)

    def merge(self, settings: Iterable[tuple[Setting, int]]) -> None:
        """Take over settings of a store that has lost data; those that it lacks are `lost`."""
        found = {(kind, name): (text, number) for (kind, name, text), number in settings}
        before = {key: text for key, (text, _) in self._known.items() if text is not None}
        self._lost = before.keys() - found.keys()
        self._known = {**{key: (before[key], 0) for key in self._lost}, **found}
        self._removed.clear()
        self._tell({key for key, (text, _) in found.items() if before.get(key) != text}, anew=True)

    @property
    def lost(self) -> list[Setting]:
        """The settings that the store has lost, and that have to be written again."""
        return [Setting(kind, name, self._known[kind, name][0]) for kind, name in self._lost]

    def _tell(self, keys: Collection[tuple[str, str]], *, anew: bool = False) -> None:
        names: dict[str, list[str]] = {}
        for kind, name in keys:
            names.setdefault(kind, []).append(name)
        for kind, some in names.items():
            for listener in self._listeners.get(kind, ()):
                listener(some, anew)
