"""Replies: the results of the handlers of HTTP requests, and the sending of replies to clients."""

from collections.abc import Callable
from typing import Any, NamedTuple

import orjson
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.web.iweb import IRequest
from zope.interface import implementer

JSON = "application/json"

_SMALL = 16 * 1024
"""The most bytes of a body that are written without waiting until the client reads."""


class Reply(NamedTuple):
    """The answer to an HTTP request: status, body, content type, and further header fields."""

    status: int
    body: bytes = b""
    content_type: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    change: str = ""
    """A phrase, for the log, that says what the request changed, with the old and new value.

    If it is empty, no change is logged.
    """
    stream: Callable[[Any], Deferred[bytes]] | None = None
    """For a body of unknown length, a function that writes the body to the request object.

    The function takes the request, begins to write, and returns a Deferred that fires with `b""`
    when all has been written. The Deferred is cancelled if the client closes the connection. If
    `stream` is `None`, the body is the field `body`.
    """


def json_reply(value: object, status: int = 200) -> Reply:
    """Return a reply whose body is `value` as a JSON document."""
    return Reply(status, orjson.dumps(value), JSON)


def write(request: IRequest, reply: Reply) -> bytes | Deferred[bytes]:
    """Set the status and headers of a request's answer; return the body, for Klein to write.

    If the body is larger than 16 KiB, or if the reply has a `stream`, the body is written as fast
    as the client reads it, without Klein. In this case return a Deferred that fires with an empty
    body when everything has been written; until then, Klein does not finish the answer.
    """
    request.setResponseCode(reply.status)
    if reply.content_type is not None:
        request.setHeader("Content-Type", reply.content_type)
    for name, value in reply.headers:
        request.setHeader(name, value)
    if reply.stream is not None:
        return b"" if request.method == b"HEAD" else reply.stream(request)
    # Without a length an empty answer would be chunked. RFC 9110 8.6: a 204 has none.
    if reply.status != 204:
        request.setHeader("Content-Length", str(len(reply.body)))
    if len(reply.body) <= _SMALL or request.method == b"HEAD":
        return reply.body
    return _Body(request, reply.body).written


@implementer(IPushProducer)
class _Body:
    """Writes a body as fast as the client reads it; the Deferred `written` fires at the end."""

    def __init__(self, request: Any, body: bytes) -> None:
        self.written: Deferred[bytes] = Deferred(lambda _: self.stopProducing())
        self._request = request
        self._body = memoryview(body)
        self._paused = False
        request.registerProducer(self, True)
        self.resumeProducing()

    def resumeProducing(self) -> None:
        self._paused = False
        while self._body and not self._paused:
            piece, self._body = self._body[:_SMALL], self._body[_SMALL:]
            self._request.write(bytes(piece))
        if not self._body and not self.written.called:
            self._request.unregisterProducer()
            self.written.callback(b"")

    def pauseProducing(self) -> None:
        self._paused = True

    def stopProducing(self) -> None:
        self._paused = True
        self._body = memoryview(b"")
