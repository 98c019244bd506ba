"""Heartbeats: nodes say that they are alive, or that they are going away."""

from collections.abc import Sequence
from typing import Final

from twisted.web.server import Request

from hbtd import xnames
from hbtd.api.bodies import MAX_HEARTBEAT_BODY, read_json
from hbtd.api.problems import Problem
from hbtd.api.replies import Reply
from hbtd.api.routes import Route
from hbtd.integers import parse_integer
from hbtd.jsonfields import pick
from hbtd.monitor import Monitor

ALL_FIELDS: Final = ("Component", "Hostname", "NID", "Status", "Timestamp")
NAMED_FIELDS: Final = ("Status", "Timestamp")


class Heartbeats:
    """Translates heartbeat requests for the monitor."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor

    def routes(self) -> Sequence[Route]:
        """Tell what is answered here."""
        return (
            Route("POST", "/heartbeat", self.post),
            Route("POST", "/heartbeat/<xname>", self.post_named),
            Route("DELETE", "/heartbeat/<xname>", self.delete),
        )

    def post(self, request: Request) -> Reply:
        """Take a heartbeat that names its component in the body."""
        component, _, nid, status, timestamp = _read_fields(request, ALL_FIELDS)
        xname = _valid(component)
        try:
            parse_integer(nid, bits=64, signed=True)
        except ValueError:
            raise Problem(400, "Invalid NID") from None
        self._monitor.beat(xname, timestamp, status)
        return Reply(200)

    def post_named(self, request: Request, xname: str) -> Reply:
        """Take a heartbeat of the component that the path names."""
        status, timestamp = _read_fields(request, NAMED_FIELDS)
        self._monitor.beat(_valid(xname), timestamp, status)
        return Reply(200)

    def delete(self, request: Request, xname: str) -> Reply:
        """Forget a component that is going away."""
        self._monitor.forget(_valid(xname))
        return Reply(204)


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
