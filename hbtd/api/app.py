"""The API as one resource: all routes, below each prefix of the API, and the answers to errors."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from klein import Klein
from klein.interfaces import IKleinRequest
from klein.resource import KleinResource
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.server import Request
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from hbtd.access.gate import Caller
from hbtd.access.refusals import Refused
from hbtd.api.authorization import Authorization
from hbtd.api.problems import PREFIXES, instance
from hbtd.api.routes import Route
from hbtd.server.bodies import too_large
from hbtd.server.limits import LARGE_BODY
from hbtd.server.problems import Problem, method_not_allowed, problem_reply
from hbtd.server.replies import Reply, write
from hbtd.server.site import LimitedRequest

_log = Logger()

_LONGEST_SHOWN = 512
"""The most characters of a refusal's detail that a log line repeats."""


def make_resource(
    authorization: Authorization, routes: Iterable[Route], root_routes: Iterable[Route] = ()
) -> KleinResource:
    """Return a resource that serves `routes` below each prefix, and `root_routes` without a prefix.

    `authorization` checks the sender of a request before a handler is called. All errors, of
    handlers and of the router, are answered with problem documents (RFC 7807).
    """
    app = Klein()
    # Paths are taken literally: no slash is added or removed on the way to a route.
    app.url_map.merge_slashes = False
    served = [route._replace(path=prefix + route.path) for prefix in PREFIXES for route in routes]
    served += root_routes
    for route in served:
        app.route(
            route.path,
            methods=[route.method],
            endpoint=f"{route.method} {route.path}",
        )(_endpoint(route, authorization))
    app.handle_errors(Problem)(_answer_problem)
    app.handle_errors(HTTPException)(_answer_http_exception)
    app.handle_errors(Exception)(_answer_unexpected)
    return _Resource(app)


def _endpoint(route: Route, authorization: Authorization) -> Callable[..., bytes | Deferred[bytes]]:
    with_caller = route.role.concerns_component

    def endpoint(request: Request, **variables: Any) -> bytes | Deferred[bytes]:
        # The router accepts methods in any case; RFC 9110 9.1 does not.
        if request.method.decode("ascii") not in (route.method, "HEAD"):
            raise method_not_allowed(IKleinRequest(request).mapper.allowed_methods())
        caller = Caller()
        try:
            caller = authorization.authorize(request, route.role)
            if with_caller:
                variables["caller"] = caller
            reply = route.handler(request, **variables)
        except Refused as refused:
            raise authorization.problem(request, refused, change=route.changes) from None
        except Exception as error:
            # Only operators: nodes must not be able to fill the log.
            if route.changes and caller.operator:
                authorization.log_change(request, _failure(error))
            raise
        if isinstance(reply, Reply) and reply.change:
            authorization.log_change(request, reply.change)
        if isinstance(reply, Reply):
            return _write(request, reply)
        # Before the coroutine begins: when it ends, the client may have gone.
        asked = authorization.asked(request) if route.changes else ""
        later = Deferred.fromCoroutine(reply)
        if asked:
            later.addCallbacks(
                partial(_log_change, asked, request),
                partial(_log_failure, asked if caller.operator else ""),
            )
        return later.addCallback(partial(_write, request))

    def _log_change(asked: str, request: Request, reply: Reply) -> Reply:
        if reply.change:
            authorization.log_asked(asked, reply.change)
        if request._disconnected:
            raise CancelledError  # the change is logged, and there is nobody to tell
        return reply

    def _log_failure(asked: str, failure: Failure) -> Failure:
        # Only operators: nodes must not be able to fill the log.
        if asked and not failure.check(CancelledError) and isinstance(failure.value, Exception):
            authorization.log_asked(asked, _failure(failure.value))
        return failure

    return endpoint


def _failure(error: Exception) -> str:
    """Return what a log line says about a request for a change, whose handler raised `error`.

    The request was refused if `error` is a `Problem`; any other exception means a bug in hbtd.
    """
    if isinstance(error, Problem):
        # The detail may repeat what was sent, however long that is.
        detail = error.detail[:_LONGEST_SHOWN].rstrip("; .")
        return f"refused with {error.status}: {detail}."
    return "failed because of a bug in hbtd; the next line says more."


def _write(request: Request, reply: Reply) -> bytes | Deferred[bytes]:
    """Set a reply's status and headers on `request`; return the body, for Klein to write.

    A large body or a stream is written without Klein: the result is then a Deferred that fires when
    all is written. Raise `Problem` 503 if there is no memory for the body.
    """
    assert isinstance(request, LimitedRequest)
    if not request.hold(len(reply.body)):
        raise request.no_room()
    return write(request, reply)


def _path(request: IRequest) -> str:
    """Return the requested path, decoded; bytes that are not UTF-8 become surrogates."""
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
    """Answer a request for which the router has no route.

    The answer is a redirect if the path is wrong only in that it ends in slashes, 405 if only the
    method is wrong, and 404 otherwise.
    """
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
    """Return whether the requested path ends in slashes, and would match a route without them.

    Only such paths are redirected, so that no made-up path can redirect a client to another site.
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
        "Answering {method!r} {path!r} failed because of a bug in hbtd; the client got a 500.",
        failure,
        method=request.method.decode("ascii", "replace"),
        path=_path(request),
    )
    return _answer(request, Problem(500, "Unexpected error; hbtd's log says more"))


def _is_misspelt(path: bytes) -> bool:
    """Return whether a path contains percent-encoding elsewhere than in the name of a component.

    Such paths are not served: a gateway in front of hbtd might not recognise them, and not apply
    its rules for the route.
    """
    if b"%" not in path:
        return False
    segments = path.split(b"/")
    name = 4 if segments[1] == b"hmi" else 3  # /hmi/v1/ROUTE/NAME or /v1/ROUTE/NAME
    return any(b"%" in segment for segment in (*segments[:name], *segments[name + 1 :]))


class _Resource(KleinResource):
    """The API's Klein resource, which refuses malformed requests before the router gets them."""

    def render(self, request: Request) -> object:  # type: ignore[override]  # all are server.Request
        """Answer a request, as `IResource.render` does."""
        body = self._render(request)
        if request.method == b"HEAD" and isinstance(body, bytes):
            # Twisted would leave out the body, too, but log a line each time.
            request.setHeader("Content-Length", str(len(body)))
            return b""
        return body

    def _render(self, request: Request) -> object:
        assert isinstance(request, LimitedRequest)
        request.setHeader("Server", "hbtd")
        if request.last:
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
            # The router would decode %2F to a slash and merge two in a row. A gateway's rules would
            # then have been applied to another path, and a redirect could name another host.
            return _not_found(request)
        if request.fault is not None:
            return _answer(request, Problem(400, request.fault))
        if _is_misspelt(request.path):
            return _not_found(request)
        return super().render(request)
