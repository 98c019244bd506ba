"""The API put together: routes of all modules under both prefixes, and what surrounds them."""

from collections.abc import Callable, Iterable, Sequence

from klein import Klein
from klein.interfaces import IKleinRequest
from klein.resource import KleinResource
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.server import Request
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from hbtd.api.problems import PREFIXES, instance
from hbtd.api.routes import Route
from hbtd.server.bodies import too_large
from hbtd.server.limits import LARGE_BODY
from hbtd.server.problems import Problem, method_not_allowed, problem_reply
from hbtd.server.replies import Reply, write
from hbtd.server.site import LimitedRequest, LimitedSite

_log = Logger()


def make_resource(routes: Iterable[Route], root_routes: Iterable[Route] = ()) -> KleinResource:
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
    return _Root(app)


def _endpoint(route: Route) -> Callable[..., bytes | Deferred[bytes]]:
    def endpoint(request: Request, **variables: str) -> bytes | Deferred[bytes]:
        # The router takes methods in any case; RFC 9110 9.1 does not.
        if request.method.decode("ascii") not in (route.method, "HEAD"):
            raise method_not_allowed(IKleinRequest(request).mapper.allowed_methods())
        reply = route.handler(request, **variables)
        assert isinstance(request, LimitedRequest)
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
        assert isinstance(request, LimitedRequest)
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
        assert isinstance(request, LimitedRequest)
        request.setHeader("Server", "hbtd")
        assert isinstance(request.site, LimitedSite)
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


def all_routes(groups: Iterable[Sequence[Route]]) -> list[Route]:
    """Join the routes of several modules."""
    return [route for group in groups for route in group]
