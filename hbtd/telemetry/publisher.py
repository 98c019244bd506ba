"""The Kafka publisher: a queue of judgements, and a thread that sends them to Kafka."""

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import compress, islice
from threading import Condition, Thread
from time import monotonic
from typing import Any

from kafka.errors import KafkaError, KafkaTimeoutError
from twisted.application.service import Service
from twisted.internet.defer import Deferred, TimeoutError, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from hbtd.config.live_params import LiveParams
from hbtd.config.params import Params
from hbtd.config.value_types import TelemetryAddress
from hbtd.runtime.backoff import Backoff
from hbtd.runtime.outage import Outage
from hbtd.telemetry import messages
from hbtd.telemetry.kafka import Kafka
from hbtd.telemetry.refusals import Complaints, Outcome, Refusals, is_refusal
from hbtd.tracker.transitions import Judgement

MAX_WAITING = 100_000
"""The most messages that wait for Kafka; when there are more, the oldest are dropped."""

_BATCH = 500
"""The most messages in a batch; all are acknowledged before the next batch is sent."""

_PATIENCE = 5.0
"""Seconds without an acknowledgement after which Kafka counts as unavailable."""

_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 2.0
"""The longest pause between attempts to connect, in seconds; the first is `_FIRST_PAUSE`."""

_REFUSED_PAUSE = 0.1
"""Seconds between two attempts to send while Kafka refuses some messages."""

_LONGEST_REFUSED_PAUSE = 30.0
"""The longest pause, in seconds, while Kafka refuses all messages."""

_POLL = 0.25
"""Seconds between two checks, while the thread waits for Kafka, of whether it must stop."""

_IDLE_CHECK = 1.0
"""Seconds between two checks of the connection to Kafka while the queue is empty."""


ThreadFactory = Callable[[Callable[[], None]], Thread]
"""A function that makes a thread which is to call a function, and is not started yet."""

KafkaFactory = Callable[[TelemetryAddress], Kafka]
"""A function that connects to Kafka. It blocks, and raises `KafkaError` if it fails."""


class Publisher(Service):
    """Publishes judgements to Kafka, in order, each at least once (docs/protocol.md, "Kafka").

    `tell` only appends to a queue. The publisher's thread, the only one that uses Kafka, sends
    the queued messages in batches. While Kafka is unavailable, messages wait in memory; when there
    are too many, the oldest are dropped and counted. A message that Kafka refuses, while it accepts
    others, is dropped and counted, too. Changes of `Use_telemetry` and `Telemetry_host` take effect
    at once; while no thread can be started, the publisher tries again.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        params: LiveParams,
        connect: KafkaFactory,
        jitter: Callable[[], float],
        make_thread: ThreadFactory = lambda run: Thread(
            target=run, name="hbtd-telemetry", daemon=True
        ),
    ) -> None:
        """Make a publisher, which connects to Kafka when it is started.

        `reactor` provides `IReactorFromThreads` and `IReactorTime`. `connect` and `jitter`, which
        returns a random number from 0 to 1, are called in the publisher's thread, which
        `make_thread` makes.
        """
        self._reactor = reactor
        self._params = params
        self._connect = connect
        self._make_thread = make_thread
        self._thread: Thread | None = None
        self._starting = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE, jitter)
        self._start_again: IDelayedCall | None = None
        self._thread_ended: Deferred[None] = Deferred()
        # Used only in the thread.
        self._backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE, jitter)
        self._refused_backoff = Backoff(_FIRST_PAUSE, _LONGEST_REFUSED_PAUSE, jitter)
        self._refused_because = ""
        self._complaints = Complaints(monotonic)
        # Guards all of the following, and wakes the thread when something has changed.
        self._changed = Condition()
        self._waiting: deque[Judgement] = deque()
        self._batch: list[Judgement] = []
        self._refusals = Refusals(_BATCH)
        self._address: TelemetryAddress | None = None
        self._stop_at: float | None = None
        self._outage = Outage(self._log_outage, self._log_connection, monotonic)
        self._was_connected = False
        self.connected = False
        """Whether Kafka accepts messages."""
        self.published_count = 0
        """The number of messages that Kafka has acknowledged."""
        self.dropped_count = 0
        """The number of messages dropped because too many waited, or Kafka was switched off."""
        self.refused_count = 0
        """The number of messages dropped because Kafka refused them and accepted others."""
        params.on_change(self._params_changed)

    @property
    def pending_count(self) -> int:
        """The number of messages that Kafka has yet to acknowledge."""
        return len(self._waiting) + len(self._batch) + len(self._refusals.aside)

    def health(self) -> str:
        """Return a text about the state of Kafka (docs/protocol.md, "Probes and health")."""
        if self.connected:
            return "Connected and OPEN"
        return "Connected and CLOSED" if self._was_connected else "Not Connected"

    @property
    def reason(self) -> str | None:
        """Why no messages are published, in words; `None` while Kafka accepts messages."""
        address = self._address
        if address is None:
            return self._why_off()
        if self.connected:
            return None
        why = self._outage.reason or "no connection yet"
        return f"Kafka at {address.host}:{address.port}: {why}"

    def _why_off(self) -> str:
        given = bool(self._params.current.telemetry_host)
        return "use_telemetry is off" if given else "no telemetry_host is given"

    def tell(self, judgements: Sequence[Judgement]) -> None:
        """Queue judgements for publication, without blocking; do nothing if publishing is off."""
        with self._changed:
            if self._address is None:
                return
            self._waiting.extend(judgements)
            while len(self._waiting) > MAX_WAITING:
                self._waiting.popleft()
                self.dropped_count += 1
            self._changed.notify()

    def drop_all(self) -> None:
        """Discard all waiting messages, except the batch that has been handed to Kafka."""
        with self._changed:
            self._waiting.clear()
            self._refusals.aside.clear()

    def startService(self) -> None:
        """Start publishing if the parameters switch it on and say where Kafka is."""
        super().startService()
        self._use(self._params.current.telemetry_address)

    def stopService(self) -> Deferred[None]:
        """Publish the waiting messages, for at most `sm_timeout` seconds, and stop.

        The Deferred fires when the thread has ended, or after `sm_timeout` seconds.
        """
        super().stopService()
        if self._start_again is not None:
            self._start_again.cancel()
            self._start_again = None
        if self._thread is None:
            self._log_unpublished()
            return succeed(None)
        timeout = self._params.current.sm_timeout
        with self._changed:
            self._stop_at = monotonic() + timeout
            self._changed.notify()
        # The thread may be in a call that blocks for longer; then the thread ends with the process.
        ended = self._thread_ended.addTimeout(timeout, self._reactor)
        ended.addErrback(lambda failure: failure.trap(TimeoutError))
        return ended.addCallback(lambda _: self._log_unpublished())

    def _log_unpublished(self) -> None:
        if self.pending_count:
            self._log.warn(
                "{count} messages were not published to Kafka.", count=self.pending_count
            )

    def _params_changed(self, old: Params, new: Params) -> None:
        if self.running and self._address != new.telemetry_address:
            self._use(new.telemetry_address)

    def _use(self, address: TelemetryAddress | None) -> None:
        """Publish to `address` from now on, including the messages that wait already.

        If `address` is `None`, drop the waiting messages and publish nothing.
        """
        if address is None:
            self._log.info("No messages are published to Kafka: {why}.", why=self._why_off())
        with self._changed:
            self._address = address
            self._outage.reset()
            self.connected = self._was_connected = False
            self._changed.notify()
        if address is not None and self._thread is None and self._start_again is None:
            self._start_thread()

    def _start_thread(self) -> None:
        """Start the thread; if that is not possible now, try again after a pause."""
        self._start_again = None
        if self._address is None:
            return
        thread = self._make_thread(self._run)
        try:
            thread.start()
        except (RuntimeError, MemoryError) as error:
            self._note_failure(self._address, KafkaError(f"no thread can be started: {error}"))
            self._start_again = self._reactor.callLater(self._starting.next(), self._start_thread)
        else:
            self._thread = thread

    # The following methods run in the thread.

    def _run(self) -> None:
        try:
            self._publish()
        finally:
            self._reactor.callFromThread(self._thread_ended.callback, None)

    def _publish(self) -> None:
        """Connect, again after each failure, and send messages, until the thread must stop."""
        while True:
            with self._changed:
                address = self._address
                if self._must_stop(address):
                    break
                if address is None:
                    self.dropped_count += self.pending_count
                    self._waiting.clear()
                    self._batch = []
                    self._refusals = Refusals(_BATCH)
                    self._changed.wait()
                    continue
            pause: float | None = None
            try:
                kafka = self._connect(address)
                try:
                    self._feed(kafka, address)
                finally:
                    self.connected = False
                    kafka.abandon()
            except Exception as error:  # noqa: BLE001  # kafka-python raises more than KafkaError
                if self._batch and is_refusal(error):
                    pause = self._note_refusal(address, error)
                else:
                    self._note_failure(address, error)
            self._pause(address, pause)

    def _must_stop(self, address: TelemetryAddress | None) -> bool:
        """Return whether the thread must stop now. Call this with the lock `_changed` held."""
        if self._stop_at is None:
            return False
        return address is None or not self.pending_count or monotonic() >= self._stop_at

    def _pause(self, address: TelemetryAddress, seconds: float | None) -> None:
        """Wait before the next attempt to connect, for some seconds if they are given.

        The wait ends early if the address changes or the service stops.
        """
        with self._changed:
            stop_at = self._stop_at
            if seconds is None:
                seconds = self._backoff.next()
            self._changed.wait_for(
                lambda: self._address != address or self._stop_at != stop_at,
                seconds if stop_at is None else _POLL,
            )
            if self._address != address:
                self._backoff.reset()
                self._refused_backoff.reset()
                self._waiting.extendleft(reversed(self._refusals.aside))
                self._refusals = Refusals(_BATCH)

    def _feed(self, kafka: Kafka, address: TelemetryAddress) -> None:
        """Send Kafka one batch after another, until the address changes or the thread must stop.

        Raise the error of the first message that failed.
        """
        if not self._refusals.everything:
            self._note_success(address)
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: (
                        self.pending_count or self._address != address or self._stop_at is not None
                    ),
                    _IDLE_CHECK,
                )
                if self._address != address or self._must_stop(address):
                    return
                if not (self._batch or self._waiting):  # none are left but those set aside
                    self._waiting.extend(self._refusals.give_up().back)
                if not self._batch:
                    self._batch = list(islice(self._waiting, self._refusals.together))
                    for _ in self._batch:
                        self._waiting.popleft()
            futures = [kafka.send(messages.key(each), messages.value(each)) for each in self._batch]
            try:
                self._await_acknowledgements(futures, kafka, address)
            finally:
                # Within a partition, no message succeeds after one that failed: messages that are
                # sent again keep their order.
                self._note_accepted(futures)

    def _await_acknowledgements(
        self, futures: Sequence[Any], kafka: Kafka, address: TelemetryAddress
    ) -> None:
        """Wait for Kafka to acknowledge messages; raise the error of the first that failed.

        Return early if the address changes or the thread must stop.
        """
        began = monotonic()
        for future in futures:
            while not future.is_done:
                with suppress(KafkaTimeoutError):
                    future.get(timeout=_POLL)
                if not future.is_done:
                    with self._changed:
                        if self._address != address or self._must_stop(address):
                            return
                    if not kafka.connected:
                        self._note_failure(address, KafkaError("the connection is lost"))
                    elif monotonic() - began > _PATIENCE:
                        error = KafkaError(f"no acknowledgement within {_PATIENCE:g} s")
                        self._note_failure(address, error)
            if future.failed():
                raise future.exception
        if futures or kafka.connected:
            self._note_success(address)
            self._backoff.reset()
        else:
            self._note_failure(address, KafkaError("the connection is lost"))

    def _note_accepted(self, futures: Sequence[Any]) -> None:
        """Keep those messages of the batch that Kafka has not accepted, if not all."""
        done = [future.succeeded() for future in futures]
        accepted = list(compress(self._batch, done))
        with self._changed:
            self.published_count += len(accepted)
            self._batch = [each for each, fine in zip(self._batch, done, strict=True) if not fine]
            if accepted:
                self._refused_backoff.reset()
                self._apply(self._refusals.accepted(accepted))

    def _note_refusal(self, address: TelemetryAddress, error: Exception) -> float:
        """Note that Kafka has refused the batch; return for how many seconds to wait."""
        self._refused_because = str(error)
        with self._changed:
            batch, self._batch = self._batch, []
            outcome = self._refusals.refused(batch)
            self._apply(outcome)
        if not outcome.everything:
            return _REFUSED_PAUSE
        self._note_failure(address, KafkaError(f"all messages are refused: {error}"))
        return self._refused_backoff.next()

    def _apply(self, outcome: Outcome) -> None:
        """Put back and drop messages as `outcome` says. Call this with the lock `_changed` held."""
        self._waiting.extendleft(reversed(outcome.back))
        if outcome.dropped:
            self.refused_count += len(outcome.dropped)
            self._complaints.add(len(outcome.dropped), self._refused_because)

    def _note_success(self, address: TelemetryAddress) -> None:
        """Note that Kafka accepts messages, unless `address` is no longer the current address."""
        with self._changed:
            if self._address == address:
                is_first = not self._was_connected and self._outage.reason is None
                self.connected = self._was_connected = True
                self._outage.recover()
                if is_first:
                    self._log_connection()

    def _note_failure(self, address: TelemetryAddress, error: Exception) -> None:
        """Note that Kafka failed, unless `address` is no longer the current address."""
        with self._changed:
            if self._address == address:
                self.connected = False
                self._outage.fail(str(error) if isinstance(error, KafkaError) else repr(error))

    def _log_connection(self) -> None:
        if self._address is not None:
            self._log.info("Kafka at {host}:{port} accepts messages.", **self._address._asdict())

    def _log_outage(self, reason: str) -> None:
        if self._address is not None:
            self._log.warn(
                "Kafka at {host}:{port} accepts no messages; they wait until it does: {error}",
                error=reason,
                **self._address._asdict(),
            )
