"""Streams of requests that Hypothesis generates: heartbeats mostly, good, odd and broken.

`HBTD_FUZZ_EXAMPLES` sets how many there are, in hundreds, different ones in each run. Without it
there are few, and always the same.
"""

import os

import orjson
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from tests.support.http_memory import HEARTBEAT, XNAME, chunked
from tests.support.invalid_inputs import ODD_VALUES

EXAMPLES = int(os.environ.get("HBTD_FUZZ_EXAMPLES", "0"))

EXTENT = settings(
    max_examples=EXAMPLES * 100 or 400,
    deadline=None,
    derandomize=not EXAMPLES,
    suppress_health_check=[HealthCheck.too_slow],
)
"""How many streams a test is run with."""

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


_ODD_TEXTS = st.lists(
    st.sampled_from(
        [
            *(b"\xff", b"\xe2\x82", b"\xed\xa0\x80", b"\xf0\x9f\x98\x80", b"\\ud800", b"\\uDfff"),
            *(
                b"\\ud83d",
                b"\\ude00",
                b"\\\\",
                b'\\"',
                b"[",
                b"}",
                b"1e999",
                b"a",
                b"\\u00",
                b"\x01",
            ),
        ]
    ),
    max_size=4,
).map(b"".join)
_DEPTHS = st.sampled_from([1, 1000, 1023, 1024, 1025, 2000, 9999, 10_000])


@st.composite
def _odd(draw, body):
    """Draw a body that differs from a valid one in what orjson refuses, and Go may read."""
    text = draw(_ODD_TEXTS)
    kind = draw(st.integers(0, 4))
    if kind == 0:
        return body.replace(b"Alive", text)
    value = draw(st.sampled_from((*ODD_VALUES, b'"' + text + b'"', b"01e999", b"1.5.5", b"-")))
    if kind == 1:
        levels = draw(_DEPTHS)
        value = b"[" * levels + value + b"]" * levels
    elif kind == 2:
        value = b'{"%b":%b,"y":[%b]}' % (text, value, value)
    key = draw(st.sampled_from([b"x", b"Status", text]))
    return b'{"%b":%b,%b' % (key, value, body[1:])


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
    if kind in (3, 4):
        body = draw(_odd(body))
    elif kind == 0:
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
            "Origin: null",
            "Sec-Fetch-Site: cross-site",
            "Sec-Fetch-Site: none",
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
def requests(draw):
    """Draw a request: mostly a heartbeat, mostly a valid one."""
    body = draw(_bodies())
    fields = ["Host: localhost"]
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
