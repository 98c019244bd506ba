"""Answers of the HTTP servers that hbtd asks, read within bounds; why others did not come."""

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

_LONGEST_HEAD = 64 * 1024
"""Bytes that the head of an answer may have."""

# As twisted.web takes it: a line may end without a carriage return.
_END_OF_HEAD = re.compile(rb"\n\r?\n")

_WRAPPERS = (RequestGenerationFailed, RequestTransmissionFailed, ResponseFailed)


class URI(URL):
    """A URL that is a URI already, as checked parameters are.

    hyperlink would take an IPv6 address for a name to be encoded.
    """

    def to_uri(self) -> "URI":
        """Give it as it is."""
        return self


@implementer(IAgent)
class PlainAgent:
    """An agent whose answers are taken as they come.

    treq would have them compressed, and unpack without bounds whatever says that it is.
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
        """Make a request; of an answer that is compressed all the same, nothing is unpacked."""
        plain = Headers() if headers is None else headers.copy()
        plain.removeHeader(b"accept-encoding")
        return self._agent.request(method, uri, plain, bodyProducer).addCallback(_unmarked)


def _unmarked(response: IResponse) -> IResponse:
    response.headers.removeHeader(b"content-encoding")
    return response


class ResponseTooLarge(Exception):
    """An answer with more bytes than it may have."""


class BoundedPool(HTTPConnectionPool):
    """Connections on which the head of an answer is bounded: twisted.web would take any number.

    A larger one ends its connection, and the request fails with `ResponseTooLarge` in wrappers.
    """

    def getConnection(self, key: Any, endpoint: IStreamClientEndpoint) -> Deferred[Any]:
        """Give a connection, made with the endpoint if there is none."""
        return super().getConnection(key, _BoundedEndpoint(endpoint))


@implementer(IStreamClientEndpoint)
class _BoundedEndpoint:
    """An endpoint whose connections have `_BoundedHeads`."""

    def __init__(self, endpoint: IStreamClientEndpoint) -> None:
        self._endpoint = endpoint

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        wrapping = WrappingFactory(protocolFactory)
        wrapping.noisy = False
        wrapping.protocol = _BoundedHeads
        connecting: Deferred[Any] = self._endpoint.connect(wrapping)
        return connecting.addCallback(lambda made: made.wrappedProtocol)


class _BoundedHeads(ProtocolWrapper):
    """Counts what arrives between a request and the empty line that ends its answer's head."""

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
            elif self._received > _LONGEST_HEAD:
                self.transport.abortConnection()
                return
            self._last = seen[-2:]
        super().dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._in_head and self._received > _LONGEST_HEAD:
            reason = Failure(ResponseTooLarge(f"a head of more than {_LONGEST_HEAD} bytes"))
        super().connectionLost(reason)


def read_body(response: IResponse, limit: int) -> Deferred[bytes]:
    """Read an answer's body; giving up on it closes the connection.

    Fails with `ResponseTooLarge` when it has more than `limit` bytes, and as the connection does.
    """
    body = _Body(limit)
    response.deliverBody(body)
    return body.whole


def root_cause(error: BaseException) -> BaseException:
    """Find why a request failed, which twisted.web may have wrapped."""
    while isinstance(error, _WRAPPERS) and error.reasons:
        error = error.reasons[0].value
    return error


def describe_failure(error: BaseException, options: str) -> str:
    """Say in words why a request failed; `options` are those to see to when TLS is the reason."""
    error = root_cause(error)
    if isinstance(error, SSL.Error):
        return f"TLS fails, see {options}: {error}"
    if isinstance(error, ConnectError | ConnectionClosed | DNSLookupError):
        return str(error)
    return f"{type(error).__name__}: {error}"


class _Body(Protocol):
    """Collects the body of an answer."""

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
