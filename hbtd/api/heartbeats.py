"""Heartbeats: nodes say that they are alive, or that they are going away."""

from collections.abc import Sequence
from typing import Final

from twisted.web.server import Request

from hbtd.access.gate import Caller
from hbtd.api.authorization import Authorization
from hbtd.api.routes import Route
from hbtd.formats import xnames
from hbtd.formats.go_integers import parse_integer
from hbtd.formats.go_json import pick
from hbtd.monitor import Monitor
from hbtd.server.bodies import read_json
from hbtd.server.limits import MAX_HEARTBEAT_BODY
from hbtd.server.problems import Problem
from hbtd.server.replies import Reply
from hbtd.tracker.tracker import TrackerFull

ALL_FIELDS: Final = ("Component", "Hostname", "NID", "Status", "Timestamp")
NAMED_FIELDS: Final = ("Status", "Timestamp")


class Heartbeats:
    """Translates heartbeat requests for the monitor."""

    def __init__(self, monitor: Monitor, guard: Authorization) -> None:
        self._monitor = monitor
        self._authorization = guard

    def routes(self) -> Sequence[Route]:
        """Tell what is answered here."""
        return (
            Route("POST", "/heartbeat", self.post),
            Route("POST", "/heartbeat/<xname>", self.post_named),
            Route("DELETE", "/heartbeat/<xname>", self.delete),
        )

    def post(self, request: Request) -> Reply:
        """Take a heartbeat that names its component in the body."""
        caller = self._authorization.node(request)
        component, _, nid, status, timestamp = _read_fields(request, ALL_FIELDS)
        xname = _valid(component)
        try:
            parse_integer(nid, bits=64, signed=True)
        except ValueError:
            raise Problem(400, "Invalid NID") from None
        return self._beat(request, caller, xname, timestamp, status)

    def post_named(self, request: Request, xname: str) -> Reply:
        """Take a heartbeat of the component that the path names."""
        caller = self._authorization.node(request)
        status, timestamp = _read_fields(request, NAMED_FIELDS)
        return self._beat(request, caller, _valid(xname), timestamp, status)

    def delete(self, request: Request, xname: str) -> Reply:
        """Forget a component that is going away."""
        caller = self._authorization.forgetter(request)
        component = _valid(xname)
        self._authorization.check_forget(request, caller, component)
        self._monitor.forget(component)
        return Reply(204)

    def _beat(
        self, request: Request, caller: Caller, xname: str, timestamp: str, status: str
    ) -> Reply:
        """Take a heartbeat that is in order, if it comes from whom it should."""
        self._authorization.check_beat(request, caller, xname)
        try:
            self._monitor.beat(xname, timestamp, status)
        except TrackerFull:
            raise self._authorization.full(request) from None
        return Reply(200)


def _read_fields(request: Request, names: Sequence[str]) -> list[str]:
    """Read the texts that a heartbeat must have; the first fault found is the one reported."""
    try:
        heartbeat = read_json(request, MAX_HEARTBEAT_BODY)
    except ValueError:
        heartbeat = None
    if not isinstance(heartbeat, dict):
        raise Problem(400, "Invalid JSON data type")
    values = pick(heartbeat, names)
    for name, value in zip(names, values, strict=True):
        if value is not None and not isinstance(value, str):
            raise Problem(400, f"Invalid data type in {name} field")
    for name, value in zip(names, values, strict=True):
        if not value:
            raise Problem(400, f"Missing {name} field")
    return values  # type: ignore[return-value]  # all are texts by now


def _valid(name: str) -> str:
    xname = xnames.parse(name)
    if xname is None:
        raise Problem(400, "Invalid Component Name")
    return xname
