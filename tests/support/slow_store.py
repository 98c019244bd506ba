"""A store in memory that takes its time, or fails, and notes what it is asked to write."""

from collections.abc import Sequence

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock, deferLater

from hbtd.store.interface import StoreUnusable
from hbtd.store.memory import MemoryStore
from hbtd.tracker.records import Record
from hbtd.tracker.transitions import Judgement


class SharedStore(MemoryStore):
    """A store that other replicas use, too, and that takes its time, or fails."""

    durable = True
    shared = True
    gather = 0.5

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self.seconds = 0.0
        """The duration of a checkpoint, in seconds of the clock."""
        self.failing = False
        """Whether all calls fail."""
        self.written: list[tuple[float, list[str]]] = []
        """The components of each checkpoint, and its time."""
        self.commits: list[float] = []
        """The times of all commits, those that failed included."""
        self.committed: list[str] = []
        """The components whose records were committed with judgements."""
        self.held: list[Deferred[None]] | None = None
        """Unless it is `None`: what the test fires so that components are forgotten."""
        self.forgotten: list[str] = []
        """The components that were forgotten."""

    def usable(self) -> bool:
        """Return true, although the store was not opened."""
        return True

    def commit(
        self, judgements: Sequence[Judgement], records: Sequence[Record] = ()
    ) -> Deferred[bool]:
        """Note the components of the records; this takes as long as four checkpoints."""
        self.commits.append(self._clock.seconds())
        if self.failing:
            return fail(StoreUnusable("disk full"))

        def done() -> bool:
            self.committed += [record.component for record in records]
            return True

        return deferLater(self._clock, 4 * self.seconds, done)

    def checkpoint(
        self, records: Sequence[Record], starting: Sequence[Record] = ()
    ) -> Deferred[None]:
        """Note the components of the records."""
        if self.failing:
            return fail(StoreUnusable("disk full"))
        if records:
            names = [record.component for record in records]
            self.written.append((self._clock.seconds(), names))
        return deferLater(self._clock, self.seconds)

    def forget(self, xname: str) -> Deferred[None]:
        """Note the component; with `held`, this is done once the test says so."""
        if self.failing:
            return fail(StoreUnusable("disk full"))
        self.forgotten.append(xname)
        if self.held is None:
            return succeed(None)
        self.held.append(Deferred())
        return self.held[-1]
