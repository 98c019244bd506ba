"""The API put together: routes of all modules under both prefixes, and what surrounds them."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from klein import Klein
from klein.interfaces import IKleinRequest
from klein.resource import KleinResource
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import http
from twisted.web.http import HTTPChannel
from twisted.web.iweb import IRequest
from twisted.web.server import Request, Site
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from hbtd.api.bodies import CappedRequest, crowded, too_large
from hbtd.api.limits import LARGE_BODY, LARGE_HEAD, MAX_FIELDS, MEMORY, Limits, Note, Room
from hbtd.api.problems import PREFIXES, Problem, instance, method_not_allowed, problem_reply
from hbtd.api.replies import Reply, write
from hbtd.api.routes import Route

_LONGEST_LENGTH = 18
"""Digits that a `Content-Length` may have."""

_log = Logger()


def make_app(routes: Iterable[Route], root_routes: Iterable[Route] = ()) -> Klein:
    """Serve `routes` under each of the API's prefixes and `root_routes` as they are.

    Whatever goes wrong, in a handler or in finding one, is answered with a problem document.
    """
    app = Klein()
    # A path is what it is: neither slashes in a row nor one at the end are the router's to mend.
    app.url_map.merge_slashes = False
    placed = [(prefix + route.path, route) for prefix in PREFIXES for route in routes]
    placed += [(route.path, route) for route in root_routes]
    for path, route in placed:
        app.route(
            path,
            methods=[route.method],
            endpoint=f"{route.method} {path}",
        )(_endpoint(route))
    app.handle_errors(Problem)(_answer_problem)
    app.handle_errors(HTTPException)(_answer_http_exception)
    app.handle_errors(Exception)(_answer_unexpected)
    return app


def _endpoint(route: Route) -> Callable[..., bytes | Deferred[bytes]]:
    def endpoint(request: Request, **variables: str) -> bytes | Deferred[bytes]:
        # The router takes methods in any case; RFC 9110 9.1 does not.
        if request.method.decode("ascii") not in (route.method, "HEAD"):
            raise method_not_allowed(IKleinRequest(request).mapper.allowed_methods())
        reply = route.handler(request, **variables)
        assert isinstance(request, APIRequest)
        if not request.hold(len(reply.body)):
            raise request.no_room()
        return write(request, reply)

    return endpoint


def _path(request: IRequest) -> str:
    """Give the path that was asked for, decoded as far as it can be."""
    path = b"/".join([b"", *(request.prepath or ()), *(request.postpath or ())])
    return path.decode("utf-8", "surrogateescape")


def _answer(request: IRequest, problem: Problem) -> bytes | Deferred[bytes]:
    if problem.status == 413:
        assert isinstance(request, APIRequest)
        request.note(LARGE_BODY, problem.detail)
    return write(request, problem_reply(problem, instance(_path(request))))


def _answer_problem(request: IRequest, failure: Failure) -> bytes | Deferred[bytes]:
    assert isinstance(failure.value, Problem)
    return _answer(request, failure.value)


def _answer_http_exception(request: IRequest, failure: Failure) -> bytes | Deferred[bytes]:
    """Turn what the router found into a problem, or into a redirect to the path without slash."""
    error = failure.value
    if isinstance(error, MethodNotAllowed):
        return _answer(request, method_not_allowed(error.valid_methods or ()))
    if _known_without_slash(request):
        path, mark, query = request.uri.partition(b"?")
        location = (path.rstrip(b"/") + mark + query).decode("ascii", "backslashreplace")
        return write(request, Reply(301, headers=(("Location", location),)))
    return _not_found(request)


def _not_found(request: IRequest) -> bytes | Deferred[bytes]:
    return write(request, problem_reply(Problem(404, "No such path"), _path(request)))


def _known_without_slash(request: IRequest) -> bool:
    """Whether a path is one of ours but for slashes at its end.

    Only such a path is redirected: others could send a client to where someone else wants it.
    """
    if not request.uri.partition(b"?")[0].endswith(b"/"):
        return False
    try:
        IKleinRequest(request).mapper.match(_path(request).rstrip("/"))
    except MethodNotAllowed:
        return True
    except HTTPException:
        return False
    return True


def _answer_unexpected(request: IRequest, failure: Failure) -> bytes | Deferred[bytes]:
    _log.failure(
        "Answering {method!r} {path!r} failed.",
        failure,
        method=request.method.decode("ascii", "replace"),
        path=_path(request),
    )
    return _answer(request, Problem(500, "Unexpected error; hbtd's log says more"))


class _Root(KleinResource):
    """Klein's resource, with what Klein itself would not answer in our way."""

    def render(self, request: Request) -> object:  # type: ignore[override]  # all are ours
        assert isinstance(request, APIRequest)
        request.setHeader("Server", "hbtd")
        assert isinstance(request.site, APISite)
        if request.site.closing:
            request.setHeader("Connection", "close")
            request.channel.persistent = False
        if request.oversize:
            return _answer(request, too_large(request.most))
        if request.crowded:
            return _answer(request, request.no_room())
        try:
            b"/".join(request.postpath or ()).decode("utf-8")
            request.method.decode("ascii")
        except UnicodeDecodeError:
            return _answer(request, Problem(400, "Method and path must be UTF-8"))
        slashes = any(b"/" in segment for segment in request.postpath or ())
        if slashes or request.path.startswith(b"//"):
            # The router would take %2F for a slash, and drop one of two; a redirect would then
            # name a host, and a gateway's rules would have been about another path.
            return _not_found(request)
        return super().render(request)


class APIRequest(CappedRequest):
    """A request that its site knows about while it is open."""

    def __init__(self, *args: Any, **kw: Any) -> None:
        super().__init__(*args, **kw)
        site = self.channel.site
        self._open_requests: set[Request] = site.open_requests
        self._open_requests.add(self)
        self._note: Note = site.note
        self.most = site.limits.body_bytes
        self.room = site.room

    def note(self, reason: str, detail: str) -> None:
        """Take note that this request is refused something."""
        self._note(self.channel.transport.getPeer(), reason, detail)

    def no_room(self) -> Problem:
        """Make the problem of a request that takes more memory than there is, and count it."""
        problem = crowded()
        self.note(MEMORY, problem.detail)
        return problem

    def finish(self) -> None:
        """Send off the answer."""
        self._open_requests.discard(self)
        self.let_go()
        super().finish()

    def connectionLost(self, reason: Failure) -> None:
        """Note that nobody waits for the answer any more."""
        self._open_requests.discard(self)
        self.let_go()
        super().connectionLost(reason)


class StrictChannel(HTTPChannel):
    """An HTTP channel that refuses what twisted.web reads in one way and others in another.

    These are lines that are folded, which RFC 9112 5.2 has us refuse or mend, and a transfer coding
    that has not existed since 1999. It also says so when a head, or a length, is too large.
    """

    site: "APISite"

    maxHeaders = MAX_FIELDS
    _head_size = 0

    def connectionMade(self) -> None:
        """Begin."""
        # That of a line, and of what may be the beginning of one. A head is counted below.
        self.MAX_LENGTH = self.totalHeadersSize = self.site.limits.header_bytes
        super().connectionMade()

    def lineReceived(self, line: bytes) -> None:
        """Take in a line of a head."""
        self._head_size += len(line)
        if self._head_size > self.totalHeadersSize:
            self._refuse_head()
        elif line.startswith((b" ", b"\t")):
            self._refuse()
        else:
            super().lineReceived(line)

    def headerReceived(self, line: bytes) -> bool:
        """Take in a field; tells whether it may be there."""
        name, _, value = line.lower().partition(b":")
        value = value.strip(b" \t")
        # Python reads no number of more than some thousand digits, and twisted.web is surprised.
        endless = name == b"content-length" and len(value) > _LONGEST_LENGTH
        if endless or (name == b"transfer-encoding" and value != b"chunked"):
            self._refuse()
            return False
        return bool(super().headerReceived(line))

    def lineLengthExceeded(self, line: bytes) -> None:
        """Refuse a line without end."""
        self._refuse_head()

    def allHeadersReceived(self) -> None:
        """Take in that a head is complete."""
        self._head_size = 0
        super().allHeadersReceived()

    def _refuse_head(self) -> None:
        assert self.transport is not None
        detail = f"The head of a request is larger than {self.totalHeadersSize} bytes"
        self.site.note(self.transport.getPeer(), LARGE_HEAD, detail)
        self._refuse(b"431 Request Header Fields Too Large")

    def _refuse(self, status: bytes = b"400 Bad Request") -> None:
        self.transport.write(b"HTTP/1.1 %b\r\n\r\n" % status)  # type: ignore[union-attr]  # it is there
        self.loseConnection()


class APISite(Site):
    """The HTTP side of the API: limits, and an orderly end."""

    protocol = StrictChannel  # type: ignore[assignment]  # twisted.web wraps its own for HTTP/2
    noisy = False
    displayTracebacks = False

    def __init__(self, app: Klein, reactor: IReactorTime, limits: Limits, note: Note) -> None:
        """`note` hears of clients that meet the `limits`."""
        super().__init__(_Root(app), requestFactory=APIRequest, reactor=reactor, timeout=None)
        self.limits = limits
        self.note = note
        self.room = Room(limits.large_bytes)
        """The memory for bodies that are larger than a heartbeat's."""
        self.open_requests: set[Request] = set()
        """Requests that have begun to arrive and are not answered."""
        self.closing = False
        """Set to have every connection closed after the answer that it waits for."""

    def log(self, request: http.Request) -> None:
        """Keep no access log: it would be nothing but heartbeats."""


def all_routes(groups: Iterable[Sequence[Route]]) -> list[Route]:
    """Join the routes of several modules."""
    return [route for group in groups for route in group]
