"""The fast lane: takes plain heartbeats off a connection without making request objects.

Klein on twisted.web takes a hundred microseconds for a request. Nearly all requests are heartbeats
that look alike, and for these the fast lane does the same work in a few microseconds: it finds the
end of the request, reads the body and calls the monitor. The fast lane refuses nothing: all bytes
of any request that is not a plain and successful heartbeat are left to the ordinary lane
(`hbtd.api.app`), the one place that knows what is wrong with a request and how to answer it.

The fast lane takes fewer requests than HTTP and the ordinary lane allow: only those with the method
`POST`, a path of a heartbeat route without any percent encoding, HTTP/1.1, a `Content-Length`, and
no header field that changes the meaning of the request or shows that a browser has sent it. Heads
are parsed by llhttp, which is strict. The fast lane must not take a request that twisted.web would
refuse (tests/api/test_lanes.py compares the two lanes).
"""

import re
from collections.abc import Callable
from typing import Any, Final

import orjson
from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from twisted.web.http import datetimeToString

from hbtd.api.fields import read_all, read_named
from hbtd.api.problems import PREFIXES
from hbtd.formats import xnames
from hbtd.monitor import Monitor
from hbtd.server.lane import Taken, Verdict
from hbtd.server.limits import MAX_FIELDS, MAX_HEARTBEAT_BODY
from hbtd.tracker.tracker import TrackerFull

MayBeat = Callable[[bytes | None, str], bool]
"""A function that returns whether the sender of a request may send a heartbeat of a component.

Its arguments are the value of the request's `Authorization` header, which is `None` if there is no
such header, and the name of the component, which may be any string, not only an xname in normal
form. Heartbeats that the function does not permit are left to the ordinary lane.
"""

MayBeatFor = Callable[[Any], MayBeat]
"""A function that returns the `MayBeat` for a connection, whose transport is the argument."""

_LONGEST_HEAD: Final = 8 * 1024
"""The most bytes in a head that the fast lane takes."""

_AT_ONCE: Final = 32
"""The most heartbeats that are taken from one connection before other connections are served."""

_MOST_HEADS: Final = 20_000
"""The most heads that are remembered: one for each node of a large machine."""

_LONGEST_REMEMBERED: Final = 512
"""The most bytes in a head without credentials that is remembered, for all connections."""

_LONGEST_SECRET: Final = 4096
"""The most bytes in a head with credentials that is remembered, for its own connection."""

_BEGINNINGS: Final = tuple(f"POST {prefix}/heartbeat".encode() for prefix in PREFIXES)
_TARGET: Final = re.compile(
    b"(?:%b)/heartbeat(?:/([0-9A-Za-z]{1,64}))?" % b"|".join(prefix.encode() for prefix in PREFIXES)
)
_REQUEST_LINE: Final = re.compile(rb"POST [!-~]+ HTTP/1\.1\r\n")
# Fields that change the meaning of a request, or how it must be answered, and those of browsers.
_UNUSUAL: Final = frozenset(
    (
        b"transfer-encoding",
        b"expect",
        b"upgrade",
        b"te",
        b"trailer",
        b"origin",
        b"sec-fetch-site",
    )
)

# Looking up `Verdict.DRY` each time takes ten times as long.
_DRY: Final = Verdict.DRY


class _Unusual(Exception):
    """The exception that ends the parsing of a head which the fast lane does not take."""


class _Head:
    """The parsed head of a heartbeat; llhttp calls the `on_` methods while it parses the head."""

    __slots__ = (
        "authorization",
        "complete",
        "fields",
        "hosts",
        "last",
        "length",
        "target",
        "xname",
    )

    def __init__(self) -> None:
        self.target = b""
        self.fields = 0
        """The number of header fields."""
        self.hosts = 0
        """The number of `Host` fields."""
        self.length = -1
        """The number of bytes in the body; -1 without a `Content-Length`."""
        self.last: bool | None = None
        """Whether to close the connection after the answer; `None` without a `Connection` field."""
        self.authorization: bytes | None = None
        self.xname: str | None = None
        """The component that the path names, in normal form; `None` if it names none."""
        self.complete = False
        """Whether the whole head has been parsed."""

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields += 1
        name = name.lower()
        if name == b"content-length":
            # llhttp refuses a second `Content-Length`. It keeps blanks at the end of values.
            value = value.rstrip(b" \t")
            if len(value) > 9 or not value.isdigit():
                raise _Unusual
            self.length = int(value)
        elif name == b"connection":
            value = value.rstrip(b" \t").lower()
            if self.last is not None or value not in (b"keep-alive", b"close"):
                raise _Unusual
            self.last = value == b"close"
        elif name == b"authorization":
            if self.authorization is not None:
                raise _Unusual
            self.authorization = value
        elif name == b"host":
            self.hosts += 1
        elif name in _UNUSUAL:
            raise _Unusual

    def on_headers_complete(self) -> None:
        self.complete = True


class Sender:
    """The data that the fast lane keeps about one connection and its client."""

    __slots__ = ("fresh", "head", "host", "may_beat", "raw")

    def __init__(self, may_beat: MayBeat | None, host: str | None) -> None:
        self.host = host
        """The client's IP address; `None` on a Unix socket."""
        self.fresh = True
        """`True` until the first heartbeat has been taken from the connection."""
        self.may_beat = may_beat
        """The function that decides which heartbeats are permitted; `None` if all of them are."""
        # The last head with credentials: a node sends the same one with every heartbeat.
        self.raw = b""
        self.head: _Head | None = None

    def remember(self, raw: bytes, head: _Head) -> None:
        """Remember for this connection that the bytes `raw` were parsed into `head`.

        `head` is not used for other connections, because it contains the client's credentials. If
        `raw` is longer than 4096 bytes, do nothing.
        """
        if len(raw) <= _LONGEST_SECRET:
            self.raw, self.head = raw, head


class FastLane:
    """A `hbtd.server.lane.Lane` that takes plain heartbeats and passes them to the monitor."""

    def __init__(
        self,
        monitor: Monitor,
        wall_clock: Callable[[], float],
        may_beat_for: MayBeatFor | None = None,
        header_bytes: int = _LONGEST_HEAD,
    ) -> None:
        """Make a fast lane that passes heartbeats to `monitor`.

        `wall_clock` returns the seconds since the epoch, for the `Date` of answers. Heartbeats that
        `may_beat_for`, if given, does not permit are left to the ordinary lane, and so are requests
        with a head of more than `header_bytes`.
        """
        self._longest_head = min(header_bytes, _LONGEST_HEAD)
        self._monitor = monitor
        self._now, self._beat_again = monitor.now, monitor.beat_again
        self._wall_clock = wall_clock
        self._may_beat_for = may_beat_for
        # The answers without and with `Connection: close`; made again in each second, for `Date`.
        self._dated = -1
        self._answer = self._last_answer = b""
        # Parsed heads by their bytes: a node sends the same head with every heartbeat.
        self._heads: dict[bytes, _Head] = {}

    def sender(self, transport: Any, host: str | None) -> Sender:
        """Return a new `Sender`, which holds what the fast lane remembers about a connection.

        `transport` is the connection's transport, and `host` is the client's IP address, or `None`
        on a Unix socket.
        """
        may_beat = None if self._may_beat_for is None else self._may_beat_for(transport)
        return Sender(may_beat, host)

    def take(self, data: bytes, sender: Sender) -> Taken:
        """Pass the heartbeats at the beginning of `data` to the monitor; return what was taken.

        `data` is all that has arrived on the connection of `sender` and was not taken before.
        `hbtd.server.lane.Taken` describes the result.
        """
        count = end = 0
        size = len(data)
        heads = self._heads
        while end < size:
            if sender.raw and data.startswith(sender.raw, end):
                head: _Head | None = sender.head
                body = end + len(sender.raw)
            else:
                body = data.find(b"\r\n\r\n", end) + 4
                if body == 3:
                    verdict = self._beginning(data[end:])
                    # Looking again after each byte would take quadratic time.
                    return count, end, verdict, 2 * (size - end)
                raw = data[end:body]
                head = heads.get(raw) or self._read_head(raw)
            if head is None:
                return count, end, Verdict.OTHER, 0
            stop = body + head.length
            if stop > size:
                return count, end, Verdict.ARRIVING, stop - end
            if count == _AT_ONCE:
                return count, end, Verdict.TURN, 0
            if not self._take_one(head, data[body:stop], sender):
                return count, end, Verdict.OTHER, 0
            sender.fresh = False
            if head.authorization is not None and head is not sender.head:
                sender.remember(data[end:body], head)
            count += 1
            end = stop
            if head.last:
                return count, end, Verdict.LAST, 0
        return count, end, _DRY, 0

    def answers(self, count: int, *, last: bool = False) -> bytes:
        """Return `count` empty answers with status 200, as the ordinary lane would write them.

        If `last` is true, the last of these answers has the header `Connection: close`.
        """
        now = int(self._wall_clock())
        if now != self._dated:
            self._dated = now
            fields = b"Server: hbtd\r\nDate: %b\r\nContent-Length: 0\r\n\r\n" % datetimeToString(
                now
            )
            self._answer = b"HTTP/1.1 200 OK\r\n" + fields
            self._last_answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\n" + fields
        if last:
            return self._answer * (count - 1) + self._last_answer
        return self._answer if count == 1 else self._answer * count

    def _beginning(self, data: bytes) -> Verdict:
        """Return `BEGINNING` if an incomplete head may become that of a heartbeat, else `OTHER`."""
        if len(data) <= self._longest_head:
            if data.startswith(_BEGINNINGS):
                return Verdict.BEGINNING if _parse(data) else Verdict.OTHER
            if any(beginning.startswith(data) for beginning in _BEGINNINGS):
                return Verdict.BEGINNING
        return Verdict.OTHER

    def _read_head(self, data: bytes) -> _Head | None:
        """Return `data`, a whole head, parsed; `None` if its request is one for the ordinary lane.

        A short head without credentials is remembered, so that the same bytes are parsed only once.
        """
        head = _parse(data) if len(data) <= self._longest_head else None
        if head is None or not head.complete or head.hosts != 1:
            return None
        if not 0 <= head.length <= MAX_HEARTBEAT_BODY:
            return None
        target = _TARGET.fullmatch(head.target)
        if target is None:
            return None
        if target[1] is not None:
            head.xname = xnames.parse(target[1].decode("ascii"))
            if head.xname is None:
                return None
        # Not remembered for all connections: secrets, and long heads, which are unlikely to recur.
        if len(data) <= _LONGEST_REMEMBERED and head.authorization is None:
            if len(self._heads) >= _MOST_HEADS:
                self._heads.clear()
            self._heads[data] = head
        return head

    def _take_one(self, head: _Head, body: bytes, sender: Sender) -> bool:
        """Pass one heartbeat to the monitor and return `True`.

        Return `False`, without any effect, if the heartbeat is one for the ordinary lane.
        """
        try:
            heartbeat = orjson.loads(body)
        except ValueError:
            return False
        xname = head.xname
        if xname is None:
            named = read_all(heartbeat)
            if named is None:
                return False
            component, hostname, nid, status, timestamp = named
        else:
            values = read_named(heartbeat)
            if values is None:
                return False
            component = xname
            hostname = nid = ""
            status, timestamp = values
        # Nearly all senders write names in normal form: these don't need to be parsed.
        may_beat = sender.may_beat
        if may_beat is not None and not may_beat(head.authorization, component):
            xname = xname or xnames.parse(component)
            if xname in (None, component) or not may_beat(head.authorization, xname):
                return False
        if self._beat_again(
            component, self._now(), timestamp, status, sender.host, sender.fresh, hostname, nid
        ):
            return True
        xname = xname or xnames.parse(component)
        if xname is None:
            return False
        try:
            self._monitor.beat(xname, timestamp, status, sender.host, sender.fresh, hostname, nid)
        except TrackerFull:
            return False
        return True


def _parse(data: bytes) -> _Head | None:
    """Return a head, or the beginning of a head, parsed with llhttp.

    Return `None` if the request is one for the ordinary lane.
    """
    # llhttp also accepts request lines in other forms.
    if b"\r\n" in data and not _REQUEST_LINE.match(data):
        return None
    head = _Head()
    try:
        HttpRequestParser(head).feed_data(data)
    except (HttpParserError, HttpParserUpgrade):
        return None
    return head if head.fields <= MAX_FIELDS else None
