"""The backlog: entries that were read from the log and that Kafka has yet to acknowledge."""

from collections import deque
from collections.abc import Callable, Sequence
from itertools import compress
from threading import Condition
from typing import NamedTuple

from hbtd.config.value_types import TelemetryAddress
from hbtd.store.interface import LogEntry
from hbtd.telemetry.refusals import Outcome, Refusals

BATCH = 500
"""The most messages in a batch, that is, the most messages that are handed to Kafka together.

The next batch is sent when Kafka has acknowledged all messages of the current batch.
"""

CAPACITY = 4000
"""The most entries in the backlog; while it is full, no further entries are read from the log."""


class Order(NamedTuple):
    """An order to the publisher's thread: to send messages to an address, to wait, or to stop.

    The thread follows an order for as long as `Backlog.holds` returns true for the order.
    """

    number: int
    address: TelemetryAddress | None
    """The address of Kafka to which to send messages; `None` if nothing is to be sent."""
    stop_at: float | None
    """The monotonic time, in seconds, by which the thread must stop; `None` if it need not stop."""


class Backlog:
    """The entries that were read from the log of transitions and that Kafka has yet to acknowledge.

    The entries are in order, oldest first. The reactor's thread adds entries. The publisher's
    thread takes them in batches, and records which messages Kafka has accepted or refused. Both
    threads hold the lock `changed`, a `threading.Condition`, while they use the entries; the
    condition also wakes the publisher's thread. Kafka's cursor may be moved up to `done`.
    """

    def __init__(self, make_condition: Callable[[], Condition] = Condition) -> None:
        """Make an empty backlog. The publisher's thread sends nothing until `send_to` is called.

        `make_condition` returns a new `threading.Condition`, which becomes `changed`.
        """
        self.changed = make_condition()
        self.more = False
        """Whether the log has further entries, which were not added to the backlog yet."""
        self.published_count = 0
        """The number of messages that Kafka has acknowledged."""
        self.refused_count = 0
        """The number of messages dropped because Kafka refused them while it accepted others."""
        self._order = Order(0, None, None)
        self._put = 0
        self._waiting: deque[LogEntry] = deque()
        self._batch: list[LogEntry] = []
        self._refusals = Refusals(BATCH)

    # The reactor's part

    @property
    def done(self) -> int:
        """The number up to which every log entry was acknowledged by Kafka, or was dropped."""
        with self.changed:
            pending = (self._refusals.aside, self._batch, self._waiting)
            return min((each[0].number - 1 for each in pending if each), default=self._put)

    @property
    def room(self) -> int:
        """How many further entries the backlog has room for, before it has `CAPACITY` entries."""
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
        """Empty the backlog; the log entries to be added next have numbers above `number`."""
        with self.changed:
            self._clear()
            self._put = number

    def put(self, entries: Sequence[LogEntry], more: bool) -> None:
        """Add the next entries of the log; `more` says whether the log has further entries."""
        with self.changed:
            self._waiting.extend(entries)
            if entries:
                self._put = entries[-1].number
            self.more = more
            self.changed.notify()

    def skip(self, number: int) -> int:
        """Drop the entries with numbers up to `number`, except those in the current batch.

        Return the number of dropped entries.
        """
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
        """Order the publisher's thread to send entries to Kafka at `address` from now on.

        If `address` is `None`, order the thread to send nothing.
        """
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
        """Order the publisher's thread to stop once the backlog is empty, at the latest at `at`.

        `at` is a time in seconds of the monotonic clock. At this time, the thread stops even if the
        backlog still has entries.
        """
        with self.changed:
            self._order = self._order._replace(stop_at=at)
            self.changed.notify()

    # The thread's part

    @property
    def order(self) -> Order:
        """The current order to the publisher's thread."""
        return self._order

    def holds(self, order: Order) -> bool:
        """Return whether the publisher's thread is still to follow `order`.

        The result is false once another order has replaced it, unless only `stop_at` differs.
        """
        return self._order.number == order.number

    @property
    def empty(self) -> bool:
        """Whether the backlog has no entries, and the log has no further ones as far as known."""
        return not (self.more or self.pending)

    @property
    def in_hand(self) -> bool:
        """Whether the current batch has messages that Kafka has neither accepted nor refused."""
        return bool(self._batch)

    @property
    def refuses_everything(self) -> bool:
        """Whether Kafka has refused all messages sent since it last accepted one."""
        return self._refusals.everything

    def take(self) -> list[LogEntry]:
        """Return the current batch: the log entries to send to Kafka now.

        If the current batch is empty, the next entries of the backlog become the current batch. The
        result is an empty list if no entries are waiting to be sent.

        A new batch has no two entries of the same component. Kafka may append the later messages of
        a batch although it has failed to append an earlier one, and so would get the messages of a
        component out of order.
        """
        with self.changed:
            if not self._batch:
                components: set[str] = set()
                while self._waiting and len(self._batch) < self._refusals.together:
                    component = self._waiting[0].judgement.component
                    if component in components:
                        break
                    components.add(component)
                    self._batch.append(self._waiting.popleft())
            return self._batch

    def settle(self, batch: list[LogEntry], done: Sequence[bool]) -> int:
        """Remove from the current batch the messages that Kafka has accepted.

        `batch` is the batch that was sent. `done` has an item for each message in it, true if Kafka
        has accepted the message. A message that was set aside, because Kafka refused it earlier, is
        dropped if Kafka has now accepted a newer message about the same component. Return the
        number of dropped messages.
        """
        accepted = list(compress(batch, done))
        with self.changed:
            self.published_count += len(accepted)
            if self._batch is not batch or not accepted:
                return 0  # it was dropped, or the next producer gets it as it is
            self._batch = [each for each, fine in zip(batch, done, strict=True) if not fine]
            return self._apply(self._refusals.accepted(accepted))

    def refuse(self, order: Order) -> tuple[int, bool]:
        """Empty the current batch, because Kafka has refused the messages left in it.

        `Refusals` decides whether they are sent again, set aside, or dropped. Return the number of
        dropped messages, and whether Kafka seems to refuse everything.

        Do nothing, and return 0 and `False`, if the batch is empty, or if `order`, by which it was
        sent, has been replaced.
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
