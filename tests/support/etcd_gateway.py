"""The JSON gateway of an etcd in memory, as a resource of twisted.web."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import orjson
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from hbtd.etcd.errors import NOT_FOUND, RESOURCE_EXHAUSTED, UNAVAILABLE, UNKNOWN, EtcdRefused
from hbtd.etcd.messages import Message, decode_bytes
from tests.support.etcd_state import EtcdState, Watcher
from tests.support.etcd_users import PERMISSION_DENIED, UNAUTHENTICATED, EtcdUsers

_STATUS = {
    PERMISSION_DENIED: HTTPStatus.FORBIDDEN,
    UNAUTHENTICATED: HTTPStatus.UNAUTHORIZED,
    UNKNOWN: HTTPStatus.INTERNAL_SERVER_ERROR,
    NOT_FOUND: HTTPStatus.NOT_FOUND,
    RESOURCE_EXHAUSTED: HTTPStatus.TOO_MANY_REQUESTS,
    UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
}

_PREFIX = b"/v3"

_PATHS = (
    b"/kv/range",
    b"/kv/put",
    b"/kv/txn",
    b"/kv/compaction",
    b"/lease/grant",
    b"/lease/keepalive",
    b"/lease/revoke",
    b"/lock/lock",
    b"/maintenance/status",
    b"/auth/authenticate",
)


class EtcdGateway(Resource):
    """Answers requests for an etcd in memory."""

    isLeaf = True

    def __init__(
        self,
        state: EtcdState,
        clock: IReactorTime,
        delay: Callable[[], float] = lambda: 0.0,
        loses: Callable[[], bool] = lambda: False,
        on_lock: Callable[[bytes, str], object] = lambda key, host: None,
        users: EtcdUsers | None = None,
    ) -> None:
        """Make the gateway.

        `delay` returns how many seconds of `clock` the next answer takes; `loses` says whether the
        next request is not answered although it takes effect. `on_lock` is called with the key of
        each client that asks for a lock, and with the client's host. `users` are those of etcd;
        without them it authenticates nobody.
        """
        super().__init__()
        self._state = state
        self._clock = clock
        self._delay = delay
        self._loses = loses
        self._on_lock = on_lock
        self._users = EtcdUsers() if users is None else users

    def render_POST(self, request: Request) -> Any:
        """Answer a request."""
        request.setHeader(b"content-type", b"application/json")
        path = request.path.removeprefix(_PREFIX)
        assert request.content is not None
        body = request.content.read()
        if path == b"/watch":
            _Watch(self._state, self._users, request, _messages(body))
            return NOT_DONE_YET
        if path not in _PATHS:
            request.setResponseCode(404)
            return b"Not Found\n"
        self._answer(request, path.decode(), orjson.loads(body))
        return NOT_DONE_YET

    def _answer(self, request: Request, path: str, message: Message) -> None:
        gone: Deferred[Any] = request.notifyFinish()
        loses = self._loses()
        try:
            self._users.admit(path, request.getHeader("authorization"))
            if path == "/auth/authenticate":
                answer: Any = {**self._state.header(), **self._users.authenticate(message)}
            else:
                answer = self._state.answer(path, message)
        except EtcdRefused as error:
            answer = _error(request, error)
        if isinstance(answer, Deferred):
            waiting = answer
            key = b"%b/%x" % (decode_bytes(message["name"]), int(message["lease"]))
            self._on_lock(key, request.getClientIP() or "")

            def disconnected(_: Failure) -> None:
                waiting.cancel()

            gone.addErrback(disconnected)
            waiting.addErrback(lambda failure: _refused(request, failure))
            waiting.addCallback(lambda locked: self._later(request, locked, loses=loses))
            return
        gone.addErrback(lambda _: None)
        self._later(request, answer, loses=loses)

    def _later(self, request: Request, answer: Message | None, *, loses: bool) -> None:
        delay = self._delay()

        def send() -> None:
            if request.finished or getattr(request, "_disconnected", False) or answer is None:
                return
            if loses:
                request.loseConnection()
                return
            request.write(orjson.dumps(answer))
            request.finish()

        if delay:
            self._clock.callLater(delay, send)
        else:
            send()


def _error(request: Request, error: EtcdRefused) -> Message:
    request.setResponseCode(_STATUS.get(error.code, HTTPStatus.BAD_REQUEST))
    return {"error": error.message, "code": error.code, "message": error.message}


def _refused(request: Request, failure: Failure) -> Message | None:
    if failure.check(CancelledError):
        return None
    failure.trap(EtcdRefused)
    assert isinstance(failure.value, EtcdRefused)
    return _error(request, failure.value)


def _messages(body: bytes) -> list[Message]:
    """Return the messages of a stream, which follow each other without anything in between."""
    found: list[Message] = orjson.loads(b"[" + body.replace(b"}}{", b"}},{") + b"]")
    return found


class _Watch:
    """The stream of the watches of one connection."""

    def __init__(
        self, state: EtcdState, users: EtcdUsers, request: Request, messages: list[Message]
    ) -> None:
        self._state = state
        self._request = request
        self._watchers: list[Watcher] = []
        self._unwatch = state.watch(self._look)
        request.notifyFinish().addErrback(lambda _: self._unwatch())
        try:
            users.admit("/watch", request.getHeader("authorization"))
        except EtcdRefused:
            denied = "rpc error: code = PermissionDenied desc = etcdserver: permission denied"
            refusal = {"created": True, "canceled": True, "cancel_reason": denied}
            self._send({"result": {**state.header(), **refusal}})
            return
        for message in messages:
            watcher = Watcher(message["create_request"])
            answer, goes_on = state.created(watcher)
            self._send(answer)
            if goes_on:
                self._watchers.append(watcher)
        self._look()

    def _look(self) -> None:
        for watcher in list(self._watchers):
            messages, goes_on = self._state.news(watcher)
            for message in messages:
                self._send(message)
            if not goes_on:
                self._watchers.remove(watcher)

    def _send(self, message: Message) -> None:
        self._request.write(orjson.dumps(message) + b"\n")
