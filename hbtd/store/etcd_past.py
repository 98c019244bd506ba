"""Answers questions about the past from the log of transitions in etcd.

In etcd, entries can be looked up only by their numbers. So the first entry after a given time is
found by binary search, and the entries after it are read in pages. Between two pages, other calls
of the store are carried out.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from math import inf

from hbtd.store.etcd_log import EtcdLog
from hbtd.store.etcd_log_format import StoredEntry, as_entry
from hbtd.store.etcd_mirror import EtcdMirror
from hbtd.store.past import (
    TRIMMED,
    LogEntry,
    Selection,
    Span,
    StatesThen,
    StateThen,
    state_then,
)

_WINDOW = 2000
"""The numbers of the log that are read at once if the latest entries come first."""

_KEPT_BEFORE = 1000
"""The numbers by which a search by time begins earlier: clocks of replicas differ a little."""


class EtcdPast:
    """Answers questions about past transitions and states from the log in etcd."""

    def __init__(self, log: EtcdLog, mirror: EtcdMirror) -> None:
        self._log = log
        self._mirror = mirror

    async def history(self, span: Span, selection: Selection, most: int) -> Sequence[LogEntry]:
        """Return up to `most` log entries about selected components, as `IStore.history` says."""
        low, high = 0, self._mirror.last_number
        if span.since > -inf:
            low = max(await self._number_before(span.since) - _KEPT_BEFORE, 0)
        if span.until < inf:
            high = min(await self._number_before(span.until) + _KEPT_BEFORE, high)
        if span.after is not None and span.newest_first:
            high = min(high, span.after - 1)
        elif span.after is not None:
            low = max(low, span.after)
        portions = self._backward(low, high) if span.newest_first else self._forward(low, high)
        found: list[LogEntry] = []
        async for portion in portions:
            for entry in portion:
                if len(found) >= most:
                    return found
                if span.since <= entry.at < span.until and selection.includes(entry.component):
                    found.append(as_entry(entry))
            if len(found) >= most:
                break
        return found

    async def _forward(self, low: int, high: int) -> AsyncIterator[Iterable[StoredEntry]]:
        """Yield the entries with numbers above `low`, up to `high`, in order and in portions."""
        async for keys in self._log.keys(low):
            portion = [each for key in keys for each in key.entries]
            # A commit that was tried again may have left an entry in two keys.
            fresh: list[StoredEntry] = []
            for entry in portion:
                if low < entry.number <= high:
                    low = entry.number
                    fresh.append(entry)
            yield fresh
            if portion and portion[-1].number >= high:
                return

    async def _backward(self, low: int, high: int) -> AsyncIterator[Iterable[StoredEntry]]:
        """Yield the entries with numbers above `low`, up to `high`, in portions, latest first."""
        while high > low:
            start = max(high - _WINDOW, low)
            window = [each async for some in self._forward(start, high) for each in some]
            yield reversed(window)
            high = start

    async def _number_before(self, at: float) -> int:
        """Return the number of the last entry judged before the Unix time `at`; 0 if none."""
        low, high = 0, self._mirror.last_number + 1
        while high - low > 1:
            middle = (low + high) // 2
            first = await self._first_after(middle - 1)
            if first is not None and first.number < high and first.at < at:
                low = first.number
            else:
                high = middle
        return low

    async def _first_after(self, number: int) -> StoredEntry | None:
        async for keys in self._log.keys(number, 1):
            for key in keys:
                for entry in key.entries:
                    if entry.number > number:
                        return entry
        return None

    async def states_at(self, at: float, selection: Selection, after: str, most: int) -> StatesThen:
        """Return the states of components at the Unix time `at`, as `IStore.states_at` says.

        To find the states, all of the log is read.
        """
        number = self._mirror.last_number
        if at < inf:
            number = await self._number_at(at)
        complete = number >= (await self._log.cursor(TRIMMED) or 0)
        picked: dict[str, StoredEntry] = {}
        async for keys in self._log.keys(0):
            for entry in (each for key in keys for each in key.entries):
                xname = entry.component
                if entry.number <= number or xname not in picked:
                    picked[xname] = entry
        names = sorted(x for x in picked if x > after and selection.includes(x))
        found: list[StateThen] = []
        for xname in names:
            state = state_then(as_entry(picked[xname]), number)
            if state is not None:
                found.append(state)
            if len(found) >= most:
                break
        return StatesThen(found, complete)

    async def _number_at(self, at: float) -> int:
        """Return the number of the last entry judged at the Unix time `at` or before; 0 if none."""
        number = await self._number_before(at)
        # Entries of the very same time may follow.
        async for portion in self._forward(number, self._mirror.last_number):
            for entry in portion:
                if entry.at > at:
                    return number
                number = entry.number
        return number
