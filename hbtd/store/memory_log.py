"""The log of transitions in memory, for the store `mem:`."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from heapq import merge, nsmallest
from itertools import islice
from math import inf
from operator import attrgetter

from hbtd.store.past import (
    TRIMMED,
    LogEntry,
    Selection,
    Span,
    StatesThen,
    StateThen,
    state_then,
)
from hbtd.tracker.transitions import Judgement


class MemoryLog:
    """A log of transitions in memory, with the cursors of its readers; see `IStore`."""

    def __init__(self) -> None:
        self.last_number = 0
        """The number of the last entry of the log; 0 if there is none."""
        self.cursors: dict[str, int] = {}
        """The cursor of each reader: the number of the last log entry that it has passed on.

        The key `TRIMMED` is not the name of a reader: its value is the highest number that a
        deleted entry had.
        """
        self._entries: list[LogEntry] = []
        # The same entries by component; each list has one at least.
        self._of: dict[str, list[LogEntry]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def append(self, judgements: Sequence[Judgement], judge: str) -> None:
        """Add an entry for each judgement; `judge` is the host and port of the judging replica."""
        for judgement in judgements:
            self.last_number += 1
            entry = LogEntry(self.last_number, judgement, judge)
            self._entries.append(entry)
            self._of.setdefault(judgement.component, []).append(entry)

    def read(self, after: int, most: int) -> list[LogEntry]:
        """Return the first `most` log entries with numbers above `after`, in order of number."""
        first = bisect_right(self._entries, after, key=lambda entry: entry.number)
        return self._entries[first : first + max(most, 0)]

    def history(self, span: Span, selection: Selection, most: int) -> list[LogEntry]:
        """Return up to `most` entries about selected components, as `IStore.history` says."""
        entries: Sequence[LogEntry] = self._entries
        if selection.names is not None:
            lists = [self._of[xname] for xname in set(selection.names) if xname in self._of]
            entries = list(merge(*lists, key=attrgetter("number")))
        first = bisect_left(entries, span.since, key=_at) if span.since > -inf else 0
        end = bisect_left(entries, span.until, key=_at) if span.until < inf else len(entries)
        if span.after is not None and span.newest_first:
            end = min(end, bisect_left(entries, span.after, key=attrgetter("number")))
        elif span.after is not None:
            first = max(first, bisect_right(entries, span.after, key=attrgetter("number")))
        order: Iterable[int] = range(first, end)
        if span.newest_first:
            order = range(end - 1, first - 1, -1)
        found = (entries[index] for index in order)
        wanted = (each for each in found if selection.includes(each.judgement.component))
        return list(islice(wanted, max(most, 0)))

    def states_at(self, at: float, selection: Selection, after: str, most: int) -> StatesThen:
        """Return the states of components at the Unix time `at`, as `IStore.states_at` says."""
        number = self._number_at(at)
        names = (x for x in self._of if x > after and selection.includes(x))
        # Those that were not tracked yet are left out.
        known = (x for x in names if self._state(x, number) is not None)
        found = [self._state(xname, number) for xname in nsmallest(min(most, len(self._of)), known)]
        complete = number >= self.cursors.get(TRIMMED, 0)
        return StatesThen([each for each in found if each is not None], complete)

    def _state(self, xname: str, number: int) -> StateThen | None:
        entries = self._of[xname]
        later = bisect_right(entries, number, key=attrgetter("number"))
        return state_then(entries[max(later - 1, 0)], number)

    def _number_at(self, at: float) -> int:
        """Return the number of the last entry judged at the Unix time `at` or before; 0 if none."""
        later = bisect_right(self._entries, at, key=_at)
        if later == len(self._entries):
            return self.last_number
        return self._entries[later - 1].number if later else 0

    def trim(self, before: float, most: int, told: int) -> int:
        """Delete old entries; return the number of deleted entries.

        Entries of judgements made before the Unix time `before` are deleted, and then the oldest of
        the other entries until `most` are left. Entries with numbers above `told`, and the last
        entry of each component, are never deleted.

        The call blocks the reactor: for up to 20 ms if the log has 100,000 entries, and longer if
        it has more.
        """
        old = [each for each in self._entries if _at(each) < before and self._may_go(each, told)]
        self._delete(old)
        excess = len(self._entries) - most
        if excess > 0:
            may_go = (each for each in self._entries if self._may_go(each, told))
            many = list(islice(may_go, excess))
            self._delete(many)
            old += many
        return len(old)

    def _delete(self, gone: Sequence[LogEntry]) -> None:
        if not gone:
            return
        numbers = {each.number for each in gone}
        self.cursors[TRIMMED] = max(self.cursors.get(TRIMMED, 0), *numbers)
        self._entries = [each for each in self._entries if each.number not in numbers]
        for xname in {each.judgement.component for each in gone}:
            self._of[xname] = [each for each in self._of[xname] if each.number not in numbers]

    def _may_go(self, entry: LogEntry, told: int) -> bool:
        return entry.number <= told and self._of[entry.judgement.component][-1] is not entry


def _at(entry: LogEntry) -> float:
    return entry.judgement.at
