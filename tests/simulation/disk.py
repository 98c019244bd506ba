"""A store on a simulated disk: what is written takes a while, and is lost by a kill until then."""

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail
from zope.interface import implementer

from hbtd.store.interface import IStore, StoreUnusable
from hbtd.store.memory import MemoryStore
from hbtd.tracker.records import Identity, Record
from hbtd.tracker.transitions import Judgement


class Disk:
    """What outlives a process: the contents of a store, and the clock of its file."""

    def __init__(self) -> None:
        self.contents = MemoryStore("hbtd:28500")
        self.heard_at: dict[str, float] = {}
        """By component, when the clock of the file said that it was heard."""
        self.clock = 0.0
        """The observed seconds of all processes, as of the last write."""
        self.broken = False
        """Whether writes fail."""


@implementer(IStore)
class DiskStore(MemoryStore):
    """A store on a disk, for one process; like that in an SQLite file, it has one thread."""

    durable = True

    def __init__(
        self, disk: Disk, reactor: Any, observed: Callable[[], float], delay: Callable[[], float]
    ) -> None:
        """Make the store; `delay` returns how many seconds the next call takes."""
        super().__init__("hbtd:28500")
        self._disk = disk
        self._reactor = reactor
        self._observed = observed
        self._delay = delay
        self._free_at = 0.0
        self._offset = 0.0
        # The contents are those of the disk.
        for name in (
            "_log",
            "_records",
            "_identities",
            "_judgements",
            "_undelivered",
            "_told",
            "_notes",
        ):
            setattr(self, name, getattr(disk.contents, name))

    def open(self) -> Deferred[None]:
        """Open it."""

        def opened() -> None:
            self._offset = self._disk.clock - self._observed()
            self._open = True

        return self._later(opened)

    def _later(self, work: Callable[[], Any], *, writes: bool = False) -> Deferred[Any]:
        """Do something when the disk has done all before it; at a kill it is not done at all."""
        done: Deferred[Any] = Deferred()
        now = self._reactor.seconds()
        self._free_at = max(self._free_at, now) + self._delay()
        at = self._observed()

        def do() -> None:
            if writes and self._disk.broken:
                done.errback(StoreUnusable("the disk is broken"))
                return
            if writes:
                self._disk.clock = max(self._disk.clock, at + self._offset)
            result = work()
            if isinstance(result, Deferred):
                result.chainDeferred(done)
            else:
                done.callback(result)

        self._reactor.callLater(self._free_at - now, do)
        return done

    def commit(
        self, judgements: Sequence[Judgement], records: Sequence[Record] = ()
    ) -> Deferred[bool]:
        """Store judgements and records."""
        now = self._observed() + self._offset

        def work() -> Deferred[bool]:
            self._place(records, now)
            committed = MemoryStore.commit(self, judgements)
            # In the same moment: no kill comes between a judgement and its record.
            MemoryStore.checkpoint(self, records)
            return committed

        return self._later(work, writes=True)

    def checkpoint(self, records: Sequence[Record]) -> Deferred[None]:
        """Store records."""
        if not self._reactor.process.clock:
            return fail(StoreUnusable("no clock"))
        now = self._observed() + self._offset

        def work() -> Deferred[None]:
            self._place(records, now)
            return MemoryStore.checkpoint(self, records)

        return self._later(work, writes=True)

    def _place(self, records: Sequence[Record], now: float) -> None:
        for record in records:
            self._disk.heard_at[record.component] = now - record.age

    def records(self, after: str = "", most: int = 2**62) -> Deferred[Sequence[Record]]:
        """Return records, with ages as of the last write."""

        def aged(found: Sequence[Record]) -> Sequence[Record]:
            heard = self._disk.heard_at
            return [each._replace(age=self._disk.clock - heard[each.component]) for each in found]

        return self._later(lambda: MemoryStore.records(self, after, most).addCallback(aged))

    def delivered(self, judgements: Sequence[Judgement], at: float = 0.0) -> Deferred[None]:
        """Mark judgements as delivered."""
        return self._later(lambda: MemoryStore.delivered(self, judgements, at), writes=True)

    def move_cursor(self, reader: str, number: int) -> Deferred[None]:
        """Set the cursor of a reader of the log."""
        return self._later(lambda: MemoryStore.move_cursor(self, reader, number), writes=True)

    def forget(self, xname: str) -> Deferred[None]:
        """Delete all about a component."""
        return self._later(lambda: MemoryStore.forget(self, xname), writes=True)

    def identify(self, identities: Sequence[Identity]) -> Deferred[None]:
        """Store host names and NIDs."""
        return self._later(lambda: MemoryStore.identify(self, identities), writes=True)

    def usable(self) -> bool:
        """Return whether the store is open, and the disk works."""
        return self._open and not self._disk.broken
