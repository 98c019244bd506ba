"""A simulated producer: what hbtd's `Kafka` and kafka-python do, in a world's time.

It has the rules of kafka-python's idempotent producer as hbtd configures it. Messages are gathered
in batches. One batch of a partition is on its way at a time. What fails and may pass is sent again,
for ever and in order, with the numbers that it had. What fails for good fails the futures of its
batch with the exception that kafka-python raises, and then those of everything else, or makes the
producer take a new id and go on. A connection that is lost is made again.
"""

from collections import deque
from threading import current_thread
from typing import Any

from kafka.errors import (
    IllegalStateError,
    InvalidProducerEpochError,
    KafkaConnectionError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumberError,
    RecordListTooLargeError,
    RetriableError,
    UnknownProducerIdError,
)
from kafka.future import Future

from hbtd.telemetry.kafka import KafkaUnreachable
from tests.simulation.kafka import KAFKA, Answer, Broker, Message
from tests.simulation.network import Network
from tests.simulation.process import Process, ProcessState
from tests.simulation.threads import SimulatedThread

_LINGER = 0.005
_BACKOFF = 0.1
_RECONNECT = (0.05, 1.0)
_REQUEST_TIMEOUT = 10.0
_BOOTSTRAP = 5.0
_METADATA = 1.0

_PART = "Failed to append record because it was part of a batch with an invalid record"

# For these kafka-python takes a new producer id, and goes on.
_NEW_ID = (OutOfOrderSequenceNumberError, UnknownProducerIdError, InvalidProducerEpochError)


class SimulatedFuture(Future):  # type: ignore[misc]  # kafka-python is not typed
    """The future of a message: kafka-python's, except that `get` waits in a world's time."""

    __slots__ = ("_process",)

    def __init__(self, process: Process) -> None:
        super().__init__()
        self._process = process

    def get(self, timeout: float | None = None) -> Any:
        """Wait until it is done; raise `KafkaTimeoutError` after `timeout` seconds."""
        thread = _thread()
        end = None if timeout is None else self._process.now() + timeout
        self.add_both(lambda _: thread.wake())
        while not self.is_done:
            left = None if end is None else end - self._process.now()
            if left is not None and left <= 0:
                raise KafkaTimeoutError(f"Timeout after waiting for {timeout} secs.")
            thread.pause(left)
        if self.failed():
            raise self.exception
        return self.value


class _Batch:
    def __init__(self, created: float) -> None:
        self.created = created
        self.messages: list[Message] = []
        self.futures: list[SimulatedFuture] = []
        self.identity: tuple[int, int, int] | None = None
        """Producer id, epoch and sequence number, once it was sent."""
        self.not_before = 0.0


class SimulatedProducer:
    """A producer for one topic; the methods are those of `hbtd.telemetry.kafka.Kafka`."""

    def __init__(
        self, broker: Broker, network: Network, process: Process, host: str, most: int
    ) -> None:
        """Connect to the broker; raise `KafkaError` if that fails. `most` messages are a batch."""
        self.ids: list[int] = []
        """The ids that it has had; it has the last one now."""
        self.host = host
        self.abandoned = False
        self._broker = broker
        self._network = network
        self._process = process
        self._most = most
        self._queues: dict[int, deque[_Batch]] = {}
        self._sequences: dict[int, int] = {}
        self._on_way: dict[int, _Batch] = {}
        self._fatal: KafkaError | None = None
        self._connection = 0
        """The number of the connection; what was asked on another one is never answered."""
        self._connected = False
        self._connecting = False
        self._pause = _RECONNECT[0]
        self._lands = 0.0
        self._connect()
        process.at_end(self._end)

    def _connect(self) -> None:
        thread = _thread()
        if not self._reachable():
            thread.pause(_BOOTSTRAP)
            raise KafkaUnreachable("no broker answers there (timed out)")
        if not self._broker.up:
            thread.pause(self._flight())
            raise KafkaUnreachable("no broker answers there (connection refused)")
        thread.pause(self._flight() * 4)
        answer = self._flight() * 2
        if answer > _METADATA or not self._broker.has_topic or not self._broker.up:
            thread.pause(_METADATA)
            raise KafkaTimeoutError("there is no topic, or no answer about it within 1 s")
        thread.pause(answer)
        self.ids.append(self._broker.identify())
        self._open()

    @property
    def id(self) -> int:
        """Its present id."""
        return self.ids[-1]

    @property
    def suspended(self) -> bool:
        """Whether its process is stopped, so that it can't be given up now."""
        return self._process.state is ProcessState.STOPPED

    # What hbtd uses

    @property
    def connected(self) -> bool:
        """Whether the broker is connected, as far as the producer knows."""
        return self._connected

    def send(self, key: bytes, value: bytes) -> SimulatedFuture:
        """Send a message; return the future of its acknowledgement."""
        assert not self.abandoned
        future = SimulatedFuture(self._process)
        queue = self._queues.setdefault(self._broker.partition(key), deque())
        if not queue or queue[-1].identity is not None or len(queue[-1].messages) >= self._most:
            queue.append(_Batch(self._process.now()))
            self._process.concurrently(self._work, _LINGER)
        queue[-1].messages.append(Message(key, value))
        queue[-1].futures.append(future)
        return future

    def abandon(self) -> None:
        """Disconnect at once; messages that are not acknowledged fail."""
        self._end()
        self._fail_all(IllegalStateError("Producer is closed forcefully."))
        _thread().pause(0.001)

    def _end(self) -> None:
        self.abandoned = True
        self._connected = False

    # Its own thread

    def _work(self) -> None:
        """Send what can be sent, as the thread of a producer does."""
        if self.abandoned:
            return
        if self._fatal is not None:
            self._fail_all(self._fatal)
            return
        if not self._connected:
            if not self._connecting:
                self._connecting = True
                self._process.concurrently(self._reconnect, self._pause)
            return
        now = self._process.clock.now
        for partition, queue in self._queues.items():
            if not queue or partition in self._on_way:
                continue
            batch = queue[0]
            if batch.not_before > now:
                continue
            queue.popleft()
            if batch.identity is None:
                sequence = self._sequences.get(partition, 0)
                self._sequences[partition] = sequence + len(batch.messages)
                batch.identity = self.id, 0, sequence
            self._on_way[partition] = batch
            self._request(partition, batch)

    def _request(self, partition: int, batch: _Batch) -> None:
        connection = self._connection
        identity = batch.identity
        assert identity is not None
        clock = self._process.clock

        def lose() -> None:
            if self._connected and self._connection == connection:
                self._lose(KafkaConnectionError("the request timed out"))

        def answered(answer: Answer) -> None:
            if self._connection == connection and self._on_way.get(partition) is batch:
                timeout.cancel()
                self._settle(partition, batch, answer)

        def arrive() -> None:
            if not self._broker.up:
                return
            answer = self._broker.produce(identity[0], identity[1], partition, identity[2], sent)
            if self._broker.resets and self._broker.lose_answer():
                self._process.concurrently(lose, self._flight())
            elif self._network.passes(KAFKA, self.host):
                self._process.concurrently(lambda: answered(answer), self._flight())

        def expire() -> None:
            self._process.concurrently(lose)

        sent = tuple(batch.messages)
        timeout = clock.after(_REQUEST_TIMEOUT, expire)
        if self._network.passes(self.host, KAFKA):
            # A connection keeps the order of what is sent on it.
            self._lands = max(self._lands, clock.now + self._flight())
            clock.at(self._lands, arrive)

    def _settle(self, partition: int, batch: _Batch, answer: Answer) -> None:
        del self._on_way[partition]
        if answer.error is None:
            for i, future in enumerate(batch.futures):
                future.success(answer.offset + i)
        elif self._may_split(batch, answer.error):
            self._split(partition, batch)
        elif issubclass(answer.error, RetriableError) and self._is_own(batch):
            self._again(partition, batch)
        else:
            if issubclass(answer.error, _NEW_ID):
                self.ids.append(self._broker.identify())
                self._sequences.clear()
            elif not issubclass(answer.error, RetriableError):
                self._fatal = answer.error("refused")
            for place, future in enumerate(batch.futures):
                other = answer.invalid not in (None, place)
                future.failure(KafkaError(_PART) if other else answer.error("refused"))
        self._process.concurrently(self._work)

    def _is_own(self, batch: _Batch) -> bool:
        return batch.identity is not None and batch.identity[0] == self.id

    def _may_split(self, batch: _Batch, error: type[KafkaError]) -> bool:
        return len(batch.messages) > 1 and issubclass(
            error, (MessageSizeTooLargeError, RecordListTooLargeError)
        )

    def _split(self, partition: int, batch: _Batch) -> None:
        assert batch.identity is not None
        self._sequences[partition] = batch.identity[2]
        middle = (len(batch.messages) + 1) // 2
        for part in (slice(middle, None), slice(middle)):
            half = _Batch(batch.created)
            half.messages, half.futures = batch.messages[part], batch.futures[part]
            self._queues[partition].appendleft(half)

    def _again(self, partition: int, batch: _Batch) -> None:
        batch.not_before = self._process.clock.now + _BACKOFF
        self._queues[partition].appendleft(batch)
        # Only here: if each round had one more follow, they would multiply with the partitions.
        self._process.concurrently(self._work, _BACKOFF)

    def _fail_all(self, error: KafkaError) -> None:
        batches = [*self._on_way.values(), *(b for queue in self._queues.values() for b in queue)]
        self._on_way.clear()
        self._queues.clear()
        for batch in batches:
            for future in batch.futures:
                future.failure(error)

    # The connection

    def _flight(self) -> float:
        return self._broker.flight()

    def _reachable(self) -> bool:
        passes = self._network.passes
        return passes(self.host, KAFKA) and passes(KAFKA, self.host)

    def _open(self) -> None:
        self._connected, self._connecting = True, False
        self._pause = _RECONNECT[0]
        self._connection += 1
        connection = self._connection

        def reset() -> None:
            if self._connected and self._connection == connection and not self.abandoned:
                self._lose(KafkaConnectionError("the connection was reset"))

        self._broker.on_down.append(lambda: self._process.concurrently(reset, self._flight()))

    def _lose(self, error: KafkaError) -> None:
        self._connected = False
        self._connection += 1
        lost, self._on_way = self._on_way, {}
        for partition, batch in lost.items():
            if self._is_own(batch):
                self._again(partition, batch)
            else:
                for future in batch.futures:
                    future.failure(error)
        self._work()

    def _reconnect(self) -> None:
        self._connecting = False
        if self.abandoned:
            return
        if self._reachable() and self._broker.up:
            self._open()
        else:
            self._pause = min(2 * self._pause, _RECONNECT[1])
        self._work()


def _thread() -> SimulatedThread:
    thread = current_thread()
    assert isinstance(thread, SimulatedThread), "the reactor's thread blocks"
    return thread
