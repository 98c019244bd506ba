"""The HTTP server below the API: requests, channels and the site, with their limits.

twisted.web reads and writes HTTP. The classes here refuse what it would read in another way than
other servers do, and limit what a client may use. The resource that is served is passed in.
"""

import re
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.web import http
from twisted.web.http import HTTPChannel
from twisted.web.http_headers import Headers
from twisted.web.resource import IResource
from twisted.web.server import Request, Site

from hbtd.server.bodies import CappedRequest, crowded
from hbtd.server.limits import LARGE_HEAD, MAX_FIELDS, MEMORY, Limits, Note, Room
from hbtd.server.problems import Problem

_BROKEN_ENCODING = re.compile(rb"%(?![0-9A-Fa-f]{2})")

_LONGEST_LENGTH = 18
"""The most digits that a `Content-Length` may have."""


class LimitedRequest(CappedRequest):
    """A request within the limits of its site, which lists it in `open_requests` until it ends."""

    def __init__(self, *args: Any, **kw: Any) -> None:
        super().__init__(*args, **kw)
        site = self.channel.site
        self._open_requests: set[Request] = site.open_requests
        self._open_requests.add(self)
        self._note: Note = site.note
        self.most = site.limits.body_bytes
        self.room = site.room
        self.source = self.channel.source

    @property
    def fault(self) -> str | None:
        """A sentence that says what is wrong with the head; `None` if nothing is."""
        hosts = len(self.requestHeaders.getRawHeaders(b"host") or ())
        # RFC 9112 3.2: only HTTP/1.0 may leave it out, and nobody may name two.
        if hosts > 1 or (not hosts and self.clientproto != b"HTTP/1.0"):
            return "Exactly one Host field is needed"
        if _BROKEN_ENCODING.search(self.path):
            return "The path has a broken percent-encoding"
        return None

    @property
    def last(self) -> bool:
        """Whether the connection is closed after the answer to this request."""
        return bool(self.channel.ending or self.channel.site.closing)

    @property
    def fresh(self) -> bool:
        """Whether no heartbeat has been taken on the connection so far."""
        fresh: bool = self.channel.fresh
        return fresh

    def turn(self) -> Deferred[None]:
        """Return a Deferred that fires when it is the turn of this request again.

        Work that takes long waits for it after each step, so that others have their turns.
        """
        turn: Deferred[None] = self.channel.turn()
        return turn

    def heartbeat_taken(self) -> None:
        """Note that this request was a heartbeat, and was taken."""
        self.channel.heartbeat_taken()

    def note(self, reason: str, detail: str) -> None:
        """Count and log that something was refused to the client of this request."""
        self._note(self.channel.transport.getPeer(), reason, detail)

    def no_room(self) -> Problem:
        """Count and log that there is no memory for a request; return the problem for that."""
        problem = crowded()
        self.note(MEMORY, problem.detail)
        return problem

    def write(self, data: bytes) -> None:
        """Write a piece of the body; write the head before the first piece."""
        super().write(data)
        self.channel.write_head()

    def finish(self) -> None:
        """Finish the answer."""
        self._open_requests.discard(self)
        self.let_go()
        super().finish()
        self.transport = None  # a request is in a cycle with Klein's, which is collected later

    def connectionLost(self, reason: Failure) -> None:
        """Give back reserved memory, because the connection is lost and no answer is needed."""
        self._open_requests.discard(self)
        self.let_go()
        super().connectionLost(reason)
        self.transport = None


class StrictChannel(HTTPChannel):
    """An HTTP channel that refuses requests which other servers may read differently.

    These are lines that are folded (RFC 9112 5.2), a CR or LF within a line, and transfer codings
    other than `chunked`. A head that is too large is answered with 431.
    """

    site: "LimitedSite"

    maxHeaders = MAX_FIELDS
    source: str | None = None
    """The client's IP address; `None` if it is not known."""
    fresh = False
    """Whether no heartbeat was taken from the connection before."""
    ending = False
    """Whether the connection is closed after the next answer, whatever the client asks for."""
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
        """Do nothing. Subclasses note that a heartbeat has been taken on the connection."""

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
        """Set the most bytes in a line and in a request's head, and begin to read requests."""
        # Of a line, and of what may be the beginning of one; heads are counted in lineReceived.
        self.MAX_LENGTH = self.totalHeadersSize = self.site.limits.header_bytes
        super().connectionMade()

    def lineReceived(self, line: bytes) -> None:
        """Process a line of a request's head, or refuse the request."""
        self._head_size += len(line)
        if self._head_size > self.totalHeadersSize:
            self._refuse_head()
        elif line.startswith((b" ", b"\t")) or b"\n" in line or b"\r" in line:
            self._refuse()
        else:
            super().lineReceived(line)

    def headerReceived(self, line: bytes) -> bool:
        """Process a header field; return whether it was accepted."""
        name, _, value = line.lower().partition(b":")
        value = value.strip(b" \t")
        # twisted.web fails on numbers with more digits than Python parses.
        endless = name == b"content-length" and len(value) > _LONGEST_LENGTH
        if endless or (name == b"transfer-encoding" and value != b"chunked"):
            self._refuse()
            return False
        return bool(super().headerReceived(line))

    def lineLengthExceeded(self, line: bytes) -> None:
        """Refuse a line that is too long."""
        self._refuse_head()

    def allHeadersReceived(self) -> None:
        """Process the head of a request, which is complete."""
        self._head_size = 0
        super().allHeadersReceived()

    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: Headers) -> None:
        """Keep the head of an answer until `write` or `write_head` is called.

        So head and body are written at once: two writes would take one more system call, and one
        more TCP segment or TLS record.
        """
        lines = [b"%b %b %b" % (version, code, reason)]
        for name, values in headers.getAllRawHeaders():
            lines += [b"%b: %b" % (name, value) for value in values]
        self._head = b"\r\n".join((*lines, b"", b""))

    def write(self, data: bytes) -> None:
        """Write a piece of a body, preceded by the head if that has not been written."""
        if self._head:
            data, self._head = self._head + data, b""
        super().write(data)

    def write_head(self) -> None:
        """Write the head if it has not been written, as in an answer without a body."""
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


class LimitedSite(Site):
    """Serves a resource within limits; can close connections after the answers in progress."""

    protocol = StrictChannel  # type: ignore[assignment]  # twisted.web wraps its own for HTTP/2
    noisy = False
    displayTracebacks = False

    def __init__(
        self, resource: IResource, reactor: IReactorTime, limits: Limits, note: Note
    ) -> None:
        """Make a site; `note` is called for every client that exceeds one of the `limits`."""
        super().__init__(resource, requestFactory=LimitedRequest, reactor=reactor, timeout=None)
        self.limits = limits
        self.note = note
        self.room = Room(limits.large_bytes)
        """Memory for bodies that are larger than a heartbeat's."""
        self.open_requests: set[Request] = set()
        """Requests in the ordinary lane that have begun to arrive and are not answered yet."""
        self.closing = False
        """Whether hbtd is stopping, so that each connection is closed after its next answer."""

    def close_after_answers(self) -> None:
        """Close every connection after its next answer. Call this when hbtd stops."""
        self.closing = True

    def log(self, request: http.Request) -> None:
        """Do nothing: an access log would contain nearly nothing but heartbeats."""
