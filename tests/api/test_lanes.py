"""Both lanes answer alike: the same bytes go to each, and to twisted.web by itself.

`HBTD_FUZZ_EXAMPLES` sets the number of generated streams, in hundreds, different ones in each run.
Without it there are few, and always the same.
"""

import os
import re
from itertools import pairwise
from typing import Any

import orjson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hbtd.api.fastlane import FastLane, Sender
from hbtd.app.service import HbtdService
from hbtd.server.factory import ConnectionFactory
from tests.support.http_memory import (
    BEAT,
    HEARTBEAT,
    XNAME,
    APITestCase,
    Connection,
    chunked,
    encode_request,
    head,
    parse_responses,
    start_in_memory,
)

EXAMPLES = int(os.environ.get("HBTD_FUZZ_EXAMPLES", "0"))

_DATE = re.compile(rb"\r\nDate: [ -~]{29}\r\n")

BODY = orjson.dumps(HEARTBEAT)
NAMED = encode_request("POST", f"/v1/heartbeat/{XNAME}", HEARTBEAT)


class LanesTestCase(APITestCase):
    """A test with three services: the fast lane, the ordinary one, and twisted.web by itself."""

    def setUp(self):
        """Start all three."""
        first, second, third = (start_in_memory(self) for _ in range(3))
        self.lane: FastLane = _listener(first).lane
        self.lanes: list[tuple[HbtdService, Any]] = [
            (first[0], _listener(first)),
            (second[0], ConnectionFactory(_listener(second).site, None, second[1])),
            (third[0], _listener(third).site),
        ]

    def converse(self, factory, pieces):
        """Send pieces; return the answers without dates, and whether the server hung up."""
        connection = Connection(factory)
        connection.send(*pieces)
        answers = _DATE.sub(b"\r\nDate: then\r\n", connection.received())
        closed = connection.closed
        connection.hang_up()
        return answers, closed

    def assert_same(self, *pieces):
        """Check that all services have the same answers, and the same state after them.

        Return the answers, and whether the connection was closed.
        """
        outcomes = [self.converse(factory, pieces) for _, factory in self.lanes]
        self.assertEqual(outcomes[0], outcomes[1], pieces)
        self.assertEqual(outcomes[1], outcomes[2], pieces)
        states = [_state(service) for service, _ in self.lanes]
        self.assertEqual(states[0], states[1], pieces)
        self.assertEqual(states[1], states[2], pieces)
        self.assertEqual(self.flushLoggedErrors(), [])
        return outcomes[0]


def _listener(started: tuple[HbtdService, Any]) -> Any:
    """Return the factory of a service in memory."""
    return started[1].tcpServers[0][1]


def _state(service):
    """Return everything that requests may change, except for times."""
    tracker = service.tracker
    healthy = [(name, each.timestamp, each.status) for name, each in tracker._healthy.items()]
    judged = dict(service.monitor.judged)
    return healthy, tracker.beats, tracker.warned, tracker.dead, judged, service.params.current


def _start_over(service):
    """Undo earlier examples, so that each one is independent of the others."""
    tracker = service.tracker
    for name in list(tracker._healthy):
        tracker.forget(name)
    tracker.beats = 0
    service.monitor.judged.clear()


def _with(*fields: str, body: bytes = BODY, first: str = "POST /v1/heartbeat") -> bytes:
    """Return a heartbeat with these header fields only."""
    return head(first, *fields) + body


_LENGTH = f"Content-Length: {len(BODY)}"

PLAIN = {
    "the usual": BEAT,
    "named in the path": NAMED,
    "the other prefix": BEAT.replace(b"/hmi", b""),
    "keep-alive": _with(_LENGTH, "Connection: Keep-Alive"),
    "close": _with(_LENGTH, "Connection: close"),
    "odd case of fields": _with("cOnTeNt-LeNgTh:" + str(len(BODY)), "CONNECTION:keep-alive"),
    "blanks around values": _with(f"Content-Length: \t{len(BODY)} \t", "X: \t "),
    "leading zeros": _with(f"Content-Length: 000{len(BODY)}"),
    "a token": _with(_LENGTH, "Authorization: Bearer abc"),
    "no host": BEAT.replace(b"Host: hbtd.example\r\n", b""),
    "odd case of keys": encode_request(
        "POST", "/v1/heartbeat", {key.upper(): value for key, value in HEARTBEAT.items()}
    ),
    "more keys": encode_request("POST", "/v1/heartbeat", {"a": [1], **HEARTBEAT}),
    "a name not in normal form": encode_request(
        "POST", "/v1/heartbeat", {**HEARTBEAT, "Component": " X01000C0S0B0N0 "}
    ),
    "a name in the path not in normal form": NAMED.replace(b"x1000", b"X01000", 1),
    "a NID in hexadecimal": encode_request("POST", "/v1/heartbeat", {**HEARTBEAT, "NID": "-0x5_3"}),
    "large": encode_request("POST", "/v1/heartbeat", {**HEARTBEAT, "Hostname": "h" * 60_000}),
}
"""Heartbeats that the fast lane takes."""

SMUGGLING = {
    "two lengths": _with(_LENGTH, _LENGTH),
    "two different lengths": _with(_LENGTH, "Content-Length: 0"),
    "a list of lengths": _with(f"Content-Length: {len(BODY)}, {len(BODY)}"),
    "length and chunks": _with(_LENGTH, "Transfer-Encoding: chunked", body=chunked(BODY)),
    "chunks and length": _with("Transfer-Encoding: chunked", _LENGTH, body=chunked(BODY)),
    "hidden chunks": _with(_LENGTH, "Transfer-Encoding: xchunked"),
    "chunks by another line": _with(_LENGTH, "X: y\nTransfer-Encoding: chunked"),
    "bare line feeds": BEAT.replace(b"\r\n", b"\n"),
    "one bare line feed": BEAT.replace(b"\r\n", b"\n", 1),
    "a bare line feed at the end": BEAT.replace(b"\r\n\r\n", b"\r\n\n"),
    "a bare carriage return": _with(_LENGTH, "X: y\rZ: z"),
    "folding": _with("X: y\r\n z", _LENGTH),
    "a folded length": _with("Content-Length:\r\n " + str(len(BODY))),
    "folding first": _with(" X: y", _LENGTH),
    "length and identity": _with(_LENGTH, "Transfer-Encoding: identity"),
    "blank before the colon": _with(f"Content-Length : {len(BODY)}"),
    "no colon": _with(_LENGTH, "X"),
    "no name": _with(_LENGTH, ": x"),
    "a sign": _with(f"Content-Length: +{len(BODY)}"),
    "a negative length": _with("Content-Length: -1"),
    "an underscore": _with("Content-Length: 1_0"),
    "hexadecimal": _with("Content-Length: 0x7f"),
    "other digits": _with("Content-Length: ²"),
    "no length": _with(),
    "an empty length": _with("Content-Length:"),
    "an endless length": _with("Content-Length: " + "9" * 30),
    "a NUL": _with(_LENGTH, "X: \0"),
    "two blanks": BEAT.replace(b"POST ", b"POST  "),
    "two blanks at the end": BEAT.replace(b" HTTP", b"  HTTP"),
    "a tab": BEAT.replace(b"POST ", b"POST\t"),
    "a blank after the version": BEAT.replace(b"1.1\r\n", b"1.1 \r\n", 1),
    "another version": BEAT.replace(b"1.1", b"1.2", 1),
    "version 0.9": BEAT.replace(b" HTTP/1.1", b"", 1),
    "version 2": BEAT.replace(b"1.1", b"2.0", 1),
}
"""Requests that a proxy in front of hbtd might interpret in another way."""

OTHERS = {
    "HTTP/1.0": BEAT.replace(b"1.1", b"1.0", 1),
    "HTTP/1.0 kept": BEAT.replace(b"1.1", b"1.0", 1).replace(
        b"Host:", b"Connection: keep-alive\r\nH:"
    ),
    "chunks": _with("Transfer-Encoding: chunked", body=chunked(BODY, 30)),
    "absolute form": BEAT.replace(b"POST /", b"POST http://h/"),
    "a query": BEAT.replace(b"heartbeat HTTP", b"heartbeat?x HTTP"),
    "an encoded name": NAMED.replace(b"x1000", b"%781000", 1),
    "an empty name": NAMED.replace(XNAME.encode(), b"", 1),
    "a bad name": NAMED.replace(XNAME.encode(), b"nobody", 1),
    "a longer path": NAMED.replace(XNAME.encode(), b"x1/y", 1),
    "an empty line before": b"\r\n" + BEAT,
    "two empty lines before": b"\r\n\r\n" + BEAT,
    "empty lines between": BEAT + b"\r\n" + BEAT + b"\r\n" + BEAT,
    "expectation": _with(_LENGTH, "Expect: 100-continue"),
    "unknown expectation": _with(_LENGTH, "Expect: x"),
    "upgrade": _with(_LENGTH, "Connection: Upgrade", "Upgrade: h2c"),
    "two connections": _with(_LENGTH, "Connection: close", "Connection: keep-alive"),
    "two connections the other way": _with(_LENGTH, "Connection: keep-alive", "Connection: close"),
    "connections in a list": _with(_LENGTH, "Connection: close, x"),
    "a lower case method": BEAT.replace(b"POST", b"post"),
    "another method": BEAT.replace(b"POST", b"PUT"),
    "many fields": _with(_LENGTH, *(f"X{i}: {i}" for i in range(99))),
    "too many fields": _with(_LENGTH, *(f"X{i}: {i}" for i in range(100))),
    "long fields": _with(_LENGTH, "X: " + "x" * 10_000),
    "too long fields": _with(_LENGTH, "X: " + "x" * 17_000),
    "too large": encode_request("POST", "/v1/heartbeat", {**HEARTBEAT, "Hostname": "h" * 65_500}),
    "a preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": bytes.fromhex("16030100f4010000f00303"),
    "no object": encode_request("POST", "/v1/heartbeat", [HEARTBEAT]),
    "no JSON": encode_request("POST", "/v1/heartbeat", BODY[:-1]),
    "nothing": encode_request("POST", "/v1/heartbeat"),
    "a bad NID": encode_request("POST", "/v1/heartbeat", {**HEARTBEAT, "NID": "x"}),
    "a large NID": encode_request("POST", "/v1/heartbeat", {**HEARTBEAT, "NID": "9" * 19}),
    "a NID of other digits": encode_request("POST", "/v1/heartbeat", {**HEARTBEAT, "NID": "٣"}),
    "nobody": encode_request("POST", "/v1/heartbeat", {**HEARTBEAT, "Component": "nobody"}),
}
"""Other requests, valid and invalid, that the fast lane must not take."""


class SamenessTests(LanesTestCase):
    """Requests chosen by hand."""

    def test_plain(self):
        """The fast lane takes plain heartbeats, and answers like the ordinary one."""
        for name, request in PLAIN.items():
            self.assertEqual(self.lane.take(request, Sender(None)).beats, 1, name)
            for service, _ in self.lanes[1:]:
                service.monitor.beat(XNAME, str(HEARTBEAT["Timestamp"]), str(HEARTBEAT["Status"]))
            answers, _ = self.assert_same(request)
            self.assertTrue(answers.startswith(b"HTTP/1.1 200 "), name)

    def test_smuggling(self):
        """Ambiguous requests are refused in the same way, whole and in pieces."""
        for name, request in SMUGGLING.items():
            self.assertEqual(self.lane.take(request, Sender(None)).beats, 0, name)
            answers, _ = self.assert_same(request, BEAT)
            self.assertRegex(answers, rb"\A(HTTP/1.1 40[0-9] |\Z)", name)
            self.assert_same(request + BEAT + BEAT)
            self.assert_same(*(request[i : i + 1] for i in range(len(request))))

    def test_others(self):
        """Unusual requests are answered alike, also between heartbeats."""
        for name, request in OTHERS.items():
            if name != "empty lines between":
                self.assertEqual(self.lane.take(request, Sender(None)).beats, 0, name)
            self.assert_same(request)
            self.assert_same(BEAT + request + BEAT)
            self.assert_same(BEAT, request, NAMED)

    def test_any_split(self):
        """The answers don't depend on where a stream is split."""
        requests = [BEAT, head("GET /v1/liveness"), NAMED, OTHERS["chunks"], BEAT, b"\r\n", BEAT]
        stream = b"".join(requests)
        for i in range(1, len(stream)):
            self.assert_same(stream[:i], stream[i:])
        self.assert_same(*(stream[i : i + 1] for i in range(len(stream))))

    def test_cut_off(self):
        """The answers are the same wherever a stream ends."""
        for request in (BEAT, NAMED, OTHERS["chunks"], SMUGGLING["folding"], PLAIN["close"]):
            for i in range(len(request)):
                self.assert_same(request[:i])

    def test_closing(self):
        """While hbtd stops, one heartbeat is answered, and the connection is closed."""
        for service, _ in self.lanes:
            service._site.close_after_answers()
        answers, closed = self.assert_same(BEAT + BEAT)
        self.assertEqual(len(parse_responses(answers)), 1)
        self.assertTrue(closed)


_NAMES = st.sampled_from(
    [XNAME, "x0", "X00C1S2b3N4", " x1c0s0b0n1 ", "x1000c0s0b0n0v0", "nobody", "", "x" * 300, "é"]
)
_TEXTS = st.one_of(
    st.sampled_from(["OK", "83", "0x53", "-1", "٣", "1_0", "0", "00", "08", "9" * 19, "", "é\0"]),
    st.text(max_size=5),
)
_VALUES: st.SearchStrategy[object] = st.one_of(
    _TEXTS, st.sampled_from([None, 1, 1.5, True, [], {}, ["x"], "s" * 300])
)
_KEYS = st.sampled_from(["Component", "Hostname", "NID", "Status", "Timestamp"])


@st.composite
def _bodies(draw):
    """Draw the body of a heartbeat: valid, odd or broken."""
    kind = draw(st.integers(0, 9))
    heartbeat: dict[str, object] = {**HEARTBEAT, "Component": draw(_NAMES)}
    if kind >= 4:
        heartbeat = {**HEARTBEAT, "Component": XNAME}
    elif kind >= 1:
        for key in draw(st.lists(_KEYS, max_size=2)):
            change = draw(st.sampled_from(["value", "value", "drop", "case", "twice"]))
            value = heartbeat.pop(key, "x")
            if change == "value":
                heartbeat[key] = draw(_VALUES)
            elif change == "case":
                heartbeat[draw(st.sampled_from([key.upper(), key.lower(), key.swapcase()]))] = value
            elif change == "twice":
                heartbeat.update({key.lower(): value, key: draw(_VALUES)})
    body = orjson.dumps(heartbeat)
    if kind == 0:
        body = draw(
            st.sampled_from(
                [
                    *(body[:-1], b"[" + body + b"]", b"", b"null", b'"x"', b"\xef\xbb\xbf" + body),
                    *(b" \r\n" + body + b"\n", body + b"x", b'{"a":' * 2000),
                    body.replace(b"e", b"\xff"),
                ]
            )
        )
    return body


_FIELDS = st.sampled_from(
    [
        *("Content-Type: application/json", "User-Agent: x", "Accept: */*", "Cookie: a=b; =; c"),
        *("Connection: close", "connection: keep-alive", "Connection: Close ", "Connection: x"),
        *("Connection: keep-alive, close", "Connection: close, te", "CONNECTION:\tclose\t"),
        *("Transfer-Encoding: chunked", "Transfer-Encoding: identity", "transfer-encoding: x"),
        *("Content-Length: 0", "Content-Length: 7", "Content-Length: x", "content-length:"),
        *("Expect: 100-continue", "Expect: x", "Authorization: Bearer x", "authorization:"),
        *(
            "X-Forwarded-For: 1.2.3.4",
            "Host: other",
            "X: é",
            "X: a\tb",
            "X:",
            "a-b_c!#$%&'*+.^`|~: 1",
        ),
        *("Upgrade: h2c", "TE: trailers", "Trailer: x", "Content-Encoding: gzip", "X: y\r\n z"),
        *("X : y", "X", ": y", "X: y\nZ: z", "X: y\rZ: z", "X: \x01", "X: \x7f", "\tX: y", "é: x"),
    ]
)
_FIRSTS = st.sampled_from(
    ["POST /hmi/v1/heartbeat", "POST /v1/heartbeat", f"POST /v1/heartbeat/{XNAME}"] * 6
    + [
        *("POST /v1/heartbeat/X00c1", "POST /hmi/v1/heartbeat/nobody", "POST /v1/heartbeat/"),
        *("POST http://h/v1/heartbeat", "POST /v1/heartbeat?x=1", "POST /v1/heartbeat/%781"),
        *("POST /v1//heartbeat", "post /v1/heartbeat", "PUT /v1/heartbeat", "POST  /v1/heartbeat"),
        *("GET /v1/liveness", f"GET /v1/hbstate/{XNAME}", "GET /v1/params", "POST /v1/hbstates"),
        *(f"DELETE /v1/heartbeat/{XNAME}", "GET /nope", "HEAD /v1/params", "POST /v1/heartbeats"),
        *("POST /v1/heartbeat/x1\xb1", "POST *", "POST /v1/heartbeat#x", "POST /v1/heartbeat/x1/"),
    ]
)


@st.composite
def _requests(draw):
    """Draw a request: mostly a heartbeat, mostly a valid one."""
    body = draw(_bodies())
    fields = ["Host: h"]
    if draw(st.integers(0, 9)):
        fields.append(f"Content-Length: {len(body)}")
    elif draw(st.booleans()):
        fields.append("Transfer-Encoding: chunked")
        body = chunked(body, 50)
    if draw(st.integers(0, 2)) == 0:
        for field in draw(st.lists(_FIELDS, max_size=3)):
            fields.insert(draw(st.integers(0, len(fields))), field)
    version = draw(st.sampled_from(["1.1"] * 20 + ["1.0", "1.2", "1.1 ", "2"]))
    lines = [f"{draw(_FIRSTS)} HTTP/{version}", *fields, "", ""]
    data = "\r\n".join(lines).encode("utf-8") + body
    if not draw(st.integers(0, 15)):
        start = draw(st.integers(0, len(data)))
        end = start + draw(st.sampled_from([0, 0, 1, 2, 5]))
        data = data[:start] + draw(st.one_of(_TOKENS, st.binary(max_size=3))) + data[end:]
    return data


_TOKENS = st.sampled_from(
    [b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\x00", b"\xff", b" ", b"\t", b":", b"0", b"\r\n "]
)


class RandomTests(LanesTestCase):
    """Requests that Hypothesis generates."""

    @settings(
        max_examples=EXAMPLES * 100 or 400,
        deadline=None,
        derandomize=not EXAMPLES,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(st.lists(_requests(), min_size=1, max_size=4), st.lists(st.integers(0, 900), max_size=4))
    def test_same(self, requests, cuts):
        """Any stream, however it is split, has the same answers and effects."""
        for service, _ in self.lanes:
            _start_over(service)
        data = b"".join(requests)
        bounds = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
        self.assert_same(*(data[a:b] for a, b in pairwise(bounds) if a < b))
