"""The mock broker of librdkafka, and a consumer independent of hbtd's client.

`MockBroker` needs neither Java nor downloads, and starts in milliseconds; the real Kafka is in
`tests/support/real_kafka.py`. `consume()` reads from both.

kafka-python needs `api_version=(2, 3)` to use the mock, as it can't parse the mock's response to a
newer client's first request. Its other settings need no change: `acks="all"`, idempotence on or
off, and compression with gzip all work.

`consume()` blocks, and so do the methods of a broker, sometimes for a second: call them through
`deferToThread` in trial tests.
"""

from __future__ import annotations

import ctypes
import functools
import time
import uuid
from types import TracebackType
from typing import NamedTuple

import confluent_kafka
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

_PRODUCER = 0  # RD_KAFKA_PRODUCER of rdkafka.h
_BROKER_ID = 1  # of a mock cluster's first broker


@functools.cache
def _librdkafka() -> ctypes.CDLL:
    """Open the librdkafka that confluent-kafka has loaded.

    `confluent_kafka.Producer({"test.mock.num.brokers": 1})` makes a mock broker, too, but can't
    take it down. The library in confluent-kafka's wheel exports the C functions that can
    (rdkafka_mock.h).
    """
    assert confluent_kafka.libversion()
    with open("/proc/self/maps", encoding="utf-8") as maps:
        paths = {line.split(maxsplit=5)[5].strip() for line in maps if "/librdkafka" in line}
    if not paths:
        raise RuntimeError("confluent-kafka has loaded no shared librdkafka")
    library = ctypes.CDLL(paths.pop())
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    for name, result, arguments in (
        ("rd_kafka_conf_new", pointer, ()),
        ("rd_kafka_conf_set", number, (pointer, text, text, text, ctypes.c_size_t)),
        ("rd_kafka_new", pointer, (number, pointer, text, ctypes.c_size_t)),
        ("rd_kafka_destroy", None, (pointer,)),
        ("rd_kafka_handle_mock_cluster", pointer, (pointer,)),
        ("rd_kafka_mock_cluster_bootstraps", text, (pointer,)),
        ("rd_kafka_mock_broker_set_down", number, (pointer, ctypes.c_int32)),
        ("rd_kafka_mock_broker_set_up", number, (pointer, ctypes.c_int32)),
        ("rd_kafka_mock_broker_set_rtt", number, (pointer, ctypes.c_int32, number)),
        ("rd_kafka_mock_topic_create", number, (pointer, text, number, number)),
    ):
        function = getattr(library, name)
        function.restype = result
        function.argtypes = arguments
    return library


class MockBroker:
    """A Kafka broker in this process, on a port of 127.0.0.1, that can be taken down and up again.

    It keeps messages in memory, the last five megabytes of each partition. A topic that was not
    created gets four partitions when it is first used. Not imitated are disks, limits on the size
    of messages, and idempotence: a message that is sent again is there twice. `close()`, or the end
    of a `with` block, frees the port and the messages.
    """

    def __init__(self) -> None:
        library = _librdkafka()
        error = ctypes.create_string_buffer(512)
        settings = library.rd_kafka_conf_new()
        for name, value in ((b"test.mock.num.brokers", b"1"), (b"log_level", b"0")):
            if library.rd_kafka_conf_set(settings, name, value, error, len(error)) != 0:
                raise RuntimeError(error.value.decode())
        # This client is used for nothing else: the mock cluster exists as long as it does.
        self._client: int | None = library.rd_kafka_new(_PRODUCER, settings, error, len(error))
        if self._client is None:
            raise RuntimeError(error.value.decode())
        cluster: int = library.rd_kafka_handle_mock_cluster(self._client)
        self._cluster = cluster
        self._address: str = library.rd_kafka_mock_cluster_bootstraps(cluster).decode()

    @property
    def address(self) -> str:
        """The address of the broker, `127.0.0.1:port`, which never changes."""
        return self._address

    def create_topic(self, topic: str, partitions: int) -> None:
        """Create a topic with a number of partitions, before its first use."""
        self._check(
            _librdkafka().rd_kafka_mock_topic_create(self._open(), topic.encode(), partitions, 1)
        )

    def down(self) -> None:
        """Reset all connections and refuse new ones; messages and port are kept."""
        self._check(_librdkafka().rd_kafka_mock_broker_set_down(self._open(), _BROKER_ID))

    def up(self) -> None:
        """Accept connections again, on the same port."""
        self._check(_librdkafka().rd_kafka_mock_broker_set_up(self._open(), _BROKER_ID))

    def delay(self, seconds: float) -> None:
        """Delay every response from now on by some seconds; 0 ends that."""
        milliseconds = round(seconds * 1000)
        self._check(
            _librdkafka().rd_kafka_mock_broker_set_rtt(self._open(), _BROKER_ID, milliseconds)
        )

    def close(self) -> None:
        """End the broker; a second call has no effect."""
        if self._client is not None:
            _librdkafka().rd_kafka_destroy(self._client)
            self._client = None

    def __enter__(self) -> MockBroker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_client", None) is not None:
            self.close()

    def _open(self) -> int:
        """Return the pointer to the mock cluster; raise `RuntimeError` if it is closed."""
        if self._client is None:
            raise RuntimeError("the mock broker is closed")
        return self._cluster

    @staticmethod
    def _check(code: int) -> None:
        """Raise the `KafkaException` for an error code, if it is one."""
        if code != 0:
            raise KafkaException(KafkaError(code))


class Message(NamedTuple):
    """A message as a consumer receives it."""

    key: bytes | None
    value: bytes | None
    partition: int
    offset: int


def consume(
    address: str, topic: str, count: int | None = None, timeout: float = 30.0
) -> list[Message]:
    """Return a topic's messages from its beginning, sorted by partition and offset.

    Read `count` messages, or all partitions to their end if that is `None`; after `timeout`
    seconds, return what has been read. A topic that does not exist is waited for, not created.
    """
    deadline = time.monotonic() + timeout
    consumer = Consumer(
        {
            "bootstrap.servers": address,
            "group.id": f"hbtd-tests-{uuid.uuid4()}",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "allow.auto.create.topics": False,
            "reconnect.backoff.max.ms": 500,
            "fetch.wait.max.ms": 50,
            "log_level": 0,
        }
    )
    try:
        unfinished = _assign(consumer, topic, deadline)
        found: list[Message] = []
        while unfinished if count is None else len(found) < count:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            message = consumer.poll(min(left, 1.0))
            if message is None:
                continue
            error = message.error()
            partition, offset = message.partition(), message.offset()
            if error is None:
                assert partition is not None
                assert offset is not None
                found.append(Message(_bytes(message.key()), message.value(), partition, offset))
            elif error.code() == KafkaError._PARTITION_EOF:
                unfinished.discard(partition)
            elif error.fatal():
                raise KafkaException(error)
        return sorted(found, key=lambda one: (one.partition, one.offset))
    finally:
        consumer.close()


def _assign(consumer: Consumer, topic: str, deadline: float) -> set[int | None]:
    """Assign all partitions of a topic to the consumer, once it exists; return their numbers.

    Assigning them, rather than subscribing, needs no consumer group.
    """
    while (left := deadline - time.monotonic()) > 0:
        try:
            metadata = consumer.list_topics(topic, timeout=min(left, 1.0)).topics[topic]
        except KafkaException:
            continue
        if metadata.error is None and metadata.partitions:
            consumer.assign(
                [TopicPartition(topic, number, OFFSET_BEGINNING) for number in metadata.partitions]
            )
            return set(metadata.partitions)
        time.sleep(min(left, 0.1))
    return set()


def _bytes(key: str | bytes | None) -> bytes | None:
    """Return a key as bytes; the client's types allow a string, too."""
    return key.encode() if isinstance(key, str) else key
