"""`/reconcile`, and what else shows how HSM's table differs."""

from typing import Any

from twisted.internet.defer import Deferred

from hbtd.hsm.difference import Difference, Differences
from hbtd.hsm.reconciler import ReconcileImpossible
from hbtd.hsm.report import Report
from hbtd.tracker.transitions import Phase
from tests.support.http_memory import HEARTBEAT, APITestCase


class ReconciliationTests(APITestCase):
    """With a reconciler whose comparisons end when the test says so."""

    def setUp(self):
        super().setUp()
        self.reconciler = self.service.core.reconciler
        self.begun: list[tuple[bool, bool]] = []
        self.ends: list[Deferred[Report]] = []

        def compare(*, approved: bool, dry_run: bool) -> Deferred[Report]:
            self.reconciler.begun += 1
            self.begun.append((approved, dry_run))
            self.ends.append(Deferred())
            return self.ends[-1]

        self.reconciler._begin = compare  # type: ignore[method-assign]

    def post(self, body: object = b"") -> Any:
        """Request a comparison."""
        return self.request("POST", "/v1/reconcile", body)

    def test_begun(self):
        """A POST begins a comparison, with or without telling, and says its number."""
        response = self.post()
        self.assertEqual((response.status, response.json()), (202, {"Number": 1}))
        self.ends[0].callback(Report(1, 0.0))
        self.assertEqual(self.post({"DryRun": True}).json(), {"Number": 2})
        self.assertEqual(self.begun, [(True, False), (False, True)])

    def test_queued(self):
        """One more can be requested while one goes on, and no third."""
        self.post()
        self.assertEqual(self.post().json(), {"Number": 2})
        self.assert_problem(
            self.post(),
            409,
            "A comparison was requested already, and is about to begin",
            "/hmi/v1/reconcile",
        )
        self.ends[0].errback(ReconcileImpossible("HSM is away"))
        self.assertEqual(len(self.begun), 2)

    def test_body(self):
        """A body that is no object, or whose DryRun is no boolean, is refused."""
        bodies: tuple[object, ...] = (b"[", [], {"DryRun": 1}, {"DryRun": "yes"})
        for body in bodies:
            self.assertEqual(self.post(body).status, 400)
        self.assertEqual(self.begun, [])

    def test_follower(self):
        """A replica that does not lead names the one that does."""
        self.service.monitor.leading = False
        name = self.service.core.name
        detail = (
            f"This replica does not lead, and only the leader tells HSM; ask the leader, {name}"
        )
        self.assert_problem(self.post(), 503, detail, "/hmi/v1/reconcile")

    def report(self, count: int, phase: Phase = Phase.DEAD) -> None:
        """Have the last comparison find this many contested components."""
        contested = Differences(
            Difference(f"x0c0s0b0n{number}", phase, 0.0, "Off/OK") for number in range(count)
        )
        self.reconciler.last = Report(3, 1_772_600_000.0, rows=9, contested=contested)

    def test_report(self):
        """GET shows the last report, with the first thousand names, and so does /internals."""
        self.assertIsNone(self.request("GET", "/v1/reconcile").json()["Last"])
        self.report(1200)
        said = self.request("GET", "/v1/reconcile").json()
        self.assertEqual(said["Last"]["Contested"], {"Number": 1200, "XNames": "x0c0s0b0n[0-999]"})
        self.assertEqual((said["Last"]["Differences"], said["Last"]["Rows"]), (1200, 9))
        self.assertEqual(said["Last"]["At"], "2026-03-04T04:53:20.000Z")
        self.assertEqual(self.request("GET", "/v1/internals").json()["HSM"]["Table"], said)

    def test_unknown(self):
        """Who beats, but is not in HSM's table, is listed."""
        names = [f"x0c0s0b0n{number}" for number in range(1200)]
        self.reconciler.last = Report(3, 1_772_600_000.0, unknown=names)
        said = self.request("GET", "/v1/reconcile").json()["Last"]["Unknown"]
        self.assertEqual(said, {"Number": 1200, "XNames": "x0c0s0b0n[0-999]"})
        metrics = self.request("GET", "/metrics").body.decode()
        self.assertIn("hbtd_hsm_table_unknown 1200.0", metrics)

    def test_absent(self):
        """Who is absent is named in /reconcile, and counted in health, summary and metrics."""
        said = self.request("GET", "/v1/reconcile").json()["Absent"]
        self.assertEqual(said, {"After": 0, "At": None, "Number": 0, "XNames": ""})
        self.begin(boot_time=600)
        signal = self.service.core.second_signal
        said = self.request("GET", "/v1/reconcile").json()["Absent"]
        self.assertEqual(said, {"After": 600, "At": None, "Number": 0, "XNames": ""})
        self.assertNotIn("Absent", self.request("GET", "/v1/health").json())
        reading = signal.begin()
        for number in range(1200):
            reading.add(f"x0c0s0b0n{number}", "On", enabled=True)
        signal.take(reading)
        began = self.service.core.observed.now()
        signal._observed = lambda: began + 700.0
        self.reactor.pump([1.0, 0.0, 0.0, 0.0])
        said = self.request("GET", "/v1/reconcile").json()["Absent"]
        self.assertEqual((said["Number"], said["XNames"]), (1200, "x0c0s0b0n[0-999]"))
        self.assertRegex(said["At"], r"^20\d\d-")
        self.assertRegex(
            self.request("GET", "/v1/health").json()["Absent"], "^1200 nodes, first x0c0s0b0n0: "
        )
        self.assertEqual(self.request("GET", "/v1/summary").json()["HSM"]["Absent"], 1200)
        metrics = self.request("GET", "/metrics").body.decode()
        self.assertIn("hbtd_hsm_table_absent 1200.0", metrics)

    def test_seen(self):
        """What is contested is in health, metrics and summary, and known of the component."""
        for name in ("x0c0s0b0n0", "x0c0s0b0n1"):
            self.request("POST", "/v1/heartbeat", {**HEARTBEAT, "Component": name})
        self.reactor.pump([0.1] * 20)
        self.report(2, Phase.HEALTHY)
        found = {"At": "2026-03-04T04:53:20.000Z", "Wrong": 2, "Held": 0, "Contested": 2}
        self.assertEqual(self.request("GET", "/v1/summary").json()["HSM"]["Table"], found)
        self.service.notifier.drop_all()
        said = self.request("GET", "/v1/components/x0c0s0b0n0").json()["HSM"]
        self.assertEqual(said["State"], "contested")
        self.assertIn("Off/OK", said["Reason"])
        metrics = self.request("GET", "/metrics").body.decode()
        self.assertIn('hbtd_hsm_table_differences{what="contested"} 2.0', metrics)
        self.service.notifier.trouble = lambda: None  # type: ignore[method-assign]
        reason = self.request("GET", "/v1/health").json()["HsmStatusReason"]
        self.assertEqual(
            reason,
            "2 components, first x0c0s0b0n0 (Off/OK): somebody else writes HSM's table",
        )
