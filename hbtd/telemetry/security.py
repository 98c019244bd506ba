"""The TLS settings, client certificate, user and password of connections to Kafka."""

import ssl
from collections.abc import Callable
from typing import Any

from hbtd.config.params import Params
from hbtd.config.value_types import TelemetryAddress
from hbtd.net.client_credentials import ClientCredentials
from hbtd.net.own_secrets import Login, SecretFile, read_login
from hbtd.telemetry.sender import KafkaFactory, Producer

_MECHANISMS = {
    "plain": "PLAIN",
    "scram-sha-256": "SCRAM-SHA-256",
    "scram-sha-512": "SCRAM-SHA-512",
}
"""Kafka's names of the values of `telemetry_sasl`."""


class KafkaSecurity:
    """The TLS and SASL settings of connections to Kafka, read from files that may change."""

    def __init__(self, params: Params) -> None:
        """Read the files that `params` names for connections to Kafka.

        Raise `TLSUnusable` if a file with certificates or a key is missing or invalid, and
        `SecretUnusable` if the file with the user and password is missing or invalid.
        """
        self._params = params
        tls = params.telemetry_tls
        self.credentials = ClientCredentials(
            "Kafka",
            "--telemetry_ca",
            params.telemetry_ca if tls else "system",
            "--telemetry_cert",
            params.telemetry_cert,
            params.telemetry_key,
        )
        """The certificates for connections to Kafka.

        The caller must watch the files in `credentials.watched` for changes.
        """
        self._login: SecretFile[Login] | None = None
        if params.telemetry_login:
            self._login = SecretFile(
                f"The user and password in --telemetry_login={params.telemetry_login}",
                params.telemetry_login,
                read_login,
            )
            self.credentials.also_watch(self._login.watched)
        self._context = self._make_context() if tls else None

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` each time a file has changed and its new contents have been read.

        New connections to Kafka then use the new settings.
        """

        def renew() -> None:
            self._context = self._make_context()
            listener()

        if self._context is not None:
            self.credentials.on_change(renew)
        if self._login is not None:
            self._login.watched.on_change(listener)

    def look_again(self) -> None:
        """Read the file with the user and password again, if it has changed.

        Call this when a connection to Kafka has failed: the password may just have been changed.
        """
        if self._login is not None:
            self._login.renewed(self._login.current)

    def settings(self) -> dict[str, Any]:
        """Return the keyword arguments of `KafkaProducer` that make a new connection secure.

        Any thread may call this.
        """
        context, login = self._context, self._login
        if context is None and login is None:
            return {}
        protocol = ("SASL_" if login else "") + ("SSL" if context else "PLAINTEXT")
        settings: dict[str, Any] = {"security_protocol": protocol, "ssl_context": context}
        if login is not None:
            user, password = login.current
            settings |= {
                "sasl_mechanism": _MECHANISMS[self._params.telemetry_sasl],
                "sasl_plain_username": user,
                "sasl_plain_password": password,
            }
        return settings

    def _make_context(self) -> ssl.SSLContext:
        """Return a context with the present files, which have been found usable."""
        params = self._params
        trust = params.telemetry_ca
        bundle = None if trust in ("system", "insecure") else trust
        context = ssl.create_default_context(cafile=bundle)
        if trust == "insecure":
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if params.telemetry_cert:
            # Without a password OpenSSL would ask for one on the terminal, if the key had any.
            context.load_cert_chain(params.telemetry_cert, params.telemetry_key, password="")
        return context


def securely(
    connect: Callable[..., Producer],
    security: KafkaSecurity,
    look_again: Callable[[], object],
) -> KafkaFactory:
    """Return a function that connects to Kafka with the current settings of `security`.

    The function calls `connect`, and passes on its result. If `connect` raises an exception, the
    function calls `look_again`, in the same thread, and raises the exception again.
    """

    def connect_securely(address: TelemetryAddress) -> Producer:
        try:
            return connect(address, **security.settings())
        except Exception:
            look_again()
            raise

    return connect_securely
