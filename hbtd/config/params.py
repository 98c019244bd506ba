"""The operational parameters: their definitions and their values.

The fields of `Params` define the options of the command line, the environment variables, the
fields of `GET /params` and `PATCH /params` (`docs/protocol.md`), and the documentation of the
options (`hbtd.config.option_docs`).
"""

from dataclasses import dataclass, fields

from hbtd.config.access_rules import (
    NodeRules,
    OperatorRules,
    parse_node_access,
    parse_operator_access,
)
from hbtd.config.outward_params import OutwardParams
from hbtd.config.parameter import Group, Parameter, param
from hbtd.config.value_types import (
    ADDRESSES,
    AGE_SECONDS,
    BASE_URL,
    BODY_BYTES,
    CHANGES,
    GUARD,
    GUARD_HOLD,
    GUARD_SHARE,
    HEADER_BYTES,
    HEARTBEATS,
    HISTORY,
    HISTORY_COUNT,
    KV_COMPACT,
    KV_URL,
    LOG_FORMAT,
    LONGEST_HOLD,
    MAINTENANCE_MAX,
    NODE_ACCESS,
    NON_EMPTY_TEXT,
    NON_NEGATIVE_INTEGER,
    OPERATOR_ACCESS,
    PORT,
    POSITIVE_INTEGER,
    READER_ACCESS,
    SECONDS,
    SWITCH,
    SYNC_SECONDS,
    TELEMETRY_HOST,
    TEXT,
    TIMEOUT_SECONDS,
    TRUST_DOMAIN,
    TelemetryAddress,
    parse_duration,
    parse_history,
    parse_telemetry_host,
)

_MOST_IN_FILE, _MOST_ELSEWHERE = 1_000_000, 100_000
"""The values of `history_count` that `auto` stands for, with SQLite and with other stores."""


@dataclass(frozen=True)
class Params(OutwardParams):
    """The values of all parameters, in the order in which `GET /params` shows them.

    The parameters that are defined in the base class come last in this order.
    """

    debug: int = param(
        Group.LOG,
        NON_NEGATIVE_INTEGER,
        0,
        "Debug level. 0: what operators need; 1: also debug messages of hbtd; 2: also those of its "
        "libraries.",
    )
    nosm: bool = param(
        Group.HSM,
        SWITCH,
        False,
        "Tell the Hardware State Manager (HSM) nothing, for testing. Without a value it means yes.",
        "No other option may stand without a value. State changes are kept until HSM may be told "
        "again. Its table is read and compared all the same, unless `--sm_sync=0`.",
        flag=True,
    )
    use_telemetry: bool = param(
        Group.KAFKA,
        SWITCH._replace(refusal="with unknown value"),
        True,
        "Publish state changes on Kafka, if `--telemetry_host` says where.",
    )
    telemetry_host: str = param(
        Group.KAFKA,
        TELEMETRY_HOST,
        "",
        "Kafka broker and topic, as `host:port:topic`.",
    )
    warntime: int = param(
        Group.TRACKING,
        SECONDS,
        10,
        "Seconds of silence after which a component gets a warning.",
    )
    errtime: int = param(
        Group.TRACKING,
        SECONDS,
        30,
        "Seconds of silence after which a component is declared dead.",
    )
    port: int = param(
        Group.SERVING,
        PORT,
        28500,
        "Port to listen on, on all addresses.",
        "0 means any free port.",
        fixed=True,
    )
    kv_url: str = param(
        Group.STORE,
        KV_URL,
        "https://localhost:2379",
        "Where records are kept: `sqlite:PATH`, a file; `mem:`, memory only; or etcd's URLs, "
        "separated by commas. Empty: the etcd at `ETCD_HOST` and `ETCD_PORT`.",
        "etcd's URLs are `http(s)://host:port`; they are `http:` where these two environment "
        "variables are used.",
        fixed=True,
    )
    interval: int = param(
        Group.TRACKING,
        SECONDS,
        5,
        "Seconds between two sweeps for silent components.",
    )
    sm_url: str = param(
        Group.HSM,
        BASE_URL,
        "http://localhost:27779/hsm/v1",
        "Base URL of HSM.",
        "hbtd appends `/State/Components/BulkStateData`, `/service/ready` and, to compare HSM's"
        " table, `/State/Components`.",
    )
    sm_timeout: int = param(
        Group.HSM,
        SECONDS,
        10,
        "Seconds within which HSM must answer a request.",
        "On shutdown, also the seconds that hbtd spends on sending what waits for HSM and Kafka.",
    )
    sm_retries: int = param(
        Group.HSM,
        NON_NEGATIVE_INTEGER,
        3,
        "Retries of a failed update, before hbtd waits for HSM to be ready again.",
    )
    tls: bool = param(
        Group.SERVING,
        SWITCH,
        True,
        "Serve HTTPS; no: plain HTTP, for use behind a gateway.",
        fixed=True,
    )
    tls_cert: str = param(
        Group.SERVING,
        TEXT,
        "",
        "PEM file of the certificate chain to serve; none: self-signed, made at start.",
        fixed=True,
    )
    tls_key: str = param(
        Group.SERVING,
        TEXT,
        "",
        "PEM file of the private key of `--tls_cert`.",
        fixed=True,
    )
    tls_client_ca: str = param(
        Group.SERVING,
        TEXT,
        "",
        "PEM bundle; clients may present certificates signed by it, and no others.",
        "No client has to present one, unless `--tls_client_required=yes`.",
        fixed=True,
    )
    tls_client_crl: str = param(
        Group.SERVING,
        TEXT,
        "",
        "PEM file of the revocation lists (CRLs) of the authorities in `--tls_client_ca`.",
        "There has to be one of each. Clients with a revoked certificate can't connect.",
        fixed=True,
    )
    tls_client_required: bool = param(
        Group.SERVING,
        SWITCH,
        False,
        "End the TLS handshake with clients that present no certificate; no: they may connect.",
        "Probes and Prometheus then need a certificate, too.",
        fixed=True,
    )
    sm_ca: str = param(
        Group.HSM,
        TEXT,
        "system",
        "Authorities to trust when `--sm_url` is https: `system`, `insecure` (certificates are "
        "not checked), or a PEM bundle's path.",
        fixed=True,
    )
    sm_sync: int = param(
        Group.HSM,
        SYNC_SECONDS,
        300,
        "Seconds between two comparisons of HSM's table with what is known, 86400 at most; what is"
        " wrong there is told again. 0: only on request, as by `hbtctl reconcile`.",
        fixed=True,
    )
    boot_time: int = param(
        Group.HSM,
        SYNC_SECONDS,
        0,
        "Seconds without a first heartbeat, 86400 at most, after which a node counts as absent that"
        " is enabled, and On or Ready, in HSM's table. 0: no node does.",
        "Absent nodes are listed and counted, and nothing else follows. With it HSM is asked"
        " for all that it has of components, not for states alone (`stateonly=true`).",
        fixed=True,
    )
    kv_ca: str = param(
        Group.STORE,
        TEXT,
        "",
        "Authorities to trust at an https etcd, as for `--sm_ca`; none: `system`.",
        fixed=True,
    )
    kv_cert: str = param(
        Group.STORE,
        TEXT,
        "",
        "PEM file of the certificate that hbtd presents to an https etcd.",
        fixed=True,
    )
    kv_key: str = param(
        Group.STORE,
        TEXT,
        "",
        "PEM file of the private key of `--kv_cert`.",
        fixed=True,
    )
    kv_compact: str = param(
        Group.STORE,
        KV_COMPACT,
        "auto",
        "Whether the leader compacts etcd's history to the last minute: `yes`, `no`, or `auto`: if "
        "only hbtd's keys are in that etcd.",
        "With `no`, etcd has to do it: `--auto-compaction-retention`.",
        fixed=True,
    )
    listen: str = param(
        Group.SERVING,
        TEXT,
        "",
        "Twisted endpoint to serve on instead of `--port`: TLS with `--tls_cert`, else plain HTTP.",
        "For example `unix:/run/hbtd/hbtd.sock` (by default with `mode=660`), "
        "`systemd:domain=INET:index=0`, or `haproxy:tcp:28500` for plain HTTP behind the PROXY "
        "protocol.",
        fixed=True,
    )
    address: str = param(
        Group.SERVING,
        ADDRESSES,
        "",
        "IP addresses to listen on, separated by commas, instead of all.",
        "For example `10.0.0.5,::1`, each with `--port`.",
        fixed=True,
    )
    fast_lane: bool = param(
        Group.SERVING,
        SWITCH,
        True,
        "Answer plain heartbeats without Klein; no: Klein answers all.",
        "Without Klein they are answered about nine times as fast.",
        fixed=True,
    )
    log_format: str = param(
        Group.LOG,
        LOG_FORMAT,
        "text",
        "Write log lines as `text`, or as `json`, one object a line.",
        "The log is written to standard error.",
        fixed=True,
    )
    clear_on_gap: bool = param(
        Group.STORE,
        SWITCH,
        False,
        "Forget stored heartbeats at start, if no other replica was alive.",
        "With `sqlite:` there is never another replica.",
        fixed=True,
    )
    history: str = param(
        Group.STORE,
        HISTORY,
        "30d",
        "How long the log keeps state changes: a number with the unit `s`, `m`, `h` or `d`, at "
        "most `36500d`; 0: only as long as they are needed.",
        "The latest change of each component, and what waits for Kafka, are always kept.",
        fixed=True,
    )
    history_count: str = param(
        Group.STORE,
        HISTORY_COUNT,
        "auto",
        "How many state changes the log keeps, whatever their age, from 0 to 4294967295; `auto`: "
        "1000000 with `sqlite:`, 100000 otherwise.",
        "A million take about 110 MB of a file.",
        fixed=True,
    )
    maintenance_max: str = param(
        Group.TRACKING,
        MAINTENANCE_MAX,
        "7d",
        "How long a maintenance, in which the silence of components is no alarm, may last from when"
        " its end was given: a number with the unit `s`, `m`, `h` or `d`, from `1s` to `365d`.",
        "Also of one that ends when its components are back.",
        fixed=True,
    )
    start_beats: int = param(
        Group.TRACKING,
        HEARTBEATS,
        1,
        "Heartbeats in time after which a dead component is started, each within `--warntime` of"
        " the one before.",
        "A component that is not tracked is started by its first heartbeat. From 1 to 100.",
    )
    flap_changes: int = param(
        Group.TRACKING,
        CHANGES,
        0,
        "A component with more state changes than this within an hour is marked as flapping; 0:"
        " none is marked.",
        "10 finds those that reboot again and again. The mark ends when there were no more than"
        " half as many within the last hour. It changes nothing that HSM and Kafka are told. From 0"
        " to 100.",
    )
    guard: str = param(
        Group.GUARD,
        GUARD,
        "report",
        "What to do when much of a failure domain falls silent at once: `report` it, once; `hold`:"
        " also let the deaths in it wait; or nothing, `off`.",
        "Failure domains are slots, chassis, cabinets, the groups of `--groups`, and the system.",
    )
    guard_share: int = param(
        Group.GUARD,
        GUARD_SHARE,
        55,
        "Percentage of the living components of a failure domain, and at least three, that have to"
        " fall silent within `--errtime` of each other.",
        "Silent is who has missed more than two of its own periods.",
    )
    guard_hold: str = param(
        Group.GUARD,
        GUARD_HOLD,
        "auto",
        "Seconds for which `--guard=hold` lets deaths wait at most, 86400 or less; `auto`: three"
        " times `--errtime`.",
        "Warnings, returns and other components never wait.",
    )
    groups: str = param(
        Group.GUARD,
        TEXT,
        "",
        "File of failure domains of one's own, such as PDUs: a name and a nodeset on each line.",
        "It is read at the start.",
        fixed=True,
    )
    operator_access: str = param(
        Group.ACCESS,
        OPERATOR_ACCESS,
        "loopback",
        "Who may change parameters and have components forgotten: `loopback`, `token:PATH`, "
        "`cert:NAME[,NAME...]`, `any`; several joined by `+`.",
        "`loopback`: peers on a loopback address or a Unix socket; `token:PATH`: clients that "
        "send a bearer token listed in that file; `cert:NAME[,NAME...]`: clients whose "
        "certificate has such a common name; `any`: every client.",
        fixed=True,
    )
    reader_access: str = param(
        Group.ACCESS,
        READER_ACCESS,
        "any",
        "Who may ask what is known of components, and read metrics: `any`, or `operators` alone.",
        "Probes, health, `/hbstate`, `/hbstates` and `/params` stay open to every client.",
        fixed=True,
    )
    node_access: str = param(
        Group.ACCESS,
        NODE_ACCESS,
        "any",
        "Who may send heartbeats: `any`, `cert`, `jwt:JWKS` (a path or URL); several joined by "
        "`+`.",
        "`any`: every client; `cert`: clients whose certificate names the component; `jwt:JWKS`: "
        "clients that send a JWT signed with a key of that JWKS.",
        fixed=True,
    )
    jwt_audience: str = param(
        Group.ACCESS,
        NON_EMPTY_TEXT,
        "system-compute",
        "Audience that nodes' JWTs must name.",
        fixed=True,
    )
    jwt_issuer: str = param(
        Group.ACCESS,
        TEXT,
        "",
        "Issuer that nodes' JWTs must name, compared as it is; none: any whose key is in the JWKS.",
        fixed=True,
    )
    jwt_trust_domain: str = param(
        Group.ACCESS,
        TRUST_DOMAIN,
        "",
        "SPIFFE trust domain of which the subjects of nodes' JWTs must be; none: any.",
        fixed=True,
    )
    jwt_require_xname: bool = param(
        Group.ACCESS,
        SWITCH,
        False,
        "Refuse JWTs whose subject names no component; no: they are valid for any component.",
        fixed=True,
    )
    jwt_ca: str = param(
        Group.ACCESS,
        TEXT,
        "system",
        "Authorities to trust when the JWKS is fetched by https, as for `--sm_ca`.",
        fixed=True,
    )
    max_components: int = param(
        Group.LIMITS,
        POSITIVE_INTEGER,
        1_000_000,
        "Components tracked at most; heartbeats of further ones get a 503.",
        fixed=True,
    )
    max_connections: int = param(
        Group.LIMITS,
        POSITIVE_INTEGER,
        50_000,
        "Connections open at once; further ones are closed.",
        "The limit of open files may allow fewer.",
        fixed=True,
    )
    max_connections_per_peer: int = param(
        Group.LIMITS,
        NON_NEGATIVE_INTEGER,
        20_000,
        "Connections open at once from one address; 0: no limit.",
        "Leave room for all clients behind a gateway.",
        fixed=True,
    )
    max_event_readers: int = param(
        Group.LIMITS,
        POSITIVE_INTEGER,
        500,
        "Clients that may read `/events` at once; further ones get a 503.",
        fixed=True,
    )
    max_header_bytes: int = param(
        Group.LIMITS,
        HEADER_BYTES,
        16_384,
        "Bytes that a request's head may have; larger ones get a 431.",
        fixed=True,
    )
    max_body_bytes: int = param(
        Group.LIMITS,
        BODY_BYTES,
        4 * 1024 * 1024,
        "Bytes that a request's body may have; larger ones get a 413. A heartbeat's body may have"
        " 65536.",
        fixed=True,
    )
    request_timeout: int = param(
        Group.LIMITS,
        TIMEOUT_SECONDS,
        20,
        "Seconds within which a request must have arrived, the first on a connection with its TLS"
        " handshake.",
        fixed=True,
    )
    idle_timeout: int = param(
        Group.LIMITS,
        TIMEOUT_SECONDS,
        3900,
        "Seconds after which a connection is closed if nothing happens on it.",
        "Gateways keep connections for up to an hour. Answers must be read within 60 s.",
        fixed=True,
    )
    max_connection_age: int = param(
        Group.LIMITS,
        AGE_SECONDS,
        43_200,
        "Seconds after which a connection is closed at its next answer, or a little earlier; 0: no"
        " limit.",
        "So clients spread again over replicas that have come back.",
        fixed=True,
    )

    @property
    def operator_rules(self) -> OperatorRules:
        """The rules by which clients prove that they are operators: `operator_access`, parsed."""
        return parse_operator_access(self.operator_access)

    @property
    def node_rules(self) -> NodeRules:
        """The rules by which nodes prove which component they are: `node_access`, parsed."""
        return parse_node_access(self.node_access)

    @property
    def endpoint_kind(self) -> str:
        """The type of the endpoint in `listen`, such as `tcp`; empty if `listen` is empty."""
        # Twisted ignores case and backslashes in the kind.
        return self.listen.replace("\\", "").partition(":")[0].lower()

    @property
    def serves_tls(self) -> bool:
        """Whether hbtd itself serves TLS.

        It does if `tls` is on, and either `listen` is empty or `tls_cert` is set. If `listen` is
        set without `tls_cert`, a proxy in front of hbtd is expected to serve TLS.
        """
        return self.tls and (not self.listen or bool(self.tls_cert))

    @property
    def addresses(self) -> list[str]:
        """The IP addresses to listen on; an empty list means all addresses of the host."""
        return self.address.split(",") if self.address else []

    @property
    def telemetry_address(self) -> TelemetryAddress | None:
        """The Kafka broker and topic to publish to; `None` if nothing is to be published."""
        if not self.use_telemetry or not self.telemetry_host:
            return None
        return parse_telemetry_host(self.telemetry_host)

    @property
    def guard_seconds(self) -> int:
        """The value of `guard_hold` in seconds, which is three times `errtime` if it is `auto`."""
        if self.guard_hold == "auto":
            return min(3 * self.errtime, LONGEST_HOLD)
        return int(self.guard_hold)

    @property
    def history_seconds(self) -> int:
        """The value of `history` in seconds: how long the log of transitions keeps entries."""
        return parse_history(self.history)

    @property
    def history_most(self) -> int:
        """The maximum number of entries that the log of transitions keeps: 0 if `history` is 0.

        Otherwise, this is `history_count` or, if that is `auto`, a default that depends on the
        store.
        """
        if not self.history_seconds:
            return 0
        if self.history_count != "auto":
            return int(self.history_count)
        return _MOST_IN_FILE if self.kv_url.startswith("sqlite:") else _MOST_ELSEWHERE

    @property
    def maintenance_seconds(self) -> int:
        """The value of `maintenance_max` in seconds: how long a maintenance may last."""
        return parse_duration(self.maintenance_max)

    def rendered(self) -> dict[str, str]:
        """Return the values of all parameters as texts, by the parameters' names in JSON."""
        return {p.wire: p.value_type.render(getattr(self, p.name)) for p in PARAMETERS}


PARAMETERS = tuple(
    Parameter(f.name, default=f.default, **f.metadata)
    for f in sorted(fields(Params), key=lambda f: f.name in OutwardParams.__dataclass_fields__)
)
"""The definitions of all parameters, in the order in which `GET /params` shows them."""
