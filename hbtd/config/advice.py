"""What is allowed, but worth a line in the log of every start."""

from hbtd.config.access_rules import NodeWays, OperatorWays
from hbtd.config.params import Params


def advice(params: Params) -> list[str]:
    """Give a sentence for each thing about access that an operator should have decided on."""
    operators, nodes = params.operator_ways, params.node_ways
    kind = params.listen.replace("\\", "").partition(":")[0].lower()
    plain = kind != "ssl" if kind else not params.tls
    overheard = plain and kind != "unix"
    said = []
    if operators.anyone:
        said.append(
            "--operator_access=any: whoever reaches hbtd may steer it. Only a gateway should."
        )
    elif operators.loopback and plain:
        said.append(
            "Without TLS of its own hbtd may stand behind a gateway. If that is on this host, and"
            " sends neither Forwarded, Via nor one of the X-Forwarded fields, all who come through"
            " it are operators: see --operator_access."
        )
    if overheard and (operators.token_path or nodes.jwks):
        said.append("Without TLS of hbtd's own, tokens can be read on their way here.")
    if nodes.jwks_url.lower().startswith("http:"):
        said.append("The keys of nodes' tokens are fetched by http: on the way they can be forged.")
    for name in ("sm_ca", "kv_ca", "jwt_ca"):
        if getattr(params, name) == "insecure":
            said.append(f"--{name}=insecure: who answers there is not checked.")
    return said


def summary(operators: OperatorWays, nodes: NodeWays) -> str:
    """Say in a line who may do what."""
    by = [
        "anybody" * operators.anyone,
        "who is on this host" * operators.loopback,
        "who has a token" * bool(operators.token_path),
        "who has one of the certificates named" * bool(operators.names),
    ]
    how = [
        "nobody is asked for any" * nodes.anyone,
        "client certificates" * nodes.certificates,
        "JWTs" * bool(nodes.jwks),
    ]
    return (
        f"Operators: {' or '.join(filter(None, by))}."
        f" Credentials of nodes: {' or '.join(filter(None, how))}."
    )
