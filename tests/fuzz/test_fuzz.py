"""What no proper client sends: picked by hand, made by Hypothesis, and by schemathesis.

`HBTD_FUZZ_EXAMPLES` says how many examples are tried, other ones each time; without it there are
few, and always the same.
"""

import os
import random
import re
import sys
from itertools import pairwise
from pathlib import Path
from signal import SIGTERM

import orjson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from treq.client import HTTPClient
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent

import hbtd
from tests.support.http_memory import (
    BEAT,
    HEARTBEAT,
    PROBLEM,
    XNAME,
    APITestCase,
    chunked,
    encode_request,
    head,
    parse_responses,
)

EXAMPLES = int(os.environ.get("HBTD_FUZZ_EXAMPLES", "0"))

SECONDS = int(os.environ.get("HBTD_FUZZ_SECONDS", "0"))
"""How long the live server is asked; 0: until the examples are used up."""

KIB64 = 64 * 1024

CHUNKED = head("POST /v1/heartbeat", "Transfer-Encoding: chunked")


class StreamTests(APITestCase):
    """Requests as they come off the wire."""

    def assert_harmless(self, *pieces):
        """Send what is no request; it is answered with 4xx or the end, and changes nothing."""
        before = self.state()
        connection = self.connect()
        connection.send(*pieces)
        answers = parse_responses(connection.received())
        connection.hang_up()
        for answer in answers:
            self.assertIn(answer.status // 100, (1, 4), pieces)
        self.assertEqual(self.state(), before)
        self.assertEqual(self.flushLoggedErrors(), [])
        return answers

    def test_any_split(self):
        """It does not matter how a request is cut into pieces."""
        connection = self.connect()
        connection.send(*(BEAT[i : i + 1] for i in range(len(BEAT))))
        for i in range(1, len(BEAT)):
            connection.send(BEAT[:i], BEAT[i:])
        answers = parse_responses(connection.received())
        self.assertEqual([answer.status for answer in answers], [200] * len(BEAT))

    def test_half_a_request(self):
        """A request that ends too early has no effect."""
        for request in (BEAT, CHUNKED + chunked(orjson.dumps(HEARTBEAT))):
            for i in range(len(request)):
                self.assertEqual(self.assert_harmless(request[:i]), [])

    def test_pipelined(self):
        """Requests sent at once are answered in their order."""
        paths = ("/v1/liveness", "/v1/params", "/nope", f"/v1/hbstate/{XNAME}", "/v1/heartbeat")
        connection = self.connect()
        connection.send(b"".join(map(head, (f"GET {path}" for path in paths))) + BEAT + BEAT)
        answers = parse_responses(connection.received())
        self.assertEqual([each.status for each in answers], [204, 200, 404, 200, 405, 200, 200])
        self.assertFalse(connection.closed)

    def test_expect(self):
        """A client that waits to be told to go on is told."""
        connection = self.connect()
        length = len(orjson.dumps(HEARTBEAT))
        fields = ("Expect: 100-continue", f"Content-Length: {length}")
        connection.send(head("POST /v1/heartbeat", *fields))
        self.assertEqual(connection.received(), b"HTTP/1.1 100 Continue\r\n\r\n")
        connection.send(orjson.dumps(HEARTBEAT))
        (answer,) = parse_responses(connection.received())
        self.assertEqual(answer.status, 200)

    def test_absolute_form(self):
        """A target in absolute form means the same as its path."""
        for target in (
            "http://h/v1/liveness",
            "https://[::1]:1/hmi/v1/liveness?x",
            "X://y/v1/liveness",
        ):
            self.assertEqual(self.request("GET", target).status, 204)
        response = self.request("GET", "http://evil.example/v1/params/?x")
        self.assertEqual(response.headers["location"], "/v1/params?x")
        self.assertEqual(self.request("GET", "http://h").status, 404)

    def test_absolute_form_without_path(self):
        """What follows the question mark of a target is never taken for its path."""
        for target in ("http://h?x=/v1/liveness", "x?y://z/v1/liveness"):
            self.assertIn(self.request("GET", target).status, (400, 404), target)

    def test_http_1_0(self):
        """An HTTP/1.0 client is answered, and the connection ended."""
        for request in (b"GET /v1/params HTTP/1.0\r\n\r\n", BEAT.replace(b"HTTP/1.1", b"HTTP/1.0")):
            connection = self.connect()
            connection.send(request)
            (answer,) = parse_responses(connection.received())
            self.assertEqual((answer.status, connection.closed), (200, True))

    def test_any_host(self):
        """The Host header does not matter, not even if it is none."""
        for host in (b"\xff\xfe", b"[::1", b"a b/c@d:99999", b"", b"x" * 10_000, b":", b"%00"):
            connection = self.connect()
            connection.send(b"GET /v1/liveness HTTP/1.1\r\nHost: %b\r\n\r\n" % host)
            (answer,) = parse_responses(connection.received())
            self.assertEqual(answer.status, 204)

    def test_not_http(self):
        """What is not HTTP is refused, and the connection ended."""
        for line in (
            *(b"garbage", b"GET", b"GET /v1/params", b"GET /v1/params HTTP/1.1 x", b"\x16\x03\x01"),
            *(b"GET /v1/params HTTP/2.0", b"GET /v1/params HTTP/x", b" / HTTP/1.1", b"\x00" * 9),
            *(b"G\xffT /v1/params HTTP/1.1", b"GET /v1/\xff HTTP/1.1", b"PRI * HTTP/2.0"),
            *(b"GET\t/v1/params\tHTTP/1.1", b"GET /v1/par ams HTTP/1.1", b"GET \x00 HTTP/1.1"),
        ):
            (answer,) = self.assert_harmless(line + b"\r\n\r\n")
            self.assertEqual((answer.status, answer.body), (400, b""), line)

    def test_bad_headers(self):
        """Headers that are none are refused."""
        for header in (
            *(b"NoColon", b": x", b"X : x", b"X\x00: x", b"X: \x00", b"X: a\x0bb\x00", b" x"),
            *(b"Content-Length: x", b"Content-Length: -1", b"Content-Length: +1"),
            *(b"Content-Length: ", b"Content-Length: 0x1", b"Content-Length: 1_0"),
            *(b"Content-Length: 1\r\nContent-Length: 2", b"Transfer-Encoding: gzip"),
            b"Content-Length: 5\r\nTransfer-Encoding: chunked",
            b"Transfer-Encoding: chunked\r\nContent-Length: 5",
            b"Transfer-Encoding: gzip, chunked",
            b"X: y\r\n" * 1000,
        ):
            request = b"POST /v1/heartbeat HTTP/1.1\r\n%b\r\n\r\n" % header
            self.assert_harmless(request + orjson.dumps(HEARTBEAT))

    def test_huge_headers(self):
        """Lines without end are cut off."""
        for start in (b"", b"GET /v1/hbstate/", b"GET /v1/liveness HTTP/1.1\r\nX: "):
            for end in (b"", b" HTTP/1.1\r\n\r\n"):
                self.assert_harmless(start + b"x" * 100_000 + end)

    def test_garbage(self):
        """A mebibyte of garbage, of any kind and in any pieces, has no effect."""
        noise = random.Random(1).randbytes(2**20)
        for garbage in (noise, b"\x00" * 2**20, b"x" * 2**20, b"\r\n" * 2**19, b"x\r\n" * 2**18):
            self.assert_harmless(garbage)
            self.assert_harmless(*(garbage[i : i + 4096] for i in range(0, len(garbage), 4096)))
            self.assert_harmless(head("POST /v1/hbstates", "Content-Length: 1048576") + garbage)

    def test_bad_chunks(self):
        """Chunks that are none are refused, and so is what can't become a heartbeat."""
        body = orjson.dumps(HEARTBEAT)
        for chunks in (
            *(
                b"zz\r\n",
                b"-5\r\nabcde\r\n",
                b"5\r\nabcdefgh\r\n",
                b"5;" + b"x" * 5000,
                b"\r\n\r\n",
            ),
            *(b"0x10\r\n", b" 5\r\nabcde\r\n", b"5\nabcde\r\n", b"f" * 40 + b"\r\n", b"0\r\n\r\n"),
            *(b"0\r\nTrailer: x\r\n\r\n", b"0\r\nTrailer: " + b"x" * 100_000, b"%x\r\n" % 2**70),
            *(b"%x\r\n%bx\r\n0\r\n\r\n" % (len(body), body), b"\xff\r\n"),
        ):
            self.assert_harmless(CHUNKED + chunks)
            self.assert_harmless(CHUNKED, *(chunks[i : i + 1] for i in range(len(chunks))))

    def test_hostile_json(self):
        """JSON that is deep or odd is refused as any other that is not wanted."""
        deep = 100_000
        for body in (
            *(b"[" * deep, b'{"a":' * deep, b"[" * deep + b"]" * deep, b'{"XNames":' + b"[" * deep),
            *(b'{"Warntime":' * 9999 + b"1" + b"}" * 9999, b'{"XNames":[1e999]}', b"\x00{}"),
            *(b'{"XNames":[%b],"Warntime":%b}' % (b"9" * 9999, b"9" * 9999), b'"\\ud800"'),
        ):
            for method, route in (("POST", "hbstates"), ("PATCH", "params"), ("POST", "heartbeat")):
                (answer,) = self.assert_harmless(encode_request(method, f"/v1/{route}", body))
                expected = 413 if route == "heartbeat" and len(body) > KIB64 else 400
                self.assertEqual((answer.status, answer.content_type), (expected, PROBLEM))


_PROPER = (
    BEAT,
    CHUNKED + chunked(orjson.dumps(HEARTBEAT), 50),
    encode_request("POST", f"/v1/heartbeat/{XNAME}", HEARTBEAT),
    encode_request("DELETE", f"/v1/heartbeat/{XNAME}"),
    encode_request("POST", "/v1/hbstates", {"XNames": [XNAME, "x1"]}),
    encode_request("GET", f"/v1/hbstate/{XNAME}/?x=%20"),
    encode_request("PATCH", "/v1/params", {"Warntime": "0x0f", "Errtime": "", "Port": "1"}),
    encode_request("GET", "http://h/hmi/v1/health", headers={"Expect": "100-continue"}),
)

_TOKENS = st.sampled_from(
    [
        *(b"\r\n", b"\n", b"\r\n\r\n", b"\x00", b"\xff", b" ", b"%", b"%2f", b"/", b"//", b"?"),
        *(b":", b'"', b"{", b"}", b"[", b"\\ud800", b"null", b"0", b"-1", b"9" * 30, b"HEAD"),
        *(b"HTTP/1.0", b"GET ", b"Content-Length: 7\r\n", b"Transfer-Encoding: chunked\r\n"),
        *(b"Connection: close\r\n", b"*", b"://", b"Expect: 100-continue\r\n", b"PATCH"),
    ]
)


@st.composite
def _damaged(draw):
    """Make some requests in a row, with a few bytes cut out, put in or repeated."""
    data = b"".join(draw(st.lists(st.sampled_from(_PROPER), min_size=1, max_size=3)))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = start + draw(st.sampled_from([0, 0, 1, 2, 5, 50]))
        middle = draw(st.one_of(_TOKENS, st.binary(max_size=5), st.just(data[start:end] * 2)))
        data = data[:start] + middle + data[end:]
    return data


class RandomTests(APITestCase):
    """Whatever Hypothesis thinks of."""

    @settings(
        max_examples=EXAMPLES * 20 or 500,
        deadline=None,
        derandomize=not EXAMPLES,
        # Each lane has a class for it; nothing of one example is left for the next.
        suppress_health_check=[HealthCheck.differing_executors],
    )
    @given(
        st.one_of(_damaged(), st.binary(max_size=300)), st.lists(st.integers(0, 600), max_size=3)
    )
    def test_no_failure_and_no_silent_effect(self, data, cuts):
        """No bytes, however they are cut, get a 5xx, and none change anything without a 2xx."""
        before = self.state()
        bounds = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
        connection = self.connect()
        connection.send(*(data[a:b] for a, b in pairwise(bounds) if a < b))
        received = connection.received()
        connection.hang_up()
        statuses = re.findall(rb"HTTP/1\.[01] ([0-9])[0-9][0-9] ", received)
        self.assertNotIn(b"5", statuses)
        self.assertNotIn(b"Traceback", received)
        if b"2" not in statuses:
            self.assertEqual(self.state(), before)
        self.assertEqual(self.flushLoggedErrors(), [])


class _Hbtd(ProcessProtocol):
    """hbtd's command as a process; keeps its log."""

    def __init__(self):
        self.log = b""
        self.url: Deferred[str] = Deferred()
        self.ended: Deferred[BaseException] = Deferred()

    def errReceived(self, data):
        """Take in some of the log, and tell the address when it is there."""
        self.log += data
        found = re.search(rb" serves (?:at )?(http://[0-9.]+:[0-9]+)\s", self.log)
        if found is not None and not self.url.called:
            self.url.callback(found[1].decode())

    def processEnded(self, reason):
        """Tell of the end, also those who wait for the address."""
        if not self.url.called:
            self.url.errback(reason)
        self.ended.callback(reason.value)


class LiveTests(TestCase):
    """Schemathesis against the real command on a real port."""

    timeout = 120 + 10 * EXAMPLES + SECONDS

    def start(self):
        """Start hbtd; the test's end makes sure of its end."""
        hbtd_process = _Hbtd()
        arguments = ["--tls=no", "--kv_url=mem:", "--nosm", "--use_telemetry=no"]
        arguments.append("--listen=tcp:0:interface=127.0.0.1")
        env = {name: value for name, value in os.environ.items() if not name.startswith("HBTD_")}
        env["PYTHONPATH"] = str(Path(hbtd.__file__).parent.parent)
        process = reactor.spawnProcess(
            hbtd_process, sys.executable, [sys.executable, "-m", "hbtd", *arguments], env
        )

        def end():
            if process.pid is not None:
                process.signalProcess("KILL")
                return hbtd_process.ended
            return None

        self.addCleanup(end)
        return hbtd_process

    async def test_schemathesis(self):
        """The service keeps to its document whatever it is asked, goes on, and ends well."""
        process = self.start()
        url = (await process.url.addTimeout(20, reactor)) + "/hmi/v1"
        checks = "not_a_server_error status_code_conformance content_type_conformance"
        checks += " response_headers_conformance response_schema_conformance"
        checks += " positive_data_acceptance unsupported_method allow_header_conformance"
        out, err, status = await getProcessOutputAndValue(
            str(Path(sys.executable).with_name("st")),
            [
                *("run", f"{url}/openapi.json", f"--url={url}", "--no-color", "--mode=all"),
                *("--phases=examples,coverage,fuzzing", f"--checks={','.join(checks.split())}"),
                *(f"--max-examples={EXAMPLES or 10}", *([] if EXAMPLES else ["--seed=1"])),
                *([f"--max-time={SECONDS}"] if SECONDS else []),
            ],
            dict(os.environ),
        )
        self.assertEqual(status, 0, (out + err).decode())
        if SECONDS:
            print("\n" + out.decode().partition("SUMMARY")[2])

        client = HTTPClient(Agent(reactor))
        # A long Sm_timeout would mean a long farewell.
        sane = {"Sm_timeout": "1", "Nosm": "1", "Use_telemetry": "0", "Debug": "0"}
        for method, path, body, expected in (
            ("PATCH", "params", sane, 200),
            ("POST", "heartbeat", HEARTBEAT, 200),
            ("GET", f"hbstate/{XNAME}", None, 200),
            ("GET", "readiness", None, 204),
        ):
            content = None if body is None else orjson.dumps(body)
            answer = await client.request(method, f"{url}/{path}", data=content, timeout=20)
            self.assertEqual(answer.code, expected)
            await answer.content()
        process.transport.signalProcess(SIGTERM)
        self.assertIsInstance(await process.ended.addTimeout(20, reactor), ProcessDone)
        self.assertNotIn(b"Traceback", process.log)
