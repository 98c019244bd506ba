"""The order in which credentials and requests are checked, and the limit on components."""

from twisted.logger import capturedLogs, eventAsText

from hbtd.tracker.transitions import Transition
from tests.support.access_memory import CREDENTIALS, TOKEN, AccessTestCase, Credential
from tests.support.http_memory import HEARTBEAT, XNAME
from tests.support.issuer import bearer


class OrderTests(AccessTestCase):
    """The place of the credentials in the order of the checks."""

    def test_before_the_body(self) -> None:
        """Credentials are checked before the body."""
        service = self.start(node_access="cert", operator_access="token:{folder}/tokens")
        nobody, own = CREDENTIALS["nothing"], CREDENTIALS["own certificate"]
        for body in (b"[", {}, {**HEARTBEAT, "NID": "x"}, b"x" * 70_000):
            for path in ("/v1/heartbeat", "/v1/heartbeat/nobody"):
                self.assertEqual(self.outcome(service, nobody, "POST", path, body), 401)
                got = self.outcome(service, own, "POST", path, body)
                self.assertEqual(got, 413 if len(body) > 65536 else 400)
        self.assertEqual(self.outcome(service, nobody, "PATCH", "/v1/params", b"["), 401)
        self.assertEqual(self.outcome(service, nobody, "DELETE", "/v1/heartbeat/nobody"), 401)
        self.assertEqual(self.outcome(service, own, "DELETE", "/v1/heartbeat/nobody"), 400)

    def test_after_the_route(self) -> None:
        """An unknown path or method is answered alike with and without credentials."""
        service = self.start(node_access="cert", operator_access="token:{folder}/tokens")
        nobody = CREDENTIALS["nothing"]
        self.assertEqual(self.outcome(service, nobody, "GET", "/v1/heartbeat"), 405)
        self.assertEqual(self.outcome(service, nobody, "POST", "/v1/heartbeats"), 404)

    def test_two_headers(self) -> None:
        """A request with two Authorization headers counts as one without any."""
        service = self.start(operator_access="token:{folder}/tokens")
        twice = {"Authorization": f"Bearer {TOKEN}\r\nAuthorization: Bearer {TOKEN}"}
        got = self.outcome(
            service, Credential(headers=twice), "PATCH", "/v1/params", {"Errtime": "40"}
        )
        self.assertEqual(got, 401)

    def test_challenges(self) -> None:
        """401 lists every kind of credential that is accepted."""
        service = self.start(
            node_access="cert+jwt:{folder}/jwks.json", operator_access="token:{folder}/tokens"
        )
        nobody = CREDENTIALS["nothing"]
        both = 'Bearer realm="hbtd", Certificate realm="hbtd"'
        for method, path, challenge in (
            ("POST", "/v1/heartbeat", both),
            ("DELETE", f"/v1/heartbeat/{XNAME}", both),
            ("PATCH", "/v1/params", 'Bearer realm="hbtd"'),
        ):
            response = self.speak(service, nobody, method, path, HEARTBEAT)
            self.assertEqual(response.headers["www-authenticate"], challenge)

    def test_open_file_changes(self) -> None:
        """A token is accepted from when it is added to the file until it is removed."""
        service = self.start(operator_access="token:{folder}/tokens")
        fresh = Credential(headers=bearer("a-fresh-token-for-operators"))

        def patch(credential: Credential) -> int:
            return self.outcome(service, credential, "PATCH", "/v1/params", {"Errtime": "40"})

        self.assertEqual(patch(fresh), 401)
        (self.folder / "tokens").write_text("a-fresh-token-for-operators")
        self.assertEqual(patch(fresh), 200)
        self.assertEqual(patch(CREDENTIALS["operator's token"]), 401)
        (self.folder / "tokens").unlink()
        self.assertEqual(patch(fresh), 401)


class ForgettingTests(AccessTestCase):
    """The limit on how often a component is forgotten."""

    def test_node(self) -> None:
        """A node that goes and comes in turn is refused, which is counted and logged once."""
        service = self.start(node_access="cert")
        own, operator = CREDENTIALS["own certificate"], CREDENTIALS["on this host"]
        path = f"/v1/heartbeat/{XNAME}"

        def refused() -> str:
            metrics = self.speak(service, operator, "GET", "/metrics").body.decode()
            return metrics.partition('hbtd_refused_total{reason="too_soon"} ')[2].split("\n")[0]

        self.assertEqual(refused(), "0.0")
        with capturedLogs() as events:
            for number in range(10):
                self.assertEqual(self.outcome(service, own, "POST", path, HEARTBEAT), 200)
                status = 429 if number else 204
                self.assertEqual(self.outcome(service, own, "DELETE", path), status)
        self.assertEqual(self.outcome(service, operator, "DELETE", path), 429)
        self.assertEqual(service.monitor.judged[Transition.STARTED], 2)
        said = [eventAsText(each) for each in events if "Refused" in (each["log_format"] or "")]
        self.assertEqual(len(said), 1, said)
        self.assertIn("192.0.2.1: A component is forgotten once", said[0])
        self.assertEqual(refused(), "10.0")

    def test_others_first(self) -> None:
        """Who may not have a component forgotten is not told when it was."""
        service = self.start(node_access="cert")
        path = f"/v1/heartbeat/{XNAME}"
        own = CREDENTIALS["own certificate"]
        for method in ("POST", "DELETE", "POST"):
            self.outcome(service, own, method, path, HEARTBEAT)
        neighbour = CREDENTIALS["neighbour's certificate"]
        self.assertEqual(self.outcome(service, neighbour, "DELETE", path), 403)


class RoomTests(AccessTestCase):
    """The limit on the number of components."""

    def test_full(self) -> None:
        """At the limit only new components are refused, and forgetting one makes room."""
        service = self.start(max_components=2)
        here = CREDENTIALS["on this host"]

        def beat(name: str) -> int:
            body = {**HEARTBEAT, "Component": name}
            return self.outcome(service, here, "POST", "/v1/heartbeat", body)

        names = [f"x0c0s0b0n{number}" for number in range(50)]
        self.assertEqual([beat(name) for name in names], [200, 200, *[503] * 48])
        self.assertEqual([beat(name) for name in names[:3]], [200, 200, 503])
        self.assertEqual((service.tracker.healthy, service.tracker.beats), (2, 4))
        metrics = self.speak(service, here, "GET", "/metrics").body.decode()
        self.assertIn('hbtd_refused_total{reason="full"} 49.0\n', metrics)
        self.speak(service, here, "DELETE", f"/v1/heartbeat/{names[0]}")
        self.assertEqual([beat(name) for name in names[:3]], [200, 200, 503])
