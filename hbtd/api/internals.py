"""The handler of `/internals`: what hbtd knows about its own parts."""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any
from urllib.parse import parse_qsl

from twisted.internet.defer import Deferred

from hbtd.api.routes import Role, Route
from hbtd.server.problems import Problem
from hbtd.server.replies import Reply, json_reply
from hbtd.server.site import LimitedRequest

Describe = Callable[[Callable[[], Deferred[None]]], Coroutine[Deferred[Any], Any, dict[str, Any]]]
"""Returns the description; is called with a function that returns the turns of the request."""


class InternalsHandler:
    """The handler of `/internals`."""

    def __init__(self, describe: Describe) -> None:
        self._describe = describe

    def routes(self) -> Sequence[Route]:
        """Return the route of this handler."""
        return (Route("GET", "/internals", Role.OPERATOR, self.internals),)

    async def internals(self, request: LimitedRequest) -> Reply:
        """Return the description of hbtd's parts; raise `Problem` 400 if there are parameters."""
        query = request.uri.partition(b"?")[2].decode("ascii", "replace")
        for name, _ in parse_qsl(query, keep_blank_values=True):
            raise Problem(400, f"Unknown parameter '{name}': /internals has none")
        return json_reply(await self._describe(request.turn))
