"""The log of transitions in etcd: how it is read, and the cursors of its readers."""

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from hbtd.etcd.client import EtcdClient
from hbtd.etcd.messages import Compare, Page, Put
from hbtd.store.etcd_log_format import (
    CURSOR,
    LOG_END,
    StoredEntry,
    as_entry,
    cursor_value,
    log_key,
    read_cursor,
    read_stored,
)
from hbtd.store.etcd_mirror import EtcdMirror
from hbtd.store.etcd_steps import Step
from hbtd.store.etcd_writer import EtcdWriter
from hbtd.store.interface import LogEntry

_T = TypeVar("_T")

_ENTRIES = 1000
"""About how many entries are read in one call: a few milliseconds' worth."""

_FIRST_PAGE, _LARGEST_PAGE = 16, 500
"""The most keys that are read in the first call, and in any."""

_FULL_KEY = 60
"""About how many entries a key has if many are committed at once."""


class InTurn(Protocol):
    """The type of a function that runs a coroutine function after the store's earlier calls."""

    def __call__(self, work: Callable[[], Coroutine[Any, Any, _T]], /) -> Awaitable[_T]:
        """Run `work` once all earlier calls of the store have ended; return its result.

        Raise the exceptions of `work`.
        """


class LogKey(NamedTuple):
    """A key of the log in etcd, and the entries that its value has."""

    key: bytes
    entries: list[StoredEntry]


class EtcdLog:
    """Reads the log of transitions in etcd; reads and writes the cursors of the log's readers."""

    def __init__(
        self, client: EtcdClient, mirror: EtcdMirror, writer: EtcdWriter, in_turn: InTurn
    ) -> None:
        self._client = client
        self._mirror = mirror
        self._writer = writer
        self.in_turn = in_turn
        """The function that runs a coroutine function once the store's earlier calls have ended."""

    async def keys(self, after: int, size: int = _FIRST_PAGE) -> AsyncIterator[list[LogKey]]:
        """Yield the keys of the log that may have entries with numbers above `after`, in order.

        The keys are yielded in pages. The first page has up to `size` keys; the sizes of the next
        pages depend on how many entries the keys have. Between two pages, other calls of the store
        are carried out. Keys with invalid values or without entries are left out. Raise the
        exceptions of `EtcdClient.range`, and `StoreUnusable` if the store is closed.
        """
        start = log_key(after + 1)
        more = True
        while more:
            page = await self._page(start, size)
            keys = [
                LogKey(item.key, entries)
                for item in page.items
                if (entries := self._mirror.read(read_stored, item.key, item.value))
            ]
            yield keys
            more = page.more
            if more:
                start = page.items[-1].key + b"\0"
                count = sum(len(each.entries) for each in keys)
                size = min(max(size * _ENTRIES // max(count, 1), 1), _LARGEST_PAGE, 2 * size)

    async def _page(self, start: bytes, size: int) -> Page:
        async def work() -> Page:
            return await self._client.range(start, LOG_END, limit=size)

        return await self.in_turn(work)

    async def breathe(self) -> None:
        """Let the reactor do other work; call this between the parts of a long computation."""
        await self._client.breathe()

    async def read(self, after: int, most: int) -> Sequence[LogEntry]:
        """Return up to `most` entries with numbers above `after`, in order."""
        found: list[LogEntry] = []
        async for keys in self.keys(after, min(most // _FULL_KEY + 1, _FIRST_PAGE)):
            for stored in (stored for key in keys for stored in key.entries):
                if len(found) >= most:
                    return found
                # A commit that was tried again may have left an entry in two keys.
                if stored.number > after:
                    after = stored.number
                    found.append(as_entry(stored))
            if len(found) >= most:
                break
        return found

    async def cursor(self, reader: str) -> int | None:
        """Return the cursor of a reader of the log, or `None` if the reader has none yet."""
        key = CURSOR + reader.encode()

        async def work() -> int | None:
            found = await self._client.get(key)
            return None if found is None else self._mirror.read(read_cursor, key, found.value)

        return await self.in_turn(work)

    async def move_cursor(self, reader: str, number: int) -> None:
        """Set a reader's cursor to `number`, the number of the last entry that it has passed on."""
        key = CURSOR + reader.encode()
        await self.write([Step([Put(key, cursor_value(number))])])
        self._mirror.moved(key, number)

    async def restore_cursors(self) -> None:
        """Write back the cursors that etcd has lost, from `EtcdMirror.lost_cursors`.

        A cursor that was written again since the loss stays as it is. Without its cursor, a reader
        would begin at the end of the log, and miss earlier entries.
        """

        async def work() -> None:
            for key, number in list(self._mirror.lost_cursors.items()):
                put = Put(key, cursor_value(number))
                result = await self._client.txn([Compare.mod_revision(key, 0)], [put])
                if result.succeeded:
                    self._mirror.moved(key, number)
                else:
                    self._mirror.lost_cursors.pop(key, None)

        await self.in_turn(work)

    async def write(self, steps: Sequence[Step]) -> None:
        """Carry out `steps` in fenced transactions.

        Raise `NotLeading` if this replica does not lead.
        """

        async def work() -> None:
            await self._writer.write(steps, fenced=True)

        await self.in_turn(work)
