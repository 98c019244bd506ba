"""Outgoing HTTP: limited responses, new connections after failures, descriptions of failures.

Requests to HSM, etcd and the issuer of JWTs go through treq, with an agent made of these parts.
"""

import re
from collections.abc import Callable
from typing import Any

from hyperlink import URL
from OpenSSL import SSL
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import (
    ConnectError,
    ConnectingCancelledError,
    ConnectionClosed,
    DNSLookupError,
)
from twisted.internet.interfaces import (
    IConsumer,
    IHandshakeListener,
    IProtocol,
    IProtocolFactory,
    ISSLTransport,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.client import (
    HTTPConnectionPool,
    RequestGenerationFailed,
    RequestTransmissionFailed,
    ResponseFailed,
    ResponseNeverReceived,
)
from twisted.web.http import INTERNAL_SERVER_ERROR
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from hbtd.net.bodies import ResponseTooLarge
from hbtd.runtime.deadline import DeadlineExceeded

_MAX_HEAD = 64 * 1024
"""The most bytes in the head of a response, which is its status line and header fields."""

# As twisted.web parses it: a line may end without a carriage return.
_END_OF_HEAD = re.compile(rb"\n\r?\n")

# HTTP/1.1 503 Service Unavailable
_STATUS_LINE = re.compile(rb"HTTP/\d\.\d (\d{3})\b")

# Statuses below 500 by which a server says "not now" or "not here": another one may be better off.
_NOT_NOW = frozenset({408, 421, 425, 429})

# What OpenSSL says when the first bytes of the answer are no TLS record.
_NOT_TLS = ("wrong version number", "http request", "packet length too long")

_WRAPPERS = (RequestGenerationFailed, RequestTransmissionFailed, ResponseFailed)


class URI(URL):
    """A URL that is sent exactly as it is written.

    The base class would try to encode an IPv6 address as if it were a host name. The URLs in hbtd's
    parameters have been validated already.
    """

    def to_uri(self) -> "URI":
        """Return this URI unchanged."""
        return self


@implementer(IAgent)
class PlainAgent:
    """An agent that keeps treq from decompressing responses, and from storing cookies.

    treq would ask for compressed responses, and decompress them without a limit of size. It would
    also send all cookies that it ever received: if a server or gateway sets another cookie with
    each response, requests would grow until they are always refused.
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

        The arguments and the result are those of `IAgent.request`. If the server compresses the
        response all the same, its body stays compressed.
        """
        plain = Headers() if headers is None else headers.copy()
        plain.removeHeader(b"accept-encoding")
        return self._agent.request(method, uri, plain, bodyProducer).addCallback(_plain)


def _plain(response: IResponse) -> IResponse:
    for field in (b"content-encoding", b"set-cookie"):
        response.headers.removeHeader(field)
    return response


@implementer(IBodyProducer)
class WholeBody:
    """A request body that is written at once.

    treq's own class writes a body in portions, for which it uses the global reactor even if the
    agent has another one. The bodies of hbtd's requests are in memory anyway.
    """

    def __init__(self, body: bytes) -> None:
        self.length = len(body)
        self._body = body

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """Write the body to `consumer`; return a Deferred that has already fired."""
        consumer.write(self._body)
        return succeed(None)

    def pauseProducing(self) -> None:
        """Do nothing: the whole body has been written already."""

    def resumeProducing(self) -> None:
        """Do nothing: the whole body has been written already."""

    def stopProducing(self) -> None:
        """Do nothing: the whole body has been written already."""


class NameNotLookedUp(Exception):
    """Raised when a request times out while the server's name is being looked up."""


class HandshakeUnfinished(Exception):
    """Raised when a request times out during the TLS handshake, before the request was sent."""


class BoundedPool(HTTPConnectionPool):
    """A connection pool that limits a response's head to 64 KiB; twisted.web has no such limit.

    If a head is larger, the connection is aborted and the request fails with `ResponseTooLarge`,
    wrapped in exceptions of twisted.web (see `root_cause`).

    After a response with the status 408, 421, 425, 429 or 5xx, the connection is not used again,
    and idle connections are closed. The server's name may stand for several servers, and only a new
    connection, for which the name is looked up again, can reach another of them.
    """

    def getConnection(self, key: Any, endpoint: IStreamClientEndpoint) -> Deferred[Any]:
        """Return a Deferred that fires with an idle connection or, if none is idle, with a new one.

        A new connection is made to `endpoint`.
        """
        return super().getConnection(key, _BoundedEndpoint(endpoint, self._close_idle))

    def _close_idle(self) -> None:
        self.closeCachedConnections().addErrback(lambda failure: None)


@implementer(IStreamClientEndpoint)
class _BoundedEndpoint:
    """An endpoint whose connections limit the size of a response's head.

    A connection counts as made when its TLS handshake, if any, is finished; nothing is sent before.
    """

    def __init__(self, endpoint: IStreamClientEndpoint, on_not_now: Callable[[], None]) -> None:
        self._endpoint = endpoint
        self._on_not_now = on_not_now

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Return a Deferred that fires with the protocol of a new connection.

        If it is cancelled while the server's name is looked up, it fails with `NameNotLookedUp`.
        With Twisted's `DNSLookupError`, as if there were no such name, the caller would try another
        server although nobody waits for the connection any more. If the Deferred is cancelled
        during the TLS handshake, it fails with `HandshakeUnfinished`.
        """
        wrapping = WrappingFactory(protocolFactory)
        wrapping.noisy = False
        wrapping.protocol = self._wrap
        given_up = False
        connected: _BoundedHeads | None = None

        def shaken(protocol: IProtocol) -> None:
            if not outcome.called:
                outcome.callback(protocol)

        def refused(failure: Failure) -> None:
            if not outcome.called:  # as twisted.web does, which would have begun the request
                outcome.errback(ResponseNeverReceived([failure]))

        def give_up(_: object) -> None:
            nonlocal given_up
            given_up = True
            if connected is None:
                connecting.cancel()
            else:
                connected.transport.abortConnection()
                outcome.errback(HandshakeUnfinished("the TLS handshake goes on"))

        def settle(result: Any) -> None:
            nonlocal connected
            if outcome.called:
                return
            if not isinstance(result, Failure):
                connected = result
                result.handshake.addCallbacks(shaken, refused)
            elif given_up and result.check(DNSLookupError):
                outcome.errback(NameNotLookedUp("the name of the server is still looked up"))
            else:
                outcome.errback(result)

        outcome: Deferred[IProtocol] = Deferred(give_up)
        connecting: Deferred[Any] = self._endpoint.connect(wrapping)
        connecting.addBoth(settle)
        return outcome

    def _wrap(self, factory: Any, wrapped: IProtocol) -> "_BoundedHeads":
        return _BoundedHeads(factory, wrapped, self._on_not_now)


@implementer(IHandshakeListener)
class _BoundedHeads(ProtocolWrapper):
    """A protocol that aborts its connection when the head of a response is too large.

    The head is all that is received between a request and the body of the response, the heads of
    interim responses (1xx) included. If the status says "not now", as 503 does, `on_not_now` is
    called, and the connection is closed at the end of the response.
    """

    _in_head = False
    _received = 0
    _last = b""
    # The beginning of a status line whose end has yet to arrive; `None` after that.
    _first: bytes | None = None
    _interim = False

    transport: Any

    def __init__(
        self,
        factory: "WrappingFactory[_BoundedHeads]",
        wrapped: IProtocol,
        on_not_now: Callable[[], None],
    ) -> None:
        super().__init__(factory, wrapped)
        self._on_not_now = on_not_now
        self.handshake: Deferred[IProtocol] = Deferred()
        """Fires with the wrapped protocol when the TLS handshake is done, or need not be."""

    def makeConnection(self, transport: Any) -> None:
        super().makeConnection(transport)
        if not ISSLTransport.providedBy(transport):
            self.handshake.callback(self.wrappedProtocol)

    def handshakeCompleted(self) -> None:
        """Note that the TLS handshake is done."""
        if not self.handshake.called:
            self.handshake.callback(self.wrappedProtocol)

    def write(self, data: bytes) -> None:
        self._expect()
        super().write(data)

    def writeSequence(self, data: Any) -> None:
        self._expect()
        super().writeSequence(data)

    def stopProducing(self) -> None:
        """Abort the connection: nobody wants the rest of the response.

        `loseConnection` would not do. Over TLS it closes the connection only when the server has
        answered, or closed it, and a server that hangs does neither.
        """
        self.transport.abortConnection()

    def _expect(self) -> None:
        self._in_head, self._received, self._last, self._first = True, 0, b"", b""

    def dataReceived(self, data: bytes) -> None:
        while self._in_head and data:
            data = self._receive_head(data)
        if data:
            super().dataReceived(data)

    def _receive_head(self, data: bytes) -> bytes:
        """Pass on received data that begin in a head; return those that begin the next head.

        Data are returned only if they follow the head of an interim response (1xx). What follows
        any other head is the body, and is passed on, too. If the head is too large, abort the
        connection.
        """
        seen = self._last + data
        end = _END_OF_HEAD.search(seen)
        size = len(data) if end is None else end.end() - len(self._last)
        head, rest = data[:size], data[size:]
        self._received += len(head)
        if self._received > _MAX_HEAD:
            self.transport.abortConnection()
            return b""
        self._last = seen[-2:]
        head = self._read_status(head)
        if end is not None:
            self._in_head = self._interim
            self._last, self._first = b"", b""
        if not self._in_head:
            head, rest = head + rest, b""
        if head:
            super().dataReceived(head)
        return rest

    def _read_status(self, data: bytes) -> bytes:
        """Look for the status line of a response in received data; return the data to pass on.

        If the status says "not now", as 503 does, `Connection: close` is added, so that the client
        of twisted.web closes the connection at the end of the response.
        """
        if self._first is None:
            return data
        line, end, rest = (self._first + data).partition(b"\n")
        if not end:
            self._first = line
            return b""
        self._first = None
        found = _STATUS_LINE.match(line)
        status = 0 if found is None else int(found[1])
        self._interim = 100 <= status < 200
        if not _says_not_now(status):
            return line + end + rest
        self._on_not_now()
        return line + end + b"Connection: close\r\n" + rest

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._in_head and self._received > _MAX_HEAD:
            reason = Failure(ResponseTooLarge(f"a head of more than {_MAX_HEAD} bytes"))
        super().connectionLost(reason)
        if not self.handshake.called:
            self.handshake.errback(reason)


def _says_not_now(status: int) -> bool:
    return status >= INTERNAL_SERVER_ERROR or status in _NOT_NOW


def root_cause(error: BaseException) -> BaseException:
    """Return the error that made a request fail, without twisted.web's exceptions around it."""
    while isinstance(error, _WRAPPERS) and error.reasons:
        error = error.reasons[0].value
    return error


def describe_failure(error: BaseException, options: str) -> str:
    """Return a phrase that says why a request failed.

    `options` are the names of hbtd's options for TLS with this server. If TLS failed, the phrase
    names them, so that operators check them.
    """
    error = root_cause(error)
    if isinstance(error, SSL.Error):
        return _describe_tls_failure(error, options)
    if type(error).__module__.partition(".")[0] == "service_identity":  # Twisted brings it
        return "TLS fails: the server's certificate names other hosts than the URL"
    if isinstance(error, ConnectError | ConnectionClosed | DNSLookupError):
        return str(error)
    return f"{type(error).__name__}: {error}"


def why_not_sent(late: DeadlineExceeded) -> str | None:
    """Return a phrase that says why a request was not sent before its deadline.

    Return `None` if the request may have been sent.
    """
    cause = None if late.__cause__ is None else root_cause(late.__cause__)
    if isinstance(cause, NameNotLookedUp):
        return f"its name was not looked up within {late.seconds:g} s: no nameserver has answered"
    if isinstance(cause, ConnectingCancelledError):
        return f"no connection was made within {late.seconds:g} s"
    if isinstance(cause, HandshakeUnfinished):
        return (
            f"the server has not finished the TLS handshake within {late.seconds:g} s; is http://"
            " meant, not https://?"
        )
    return None


def _describe_tls_failure(error: SSL.Error, options: str) -> str:
    """Return a phrase that says why a handshake failed, and what to check."""
    said = str(error)
    if any(reason in said for reason in _NOT_TLS):
        return f"TLS fails: the server answers without TLS; is http:// meant, not https://? {said}"
    if "certificate verify failed" in said:
        why = "none of its authorities has issued the server's certificate, or it is not valid now"
        return f"TLS fails, see {options}: {why}: {said}"
    return f"TLS fails, see {options}: {said}"
