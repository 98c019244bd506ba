"""HTTP channels: subclasses of twisted.web's `HTTPChannel` that refuse ambiguous requests.

A request is ambiguous if other HTTP servers, such as proxies, may read it differently.
"""

from collections.abc import Iterable
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.protocol import connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.http_headers import Headers
from twisted.web.server import Request

from hbtd.server.limits import LARGE_HEAD, MAX_FIELDS

_LONGEST_LENGTH = 18
"""The most digits that a `Content-Length` may have."""


class StrictChannel(HTTPChannel):
    """An HTTP channel that refuses requests which other HTTP servers may read differently.

    It answers 400 to requests with folded lines (RFC 9112 5.2), with a CR or LF within a line, or
    with a transfer coding other than `chunked`. It answers 431 if the head of a request is too
    large. After either answer it closes the connection.
    """

    site: Any
    """The `LimitedSite` that answers the requests."""

    maxHeaders = MAX_FIELDS
    source: str | None = None
    """The client's IP address; `None` if hbtd does not know it, as on a Unix socket."""
    fresh = False
    """Whether no heartbeat has been accepted on the connection so far."""
    ending = False
    """Whether to close the connection after the next answer, even if the client asks otherwise."""
    _head_size = 0
    _ending = False
    _head = b""
    """The head of an answer, kept to be written together with the beginning of the body."""

    def dataReceived(self, data: bytes) -> None:
        """Process received data; refuse at once a line that ends with LF instead of CR LF.

        twisted.web would wait for CR LF until the request is too large or too slow (RFC 9112 2.2).
        """
        within = self._busyReceiving  # a call from within another, which goes on afterwards
        super().dataReceived(data)
        if within or self.paused or self._ending:
            return
        if self.line_mode and b"\n" in self._buffer:
            self._refuse()

    def turn(self) -> Deferred[None]:
        """Return a Deferred that fires in the reactor's next iteration."""
        return deferLater(self.site.reactor, 0)

    def heartbeat_taken(self) -> None:
        """Do nothing. Subclasses record that a heartbeat was accepted on the connection."""

    def checkPersistence(self, request: Request, version: bytes) -> bool:
        """Return whether the connection stays open after the answer to `request` (RFC 9112 9.3)."""
        fields = request.requestHeaders.getRawHeaders(b"connection") or []
        options = {option.strip(b" \t").lower() for option in b",".join(fields).split(b",")}
        if b"close" in options:
            request.responseHeaders.setRawHeaders(b"Connection", [b"close"])
            return False
        if version == b"HTTP/1.0" and b"keep-alive" in options:
            request.responseHeaders.setRawHeaders(b"Connection", [b"keep-alive"])
            return True
        return version == b"HTTP/1.1"

    def connectionMade(self) -> None:
        """Set the largest size of a line and of a request's head, and begin to read requests."""
        # Of a line, and of what may be the beginning of one; heads are counted in lineReceived.
        self.MAX_LENGTH = self.totalHeadersSize = self.site.limits.header_bytes
        super().connectionMade()

    def lineReceived(self, line: bytes) -> None:
        """Process a line of a request's head; refuse a bad line, and a head that is too large."""
        self._head_size += len(line)
        if self._head_size > self.totalHeadersSize:
            self._refuse_head()
        elif line.startswith((b" ", b"\t")) or b"\n" in line or b"\r" in line:
            self._refuse()
        else:
            super().lineReceived(line)

    def headerReceived(self, line: bytes) -> bool:
        """Process a header field; return false if the request was refused because of it."""
        name, _, value = line.lower().partition(b":")
        value = value.strip(b" \t")
        # twisted.web fails on numbers with more digits than Python parses.
        endless = name == b"content-length" and len(value) > _LONGEST_LENGTH
        if endless or (name == b"transfer-encoding" and value != b"chunked"):
            self._refuse()
            return False
        return bool(super().headerReceived(line))

    def lineLengthExceeded(self, line: bytes) -> None:
        """Refuse a request with a line that is too long: answer 431."""
        self._refuse_head()

    def allHeadersReceived(self) -> None:
        """Process the head of a request, which has arrived completely."""
        self._head_size = 0
        super().allHeadersReceived()

    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: Headers) -> None:
        """Keep the head of an answer until `write` or `write_head` is called.

        The head and the first piece of the body are then written together: two writes would take
        one more system call, and one more TCP segment or TLS record.
        """
        lines = [b"%b %b %b" % (version, code, reason)]
        for name, values in headers.getAllRawHeaders():
            lines += [b"%b: %b" % (name, value) for value in values]
        self._head = b"\r\n".join((*lines, b"", b""))

    def write(self, data: bytes) -> None:
        """Write a piece of an answer's body, after the head if the head is not written yet."""
        if self._head:
            data, self._head = self._head + data, b""
        super().write(data)

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        """Join the parts of a chunk of a body, and write them as `write` does."""
        self.write(b"".join(iovec))

    def write_head(self) -> None:
        """Write the head of an answer without a body; do nothing if it is written already."""
        if self._head:
            self.write(b"")

    def loseConnection(self) -> None:
        """Close the connection once the data written to it have been sent."""
        if not self._ending:
            self._ending = True
            super().loseConnection()

    def _refuse_head(self) -> None:
        assert self.transport is not None
        detail = f"The head of a request is larger than {self.totalHeadersSize} bytes"
        self.site.note(self.transport.getPeer(), LARGE_HEAD, detail)
        self._refuse(b"431 Request Header Fields Too Large")

    def _refuse(self, status: bytes = b"400 Bad Request") -> None:
        self.transport.write(b"HTTP/1.1 %b\r\n\r\n" % status)  # type: ignore[union-attr]  # it is there
        self.loseConnection()


class Conversation(Protocol):
    """The part of a connection's interface that a `RequestChannel` uses."""

    host: str | None
    retired: bool

    @property
    def fresh(self) -> bool:
        """Whether no heartbeat has been accepted on the connection so far."""

    @property
    def queued(self) -> bool:
        """Whether received data wait until the scheduler gives the connection a turn."""

    def turn(self) -> Deferred[None]:
        """Return a Deferred that fires when the connection gets its next turn."""

    def heartbeat_taken(self) -> None:
        """Record that a heartbeat was accepted on the connection: `fresh` is false from now on."""

    def request_arrived(self) -> None:
        """Count the connection as busy: a request has arrived completely, and is being answered."""

    def request_answered(self, unread: bytes, *, accepted: bool) -> None:
        """Handle the end of the answer to a request; process `unread`, the data after the request.

        `accepted` says whether the status of the answer was below 400.
        """

    def client_behind(self) -> None:
        """Process no further request until the client has read the previous answers."""

    def client_caught_up(self) -> None:
        """Process requests again, as the client has read the previous answers."""

    def farewell(self) -> None:
        """Count the connection as closing: the channel has begun to close it."""


class RequestChannel(StrictChannel):
    """A channel for one request of a connection.

    The data that follow the request are passed back to the connection.
    """

    def __init__(self, connection: Conversation, site: Any) -> None:
        """Make a channel for a request of `connection`, answered by `site`, a `LimitedSite`."""
        super().__init__()
        self.factory = self.site = site
        self.requestFactory = site.requestFactory
        self.timeOut = None  # the connection sees to that
        self.source = connection.host
        self.ending = connection.retired
        self._connection = connection

    @property
    def fresh(self) -> bool:  # type: ignore[override]  # it changes
        """Whether no heartbeat has been accepted on the connection so far."""
        return self._connection.fresh

    def turn(self) -> Deferred[None]:
        """Return a Deferred that fires when the connection gets its next turn."""
        return self._connection.turn()

    def heartbeat_taken(self) -> None:
        """Tell the connection that a heartbeat was accepted on it."""
        self._connection.heartbeat_taken()

    def allContentReceived(self) -> None:
        """Begin to answer the request, which has arrived completely."""
        self._connection.request_arrived()
        super().allContentReceived()

    def requestDone(self, request: Request) -> None:
        """End the answer to a request; pass the data after the request back to the connection."""
        self.paused = True  # or it would go on with what it has
        super().requestDone(request)
        self.paused = False
        accepted = request.code < 400
        self._connection.request_answered(self.clearLineBuffer(), accepted=accepted)

    def loseConnection(self) -> None:
        """Close the connection once all data written to it have been sent."""
        self._connection.farewell()
        super().loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Abandon the request, and drop the references to the connection, which is lost."""
        super().connectionLost(reason)
        # A body that has begun to arrive is read by what knows this.
        self.transport = None
        del self._networkProducer
        del self._connection

    def pauseProducing(self) -> None:
        """Stop reading and answering requests until the client has read the previous answers."""
        self._connection.client_behind()
        super().pauseProducing()
        # While a request is in hand twisted.web takes in more, without bound.
        self.transport.pauseProducing()  # type: ignore[union-attr]  # it is there

    def resumeProducing(self) -> None:
        """Resume reading and answering requests, as the client has read the previous answers."""
        super().resumeProducing()
        self._connection.client_caught_up()
        if self._connection.queued:
            self.transport.pauseProducing()  # type: ignore[union-attr]  # resumed just now
