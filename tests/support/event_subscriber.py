"""A client of `/events`, in memory."""

from tests.support.event_stream import EventStream, unchunked
from tests.support.http_memory import Connection, encode_request

EVENTS = "/hmi/v1/events"


class Subscriber:
    """A client of `/events`."""

    def __init__(self, connection: Connection, path: str = EVENTS, **headers: str) -> None:
        self.connection = connection
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.send(encode_request("GET", path, headers=fields))
        self.head = b""
        self.stream = EventStream()
        self.body = b""
        self.read()

    def read(self) -> list[int]:
        """Read what has arrived; return the numbers of all transitions so far."""
        self.body += self.connection.received()
        if not self.head:
            self.head, _, self.body = self.body.partition(b"\r\n\r\n")
        self.stream = EventStream()
        self.stream.feed(unchunked(self.body))
        return [each.number for each in self.stream.events if each.type == "transition"]
