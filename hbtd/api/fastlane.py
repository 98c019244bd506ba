"""The fast lane: takes plain heartbeats off a connection without the cost of a request object.

Klein on twisted.web spends a hundred microseconds on a request. Nearly all requests are heartbeats
that look alike, and for those this module does the same in a few: it finds out where a request
ends, reads its body, and calls the monitor. It is a recogniser and nothing else: whatever is not a
plain heartbeat that succeeds is left, every byte of it, to the ordinary lane (`hbtd.api.app`), so
there is one place that knows what is wrong with a request and how to say so.

What it takes is narrower than what HTTP and the ordinary lane allow: `POST`, one of our paths
written without any encoding, HTTP/1.1, a `Content-Length`, and no field that changes what a request
means. llhttp, which is strict, reads the head; twisted.web must never refuse what is taken here
(tests/api/test_lanes.py compares).
"""

import re
from collections.abc import Callable
from operator import itemgetter
from typing import Any, Final

import orjson
from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from twisted.web.http import datetimeToString

from hbtd.api.heartbeats import ALL_FIELDS, NAMED_FIELDS
from hbtd.api.problems import PREFIXES
from hbtd.formats import xnames
from hbtd.formats.go_integers import parse_integer
from hbtd.formats.go_json import pick
from hbtd.monitor import Monitor
from hbtd.server.lane import Taken, Verdict
from hbtd.server.limits import MAX_FIELDS, MAX_HEARTBEAT_BODY
from hbtd.tracker.tracker import TrackerFull

MayBeat = Callable[[bytes | None, str], bool]
"""Tells whether somebody with this Authorization may speak for a component, given its name in
normal form, or any text; if not, the ordinary lane says so."""

MayBeatOf = Callable[[Any], MayBeat]
"""Makes the one for whoever is at the other end of a transport."""

_LONGEST_HEAD: Final = 8 * 1024
"""Bytes of a head that are looked at here; the ordinary lane takes `max_header_bytes`."""

_AT_ONCE: Final = 32
"""Heartbeats that a connection may have taken before others get their turn."""

_MOST_HEADS: Final = 20_000
"""Heads that are remembered: one for each node of a large machine that is named in its path."""

_LONGEST_REMEMBERED: Final = 512
"""Bytes of a head that is worth remembering."""

_LONGEST_SECRET: Final = 4096
"""Bytes of a head with credentials that is worth remembering, by its connection alone."""

_BEGINNINGS: Final = tuple(f"POST {prefix}/heartbeat".encode() for prefix in PREFIXES)
_TARGET: Final = re.compile(
    b"(?:%b)/heartbeat(?:/([0-9A-Za-z]{1,64}))?" % b"|".join(prefix.encode() for prefix in PREFIXES)
)
_REQUEST_LINE: Final = re.compile(rb"POST [!-~]+ HTTP/1\.1\r\n")
# Fields that change what a request means, or how it is to be answered.
_UNUSUAL: Final = frozenset((b"transfer-encoding", b"expect", b"upgrade", b"te", b"trailer"))

_all_of: Final = itemgetter(*ALL_FIELDS)
_named_of: Final = itemgetter(*NAMED_FIELDS)


class _Unusual(Exception):
    """A head that is not for this lane."""


class _Head:
    """What the head of a heartbeat says; llhttp calls the `on_` methods while it reads one."""

    __slots__ = ("authorization", "complete", "fields", "last", "length", "target", "xname")

    def __init__(self) -> None:
        self.target = b""
        self.fields = 0
        self.length = -1
        """Bytes of the body."""
        self.last: bool | None = None
        """Whether the connection is to be closed after the answer; `None` if that is not said."""
        self.authorization: bytes | None = None
        self.xname: str | None = None
        """The component that the path names, in normal form."""
        self.complete = False

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields += 1
        name = name.lower()
        if name == b"content-length":
            # llhttp has seen to it that there is only one. It leaves blanks at the end.
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
        elif name in _UNUSUAL:
            raise _Unusual

    def on_headers_complete(self) -> None:
        self.complete = True


class Sender:
    """What the lane remembers of a connection."""

    __slots__ = ("head", "may_beat", "raw")

    def __init__(self, may_beat: MayBeat | None) -> None:
        self.may_beat = may_beat
        # Its last head with credentials. A node's connection sends the same one again and again.
        self.raw = b""
        self.head: _Head | None = None


class FastLane:
    """Takes heartbeats for the monitor."""

    def __init__(
        self,
        monitor: Monitor,
        wall_clock: Callable[[], float],
        may_beat_of: MayBeatOf | None = None,
        header_bytes: int = _LONGEST_HEAD,
    ) -> None:
        """`wall_clock` gives Unix seconds.

        Heartbeats of who may not speak for their component, as `may_beat_of` tells, are left to the
        ordinary lane; so are heads of more than `header_bytes`.
        """
        self._longest_head = min(header_bytes, _LONGEST_HEAD)
        self._monitor = monitor
        self._wall_clock = wall_clock
        self._may_beat_of = may_beat_of
        self._dated = -1
        self._answer = self._last_answer = b""
        # Requests of one kind of sender have the same head, byte for byte.
        self._heads: dict[bytes, _Head] = {}

    def sender(self, transport: Any) -> Sender:
        """Begin to remember a connection."""
        return Sender(None if self._may_beat_of is None else self._may_beat_of(transport))

    def take(self, data: bytes, sender: Sender) -> Taken:
        """Take the heartbeats that `data` begins with, and tell how far that went.

        For each one taken an empty 200 is due, in order; `sender` is of the connection that they
        came on.
        """
        count = end = 0
        size = len(data)
        while end < size:
            if sender.raw and data.startswith(sender.raw, end):
                head: _Head | None = sender.head
                body = end + len(sender.raw)
            else:
                body = data.find(b"\r\n\r\n", end) + 4
                if body == 3:
                    verdict = self._beginning(data[end:])
                    # To look again at every byte would cost the square of them.
                    return Taken(count, end, verdict, 2 * (size - end))
                raw = data[end:body]
                head = self._heads.get(raw) or self._read(raw)
            if head is None:
                return Taken(count, end, Verdict.OTHER)
            stop = body + head.length
            if stop > size:
                return Taken(count, end, Verdict.ARRIVING, stop - end)
            if count == _AT_ONCE:
                return Taken(count, end, Verdict.TURN)
            if not self._beat(head, data[body:stop], sender.may_beat):
                return Taken(count, end, Verdict.OTHER)
            secret = head.authorization is not None and head is not sender.head
            if secret and body - end <= _LONGEST_SECRET:
                sender.raw, sender.head = data[end:body], head
            count += 1
            end = stop
            if head.last:
                return Taken(count, end, Verdict.LAST)
        return Taken(count, end, Verdict.DRY)

    def answers(self, count: int, *, last: bool = False) -> bytes:
        """Write the answers to so many heartbeats, byte for byte as the ordinary lane does.

        With `last`, the connection is to be closed after them.
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
        """Tell whether a head that has not come to its end yet may be that of a heartbeat."""
        if len(data) <= self._longest_head:
            if data.startswith(_BEGINNINGS):
                return Verdict.BEGINNING if _parse(data) else Verdict.OTHER
            if any(beginning.startswith(data) for beginning in _BEGINNINGS):
                return Verdict.BEGINNING
        return Verdict.OTHER

    def _read(self, data: bytes) -> _Head | None:
        """Read a head; gives `None` for one that is not for this lane."""
        head = _parse(data) if len(data) <= self._longest_head else None
        if head is None or not head.complete or not 0 <= head.length <= MAX_HEARTBEAT_BODY:
            return None
        target = _TARGET.fullmatch(head.target)
        if target is None:
            return None
        if target[1] is not None:
            head.xname = xnames.parse(target[1].decode("ascii"))
            if head.xname is None:
                return None
        # No secrets are kept for all, nor what is not likely to come again.
        if len(data) <= _LONGEST_REMEMBERED and head.authorization is None:
            if len(self._heads) >= _MOST_HEADS:
                self._heads.clear()
            self._heads[data] = head
        return head

    def _beat(self, head: _Head, body: bytes, may_beat: MayBeat | None) -> bool:
        """Take one heartbeat; tells whether it was one, and nothing has happened if it was not."""
        try:
            heartbeat = orjson.loads(body)
        except ValueError:
            return False
        if type(heartbeat) is not dict:
            return False
        xname = head.xname
        if xname is None:
            try:
                values = _all_of(heartbeat)
            except KeyError:  # spelt in another case, or missing
                values = pick(heartbeat, ALL_FIELDS)
            component, hostname, nid, status, timestamp = values
            if not (type(component) is type(hostname) is type(nid) is str):
                return False
            if not (component and hostname and _is_integer(nid)):
                return False
        else:
            component = xname
            try:
                status, timestamp = _named_of(heartbeat)
            except KeyError:
                status, timestamp = pick(heartbeat, NAMED_FIELDS)
        if not (type(status) is type(timestamp) is str and status and timestamp):
            return False
        # Nearly all write their names in normal form, so that these need no reading.
        if may_beat is not None and not may_beat(head.authorization, component):
            xname = xname or xnames.parse(component)
            if xname in (None, component) or not may_beat(head.authorization, xname):
                return False
        if self._monitor.beat_again(component, timestamp, status):
            return True
        xname = xname or xnames.parse(component)
        if xname is None:
            return False
        try:
            self._monitor.beat(xname, timestamp, status)
        except TrackerFull:
            return False
        return True


def _parse(data: bytes) -> _Head | None:
    """Have llhttp read a head, or the beginning of one; gives `None` for what it does not like."""
    # llhttp takes more than one way to write a request line.
    if b"\r\n" in data and not _REQUEST_LINE.match(data):
        return None
    head = _Head()
    try:
        HttpRequestParser(head).feed_data(data)
    except (HttpParserError, HttpParserUpgrade):
        return None
    return head if head.fields <= MAX_FIELDS else None


def _is_integer(text: str) -> bool:
    """Tell whether a text is an integer as NIDs are."""
    # Nearly all are written in this way, which is told much sooner than any.
    if text.isascii() and text.isdecimal() and len(text) < 19 and text[0] != "0":
        return True
    try:
        parse_integer(text, bits=64, signed=True)
    except ValueError:
        return False
    return True
