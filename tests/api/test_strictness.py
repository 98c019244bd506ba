"""HTTP as RFC 9110 and RFC 9112 have it, where servers are often too lax or too strict."""

from tests.support.http_memory import (
    BEAT,
    XNAME,
    APITestCase,
    encode_request,
    head,
    parse_responses,
)


class StrictnessTests(APITestCase):
    """Requests that are answered by the letter, in either lane."""

    def statuses(self, *pieces: bytes, closed: bool = False) -> list[int]:
        """Send pieces on a connection of their own; return the statuses of the answers."""
        connection = self.connect()
        connection.send(*pieces)
        self.assertEqual(connection.closed, closed, pieces)
        return [each.status for each in parse_responses(connection.received())]

    def test_hosts(self) -> None:
        """A request of HTTP/1.1 names its host exactly once (RFC 9112 3.2)."""
        for request in (BEAT, head("GET /v1/liveness")):
            line, _, rest = request.partition(b"\r\n")
            fields = rest.partition(b"\r\n")[2]
            without, twice = line + b"\r\n" + fields, line + b"\r\nHost: a\r\n" + rest
            self.assertEqual(self.statuses(without, request), [400, *self.statuses(request)])
            self.assertEqual(self.statuses(twice, request), [400, *self.statuses(request)])
        self.assertEqual(self.service.tracker.beats, 4)

    def test_no_host_in_1_0(self) -> None:
        """A request of HTTP/1.0 need not name its host, but may not name two."""
        request = b"GET /v1/liveness HTTP/1.0\r\n\r\n"
        self.assertEqual(self.statuses(request, closed=True), [204])
        twice = request.replace(b"\r\n\r\n", b"\r\nHost: a\r\nHost: b\r\n\r\n")
        self.assertEqual(self.statuses(twice, closed=True), [400])

    def test_keep_alive_in_1_0(self) -> None:
        """A connection of HTTP/1.0 is kept if the client asks for that, and told so."""
        kept = BEAT.replace(b"1.1\r\n", b"1.0\r\nConnection: x, Keep-Alive\r\n")
        connection = self.connect()
        connection.send(kept, kept, BEAT)
        answers = parse_responses(connection.received())
        self.assertEqual([each.status for each in answers], [200] * 3)
        self.assertEqual(
            [each.headers.get("connection") for each in answers], ["keep-alive"] * 2 + [None]
        )
        self.assertFalse(connection.closed)
        connection.send(BEAT.replace(b"1.1\r\n", b"1.0\r\n"))
        self.assertTrue(connection.closed)

    def test_close_among_others(self) -> None:
        """`close` counts wherever it stands among the options of a connection."""
        for options in ("close", "x, CLOSE", "close,te", "keep-alive\r\nConnection: close"):
            request = head("GET /v1/liveness", f"Connection: {options}")
            self.assertEqual(self.statuses(request, BEAT, closed=True), [204], options)

    def test_bare_line_feeds(self) -> None:
        """A line that ends with LF alone is refused as soon as it is there (RFC 9112 2.2)."""
        for request in (
            b"GET /v1/liveness HTTP/1.1\n",
            b"GET /v1/liveness HTTP/1.1\r\nHost: h\n",
            b"POST /v1/heartbeat HTTP/1.1\nHost: h\nContent-Length: 2\n\n{}",
            BEAT.replace(b"\r\n\r\n", b"\n\n"),
        ):
            connection = self.connect()
            connection.send(BEAT, request)
            received = connection.received()
            self.assertTrue(received.endswith(b"HTTP/1.1 400 Bad Request\r\n\r\n"), request)
            self.assertTrue(connection.closed)

    def test_line_feeds_in_bodies(self) -> None:
        """In bodies they are what they are."""
        body = b'{\n"Status":"OK",\n"Timestamp":"t"\n}\n'
        request = encode_request("POST", f"/v1/heartbeat/{XNAME}", body)
        self.assertEqual(self.statuses(request, request[:-8], request[-8:]), [200, 200])

    def test_broken_encoding(self) -> None:
        """A percent sign in a path that begins no encoding is refused, and changes nothing."""
        for path in ("/v1/heartbeat/%x1", "/v1/hbstate/x1%2", "/v1/hbstate/%", "/%GG/params"):
            response = self.request("GET", path)
            self.assertEqual(response.status, 400, path)
            self.assertIn("percent-encoding", response.json()["detail"])
        body = {"Status": "OK", "Timestamp": "t"}
        self.assertEqual(self.request("POST", "/v1/heartbeat/x1%2", body).status, 400)
        self.assertEqual(self.service.tracker.beats, 0)

    def test_other_spellings(self) -> None:
        """A route is spelt in one way; the name of a component may be encoded."""
        for path in ("/v1/%70arams", "/hmi/v1/para%6ds", "/%76%31/params", "/%6detrics"):
            self.assertEqual(self.request("GET", path).status, 404, path)
        for path in ("/v1/%70arams", "/hmi/%761/params"):
            self.assertEqual(self.request("PATCH", path, {"Warntime": "99"}).status, 404, path)
        self.assertNotEqual(self.service.params.current.warntime, 99)
        response = self.request("GET", "/hmi/v1/hbstate/%78%31")
        self.assertEqual((response.status, response.json()["XName"]), (200, "x1"))

    def test_expect(self) -> None:
        """A client of HTTP/1.1 that expects it is told to go on; of HTTP/1.0 it is not."""
        connection = self.connect()
        start, _, body = BEAT.replace(b"Host:", b"Expect: 100-continue\r\nHost:").partition(
            b"\r\n\r\n"
        )
        connection.send(start + b"\r\n\r\n")
        self.assertEqual(connection.received(), b"HTTP/1.1 100 Continue\r\n\r\n")
        connection.send(body)
        self.assertEqual([r.status for r in parse_responses(connection.received())], [200])
        old = self.connect()
        old.send(start.replace(b"HTTP/1.1", b"HTTP/1.0") + b"\r\n\r\n" + body)
        self.assertTrue(old.received().startswith(b"HTTP/1.0 200 "))

    def test_other_expectations(self) -> None:
        """An expectation of another kind is ignored, as it may be (RFC 9110 10.1.1)."""
        request = BEAT.replace(b"Host:", b"Expect: x\r\nHost:")
        self.assertEqual(self.statuses(request), [200])

    def test_upgrade(self) -> None:
        """An upgrade is not taken up, and the request answered as it is (RFC 9110 7.8)."""
        fields = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n"
        request = BEAT.replace(b"Host:", fields + b"Host:")
        self.assertEqual(self.statuses(request, BEAT), [200, 200])
