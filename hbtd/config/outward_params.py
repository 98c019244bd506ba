"""The parameters about the credentials that hbtd presents to HSM, etcd and Kafka."""

from dataclasses import dataclass

from hbtd.config.parameter import Group, param
from hbtd.config.value_types import SWITCH, TELEMETRY_SASL, TEXT


@dataclass(frozen=True)
class OutwardParams:
    """The base class of `Params`: parameters about hbtd's credentials for HSM, etcd and Kafka."""

    sm_cert: str = param(
        Group.HSM,
        TEXT,
        "",
        "PEM file of the certificate that hbtd presents to an https HSM.",
        fixed=True,
    )
    sm_key: str = param(
        Group.HSM,
        TEXT,
        "",
        "PEM file of the private key of `--sm_cert`.",
        fixed=True,
    )
    sm_token: str = param(
        Group.HSM,
        TEXT,
        "",
        "File of the bearer token that hbtd sends to HSM with each request.",
        "It goes to whatever `sm_url` names.",
        fixed=True,
    )
    kv_login: str = param(
        Group.STORE,
        TEXT,
        "",
        "File with the user and password for an etcd with users, as `USER:PASSWORD`.",
        fixed=True,
    )
    telemetry_tls: bool = param(
        Group.KAFKA,
        SWITCH,
        False,
        "Connect to Kafka with TLS.",
        fixed=True,
    )
    telemetry_ca: str = param(
        Group.KAFKA,
        TEXT,
        "system",
        "Authorities to trust at a Kafka with TLS, as for `--sm_ca`.",
        fixed=True,
    )
    telemetry_cert: str = param(
        Group.KAFKA,
        TEXT,
        "",
        "PEM file of the certificate that hbtd presents to a Kafka with TLS.",
        fixed=True,
    )
    telemetry_key: str = param(
        Group.KAFKA,
        TEXT,
        "",
        "PEM file of the private key of `--telemetry_cert`.",
        fixed=True,
    )
    telemetry_login: str = param(
        Group.KAFKA,
        TEXT,
        "",
        "File with the user and password for Kafka (SASL), as `USER:PASSWORD`.",
        fixed=True,
    )
    telemetry_sasl: str = param(
        Group.KAFKA,
        TELEMETRY_SASL,
        "scram-sha-512",
        "How Kafka checks the password: `plain`, `scram-sha-256` or `scram-sha-512`.",
        "With `plain` Kafka is sent the password itself.",
        fixed=True,
    )
