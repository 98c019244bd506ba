"""A Kafka producer on kafka-python, with workarounds for bugs in kafka-python 3.0."""

import re
import socket
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError, KafkaTimeoutError, SaslAuthenticationFailedError
from kafka.net.compat import KafkaNetClient
from kafka.net.inet import KafkaNetSocket
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector

from hbtd.config.value_types import TelemetryAddress

_SETTINGS = {
    "client_id": "hbtd",
    # For how long the constructor, and a request for a topic's partitions, may block.
    "bootstrap_timeout_ms": 5_000,
    "max_block_ms": 1_000,
    # Messages are kept, and retried in order, for as long as Kafka is unavailable: once a batch of
    # an idempotent producer has expired, kafka-python 3 sends no further messages.
    "delivery_timeout_ms": 2**31 - 1,
    "request_timeout_ms": 10_000,
    "reconnect_backoff_max_ms": 1_000,
    "linger_ms": 5,
    "metrics_enabled": False,
    # Not a proxy: this makes kafka-python use `_TidySocket`.
    "proxy_url": "tidy://",
}

_TRIAL = 1.0
"""Seconds that an attempt to connect may take that is only made to find out why others failed."""

_CHECK_MS = 3_000
"""Milliseconds that `check_connection` may take, beside an attempt to find out why it failed."""

# What kafka-python puts before the words of a broker.
_ERROR_NAMES = re.compile(r"^\[Error \d+\] (\w+Error: )*")

_HOT_LOOPS = 20
"""The most successive polls without anything to do; after each further one, `poll` sleeps."""

_PAUSE = 0.01
"""Seconds for which an idle `poll` sleeps; also the shortest wait before connecting to a broker."""


class _TidySocket(KafkaNetSocket):  # type: ignore[misc]  # kafka-python is not typed
    """A socket of kafka-python that is closed when connecting fails.

    kafka-python 3.0.12 leaves it open until it is garbage collected. While Kafka is unavailable,
    that would cost one file descriptor for each attempt to connect.
    """

    SCHEMES = ("tidy",)

    async def sock_connect(self, net: Any, sock: socket.socket, *rest: Any, **more: Any) -> Any:
        """Connect a socket; close the socket if that fails."""
        try:
            return await super().sock_connect(net, sock, *rest, **more)
        except BaseException:
            sock.close()
            raise


class _NotingManager(KafkaConnectionManager):  # type: ignore[misc]  # kafka-python is not typed
    """A manager of connections that notes why a broker has refused a user and password.

    kafka-python 3.0.12 only logs that, and tries the same password until the time is over.
    """

    refusal: str | None = None

    def get_connection(self, *arguments: Any, **more: Any) -> Any:
        """Return a connection as kafka-python's method does.

        Raise `SaslAuthenticationFailedError` if the first connection was refused already.
        """
        if self.refusal is not None and not self.bootstrapped:
            raise SaslAuthenticationFailedError(self.refusal)
        connection = super().get_connection(*arguments, **more)
        connection.init_future.add_errback(self._note)
        return connection

    def _note(self, error: BaseException) -> None:
        if isinstance(error, SaslAuthenticationFailedError):
            self.refusal = _ERROR_NAMES.sub("", " ".join(str(error).split()))[:200]


class _PatientClient(KafkaNetClient):  # type: ignore[misc]  # kafka-python is not typed
    """A network client of kafka-python that does not busy-wait while Kafka is unavailable.

    When messages wait and no broker is connected, kafka-python 3.0.12 polls without a pause,
    because it mistakes seconds for milliseconds. This uses up a whole core, and holds the
    interpreter's lock, which the reactor needs.
    """

    _hot = 0

    def __init__(self, **configuration: Any) -> None:
        net = NetworkSelector(**configuration)
        super().__init__(net=net, manager=_NotingManager(net, **configuration))

    @property
    def refusal(self) -> str | None:
        """What a broker has said when it refused the user and password; `None` if none has."""
        refusal: str | None = self._manager.refusal
        return refusal

    def connection_delay(self, node_id: int) -> float:
        """Return how many milliseconds to wait before connecting to the broker `node_id`."""
        return max(float(super().connection_delay(node_id)) * 1000, 1000 * _PAUSE)

    def poll(self, timeout_ms: float | None = None, future: Any = None) -> Any:
        """Do pending work; sleep for a moment if many polls in a row had nothing to do.

        The arguments and the result are those of kafka-python's method.
        """
        began = time.monotonic()
        result = super().poll(timeout_ms=timeout_ms, future=future)
        if self.in_flight_request_count() or time.monotonic() - began > _PAUSE / 10:
            self._hot = 0
        else:
            self._hot += 1
            if self._hot > _HOT_LOOPS:
                time.sleep(_PAUSE)
        return result


class KafkaUnreachable(KafkaError):  # type: ignore[misc]  # kafka-python is not typed
    """Raised when no connection to Kafka could be made; the message says why."""

    def __str__(self) -> str:
        """Return the message, without the prefix that `KafkaError` adds."""
        return str(self.args[0])


class Kafka:
    """A Kafka producer for one topic.

    All methods may block, and must be called in one and the same thread.
    """

    def __init__(self, address: TelemetryAddress, **settings: Any) -> None:
        """Connect to Kafka at `address`.

        Raise `KafkaError` if no connection is made within 5 seconds, or if Kafka does not confirm
        within 1 second that the topic exists. `settings` are further arguments of
        `kafka.KafkaProducer`, such as those of `KafkaSecurity`. The producer is idempotent: a
        message that it sends again is stored once.
        """
        self._topic = address.topic
        self._client: _PatientClient | None = None
        try:
            self._producer = KafkaProducer(
                bootstrap_servers=f"{address.host}:{address.port}",
                kafka_client=self._make_client,
                **{**_SETTINGS, **settings},
            )
        except Exception as error:
            # A constructor that fails leaves its client's file descriptors open.
            if self._client is not None:
                self._client.close()
            if isinstance(error, KafkaError):
                raise KafkaUnreachable(_why(self._client, address, settings)) from error
            raise
        try:
            self._producer.partitions_for(self._topic)
        except KafkaTimeoutError as error:
            self.abandon()
            raise KafkaTimeoutError(
                f"there is no topic {self._topic}, or no answer about it within 1 s"
            ) from error
        except KafkaError:
            self.abandon()
            raise

    def _make_client(self, **configuration: Any) -> _PatientClient:
        self._client = _PatientClient(**configuration)
        return self._client

    @property
    def connected(self) -> bool:
        """Whether there is a connection to at least one broker of Kafka.

        A broker that hangs counts as connected until a request to it times out.
        """
        client = self._client
        return client is not None and any(
            client.connected(broker.node_id) for broker in client.cluster.brokers()
        )

    def send(self, key: bytes, value: bytes) -> Any:
        """Send a message; return the kafka-python future of its acknowledgement by Kafka."""
        return self._producer.send(self._topic, value=value, key=key)

    def abandon(self) -> None:
        """Disconnect from Kafka at once, so that futures of unacknowledged messages fail."""
        # `close` would wait for messages that can't be sent, then raise an exception and leave the
        # producer running, so that it could send them after newer messages of the next producer.
        self._producer._sender.force_close()
        self._producer._sender.join(1.0)
        self._producer.close(timeout=0)


def check_connection(address: TelemetryAddress, settings: Mapping[str, Any]) -> None:
    """Check that Kafka can be reached: connect, and disconnect again.

    Raise `KafkaError` if Kafka does not answer within 3 seconds. `settings` are those of
    `KafkaSecurity`. No topic is requested, since a request might create the topic. The function
    blocks.
    """
    client: _PatientClient | None = None
    try:
        client = _PatientClient(
            bootstrap_servers=f"{address.host}:{address.port}",
            **{name: _SETTINGS[name] for name in ("client_id", "proxy_url")},
            **settings,
        )
        client.get_broker_version(timeout_ms=_CHECK_MS)
    except KafkaError as error:
        raise KafkaUnreachable(_why(client, address, settings)) from error
    finally:
        if client is not None:
            client.close()


def _why(
    client: _PatientClient | None, address: TelemetryAddress, settings: Mapping[str, Any]
) -> str:
    """Return in words why no connection was made by `client`, with some settings."""
    if client is not None and client.refusal is not None:
        user = settings.get("sasl_plain_username")
        return f"it refuses the user {user!r} of --telemetry_login: {client.refusal}"
    return _why_unreachable(address, settings.get("ssl_context"), "sasl_mechanism" in settings)


def _why_unreachable(
    address: TelemetryAddress, context: ssl.SSLContext | None = None, login: bool = False
) -> str:
    """Return in words why Kafka can't be reached, after an attempt without kafka-python.

    The errors of kafka-python don't give the reason. With `context` the attempt is one with TLS.
    """
    hint = "" if login else "; does it ask for --telemetry_login?"
    try:
        with socket.create_connection((address.host, address.port), _TRIAL) as plain:
            if context is None:
                return (
                    "a server accepts connections there, but does not answer like Kafka without"
                    " TLS" + hint
                )
            with context.wrap_socket(plain, server_hostname=address.host) as secure:
                # With TLS 1.3 a server refuses a client's certificate after the handshake.
                with suppress(TimeoutError):
                    secure.recv(1)
                return (
                    "a server accepts TLS connections there, but does not answer like Kafka" + hint
                )
    except ssl.SSLError as error:
        reason = getattr(error, "verify_message", "") or error.reason or str(error)
        words = reason.replace("_", " ").lower()
        return f"TLS fails, see --telemetry_ca and --telemetry_cert: {words}"
    except socket.gaierror as error:
        return f"its name can't be looked up ({error.strerror})"
    except OSError as error:
        return f"no broker answers there ({(error.strerror or str(error)).lower()})"
