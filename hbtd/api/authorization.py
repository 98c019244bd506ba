"""Authorization: checks who may make a request, and turns refusals into problem documents."""

from math import ceil
from typing import Any

from twisted.logger import Logger
from twisted.web.server import Request

from hbtd.access.gate import ANY_NODE, Caller, Credentials, Gate
from hbtd.access.peers import Peer, Peers
from hbtd.access.refusals import (
    CHANGE,
    REQUEST,
    Forbidden,
    KeysUnavailable,
    NoRoom,
    Refusals,
    Refused,
    TooSoon,
    Unauthenticated,
)
from hbtd.api.own_host import names_own_host
from hbtd.api.routes import Role
from hbtd.server.problems import Problem

_RELAYED = frozenset(
    (
        b"cf-connecting-ip",
        b"forwarded",
        b"origin",
        b"true-client-ip",
        b"via",
        b"x-client-ip",
        b"x-forwarded",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-forwarded-proto",
        b"x-real-ip",
    )
)
"""Headers of requests that a proxy has forwarded, or that a web page has caused, in lower case."""

_RELAYED_PREFIXES = (b"x-envoy-", b"x-original-")
"""The beginnings of further such headers."""


class Authorization:
    """Checks, before a handler is called, that the sender has the role that the route needs.

    Also counts and logs refused requests, and logs who has asked for changes.
    """

    _log = Logger()

    def __init__(
        self,
        gate: Gate,
        peers: Peers,
        refusals: Refusals,
        own_names: frozenset[str],
        *,
        open_to_readers: bool = True,
    ) -> None:
        """Make an object that asks `gate` about each request.

        `peers` knows the peer of each connection, `refusals` counts and logs refused requests, and
        `own_names` are the names of this host, in lower case. `open_to_readers` says whether
        everybody may call the routes for readers.
        """
        self._gate = gate
        self._peers = peers
        self._refusals = refusals
        self._own_names = own_names
        self._open_to_readers = open_to_readers

    def authorize(self, request: Request, role: Role) -> Caller:
        """Return the `Caller` who has sent a request to a route that requires `role`.

        Raise `Refused` unless the request's credentials prove that its sender has the role. If the
        role concerns a component, the handler still has to call a `check_` method of the `Caller`.

        Heartbeats from web pages are refused, whatever credentials they have: a browser may send a
        POST for a page of another site without asking hbtd first, and add a client certificate.
        """
        if role is Role.ANYONE or (role is Role.READER and self._open_to_readers):
            return Caller()
        if role is Role.NODE and _from_web_page(request):
            raise Forbidden("Heartbeats from web pages are not taken")
        if role is Role.NODE and self._gate.nodes_open:
            return ANY_NODE
        if role is Role.NODE:
            peer = self._peers.of(_transport(request))
            return self._gate.node(Credentials(peer, _authorization(request)))
        credentials = self._credentials(request)
        if role is Role.NODE_OR_OPERATOR:
            return self._gate.node_or_operator(credentials)
        return self._gate.operator(credentials)

    def permits(self, request: Request, role: Role) -> bool:
        """Return whether `authorize` would still permit a request that is already in progress."""
        try:
            self.authorize(request, role)
        except Refused:
            return False
        return True

    def log_change(self, request: Request, outcome: str) -> None:
        """Log a permitted request for a change: who has sent it, from where, and its outcome."""
        self.log_asked(self.asked(request), outcome)

    def log_asked(self, asked: str, outcome: str) -> None:
        """Log a permitted request for a change, and its outcome.

        The argument `asked` is the description of the request, as the method `asked` returned it.
        """
        self._log.info(
            "Change by {requester_and_request}: {outcome}",
            requester_and_request=asked,
            outcome=outcome,
        )

    def asked(self, request: Request) -> str:
        """Return a text for log lines that says who requests which change, and from which host."""
        credentials = self._credentials(request)
        return (
            f"{self._gate.describe(credentials)} from {credentials.peer.host}:"
            f" {request.method.decode('ascii')} {request.path.decode('utf-8', 'surrogateescape')}"
        )

    def _credentials(self, request: Request) -> Credentials:
        peer = self._peers.of(_transport(request))
        return Credentials(
            peer, _authorization(request), _relayed(request), self._misdirected(request, peer)
        )

    def _misdirected(self, request: Request, peer: Peer) -> bool:
        """Return whether the `Host` header of a request names another host than this one.

        A web page may cause such requests. On a Unix socket, every `Host` is accepted.
        """
        (host,) = request.requestHeaders.getRawHeaders(b"host") or [b""]
        return not peer.unix and not names_own_host(host.decode("latin-1"), self._own_names)

    def problem(self, request: Request, refused: Refused, *, change: bool) -> Problem:
        """Count and log a refused request to a route; return the `Problem` to answer it with.

        `change` says whether the request was to change something; if so, the log line also says who
        sent the request.
        """
        detail = str(refused)
        host = self._peers.of(_transport(request)).host
        if change:
            asked = self.asked(request)
            self._refusals.note(host, refused.reason, f"{detail}. Asked by {asked}", CHANGE)
        else:
            self._refusals.note(host, refused.reason, detail, REQUEST)
        if isinstance(refused, Unauthenticated):
            challenges = ", ".join(refused.challenges)
            return Problem(401, detail, headers=(("WWW-Authenticate", challenges),))
        if isinstance(refused, KeysUnavailable):
            return Problem(503, detail, headers=(("Retry-After", "10"),))
        if isinstance(refused, NoRoom):
            return Problem(503, detail, headers=(("Retry-After", "60"),))
        if isinstance(refused, TooSoon):
            return Problem(429, detail, headers=(("Retry-After", str(ceil(refused.seconds))),))
        return Problem(403, detail)


def _transport(request: Request) -> Any:
    channel: Any = request.channel
    return channel.transport


def _authorization(request: Request) -> bytes | None:
    """Return the value of the `Authorization` header; `None` unless there is exactly one."""
    values = request.requestHeaders.getRawHeaders(b"authorization") or []
    return values[0] if len(values) == 1 else None


def _from_web_page(request: Request) -> bool:
    """Return whether a web page has caused a request.

    Browsers say so by `Origin`, and newer ones by `Sec-Fetch-Site` as well.
    """
    headers = request.requestHeaders
    sites = headers.getRawHeaders(b"sec-fetch-site") or ()
    return headers.hasHeader(b"origin") or any(
        site.strip().lower() == b"cross-site" for site in sites
    )


def _relayed(request: Request) -> bool:
    """Return whether a proxy has forwarded a request or a web page has caused it.

    The peer of such a request proves little about who has made it.
    """
    names = [name.lower() for name, _ in request.requestHeaders.getAllRawHeaders()]
    # Of what a page only loads, as a picture or a script, browsers don't tell the origin.
    return _from_web_page(request) or any(
        name in _RELAYED or name.startswith(_RELAYED_PREFIXES) for name in names
    )
