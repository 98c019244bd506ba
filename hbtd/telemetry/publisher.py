"""The Kafka publisher: a queue that never blocks, and a thread that may."""

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import islice
from threading import Condition, Thread
from time import monotonic
from typing import Any

from kafka.errors import KafkaError, KafkaTimeoutError
from twisted.application.service import Service
from twisted.internet.defer import Deferred, TimeoutError, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from hbtd.config.live_params import LiveParams
from hbtd.config.params import Params
from hbtd.config.value_types import TelemetryAddress
from hbtd.runtime.backoff import Backoff
from hbtd.runtime.outage import Outage
from hbtd.telemetry import messages
from hbtd.telemetry.kafka import Kafka
from hbtd.tracker.transitions import Judgement

MAX_WAITING = 100_000
"""Messages that wait for Kafka; when there are more, the oldest are dropped."""

_BATCH = 500
"""Messages in a batch; the next batch is sent when all of this one are acknowledged."""

_PATIENCE = 5.0
"""Seconds without an acknowledgement after which Kafka counts as unavailable."""

_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 2.0
"""Seconds before the first attempt at another producer, and before the later ones at most."""

_POLL = 0.25
"""Seconds after which the thread notices at the latest that it is to stop."""

_IDLE_CHECK = 1.0
"""Seconds between two checks of the connection while there is nothing to publish."""


KafkaFactory = Callable[[TelemetryAddress], Kafka]
"""Connects to Kafka. Blocks, and raises `KafkaError` if that fails."""


class Publisher(Service):
    """Publishes judgements on Kafka, in order, each at least once (docs/protocol.md, "Kafka").

    `tell` only appends to a queue. A thread of its own, the only one that uses Kafka, sends the
    queue in batches. While Kafka is unavailable, messages wait in memory; when there are too many,
    the oldest are dropped and counted. Changes of `Use_telemetry` and `Telemetry_host` take effect
    at once.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        params: LiveParams,
        connect: KafkaFactory,
        jitter: Callable[[], float],
    ) -> None:
        """Make a publisher; it connects when it is started.

        `reactor` provides `IReactorFromThreads` and `IReactorTime`. `connect` and `jitter`, which
        returns a random number from 0 to 1, are called in the thread.
        """
        self._reactor = reactor
        self._params = params
        self._connect = connect
        self._thread: Thread | None = None
        self._thread_ended: Deferred[None] = Deferred()
        # The thread's own.
        self._backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE, jitter)
        # Guards all of the following, and wakes the thread when something has changed.
        self._changed = Condition()
        self._waiting: deque[Judgement] = deque()
        self._batch: list[Judgement] = []
        self._address: TelemetryAddress | None = None
        self._stop_at: float | None = None
        self._outage = Outage(self._log_outage, self._log_connection)
        self._was_connected = False
        self.connected = False
        """Whether Kafka accepts messages."""
        self.published_count = 0
        """How many messages Kafka has acknowledged."""
        self.dropped_count = 0
        """How many messages were dropped: too many waited, or Kafka was switched off."""
        params.on_change(self._params_changed)

    @property
    def pending_count(self) -> int:
        """How many messages Kafka has yet to acknowledge."""
        return len(self._waiting) + len(self._batch)

    def health(self) -> str:
        """Return the state of Kafka, for people (docs/protocol.md, "Probes and health")."""
        if self.connected:
            return "Connected and OPEN"
        return "Connected and CLOSED" if self._was_connected else "Not Connected"

    def tell(self, judgements: Sequence[Judgement]) -> None:
        """Queue these for publication; never blocks. Without a Kafka, do nothing."""
        with self._changed:
            if self._address is None:
                return
            self._waiting.extend(judgements)
            while len(self._waiting) > MAX_WAITING:
                self._waiting.popleft()
                self.dropped_count += 1
            self._changed.notify()

    def drop_all(self) -> None:
        """Discard what waits, except the batch that Kafka has been given already."""
        with self._changed:
            self._waiting.clear()

    def startService(self) -> None:
        """Connect, if the parameters name a Kafka."""
        super().startService()
        self._use(self._params.current.telemetry_address)

    def stopService(self) -> Deferred[None]:
        """Publish what waits, for at most `sm_timeout` seconds, and stop."""
        super().stopService()
        if self._thread is None:
            return succeed(None)
        timeout = self._params.current.sm_timeout
        with self._changed:
            self._stop_at = monotonic() + timeout
            self._changed.notify()
        # The thread may be in a call that blocks for longer; then it ends with the process.
        ended = self._thread_ended.addTimeout(timeout, self._reactor).addErrback(_ignore_timeout)
        return ended.addCallback(lambda _: self._log_unpublished())

    def _log_unpublished(self) -> None:
        if self.pending_count:
            self._log.warn("{count} messages were not published.", count=self.pending_count)

    def _params_changed(self, old: Params, new: Params) -> None:
        if self.running and self._address != new.telemetry_address:
            self._use(new.telemetry_address)

    def _use(self, address: TelemetryAddress | None) -> None:
        """Publish to this address from now on, including what waits; `None` for nowhere."""
        if address is None:
            given = bool(self._params.current.telemetry_host)
            self._log.info(
                "Nothing is published: {why}.",
                why="use_telemetry is off" if given else "no telemetry_host is given",
            )
        with self._changed:
            self._address = address
            self._outage.reset()
            self.connected = self._was_connected = False
            self._changed.notify()
        if address is not None and self._thread is None:
            self._thread = Thread(target=self._run, name="hbtd-telemetry", daemon=True)
            self._thread.start()

    # The following methods run in the thread.

    def _run(self) -> None:
        try:
            self._publish()
        finally:
            self._reactor.callFromThread(self._thread_ended.callback, None)

    def _publish(self) -> None:
        """Keep a producer for the current address, and feed it, until it is time to stop."""
        while True:
            with self._changed:
                address = self._address
                if self._must_stop(address):
                    break
                if address is None:
                    self.dropped_count += self.pending_count
                    self._waiting.clear()
                    self._batch = []
                    self._changed.wait()
                    continue
            try:
                kafka = self._connect(address)
                try:
                    self._feed(kafka, address)
                finally:
                    self.connected = False
                    kafka.abandon()
            except Exception as error:  # noqa: BLE001  # kafka-python raises more than KafkaError
                self._note_failure(address, error)
            self._pause(address)

    def _must_stop(self, address: TelemetryAddress | None) -> bool:
        """Return whether it is time to stop. Call with the lock held."""
        if self._stop_at is None:
            return False
        return address is None or not self.pending_count or monotonic() >= self._stop_at

    def _pause(self, address: TelemetryAddress) -> None:
        """Pause before the next attempt, shorter when the address changes or the service stops."""
        with self._changed:
            stop_at = self._stop_at
            self._changed.wait_for(
                lambda: self._address != address or self._stop_at != stop_at,
                self._backoff.next() if stop_at is None else _POLL,
            )
            if self._address != address:
                self._backoff.reset()

    def _feed(self, kafka: Kafka, address: TelemetryAddress) -> None:
        """Give Kafka batch after batch; return when the address changes or it is time to stop."""
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
                if not self._batch:
                    self._batch = list(islice(self._waiting, _BATCH))
                    for _ in self._batch:
                        self._waiting.popleft()
            futures = [kafka.send(messages.key(each), messages.value(each)) for each in self._batch]
            try:
                self._await_acknowledgements(futures, kafka, address)
            finally:
                # Within a partition, nothing succeeds after something that failed: what is sent
                # again keeps its order.
                left = [
                    each
                    for each, future in zip(self._batch, futures, strict=True)
                    if not future.succeeded()
                ]
                with self._changed:
                    self.published_count += len(futures) - len(left)
                    self._batch = left

    def _await_acknowledgements(
        self, futures: Sequence[Any], kafka: Kafka, address: TelemetryAddress
    ) -> None:
        """Wait for Kafka to acknowledge messages; raise the error of the first that failed.

        Return early when the address changes or it is time to stop.
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

    def _note_success(self, address: TelemetryAddress) -> None:
        """Note that the Kafka at `address` accepts messages, if it is still the one to use."""
        with self._changed:
            if self._address == address:
                is_first = not self._was_connected and self._outage.reason is None
                self.connected = self._was_connected = True
                self._outage.recover()
                if is_first:
                    self._log_connection()

    def _note_failure(self, address: TelemetryAddress, error: Exception) -> None:
        """Note that the Kafka at `address` failed, if it is still the one to use."""
        with self._changed:
            if self._address == address:
                self.connected = False
                self._outage.fail(str(error) if isinstance(error, KafkaError) else repr(error))

    def _log_connection(self) -> None:
        if self._address is not None:
            self._log.info("Kafka at {host}:{port} takes messages.", **self._address._asdict())

    def _log_outage(self, reason: str) -> None:
        if self._address is not None:
            self._log.warn(
                "Kafka at {host}:{port} takes no messages now, they wait: {error}",
                error=reason,
                **self._address._asdict(),
            )


def _ignore_timeout(failure: Failure) -> None:
    """Turn a timeout into a success."""
    failure.trap(TimeoutError)
