"""The HTTP server below the API: requests, channels and the site, with their limits.

twisted.web reads and writes HTTP; what is here refuses what it would read in another way than
other servers, and bounds what a client may take. What is served is a resource from elsewhere.
"""

from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.web import http
from twisted.web.http import HTTPChannel
from twisted.web.resource import IResource
from twisted.web.server import Request, Site

from hbtd.server.bodies import CappedRequest, crowded
from hbtd.server.limits import LARGE_HEAD, MAX_FIELDS, MEMORY, Limits, Note, Room
from hbtd.server.problems import Problem

_LONGEST_LENGTH = 18
"""Digits that a `Content-Length` may have."""


class LimitedRequest(CappedRequest):
    """A request that its site knows about while it is open."""

    def __init__(self, *args: Any, **kw: Any) -> None:
        super().__init__(*args, **kw)
        site = self.channel.site
        self._open_requests: set[Request] = site.open_requests
        self._open_requests.add(self)
        self._note: Note = site.note
        self.most = site.limits.body_bytes
        self.room = site.room

    def note(self, reason: str, detail: str) -> None:
        """Take note that this request is refused something."""
        self._note(self.channel.transport.getPeer(), reason, detail)

    def no_room(self) -> Problem:
        """Make the problem of a request that takes more memory than there is, and count it."""
        problem = crowded()
        self.note(MEMORY, problem.detail)
        return problem

    def finish(self) -> None:
        """Send off the answer."""
        self._open_requests.discard(self)
        self.let_go()
        super().finish()

    def connectionLost(self, reason: Failure) -> None:
        """Note that nobody waits for the answer any more."""
        self._open_requests.discard(self)
        self.let_go()
        super().connectionLost(reason)


class StrictChannel(HTTPChannel):
    """An HTTP channel that refuses what twisted.web reads in one way and others in another.

    These are lines that are folded, which RFC 9112 5.2 has us refuse or mend, and a transfer coding
    that has not existed since 1999. It also says so when a head, or a length, is too large.
    """

    site: "LimitedSite"

    maxHeaders = MAX_FIELDS
    _head_size = 0

    def connectionMade(self) -> None:
        """Begin."""
        # That of a line, and of what may be the beginning of one. A head is counted below.
        self.MAX_LENGTH = self.totalHeadersSize = self.site.limits.header_bytes
        super().connectionMade()

    def lineReceived(self, line: bytes) -> None:
        """Take in a line of a head."""
        self._head_size += len(line)
        if self._head_size > self.totalHeadersSize:
            self._refuse_head()
        elif line.startswith((b" ", b"\t")):
            self._refuse()
        else:
            super().lineReceived(line)

    def headerReceived(self, line: bytes) -> bool:
        """Take in a field; tells whether it may be there."""
        name, _, value = line.lower().partition(b":")
        value = value.strip(b" \t")
        # Python reads no number of more than some thousand digits, and twisted.web is surprised.
        endless = name == b"content-length" and len(value) > _LONGEST_LENGTH
        if endless or (name == b"transfer-encoding" and value != b"chunked"):
            self._refuse()
            return False
        return bool(super().headerReceived(line))

    def lineLengthExceeded(self, line: bytes) -> None:
        """Refuse a line without end."""
        self._refuse_head()

    def allHeadersReceived(self) -> None:
        """Take in that a head is complete."""
        self._head_size = 0
        super().allHeadersReceived()

    def _refuse_head(self) -> None:
        assert self.transport is not None
        detail = f"The head of a request is larger than {self.totalHeadersSize} bytes"
        self.site.note(self.transport.getPeer(), LARGE_HEAD, detail)
        self._refuse(b"431 Request Header Fields Too Large")

    def _refuse(self, status: bytes = b"400 Bad Request") -> None:
        self.transport.write(b"HTTP/1.1 %b\r\n\r\n" % status)  # type: ignore[union-attr]  # it is there
        self.loseConnection()


class LimitedSite(Site):
    """The HTTP side of the API: limits, and an orderly end."""

    protocol = StrictChannel  # type: ignore[assignment]  # twisted.web wraps its own for HTTP/2
    noisy = False
    displayTracebacks = False

    def __init__(
        self, resource: IResource, reactor: IReactorTime, limits: Limits, note: Note
    ) -> None:
        """`note` hears of clients that meet the `limits`."""
        super().__init__(resource, requestFactory=LimitedRequest, reactor=reactor, timeout=None)
        self.limits = limits
        self.note = note
        self.room = Room(limits.large_bytes)
        """The memory for bodies that are larger than a heartbeat's."""
        self.open_requests: set[Request] = set()
        """Requests that have begun to arrive and are not answered."""
        self.closing = False
        """Whether every connection is closed after the answer that it waits for."""

    def close_after_answers(self) -> None:
        """Close every connection after the answer that it waits for; for when hbtd stops."""
        self.closing = True

    def log(self, request: http.Request) -> None:
        """Keep no access log: it would be nothing but heartbeats."""
