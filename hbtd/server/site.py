"""The HTTP server of the ordinary lane: subclasses of twisted.web's `Site` and `Request`.

twisted.web reads and writes HTTP. The classes here refuse requests that other servers may read
differently from twisted.web, and limit the resources that a client may use. The site does not know
the REST API: it serves the resource that it is given.
"""

import re
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.web import http
from twisted.web.resource import IResource
from twisted.web.server import Request, Site

from hbtd.server.bodies import CappedRequest, crowded
from hbtd.server.channel import StrictChannel
from hbtd.server.limits import MEMORY, Limits, Note, Room
from hbtd.server.problems import Problem

_BROKEN_ENCODING = re.compile(rb"%(?![0-9A-Fa-f]{2})")


class LimitedRequest(CappedRequest):
    """A request to a `LimitedSite`.

    The site's `open_requests` contains the request until it is answered or its connection is lost.
    """

    def __init__(self, *args: Any, **kw: Any) -> None:
        super().__init__(*args, **kw)
        site = self.channel.site
        self._open_requests: set[Request] = site.open_requests
        self._open_requests.add(self)
        self.most = site.limits.body_bytes
        self.room = site.room
        self.source = self.channel.source

    @property
    def fault(self) -> str | None:
        """A sentence about what is wrong with the request's head; `None` if the head is valid."""
        hosts = len(self.requestHeaders.getRawHeaders(b"host") or ())
        # RFC 9112 3.2: only HTTP/1.0 may leave it out, and nobody may name two.
        if hosts > 1 or (not hosts and self.clientproto != b"HTTP/1.0"):
            return "Exactly one Host field is needed"
        if _BROKEN_ENCODING.search(self.path):
            return "The path has a broken percent-encoding"
        return None

    @property
    def last(self) -> bool:
        """Whether the connection is to be closed after the answer to this request."""
        return bool(self.channel.ending or self.channel.site.closing)

    @property
    def fresh(self) -> bool:
        """Whether no heartbeat has been accepted so far on this request's connection."""
        fresh: bool = self.channel.fresh
        return fresh

    def turn(self) -> Deferred[None]:
        """Return a Deferred that fires when the connection of this request gets its next turn.

        A handler whose work takes long should wait for such a Deferred after each step of the work,
        so that other connections get their turns.
        """
        turn: Deferred[None] = self.channel.turn()
        return turn

    def heartbeat_taken(self) -> None:
        """Tell the connection that this request was a heartbeat and that hbtd has accepted it."""
        self.channel.heartbeat_taken()

    def no_room(self) -> Problem:
        """Count and log a refusal of this request for lack of memory; return a 503 `Problem`."""
        problem = crowded()
        self.note(MEMORY, problem.detail)
        return problem

    def write(self, data: bytes) -> None:
        """Write a piece of the answer's body; the head is written with the first piece."""
        super().write(data)
        self.channel.write_head()

    def finish(self) -> None:
        """Finish the answer, and release the memory that was reserved for the request."""
        self._open_requests.discard(self)
        self.let_go()
        super().finish()
        self.transport = None  # a request is in a cycle with Klein's, which is collected later

    def connectionLost(self, reason: Failure) -> None:
        """Release the memory reserved for the request, because its connection is lost."""
        self._open_requests.discard(self)
        self.let_go()
        super().connectionLost(reason)
        self.transport = None


class LimitedSite(Site):
    """A twisted.web site that serves a resource within `Limits`.

    While `closing` is true, each connection is closed after its next answer.
    """

    protocol = StrictChannel  # type: ignore[assignment]  # twisted.web wraps its own for HTTP/2
    noisy = False
    displayTracebacks = False

    def __init__(
        self, resource: IResource, reactor: IReactorTime, limits: Limits, note: Note
    ) -> None:
        """Make a site; `note` is called each time that a client exceeds one of the `limits`."""
        super().__init__(resource, requestFactory=LimitedRequest, reactor=reactor, timeout=None)
        self.limits = limits
        self.note = note
        self.room = Room(limits.large_bytes)
        """The budget of memory for bodies larger than `MAX_HEARTBEAT_BODY`."""
        self.open_requests: set[Request] = set()
        """Requests in the ordinary lane that have begun to arrive and are not answered yet."""
        self.closing = False
        """Whether hbtd is stopping, so that each connection is closed after its next answer."""

    def log(self, request: http.Request) -> None:
        """Do nothing: an access log would contain almost only heartbeats."""
