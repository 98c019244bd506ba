"""The client of HSM's REST API: its requests, and how it handles responses."""

from typing import cast

from treq.client import HTTPClient
from treq.testing import StubTreq
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from hbtd.config.live_params import LiveParams
from hbtd.config.params import Params
from hbtd.hsm.client import HSMClient, HSMRejected, HSMUnavailable
from tests.support.hsm_memory import DIED, OTHER_URL, STARTED, URL, USER_AGENT, HSMTestCase

NAMES = ("x0c0s0b0n0", "x0c0s1b0n0")


class Recorder(Resource):
    """A web server that records requests, and gives all the same response."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[tuple[str, str, dict[str, list[str]], bytes]] = []
        self.status = 204
        self.headers: dict[str, str] = {}
        self.body: bytes | None = b""
        """The response body; with `None` the response never ends."""

    def render(self, request: Request) -> bytes | int:
        """Record the request, and respond."""
        headers = {
            name.decode().lower(): [value.decode() for value in values]
            for name, values in request.requestHeaders.getAllRawHeaders()
        }
        assert request.content is not None
        method, body = request.method.decode(), request.content.read()
        self.requests.append((method, request.uri.decode(), headers, body))
        request.setResponseCode(self.status)
        if 300 <= self.status < 400:
            request.setHeader("Location", "http://hsm.example/elsewhere")
        for name, value in self.headers.items():
            request.setHeader(name, value)
        if self.body is None:
            request.write(b"so far")
            return NOT_DONE_YET
        return self.body


class RecorderTestCase(SynchronousTestCase):
    """Holds a client connected to a recorder."""

    def setUp(self):
        self.clock = Clock()
        self.server = Recorder()
        http = cast("HTTPClient", StubTreq(self.server))
        self.params = LiveParams(Params(sm_url=URL))
        self.client = HSMClient(http, self.clock, self.params, USER_AGENT)

    def failed(self, call: Deferred[None]) -> HSMRejected | HSMUnavailable:
        """Return the error of a call, which must be one of the client's own."""
        failure = self.failureResultOf(call, HSMRejected, HSMUnavailable)
        assert isinstance(failure.value, HSMRejected | HSMUnavailable)
        return failure.value


class RequestTests(RecorderTestCase):
    """What requests look like."""

    def test_update(self):
        """An update is a PATCH with exactly the bytes and headers of the protocol."""
        self.successResultOf(self.client.update(DIED, NAMES))
        ((method, uri, headers, body),) = self.server.requests
        self.assertEqual(method, "PATCH")
        self.assertEqual(uri, "/hsm/v1/State/Components/BulkStateData")
        self.assertEqual(
            body,
            b'{"ComponentIDs":["x0c0s0b0n0","x0c0s1b0n0"],"State":"Standby","Flag":"Alert",'
            b'"ExtendedInfo":{"ID":"","Message":"Heartbeat stopped -- declared dead","Flag":""}}',
        )
        self.assertEqual(headers["content-type"], ["application/json"])
        self.assertEqual(headers["user-agent"], [USER_AGENT])
        self.assertEqual(headers["content-length"], [str(len(body))])
        self.assertEqual(headers["host"], ["hsm.example"])

    def test_ready(self):
        """The readiness probe is a GET without a body."""
        self.server.status = 200
        self.successResultOf(self.client.ready())
        ((method, uri, headers, body),) = self.server.requests
        self.assertEqual((method, uri, body), ("GET", "/hsm/v1/service/ready", b""))
        self.assertEqual(headers["user-agent"], [USER_AGENT])
        self.assertNotIn("content-type", headers)

    def test_table(self):
        """The table is asked for the states alone of some types, by a GET without a body."""
        self.server.status, self.server.body = 200, b'{"Components":[]}'
        reading = self.client.read_table(["Node", "NodeBMC"], lambda *row: None)
        self.clock.advance(0)
        self.successResultOf(reading)
        ((method, uri, headers, body),) = self.server.requests
        path = "/hsm/v1/State/Components?type=Node&type=NodeBMC&stateonly=true"
        self.assertEqual((method, uri, body), ("GET", path, b""))
        self.assertEqual(headers["user-agent"], [USER_AGENT])

    def test_base_urls(self):
        """Paths are appended to `sm_url`, whether or not that ends with a slash."""
        for url, base in (
            ("http://hsm.example", ""),
            ("http://hsm.example/", ""),
            ("http://hsm.example:27779/hsm/v1/", "/hsm/v1"),
            ("https://gateway.example/apis/smd/hsm/v2", "/apis/smd/hsm/v2"),
            ("http://192.0.2.1:8080/a//", "/a"),
        ):
            self.server.requests.clear()
            self.params.patch({"Sm_url": url})
            self.successResultOf(self.client.update(STARTED, NAMES))
            self.failed(self.client.ready())
            self.assertEqual(
                [uri for _, uri, _, _ in self.server.requests],
                [f"{base}/State/Components/BulkStateData", f"{base}/service/ready"],
                url,
            )

    def test_ipv6(self):
        """The host of `sm_url` may be an IPv6 address."""
        self.params.patch({"Sm_url": "http://[::1]:27779/hsm/v1"})
        self.successResultOf(self.client.update(STARTED, NAMES))
        ((_, _, headers, _),) = self.server.requests
        self.assertEqual(headers["host"], ["[::1]:27779"])


class StatusTests(RecorderTestCase):
    """How statuses are interpreted."""

    def test_success(self):
        """200, 202 and 204 are success."""
        for self.server.status in (200, 202, 204):
            self.assertIsNone(self.successResultOf(self.client.update(STARTED, NAMES)))

    def test_pages(self):
        """A page for a browser is no success, whatever its status; HSM never sends one."""
        page = b"\n<!DOCTYPE HTML><html><body>Please log in</body></html>"
        for self.server.status in (200, 202):
            for kind, self.server.body in (
                ("text/html", page),
                ("text/html; charset=utf-8", b"Please log in"),
                ("Text/HTML", b"<p>"),
                ("application/xhtml+xml", b"<?xml version='1.0'?><html/>"),
                ("application/json", page),
                ("application/octet-stream", b"<html><head>"),
            ):
                self.server.headers = {"Content-Type": kind}
                updating = self.client.update(STARTED, NAMES)
                for call in (updating, self.client.ready()):
                    error = self.failed(call)
                    assert isinstance(error, HSMUnavailable), kind
                    self.assertIn("a page, not HSM's answer", str(error))
                    self.assertTrue(error.in_doubt or call is not updating)

    def test_no_pages(self):
        """An empty body, JSON or text is no page."""
        for kind, self.server.body in (
            ("text/html", b""),
            ("text/html", b"\r\n"),
            ("application/json", b'{"code":0,"message":"<html>"}'),
            ("text/plain", b"OK"),
        ):
            self.server.headers = {"Content-Type": kind}
            for self.server.status in (200, 202):
                self.assertIsNone(self.successResultOf(self.client.update(STARTED, NAMES)))
            self.server.status = 200
            self.assertIsNone(self.successResultOf(self.client.ready()))

    def test_retry_after(self):
        """An error has the seconds for which HSM asks not to be sent anything."""
        for self.server.status in (400, 429, 500, 503):
            for asked, seconds in ((None, 0), ("7", 7), ("100", 30), ("soon", 0)):
                self.server.headers = {} if asked is None else {"Retry-After": asked}
                error = self.failed(self.client.update(STARTED, NAMES))
                self.assertEqual(error.retry_after, seconds)

    def test_in_doubt(self):
        """When a proxy gives up, HSM behind it may still carry out the update."""
        for self.server.status, in_doubt in ((500, False), (502, True), (503, False), (504, True)):
            error = self.failed(self.client.update(DIED, NAMES))
            assert isinstance(error, HSMUnavailable)
            self.assertEqual(error.in_doubt, in_doubt)

    def test_rejected(self):
        """A 4xx about the update itself is a rejection, with the status and HSM's reason."""
        self.server.body = b'{"detail":"Invalid xname"}'
        for self.server.status in (400, 409, 413, 415, 422):
            error = self.failed(self.client.update(STARTED, NAMES))
            self.assertIsInstance(error, HSMRejected)
            self.assertIn(str(self.server.status), str(error))
            self.assertIn("Invalid xname", str(error))

    def test_not_about_the_update(self):
        """A 4xx about the client, the address or the rate does not reject the components."""
        self.server.body = b"go away"
        for self.server.status in (401, 403, 404, 405, 407, 408, 421, 425, 426, 429):
            error = self.failed(self.client.update(STARTED, NAMES))
            self.assertIsInstance(error, HSMUnavailable, self.server.status)
            self.assertIn(f"{self.server.status} go away", str(error))

    def test_unavailable(self):
        """With a 5xx or any other status HSM counts as unavailable."""
        for self.server.status in (201, 203, 205, 206, 207, 304, 500, 501, 502, 503, 504, 599):
            error = self.failed(self.client.update(STARTED, NAMES))
            assert isinstance(error, HSMUnavailable), self.server.status
            self.assertFalse(error.timed_out)

    def test_redirects(self):
        """Redirects are not followed; HSM counts as unavailable."""
        for self.server.status in (300, 301, 302, 303, 307, 308):
            self.server.requests.clear()
            self.assertIsInstance(self.failed(self.client.update(DIED, NAMES)), HSMUnavailable)
            self.assertIsInstance(self.failed(self.client.ready()), HSMUnavailable)
            self.assertEqual(len(self.server.requests), 2)

    def test_ready(self):
        """HSM is ready with status 200 only."""
        self.server.status = 200
        self.assertIsNone(self.successResultOf(self.client.ready()))
        for self.server.status in (202, 204, 301, 400, 404, 500, 503):
            self.assertIsInstance(self.failed(self.client.ready()), HSMUnavailable)

    def test_long_explanations(self):
        """Only the beginning of an error response is kept, whatever its bytes."""
        self.server.status = 400
        self.server.body = b"\xff\xfe" + b"x" * 50_000
        self.assertLess(len(str(self.failed(self.client.update(STARTED, NAMES)))), 300)


class TimeTests(HSMTestCase):
    """No call takes longer than `sm_timeout`."""

    def begin(self, **params):
        super().begin(sm_timeout=7, **params)

    def assert_timed_out(self, call: Deferred[None], after: float) -> None:
        """Check that a call fails exactly when its time is up."""
        self.advance(after - 0.01)
        self.assertNoResult(call)
        self.advance(0.02)
        error = self.failureResultOf(call, HSMUnavailable).value
        assert isinstance(error, HSMUnavailable)
        self.assertTrue(error.timed_out, error)
        self.assertIn(f"{after} s", str(error))

    def test_update(self):
        """An update without a response times out."""
        self.hsm.behaviour.hang = True
        self.assert_timed_out(self.client.update(STARTED, NAMES), 7)

    def test_ready(self):
        """A readiness probe without a response times out."""
        self.hsm.behaviour.hang = self.hsm.behaviour.hang_ready = True
        self.assert_timed_out(self.client.ready(), 7)

    def test_slow_but_in_time(self):
        """A response just in time is accepted, and leaves no delayed calls."""
        self.hsm.behaviour.cost_ms = 3000
        call = self.client.update(STARTED, NAMES)
        self.advance(6.01)
        self.successResultOf(call)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_within(self):
        """An update may be given less time than `sm_timeout`, but not more."""
        self.hsm.behaviour.hang = True
        for within, seconds in ((1.5, 1.5), (60.0, 7)):
            self.assert_timed_out(self.client.update(STARTED, NAMES, within), seconds)

    def test_parameters(self):
        """A call uses the URL and the timeout that are current when it is made."""
        self.hsm.behaviour.hang = self.other.behaviour.hang = True
        self.change(sm_timeout=3, sm_url=OTHER_URL)
        self.assert_timed_out(self.client.update(STARTED, NAMES), 3)
        self.assertEqual((len(self.hsm.updates), len(self.other.updates)), (0, 1))

    def test_cancelled(self):
        """A call that is cancelled fails with `HSMUnavailable`, in doubt but not timed out."""
        self.hsm.behaviour.hang = True
        call = self.client.update(STARTED, NAMES)
        call.cancel()
        error = self.failureResultOf(call, HSMUnavailable).value
        assert isinstance(error, HSMUnavailable)
        self.assertEqual((error.timed_out, error.in_doubt), (False, True))
        self.assertEqual(str(error), "HSM's answer was not waited for")
        self.assertEqual(self.clock.getDelayedCalls(), [])
