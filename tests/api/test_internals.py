"""`GET /internals` and the metrics of hbtd's own parts."""

import time
from datetime import datetime

from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from hbtd import __version__
from tests.support.http_memory import HEARTBEAT, PREFIXES, APITestCase, head

OPENMETRICS = "application/openmetrics-text"


class InternalsTests(APITestCase):
    """What operators see."""

    def test_described(self):
        """The answer tells the release, the leader, what is tracked, and who is connected."""
        self.request("POST", "/v1/heartbeat", HEARTBEAT)
        self.reactor.pump([0.1] * 50)
        for prefix in PREFIXES:
            said = self.request("GET", f"{prefix}/internals").json()
            self.assertEqual(said["Version"], __version__)
            self.assertEqual((said["Leading"], said["Leader"]), (True, said["Replica"]))
            self.assertEqual(said["Options"], self.service.params.current.rendered())
            self.assertEqual(said["Components"]["Healthy"], 1)
            self.assertEqual(said["Components"]["Heartbeats"], 1)
            self.assertEqual(said["Uptime"], 5.0)
            self.assertGreater(said["Reactor"]["Lag"]["Count"], 40)
            self.assertEqual(
                said["Connections"]["ByAddress"], [{"Address": "127.0.0.1", "Open": 1}]
            )
            self.assertEqual(said["Connections"]["ByLane"], {"fast": 0, "ordinary": 1})
            self.assertEqual(said["Store"]["LastNumber"], 1)
            self.assertEqual(said["SelfChecks"]["Failed"], [])

    def test_gaps(self):
        """What hbtd could not hear in is dated by the wall clock."""
        began = time.time()
        self.service.core.observed.deafen(1.0, "a test")
        self.reactor.pump([0.1] * 10)
        found = self.request("GET", "/v1/internals").json()["Hindrances"]
        (at,) = [each["Begin"] for each in found if each["Cause"] == "a test"]
        self.assertLess(
            abs(datetime.fromisoformat(at.replace("Z", "+00:00")).timestamp() - began), 60
        )

    def test_for_terminals(self):
        """What others have said is in printable ASCII, as in all answers about components."""
        self.begin(sm_url="http://hsm/\x9b31m\u202e")
        response = self.request("GET", "/v1/internals")
        self.assertEqual(response.json()["Options"]["Sm_url"], "http://hsm/\x9b31m\u202e")
        self.assertTrue(response.body.isascii())
        response = self.request("GET", "/v1/internals?%C2%9B31m=1")
        self.assertEqual(response.status, 400)
        self.assertTrue(response.body.isascii())

    def test_checked(self):
        """The self-checks of a running hbtd find nothing wrong."""
        self.request("POST", "/v1/heartbeat", HEARTBEAT)
        self.connect()
        self.reactor.pump([0.1] * 1300)
        checks = self.request("GET", "/v1/internals").json()["SelfChecks"]
        self.assertEqual((checks["Runs"], checks["Failed"]), (2, []))
        self.assertEqual(
            checks["Failures"],
            dict.fromkeys(("clock", "queues", "overdue", "journal", "cursor", "connections"), 0),
        )


class OpenMetricsTests(APITestCase):
    """The two formats of metrics."""

    def test_no_text(self):
        """A header that is no UTF-8 asks for nothing in particular."""
        connection = self.connect()
        connection.send(head("GET /metrics", "Accept: ?").replace(b"?", b"\xff"))
        self.assertIn(b" 200 ", connection.received().partition(b"\r\n")[0])

    def test_asked_for(self):
        """OpenMetrics is sent to those who prefer it, and the text format to all others."""
        prometheus = (
            f"{OPENMETRICS};version=1.0.0,{OPENMETRICS};version=0.0.1;q=0.75,"
            "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
        )
        for accept, expected in (
            (None, "text/plain"),
            ("", "text/plain"),
            ("*/*", "text/plain"),
            ("text/plain", "text/plain"),
            (OPENMETRICS, OPENMETRICS),
            (OPENMETRICS.upper(), OPENMETRICS),
            (prometheus, OPENMETRICS),
            (f"{OPENMETRICS};version=x.y", OPENMETRICS),
            (f"{OPENMETRICS};q=0", "text/plain"),
            (f"{OPENMETRICS};q=0.4,text/plain", "text/plain"),
            (f"{OPENMETRICS};q=many,;;=,,", "text/plain"),
        ):
            headers = {} if accept is None else {"Accept": accept}
            for path in ("/metrics", "/v1/metrics"):
                response = self.request("GET", path, headers=headers)
                self.assertEqual(response.status, 200)
                kind = (response.content_type or "").partition(";")[0]
                self.assertEqual(kind, expected, accept)
                self.assertEqual(response.headers["vary"], "Accept")

    def test_same(self):
        """Both formats are valid, and have the same metrics of hbtd."""
        self.request("POST", "/v1/heartbeat", HEARTBEAT)
        self.reactor.pump([0.1] * 50)
        text = self.request("GET", "/metrics").body.decode()
        modern = self.request("GET", "/metrics", headers={"Accept": OPENMETRICS}).body.decode()
        self.assertTrue(modern.endswith("# EOF\n"))
        found = []
        for families in (parse_text(text), parse_openmetrics(modern)):
            found.append(
                {
                    (sample.name, *sorted(sample.labels.items())): sample.value
                    for family in families
                    for sample in family.samples
                    if family.name.startswith("hbtd_")
                }
            )
        self.assertEqual(*found)
        self.assertGreater(len(found[0]), 100)
        self.assertGreater(found[0]["hbtd_reactor_lag_seconds_count",], 40)
