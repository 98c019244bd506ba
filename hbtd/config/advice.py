"""Texts about access that hbtd logs at each start: the rules, and warnings of risky settings."""

from hbtd.config.access_rules import NodeRules, OperatorRules
from hbtd.config.params import Params


def advice(params: Params) -> list[str]:
    """Return warnings about parameters with risky values; the default values cause none."""
    operators, nodes = params.operator_rules, params.node_rules
    kind = params.endpoint_kind
    plain = not params.serves_tls
    overheard = plain and kind != "unix"
    warnings = []
    if operators.anyone:
        warnings.append(
            "--operator_access=any: every client that can reach hbtd is an operator."
            " Only a gateway should be able to reach hbtd."
        )
    elif operators.loopback and plain:
        warnings.append(
            "Without TLS of its own, hbtd may be behind a gateway. If the gateway runs on this host"
            " and sends neither Forwarded, Via nor any X-Forwarded field, all its clients are"
            " operators: see --operator_access."
        )
    if overheard and (operators.token_path or nodes.jwks):
        warnings.append("Without TLS of hbtd's own, tokens can be read on the network.")
    if nodes.jwks_url.lower().startswith("http:"):
        warnings.append("The keys that verify nodes' JWTs are fetched by http: they can be forged.")
    if params.sm_token and params.sm_url.startswith("http:"):
        warnings.append("--sm_token is sent to HSM by http: it can be read on the network.")
    if params.kv_login and "http://" in params.kv_url:
        warnings.append("--kv_login is sent to etcd by http: it can be read on the network.")
    if params.telemetry_login and params.telemetry_sasl == "plain" and not params.telemetry_tls:
        warnings.append(
            "--telemetry_login is sent to Kafka without TLS: it can be read on the network."
        )
    if params.telemetry_tls and params.telemetry_ca == "insecure":
        warnings.append("--telemetry_ca=insecure: the server's certificate is not checked.")
    for name in ("sm_ca", "kv_ca", "jwt_ca"):
        if getattr(params, name) == "insecure":
            warnings.append(f"--{name}=insecure: the server's certificate is not checked.")
    return warnings


def summary(operators: OperatorRules, nodes: NodeRules) -> str:
    """Return a line for the log that says who is an operator and what credentials nodes need."""
    who = [
        "every client" * operators.anyone,
        "clients on this host" * operators.loopback,
        "clients with a token" * bool(operators.token_path),
        "clients with a named certificate" * bool(operators.names),
    ]
    how = [
        "none needed" * nodes.anyone,
        "client certificates" * nodes.certificates,
        "JWTs" * bool(nodes.jwks),
    ]
    return (
        f"Operators: {' or '.join(filter(None, who))}."
        f" Credentials of nodes: {' or '.join(filter(None, how))}."
    )
