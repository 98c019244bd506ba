"""The log of transitions in memory."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import islice

from hbtd.store.interface import LogEntry
from hbtd.tracker.transitions import Judgement


class MemoryLog:
    """A log of transitions, with the cursors of its readers; see `IStore`."""

    def __init__(self) -> None:
        self.last_number = 0
        """The number of the last entry; 0 if there is none."""
        self.cursors: dict[str, int] = {}
        """Up to which number each reader has told others."""
        self._entries: list[LogEntry] = []
        self._last_of: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def append(self, judgements: Sequence[Judgement], judge: str) -> None:
        """Add the judgements of a replica."""
        for judgement in judgements:
            self.last_number += 1
            self._last_of[judgement.component] = self.last_number
            self._entries.append(LogEntry(self.last_number, judgement, judge))

    def read(self, after: int, most: int) -> list[LogEntry]:
        """Return the entries with numbers above `after`, in order; `most` of them at most."""
        first = bisect_right(self._entries, after, key=lambda entry: entry.number)
        return self._entries[first : first + max(most, 0)]

    def trim(self, before: float, most: int, told: int) -> int:
        """Delete entries as `IStore.trim` says; return how many.

        A log of 100,000 entries takes up to 20 ms: a store in memory should have no larger one.
        """
        was = len(self._entries)
        self._entries = [
            entry
            for entry in self._entries
            if entry.judgement.at >= before or not self._may_go(entry, told)
        ]
        excess = len(self._entries) - most
        if excess > 0:
            may_go = (each.number for each in self._entries if self._may_go(each, told))
            gone = set(islice(may_go, excess))
            self._entries = [each for each in self._entries if each.number not in gone]
        return was - len(self._entries)

    def _may_go(self, entry: LogEntry, told: int) -> bool:
        return entry.number <= told and self._last_of[entry.judgement.component] != entry.number
