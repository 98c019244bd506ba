"""Requests to etcd's JSON gateway, and the choice of the endpoint that they are sent to.

The time that a request takes and the size of its answer are limited.
"""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NamedTuple, NoReturn, TypeVar

import orjson
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.web.iweb import IResponse

from hbtd.etcd.errors import (
    Compacted,
    EtcdRefused,
    EtcdUnavailable,
    TokenRefused,
    error_in,
    one_line,
)
from hbtd.etcd.messages import Message
from hbtd.etcd.session import Session
from hbtd.net.bodies import ResponseTooLarge, read_body
from hbtd.net.http_client import URI, describe_failure, root_cause, why_not_sent
from hbtd.net.own_secrets import Login, SecretFile
from hbtd.runtime.deadline import DeadlineExceeded, bounded

_T = TypeVar("_T")

MAX_ANSWER = 64 * 1024 * 1024
"""The maximum size of an answer, in bytes."""

NOT_ETCD = (ValueError, LookupError, TypeError, AttributeError)
"""The exceptions that reading an answer may raise if the answer does not come from etcd."""

# If one of these is raised, nothing was sent: the request can safely go to another endpoint.
_NOT_SENT = (ConnectError, DNSLookupError)

_PREFIX = "/v3"

_TLS_OPTIONS = "--kv_ca and --kv_cert"
"""The options of hbtd that may be wrong if TLS fails: trusted CAs, and client certificate."""


_AUTHENTICATE = "/auth/authenticate"


class Opened(NamedTuple):
    """An HTTP response in which etcd streams answers, and the endpoint that sends the response."""

    response: IResponse
    endpoint: int
    """The index, in the gateway's list, of the endpoint that sends the stream.

    `Gateway.unavailable` takes it as an argument.
    """

    token: str | None = None
    """The authentication token that was sent, for `Gateway.forget`; `None` without a login."""


class _Attempt:
    """The state of one call: the number of the endpoint that was tried last, and the token."""

    endpoint = 0
    token: str | None = None


class Gateway:
    """Sends requests to an endpoint of an etcd cluster or, after a failure, to the next endpoint.

    A request that can't be sent goes to the next endpoint at once. A request that fails after it
    was sent may have been carried out, so it is not repeated, but later requests go to the next
    endpoint.

    An endpoint that does not respond to connection attempts uses up all the time of a call, unless
    the `connectTimeout` of the HTTP client's agent is shorter. The look-up of an endpoint's host
    name may use up all the time of a call, too. The look-up then continues, and its result is used
    by a later call (see `hbtd.net.names`).

    A call that is cancelled fails with `CancelledError`, and its connection is closed.

    With a login, calls carry an authentication token. A call whose token is refused has had no
    effect, and is repeated once with a new token, within the same time limit.
    """

    def __init__(
        self,
        http: HTTPClient,
        clock: IReactorTime,
        endpoints: Sequence[str],
        timeout: float,
        user_agent: str,
        login: SecretFile[Login] | None = None,
    ) -> None:
        if not endpoints:
            raise ValueError("no etcd endpoints")
        self._http = http
        self._clock = clock
        self._endpoints = [each.rstrip("/") for each in endpoints]
        self._timeout = timeout
        self._preferred = 0
        self._session = None if login is None else Session(login, clock)
        self._headers: dict[str | bytes, str | bytes] = {
            "User-Agent": user_agent,
            "Content-Type": "application/json",
            # A member that is cut off from its cluster then fails at once instead of waiting, and
            # ends its watches instead of leaving them silent.
            "Grpc-Metadata-hasleader": "true",
        }

    def call(
        self,
        path: str,
        message: Message,
        read: Callable[[Any], _T],
        timeout: float | None = None,
    ) -> Deferred[_T]:
        """Make a request; return the result of `read`, called with the JSON of the answer.

        The call takes at most `timeout` seconds, by default the `timeout` given to `__init__`. The
        Deferred fails with `EtcdUnavailable` if etcd fails or `read` raises one of `NOT_ETCD`, with
        `EtcdRefused` if etcd refuses the request, and with `Compacted` if etcd no longer has the
        revision that was asked for.
        """
        attempt = _Attempt()
        call = self._call(attempt, path, orjson.dumps(message), read)
        return self._bounded(call, attempt, self._timeout if timeout is None else timeout)

    def get(self, path: str) -> Deferred[bytes]:
        """Return the document at a path outside of the gateway's API, such as etcd's metrics.

        The Deferred fails with `EtcdUnavailable` if the document can't be read. Such a failure does
        not make later requests go to the next endpoint, as a failed `call` does.
        """

        async def get() -> bytes:
            url = f"{self._endpoints[self._preferred]}{path}"
            try:
                response = await self._request("GET", url, None)
                content = await _content(response)
            except CancelledError:
                raise
            except Exception as error:
                raise EtcdUnavailable(f"{url} {describe(error)}") from error
            if response.code != 200:
                raise EtcdUnavailable(f"{url} answers {response.code}")
            return content

        def failed(failure: Failure) -> NoReturn:
            failure.trap(DeadlineExceeded)
            raise EtcdUnavailable(f"{path}: {failure.getErrorMessage()}") from failure.value

        return bounded(self._clock, self._timeout, get()).addErrback(failed)

    def open(self, path: str, messages: Sequence[Message], timeout: float) -> Deferred[Opened]:
        """Send a request that consists of `messages`, and return the stream of answers to it.

        No further messages can be sent on the stream. The Deferred fires once the response's head
        has arrived and its body can be read. After `timeout` seconds without a head, it fails with
        `EtcdUnavailable`. Its other errors are those of `call`.
        """
        attempt = _Attempt()
        body = b"".join(orjson.dumps(each) for each in messages)
        return self._bounded(self._open(attempt, path, body), attempt, timeout)

    def unavailable(
        self, endpoint: int, reason: str, *, timed_out: bool = False
    ) -> EtcdUnavailable:
        """Send later requests to another endpoint; return an error that says why `endpoint` failed.

        `endpoint` is the index of that endpoint in the gateway's list, as in `Opened.endpoint`.
        """
        self._pass_over(endpoint)
        return EtcdUnavailable(f"{self._endpoints[endpoint]} {reason}", timed_out=timed_out)

    def forget(self, token: str | None) -> None:
        """Stop using `token`, which etcd may no longer accept; later calls get a new token first.

        Do nothing if another token is in use already.
        """
        if self._session is not None:
            self._session.forget(token)

    async def _call(
        self, attempt: _Attempt, path: str, body: bytes, read: Callable[[Any], _T]
    ) -> _T:
        response, *_ = await self._open(attempt, path, body)
        return await self._read(response, read)

    async def _read(self, response: IResponse, read: Callable[[Any], _T]) -> _T:
        content = await _content(response)
        try:
            answer = orjson.loads(content)
            # A stream of one message, such as the answer to a renewal, has it in "result".
            failure = error_in(answer) if "error" in answer else None
            if failure is None:
                return read(answer)
        except NOT_ETCD as error:
            raise EtcdUnavailable(f"does not answer as etcd does: {_begin(content)}") from error
        raise failure

    async def _open(self, attempt: _Attempt, path: str, body: bytes) -> Opened:
        if self._session is None:
            return await self._try(attempt, path, body)
        attempt.token = await self._token(attempt)
        try:
            return await self._try(attempt, path, body)
        except TokenRefused:
            self._session.forget(attempt.token)
        attempt.token = await self._token(attempt)
        return await self._try(attempt, path, body)

    async def _token(self, attempt: _Attempt) -> str:
        assert self._session is not None

        async def authenticate(login: Login) -> str:
            attempt.token = None
            message = {"name": login.user, "password": login.secret}
            opened = await self._try(attempt, _AUTHENTICATE, orjson.dumps(message))
            return await self._read(opened.response, lambda answer: str(answer["token"]))

        return await self._session.token(authenticate)

    async def _try(self, attempt: _Attempt, path: str, body: bytes) -> Opened:
        response = await self._send(attempt, path, body)
        if response.code == 200:
            return Opened(response, attempt.endpoint, attempt.token)
        content = await _content(response)
        try:
            failure = error_in(orjson.loads(content))
        except ValueError:
            failure = None
        raise failure or EtcdUnavailable(f"answers {response.code} {_begin(content)}")

    async def _send(self, attempt: _Attempt, path: str, body: bytes) -> IResponse:
        last = len(self._endpoints) - 1
        first = self._preferred
        for count in range(last + 1):
            attempt.endpoint = (first + count) % (last + 1)
            try:
                url = f"{self._endpoints[attempt.endpoint]}{_PREFIX}{path}"
                return await self._request("POST", url, body, attempt.token)
            except _NOT_SENT:
                if count == last:
                    raise
                self._pass_over(attempt.endpoint)
        raise AssertionError("there are no endpoints")

    async def _request(
        self, method: str, url: str, body: bytes | None, token: str | None = None
    ) -> IResponse:
        return await self._http.request(
            method,
            URI.from_text(url),
            headers={**self._headers, "Authorization": token} if token else self._headers,
            data=body,
            allow_redirects=False,
            unbuffered=True,
            reactor=self._clock,  # type: ignore[arg-type]  # needs IReactorTime only
        )

    def _pass_over(self, endpoint: int) -> None:
        # Otherwise another call has failed there and has passed over it already.
        if self._preferred == endpoint:
            self._preferred = (endpoint + 1) % len(self._endpoints)

    def _bounded(
        self, call: Coroutine[Deferred[Any], Any, _T], attempt: _Attempt, timeout: float
    ) -> Deferred[_T]:
        """Await `call`, an HTTP request, for at most `timeout` seconds.

        `attempt` has the endpoint that a failure is attributed to. The Deferred fails with the
        errors of `Gateway.call`.
        """

        def failed(failure: Failure) -> NoReturn:
            error = failure.value
            if isinstance(error, EtcdRefused | Compacted | CancelledError):
                raise error
            assert error is not None
            timed_out = isinstance(error, DeadlineExceeded)
            if timed_out:
                # An etcd that has lost its data waits, before it answers, for the change at which
                # it would have given this token to somebody.
                self.forget(attempt.token)
            reason = describe(error)
            raise self.unavailable(attempt.endpoint, reason, timed_out=timed_out) from error

        return bounded(self._clock, timeout, call).addErrback(failed)


async def _content(response: IResponse) -> bytes:
    """Return the body of a response; raise `EtcdUnavailable` if the body is too large."""
    try:
        return await read_body(response, MAX_ANSWER)
    except ResponseTooLarge as error:
        raise EtcdUnavailable(f"answers with {error}") from error


def _begin(content: bytes) -> str:
    return one_line(content[:1000].decode("utf-8", "replace"))


def describe(error: BaseException) -> str:
    """Return why a request failed, as the predicate of a sentence: "can't be reached: ..."."""
    if isinstance(error, DeadlineExceeded):
        unsent = why_not_sent(error)
        return (
            f"can't be reached: {unsent}" if unsent else f"does not answer within {error.seconds} s"
        )
    error = root_cause(error)
    if isinstance(error, EtcdUnavailable):
        return str(error)
    return f"can't be reached: {one_line(describe_failure(error, _TLS_OPTIONS))}"
