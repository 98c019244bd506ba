"""Queries: who is heartbeating."""

from collections.abc import Sequence

from twisted.web.server import Request

from hbtd.api.routes import Route
from hbtd.formats.go_json import pick
from hbtd.formats.xnames import normalise
from hbtd.monitor import Monitor
from hbtd.server.bodies import read_json
from hbtd.server.problems import Problem
from hbtd.server.replies import Reply, json_reply

_MOST_NAMES = 200_000
"""Names that may be asked for at once: more would take the reactor for longer than it may be."""


class States:
    """Translates queries for the monitor."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor

    def routes(self) -> Sequence[Route]:
        """Tell what is answered here."""
        return (
            Route("POST", "/hbstates", self.many),
            Route("GET", "/hbstate/<xname>", self.one),
        )

    def many(self, request: Request) -> Reply:
        """Tell of each name asked, in order, whether it is heartbeating.

        Names come back exactly as they were sent: HSM's discovery looks for them.
        """
        try:
            names = _names(read_json(request))
        except ValueError:
            raise Problem(400, "Error unmarshalling inbound request") from None
        beating = self._monitor.heartbeating(normalise(name) for name in names)
        return json_reply(
            {"HBStates": [_state(*each) for each in zip(names, beating, strict=True)]}
        )

    def one(self, request: Request, xname: str) -> Reply:
        """Tell whether one component is heartbeating."""
        name = normalise(xname)
        (beating,) = self._monitor.heartbeating([name])
        return json_reply(_state(name, beating))


def _names(query: object) -> list[str]:
    """Get the names out of a query; raises `ValueError` when it is not of the right shape."""
    if not isinstance(query, dict):
        raise ValueError("not an object")
    (names,) = pick(query, ["XNames"])
    if names is None:
        return []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("not a list of names")
    if len(names) > _MOST_NAMES:
        raise Problem(413, f"More than {_MOST_NAMES} names asked for at once")
    return names


def _state(name: str, beating: bool) -> dict[str, object]:
    return {"XName": name, "Heartbeating": beating}
