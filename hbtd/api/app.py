"""The API put together: routes of all modules under both prefixes, and what surrounds them."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from klein import Klein
from klein.interfaces import IKleinRequest
from klein.resource import KleinResource
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web import http
from twisted.web.iweb import IRequest
from twisted.web.server import Request, Site
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from hbtd.api.bodies import MAX_BODY, CappedRequest, too_large
from hbtd.api.problems import PREFIXES, Problem, instance, method_not_allowed, problem_reply
from hbtd.api.replies import Reply, write
from hbtd.api.routes import Route

IDLE_TIMEOUT = 60.0
"""Seconds after which a connection on which nothing happens is closed."""

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


def _endpoint(route: Route) -> Callable[..., bytes]:
    def endpoint(request: Request, **variables: str) -> bytes:
        # The router takes methods in any case; RFC 9110 9.1 does not.
        if request.method.decode("ascii") not in (route.method, "HEAD"):
            raise method_not_allowed(IKleinRequest(request).mapper.allowed_methods())
        return write(request, route.handler(request, **variables))

    return endpoint


def _path(request: IRequest) -> str:
    """Give the path that was asked for, decoded as far as it can be."""
    path = b"/".join([b"", *(request.prepath or ()), *(request.postpath or ())])
    return path.decode("utf-8", "surrogateescape")


def _answer(request: IRequest, problem: Problem) -> bytes:
    return write(request, problem_reply(problem, instance(_path(request))))


def _answer_problem(request: IRequest, failure: Failure) -> bytes:
    assert isinstance(failure.value, Problem)
    return _answer(request, failure.value)


def _answer_http_exception(request: IRequest, failure: Failure) -> bytes:
    """Turn what the router found into a problem, or into a redirect to the path without slash."""
    error = failure.value
    if isinstance(error, MethodNotAllowed):
        return _answer(request, method_not_allowed(error.valid_methods or ()))
    if _known_without_slash(request):
        path, mark, query = request.uri.partition(b"?")
        location = (path.rstrip(b"/") + mark + query).decode("ascii", "backslashreplace")
        return write(request, Reply(301, headers=(("Location", location),)))
    return _not_found(request)


def _not_found(request: IRequest) -> bytes:
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


def _answer_unexpected(request: IRequest, failure: Failure) -> bytes:
    _log.failure(
        "Answering {method!r} {path!r} failed.",
        failure,
        method=request.method.decode("ascii", "replace"),
        path=_path(request),
    )
    return _answer(request, Problem(500, "Unexpected error; hbtd's log says more"))


class _Root(KleinResource):
    """Klein's resource, with what Klein itself would not answer in our way."""

    def render(self, request: Request) -> object:  # type: ignore[override]
        assert isinstance(request, APIRequest)
        request.setHeader("Server", "hbtd")
        assert isinstance(request.site, APISite)
        if request.site.closing:
            request.setHeader("Connection", "close")
            request.channel.persistent = False
        if request.oversize:
            return _answer(request, too_large(MAX_BODY))
        try:
            b"/".join(request.postpath or ()).decode("utf-8")
            request.method.decode("ascii")
        except UnicodeDecodeError:
            return _answer(request, Problem(400, "Method and path must be UTF-8"))
        if request.path.startswith(b"//"):
            # The router would drop a slash; a redirect would name a host.
            return _not_found(request)
        return super().render(request)


class APIRequest(CappedRequest):
    """A request that its site knows about while it is open."""

    def __init__(self, *args: Any, **kw: Any) -> None:
        super().__init__(*args, **kw)
        site = self.channel.site  # type: ignore[attr-defined]  # a site's channels have it
        self._open_requests: set[Request] = site.open_requests
        self._open_requests.add(self)

    def finish(self) -> None:
        """Send off the answer."""
        self._open_requests.discard(self)
        super().finish()

    def connectionLost(self, reason: Failure) -> None:
        """Note that nobody waits for the answer any more."""
        self._open_requests.discard(self)
        super().connectionLost(reason)


class APISite(Site):
    """The HTTP side of the API: connections, limits, and an orderly end."""

    noisy = False
    displayTracebacks = False

    def __init__(self, app: Klein, reactor: IReactorTime) -> None:
        super().__init__(
            _Root(app), requestFactory=APIRequest, reactor=reactor, timeout=IDLE_TIMEOUT
        )
        self.open_requests: set[Request] = set()
        """Requests that have begun to arrive and are not answered."""
        self.closing = False
        """Set to have every connection closed after the answer that it waits for."""

    def log(self, request: http.Request) -> None:
        """Keep no access log: it would be nothing but heartbeats."""


def all_routes(groups: Iterable[Sequence[Route]]) -> list[Route]:
    """Join the routes of several modules."""
    return [route for group in groups for route in group]
