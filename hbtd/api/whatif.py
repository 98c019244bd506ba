"""The handler of `/whatif`: how many alarms there would have been with other limits."""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.web.server import Request

from hbtd.api.queries import ascii_reply, bad, hold, read_parameters, read_time
from hbtd.api.routes import Role, Route
from hbtd.config.params import Params
from hbtd.config.value_types import SECONDS
from hbtd.queries.whatif import WhatIf
from hbtd.server.problems import Problem
from hbtd.server.replies import Reply
from hbtd.server.site import LimitedRequest
from hbtd.store.interface import StoreUnusable


class WhatIfHandler:
    """The handler of `/whatif`: how many alarms there would have been with other limits."""

    def __init__(
        self, whatif: WhatIf, limits: Callable[[], Params], wall: Callable[[], float]
    ) -> None:
        """Make the handler.

        `limits` returns the parameters that are in force; `wall` returns the Unix time in seconds.
        """
        self._whatif = whatif
        self._limits = limits
        self._wall = wall

    def routes(self) -> Sequence[Route]:
        """Return the route of this handler."""
        return (Route("GET", "/whatif", Role.READER, self.show),)

    def show(self, request: Request) -> Coroutine[Deferred[Any], Any, Reply]:
        """Return how many alarms there would have been since some time, and of whom.

        A limit that the query does not give is the one in force. Raise `Problem` 400 if a parameter
        is invalid, and 503 if the table of long silences can't be read, or if there is not enough
        memory for the answer.
        """
        assert isinstance(request, LimitedRequest)
        parameters = read_parameters(request, ("warntime", "errtime", "since"))
        limits = self._limits()
        return self._answer(
            request,
            _read_limit(parameters, "warntime", limits.warntime),
            _read_limit(parameters, "errtime", limits.errtime),
            read_time(parameters, "since", self._wall()),
        )

    async def _answer(
        self, request: LimitedRequest, warntime: int, errtime: int, since: float | None
    ) -> Reply:
        reserve = partial(hold, request)
        try:
            answer = await self._whatif.answer(warntime, errtime, since, request.turn, reserve)
        except StoreUnusable as error:
            raise Problem(503, f"The table of long silences can't be read: {error}") from None
        return ascii_reply(answer)


def _read_limit(parameters: Mapping[str, str], name: str, default: int) -> int:
    if name not in parameters:
        return default
    try:
        seconds: int = SECONDS.parse(parameters[name])
    except ValueError:
        raise bad(name, f"must be {SECONDS.allowed}") from None
    return seconds
