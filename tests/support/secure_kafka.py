"""A real Apache Kafka that asks for TLS, a client certificate, and a user and password."""

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource
from confluent_kafka.admin._resource import ResourceType
from confluent_kafka.admin._scram import (
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialDeletion,
    UserScramCredentialUpsertion,
)

from hbtd.net.tls import Identity
from tests.support.certificates import make_identity, write_identity
from tests.support.real_kafka import RealKafka
from tests.support.server_process import HOST, free_ports

_MECHANISMS = (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512)
_SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
_PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule required"
_PREFIX = "listener.name.sasl_ssl"


class SecureKafka(RealKafka):
    """A broker with a listener for hbtd, `secure_address`, beside the open one for tests.

    The passwords of the user `hbtd` for SCRAM are set by `set_password`.
    """

    def __init__(self, folder: Path) -> None:
        """Make the broker; its certificates are written into `folder`."""
        self._secure_port, controller, port = free_ports(3)
        self.authority = make_identity("clients", days=60)
        """The authority whose certificates clients need."""
        self.plain_password = "plain-password"
        """The password of the user `hbtd` for PLAIN."""
        self._folder = folder
        self._servers = make_identity("servers", days=60)
        self.bundle, _ = write_identity(self._servers, folder / "servers")
        """The path of the bundle by which the broker is trusted."""
        clients, _ = write_identity(self.authority, folder / "clients")
        self._keystores = 0
        keystore, _ = self._make_keystore(60.0)
        super().__init__(
            properties={
                "listeners": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controller},"
                f"SASL_SSL://{HOST}:{self._secure_port}",
                "advertised.listeners": f"PLAINTEXT://{HOST}:{port},"
                f"SASL_SSL://localhost:{self._secure_port}",
                "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,"
                "SASL_SSL:SASL_SSL",
                "controller.quorum.voters": f"1@{HOST}:{controller}",
                "inter.broker.listener.name": "PLAINTEXT",
                # Whose password has changed is to notice soon.
                "connections.max.reauth.ms": "2000",
                "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
                **self._plain(),
                f"{_PREFIX}.scram-sha-256.sasl.jaas.config": _SCRAM,
                f"{_PREFIX}.scram-sha-512.sasl.jaas.config": _SCRAM,
                f"{_PREFIX}.ssl.client.auth": "required",
                f"{_PREFIX}.ssl.keystore.type": "PEM",
                f"{_PREFIX}.ssl.keystore.location": str(keystore),
                "ssl.truststore.type": "PEM",
                "ssl.truststore.location": str(clients),
            }
        )
        self._port = port

    @property
    def secure_address(self) -> str:
        """The address of the listener with TLS and SASL."""
        return f"localhost:{self._secure_port}"

    def certify(
        self, folder: Path, issuer: Identity | None = None, days: float = 60.0
    ) -> tuple[Path, Path]:
        """Write a client's certificate and key into a folder; return their paths."""
        return write_identity(make_identity("hbtd", issuer or self.authority, days), folder)

    def set_plain_password(self, password: str) -> None:
        """Start the broker anew, with another password of the user `hbtd` for PLAIN."""
        self.plain_password = password
        self.configure(self._plain())
        self.restart()

    def restart(self) -> None:
        """Start the broker anew, which ends all connections."""
        self.stop()
        self.start(timeout=120)

    def renew(self, days: float = 60.0) -> datetime:
        """Have the broker present a new certificate; return when that expires."""
        if not self.running:
            self.start()
        keystore, expires = self._make_keystore(days)
        name = f"{_PREFIX}.ssl.keystore.location"
        entry = ConfigEntry(name, str(keystore), incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.BROKER, "1", incremental_configs=[entry])
        admin = AdminClient({"bootstrap.servers": self.address, "log_level": 0})
        for done in admin.incremental_alter_configs([resource]).values():
            done.result(timeout=10)
        return expires

    def set_password(self, password: str) -> None:
        """Set the SCRAM passwords of the user `hbtd`."""
        self._alter(
            UserScramCredentialUpsertion(
                "hbtd", ScramCredentialInfo(mechanism, 4096), password.encode()
            )
            for mechanism in _MECHANISMS
        )

    def remove_user(self) -> None:
        """Forget the SCRAM passwords of the user `hbtd`."""
        self._alter(UserScramCredentialDeletion("hbtd", mechanism) for mechanism in _MECHANISMS)

    def _plain(self) -> dict[str, str]:
        """Return the property with the passwords for PLAIN."""
        users = f'user_hbtd="{self.plain_password}"'
        return {f"{_PREFIX}.plain.sasl.jaas.config": f"{_PLAIN} {users};"}

    def _make_keystore(self, days: float) -> tuple[Path, datetime]:
        """Write a new certificate and key of the broker; return the path, and when it expires."""
        self._keystores += 1
        server = make_identity("localhost", self._servers, days)
        cert, key = write_identity(server, self._folder / "server")
        keystore = self._folder / f"keystore{self._keystores}.pem"
        keystore.write_bytes(key.read_bytes() + cert.read_bytes())
        return keystore, server.chain[0].not_valid_after_utc

    def _alter(self, alterations: Iterable[Any]) -> None:
        # Kafka takes one alteration of a user at a time.
        admin = AdminClient({"bootstrap.servers": self.address, "log_level": 0})
        for each in alterations:
            for done in admin.alter_user_scram_credentials([each]).values():
                done.result(timeout=10)
