"""The handlers of `/guard`: what is disrupted, and how operators release it."""

from collections.abc import Sequence
from typing import Any

from twisted.web.server import Request

from hbtd.api.queries import ascii_reply, encode, read_parameters
from hbtd.api.routes import Role, Route
from hbtd.formats.counts import counted
from hbtd.guarding.live_guard import LiveGuard
from hbtd.guarding.statements import Statement
from hbtd.queries.guard import GuardFacts, show_statement
from hbtd.server.bodies import read_json
from hbtd.server.problems import Problem
from hbtd.server.replies import Reply, json_reply
from hbtd.server.site import LimitedRequest

_LONGEST = 64
"""The most characters of the name of a failure domain."""


def encode_statement(statement: Statement) -> bytes:
    """Return a statement of the guard as the bytes of a Server-Sent Event without a number."""
    return b"event: guard\ndata: %b\n\n" % encode(show_statement(statement))


class GuardHandlers:
    """The handlers of `/guard` and `/guard/release`."""

    def __init__(self, guard: LiveGuard, facts: GuardFacts) -> None:
        self._guard = guard
        self._facts = facts

    def routes(self) -> Sequence[Route]:
        """Return the routes of these handlers."""
        return (
            Route("GET", "/guard", Role.READER, self.show),
            Route("POST", "/guard/release", Role.OPERATOR, self.release),
        )

    async def show(self, request: LimitedRequest) -> Reply:
        """Return what is disrupted, whose deaths wait, and the latest statements.

        Raise `Problem` 400 if there are query parameters.
        """
        read_parameters(request, ())
        return ascii_reply(await self._facts.describe(request.turn))

    def release(self, request: Request) -> Reply:
        """End the disruptions of a failure domain, or all; their deaths wait no more.

        The body may be empty or a JSON object with the name of the `Domain`. Raise `Problem` 400
        for any other body, 503 if another replica leads, and 404 if the domain is not disrupted, or
        was released before.
        """
        domain = _domain(request)
        if not self._guard.leading:
            leader = self._facts.leader()
            where = "ask the leader" if leader is None else f"ask the leader, {leader}"
            raise Problem(
                503, f"This replica does not lead, and only the leader holds deaths; {where}"
            )
        domains, number = self._guard.release(domain)
        if domain is not None and not domains:
            raise Problem(404, f"{domain} is not disrupted, or was released already")
        reply = json_reply({"Released": list(domains), "Components": number})
        if not domains:
            return reply
        waited = counted(number, "death that waited is told", "deaths that waited are told")
        return reply._replace(change=f"the guard has released {', '.join(domains)}: {waited}")


def _domain(request: Request) -> str | None:
    assert request.content is not None
    try:
        empty = not request.content.read(1)
        request.content.seek(0)
        body: Any = {} if empty else read_json(request)
    except ValueError:
        body = None
    domain = body.get("Domain") if isinstance(body, dict) else ""
    if domain is None:
        return None
    if not isinstance(domain, str) or not 0 < len(domain) <= _LONGEST or not domain.isprintable():
        raise Problem(400, 'The body must be empty, or a JSON object such as {"Domain":"x1000c0"}')
    if not domain.isascii():
        raise Problem(400, "The name of a failure domain has ASCII characters alone")
    return domain
