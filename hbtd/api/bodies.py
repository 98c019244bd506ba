"""Requests' bodies: read, capped and decoded in this one place."""

from io import BytesIO
from typing import Any

import orjson
from twisted.web.server import Request

from hbtd.api.problems import PROBLEM_JSON, Problem, problem_reply

MAX_HEARTBEAT_BODY = 64 * 1024
"""Bytes that a heartbeat may have."""

MAX_BODY = 4 * 1024 * 1024
"""Bytes that any other request's body may have."""

_MAX_DISCARDED = 4 * MAX_BODY
"""Bytes of a body that is too large which we still take in, so as to answer 413 politely."""


class CappedRequest(Request):
    """A request whose body never takes more than `MAX_BODY` bytes of memory.

    What goes beyond is thrown away as it arrives, so that the client gets to read its 413 instead
    of a reset connection; a client that goes on and on gets it at once, and is cut off.
    """

    # twisted.web's own default claims text/html for answers without a body.
    defaultContentType = None

    channel: Any
    content: BytesIO

    received = 0
    """Bytes of the body so far, kept or not."""

    @property
    def oversize(self) -> bool:
        """Whether the body was larger than any may be."""
        return self.received > MAX_BODY

    def gotLength(self, length: int | None) -> None:
        """Make room for the body; twisted.web would put large ones into files."""
        self.content = BytesIO()

    def handleContentChunk(self, data: bytes) -> None:
        """Take in a piece of the body."""
        before = self.received
        self.received += len(data)
        if self.received <= MAX_BODY:
            self.content.write(data)
        elif self.received <= _MAX_DISCARDED:
            self.content = BytesIO()
        elif before <= _MAX_DISCARDED:
            self.channel.transport.write(_cut_off())
            self.channel.loseConnection()
        elif self.received > 2 * _MAX_DISCARDED:
            # It was told, and goes on; over TLS, losing a connection means waiting for the peer.
            self.channel.transport.abortConnection()

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


def read_json(request: Request, limit: int) -> Any:
    """Decode a request's body, which may have `limit` bytes.

    Raises `Problem` 413 when it is larger, `ValueError` when it is not JSON.
    """
    assert request.content is not None
    body = request.content.read(limit + 1)
    if len(body) > limit:
        raise too_large(limit)
    return orjson.loads(body)


def _cut_off() -> bytes:
    """Write the answer to a body without end by hand, for its request is not even complete."""
    reply = problem_reply(too_large(MAX_BODY), "/")
    return (
        b"HTTP/1.1 413 Request Entity Too Large\r\n"
        b"Connection: close\r\n"
        b"Content-Type: %s\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (PROBLEM_JSON.encode(), len(reply.body), reply.body)
    )


def too_large(limit: int) -> Problem:
    """Say that a body is over its limit."""
    return Problem(413, f"Request body is larger than {limit} bytes")
