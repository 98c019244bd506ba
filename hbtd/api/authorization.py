"""Authorization: the gate checks the sender of a request; refusals become problems."""

from typing import Any

from twisted.web.server import Request

from hbtd.access.gate import ANY_NODE, Caller, Credentials, Gate
from hbtd.access.peers import Peers
from hbtd.access.refusals import KeysUnavailable, NoRoom, Refusals, Refused, Unauthenticated
from hbtd.api.routes import Role
from hbtd.server.problems import Problem

_RELAYED = (
    b"forwarded",
    b"via",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-proto",
    b"x-real-ip",
    b"origin",
)
"""Headers of requests that a proxy has forwarded, or that a web page has caused."""


class Authorization:
    """Authenticates the sender of each request before its handler is called."""

    def __init__(self, gate: Gate, peers: Peers, refusals: Refusals) -> None:
        self._gate = gate
        self._peers = peers
        self._refusals = refusals

    def authorize(self, request: Request, role: Role) -> Caller:
        """Return the `Caller` who has sent a request to a route that needs `role`.

        Raise `Refused` unless the request's credentials prove that its sender has the role. If the
        role concerns a component, the handler must then check that component with the `Caller`.
        """
        if role is Role.ANYONE:
            return Caller()
        if role is Role.NODE and self._gate.nodes_open:
            return ANY_NODE
        credentials = Credentials(
            self._peers.of(_transport(request)), _authorization(request), _relayed(request)
        )
        if role is Role.NODE:
            return self._gate.node(credentials)
        if role is Role.NODE_OR_OPERATOR:
            return self._gate.node_or_operator(credentials)
        return self._gate.operator(credentials)

    def problem(self, request: Request, refused: Refused) -> Problem:
        """Count and log a refused request; return the problem to answer with."""
        detail = str(refused)
        self._refusals.note(self._peers.of(_transport(request)).host, refused.reason, detail)
        if isinstance(refused, Unauthenticated):
            challenges = ", ".join(refused.challenges)
            return Problem(401, detail, headers=(("WWW-Authenticate", challenges),))
        if isinstance(refused, KeysUnavailable):
            return Problem(503, detail, headers=(("Retry-After", "10"),))
        if isinstance(refused, NoRoom):
            return Problem(503, detail, headers=(("Retry-After", "60"),))
        return Problem(403, detail)


def _transport(request: Request) -> Any:
    channel: Any = request.channel
    return channel.transport


def _authorization(request: Request) -> bytes | None:
    """Return the value of the `Authorization` header; `None` unless there is exactly one."""
    values = request.requestHeaders.getRawHeaders(b"authorization") or []
    return values[0] if len(values) == 1 else None


def _relayed(request: Request) -> bool:
    """Return whether a proxy has forwarded a request or a web page has caused it.

    The peer of such a request proves little about who has made it.
    """
    return any(request.requestHeaders.hasHeader(name) for name in _RELAYED)
