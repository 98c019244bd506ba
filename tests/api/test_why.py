"""Why a component is in its state, as `GET /components/{name}` says."""

from typing import Any

from prometheus_client import CollectorRegistry

from hbtd.api.health import HealthSources
from hbtd.app.queries import make_queries
from hbtd.app.routes import make_routes
from hbtd.hsm.second_signal import Expected
from hbtd.queries.machine import Machine
from hbtd.queries.maintenance import MaintenanceFacts
from hbtd.rules.thresholds import NO_THRESHOLDS, build_at_once, parse
from hbtd.server.factory import ConnectionFactory
from hbtd.store.uncommitted import Uncommitted
from hbtd.tracker.components import Unheard
from hbtd.tracker.hindrances import Hindrances, TroubleKind
from tests.support.http_memory import HEARTBEAT, WALL, TimedAPITestCase, make_site


class WhyTests(TimedAPITestCase):
    """With time in the test's hands; `Warntime` is 10 s, `Errtime` 30 s."""

    def begin(self, **options: Any) -> None:
        """Have nodes that were never heard count as absent after ten minutes."""
        super().begin(boot_time=600, **options)

    def setUp(self) -> None:
        """Serve the queries, too."""
        super().setUp()
        self.hindrances = Hindrances()
        service = self.service
        queries = make_queries(
            self.tracker,
            self.monitor,
            service.notifier,
            service.core.reconciler,
            service.store,
            Uncommitted(),
            Machine(self.tracker),
            self.observed,
            lambda: WALL + self.reactor.seconds(),
            "hbtd-1:28500",
            lambda: "hbtd-1:28500",
            lambda: self.hindrances.all(self.observed.gaps(), self.observed.lasting_gap),
            MaintenanceFacts(
                service.core.maintenances, self.tracker, self.observed.now, service.params
            ),
            service.core.flap_watch,
            lambda xname: self.table.name_of(xname),
        )
        self.table = NO_THRESHOLDS
        sources = HealthSources(bool, str, str, str)
        registry = CollectorRegistry()
        routes = make_routes(self.monitor, service.params, sources, registry, [queries]).api
        self.factory = ConnectionFactory(make_site(routes, self.reactor), None, self.reactor)

    def beat(self) -> None:
        """Send a heartbeat."""
        beat = {**HEARTBEAT, "Component": "x1c0"}
        self.assertEqual(self.request("POST", "/v1/heartbeat", beat).status, 200)

    def look(self) -> Any:
        """Return what is known of the component."""
        return self.request("GET", "/v1/components/x1c0").json()

    def test_address(self) -> None:
        """An address of IPv4 is shown as such, also if hbtd listens on IPv6; a period if known."""
        self.tracker.beat("x1c0", 0.0, "now", "OK", "::ffff:10.1.0.65")
        answer = self.look()
        self.assertEqual((answer["Source"], answer["Why"]["MeanPeriod"]), ("10.1.0.65", None))

    def text(self) -> str:
        """Return why it is in its state, as a sentence."""
        return str(self.look()["Why"]["Text"])

    def test_life(self) -> None:
        """Healthy, warned about and dead, each with the limit that counts."""
        self.beat()
        self.pass_time(9)
        self.assertEqual(
            self.text(), "Healthy: silent for 9.0 s, which is less than Warntime (10 s)."
        )
        self.pass_time(16)
        self.assertEqual(
            self.text(),
            "Warned about: silent for 25.0 s. From Warntime (10 s) on a component is warned about,"
            " from Errtime (30 s) on it is dead.",
        )
        self.pass_time(20)
        self.assertEqual(self.text(), "Dead: silent for 45.0 s; the limit, Errtime, is 30 s.")

    def test_not_judged_yet(self) -> None:
        """Between two sweeps a component is healthy although its silence is long enough."""
        self.service.params.patch({"interval": "5"})
        self.pass_time(6)
        self.beat()
        texts = []
        for _ in range(80):
            self.pass_time(0.25)
            texts.append(self.text())
        self.assertIn(
            "Still healthy: silent for 10.0 s; the limit, Warntime, is 10 s, but it is not judged"
            " yet: hbtd looks every 5 s.",
            texts,
        )

    def test_restored(self) -> None:
        """When one was heard that was dead when hbtd started is not known until the log says it."""
        self.tracker.restore([], ["x1c0"], 0.0, 10, 30)
        answer = self.look()
        self.assertEqual((answer["State"], answer["LastHeartbeat"]), ("dead", None))
        self.assertEqual(
            answer["Why"]["Text"],
            "Dead: it was silent for Errtime (30 s); its last heartbeat is not known here.",
        )

    def test_judged_elsewhere(self) -> None:
        """One whose death another replica has judged may have been heard here a short time ago."""
        self.beat()
        self.pass_time(4)
        self.tracker.apply_death("x1c0")
        self.assertEqual(
            self.text(),
            "Dead: judged earlier, or by another replica; as far as is known here it was heard"
            " 4.0 s ago.",
        )

    def set_table(self, *rows: dict[str, object]) -> None:
        """Have these thresholds."""
        self.table = build_at_once(parse(list(rows)))
        self.tracker.set_limits(self.table.of)

    def test_threshold(self) -> None:
        """The limits are those that apply, with the threshold by which they do."""
        self.beat()
        self.assertNotIn("Threshold", self.look()["Why"])
        self.set_table({"Match": "Chassis", "Warntime": 4000000000}, {"Match": "x1c0"})
        self.tracker.forget("x1c0")
        self.beat()
        self.pass_time(12)
        why = self.look()["Why"]
        self.assertEqual(
            (why["Warntime"], why["Errtime"], why["Threshold"]), (4000000000, 30, "Chassis")
        )
        self.assertEqual(
            why["Text"],
            "Healthy: silent for 12.0 s, which is less than Warntime (4000000000 s by the threshold"
            " Chassis).",
        )

    def test_life_with_a_threshold(self) -> None:
        """What is said of the silent names the threshold of each limit that is its own."""
        self.set_table({"Match": "x1c0", "Errtime": 15})
        self.beat()
        self.pass_time(12)
        self.assertEqual(
            self.text(),
            "Warned about: silent for 12.0 s. From Warntime (10 s) on a component is warned about,"
            " from Errtime (15 s by the threshold x1c0) on it is dead.",
        )
        self.pass_time(10)
        self.assertEqual(
            self.text(),
            "Dead: silent for 22.0 s; the limit, Errtime, is 15 s by the threshold x1c0.",
        )

    def test_begun_anew(self) -> None:
        """Of whoever is judged anew is said when, and what becomes of it."""
        self.beat()
        self.pass_time(5)
        self.tracker.judge_anew(["x1c0"], self.observed.now(), (10.0, 30.0))
        self.pass_time(2)
        anew = "its times have begun anew meanwhile; unless it is heard it is"
        self.assertEqual(
            self.text(),
            f"Healthy: silent for 7.0 s; {anew} warned about in 8.0 s, and declared dead in 28.0"
            " s.",
        )
        self.pass_time(15)
        self.assertEqual(
            self.text(), f"Warned about: silent for 22.0 s; {anew} declared dead in 13.0 s."
        )

    def test_starting(self) -> None:
        """While its heartbeats are counted a dead component says how many there are, and is dead.

        `/hbstates` says that it is not heartbeating, until the last of them has started it.
        """
        self.request("PATCH", "/v1/params", {"Start_beats": "3"})
        self.beat()
        self.pass_time(40)
        self.assertEqual(self.look()["Why"]["Starting"], {"Heartbeats": 0, "Needed": 3})
        self.assertTrue(
            self.text().endswith(" It is started after 3 heartbeats in time (Start_beats).")
        )
        self.beat()
        self.pass_time(4)
        self.beat()
        self.pass_time(2)
        found = self.look()
        self.assertEqual(found["State"], "dead")
        self.assertAlmostEqual(found["Age"], 2.0, delta=0.2)
        self.assertEqual(found["Why"]["Starting"], {"Heartbeats": 2, "Needed": 3})
        self.assertEqual(
            found["Why"]["Text"],
            "Dead, and heard 2.0 s ago: it is started after 3 heartbeats in time (Start_beats), and"
            " has sent 2; the next one counts if it comes within Warntime (10 s) of the last.",
        )
        self.assertEqual(self.heartbeating(), False)
        self.beat()
        self.assertEqual((self.look()["State"], self.heartbeating()), ("healthy", True))
        self.assertNotIn("Starting", self.look()["Why"])

    def heartbeating(self) -> object:
        """Return what `/hbstates` says of the component."""
        answer = self.request("POST", "/v1/hbstates", {"XNames": ["x1c0"]}).json()
        return answer["HBStates"][0]["Heartbeating"]

    def test_forgotten(self) -> None:
        """What is no longer tracked has a past, and no state."""
        self.beat()
        self.pass_time(1)
        self.request("DELETE", "/v1/heartbeat/x1c0")
        self.pass_time(1)
        self.assertEqual(self.text(), "Not tracked: it was forgotten, or its records were lost.")

    def test_delay(self) -> None:
        """While heartbeats of it may wait unread it is judged later, and that is said."""
        self.beat()
        self.assertIsNone(self.look()["Why"]["Delay"])
        self.unheard = Unheard(components={"x1c0"})
        self.assertEqual(
            self.look()["Why"]["Delay"],
            "Heartbeats of this component may have arrived and not been read yet, so it is judged"
            " Errtime (30 s) later.",
        )
        self.pass_time(39)
        self.assertEqual(self.look()["State"], "healthy")
        self.unheard = Unheard(components={"x2c0"})
        self.assertIsNone(self.look()["Why"]["Delay"])

    def test_deaf(self) -> None:
        """When hbtd could not hear, silence does not grow; the last heartbeat stays when it was."""
        self.beat()
        self.pass_time(5)
        before = self.look()
        self.observed.deafen(0.0, "etcd was silent")
        self.pass_time(60)
        after = self.look()
        self.assertEqual(after["LastHeartbeat"], before["LastHeartbeat"])
        self.assertAlmostEqual(after["Age"], 65.0, delta=0.2)
        self.assertEqual(
            after["Why"]["Text"],
            "Healthy: silent for 5.0 s, which is less than Warntime (10 s). Another 60.0 s do not"
            " count, as hbtd could not hear then. Not judged since 08:00:05: etcd was silent.",
        )
        self.assertEqual(
            after["Why"]["Hindrances"],
            [
                {
                    "Kind": "deafen",
                    "Begin": "2027-01-15T08:00:05.000Z",
                    "End": None,
                    "Seconds": 60.0,
                    "Cause": "etcd was silent",
                }
            ],
        )

    def test_gaps(self) -> None:
        """Gaps are named with their times, a standstill with what it follows; two at most."""
        self.beat()
        for seconds in (4.0, 3.0, 2.0):
            self.pass_time(1)
            self.reactor.advance(seconds)
            self.pass_time(seconds + 0.25)
        again = "then components may have to connect again"
        self.assertIn(
            " Not judged from 08:00:10 to 08:00:16: hbtd did not run for 2.9 s; "
            f"{again}; from 08:00:17 to 08:00:21: hbtd did not run for 1.9 s; {again};"
            " and 1 earlier time.",
            self.text(),
        )
        self.assertEqual(len(self.look()["Why"]["Hindrances"]), 3)
        self.beat()
        self.assertEqual(self.look()["Why"]["Hindrances"], [])

    def test_gap_after_death(self) -> None:
        """What hinders hbtd after a component has died has nothing to do with its death."""
        self.beat()
        self.pass_time(5)
        self.reactor.advance(2.0)
        self.pass_time(60)
        component = self.tracker.component("x1c0")
        assert component is not None
        component.since = WALL + 40.0
        self.reactor.advance(9.0)
        self.pass_time(20)
        self.assertEqual(len(self.hindrances.all(self.observed.gaps())), 2)
        found = self.look()["Why"]["Hindrances"]
        self.assertEqual([each["Begin"] for each in found], ["2027-01-15T08:00:05.100Z"])

    def test_off(self) -> None:
        """HSM's Off explains a silence from Warntime on, and no shorter one."""
        self.service.core.second_signal.off_since = (  # type: ignore[method-assign]
            lambda xname: WALL + 3.0 if xname == "x1c0" else None
        )
        self.beat()
        self.pass_time(9)
        self.assertNotIn("Off", self.text())
        for seconds in (16, 20):
            self.pass_time(seconds)
            self.assertRegex(self.text(), r"\. HSM says Off since the look at 08:00:03\.$")
        self.beat()
        self.assertNotIn("Off", self.text())

    def test_expected(self) -> None:
        """A node that HSM's table has as up, and that was never heard, is explained, too."""
        self.assertEqual(self.request("GET", "/v1/components/x1c0s0b0n0").status, 404)
        expected = Expected("On", 5.0, absent=False)
        self.service.core.second_signal.expected = (  # type: ignore[method-assign]
            lambda xname: expected if xname == "x1c0s0b0n0" else None
        )
        self.pass_time(20)
        said = self.request("GET", "/v1/components/X1c0s0b0n00").json()
        self.assertEqual(
            {key: said[key] for key in ("XName", "Type", "State", "Transitions")},
            {"XName": "x1c0s0b0n0", "Type": "Node", "State": "unknown", "Transitions": []},
        )
        text = (
            "HSM's table has it enabled and On, and it has not been heard here in the 15 s since"
            " 08:00:05"
        )
        self.assertEqual(
            said["Why"]["Text"],
            f"Expected: {text}; after Boot_time (600 s) it counts as absent.",
        )
        expected = expected._replace(absent=True)
        said = self.request("GET", "/v1/components/x1c0s0b0n0").json()
        self.assertEqual(said["Why"]["Text"], f"Absent: {text}, longer than Boot_time (600 s).")
        self.assertEqual(self.request("GET", "/v1/components/x1c0s0b0n1").status, 404)

    def test_unread(self) -> None:
        """Why heartbeats may be unread is said of those that are judged later, while it lasts."""
        self.beat()
        self.unheard = Unheard(components={"x1c0"})
        causes = {TroubleKind.OVERLOAD: "the queue is full", TroubleKind.STORE: "the disk is full"}
        self.hindrances.look(causes, WALL, 0.0)
        self.pass_time(5)
        said = self.look()["Why"]
        self.assertRegex(said["Delay"], r" later\. Since 08:00:00: the queue is full\.$")
        self.assertEqual({each["Kind"] for each in said["Hindrances"]}, {"overload", "store"})
        self.hindrances.look({}, WALL + 5.0, 5.0)
        self.assertRegex(self.look()["Why"]["Delay"], r" later\.$")
