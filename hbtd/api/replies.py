"""What handlers give back, and the one place that writes it to a request."""

from typing import NamedTuple

import orjson
from twisted.web.iweb import IRequest

JSON = "application/json"


class Reply(NamedTuple):
    """An answer: status, body, what the body is, and further headers."""

    status: int
    body: bytes = b""
    content_type: str | None = None
    headers: tuple[tuple[str, str], ...] = ()


def json_reply(value: object, status: int = 200) -> Reply:
    """Answer with a JSON document."""
    return Reply(status, orjson.dumps(value), JSON)


def write(request: IRequest, reply: Reply) -> bytes:
    """Set an answer's status and headers on a request; gives the body for Klein to write."""
    request.setResponseCode(reply.status)
    if reply.content_type is not None:
        request.setHeader("Content-Type", reply.content_type)
    for name, value in reply.headers:
        request.setHeader(name, value)
    # Without a length an empty answer would be chunked. RFC 9110 8.6: a 204 has none.
    if reply.status != 204:
        request.setHeader("Content-Length", str(len(reply.body)))
    return reply.body
