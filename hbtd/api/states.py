"""Handlers that say which components are heartbeating."""

from collections.abc import Coroutine, Sequence
from typing import Any

import orjson
from twisted.internet.defer import Deferred
from twisted.web.server import Request

from hbtd.api.routes import Role, Route
from hbtd.formats.go_json import pick
from hbtd.formats.xnames import normalise
from hbtd.monitor import Monitor
from hbtd.server.bodies import read_json
from hbtd.server.problems import Problem
from hbtd.server.replies import JSON, Reply, json_reply
from hbtd.server.site import LimitedRequest

_MOST_NAMES = 200_000
"""The most names in one query: more would block the reactor for too long."""

_AT_ONCE = 2000
"""The number of names that are looked up in one turn: a few milliseconds' worth."""


class States:
    """The handlers of `/hbstates` and `/hbstate`, which say which components are heartbeating."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor

    def routes(self) -> Sequence[Route]:
        """Return the routes of these handlers."""
        return (
            Route("POST", "/hbstates", Role.ANYONE, self.many),
            Route("GET", "/hbstate/<xname>", Role.ANYONE, self.one),
        )

    def many(self, request: Request) -> Reply | Coroutine[Deferred[Any], Any, Reply]:
        """Return for each component that the body names, in order, whether it is heartbeating.

        Names are returned exactly as they were sent, because HSM's discovery compares strings.
        Raise `Problem` 400 if the body is not an object, or if its field `XNames` is not a list of
        strings, and 413 if the field has more than 200 000 names.
        """
        try:
            names = _names(read_json(request))
        except ValueError:
            raise Problem(400, "Error unmarshalling inbound request") from None
        if len(names) <= _AT_ONCE:
            return json_reply({"HBStates": self._states(names)})
        assert isinstance(request, LimitedRequest)
        return self._in_turns(request, names)

    async def _in_turns(self, request: LimitedRequest, names: list[str]) -> Reply:
        """Return the reply to a query of many names.

        The names are looked up in portions, between which other requests have their turns.
        """
        pieces: list[bytes] = []
        for start in range(0, len(names), _AT_ONCE):
            await request.turn()
            states = orjson.dumps(self._states(names[start : start + _AT_ONCE]))
            pieces.append(states[1:-1])  # without the brackets of the list
        return Reply(200, b'{"HBStates":[%b]}' % b",".join(pieces), JSON)

    def _states(self, names: list[str]) -> list[dict[str, object]]:
        beating = self._monitor.heartbeating(normalise(name) for name in names)
        return [_state(*each) for each in zip(names, beating, strict=True)]

    def one(self, request: Request, xname: str) -> Reply:
        """Return whether the component that the path names is heartbeating."""
        name = normalise(xname)
        (beating,) = self._monitor.heartbeating([name])
        return json_reply(_state(name, beating))


def _names(query: object) -> list[str]:
    """Return the names of components in a decoded body, from its field `XNames`.

    Without this field, return no names. Raise `ValueError` if the body is no object or the field is
    no list of strings, and `Problem` 413 if there are too many names.
    """
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
