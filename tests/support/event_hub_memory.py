"""The event hub, with the time and the readers in the hands of a test."""

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from hbtd.api.events import encode_event, encode_missed
from hbtd.queries.event_hub import EventHub
from hbtd.queries.event_reader import Reader
from hbtd.store.interface import LogEntry, StoreUnusable
from hbtd.store.memory import MemoryStore
from hbtd.store.past import EVERYTHING, Selection
from tests.support.event_stream import EventStream
from tests.support.store_log_contract import judged


class PortionedStore(MemoryStore):
    """A store that counts the reads of its log, and fails when told to."""

    reads = 0
    failing = False

    def log(self, after: int, most: int) -> Deferred[Sequence[LogEntry]]:
        """Read, or fail."""
        self.reads += 1
        return fail(StoreUnusable("disk full")) if self.failing else super().log(after, most)


class SlowClock(Clock):
    """A clock by which each look at it takes a while."""

    step = 0.0

    def seconds(self) -> float:
        """Return the time, which passes meanwhile."""
        self.rightNow += self.step
        return super().seconds()


class Client:
    """One who reads events."""

    def __init__(
        self,
        hub: EventHub,
        selection: Selection = EVERYTHING,
        after: int | None = None,
        *,
        full: bool = False,
        may_read: Callable[[], bool] = lambda: True,
    ) -> None:
        """Join a hub; with `full`, the first write fills all buffers."""
        self._full = full
        self._hub = hub
        self.stream = EventStream()
        self.written: list[bytes] = []
        self.dropped = 0
        self.ended: list[bytes] = []
        self.reader: Reader = hub.join(selection, after, self._write, self._drop, may_read)
        self.reader.ended.addCallback(self.ended.append)

    def _write(self, data: bytes) -> None:
        self.written.append(data)
        if self._full:
            self._full = False
            (reader,) = self._hub.readers
            reader.pauseProducing()
        self.stream.feed(data)

    def _drop(self) -> None:
        self.dropped += 1

    @property
    def numbers(self) -> list[int]:
        """The numbers of the transitions that it was sent."""
        return [each.number for each in self.stream.events if each.type == "transition"]

    @property
    def missed(self) -> list[str]:
        """What it was told about missed entries."""
        return [each.data for each in self.stream.events if each.type == "missed"]


class HubTestCase(SynchronousTestCase):
    """Has a hub on a log."""

    def setUp(self) -> None:
        """Begin with an empty log."""
        self.clock = SlowClock()
        self.store = PortionedStore("nid1:28500")
        self.hub = self.make_hub()

    def make_hub(self, most: int = 10_000) -> EventHub:
        """Make a hub of a ring with so many events."""
        return EventHub(self.clock, self.store, encode_event, encode_missed, most)

    def log(self, *names: str) -> Sequence[LogEntry]:
        """Log entries about components; return them."""
        after = self.store.last_number()
        self.store.commit([judged(name) for name in names])
        return self.successResultOf(MemoryStore.log(self.store, after, 10**9))

    def tell(self, *names: str) -> None:
        """Log entries, and tell the hub."""
        self.hub.tell(self.log(*names))
        self.go_round()

    def go_round(self, times: int = 1000) -> None:
        """Let the reactor go round."""
        for _ in range(times):
            if not any(c.getTime() <= self.clock.rightNow for c in self.clock.getDelayedCalls()):
                break
            self.clock.advance(0)
