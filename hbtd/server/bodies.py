"""Request bodies: received within limits, and decoded."""

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
"""The most chunks of a body that are read however small they are."""

_BYTES_PER_CHUNK = 16
"""The bytes of a body for which one more chunk is read: few enough for a name in each."""


class CappedRequest(Request):
    """A request whose body never takes more than `most` bytes of memory.

    A larger body is discarded as it arrives, so that its client can read the 413 instead of seeing
    its connection reset. A client that sends more than four times `most` gets the 413 before it has
    finished, and its connection is closed; so does one that sends thousands of chunks of a few
    bytes, as each chunk takes as much time as a kilobyte. If there is no memory for a body, the
    body is discarded, too, and the answer is a 503.
    """

    # twisted.web's own default claims text/html for answers without a body.
    defaultContentType = None

    channel: Any
    content: BytesIO

    most: int
    """The largest size of the body, in bytes."""

    room: Room
    """The budget of memory that this body shares with other large bodies."""

    source: str | None = None
    """The client's IP address; `None` if it is not known, as on a Unix socket."""

    received = 0
    """The number of bytes of the body that have arrived, kept or not."""

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
        """Reserve `count` bytes of memory until the request has ended; return whether that worked.

        If `count` is `MAX_HEARTBEAT_BODY` or less, reserve nothing, and return `True`.
        """
        if count <= MAX_HEARTBEAT_BODY:
            return True
        if not self.room.take(count, self.source):
            return False
        self._held += count
        return True

    def let_go(self) -> None:
        """Release all bytes that `hold` has reserved."""
        held, self._held = self._held, 0
        self.room.give_back(held, self.source)

    def note(self, reason: str, detail: str) -> None:
        """Count and log a refusal to the client of this request.

        `reason` is one of `REASONS`, and `detail` a sentence.
        """
        note: Note = self.channel.site.note
        note(self.channel.transport.getPeer(), reason, detail)

    def gotLength(self, length: int | None) -> None:
        """Prepare to keep the body in memory; twisted.web would keep a large one in a file."""
        self.content = BytesIO()
        self._chunked = length is None

    def handleContentChunk(self, data: bytes) -> None:
        """Receive a piece of the body, and keep or discard it."""
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

        Unlike twisted.web, never parse the body as a form: curl labels a heartbeat's JSON as a form
        by default. If the target is in absolute form (RFC 9112 3.2.2), use only its path and query.
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
        """Return `hbtd` as the host name: the router rejects some names, and needs none."""
        return b"hbtd"


def read_json(request: Request, limit: int | None = None) -> Any:
    """Return the decoded JSON of a request's body.

    Raise `Problem` 413 if the body has more than `limit` bytes, if a limit is given, and
    `ValueError` if it is not JSON. A body that orjson rejects is decoded as the original hbtd would
    decode it, if it has at most `MAX_HEARTBEAT_BODY` bytes: that takes up to a hundred times as
    long as orjson.
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
    """Return the problem, a 503, for a body for which there is no memory."""
    detail = "Too many large requests at once"
    return Problem(503, detail, headers=(("Retry-After", "10"),))


def too_large(limit: int) -> Problem:
    """Return the problem, a 413, for a body of more than `limit` bytes."""
    return Problem(413, f"Request body is larger than {limit} bytes")
