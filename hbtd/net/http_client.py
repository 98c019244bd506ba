"""Outgoing HTTP: responses of bounded size, and descriptions of failed requests.

Requests to HSM, etcd and the issuer of JWTs go through treq, with an agent made of these parts.
"""

import re
from typing import Any

from hyperlink import URL
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, ConnectionClosed, DNSLookupError
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.client import (
    HTTPConnectionPool,
    RequestGenerationFailed,
    RequestTransmissionFailed,
    ResponseDone,
    ResponseFailed,
)
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer

_MAX_HEAD = 64 * 1024
"""The most bytes in the head of a response, which is its status line and header fields."""

# As twisted.web parses it: a line may end without a carriage return.
_END_OF_HEAD = re.compile(rb"\n\r?\n")

_WRAPPERS = (RequestGenerationFailed, RequestTransmissionFailed, ResponseFailed)


class URI(URL):
    """A URL that is used as it is, without another encoding; validated parameters need none.

    The base class would try to encode an IPv6 address as if it were a host name.
    """

    def to_uri(self) -> "URI":
        """Return this URI unchanged."""
        return self


@implementer(IAgent)
class PlainAgent:
    """An agent that does not ask for compressed responses and keeps treq from decompressing any.

    treq would ask for them, and would decompress without a limit to the size.
    """

    def __init__(self, agent: IAgent) -> None:
        self._agent = agent

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        """Make a request with the wrapped agent.

        If the server compresses the response all the same, its body stays compressed.
        """
        plain = Headers() if headers is None else headers.copy()
        plain.removeHeader(b"accept-encoding")
        return self._agent.request(method, uri, plain, bodyProducer).addCallback(_without_encoding)


def _without_encoding(response: IResponse) -> IResponse:
    response.headers.removeHeader(b"content-encoding")
    return response


class ResponseTooLarge(Exception):
    """A response is larger than allowed; the message names the limit."""


class BoundedPool(HTTPConnectionPool):
    """A connection pool that limits the size of a response's head, which twisted.web does not.

    If a head is larger, its connection is aborted and the request fails with `ResponseTooLarge`,
    wrapped in exceptions of twisted.web (see `root_cause`).
    """

    def getConnection(self, key: Any, endpoint: IStreamClientEndpoint) -> Deferred[Any]:
        """Return a Deferred of an idle connection or, if there is none, a new one to `endpoint`."""
        return super().getConnection(key, _BoundedEndpoint(endpoint))


@implementer(IStreamClientEndpoint)
class _BoundedEndpoint:
    """An endpoint whose connections limit the size of a response's head."""

    def __init__(self, endpoint: IStreamClientEndpoint) -> None:
        self._endpoint = endpoint

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        wrapping = WrappingFactory(protocolFactory)
        wrapping.noisy = False
        wrapping.protocol = _BoundedHeads
        connecting: Deferred[Any] = self._endpoint.connect(wrapping)
        return connecting.addCallback(lambda made: made.wrappedProtocol)


class _BoundedHeads(ProtocolWrapper):
    """A protocol that aborts its connection when the head of a response is too large.

    The head is all that is received after a request, up to the first empty line.
    """

    _in_head = False
    _received = 0
    _last = b""

    transport: Any

    def write(self, data: bytes) -> None:
        self._expect()
        super().write(data)

    def writeSequence(self, data: Any) -> None:
        self._expect()
        super().writeSequence(data)

    def _expect(self) -> None:
        self._in_head, self._received, self._last = True, 0, b""

    def dataReceived(self, data: bytes) -> None:
        if self._in_head:
            self._received += len(data)
            seen = self._last + data
            if _END_OF_HEAD.search(seen):
                self._in_head = False
            elif self._received > _MAX_HEAD:
                self.transport.abortConnection()
                return
            self._last = seen[-2:]
        super().dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._in_head and self._received > _MAX_HEAD:
            reason = Failure(ResponseTooLarge(f"a head of more than {_MAX_HEAD} bytes"))
        super().connectionLost(reason)


def read_body(response: IResponse, limit: int) -> Deferred[bytes]:
    """Return a Deferred of the body of a response.

    The Deferred fails with `ResponseTooLarge` if the body has more than `limit` bytes, and with the
    connection's error if the connection is lost. Cancelling the Deferred closes the connection.
    """
    body = _Body(limit)
    response.deliverBody(body)
    return body.whole


def root_cause(error: BaseException) -> BaseException:
    """Return the error that made a request fail, without twisted.web's exceptions around it."""
    while isinstance(error, _WRAPPERS) and error.reasons:
        error = error.reasons[0].value
    return error


def describe_failure(error: BaseException, options: str) -> str:
    """Return a phrase that says why a request failed.

    If TLS has failed, the phrase contains `options`: the names of hbtd's options to check.
    """
    error = root_cause(error)
    if isinstance(error, SSL.Error):
        return f"TLS fails, see {options}: {error}"
    if isinstance(error, ConnectError | ConnectionClosed | DNSLookupError):
        return str(error)
    return f"{type(error).__name__}: {error}"


class _Body(Protocol):
    """A protocol that collects the body of a response; `whole` fires with it."""

    def __init__(self, limit: int) -> None:
        self.whole: Deferred[bytes] = Deferred(lambda _: self._close())
        self._limit = limit
        self._received = bytearray()

    def _close(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        self._received += data
        if len(self._received) > self._limit and not self.whole.called:
            self._close()
            self.whole.errback(ResponseTooLarge(f"more than {self._limit} bytes"))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.whole.called:
            return
        if reason.check(ResponseDone, PotentialDataLoss):
            self.whole.callback(bytes(self._received))
        else:
            self.whole.errback(reason)
