"""How hbtd-agent reads answers of HTTP, and what it sends."""

import json

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hbtd import __version__
from tests.support.agent import agent

TAKEN = b"HTTP/1.1 200 OK\r\nServer: hbtd\r\nContent-Length: 0\r\n\r\n"
CHUNKED = (
    b"HTTP/1.1 503 Busy\r\nTransfer-Encoding: chunked\r\nRetry-After: 7\r\n\r\n"
    b"4\r\n{}ab\r\n3;x=y\r\ncde\r\n0\r\nTrailer: 1\r\n\r\n"
)
WHOLE = (
    TAKEN,
    CHUNKED,
    b"HTTP/1.1 100 Continue\r\n\r\n" + TAKEN,
    b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 2 + TAKEN,
    b"HTTP/1.1 204 No Content\r\nConnection: Close\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok",
)
BROKEN = (
    b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    b"HTTP/2 200\r\n\r\n",
    b"HTTP/1.1 2000 OK\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n folded: 1\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n",
    b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 5000,
    b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100_000,
    b"HTTP/1.1 103 Early Hints\r\nLink: " + b"x" * 100_000,
    b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 3000,
)


class ParseTests(SynchronousTestCase):
    """Answers of hbtd, of gateways, and of others."""

    def test_taken(self):
        """An answer of hbtd is read, and another request may follow."""
        self.assertEqual(
            agent.parse(TAKEN, False),
            agent.Answer(200, {"server": "hbtd", "content-length": "0"}, b"", True),
        )

    def test_chunked(self):
        """A body in chunks is put together."""
        found = agent.parse(CHUNKED, False)
        self.assertEqual((found.status, found.body, found.keep), (503, b"{}abcde", True))
        self.assertEqual(agent.retry_after(found), 7)

    def test_keep(self):
        """A connection is kept unless the answer or the version says otherwise, or more came."""
        kept = [agent.parse(each, False).keep for each in WHOLE]
        self.assertEqual(kept, [True, True, True, True, False, True])
        self.assertFalse(agent.parse(TAKEN + b"HTTP", False).keep)
        self.assertFalse(agent.parse(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", False).keep)
        self.assertFalse(agent.parse(b"HTTP/1.1 200 OK\r\n\r\nuntil the end", True).keep)

    def test_pieces(self):
        """No part of an answer is taken for the answer."""
        for whole in WHOLE:
            for end in range(len(whole)):
                self.assertIsNone(agent.parse(whole[:end], False), whole[:end])
                with self.assertRaises(agent.Broken):
                    agent.parse(whole[:end], True)

    def test_broken(self):
        """What is no answer, or too large for one, is told apart."""
        for data in BROKEN:
            with self.assertRaises(agent.Broken):
                agent.parse(data, False)

    @given(st.binary() | st.builds(bytes.__add__, st.sampled_from(WHOLE + BROKEN), st.binary()))
    @example(b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000)
    def test_anything(self, data):
        """Whatever arrives is an answer, part of one, or broken."""
        for ended in False, True:
            try:
                found = agent.parse(data, ended)
            except agent.Broken as error:
                self.assertTrue(str(error).isascii() and len(str(error)) < 1000)
            else:
                self.assertTrue(found is None or 200 <= found.status < 600)

    def test_explained(self):
        """The detail of a problem is shown in one line of bounded length."""
        body = json.dumps({"detail": "Invalid\nNID \u2603" + "x" * 1000}).encode()
        text = agent.explained(agent.Answer(400, {}, body, True))
        self.assertTrue(text.startswith("answer 400: Invalid\\nNID \\u2603xxx"), text)
        self.assertLess(len(text), 300)
        for body in b"", b"[]", b"[" * 5000, b'{"detail":', b"\xff", b"<html>":
            self.assertEqual(agent.explained(agent.Answer(502, {}, body, True)), "answer 502")

    def test_retry_after(self):
        """A `Retry-After` that is no number of seconds is ignored."""
        for text in "", "-1", "soon", "1e9", "\u0663", "9" * 20, "Fri, 31 Dec 1999 23:59:59 GMT":
            found = agent.retry_after(agent.Answer(503, {"retry-after": text}, b"", True))
            self.assertEqual(found, 0)

    def test_warntime(self):
        """`Warntime` is read as the original hbtd may write it."""
        for text, seconds in ("10", 10), ("0x2d", 45), ("0b11", 3), ("012", 10), ("1_000", 1000):
            self.assertEqual(agent.warntime_in(text), seconds)
        for text in "", "0", "-5", "ten", "4294967296", "1.5", "9" * 5000:
            with self.assertRaises(ValueError):
                agent.warntime_in(text)


class RequestsTests(SynchronousTestCase):
    """What is sent."""

    def requests(self, url="https://hbtd.example:28500", **changed):
        """Return the requests of a node."""
        given = {"url": url, "xname": "x1000c0s0b0n0", "nid": "83", "hostname": "nid000083"}
        found = agent.find_settings({**given, **changed}, {}, lambda path: "")
        return agent.Requests(found)

    def test_heartbeat(self):
        """A heartbeat has all five fields, and the time to the millisecond."""
        data = self.requests().heartbeat("Authorization: Bearer t\r\n", 1_772_600_767.8919)
        head, _, body = data.decode("ascii").partition("\r\n\r\n")
        self.assertEqual(
            head.split("\r\n"),
            [
                "POST /hmi/v1/heartbeat HTTP/1.1",
                "Host: hbtd.example:28500",
                f"User-Agent: hbtd-agent/{__version__}",
                "Authorization: Bearer t",
                "Content-Type: application/json",
                f"Content-Length: {len(body)}",
            ],
        )
        self.assertEqual(
            json.loads(body),
            {
                "Component": "x1000c0s0b0n0",
                "Hostname": "nid000083",
                "NID": "83",
                "Status": "OK",
                "Timestamp": "2026-03-04T05:06:07.891Z",
            },
        )

    def test_texts(self):
        """A host name or status with any characters arrives as it is."""
        status = 'quote " % \\ {} \u2603\n'
        data = self.requests(status=status, hostname="%\u00fc").heartbeat("", 0.0)
        body = json.loads(data.partition(b"\r\n\r\n")[2])
        self.assertEqual((body["Status"], body["Hostname"]), (status, "%\u00fc"))
        self.assertEqual(body["Timestamp"], "1970-01-01T00:00:00.000Z")

    def test_no_nid(self):
        """Without a NID the xname is in the path, and host name and NID are not sent."""
        data = self.requests(nid="").heartbeat("", 0.0)
        self.assertTrue(data.startswith(b"POST /hmi/v1/heartbeat/x1000c0s0b0n0 HTTP/1.1\r\n"))
        body = json.loads(data.partition(b"\r\n\r\n")[2])
        self.assertEqual(sorted(body), ["Status", "Timestamp"])

    def test_host(self):
        """The port is left out where it is the scheme's own, and IPv6 addresses have brackets."""
        for url, host in (
            ("https://gate.example/apis/hbtd/hmi/v1/heartbeat", "gate.example"),
            ("http://gate.example/apis/hbtd/hmi/v1", "gate.example"),
            ("https://[fd00::1]", "[fd00::1]:28500"),
        ):
            data = self.requests(url).params("")
            self.assertIn(f"\r\nHost: {host}\r\n".encode(), data)
        first, _, _ = data.partition(b"\r\n")
        self.assertEqual(first, b"GET /hmi/v1/params?component=x1000c0s0b0n0 HTTP/1.1")
