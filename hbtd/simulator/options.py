"""The options of the simulator's command line, and their validation."""

import math
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

from twisted.python import usage

from hbtd import __version__
from hbtd.formats.nodesets import NodesetError, expand
from hbtd.net.tls import TLSUnusable, client_policy
from hbtd.simulator.endpoints import split_url
from hbtd.simulator.fleet import MOST_NODES


class Event(NamedTuple):
    """A change to some of a fleet's nodes, `second` seconds after the fleet's start."""

    what: str
    """The change: `kill`, `freeze` or `revive`."""

    share: float
    """The fraction of the nodes to change, from 0 to 1; ignored if `nodes` is not empty."""

    second: float

    nodes: str = ""
    """The nodes to change, as a text for `hbtd.simulator.control.select`."""


def number(option: str, low: float, high: float = math.inf) -> Callable[[str], float]:
    """Return a function that converts texts to numbers from `low` to `high`.

    The function raises `usage.UsageError`, which names `option`, for any other text.
    """

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (low <= value <= high and math.isfinite(value)):
            upper = "" if math.isinf(high) else f" to {high:g}"
            allowed = f"a number from {low:g}{upper}{' up' if not upper else ''}"
            raise usage.UsageError(f"{option} {text}: must be {allowed}")
        return value

    return read


def integer(option: str, low: int, high: int) -> Callable[[str], int]:
    """Return a function that converts texts to integers from `low` to `high`.

    The function raises `usage.UsageError`, which names `option`, for any other text.
    """

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise usage.UsageError(f"{option} {text}: must be an integer from {low} to {high}")
        return value

    return read


def _url(text: str) -> str:
    try:
        split_url(text)
    except ValueError as error:
        raise usage.UsageError(f"--url {text}: must be an http or https URL") from error
    return text


def _event(what: str, text: str) -> Event:
    share, _, second = text.partition("@")
    event = Event(what, _float(share), _float(second))
    if share[:1].isalpha() and share.lower() not in ("nan", "inf", "infinity"):
        try:
            expand(share, MOST_NODES)
        except NodesetError as error:
            raise usage.UsageError(f"--{what} {text}: {error}") from None
        event = Event(what, 0.0, event.second, share)
    if not (0 <= event.share <= 1 and 0 <= event.second < math.inf):
        raise usage.UsageError(
            f"--{what} {text}: must be SHARE@SECOND, such as 0.1@30, with a share from 0 to 1, or"
            " NODESET@SECOND, such as x1000c7@30"
        )
    return event


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


class _Options(usage.Options):
    synopsis = ""

    def getSynopsis(self) -> str:
        """Return only this command's synopsis; Twisted would put the parent command's before it."""
        return self.synopsis

    def opt_version(self) -> None:
        """Show hbtd's version and exit."""
        print(f"hbtd {__version__}")
        raise SystemExit(0)


class HSMOptions(_Options):
    """Options of the command `hsm`."""

    synopsis = "Usage: python -m hbtd.simulator hsm [options]"
    longdesc = (
        "Serves a fake Hardware State Manager and prints a line for every update it applies. "
        "GET and PATCH /control/behaviour show and change its faults; "
        "GET /control/updates?since=N lists the updates, DELETE /control/updates forgets them. "
        "PUT /control/components replaces its table, PATCH changes rows of it, as another client "
        "of HSM might; both take rows as HSM returns them."
    )
    optParameters: ClassVar = [
        ["host", None, "127.0.0.1", "Address to listen on."],
        [
            "port",
            None,
            27779,
            "Port to listen on; 0: any free port.",
            integer("--port", 0, 65535),
        ],
        [
            "cost_ms",
            None,
            0.5,
            "Milliseconds that an update takes for each component.",
            number("--cost_ms", 0),
        ],
        [
            "ready_cost_ms",
            None,
            None,
            "The same for updates to Ready; default: cost_ms.",
            number("--ready_cost_ms", 0),
        ],
        [
            "standby_cost_ms",
            None,
            2.0,
            "The same for updates to Standby.",
            number("--standby_cost_ms", 0),
        ],
        ["tls_cert", None, "", "PEM file of the certificate chain to serve HTTPS with."],
        ["tls_key", None, "", "PEM file of the private key of tls_cert."],
        ["tls_client_ca", None, "", "PEM bundle; clients need a certificate signed by it."],
        [
            "token",
            None,
            "",
            "File of the bearer token that requests need; it is read for each request.",
        ],
    ]
    optFlags: ClassVar = [["tls", None, "Serve HTTPS with a self-signed certificate."]]

    def postOptions(self) -> None:
        """Raise `UsageError` if an option is given without another option that it requires."""
        if bool(self["tls_cert"]) != bool(self["tls_key"]):
            raise usage.UsageError("--tls_cert and --tls_key must be given together")
        if self["tls_client_ca"] and not self["tls_cert"]:
            raise usage.UsageError("--tls_client_ca takes --tls_cert and --tls_key")

    def costs_by_state(self) -> dict[str, float]:
        """Return the duration of a PATCH, in milliseconds per component, by the state that it sets.

        States whose option has no value are left out. The result is a value of
        `Behaviour.cost_ms_by_state`.
        """
        costs = {"Ready": self["ready_cost_ms"], "Standby": self["standby_cost_ms"]}
        return {state: cost for state, cost in costs.items() if cost is not None}


class FleetOptions(_Options):
    """Options of the command `fleet`."""

    synopsis = "Usage: python -m hbtd.simulator fleet [options]"
    longdesc = (
        "Simulates nodes that send heartbeats, prints a line of progress every few seconds, and "
        "a summary at the end. --kill, --freeze and --revive may be repeated. While it runs, it "
        "reads commands from its standard input, such as kill x1000c7, freeze nid00000[1-9], "
        "revive all, kill 10% and status; --control_port takes them over HTTP: "
        "curl localhost:PORT/kill -d x1000c7, and GET /fleet."
    )
    optParameters: ClassVar = [
        ["url", None, "https://localhost:28500", "Base URL of hbtd.", _url],
        ["nodes", None, 100, "Number of nodes.", integer("--nodes", 1, MOST_NODES)],
        [
            "period",
            None,
            3.0,
            "Seconds between two heartbeats of a node.",
            number("--period", 0.001),
        ],
        [
            "jitter",
            None,
            0.1,
            "Random deviation of these, as a fraction of the period.",
            number("--jitter", 0, 0.99),
        ],
        [
            "connections",
            None,
            16,
            "Number of connections that the nodes share.",
            integer("--connections", 1, 10_000),
        ],
        [
            "control_port",
            None,
            -1,
            "Port of this host for commands over HTTP; 0: any free port; -1: none.",
            integer("--control_port", -1, 65535),
        ],
        ["seconds", None, 0.0, "Seconds to run; 0: until interrupted.", number("--seconds", 0)],
        ["seed", None, 0, "Seed of the random numbers.", integer("--seed", 0, 2**63)],
        [
            "ca",
            None,
            "insecure",
            "Certificates to trust: insecure, system, or the path of a PEM bundle.",
        ],
    ]

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Event] = []
        """The events that --kill, --freeze and --revive ask for, in the order of the arguments."""

    def opt_kill(self, value: str) -> None:
        """Power off nodes: SHARE@SECOND (0.1@30: a tenth of them after 30 s) or NODESET@SECOND."""
        self.events.append(_event("kill", value))

    def opt_freeze(self, value: str) -> None:
        """Make nodes hang: SHARE@SECOND or NODESET@SECOND, as for --kill."""
        self.events.append(_event("freeze", value))

    def opt_revive(self, value: str) -> None:
        """Bring nodes back: SHARE@SECOND (a share of the silent nodes) or NODESET@SECOND."""
        self.events.append(_event("revive", value))

    def postOptions(self) -> None:
        """Raise `usage.UsageError` if the certificates in the option `ca` can't be used."""
        try:
            client_policy(self["ca"])
        except TLSUnusable as error:
            raise usage.UsageError(
                f"--ca {self['ca']}: must be insecure, system or a PEM bundle's path: {error}"
            ) from error


class DemoOptions(_Options):
    """Options of the command `demo`."""

    synopsis = "Usage: python -m hbtd.simulator demo [options]"
    optFlags: ClassVar = [
        ["live", None, "A larger machine, to which things happen until Ctrl-C."],
    ]
    optParameters: ClassVar = [
        [
            "nodes",
            None,
            2000,
            "Number of nodes with --live.",
            integer("--nodes", 1, MOST_NODES),
        ],
    ]


class SimulatorOptions(_Options):
    """Options of `python -m hbtd.simulator`, whose subcommands are `hsm`, `fleet` and `demo`."""

    synopsis = "Usage: python -m hbtd.simulator COMMAND [options]"
    subCommands: ClassVar[list[list[Any]]] = [
        ["hsm", None, HSMOptions, "Serve a fake Hardware State Manager."],
        ["fleet", None, FleetOptions, "Simulate a fleet of nodes that send heartbeats."],
        ["demo", None, DemoOptions, "Show hbtd, a fake HSM and a fleet at work for 20 seconds."],
    ]

    def postOptions(self) -> None:
        """Raise `usage.UsageError` unless a command is given."""
        if self.subCommand is None:
            names = ", ".join(str(row[0]) for row in self.subCommands)
            raise usage.UsageError(f"no command given; the commands are {names}")
