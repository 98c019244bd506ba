"""Trims the log of transitions in etcd: deletes its old entries."""

from collections.abc import Sequence

import orjson

from hbtd.etcd.messages import Delete, Put
from hbtd.store.etcd_log import EtcdLog, LogKey
from hbtd.store.etcd_log_format import (
    CURSOR,
    StoredEntry,
    cursor_value,
    log_value,
    number_of,
)
from hbtd.store.etcd_mirror import EtcdMirror
from hbtd.store.etcd_steps import Step, batches
from hbtd.store.etcd_writer import EtcdWriter
from hbtd.store.interface import NotLeading
from hbtd.store.past import TRIMMED

SMALL = 10_000
"""The greatest number of entries in a log that is examined as a whole at each trimming."""

PORTION = 10_000
"""The approximate number of entries that are examined at once in a log larger than `SMALL`."""

_MOST_PORTIONS = 10
"""The most portions in one call; the next call goes on from there."""

_REWRITTEN = 15
"""The most keys that are changed before other calls of the store, and the reactor, have their turn.

They have about a thousand entries: a few milliseconds' worth.
"""


class EtcdTrimming:
    """Deletes old entries of the log of transitions, but never the last entry of a component.

    Entries are examined in portions, beginning with the oldest. For each portion, all later entries
    are read, to find out which entries of the portion are the last ones of their components. To
    save time in a large log, portions with less than a fiftieth of all entries are not examined
    yet, and entries that were kept are examined again only after the log has grown by a tenth.
    """

    def __init__(
        self,
        log: EtcdLog,
        mirror: EtcdMirror,
        writer: EtcdWriter,
        small: int = SMALL,
        portion: int = PORTION,
    ) -> None:
        """Make the trimmer of a log.

        A log of up to `small` entries is examined as a whole at each trimming; of a larger log,
        about `portion` entries are examined at once.
        """
        self._log = log
        self._mirror = mirror
        self._writer = writer
        self._small = small
        self._most = portion
        # The lock under which this replica has counted the entries.
        self._lock_key: bytes | None = None
        # The number of entries then, less those that were deleted since; and the last one's number.
        self._count = 0
        self._counted_at = 0
        # The number of the log up to which entries were examined since.
        self._examined = 0
        # The highest number of an entry that was deleted, ever.
        self._trimmed = 0

    async def trim(self, before: float, most: int, told: int) -> int:
        """Delete old entries of the log, as `IStore.trim` says; return how many were deleted.

        Raise `NotLeading` if this replica does not lead, the exceptions of `EtcdClient` if etcd
        fails, and `StoreUnusable` if the store is closed.
        """
        if not self._writer.leading:
            raise NotLeading("another replica leads")
        if self._is_to_begin_anew():
            await self._begin_anew()
        count = self._count
        for _ in range(_MOST_PORTIONS):
            portion = await self._next_portion(before, most, told)
            if not portion:
                break
            await self._trim(portion, before, most, told)
            self._examined = number_of(portion[-1].key)
        return count - self._count

    @property
    def _size(self) -> int:
        """The most entries that the log can have now.

        This is the number of entries at the last count, less those deleted since, plus one for each
        number that was given to a judgement since.
        """
        return self._count + self._mirror.last_number - self._counted_at

    def _is_to_begin_anew(self) -> bool:
        grown = self._mirror.last_number - self._counted_at
        small = self._size <= self._small or grown > self._count // 10
        return small or self._lock_key != self._writer.lock_key

    async def _begin_anew(self) -> None:
        """Count the entries of the log; the next portion to examine is the first one of the log."""
        lock_key, last = self._writer.lock_key, self._mirror.last_number
        count = 0
        async for keys in self._log.keys(0):
            count += sum(len(each.entries) for each in keys)
        self._trimmed = await self._log.cursor(TRIMMED) or 0
        self._lock_key, self._counted_at, self._count = lock_key, last, count
        self._examined = 0

    async def _next_portion(self, before: float, most: int, told: int) -> list[LogKey]:
        """Return the next keys of the log that may have entries to delete.

        They have about `portion` entries at most (see `__init__`). In a large log, return an empty
        list if they would have less than a fiftieth of all entries. The arguments are those of
        `IStore.trim`.
        """
        whole = self._size <= self._small
        excess = self._size - most
        found: list[LogKey] = []
        count = 0
        async for keys in self._log.keys(self._examined):
            for key in keys:
                may_go = whole or count < excess or any(e.at < before for e in key.entries)
                if not may_go or count >= self._most or key.entries[0].number > told:
                    return found if whole or count >= self._size // 50 else []
                found.append(key)
                count += len(key.entries)
        return found if whole or count >= self._size // 50 else []

    async def _trim(self, portion: Sequence[LogKey], before: float, most: int, told: int) -> None:
        """Delete entries of `portion`: old ones, and further ones until the log has `most` entries.

        Old entries are those judged before the Unix time `before`. Entries with numbers above
        `told`, and the last one of each component, stay.
        """
        last = {entry.component: entry.number for key in portion for entry in key.entries}
        await self._drop_superseded(last, number_of(portion[-1].key))

        def may_go(entry: StoredEntry) -> bool:
            return entry.number <= told and last.get(entry.component) != entry.number

        old = 0
        for some in batches(portion, _REWRITTEN):
            await self._log.breathe()
            old += sum(e.at < before and may_go(e) for key in some for e in key.entries)
        excess = self._size - old - most
        for some in batches(portion, _REWRITTEN):
            await self._log.breathe()
            steps: list[Step] = []
            gone = 0
            for key, entries in some:
                kept: list[StoredEntry] = []
                for entry in entries:
                    if not may_go(entry):
                        kept.append(entry)
                    elif entry.at >= before:
                        if excess > 0:
                            excess -= 1
                        else:
                            kept.append(entry)
                if len(kept) < len(entries):
                    steps.append(_rewrite(key, kept))
                    gone += len(entries) - len(kept)
                    left = {entry.number for entry in kept}
                    highest = max(e.number for e in entries if e.number not in left)
                    self._trimmed = max(self._trimmed, highest)
            if steps:
                noted = Put(CURSOR + TRIMMED.encode(), cursor_value(self._trimmed))
                await self._log.write([Step([noted]), *steps])
            self._count -= gone

    async def _drop_superseded(self, last: dict[str, int], after: int) -> None:
        """Remove from `last` the components of which the log has an entry above the number `after`.

        `last` has, by component, the number of its last entry up to `after`.
        """
        async for keys in self._log.keys(after):
            for key in keys:
                for entry in key.entries:
                    last.pop(entry.component, None)
            if not last:
                break


def _rewrite(key: bytes, entries: Sequence[StoredEntry]) -> Step:
    """Return the step that leaves only these entries in a key of the log.

    If there are no entries, the step deletes the key.
    """
    if not entries:
        return Step([Delete(key)])
    return Step([Put(key, log_value([orjson.dumps(each.fields) for each in entries]))])
