"""The handler of `/internals`, which shows the state of hbtd's own parts."""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from twisted.internet.defer import Deferred

from hbtd.api.queries import ascii_reply, read_parameters
from hbtd.api.routes import Role, Route
from hbtd.server.replies import Reply
from hbtd.server.site import LimitedRequest

Describe = Callable[[Callable[[], Deferred[None]]], Coroutine[Deferred[Any], Any, dict[str, Any]]]
"""A coroutine function that returns the state of hbtd's parts, for `GET /internals`.

Between portions of the work, the function calls its argument and awaits the result, so that other
requests have their turns.
"""


class InternalsHandler:
    """The handler of `/internals`, which shows the state of hbtd's own parts."""

    def __init__(self, describe: Describe) -> None:
        self._describe = describe

    def routes(self) -> Sequence[Route]:
        """Return the route of this handler."""
        return (Route("GET", "/internals", Role.OPERATOR, self.internals),)

    async def internals(self, request: LimitedRequest) -> Reply:
        """Return the state of hbtd's parts; raise `Problem` 400 if there are query parameters."""
        read_parameters(request, ())
        return ascii_reply(await self._describe(request.turn))
