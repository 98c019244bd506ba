"""The sender, which sends messages to Kafka: the work of the publisher's thread."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

from kafka.errors import KafkaError

from hbtd.config.value_types import TelemetryAddress
from hbtd.runtime.backoff import Backoff
from hbtd.store.interface import LogEntry
from hbtd.telemetry import messages
from hbtd.telemetry.backlog import Backlog, Order
from hbtd.telemetry.contact import Contact
from hbtd.telemetry.refusals import Complaints, Doubts, is_refusal

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 2.0
"""The longest pause between two attempts to connect to Kafka, in seconds.

The pauses grow from `FIRST_PAUSE` to this one.
"""

RENEWAL = 30.0
"""Seconds without an acknowledgement after which a new producer replaces the current one.

A producer keeps trying the broker addresses that it knows; a new producer asks `telemetry_host` for
the present addresses. But only the old producer can send an unacknowledged message again without
Kafka storing the message twice. Therefore the old producer must not be replaced too early.
"""

_PATIENCE = 5.0
"""Seconds without an acknowledgement after which Kafka counts as unavailable."""

_REFUSED_PAUSE = 0.1
"""Seconds between two attempts to send while Kafka refuses some messages."""

_NEXT_PAUSE = 1.0
"""Seconds between two messages sent alone, once Kafka has refused every message for a while.

Each refusal ends a connection, so a long backlog would otherwise cost many connections.
"""

_LONGEST_REFUSED_PAUSE = 30.0
"""The longest pause, in seconds, while Kafka refuses all messages."""

_POLL = 0.25
"""Seconds between two checks, while the thread waits for Kafka, of whether it must stop."""

_IDLE_CHECK = 1.0
"""Seconds between two checks of the connection to Kafka while the backlog is empty."""


class Producer(Protocol):
    """The interface of a Kafka producer, such as `hbtd.telemetry.kafka.Kafka`."""

    @property
    def connected(self) -> bool:
        """Whether there is a connection to at least one broker of Kafka."""

    def send(self, key: bytes, value: bytes) -> Any:
        """Send a message; return the kafka-python future of its acknowledgement by Kafka."""

    def abandon(self) -> None:
        """Disconnect from Kafka at once, so that futures of unacknowledged messages fail."""


KafkaFactory = Callable[[TelemetryAddress], Producer]
"""The type of a function that connects to Kafka at an address and returns the producer.

The function blocks until the producer is connected, and raises `KafkaError` if connecting fails.
"""


class Sender:
    """Sends the entries of a backlog to Kafka, in batches, in order, and each at least once.

    While Kafka is unavailable, the messages wait in the backlog. A message that Kafka refuses
    although it accepts other messages is dropped, counted and logged.
    """

    def __init__(
        self,
        backlog: Backlog,
        contact: Contact,
        connect: KafkaFactory,
        jitter: Callable[[], float],
        progressed: Callable[[], None],
        may_send: Callable[[], bool],
        monotonic: Callable[[], float],
        renewal: float = RENEWAL,
    ) -> None:
        """Make a sender, which sends the entries in `backlog` to Kafka.

        The sender records in `contact` whether Kafka accepts messages. The following functions are
        called in the thread that calls `run`: `connect` connects to Kafka; `jitter` returns a
        random number from 0 to 1; `progressed` is called when entries have left the backlog;
        `may_send` returns whether this replica still leads; `monotonic` returns the seconds of a
        monotonic clock.

        After `renewal` seconds without an acknowledgement the sender connects to Kafka again.
        Refusals that are not due to the message itself count as failures of Kafka, so that no
        message is dropped, until they have lasted for `2 * renewal` seconds.
        """
        self._may_send = may_send
        self._monotonic = monotonic
        self._backlog = backlog
        self._contact = contact
        self._connect = connect
        self._progressed = progressed
        self._renewal = renewal
        self._changed = backlog.changed
        self._backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE, jitter)
        self._refused_backoff = Backoff(FIRST_PAUSE, _LONGEST_REFUSED_PAUSE, jitter)
        self._refused_because = ""
        self._complaints = Complaints(monotonic)
        self._doubts = Doubts(monotonic, 2 * renewal)
        self._outdated = False

    def renew(self) -> None:
        """Make the sender connect to Kafka again, with new credentials.

        It does so once all messages that it has sent are acknowledged. Any thread may call this.
        """
        with self._changed:
            self._outdated = True
            self._changed.notify_all()

    def run(self) -> None:
        """Connect to Kafka and send messages until `Backlog.stop` orders the thread to stop.

        After a failure, connect to Kafka again.
        """
        while True:
            with self._changed:
                order = self._backlog.order
                if self._must_stop():
                    break
                if order.address is None:
                    self._changed.wait()
                    continue
            pause: float | None = None
            self._outdated = False
            try:
                kafka = self._connect(order.address)
                try:
                    self._feed(kafka, order)
                finally:
                    self._contact.connected = False
                    kafka.abandon()
            except Exception as error:  # noqa: BLE001  # kafka-python raises more than KafkaError
                refused = self._backlog.in_hand and is_refusal(error)
                if refused and not self._doubts.may_pass(error):
                    pause = self._note_refusal(order, error)
                else:
                    self._note_failure(order, error)
            self._pause(order, pause)

    def _must_stop(self) -> bool:
        """Return whether the thread must stop now. Call this with the lock `_changed` held."""
        _, address, stop_at = self._backlog.order
        if stop_at is None:
            return False
        return address is None or self._backlog.empty or self._monotonic() >= stop_at

    def _pause(self, order: Order, seconds: float | None) -> None:
        """Wait before the next attempt to connect, or until there is another order.

        The wait lasts `seconds`; if that is `None`, it grows with each failure. While hbtd stops,
        it lasts 0.25 s.
        """
        with self._changed:
            if seconds is None:
                seconds = self._backoff.next()
            stop_at = self._backlog.order.stop_at
            self._changed.wait_for(
                lambda: not self._backlog.holds(order) or self._backlog.order.stop_at != stop_at,
                seconds if stop_at is None else _POLL,
            )
            if not self._backlog.holds(order):
                self._backoff.reset()
                self._refused_backoff.reset()

    def _feed(self, kafka: Producer, order: Order) -> None:
        """Send Kafka one batch after another, until the order changes or the thread must stop.

        Also return, so that the caller connects anew, when nothing has succeeded for `renewal`
        seconds, and between two batches when there are other credentials. Raise the error of the
        first message that failed.
        """
        if not self._backlog.refuses_everything:
            self._note_success(order)
        succeeded_at = self._monotonic()
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: (
                        self._backlog.pending
                        or self._outdated
                        or not self._backlog.holds(order)
                        or self._backlog.order.stop_at is not None
                    ),
                    _IDLE_CHECK,
                )
                if not self._backlog.holds(order) or self._must_stop() or self._outdated:
                    return
                if self._backlog.pending and not self._may_send():
                    # This process was stopped, perhaps: the reactor is about to notice, too.
                    self._changed.wait(_POLL)
                    continue
                batch = self._backlog.take()
                if not batch and self._backlog.order.stop_at is not None:
                    self._changed.wait(_POLL)  # for more from the log
            futures = [
                kafka.send(messages.key(each.judgement), messages.value(each.judgement))
                for each in batch
            ]
            try:
                fine = self._await_acknowledgements(futures, kafka, order)
            finally:
                self._settle(batch, futures)
            if fine:
                succeeded_at = self._monotonic()
            elif futures or self._monotonic() - succeeded_at > self._renewal:
                return

    def _await_acknowledgements(
        self, futures: Sequence[Any], kafka: Producer, order: Order
    ) -> bool:
        """Wait for Kafka to acknowledge messages; raise the error of the first that failed.

        Return `True` once all are acknowledged. Return `False` if nothing is acknowledged for too
        long, if the order changes, if the thread must stop, or if this replica no longer leads.
        Without messages, return whether Kafka is connected.
        """
        began = self._monotonic()
        for future in futures:
            while not future.is_done:
                # Whatever this message has failed with, another's exception may tell more.
                with suppress(KafkaError):
                    future.get(timeout=_POLL)
                if future.is_done:
                    began = self._monotonic()
                    break
                with self._changed:
                    if not self._backlog.holds(order) or self._must_stop():
                        return False
                if not self._may_send():
                    return False
                if not kafka.connected:
                    self._note_failure(order, KafkaError("the connection is lost"))
                    if self._outdated:
                        return False
                elif self._monotonic() - began > _PATIENCE:
                    error = KafkaError(f"no acknowledgement within {_PATIENCE:g} s")
                    self._note_failure(order, error)
                if self._monotonic() - began > self._renewal:
                    return False
            if future.failed():
                raise _most_telling(futures)
        if futures or kafka.connected:
            self._note_success(order)
            self._backoff.reset()
            return True
        self._note_failure(order, KafkaError("the connection is lost"))
        return False

    def _settle(self, batch: list[LogEntry], futures: Sequence[Any]) -> None:
        """Remove from the backlog's batch the messages that Kafka has accepted, and keep the rest.

        `batch` are the messages that were sent; `futures` are their kafka-python futures, in the
        same order.
        """
        done = [future.succeeded() for future in futures]
        if any(done):
            self._refused_backoff.reset()
            self._complain(self._backlog.settle(batch, done))
            self._progressed()

    def _note_refusal(self, order: Order, error: Exception) -> float:
        """Note that Kafka has refused the batch; return the seconds until the next attempt."""
        self._refused_because = str(error)
        given_up, everything = self._backlog.refuse(order)
        self._complain(given_up)
        if given_up:
            self._progressed()
        if not everything:
            return _NEXT_PAUSE if self._backlog.refuses_everything else _REFUSED_PAUSE
        self._note_failure(order, KafkaError(f"all messages are refused: {error}"))
        return self._refused_backoff.next()

    def _complain(self, given_up: int) -> None:
        if given_up:
            self._complaints.add(given_up, self._refused_because)

    def _note_success(self, order: Order) -> None:
        """Note that Kafka accepts messages, unless the order has changed."""
        with self._changed:
            if self._backlog.holds(order):
                self._contact.succeed()

    def _note_failure(self, order: Order, error: Exception) -> None:
        """Note that Kafka failed, unless the publisher has replaced `order` meanwhile."""
        with self._changed:
            if self._backlog.holds(order):
                self._contact.fail(error)


def _most_telling(futures: Sequence[Any]) -> Exception:
    """Return the exception of the first message that was refused, else of the first that failed.

    For a batch with an invalid record, kafka-python raises the refusal for that record only.
    """
    errors: list[Exception] = [future.exception for future in futures if future.failed()]
    return next((each for each in errors if is_refusal(each)), errors[0])
