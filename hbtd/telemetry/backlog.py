"""The backlog: entries of the log that were read and that the publisher's thread is to send."""

from collections import deque
from collections.abc import Callable, Sequence
from itertools import compress, islice
from threading import Condition
from typing import NamedTuple

from hbtd.config.value_types import TelemetryAddress
from hbtd.store.interface import LogEntry
from hbtd.telemetry.refusals import Outcome, Refusals

BATCH = 500
"""The most messages in a batch; all are acknowledged before the next batch is sent."""

CAPACITY = 4000
"""The most entries that are read from the log ahead of Kafka."""


class Order(NamedTuple):
    """An order to the publisher's thread: to send messages to an address, to wait, or to stop.

    It is to be followed for as long as `Backlog.holds` returns true for it.
    """

    number: int
    address: TelemetryAddress | None
    """Where to send messages; `None` if nothing is to be sent."""
    stop_at: float | None
    """When to stop, by the monotonic clock, even if messages wait; `None` to go on."""


class Backlog:
    """The entries of the log that are on their way to Kafka, oldest first.

    The reactor's thread adds entries. The publisher's thread removes them in batches, and notes
    which messages Kafka has accepted or refused. Both lock `changed` for that, a
    `threading.Condition`, which also notifies the publisher's thread of changes. `done` is the
    number up to which Kafka has been told, to which the cursor can be moved.
    """

    def __init__(self, make_condition: Callable[[], Condition] = Condition) -> None:
        """Make an empty backlog; the publisher's thread is to send nothing for now."""
        self.changed = make_condition()
        self.more = False
        """Whether the log has entries that have yet to be put here."""
        self.published_count = 0
        """The number of messages that Kafka has acknowledged."""
        self.refused_count = 0
        """The number of messages given up because Kafka refused them and accepted others."""
        self._order = Order(0, None, None)
        self._put = 0
        self._waiting: deque[LogEntry] = deque()
        self._batch: list[LogEntry] = []
        self._refusals = Refusals(BATCH)

    # The reactor's part

    @property
    def done(self) -> int:
        """The number up to which no entry waits for Kafka any more.

        Each entry up to this number was acknowledged by Kafka, given up or dropped.
        """
        with self.changed:
            pending = (self._refusals.aside, self._batch, self._waiting)
            return min((each[0].number - 1 for each in pending if each), default=self._put)

    @property
    def room(self) -> int:
        """The number of further entries that can be put here."""
        return max(CAPACITY - self.pending, 0)

    @property
    def pending(self) -> int:
        """The number of entries that Kafka has yet to acknowledge."""
        with self.changed:
            return len(self._waiting) + len(self._batch) + len(self._refusals.aside)

    def pending_up_to(self, number: int) -> int:
        """Return how many entries with numbers up to `number` Kafka has yet to acknowledge."""
        with self.changed:
            pending = (self._refusals.aside, self._batch, self._waiting)
            return sum(each.number <= number for entries in pending for each in entries)

    def begin(self, number: int) -> None:
        """Drop all entries; those that are added next have numbers above `number`."""
        with self.changed:
            self._clear()
            self._put = number

    def put(self, entries: Sequence[LogEntry], more: bool) -> None:
        """Add the next entries of the log; `more` says whether the log has further ones."""
        with self.changed:
            self._waiting.extend(entries)
            if entries:
                self._put = entries[-1].number
            self.more = more
            self.changed.notify()

    def skip(self, number: int) -> int:
        """Drop the entries up to `number` that are not in the batch; return how many these are."""
        with self.changed:
            before = self.pending
            while self._waiting and self._waiting[0].number <= number:
                self._waiting.popleft()
            self._refusals.drop(number)
            self._put = max(self._put, number)
            return before - self.pending

    def clear(self) -> None:
        """Drop all entries, including those of a batch that is being sent."""
        with self.changed:
            self._clear()

    def _clear(self) -> None:
        self._waiting.clear()
        self._refusals = Refusals(BATCH)
        self.more = False
        if self._batch:
            # The producer would go on trying to send it: the thread has to part with it.
            self._batch = []
            self._order = self._order._replace(number=self._order.number + 1)
        self.changed.notify()

    def send_to(self, address: TelemetryAddress | None) -> None:
        """Order the thread to send entries to `address` from now on, or nothing if it is `None`."""
        with self.changed:
            self._order = Order(self._order.number + 1, address, self._order.stop_at)
            if self._refusals.aside:
                # These are older than the batch, and may be of the same components.
                self._back(self._batch)
                self._batch = []
            self._back(self._refusals.aside)
            self._refusals = Refusals(BATCH)
            self.changed.notify()

    def stop(self, at: float) -> None:
        """Order the thread to stop once no entries wait.

        At the monotonic time `at` it is to stop in any case.
        """
        with self.changed:
            self._order = self._order._replace(stop_at=at)
            self.changed.notify()

    # The thread's part

    @property
    def order(self) -> Order:
        """The present order, which replaces all earlier ones."""
        return self._order

    def holds(self, order: Order) -> bool:
        """Return whether the publisher's thread is still to follow `order`.

        The result is false once a newer order has been given. An order remains the same one when
        only its time to stop is changed.
        """
        return self._order.number == order.number

    @property
    def empty(self) -> bool:
        """Whether the backlog has no entries, and the log is not known to have further ones."""
        return not (self.more or self.pending)

    @property
    def in_hand(self) -> bool:
        """Whether there is a batch of which Kafka has yet to accept or refuse messages."""
        return bool(self._batch)

    @property
    def refuses_everything(self) -> bool:
        """Whether Kafka has refused everything since it last accepted a message."""
        return self._refusals.everything

    def take(self) -> list[LogEntry]:
        """Return the batch that is to be sent now: what is left of the last one, else a new one.

        The list is empty if nothing waits.
        """
        with self.changed:
            if not self._batch:
                self._batch = list(islice(self._waiting, self._refusals.together))
                for _ in self._batch:
                    self._waiting.popleft()
            return self._batch

    def settle(self, batch: list[LogEntry], done: Sequence[bool]) -> int:
        """Note which messages of a batch Kafka has accepted; return how many others are given up.

        `done` says of each message in the batch whether Kafka has accepted it. A message is given
        up if Kafka refused it before, and has now accepted a newer one of the same component.
        """
        accepted = list(compress(batch, done))
        with self.changed:
            self.published_count += len(accepted)
            if self._batch is not batch or not accepted:
                return 0  # it was dropped, or the next producer gets it as it is
            self._batch = [each for each, fine in zip(batch, done, strict=True) if not fine]
            return self._apply(self._refusals.accepted(accepted))

    def refuse(self, order: Order) -> tuple[int, bool]:
        """Note that Kafka has refused all messages that are left in the batch.

        Return how many messages are given up for that, and whether Kafka seems to refuse
        everything. If `order`, by which the batch was sent, is outdated, or if nothing is left, do
        nothing; return 0 and `False`.
        """
        with self.changed:
            if not self.holds(order) or not self._batch:
                return 0, False
            batch, self._batch = self._batch, []
            outcome = self._refusals.refused(batch)
            if not (outcome.back or outcome.dropped or self._waiting):
                # None are left but those set aside.
                outcome = self._refusals.give_up()
            return self._apply(outcome), outcome.everything

    def _apply(self, outcome: Outcome) -> int:
        self._back(outcome.back)
        self.refused_count += len(outcome.dropped)
        return len(outcome.dropped)

    def _back(self, entries: Sequence[LogEntry]) -> None:
        self._waiting.extendleft(reversed(entries))
