"""Records, for `/health` and for log lines, whether Kafka accepts messages and, if not, why."""

from collections.abc import Callable

from kafka.errors import KafkaError
from twisted.logger import Logger

from hbtd.config.value_types import TelemetryAddress
from hbtd.runtime.outage import Outage


class Contact:
    """Records whether Kafka accepts messages and, if not, why.

    It logs when Kafka first accepts messages, and when each outage begins and ends. Callers of its
    methods must hold the lock of the backlog, `Backlog.changed`.
    """

    _log = Logger()

    def __init__(self, now: Callable[[], float]) -> None:
        """Begin without an address of Kafka; `now` returns the seconds of a monotonic clock."""
        self._address: TelemetryAddress | None = None
        self._outage = Outage(self._log_outage, self._log_connection, now)
        self._was_connected = False
        self.connected = False
        """Whether Kafka accepts messages."""

    def use(self, address: TelemetryAddress | None) -> None:
        """Begin anew, for Kafka at another address; `address` is `None` if nothing is published."""
        self._address = address
        self._outage.reset()
        self.connected = self._was_connected = False

    def succeed(self) -> None:
        """Record that Kafka accepts messages; this ends an outage, if there is one."""
        is_first = not self._was_connected and self._outage.reason is None
        self.connected = self._was_connected = True
        self._outage.recover()
        if is_first:
            self._log_connection()

    def fail(self, error: Exception) -> None:
        """Record that Kafka accepts no messages, because of `error`."""
        self.connected = False
        self._outage.fail(str(error) if isinstance(error, KafkaError) else repr(error))

    def health(self) -> str:
        """Return the text about Kafka in `/health` (docs/protocol.md, "Probes and health")."""
        if self.connected:
            return "Connected and OPEN"
        return "Connected and CLOSED" if self._was_connected else "Not Connected"

    @property
    def reason(self) -> str | None:
        """Why Kafka accepts no messages, and Kafka's address, in words for operators.

        The value is `None` if Kafka accepts messages, or if no address is set.
        """
        if self._address is None or self.connected:
            return None
        why = self._outage.reason or "no connection yet"
        return f"Kafka at {self._address.host}:{self._address.port}: {why}"

    def _log_connection(self) -> None:
        if self._address is not None:
            self._log.info("Kafka at {host}:{port} accepts messages.", **self._address._asdict())

    def _log_outage(self, reason: str) -> None:
        if self._address is not None:
            self._log.warn(
                "Kafka at {host}:{port} accepts no messages; messages wait until Kafka accepts"
                " them: {error}",
                error=reason,
                **self._address._asdict(),
            )
