"""Requests to etcd's JSON gateway: bounded, to whichever endpoint answers."""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NamedTuple, TypeVar

import orjson
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError, ConnectingCancelledError, DNSLookupError
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.web.iweb import IResponse

from hbtd.etcd.errors import Compacted, EtcdRefused, EtcdUnavailable, error_in, one_line
from hbtd.etcd.messages import Message
from hbtd.net.http_client import URI, ResponseTooLarge, describe_failure, read_body, root_cause

_T = TypeVar("_T")

MAX_ANSWER = 64 * 1024 * 1024
"""Bytes of an answer that are read."""

NOT_ETCD = (ValueError, LookupError, TypeError, AttributeError)
"""What reading an answer raises that is something else than etcd says."""

# With these no byte of the request has left, so that it may safely go elsewhere.
_NOT_SENT = (ConnectError, DNSLookupError)

_PREFIX = "/v3"

_TLS_OPTIONS = "--kv_ca and --kv_cert"
"""What may be wrong when TLS fails: whom we trust, or what we show, which etcd may ask for."""


class Opened(NamedTuple):
    """A stream that has begun."""

    response: IResponse
    endpoint: int
    """Who answers, for `Gateway.unavailable`."""


class _Asked:
    """Whom a call has turned to last, and whether its time is up."""

    endpoint = 0
    expired = False


class Gateway:
    """A cluster's gateways, of which one is asked until it fails.

    A request that can't be sent goes to the next endpoint at once. One that fails later may have
    been carried out, so it is not sent again, but the requests after it go to the next endpoint.

    An endpoint that swallows connection attempts uses up the time of the call unless connecting
    (the treq client's agent's `connectTimeout`) is bounded more narrowly than calls are.

    A call that is cancelled fails with `CancelledError`, and its connection is closed.
    """

    def __init__(
        self,
        http: HTTPClient,
        clock: IReactorTime,
        endpoints: Sequence[str],
        timeout: float,
        user_agent: str,
    ) -> None:
        if not endpoints:
            raise ValueError("no etcd endpoints")
        self._http = http
        self._clock = clock
        self._endpoints = [each.rstrip("/") for each in endpoints]
        self._timeout = timeout
        self._preferred = 0
        self._headers: dict[str | bytes, str | bytes] = {
            "User-Agent": user_agent,
            "Content-Type": "application/json",
            # A member that is cut off from its cluster then says so at once instead of trying its
            # luck, and ends its watches instead of letting them fall silent.
            "Grpc-Metadata-hasleader": "true",
        }

    def call(
        self,
        path: str,
        message: Message,
        read: Callable[[Any], _T],
        timeout: float | None = None,
    ) -> Deferred[_T]:
        """Make a request and read its answer's JSON, all within `timeout` seconds.

        None given: what this was made with. What `read` raises of `NOT_ETCD` is the fault of who
        answered. Fails with `EtcdUnavailable`, `EtcdRefused` or `Compacted`.
        """
        asked = _Asked()
        call = self._call(asked, path, orjson.dumps(message), read)
        return self._bounded(call, asked, self._timeout if timeout is None else timeout)

    def open(self, path: str, messages: Sequence[Message], timeout: float) -> Deferred[Opened]:
        """Begin a stream; fires once etcd has begun it, the response's body yet to be read.

        etcd takes no further messages after these. Fails as `call` does, after `timeout` seconds
        at the latest.
        """
        asked = _Asked()
        body = b"".join(orjson.dumps(each) for each in messages)
        return self._bounded(self._open(asked, path, body), asked, timeout)

    def unavailable(
        self, endpoint: int, reason: str, *, timed_out: bool = False
    ) -> EtcdUnavailable:
        """Have later requests ask another endpoint than this; gives the error that says why."""
        self._pass_over(endpoint)
        return EtcdUnavailable(f"{self._endpoints[endpoint]} {reason}", timed_out=timed_out)

    async def _call(self, asked: _Asked, path: str, body: bytes, read: Callable[[Any], _T]) -> _T:
        response, _ = await self._open(asked, path, body)
        content = await _content(response)
        try:
            said = orjson.loads(content)
            # A stream's only message, as of a lease's keeping alive, is wrapped.
            failure = error_in(said) if "error" in said else None
            if failure is None:
                return read(said)
        except NOT_ETCD as error:
            raise EtcdUnavailable(f"does not answer as etcd does: {_begin(content)}") from error
        raise failure

    async def _open(self, asked: _Asked, path: str, body: bytes) -> Opened:
        response = await self._send(asked, path, body)
        if response.code == 200:
            return Opened(response, asked.endpoint)
        content = await _content(response)
        try:
            failure = error_in(orjson.loads(content))
        except ValueError:
            failure = None
        raise failure or EtcdUnavailable(f"answers {response.code} {_begin(content)}")

    async def _send(self, asked: _Asked, path: str, body: bytes) -> IResponse:
        last = len(self._endpoints) - 1
        first = self._preferred
        for count in range(last + 1):
            asked.endpoint = (first + count) % (last + 1)
            try:
                return await self._http.request(
                    "POST",
                    URI.from_text(f"{self._endpoints[asked.endpoint]}{_PREFIX}{path}"),
                    headers=self._headers,
                    data=body,
                    allow_redirects=False,
                    unbuffered=True,
                    reactor=self._clock,  # type: ignore[arg-type]  # wants less than it says
                )
            except _NOT_SENT:
                if count == last:
                    raise
                self._pass_over(asked.endpoint)
        raise AssertionError("there are no endpoints")

    def _pass_over(self, endpoint: int) -> None:
        # Unless others have failed there before and moved on already.
        if self._preferred == endpoint:
            self._preferred = (endpoint + 1) % len(self._endpoints)

    def _bounded(
        self, call: Coroutine[Deferred[Any], Any, _T], asked: _Asked, timeout: float
    ) -> Deferred[_T]:
        """Let a call take so many seconds, and say in our own words how it failed."""

        def expire() -> None:
            asked.expired = True
            deferred.cancel()

        def settle(result: _T | Failure) -> _T | Failure:
            if timer.active():
                timer.cancel()
            if not isinstance(result, Failure) or result.check(EtcdRefused, Compacted):
                return result
            assert result.value is not None
            error = root_cause(result.value)
            if isinstance(error, CancelledError | ConnectingCancelledError) and not asked.expired:
                raise CancelledError from result.value
            reason = f"does not answer within {timeout} s" if asked.expired else words(error)
            raise self.unavailable(
                asked.endpoint, reason, timed_out=asked.expired
            ) from result.value

        # Not `addTimeout`: what a cancelled request fails with, treq and Twisted wrap in many ways.
        deferred = Deferred.fromCoroutine(call)
        timer = self._clock.callLater(timeout, expire)
        return deferred.addBoth(settle)


async def _content(response: IResponse) -> bytes:
    """Read an answer's body; raises `EtcdUnavailable` when it is too large."""
    try:
        return await read_body(response, MAX_ANSWER)
    except ResponseTooLarge as error:
        raise EtcdUnavailable(f"answers with {error}") from error


def _begin(content: bytes) -> str:
    return one_line(content[:1000].decode("utf-8", "replace"))


def words(error: BaseException) -> str:
    """Say why a request failed, as what follows an endpoint's name."""
    error = root_cause(error)
    if isinstance(error, EtcdUnavailable):
        return str(error)
    return f"can't be reached: {one_line(describe_failure(error, _TLS_OPTIONS))}"
