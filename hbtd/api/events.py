"""The handler of `/events`: it sends committed transitions as Server-Sent Events."""

from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.web.server import Request

from hbtd.api.queries import bad, encode, read_names, read_parameters, read_under
from hbtd.api.routes import Role, Route
from hbtd.formats.times import format_time
from hbtd.queries.event_hub import EventHub
from hbtd.queries.explanations import show_entry
from hbtd.queries.flapping import Mark
from hbtd.server.problems import Problem
from hbtd.server.replies import Reply
from hbtd.server.site import LimitedRequest
from hbtd.store.past import LogEntry, Selection
from hbtd.tracker.tracker import Tracker

_END_OF_NUMBERS: Final = 2**53

_GREETING: Final = b": events of hbtd\nretry: 3000\n\n"
"""The beginning of each stream: clients are to connect again three seconds after it has broken."""

_HEADERS: Final = (
    ("Cache-Control", "no-cache"),
    ("X-Accel-Buffering", "no"),  # nginx would keep events back
)


def encode_event(entry: LogEntry) -> bytes:
    """Return an entry of the log of transitions as the bytes of a Server-Sent Event."""
    return b"id: %d\nevent: transition\ndata: %b\n\n" % (entry.number, encode(show_entry(entry)))


def encode_flapping(mark: Mark) -> bytes:
    """Return the beginning or the end of a component's mark as the bytes of a Server-Sent Event.

    The event has no ID: a client that connects again continues after the last transition.
    """
    fields = {
        "XName": mark.component,
        "Flapping": mark.flapping,
        "Changes": mark.changes,
        "At": format_time(mark.at),
    }
    return b"event: flapping\ndata: %b\n\n" % encode(fields)


def encode_missed(after: int, to: int) -> bytes:
    """Return the bytes of a Server-Sent Event that says which entries a client may have missed.

    These are the entries with the numbers from `after + 1` to `to` of the log of transitions.
    """
    return b'id: %d\nevent: missed\ndata: {"After":%d,"UpTo":%d}\n\n' % (to, after, to)


class Events:
    """The handler of `/events`, which sends transitions as Server-Sent Events."""

    def __init__(
        self, tracker: Tracker, hub: EventHub, most: int, may_read: Callable[[Request], bool]
    ) -> None:
        """Make the handler, which serves at most `most` readers of events at the same time.

        `may_read` returns whether the sender of a request may still read events.

        Each reader takes one of the `most` places. Readers at one IP address may take at most half
        of the places that readers at other addresses have not taken. But the first reader at an
        address may take any free place.
        """
        self._of_host: Counter[str | None] = Counter()
        self._tracker = tracker
        self._hub = hub
        self._most = most
        self._may_read = may_read

    def routes(self) -> Sequence[Route]:
        """Return the routes of this handler."""
        return (Route("GET", "/events", Role.READER, self.stream),)

    def stream(self, request: Request) -> Coroutine[Deferred[Any], Any, Reply]:
        """Return a reply that sends an event for each transition until the client disconnects.

        The reply ends earlier if hbtd stops, or if the client may no longer read events.

        Raise `Problem` 400 if a parameter is invalid, and 503 if there are too many readers.
        """
        assert isinstance(request, LimitedRequest)
        parameters = read_parameters(request, ("names", "under", "after"))
        under = read_under(parameters)
        after = self._read_after(request, parameters.get("after"))
        self._check_room(request.source)
        return self._stream(request, parameters.get("names"), under, after)

    async def _stream(
        self, request: LimitedRequest, nodeset: str | None, under: str, after: int | None
    ) -> Reply:
        names: frozenset[str] | None = None
        if nodeset is not None:
            named = await read_names([nodeset], self._tracker, request, "Parameter names")
            names = frozenset(named.xnames())
        self._check_room(request.source)
        # twisted.web keeps the connection, of which the end of the answer would not be known.
        request.channel.persistent = False
        selection = Selection(names, under)
        return Reply(
            200,
            content_type="text/event-stream",
            headers=(*_HEADERS, ("Connection", "close")),
            stream=lambda request: self._begin(request, selection, after),
        )

    def _begin(self, request: Any, selection: Selection, after: int | None) -> Deferred[bytes]:
        request.write(_GREETING)
        reader = self._hub.join(
            selection,
            after,
            request.write,
            request.channel.transport.abortConnection,
            lambda: self._may_read(request),
        )
        request.registerProducer(reader, True)
        host = request.source
        self._of_host[host] += 1

        def left(result: Any) -> Any:
            self._of_host[host] -= 1
            if not self._of_host[host]:
                del self._of_host[host]
            return result

        def ended(result: Any) -> Any:
            request.unregisterProducer()
            return result

        return reader.ended.addBoth(left).addCallback(ended)

    def _check_room(self, host: str | None) -> None:
        """Raise `Problem` 503 if there is no room for another reader from an IP address."""
        present, own = len(self._hub.readers), self._of_host[host]
        if self._hub.closed:
            why = "hbtd is stopping"
        elif present >= self._most:
            why = f"{self._most} read events already"
        elif own and 2 * (own + 1) > self._most - (present - own):
            why = f"{own} at this address read events already"
        else:
            return
        raise Problem(503, f"No more readers of events: {why}", headers=(("Retry-After", "10"),))

    @staticmethod
    def _read_after(request: Request, parameter: str | None) -> int | None:
        """Return the number of the log entry after which events begin; `None` for new ones only.

        `parameter` is the value of the query parameter `after`. The header `Last-Event-ID` takes
        precedence: a browser that connects again repeats the parameter, and names in the header the
        last event that it has received. Raise `Problem` 400 if the value that is used is no number.
        """
        headers = request.requestHeaders.getRawHeaders(b"last-event-id") or []
        header = headers[0].decode("latin-1").strip() if headers else ""
        if header:
            if not _is_number(header):
                raise Problem(400, "Last-Event-ID is no number of an event")
            return int(header)
        if parameter is None:
            return None
        if not _is_number(parameter):
            raise bad("after", "is no number of an event")
        return int(parameter)


def _is_number(text: str) -> bool:
    digits = text.isascii() and text.isdecimal() and len(text) < 17
    return digits and int(text) < _END_OF_NUMBERS
