"""A parser of event streams, as the HTML standard of the WHATWG says browsers parse them."""

import re
from typing import NamedTuple

import orjson


class Event(NamedTuple):
    """An event that a browser would dispatch."""

    type: str
    data: str
    last_event_id: str

    @property
    def number(self) -> int:
        """The number of the entry in the data of a transition."""
        return int(orjson.loads(self.data)["Number"])


class EventStream:
    """What a browser's EventSource makes of the bytes of a stream."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        """The events that were dispatched."""
        self.comments = 0
        """The number of comments."""
        self.retry: int | None = None
        """The milliseconds after which to connect again."""
        self.last_event_id = ""
        """What is sent as `Last-Event-ID` when it connects again."""
        self._rest = b""
        self._id = ""
        self._type = ""
        self._data = ""

    def feed(self, data: bytes) -> None:
        """Parse further bytes."""
        *lines, self._rest = re.split(b"\r\n|\n|\r", self._rest + data)
        for line in lines:
            self._line(line.decode("utf-8", "replace"))

    def _line(self, line: str) -> None:
        if not line:
            self._dispatch()
            return
        field, colon, value = line.partition(":")
        if not field and colon:
            self.comments += 1
            return
        value = value.removeprefix(" ")
        if field == "event":
            self._type = value
        elif field == "data":
            self._data += value + "\n"
        elif field == "id" and "\0" not in value:
            self._id = value
        elif field == "retry" and value.isascii() and value.isdecimal():
            self.retry = int(value)

    def _dispatch(self) -> None:
        self.last_event_id = self._id
        if self._data:
            event = Event(self._type or "message", self._data.removesuffix("\n"), self._id)
            self.events.append(event)
        self._data, self._type = "", ""


def unchunked(data: bytes) -> bytes:
    """Return the beginning of a body, as far as it has arrived, out of its chunked coding."""
    body = b""
    while b"\r\n" in data:
        size, _, data = data.partition(b"\r\n")
        length = int(size, 16)
        body += data[:length]
        data = data[length + 2 :]
    return body
