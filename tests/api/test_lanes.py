"""Both lanes answer alike: the same bytes go to each, and to twisted.web by itself.

`HBTD_FUZZ_EXAMPLES` sets the number of generated streams (`tests.support.http_streams`).
"""

from itertools import pairwise
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from hbtd.api.fastlane import Sender
from hbtd.app.service import HbtdService
from hbtd.net.served_certificate import serve_identity
from hbtd.server.factory import ConnectionFactory
from tests.support.certificates import make_identity
from tests.support.http_memory import (
    BEAT,
    HEARTBEAT,
    XNAME,
    chunked,
    encode_request,
    head,
    parse_responses,
)
from tests.support.http_streams import EXTENT, requests
from tests.support.invalid_inputs import ODD_VALUES
from tests.support.lanes import LanesTestCase, start_over, state, without_dates
from tests.support.socket_pairs import Pair, PlainClient, SocketReactor, TLSClient

BODY = orjson.dumps(HEARTBEAT)
NAMED = encode_request("POST", f"/v1/heartbeat/{XNAME}", HEARTBEAT)


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
    "no host": BEAT.replace(b"Host: localhost\r\n", b""),
    "two hosts": BEAT.replace(b"Host:", b"Host: a\r\nHost:"),
    "HTTP/1.0 that is kept": BEAT.replace(b"1.1\r\n", b"1.0\r\nConnection: keep-alive\r\n"),
    "bare LF": BEAT.replace(b"\r\n", b"\n"),
    "one bare LF": BEAT.replace(b"\r\nHost", b"\nHost"),
    "encoded route": BEAT.replace(b"/heartbeat", b"/%68eartbeat"),
    "broken encoding": NAMED.replace(b"/x1", b"/%x1"),
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
    "a web page": _with(_LENGTH, "Origin: https://evil.example"),
    "a web page of no site": _with(_LENGTH, "oRIGIN:null"),
    "another site": _with(_LENGTH, "Sec-Fetch-Site: cross-site"),
    "the same site": _with(_LENGTH, "Sec-Fetch-Site: same-origin"),
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

ODD = {
    **{f"odd value {i}": BODY[:-1] + b',"x":' + odd + b"}" for i, odd in enumerate(ODD_VALUES)},
    "broken UTF-8": BODY.replace(b"Alive", b"\xff\xe2\x82Alive"),
    "a lone surrogate": BODY.replace(b"Alive", b"\\ud800Alive"),
    "an odd key": BODY.replace(b"{", b'{"\\udfff\xff":1,'),
}
"""Bodies of heartbeats that the fast lane leaves to the ordinary lane, which takes them."""


class SamenessTests(LanesTestCase):
    """Requests chosen by hand."""

    def test_plain(self):
        """The fast lane takes plain heartbeats, and answers like the ordinary one."""
        for name, request in PLAIN.items():
            self.assertEqual(self.lane.take(request, Sender(None, None))[0], 1, name)
            for service, _ in self.lanes[1:]:
                service.monitor.beat(XNAME, str(HEARTBEAT["Timestamp"]), str(HEARTBEAT["Status"]))
            answers, _ = self.assert_same(request)
            self.assertTrue(answers.startswith(b"HTTP/1.1 200 "), name)

    def test_smuggling(self):
        """Ambiguous requests are refused in the same way, whole and in pieces."""
        for name, request in SMUGGLING.items():
            self.assertEqual(self.lane.take(request, Sender(None, None))[0], 0, name)
            answers, _ = self.assert_same(request, BEAT)
            self.assertRegex(answers, rb"\A(HTTP/1.1 40[0-9] |\Z)", name)
            self.assert_same(request + BEAT + BEAT)
            self.assert_same(*(request[i : i + 1] for i in range(len(request))))

    def test_others(self):
        """Unusual requests are answered alike, also between heartbeats."""
        for name, request in OTHERS.items():
            if name != "empty lines between":
                self.assertEqual(self.lane.take(request, Sender(None, None))[0], 0, name)
            self.assert_same(request)
            self.assert_same(BEAT + request + BEAT)
            self.assert_same(BEAT, request, NAMED)

    def test_odd(self):
        """Heartbeats that orjson refuses and Go takes are taken, whichever lane sees them first."""
        for name, body in ODD.items():
            for first in ("POST /v1/heartbeat", f"POST /v1/heartbeat/{XNAME}"):
                request = _with(f"Content-Length: {len(body)}", body=body, first=first)
                self.assertEqual(self.lane.take(request, Sender(None, None))[0], 0, name)
                answers, _ = self.assert_same(BEAT + request + NAMED)
                statuses = [each.status for each in parse_responses(answers)]
                self.assertEqual(statuses, [200, 200, 200], name)

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
        """While hbtd stops, each connection is closed after an answer that says so.

        The fast lane answers all heartbeats that have arrived together, the ordinary one the first.
        """
        self.lanes[0][1].drain()
        self.lanes[1][1].drain()
        self.lanes[2][1].closing = True
        for (_, factory), count in zip(self.lanes, (2, 1, 1), strict=True):
            answers, closed = self.converse(factory, [BEAT + BEAT])
            told = [each.headers.get("connection") for each in parse_responses(answers)]
            self.assertEqual(told, [None, "close"][-count:])
            self.assertTrue(closed)


class RandomTests(LanesTestCase):
    """Requests that Hypothesis generates."""

    @EXTENT
    @given(st.lists(requests(), min_size=1, max_size=4), st.lists(st.integers(0, 900), max_size=4))
    def test_same(self, requests, cuts):
        """Any stream, however it is split, has the same answers and effects."""
        for service, _ in self.lanes:
            start_over(service)
        data = b"".join(requests)
        bounds = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
        self.assert_same(*(data[a:b] for a, b in pairwise(bounds) if a < b))


class SocketTests(LanesTestCase):
    """The same on real sockets, in the clear and over TLS."""

    def setUp(self):
        """Make factories for sockets, which serve what the services in memory serve."""
        super().setUp()
        self.sockets = SocketReactor()
        served = serve_identity(make_identity("hbtd.example"))
        (fast, one), (slow, two), _ = self.lanes
        self.ends: list[tuple[HbtdService, Any, Any]] = []
        for certificate in (None, served):
            tls = certificate is not None
            for service, site, lane in ((fast, one.site, one.lane), (slow, two.site, None)):
                factory = ConnectionFactory(site, lane, self.sockets, tls=tls)
                self.ends.append((service, factory, certificate))

    def converse_on(self, factory, certificate, pieces, segments):
        """Send pieces, each in a record, joined and cut into segments; return as `converse`."""
        client = PlainClient if certificate is None else TLSClient
        pair = Pair(self.sockets, factory, client, certificate)
        pair.settle()
        if certificate is None:
            stream = b"".join(pieces)
        else:
            for piece in pieces:
                pair.client.tls.sendall(piece)
            stream = pair.client.records()
        for size in [*segments, len(stream)]:
            if stream and not (pair.client.ended or pair.client.reset):
                pair.client.transmit(stream[:size])
                pair.settle()
                stream = stream[size:]
        self.assertIsNone(getattr(pair.client, "error", None))
        answers = without_dates(pair.client.received)
        closed = pair.client.ended or pair.client.reset
        pair.close()
        return answers, closed

    @EXTENT
    @given(
        st.lists(requests(), min_size=1, max_size=4),
        st.lists(st.integers(0, 900), max_size=4),
        st.lists(st.integers(1, 500), max_size=5),
    )
    def test_same(self, requests, cuts, segments):
        """Records and segments make no difference, in either lane."""
        data = b"".join(requests)
        bounds = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
        pieces = [data[a:b] for a, b in pairwise(bounds) if a < b]
        outcomes = []
        for service, factory, certificate in self.ends:
            start_over(service)
            outcome = self.converse_on(factory, certificate, pieces, segments)
            outcomes.append((outcome, state(service)))
        self.assertEqual(outcomes, outcomes[:1] * 4, pieces)
        self.assertEqual(self.flushLoggedErrors(), [])
