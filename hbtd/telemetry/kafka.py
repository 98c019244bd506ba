"""kafka-python's producer, with what hbtd needs to know of it and to spare it."""

import socket
import time
from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError
from kafka.net.compat import KafkaNetClient
from kafka.net.inet import KafkaNetSocket

from hbtd.config.value_types import TelemetryAddress

_SETTINGS = {
    "client_id": "hbtd",
    # How long making a producer, and asking it for a topic, may block its thread.
    "bootstrap_timeout_ms": 5_000,
    "max_block_ms": 1_000,
    # What it has taken it keeps, and retries in order, for as long as Kafka is away: once a batch
    # of an idempotent producer expires, kafka-python 3 sends nothing any more.
    "delivery_timeout_ms": 2**31 - 1,
    "request_timeout_ms": 10_000,
    "reconnect_backoff_max_ms": 1_000,
    "linger_ms": 5,
    "metrics_enabled": False,
    # No proxy, but the way to have `_TidySocket` used.
    "proxy_url": "tidy://",
}

_HOT_LOOPS = 20
_PAUSE = 0.01


class _TidySocket(KafkaNetSocket):  # type: ignore[misc]  # kafka-python is not typed
    """Connects as kafka-python does, and leaves no socket behind when that fails.

    Version 3.0.12 leaves it open until the garbage collector happens on it: while Kafka is away, a
    descriptor for each attempt.
    """

    SCHEMES = ("tidy",)

    async def sock_connect(self, net: Any, sock: socket.socket, *rest: Any, **more: Any) -> Any:
        """Connect a socket, or close it."""
        try:
            return await super().sock_connect(net, sock, *rest, **more)
        except BaseException:
            sock.close()
            raise


class _PatientClient(KafkaNetClient):  # type: ignore[misc]  # kafka-python is not typed
    """kafka-python's network client, which does not spin while Kafka is away.

    With messages waiting and nobody to take them, version 3.0.12 polls without a pause, for it
    takes seconds for milliseconds: a whole core, and with it the lock that our reactor needs.
    """

    _hot = 0

    def connection_delay(self, node_id: int) -> float:
        """Give the milliseconds to wait before a node can be connected to."""
        return max(float(super().connection_delay(node_id)) * 1000, 1000 * _PAUSE)

    def poll(self, timeout_ms: float | None = None, future: Any = None) -> Any:
        """Do what there is to do; take a breath when that has been nothing for many times."""
        began = time.monotonic()
        result = super().poll(timeout_ms=timeout_ms, future=future)
        if self.in_flight_request_count() or time.monotonic() - began > _PAUSE / 10:
            self._hot = 0
        else:
            self._hot += 1
            if self._hot > _HOT_LOOPS:
                time.sleep(_PAUSE)
        return result


class Kafka:
    """A connection to Kafka. Blocks, and belongs to one thread."""

    def __init__(self, address: TelemetryAddress, **settings: Any) -> None:
        """Connect; raises `KafkaError` if that can't be done within a few seconds.

        `settings` are further ones of `kafka.KafkaProducer`, whose idempotence is left on.
        """
        self._topic = address.topic
        self._client: _PatientClient | None = None
        try:
            self._producer = KafkaProducer(
                bootstrap_servers=f"{address.host}:{address.port}",
                kafka_client=self._make_client,
                **{**_SETTINGS, **settings},
            )
        except Exception:
            # A producer that can't be made leaves its client's descriptors open.
            if self._client is not None:
                self._client.close()
            raise
        try:
            self._producer.partitions_for(self._topic)
        except KafkaError:
            self.abandon()
            raise

    def _make_client(self, **configuration: Any) -> _PatientClient:
        self._client = _PatientClient(**configuration)
        return self._client

    @property
    def connected(self) -> bool:
        """Whether there is a connection to any broker; a frozen one takes a while to show."""
        client = self._client
        return client is not None and any(
            client.connected(broker.node_id) for broker in client.cluster.brokers()
        )

    def send(self, key: bytes, value: bytes) -> Any:
        """Take a message; gives kafka-python's future."""
        return self._producer.send(self._topic, value=value, key=key)

    def abandon(self) -> None:
        """Give up at once: what has not been acknowledged fails."""
        # `close` would wait for what can't be sent, then raise and leave the producer at work, and
        # that would send it after its successor.
        self._producer._sender.force_close()
        self._producer._sender.join(1.0)
        self._producer.close(timeout=0)
