"""The Kafka of a world: a topic whose messages outlive processes, and what a broker answers.

`Broker` has the rules of a broker for idempotent producers: a batch that is sent again is not
appended again, and one that comes out of turn is refused. What it is asked, and how its answers get
lost, is in `tests/simulation/producer.py`.
"""

from collections import deque
from collections.abc import Callable, Sequence
from random import Random
from typing import NamedTuple

from kafka.errors import (
    InvalidProducerEpochError,
    InvalidRecordError,
    KafkaError,
    NotLeaderForPartitionError,
    OutOfOrderSequenceNumberError,
    UnknownTopicOrPartitionError,
)
from kafka.partitioner.default import murmur2

KAFKA = "10.0.0.4"

_FLIGHT = (0.0002, 0.003)
"""The least and the most seconds that a request takes to the broker, and an answer back."""

_SAYS_WHICH = (InvalidRecordError,)
"""The errors with which a broker says which messages of a batch are invalid."""

_PICKED = 0.5
"""How likely it is that a message is the one that is refused for ever."""

_REMEMBERED = 5
"""The batches of a producer in a partition which the broker knows again."""


class Message(NamedTuple):
    """A message of the topic."""

    key: bytes
    value: bytes


class Answer(NamedTuple):
    """What a broker answers about a batch."""

    offset: int = -1
    error: type[KafkaError] | None = None
    invalid: int | None = None
    """The place of the message in the batch that the error is about, if the broker says so."""


class _Sequence:
    """What a broker knows of a producer in a partition."""

    def __init__(self) -> None:
        self.epoch = -1
        self.next: int | None = None
        self.batches: deque[tuple[int, int, int]] = deque(maxlen=_REMEMBERED)


class Broker:
    """A broker with one topic."""

    def __init__(self, random: Random, partitions: int = 2) -> None:
        """Make a broker that is well, with an empty topic."""
        self.partitions: list[list[Message]] = [[] for _ in range(partitions)]
        self.up = True
        self.has_topic = True
        self.delay = 0.0
        """The most seconds by which an answer is late."""
        self.resets = 0.0
        """The share of requests after whose effect the connection is reset."""
        self.failing: tuple[type[KafkaError], float] | None = None
        """An error with which batches are answered, and the share of batches for that."""
        self.appends_failing = False
        """Whether a batch that is answered with `failing` has been appended."""
        self.leaderless: set[int] = set()
        """The partitions whose leader is another broker, as yet."""
        self.poison: type[KafkaError] | None = None
        """An error with which one of the next messages that are new is refused, for ever."""
        self.poisons_all = False
        """Whether the very next one is."""
        self.refused: dict[bytes, type[KafkaError]] = {}
        """The values of messages that are refused for ever."""
        self.on_append: Callable[[int, Message], object] = lambda producer, message: None
        """Called with the number of the producer and the message, for each that is appended."""
        self.on_refuse: Callable[[Message], object] = lambda message: None
        """Called with each message that is refused for ever, once."""
        self.on_down: list[Callable[[], object]] = []
        """Called, and removed, when the broker goes down."""
        self.picks = Random(0)
        """Decides which of the messages that are new is refused."""
        self._random = random
        self._appended: set[bytes] = set()
        self._sequences: dict[tuple[int, int], _Sequence] = {}
        self._producers = 0

    def down(self) -> None:
        """Go down: all connections are reset."""
        self.up = False
        calls, self.on_down = self.on_down, []
        for call in calls:
            call()

    def flight(self) -> float:
        """Return how many seconds a request or an answer takes now."""
        late = self._random.uniform(0.0, self.delay / 2) if self.delay else 0.0
        return self._random.uniform(*_FLIGHT) + late

    def lose_answer(self) -> bool:
        """Return whether the connection is reset instead of an answer."""
        return self._random.random() < self.resets

    def identify(self) -> int:
        """Return the id of a new producer (InitProducerId)."""
        self._producers += 1
        return self._producers

    def partition(self, key: bytes) -> int:
        """Return the partition of a key, as the default partitioner does."""
        return int(murmur2(key) & 0x7FFFFFFF) % len(self.partitions)

    def produce(
        self, producer: int, epoch: int, partition: int, sequence: int, batch: Sequence[Message]
    ) -> Answer:
        """Append a batch, unless something is wrong with it; return the answer."""
        if not self.has_topic:
            return Answer(error=UnknownTopicOrPartitionError)
        if partition in self.leaderless:
            return Answer(error=NotLeaderForPartitionError)
        error: type[KafkaError] | None = None
        if self.failing is not None and self._random.random() < self.failing[1]:
            error = self.failing[0]
            if not self.appends_failing:
                return Answer(error=error)
        for place, message in enumerate(batch):
            new = message.value not in self._appended and message.value not in self.refused
            picked = self.poisons_all or self.picks.random() < _PICKED
            if self.poison is not None and new and picked:
                self.refused[message.value], self.poison = self.poison, None
                self.on_refuse(message)
            if message.value in self.refused:
                refused = self.refused[message.value]
                return Answer(error=refused, invalid=place if refused in _SAYS_WHICH else None)
        answer = self._append(producer, epoch, partition, sequence, batch)
        return answer if error is None else Answer(error=error)

    def _append(
        self, producer: int, epoch: int, partition: int, sequence: int, batch: Sequence[Message]
    ) -> Answer:
        known = self._sequences.setdefault((producer, partition), _Sequence())
        if epoch < known.epoch:
            return Answer(error=InvalidProducerEpochError)
        if epoch == known.epoch:
            for first, size, offset in known.batches:
                if (first, size) == (sequence, len(batch)):
                    return Answer(offset)
        if known.next is not None and sequence != (known.next if epoch == known.epoch else 0):
            return Answer(error=OutOfOrderSequenceNumberError)
        log = self.partitions[partition]
        if epoch != known.epoch:
            known.epoch = epoch
            known.batches.clear()
        known.next = sequence + len(batch)
        known.batches.append((sequence, len(batch), len(log)))
        for message in batch:
            log.append(message)
            self._appended.add(message.value)
            self.on_append(producer, message)
        return Answer(len(log) - len(batch))
