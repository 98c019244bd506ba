"""Sets and mappings of a million names that grow without a pause.

A set of Python is copied in one go whenever it has outgrown its memory, which takes tens of
milliseconds at a million names. Here the names are divided among many small ones.
"""

from typing import Final, Generic, TypeVar

_PARTS: Final = 128

_V = TypeVar("_V")


class NameSet:
    """A set of names."""

    def __init__(self) -> None:
        self._parts: list[set[str]] = [set() for _ in range(_PARTS)]
        self._size = 0

    def __contains__(self, name: str) -> bool:
        return name in self._parts[hash(name) % _PARTS]

    def __len__(self) -> int:
        return self._size

    def add(self, name: str) -> None:
        """Add a name, unless it is in the set."""
        part = self._parts[hash(name) % _PARTS]
        before = len(part)
        part.add(name)
        self._size += len(part) - before

    def discard(self, name: str) -> None:
        """Remove a name, if it is in the set."""
        part = self._parts[hash(name) % _PARTS]
        before = len(part)
        part.discard(name)
        self._size += len(part) - before


class NameDict(Generic[_V]):
    """A mapping of names to values."""

    def __init__(self) -> None:
        self._parts: list[dict[str, _V]] = [{} for _ in range(_PARTS)]
        self._size = 0

    def __contains__(self, name: str) -> bool:
        return name in self._parts[hash(name) % _PARTS]

    def __len__(self) -> int:
        return self._size

    def get(self, name: str, default: _V) -> _V:
        """Return the value of a name; `default` if it has none."""
        return self._parts[hash(name) % _PARTS].get(name, default)

    def __setitem__(self, name: str, value: _V) -> None:
        part = self._parts[hash(name) % _PARTS]
        before = len(part)
        part[name] = value
        self._size += len(part) - before

    def __delitem__(self, name: str) -> None:
        del self._parts[hash(name) % _PARTS][name]
        self._size -= 1
