"""Heartbeats that etcd has only in blocks, and the records that tell of them."""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import islice

from hbtd.tracker.cohorts import ORDINARY, Limits
from hbtd.tracker.records import Record

_Queue = OrderedDict[str, tuple[Record, float]]


class OwedRecords:
    """The records that a replica owes etcd: those of heartbeats that are only in blocks.

    Each has the time of its heartbeat, in seconds. Components with limits of their own are in a
    queue for each of these, since their records are due at other times; each queue is in about the
    order of the heartbeats.
    """

    def __init__(self, own_limits: Callable[[str], Limits]) -> None:
        """Make an empty object; `own_limits` returns the limits of a component's own."""
        self._own_limits = own_limits
        self._ordinary: _Queue = OrderedDict()
        # The other queues, and the components that are in these.
        self._others: dict[Limits, _Queue] = {}
        self._queue_of: dict[str, _Queue] = {}

    def __len__(self) -> int:
        return len(self._ordinary) + len(self._queue_of)

    def __contains__(self, xname: str) -> bool:
        return xname in self._ordinary or xname in self._queue_of

    def __iter__(self) -> Iterator[str]:
        yield from self._ordinary
        yield from self._queue_of

    def get(self, xname: str) -> Record | None:
        """Return the record that is owed of a component; `None` if none is."""
        owed = self._queue_of.get(xname, self._ordinary).get(xname)
        return None if owed is None else owed[0]

    def add(self, record: Record, heard_at: float, *, last: bool = True) -> None:
        """Add a record, in place of the one of the same component if there is one.

        `heard_at` is the time of its heartbeat. Add it as the one heard last or, if `last` is
        false, as the one heard first.
        """
        xname = record.component
        limits = self._own_limits(xname)
        if limits == ORDINARY:
            queue = self._ordinary
        else:
            queue = self._others.setdefault(limits, OrderedDict())
        if self._queue_of.get(xname, self._ordinary) is not queue:
            self.discard(xname)
        if queue is not self._ordinary:
            self._queue_of[xname] = queue
        queue[xname] = record, heard_at
        queue.move_to_end(xname, last=last)

    def discard(self, xname: str) -> None:
        """Remove the record of a component, if there is one."""
        self._queue_of.pop(xname, self._ordinary).pop(xname, None)

    def take(self, heard_until: Callable[[Limits], float], most: int) -> list[tuple[Record, float]]:
        """Remove and return up to `most` records that are due, with the times of their heartbeats.

        Due are those that were heard at the time that `heard_until` returns for the limits of their
        components, or earlier.
        """
        taken: list[tuple[Record, float]] = []
        for limits, queue in [(ORDINARY, self._ordinary), *self._others.items()]:
            until = heard_until(limits)
            for xname, owed in list(islice(queue.items(), most - len(taken))):
                if owed[1] > until:
                    break
                self.discard(xname)
                taken.append(owed)
            if not queue and queue is not self._ordinary:
                del self._others[limits]
        return taken
