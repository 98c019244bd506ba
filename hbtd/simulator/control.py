"""Commands to a running fleet: power nodes off, hang them, or bring them back."""

import re
from collections.abc import Collection
from typing import Any, Final, TextIO

import orjson
from klein import Klein
from twisted.internet.protocol import connectionDone
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure
from twisted.web.resource import IResource
from twisted.web.server import Request

from hbtd.formats.nodesets import NodesetError, expand, fold, within
from hbtd.simulator.fleet import MOST_NODES, Fleet

CHANGES: Final = ("kill", "freeze", "revive")
"""The commands that change the state of nodes."""

HELP: Final = (
    "kill NODES, freeze NODES, revive NODES or status; NODES is a nodeset such as"
    " x1000c0s[0-7]b0n0, also of host names (nid000017), what they are in (x1000c7), a share (10%),"
    " or all"
)
"""A line that lists the commands."""

_LONGEST_LINE: Final = 1_000_000
"""The most bytes of a command."""

_SHARE: Final = re.compile(r"([0-9]{1,3}(?:\.[0-9]+)?)%")


class CommandRefused(Exception):
    """Raised when a command can't be carried out; the message says why, in one line."""


class FleetControl:
    """Carries out commands to a fleet, each of which is a line of text."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    def do(self, line: str) -> str:
        """Carry out a command; return a line that says what was done.

        Raise `CommandRefused`, and change nothing, if the line is not a command, or names nodes
        that are not in the fleet.
        """
        what, _, nodes = line.strip().partition(" ")
        if what == "status":
            return describe_fleet(self._fleet)
        if what not in CHANGES:
            raise CommandRefused(f"{_shown(what)} is no command; there are {HELP}")
        names = self.change(what, nodes)
        return f"{what} {len(names)} nodes{': ' if names else ''}{fold(names)}"

    def change(self, what: str, nodes: str) -> Collection[str]:
        """Kill, freeze or revive nodes; return the names of the nodes whose state has changed.

        `what` is one of `CHANGES`. `nodes` is a text that stands for nodes, such as `10%`; see
        `select`. Raise `CommandRefused` if the text is invalid, or names nodes that are not in the
        fleet.
        """
        fleet = self._fleet
        names = select(fleet, what, nodes)
        before = {"kill": fleet.killed, "freeze": fleet.beating, "revive": fleet.beating}[what]
        concerned = {name for name in names if (name in before) == (what == "freeze")}
        {"kill": fleet.kill, "freeze": fleet.freeze, "revive": fleet.revive}[what](concerned)
        return concerned


def select(fleet: Fleet, what: str, text: str) -> list[str]:
    """Return the names of the nodes that a text stands for.

    The text is one of these:

    - `all`.
    - A nodeset of xnames, host names, and parts of the machine, such as `x1000c7`. A part stands
      for all nodes in it.
    - A percentage, such as `10%`. The nodes are chosen at random: if `what` is `revive`, among the
      killed and frozen nodes, otherwise among the nodes that send heartbeats.

    Raise `CommandRefused` if the text is anything else, if it names a node that is not in the
    fleet, or if it names a part of the machine in which the fleet has no node.
    """
    text = text.strip()
    if not text:
        raise CommandRefused(f"which nodes? There are {HELP}")
    if text == "all":
        return list(fleet.hostnames.values())
    share = _SHARE.fullmatch(text)
    if share is not None:
        if float(share[1]) > 100:
            raise CommandRefused(f"{text}: must be a share from 0% to 100%")
        silent = fleet.killed | fleet.frozen
        return fleet.pick(float(share[1]) / 100, silent if what == "revive" else None)
    try:
        wanted = dict.fromkeys(name.lower() for name in expand(text, MOST_NODES))
    except NodesetError as error:
        raise CommandRefused(str(error)) from None
    known, found = fleet.hostnames, dict[str, None]()
    for name in wanted:
        if name in known:
            found[known[name]] = None
        elif name in fleet:
            found[name] = None
        else:
            inside = [each for each in known.values() if within(each, name)]
            if not inside:
                raise CommandRefused(f"{_shown(name)} is no node of this fleet, and has none in it")
            found.update(dict.fromkeys(inside))
    return list(found)


def describe_fleet(fleet: Fleet) -> str:
    """Return a line that says how many nodes send heartbeats, and which are killed or frozen."""
    killed, frozen = fold(fleet.killed), fold(fleet.frozen)
    return (
        f"beating {len(fleet.beating)}"
        f"  killed {len(fleet.killed)}{killed and f' ({killed})'}"
        f"  frozen {len(fleet.frozen)}{frozen and f' ({frozen})'}"
    )


class CommandLines(LineOnlyReceiver):
    """Reads commands to a fleet from standard input, one per line, and prints their results."""

    delimiter = b"\n"
    MAX_LENGTH = _LONGEST_LINE

    def __init__(self, control: FleetControl, out: TextIO) -> None:
        self._control = control
        self._out = out

    def lineReceived(self, line: bytes) -> None:
        """Carry out the command in a line, and print what was done; ignore an empty line."""
        text = line.decode("utf-8", "replace").strip()
        if not text:
            return
        try:
            said = self._control.do(text)
        except CommandRefused as error:
            said = str(error)
        print(said, file=self._out, flush=True)

    def lineLengthExceeded(self, line: bytes) -> None:
        """Print that a line is too long, and continue to read."""
        print(f"a command has at most {_LONGEST_LINE} characters", file=self._out, flush=True)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Do nothing when standard input ends: the fleet continues to run."""


class ControlServer:
    """An HTTP server that takes commands to a fleet.

    `GET /fleet` shows the fleet. `POST /kill` cuts the power of nodes, `POST /freeze` makes nodes
    hang, and `POST /revive` brings nodes back. The body of a POST says which nodes: see `select`.
    """

    _app = Klein()

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._control = FleetControl(fleet)

    def resource(self) -> IResource:
        """Return the server's root resource, for a `Site`."""
        resource: IResource = self._app.resource()
        return resource

    @_app.route("/fleet", methods=["GET"])
    def _show(self, request: Request) -> bytes:
        fleet = self._fleet
        return _json(
            request,
            {
                "Nodes": len(fleet.hostnames),
                "Beating": len(fleet.beating),
                "Killed": fold(fleet.killed),
                "Frozen": fold(fleet.frozen),
                "Sent": fleet.statistics.sent,
                "Failed": fleet.statistics.failed,
            },
        )

    @_app.route("/<any(kill, freeze, revive):what>", methods=["POST"])
    def _change(self, request: Request, what: str) -> bytes:
        body = request.content.read(_LONGEST_LINE) if request.content is not None else b""
        try:
            names = self._control.change(what, body.decode("utf-8", "replace"))
        except CommandRefused as error:
            request.setResponseCode(400)
            request.setHeader("Content-Type", "application/problem+json")
            problem = {"type": "about:blank", "title": "Bad Request", "status": 400}
            return orjson.dumps({**problem, "detail": str(error)})
        return _json(request, {"Changed": len(names), "Nodes": fold(names)})


def _json(request: Request, value: Any) -> bytes:
    request.setHeader("Content-Type", "application/json")
    return orjson.dumps(value)


def _shown(text: str) -> str:
    return ascii(text if len(text) <= 60 else f"{text[:60]}...")
