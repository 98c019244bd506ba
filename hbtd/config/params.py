"""The operational parameters: what they are, how they are written, how they change while we run.

One table, the fields of `Params`, drives the command line, the environment, `GET /params` and
`PATCH /params` (docs/protocol.md says what each looks like from outside). A `Params` never
changes; `LiveParams` holds the present one and tells whoever asked when it is replaced.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple

from twisted.logger import Logger

from hbtd.config.access_rules import (
    NodeWays,
    OperatorWays,
    parse_node_access,
    parse_operator_access,
)
from hbtd.config.value_types import (
    BODY_BYTES,
    COUNT,
    HEADER_BYTES,
    HTTP_URL,
    KV_URL,
    LOG_FORMAT,
    NAME,
    NAMED_SWITCH,
    NODE_ACCESS,
    NUMBER,
    OPERATOR_ACCESS,
    PORT,
    SECONDS,
    SWITCH,
    TELEMETRY,
    TEXT,
    TIMEOUT,
    TelemetryAddress,
    ValueType,
    parse_telemetry_host,
)
from hbtd.formats.go_json import pick
from hbtd.tracker.tracker import MOST_COMPONENTS


def _param(kind: ValueType, default: object, help: str, *, fixed: bool = False) -> Any:
    """Declare a parameter; a `fixed` one can't be changed while we run."""
    return field(default=default, metadata={"kind": kind, "help": help, "fixed": fixed})


@dataclass(frozen=True)
class Params:
    """All parameters at one moment, in the order in which `GET /params` gives them."""

    debug: int = _param(
        COUNT,
        0,
        "Debug level. 0: what an operator needs; 1: what hbtd does besides; 2: its libraries, too.",
    )
    nosm: bool = _param(
        SWITCH, False, "Don't contact the State Manager (for testing). Alone it means yes."
    )
    use_telemetry: bool = _param(NAMED_SWITCH, True, "Inject notifications into the message bus.")
    telemetry_host: str = _param(TELEMETRY, "", "Kafka broker and topic, as host:port:topic.")
    warntime: int = _param(
        SECONDS, 10, "Seconds of silence before a warning of node heartbeat failure."
    )
    errtime: int = _param(SECONDS, 30, "Seconds of silence before a node is declared dead.")
    port: int = _param(PORT, 28500, "Port to listen on.", fixed=True)
    kv_url: str = _param(
        KV_URL,
        "https://localhost:2379",
        "Key-value store: etcd's URLs, separated by commas; sqlite:PATH, a file; mem:, memory only;"
        " empty: the etcd at ETCD_HOST and ETCD_PORT.",
        fixed=True,
    )
    interval: int = _param(SECONDS, 5, "Heartbeat check interval in seconds.")
    sm_url: str = _param(HTTP_URL, "http://localhost:27779/hsm/v1", "State Manager base URL.")
    sm_timeout: int = _param(SECONDS, 10, "State Manager access timeout in seconds.")
    sm_retries: int = _param(COUNT, 3, "Number of State Manager access retries.")
    tls: bool = _param(
        SWITCH, True, "Serve HTTPS; no: plain HTTP, for use behind a gateway.", fixed=True
    )
    tls_cert: str = _param(
        TEXT, "", "PEM certificate chain to serve; none: self-signed at start.", fixed=True
    )
    tls_key: str = _param(TEXT, "", "PEM private key of --tls_cert.", fixed=True)
    tls_client_ca: str = _param(
        TEXT, "", "PEM bundle; clients may present certificates signed by it.", fixed=True
    )
    sm_ca: str = _param(
        TEXT,
        "system",
        "Whom to trust at an https State Manager: system, insecure, or a PEM bundle's path.",
        fixed=True,
    )
    kv_ca: str = _param(
        TEXT, "", "Whom to trust at an https etcd: as --sm_ca; none: system.", fixed=True
    )
    kv_cert: str = _param(TEXT, "", "PEM client certificate for an https etcd.", fixed=True)
    kv_key: str = _param(TEXT, "", "PEM private key of --kv_cert.", fixed=True)
    listen: str = _param(
        TEXT, "", "Twisted endpoint to serve on, instead of --port and TLS.", fixed=True
    )
    fast_lane: bool = _param(
        SWITCH, True, "Answer plain heartbeats without Klein; no: Klein answers all.", fixed=True
    )
    log_format: str = _param(LOG_FORMAT, "text", "Log lines as text or json.", fixed=True)
    clear_on_gap: bool = _param(
        SWITCH,
        False,
        "Forget stored heartbeats if no other replica was alive at start.",
        fixed=True,
    )

    operator_access: str = _param(
        OPERATOR_ACCESS,
        "loopback",
        "Who may steer hbtd: loopback, token:PATH, cert:NAME[,NAME...], any; several: with '+'.",
        fixed=True,
    )
    node_access: str = _param(
        NODE_ACCESS,
        "any",
        "Who may send heartbeats: any, cert, jwt:JWKS (a path or URL); several: with '+'.",
        fixed=True,
    )
    jwt_audience: str = _param(
        NAME, "system-compute", "Audience that nodes' JWTs must be for.", fixed=True
    )
    jwt_require_xname: bool = _param(
        SWITCH,
        False,
        "Refuse JWTs whose subject names no component; otherwise they may beat for any.",
        fixed=True,
    )
    jwt_ca: str = _param(
        TEXT, "system", "Whom to trust when the JWKS is fetched by https: as --sm_ca.", fixed=True
    )
    max_components: int = _param(
        NUMBER, MOST_COMPONENTS, "Components tracked at most; new ones get a 503 then.", fixed=True
    )
    max_connections: int = _param(
        NUMBER, 50_000, "Connections that may be open at once; others are closed.", fixed=True
    )
    max_connections_per_peer: int = _param(
        COUNT, 20_000, "How many of these may be of one address; 0: no limit.", fixed=True
    )
    max_header_bytes: int = _param(
        HEADER_BYTES, 16_384, "Bytes that the head of a request may have.", fixed=True
    )
    max_body_bytes: int = _param(
        BODY_BYTES,
        4 * 1024 * 1024,
        "Bytes that a request's body may have; a heartbeat's: 65536.",
        fixed=True,
    )
    request_timeout: int = _param(
        TIMEOUT, 20, "Seconds that a request may take to arrive.", fixed=True
    )
    idle_timeout: int = _param(
        TIMEOUT,
        60,
        "Seconds until a connection is closed on which nothing happens, or no answer is read.",
        fixed=True,
    )

    @property
    def operator_ways(self) -> OperatorWays:
        """How operators are known."""
        return parse_operator_access(self.operator_access)

    @property
    def node_ways(self) -> NodeWays:
        """How nodes are known."""
        return parse_node_access(self.node_access)

    @property
    def telemetry_address(self) -> TelemetryAddress | None:
        """Where to publish; `None` when nothing is to be published."""
        if not self.use_telemetry or not self.telemetry_host:
            return None
        return parse_telemetry_host(self.telemetry_host)

    def rendered(self) -> dict[str, str]:
        """All values as texts under the names that they have on the wire."""
        return {p.wire: p.kind.render(getattr(self, p.name)) for p in PARAMETERS}


class Parameter(NamedTuple):
    """One row of the table: a field of `Params` with what is known of it."""

    name: str
    kind: ValueType
    default: Any
    help: str
    fixed: bool

    @property
    def wire(self) -> str:
        """The name in JSON: `warntime` is `Warntime`."""
        return self.name.capitalize()

    @property
    def environment(self) -> str:
        """The environment variable that sets it: `warntime` is `HBTD_WARNTIME`."""
        return f"HBTD_{self.name.upper()}"


PARAMETERS = tuple(Parameter(f.name, default=f.default, **f.metadata) for f in fields(Params))


class ParamsRefused(Exception):
    """A change of parameters that can't be made; the message holds all complaints."""


def patched(params: Params, changes: Mapping[str, object]) -> Params:
    """Make the parameters that a `PATCH /params` asks for.

    All or nothing: raises `ParamsRefused` with every complaint if anything can't be used. Names
    match case-insensitively, unknown ones are ignored, empty texts and nulls change nothing.
    """
    values = pick(changes, [parameter.wire for parameter in PARAMETERS])
    asked = list(zip(PARAMETERS, values, strict=True))
    for parameter, value in asked:
        if value is not None and not isinstance(value, str):
            raise ParamsRefused(f"Invalid data type in {parameter.wire} field. ")
    complaints = ""
    wanted: dict[str, Any] = {}
    for parameter, value in asked:
        if not value:
            continue
        assert isinstance(value, str)
        name = parameter.name
        try:
            parsed = parameter.kind.parse(value)
        except ValueError:
            parsed = None
        # The port is refused even when it is the present one, as clients know it; the other fixed
        # ones may come back unchanged, so that what GET gave can be sent again.
        if parameter.fixed and (name == "port" or parsed != getattr(params, name)):
            complaints += f"Parameter '{name}' can't be changed in PATCH operation; "
        elif parsed is None:
            complaints += f"Parameter '{name}' {parameter.kind.complaint} '{value}'; "
        else:
            wanted[name] = parsed
    if complaints:
        raise ParamsRefused(complaints)
    return replace(params, **wanted)


def adopted(params: Params, values: Mapping[str, object]) -> Params:
    """Make the parameters that others have, as far as these can be changed and used."""
    wanted: dict[str, Any] = {}
    changeable = [parameter for parameter in PARAMETERS if not parameter.fixed]
    found = pick(values, [parameter.wire for parameter in changeable])
    for parameter, value in zip(changeable, found, strict=True):
        if isinstance(value, str):
            with suppress(ValueError):
                wanted[parameter.name] = parameter.kind.parse(value)
    return replace(params, **wanted)


class LiveParams:
    """The present parameters, and who wants to know when they change."""

    _log = Logger()

    def __init__(self, params: Params) -> None:
        self._current = params
        self._listeners: list[Callable[[Params, Params], None]] = []

    @property
    def current(self) -> Params:
        """The parameters as they are now."""
        return self._current

    def on_change(self, listener: Callable[[Params, Params], None]) -> None:
        """Have `listener(old, new)` called after every change, from now on."""
        self._listeners.append(listener)

    def patch(self, changes: Mapping[str, object]) -> Params:
        """Change parameters as `patched` does, tell the listeners, and give the new set."""
        self._replace(patched(self._current, changes))
        return self._current

    def adopt(self, values: Mapping[str, object]) -> None:
        """Change parameters to what others have, as `adopted` does, and tell the listeners."""
        self._replace(adopted(self._current, values))

    def _replace(self, new: Params) -> None:
        old, self._current = self._current, new
        if new == old:
            return
        for listener in self._listeners:
            listener(old, new)
        before, after = old.rendered(), new.rendered()
        for wire, value in after.items():
            if before[wire] != value:
                self._log.info(
                    "Parameter {parameter} is now {value!r}, was {before!r}.",
                    parameter=wire,
                    value=value,
                    before=before[wire],
                )
