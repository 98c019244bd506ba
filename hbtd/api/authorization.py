"""The gate as the handlers of the REST API ask it: by request, and refusals become problems."""

from typing import Any

from twisted.web.server import Request

from hbtd.access.gate import FULL, Caller, Gate, NotYet, Refused, Unauthenticated
from hbtd.access.peers import Peer, Peers
from hbtd.access.refusals import Refusals
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
"""Headers of a request that somebody else has caused: a proxy's, or a web page's in a browser."""


class Authorization:
    """Asks who a request comes from, and says no in this one place."""

    def __init__(self, gate: Gate, peers: Peers, complaints: Refusals) -> None:
        self._gate = gate
        self._peers = peers
        self._complaints = complaints

    def node(self, request: Request) -> Caller:
        """Find out who sends a heartbeat; raises `Problem` 401 or 503."""
        if self._gate.nodes_open:
            return self._gate.node(_NOBODY, None)
        peer = self._peer(request)
        try:
            return self._gate.node(peer, _authorization(request))
        except Refused as refused:
            raise self._problem(peer, refused) from None

    def forgetter(self, request: Request) -> Caller:
        """Find out who wants a component forgotten; raises `Problem` 401, 403 or 503."""
        peer = self._peer(request)
        try:
            return self._gate.forgetter(peer, _authorization(request), relayed=_relayed(request))
        except Refused as refused:
            raise self._problem(peer, refused) from None

    def operator(self, request: Request) -> None:
        """See that a request is an operator's; raises `Problem` 401 or 403."""
        peer = self._peer(request)
        try:
            self._gate.operator(peer, _authorization(request), relayed=_relayed(request))
        except Refused as refused:
            raise self._problem(peer, refused) from None

    def check_beat(self, request: Request, caller: Caller, xname: str) -> None:
        """See that a caller may send a heartbeat of this component; raises `Problem` 403."""
        try:
            caller.check_beat(xname)
        except Refused as refused:
            raise self._problem(self._peer(request), refused) from None

    def check_forget(self, request: Request, caller: Caller, xname: str) -> None:
        """See that a caller may have this component forgotten; raises `Problem` 403."""
        try:
            caller.check_forget(xname)
        except Refused as refused:
            raise self._problem(self._peer(request), refused) from None

    def full(self, request: Request) -> Problem:
        """Make the problem of a heartbeat that there is no room for, and count it."""
        detail = "No room for another component"
        self._complaints.note(self._peer(request).host, FULL, detail)
        return Problem(503, detail, headers=(("Retry-After", "60"),))

    def _peer(self, request: Request) -> Peer:
        channel: Any = request.channel
        return self._peers.of(channel.transport)

    def _problem(self, peer: Peer, refused: Refused) -> Problem:
        detail = str(refused)
        self._complaints.note(peer.host, refused.reason, detail)
        if isinstance(refused, Unauthenticated):
            challenges = ", ".join(refused.challenges)
            return Problem(401, detail, headers=(("WWW-Authenticate", challenges),))
        if isinstance(refused, NotYet):
            return Problem(503, detail, headers=(("Retry-After", "10"),))
        return Problem(403, detail)


_NOBODY = Peer("")


def _authorization(request: Request) -> bytes | None:
    """Give the credentials that a request presents; `None` unless there is exactly one header."""
    values = request.requestHeaders.getRawHeaders(b"authorization") or []
    return values[0] if len(values) == 1 else None


def _relayed(request: Request) -> bool:
    """Tell whether somebody else has caused a request, so that its peer says nothing of them."""
    return any(request.requestHeaders.hasHeader(name) for name in _RELAYED)
