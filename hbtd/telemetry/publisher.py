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

from hbtd.config.params import LiveParams, Params
from hbtd.config.value_types import TelemetryAddress
from hbtd.telemetry import messages
from hbtd.telemetry.kafka import Kafka
from hbtd.tracker.transitions import Judgement

MAX_WAITING = 100_000
"""Messages that wait for Kafka; beyond, the oldest are dropped."""

_BATCH = 500
"""Messages given to Kafka at a time, the next when all of these are acknowledged."""

_PATIENCE = 5.0
"""Seconds without an acknowledgement after which Kafka counts as gone."""

_RETRY = 2.0
"""Seconds before another producer is tried."""

_SLICE = 0.25
"""Seconds for which the thread is deaf to being told to stop."""

_LOOK = 1.0
"""Seconds between two looks at the connection while there is nothing to publish."""


KafkaFactory = Callable[[TelemetryAddress], Kafka]
"""Connects to Kafka; blocks, and raises `KafkaError` when it can't."""


class Publisher(Service):
    """Publishes judgements on Kafka, in order, each at least once.

    `tell` only puts them into a queue. A thread of its own, which alone talks to Kafka,
    sends them in batches. While Kafka is away they wait in memory; when there are too many the
    oldest are dropped, and counted. Follows `Use_telemetry` and `Telemetry_host`.
    """

    _log = Logger()

    def __init__(self, reactor: Any, params: LiveParams, connect: KafkaFactory) -> None:
        """`reactor` provides `IReactorFromThreads` and `IReactorTime`."""
        self._reactor = reactor
        self._params = params
        self._connect = connect
        # Guards all of the following, and wakes the thread when something has changed.
        self._changed = Condition()
        self._waiting: deque[Judgement] = deque()
        self._batch: list[Judgement] = []
        self._address: TelemetryAddress | None = None
        self._stop_at: float | None = None
        self._thread: Thread | None = None
        self._ended: Deferred[None] = Deferred()
        self._said: bool | None = None
        self._connected_once = False
        self.connected = False
        """Whether Kafka takes messages."""
        self.published_count = 0
        """How many messages Kafka has acknowledged."""
        self.dropped_count = 0
        """How many messages were dropped because too many were waiting."""
        params.on_change(self._params_changed)

    @property
    def pending_count(self) -> int:
        """How many messages Kafka has yet to acknowledge."""
        return len(self._waiting) + len(self._batch)

    def health(self) -> str:
        """Tell people how Kafka is."""
        if self.connected:
            return "Connected and OPEN"
        return "Connected and CLOSED" if self._connected_once else "Not Connected"

    def tell(self, judgements: Sequence[Judgement]) -> None:
        """Have these published; never blocks. Without a Kafka to publish on, does nothing."""
        with self._changed:
            if self._address is None:
                return
            self._waiting.extend(judgements)
            while len(self._waiting) > MAX_WAITING:
                self._waiting.popleft()
                self.dropped_count += 1
            self._changed.notify()

    def drop_all(self) -> None:
        """Publish no more of what waits, except what Kafka was given already."""
        with self._changed:
            self._waiting.clear()

    def startService(self) -> None:
        """Connect, if there is something to connect to."""
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
        # The thread may be in a call that blocks for longer; it ends with the process then.
        ended = self._ended.addTimeout(timeout, self._reactor).addErrback(_timed_out)
        return ended.addCallback(lambda _: self._say_what_is_left())

    def _say_what_is_left(self) -> None:
        if self.pending_count:
            self._log.warn("{count} messages were not published.", count=self.pending_count)

    def _params_changed(self, old: Params, new: Params) -> None:
        if self.running and self._address != new.telemetry_address:
            self._use(new.telemetry_address)

    def _use(self, address: TelemetryAddress | None) -> None:
        """Publish there from now on, what waits included; or nowhere."""
        if address is None:
            given = bool(self._params.current.telemetry_host)
            self._log.info(
                "Nothing is published: {why}.",
                why="use_telemetry is off" if given else "no telemetry_host is given",
            )
        with self._changed:
            self._address = address
            self._said = None
            self.connected = self._connected_once = False
            self._changed.notify()
        if address is not None and self._thread is None:
            self._thread = Thread(target=self._run, name="hbtd-telemetry", daemon=True)
            self._thread.start()

    # What follows runs in the thread.

    def _run(self) -> None:
        try:
            self._work()
        finally:
            self._reactor.callFromThread(self._ended.callback, None)

    def _work(self) -> None:
        """Keep a producer for the present address, and feed it."""
        while True:
            with self._changed:
                address = self._address
                if self._over(address):
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
            except Exception as error:  # noqa: BLE001  # whatever a library thinks of
                self._gone(address, error)
            self._rest(address)

    def _over(self, address: TelemetryAddress | None) -> bool:
        """Whether it is time to end. Call with the lock held."""
        if self._stop_at is None:
            return False
        return address is None or not self.pending_count or monotonic() >= self._stop_at

    def _rest(self, address: TelemetryAddress) -> None:
        """Wait a little before the next attempt; being told to stop hastens it, once."""
        with self._changed:
            stop_at = self._stop_at
            self._changed.wait_for(
                lambda: self._address != address or self._stop_at != stop_at,
                _RETRY if stop_at is None else _SLICE,
            )

    def _feed(self, kafka: Kafka, address: TelemetryAddress) -> None:
        """Give Kafka batch after batch, until it fails or is no longer the one to use."""
        self._here(address)
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: (
                        self.pending_count or self._address != address or self._stop_at is not None
                    ),
                    _LOOK,
                )
                if self._address != address or self._over(address):
                    return
                if not self._batch:
                    self._batch = list(islice(self._waiting, _BATCH))
                    for _ in self._batch:
                        self._waiting.popleft()
            futures = [kafka.send(messages.key(each), messages.value(each)) for each in self._batch]
            try:
                self._await(futures, kafka, address)
            finally:
                # In a partition, nothing succeeds after something that did not: what is sent again
                # keeps its order.
                left = [
                    each
                    for each, future in zip(self._batch, futures, strict=True)
                    if not future.succeeded()
                ]
                with self._changed:
                    self.published_count += len(futures) - len(left)
                    self._batch = left

    def _await(self, futures: Sequence[Any], kafka: Kafka, address: TelemetryAddress) -> None:
        """Wait for Kafka to acknowledge messages; raises what one has failed with.

        Returns early when they are to go elsewhere, or time is up.
        """
        began = monotonic()
        for future in futures:
            while not future.is_done:
                with suppress(KafkaTimeoutError):
                    future.get(timeout=_SLICE)
                if not future.is_done:
                    with self._changed:
                        if self._address != address or self._over(address):
                            return
                    if not kafka.connected or monotonic() - began > _PATIENCE:
                        self._gone(address, KafkaError("no answer, or none in time"))
            if future.failed():
                raise future.exception
        if futures or kafka.connected:
            self._here(address)
        else:
            self._gone(address, KafkaError("the connection is lost"))

    def _here(self, address: TelemetryAddress) -> None:
        if self._finds(True, address):
            self._log.info("Kafka at {host}:{port} takes messages.", **address._asdict())

    def _gone(self, address: TelemetryAddress, error: Exception) -> None:
        if self._finds(False, address):
            self._log.warn(
                "Kafka at {host}:{port} takes no messages now, they wait: {error}",
                error=str(error) if isinstance(error, KafkaError) else repr(error),
                **address._asdict(),
            )

    def _finds(self, connected: bool, address: TelemetryAddress) -> bool:
        """Note how Kafka is; tell whether that is news, and of a Kafka that is still wanted."""
        with self._changed:
            if self._address != address:
                return False
            self.connected = connected
            self._connected_once |= connected
            news, self._said = self._said is not connected, connected
            return news


def _timed_out(failure: Failure) -> None:
    """Take a timeout for an answer."""
    failure.trap(TimeoutError)
