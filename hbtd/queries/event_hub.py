"""The event hub: passes new entries of the log of transitions on to its readers, as events.

An event is made once, as bytes, and shared by all readers. The hub keeps the latest events in a
ring of limited size; a reader has only a position in the ring, so that a slow reader costs no
memory. After writing events for about 2 ms, the hub lets other work run, so that heartbeats are
taken without delay, however many readers there are.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from hbtd.queries.event_blocks import Block, Notice
from hbtd.queries.event_reader import Reader
from hbtd.runtime.periodic import PeriodicService
from hbtd.store.interface import IStore, StoreUnusable
from hbtd.store.past import TRIMMED, LogEntry, Selection

KEEP_ALIVE: Final = 15.0
"""Seconds between two comments that a reader is sent if there are no events for it.

Comments keep the connection open; clients ignore them. At the same interval, hbtd checks whether
the clients may still read events.
"""

MOST_BEHIND: Final = 10_000
"""The largest number of events kept in memory, and of past events that a new reader is sent."""

_IN_BLOCK: Final = 64
_TURN: Final = 0.002
"""Seconds for which events are written before the reactor can do other work."""

_PORTION: Final = 500
_READING_AT_ONCE: Final = 4
_RETRY: Final = 1.0
"""Seconds after which a reader that comes back is served if the log could not be read."""


class EventHub:
    """Sends new entries of the log of transitions to readers, as events.

    A hub is a listener of `LogFollower`, which tells it of the new entries.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        store: IStore,
        encode: Callable[[LogEntry], bytes],
        missed: Callable[[int, int], bytes],
        most_kept: int = MOST_BEHIND,
    ) -> None:
        """Make a hub without events.

        `encode` returns the event for an entry. `missed(after, to)` returns an event which says
        that the entries with numbers above `after`, up to `to`, may be missing. The hub keeps about
        `most_kept` events in memory, the latest ones.
        """
        self._clock = clock
        self._store = store
        self._encode = encode
        self._missed = missed
        self._most_kept = most_kept
        self.readers: dict[Reader, None] = {}
        """The readers, in the order in which they came."""
        self.dropped_count = 0
        """The number of readers disconnected because their clients did not read the events."""
        # The blocks of the ring by index, from `_first` up to `_end`, and how many events they are.
        self._blocks: dict[int, Block | Notice] = {}
        self._first = self._end = 0
        self._kept = 0
        # The ring has all events with numbers above this; `None` before the first is expected.
        self._start: int | None = None
        self._last = 0
        self._waiting: dict[Reader, Deferred[None]] = {}
        self._due: deque[Reader] = deque()
        self._pumping = False
        self._reading = DeferredSemaphore(_READING_AT_ONCE)
        self._closed = False
        self._keeping = PeriodicService(
            clock, KEEP_ALIVE, self._keep_alive, "the comments for event readers", now=False
        )

    # What the follower of the log tells

    def begin(self, number: int) -> None:
        """Begin to serve readers; `number` is the number of the last entry in the log."""
        self._start = self._last = number
        waiting, self._waiting = self._waiting, {}
        for each in waiting.values():
            each.callback(None)

    def tell(self, entries: Sequence[LogEntry]) -> None:
        """Make events from new entries of the log, and start to write them to all readers."""
        for start in range(0, len(entries), _IN_BLOCK):
            some = entries[start : start + _IN_BLOCK]
            events = [self._encode(each) for each in some]
            numbers = [each.number for each in some]
            names = [each.judgement.component for each in some]
            self._blocks[self._end] = Block(numbers, names, events, b"".join(events))
            self._end += 1
            self._kept += len(some)
            self._last = numbers[-1]
        self._drop_oldest()

    def announce(self, event: bytes, concerns: Callable[[Selection], bool]) -> None:
        """Write an event that is about no entry of the log to all readers whom it concerns.

        `concerns(selection)` returns whether it concerns the readers of some components. The event
        has no number, so that who comes later is not sent it.
        """
        if self._start is None:
            return  # nobody is sent anything yet
        self._blocks[self._end] = Notice(self._last, event, concerns)
        self._end += 1
        self._kept += 1
        self._drop_oldest()

    def _drop_oldest(self) -> None:
        """Keep no more events than may be kept, and write the new ones to the readers."""
        while self._kept > self._most_kept and self._first < self._end - 1:
            oldest = self._blocks.pop(self._first)
            self._first += 1
            self._kept -= len(oldest.numbers)
            self._start = oldest.numbers[-1]
        for reader in list(self.readers):
            if reader.paused and reader.place is not None and reader.place < self._first:
                self._drop(reader)
            else:
                self.wake(reader)

    # Readers

    def join(
        self,
        selection: Selection,
        after: int | None,
        write: Callable[[bytes], object],
        drop: Callable[[], object],
        may_read: Callable[[], bool] = lambda: True,
    ) -> Reader:
        """Add a reader, which is sent all events about selected components from now on.

        `write` sends bytes to the client, and `drop` ends its connection at once. `may_read`
        returns whether the client may still read events. It is called every `KEEP_ALIVE` seconds;
        once it has returned false, the reader's stream is ended.

        With a number `after`, the reader is first sent the events of all entries after that number.
        If some of these are no longer in the log, an event is sent first that says which entries
        may be missing. If more than `MOST_BEHIND` entries follow, or if the log ends before that
        number, the reader is sent an event that says which entries may be missing, and then only
        new events.

        A reader whose client does not read is dropped once its next events are no longer in memory.
        If the client reads, but the hub can't write fast enough, the reader is sent an event that
        says which entries may be missing.

        If the hub is closed, the returned reader's stream has ended already.
        """
        reader = Reader(self, selection, write, drop, may_read)
        if self._closed:
            reader.ended.callback(b"")
            return reader
        self.readers[reader] = None
        if len(self.readers) == 1:
            self._keeping.startService()
        Deferred.fromCoroutine(self._catch_up(reader, after)).addErrback(
            lambda failure: self._failed(reader, failure)
        )
        return reader

    def leave(self, reader: Reader) -> None:
        """Remove a reader; do nothing if it was removed already."""
        if reader in self.readers:
            del self.readers[reader]
            reader.release()
            if (begun := self._waiting.pop(reader, None)) is not None:
                begun.callback(None)  # it may be long before the log can be read
            if not self.readers:
                self._keeping.stopService()

    def close(self) -> None:
        """End the streams of all readers, because hbtd stops.

        From now on `closed` is true, and the handler of `/events` refuses new readers.
        """
        self._closed = True
        for reader in list(self.readers):
            self.leave(reader)
            reader.ended.callback(b"")

    @property
    def closed(self) -> bool:
        """Whether the hub is closed, because hbtd stops."""
        return self._closed

    def _drop(self, reader: Reader) -> None:
        self.dropped_count += 1
        self.leave(reader)
        reader.drop()

    def _failed(self, reader: Reader, failure: Failure) -> None:
        self._log.failure(
            "Serving a client of /events failed because of a bug in hbtd; the client is"
            " disconnected.",
            failure,
        )
        self._drop(reader)

    # Events of the past

    async def _catch_up(self, reader: Reader, after: int | None) -> None:
        """Read from the log the entries after a number that are not in memory; send their events.

        Then let the reader go on with the events in memory. If `after` is `None`, send nothing, and
        let the reader begin with the next event.
        """
        if self._start is None:
            begun: Deferred[None] = Deferred()
            self._waiting[reader] = begun
            await begun
        if after is not None and not reader.gone:
            after = await self._check(reader, after)
        while after is not None and self._start is not None and after < self._start:
            await reader.writable()
            if reader.gone:
                return
            entries = await self._read(reader, after)
            wanted = [e for e in entries if reader.selection.includes(e.judgement.component)]
            after = entries[-1].number if entries else max(self._start, after)
            if wanted and not reader.gone:
                reader.write(b"".join(map(self._encode, wanted)))
        if not reader.gone:
            reader.done = self._last if after is None else after
            reader.place = self._end if after is None else self._place(reader, after)
            self.wake(reader)

    async def _check(self, reader: Reader, after: int) -> int | None:
        """Return the number after which a reader is sent events; `None` for new events only.

        `after` is the number that the reader has asked for. If entries after it can't be sent, send
        the reader an event that says so.
        """
        trimmed = 0
        try:
            trimmed = await self._store.cursor(TRIMMED) or 0
        except StoreUnusable:
            pass  # if earlier entries are needed, they can't be read either
        if reader.gone:
            return None
        if after > self._last or self._last - after > MOST_BEHIND:
            reader.write(self._missed(after, self._last))
            return None
        if after < trimmed:
            reader.write(self._missed(after, trimmed))
        return after

    async def _read(self, reader: Reader, after: int) -> Sequence[LogEntry]:
        while not reader.gone:
            try:
                return await self._reading.run(self._store.log, after, _PORTION)
            except StoreUnusable:
                paused: Deferred[None] = Deferred()
                self._clock.callLater(_RETRY, paused.callback, None)
                await paused
        return ()

    def _place(self, reader: Reader, after: int) -> int:
        """Return the index of the block with which a reader goes on after the entry `after`.

        If this entry is within a block, send the reader the rest of that block, and return the
        index of the next.
        """
        for place in range(self._first, self._end):
            block = self._blocks[place]
            if block.numbers[-1] > after:
                if block.numbers[0] > after:
                    return place
                reader.done = block.numbers[-1]
                data = block.select(reader.selection, after)
                if data:
                    reader.write(data)
                return place + 1
        return self._end

    # Writing

    def wake(self, reader: Reader) -> None:
        """Add a reader to the queue of readers to be written to, if there is anything to write."""
        if reader.queued or not (reader.unchecked or self._can_write(reader)):
            return
        reader.queued = True
        self._due.append(reader)
        if not self._pumping:
            self._pumping = True
            self._clock.callLater(0, self._pump)

    def _can_write(self, reader: Reader) -> bool:
        if reader.paused or reader.place is None:
            return False
        return reader.idle or reader.place != self._end

    def _pump(self) -> None:
        self._pumping = False
        ends = self._clock.seconds() + _TURN
        while self._due:
            reader = self._due.popleft()
            reader.queued = False
            if reader in self.readers:
                try:
                    if reader.unchecked:
                        self._check_permission(reader)
                    if reader in self.readers and self._can_write(reader):
                        self._write(reader)
                except Exception:  # noqa: BLE001  # the others go on
                    self._log.failure(
                        "Writing to a client of /events failed because of a bug in hbtd; the client"
                        " is disconnected."
                    )
                    self._drop(reader)
                else:
                    self.wake(reader)
            if self._clock.seconds() >= ends:
                break
        if self._due and not self._pumping:
            self._pumping = True
            self._clock.callLater(0, self._pump)

    def _check_permission(self, reader: Reader) -> None:
        """End the stream of a reader that may no longer read; drop it if it does not read."""
        reader.unchecked = False
        if reader.may_read():
            return
        paused = reader.paused
        self.leave(reader)
        if paused:
            reader.drop()
        else:
            reader.ended.callback(b"")

    def _write(self, reader: Reader) -> None:
        """Write the next block to a reader or, if there is none, a keep-alive comment.

        If the next block is no longer in memory, write an event that says which entries may be
        missing.
        """
        assert reader.place is not None
        if reader.place < self._first:
            # It has read all it was sent, but the hub was busy with others for too long.
            reader.place = self._first
            before, start = reader.done, self._start or 0
            if before < start:
                reader.done = start
                reader.write(self._missed(before, start))
            return
        if reader.place < self._end:
            block = self._blocks[reader.place]
            # It may have been sent some of them from the log, before the hub was told of them.
            data = block.select(reader.selection, reader.done)
            reader.place += 1
            reader.done = max(reader.done, block.numbers[-1])
            if data:
                reader.idle = False
                reader.write(data)
            return
        reader.idle = False
        # One who reads about few components has to know up to which number there was nothing.
        number = max(self._last, reader.done)
        known = b"" if reader.selection.everything else b"id: %d\n" % number
        reader.write(b": keep-alive\n%b\n" % known)

    def _keep_alive(self) -> None:
        for reader in self._living():
            reader.idle = reader.unchecked = True
            self.wake(reader)

    def _living(self) -> Iterator[Reader]:
        yield from list(self.readers)
