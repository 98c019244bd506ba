"""Requests' bodies: read, capped and decoded in this one place."""

from io import BytesIO
from typing import Any

import orjson
from twisted.web.server import Request

from hbtd.server.limits import MAX_HEARTBEAT_BODY, Room
from hbtd.server.problems import PROBLEM_JSON, Problem, problem_reply

_DISCARDED = 4
"""How many times the largest body we still take in, so as to answer 413 politely."""


class CappedRequest(Request):
    """A request whose body never takes more than `most` bytes of memory.

    What goes beyond is thrown away as it arrives, so that the client gets to read its 413 instead
    of a reset connection; a client that goes on and on gets it at once, and is cut off. A body
    larger than a heartbeat for which there is no room is treated likewise, and gets a 503.
    """

    # twisted.web's own default claims text/html for answers without a body.
    defaultContentType = None

    channel: Any
    content: BytesIO

    most: int
    """Bytes that the body may have."""

    room: Room
    """What it shares with other large ones."""

    received = 0
    """Bytes of the body so far, kept or not."""

    crowded = False
    """Whether there was no room for the body."""

    _held = 0

    @property
    def oversize(self) -> bool:
        """Whether the body was larger than any may be."""
        return self.received > self.most

    def hold(self, count: int) -> bool:
        """Take so many bytes of room until the request is done with; tells whether they were there.

        What is no larger than a heartbeat takes none.
        """
        if count <= MAX_HEARTBEAT_BODY:
            return True
        if not self.room.take(count):
            return False
        self._held += count
        return True

    def let_go(self) -> None:
        """Give back what is held."""
        held, self._held = self._held, 0
        self.room.give_back(held)

    def gotLength(self, length: int | None) -> None:
        """Make room for the body; twisted.web would put large ones into files."""
        self.content = BytesIO()

    def handleContentChunk(self, data: bytes) -> None:
        """Take in a piece of the body."""
        before = self.received
        self.received += len(data)
        discarded = _DISCARDED * self.most
        if self.received <= self.most and not self.crowded:
            self.crowded = not self._hold_body()
        if self.received <= self.most and not self.crowded:
            self.content.write(data)
        elif self.received <= discarded:
            self.content = BytesIO()
            self.let_go()
        elif before <= discarded:
            self.channel.transport.write(_cut_off(self.most))
            self.channel.loseConnection()
        elif self.received > 2 * discarded:
            # It was told, and goes on; over TLS, losing a connection means waiting for the peer.
            self.channel.transport.abortConnection()

    def _hold_body(self) -> bool:
        """Have room for what has been received so far; tells whether there is."""
        if not self._held:
            return self.hold(self.received)
        more = self.received - self._held
        if not self.room.take(more):
            return False
        self._held += more
        return True

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """Go on to answering.

        twisted.web would first parse form fields out of the body; we have none, and a heartbeat
        with curl's default content type is JSON all the same. A target in absolute form (RFC 9112
        3.2.2) means the same as its path.
        """
        target, mark, query = path.partition(b"?")
        if not target.startswith(b"/"):
            target = b"/" + target.partition(b"://")[2].partition(b"/")[2]
            path = target + mark + query
        self.content.seek(0)
        self.args = {}
        self.method, self.uri, self.clientproto = command, path, version
        self.path = target
        self.process()

    def getRequestHostname(self) -> bytes:
        """Name the host that was asked for: always the same.

        Nothing of ours depends on it, and the router would choke on a malformed one.
        """
        return b"hbtd"


def read_json(request: Request, limit: int | None = None) -> Any:
    """Decode a request's body, which may have `limit` bytes, or as many as any.

    Raises `Problem` 413 when it is larger, `ValueError` when it is not JSON.
    """
    assert request.content is not None
    body = request.content.read(-1 if limit is None else limit + 1)
    if limit is not None and len(body) > limit:
        raise too_large(limit)
    return orjson.loads(body)


def _cut_off(most: int) -> bytes:
    """Write the answer to a body without end by hand, for its request is not even complete."""
    reply = problem_reply(too_large(most), "/")
    return (
        b"HTTP/1.1 413 Request Entity Too Large\r\n"
        b"Connection: close\r\n"
        b"Content-Type: %s\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (PROBLEM_JSON.encode(), len(reply.body), reply.body)
    )


def crowded() -> Problem:
    """Say that there is no memory for another large body."""
    detail = "Too many large requests at once"
    return Problem(503, detail, headers=(("Retry-After", "10"),))


def too_large(limit: int) -> Problem:
    """Say that a body is over its limit."""
    return Problem(413, f"Request body is larger than {limit} bytes")
