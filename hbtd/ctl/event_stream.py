"""A parser of Server-Sent Events (HTML standard, section 9.2), without I/O."""

import re
from typing import NamedTuple

_MOST = 1 << 20


class Event(NamedTuple):
    """One event: its type, its data, and the ID to send as `Last-Event-ID` when reconnecting."""

    type: str
    data: str
    last_id: str


class EventParser:
    """A parser of a stream of Server-Sent Events, to which the bytes are passed as they arrive."""

    def __init__(self, last_id: str = "") -> None:
        self.last_id = last_id
        """The ID of the last event; until an event has set one, the ID given to the constructor."""
        self._rest = b""
        self._begun = False
        self._id = last_id
        self._type = ""
        self._data: list[str] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[Event]:
        """Parse the next bytes of the stream; return the events that these bytes complete.

        Raise `ValueError` if a line, or the data of an event, is longer than a mebibyte.
        """
        *lines, self._rest = _lines(self._rest + chunk)
        if len(self._rest) > _MOST:
            raise ValueError("a line is longer than 1 MiB")
        events: list[Event] = []
        for line in lines:
            text = line.decode("utf-8", "replace")
            if not self._begun:
                text, self._begun = text.removeprefix("\ufeff"), True
            if text:
                self._field(text)
            elif (event := self._dispatched()) is not None:
                events.append(event)
        return events

    def _field(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
            self._size += len(value)
            if self._size > _MOST:
                raise ValueError("an event is longer than 1 MiB")
        elif name == "event":
            self._type = value
        elif name == "id" and "\0" not in value:
            self._id = value

    def _dispatched(self) -> Event | None:
        self.last_id = self._id
        type_, data = self._type or "message", self._data
        self._type, self._data, self._size = "", [], 0
        return Event(type_, "\n".join(data), self.last_id) if data else None


def _lines(text: bytes) -> list[bytes]:
    r"""Split bytes of a stream into lines, which end in `\r\n`, `\n` or `\r`; return the lines.

    The last item is the incomplete line at the end, perhaps empty. A `\r` at the very end may be
    the first half of `\r\n`, so it stays with the incomplete line.
    """
    end = b""
    if text.endswith(b"\r"):
        text, end = text[:-1], b"\r"
    lines = re.split(rb"\r\n|\n|\r", text)
    lines[-1] += end
    return lines
