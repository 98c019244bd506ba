"""The bodies of HTTP requests: received within limits, and decoded from JSON."""

from io import BytesIO
from typing import Any

import orjson
from twisted.web.server import Request

from hbtd.formats.go_json import decode_object
from hbtd.server.limits import LARGE_BODY, MAX_HEARTBEAT_BODY, Note, Room
from hbtd.server.problems import Problem, encode_problem

_DISCARDED = 4
"""How much of a body that is too large is received and discarded, as a multiple of `most`."""

_MOST_CHUNKS = 4096
"""The number of chunks of a body that are read, however small each of them is."""

_BYTES_PER_CHUNK = 16
"""The number of bytes of a body that allow one more chunk, which may be as short as a name."""


class CappedRequest(Request):
    """A request whose body never takes more than `most` bytes of memory.

    A larger body is discarded as it arrives, and is answered with 413 at its end: so the client can
    read the answer, instead of seeing its connection reset. The 413 is sent earlier, and the
    connection is closed, if more than four times `most` bytes arrive, or thousands of chunks of a
    few bytes each: to process a chunk takes as much time as to process a kilobyte of data. A body
    for which `room` has too little memory left is discarded, too, and is answered with 503.
    """

    # twisted.web's own default claims text/html for answers without a body.
    defaultContentType = None

    channel: Any
    content: BytesIO

    most: int
    """The largest size of the body, in bytes."""

    room: Room
    """The budget of memory that all large bodies share."""

    source: str | None = None
    """The client's IP address; `None` if hbtd does not know it, as on a Unix socket."""

    received = 0
    """The number of bytes of the body that have arrived, including discarded ones."""

    crowded = False
    """Whether the body was discarded because `room` had too little memory left."""

    _held = 0
    _chunked = False
    _pieces = 0
    _refused = False

    @property
    def oversize(self) -> bool:
        """Whether the body is larger than `most`."""
        return self.received > self.most

    def hold(self, count: int) -> bool:
        """Reserve `count` bytes of `room` until the request ends; return whether `room` had enough.

        If `count` is `MAX_HEARTBEAT_BODY` or less, reserve nothing, and return `True`.
        """
        if count <= MAX_HEARTBEAT_BODY:
            return True
        if not self.room.take(count, self.source):
            return False
        self._held += count
        return True

    def let_go(self) -> None:
        """Release all memory that was reserved for this request."""
        held, self._held = self._held, 0
        self.room.give_back(held, self.source)

    def note(self, reason: str, detail: str) -> None:
        """Count and log that this request was refused.

        `reason` is one of `hbtd.server.limits.REASONS`, and `detail` a sentence for the log.
        """
        note: Note = self.channel.site.note
        note(self.channel.transport.getPeer(), reason, detail)

    def gotLength(self, length: int | None) -> None:
        """Prepare to keep the body in memory; twisted.web would keep a large one in a file."""
        self.content = BytesIO()
        self._chunked = length is None

    def handleContentChunk(self, data: bytes) -> None:
        """Receive a piece of the body, and keep it in memory.

        If the body is now larger than `most` bytes, or than the memory left in `room`, discard the
        whole body instead.
        """
        self.received += len(data)
        self._pieces += 1
        if self._refused:
            return
        if self.received <= self.most and not self.crowded:
            self.crowded = not self._hold_body()
        if self.received <= self.most and not self.crowded:
            self.content.write(data)
        else:
            self.content = BytesIO()
            self.let_go()
        if self.received > _DISCARDED * self.most:
            self._refuse(too_large(self.most))
        elif self._chunked and self._pieces > _MOST_CHUNKS + self.received // _BYTES_PER_CHUNK:
            self._refuse(Problem(413, "Request body has too many small chunks"))

    def _refuse(self, problem: Problem) -> None:
        """Answer the request before it is complete, and close its connection."""
        self._refused = True
        self.note(LARGE_BODY, problem.detail)
        self.channel.transport.write(encode_problem(problem))
        self.channel.loseConnection()

    def _hold_body(self) -> bool:
        """Reserve memory for all that has arrived of the body; return whether there was enough."""
        if not self._held:
            return self.hold(self.received)
        more = self.received - self._held
        if not self.room.take(more, self.source):
            return False
        self._held += more
        return True

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """Process the request, which has arrived completely.

        Unlike twisted.web, never parse the body as a form: by default, curl sends JSON with the
        content type of a form. If the target is in absolute form (RFC 9112 3.2.2), use only its
        path and query.
        """
        if self._refused:
            return  # it is answered; its end came with the same read
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
        """Return `hbtd`, whatever the `Host` field of the request says.

        Klein's router does not need the host name, and would reject requests with unusual ones.
        """
        return b"hbtd"


def read_json(request: Request, limit: int | None = None) -> Any:
    """Return the decoded JSON of a request's body.

    Raise a `Problem` with status 413 if `limit` is given and the body has more bytes, and
    `ValueError` if the body is not JSON. If orjson rejects a body of at most `MAX_HEARTBEAT_BODY`
    bytes, decode the body as the original hbtd, a Go program, would do. This takes up to a hundred
    times as long as orjson, so a larger body that orjson rejects counts as not JSON.
    """
    assert request.content is not None
    body = request.content.read(-1 if limit is None else limit + 1)
    if limit is not None and len(body) > limit:
        raise too_large(limit)
    try:
        return orjson.loads(body)
    except ValueError:
        if len(body) > MAX_HEARTBEAT_BODY:
            raise
        return decode_object(body)


def crowded() -> Problem:
    """Return the `Problem`, a 503, that answers a request for which there is no memory."""
    detail = "Too many large requests at once"
    return Problem(503, detail, headers=(("Retry-After", "10"),))


def too_large(limit: int) -> Problem:
    """Return the `Problem`, a 413, that answers a request with more than `limit` bytes of body."""
    return Problem(413, f"Request body is larger than {limit} bytes")
