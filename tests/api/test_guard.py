"""`/guard`, and what else shows what is disrupted, in a whole service on a clock of the test."""

from typing import Any

import orjson

from tests.support.clocked_api import ClockedAPITestCase
from tests.support.event_subscriber import Subscriber
from tests.support.guarded_memory import names
from tests.support.http_memory import HEARTBEAT

C0 = "x1000c0s[0-1]b0n[0-3]"
MACHINE = "x1000c[0-1]s[0-1]b0n[0-3]"
PATH = "/hmi/v1/guard"
RELEASE = "/hmi/v1/guard/release"


class GuardAPITests(ClockedAPITestCase):
    """A machine of two chassis, of which one falls silent."""

    options = {"guard": "hold", "interval": 1}

    def beat_for(self, seconds: float, silent: str = "") -> None:
        """Let time pass while all beat but some."""
        quiet = set(names(silent))
        for second in range(round(seconds)):
            if second % 3 == 0:
                for name in names(MACHINE):
                    if name not in quiet:
                        self.service.monitor.beat(name, "t", "OK")
            self.reactor.pump([0.1] * 10)

    def disrupt(self, seconds: float = 35.0) -> None:
        """Let a chassis fall silent."""
        self.beat_for(60.0)
        self.beat_for(seconds, silent=C0)

    def guard(self) -> Any:
        """Return what `GET /guard` answers."""
        response = self.request("GET", PATH)
        self.assertEqual(response.status, 200)
        return response.json()

    def release(self, body: object = b"") -> Any:
        """Ask for a release."""
        return self.request("POST", RELEASE, body)

    def test_quiet(self) -> None:
        """While nothing is disrupted, only the parameters are shown."""
        self.beat_for(6.0)
        self.assertEqual(
            self.guard(),
            {
                "Mode": "hold",
                "Share": 55,
                "Hold": 90,
                "Groups": 0,
                "Leading": True,
                "Leader": self.service.core.name,
                "Held": 0,
                "Disruptions": [],
                "Statements": [],
            },
        )
        shown = self.request("GET", "/v1/components/x1000c0s0b0n0").json()
        self.assertNotIn("Disruption", shown)
        self.assertNotIn("Guard", self.request("GET", "/v1/health").json())

    def test_disrupted(self) -> None:
        """A disruption is shown with its members, and the statement about it."""
        self.disrupt()
        answer = self.guard()
        (disruption,) = answer["Disruptions"]
        self.assertEqual(answer["Held"], 8)
        facts = {key: disruption[key] for key in ("Domain", "Kind", "Away", "Living", "Held")}
        self.assertEqual(
            facts, {"Domain": "x1000c0", "Kind": "chassis", "Away": 8, "Living": 8, "Held": 8}
        )
        self.assertEqual(disruption["XNames"], C0)
        self.assertEqual(disruption["Includes"], [])
        self.assertLess(disruption["Since"], disruption["At"])
        self.assertLess(disruption["At"], disruption["Until"])
        (statement,) = answer["Statements"]
        self.assertEqual((statement["Number"], statement["What"]), (1, "disrupted"))
        self.assertEqual(statement["Until"][:19], disruption["Until"][:19])
        self.beat_for(10.0)
        answer = self.guard()
        self.assertEqual((answer["Held"], answer["Disruptions"]), (0, []))
        ended = answer["Statements"][0]
        self.assertEqual((ended["Number"], ended["What"], ended["Reason"]), (2, "ended", "back"))

    def test_component(self) -> None:
        """A member says which disruption explains its silence, and how long its death waits."""
        self.disrupt()
        shown = self.request("GET", "/v1/components/x1000c0s0b0n0").json()
        self.assertEqual(shown["State"], "warned")
        until = shown["Disruption"]["HeldUntil"]
        self.assertEqual((shown["Disruption"]["Domain"], until[-1]), ("x1000c0", "Z"))
        self.assertIn(
            f"fell silent with much of chassis x1000c0, which is disrupted since"
            f" {shown['Disruption']['At']}: its death waits until {until} at most.",
            shown["Why"]["Text"],
        )
        page = self.request("GET", f"/v1/components?names={C0}").json()["Components"]
        self.assertEqual({each["Disruption"]["Domain"] for each in page}, {"x1000c0"})
        other = self.request("GET", "/v1/components/x1000c1s0b0n0").json()
        self.assertNotIn("Disruption", other)

    def test_report_only(self) -> None:
        """With `report`, the dead say which disruption explains it, and nothing waits."""
        self.begin(guard="report")
        self.disrupt()
        shown = self.request("GET", "/v1/components/x1000c0s0b0n0").json()
        self.assertEqual((shown["State"], shown["Disruption"]["HeldUntil"]), ("dead", None))
        self.assertIn("is disrupted since", shown["Why"]["Text"])
        self.assertNotIn("waits", shown["Why"]["Text"])
        self.assertEqual((self.guard()["Held"], self.guard()["Statements"][0]["Until"]), (0, None))

    def test_health(self) -> None:
        """Health and the internals say what is disrupted."""
        self.disrupt()
        text = self.request("GET", "/v1/health").json()["Guard"]
        self.assertRegex(text, r"^chassis x1000c0 is disrupted: 8 members silent since 20.*Z$")
        internals = self.request("GET", "/v1/internals").json()["Guard"]
        self.assertEqual(internals["Disruptions"][0]["Domain"], "x1000c0")
        self.assertIn("Serving", self.service.views.in_words("x"))

    def test_summary(self) -> None:
        """The summary has what is disrupted, and until when deaths wait, only while it is so."""
        self.beat_for(6.0)
        self.assertNotIn("Disruptions", self.request("GET", "/v1/summary").json())
        self.disrupt()
        (found,) = self.request("GET", "/v1/summary").json()["Disruptions"]
        whole = self.guard()["Disruptions"][0]
        self.assertEqual((found["Away"], found["HeldUntil"]), (8, whole["Until"]))
        self.assertEqual({**whole, **found, "HeldUntil": None}, {**whole, "HeldUntil": None})

    def test_summary_of_report(self) -> None:
        """Where deaths don't wait, the summary gives no time until which they do."""
        self.begin(guard="report")
        self.disrupt()
        (found,) = self.request("GET", "/v1/summary").json()["Disruptions"]
        self.assertIsNone(found["HeldUntil"])

    def test_metrics(self) -> None:
        """Metrics count disruptions by kind, their ends, and the deaths that wait."""
        self.disrupt()
        text = self.request("GET", "/metrics").body.decode()
        self.assertIn('hbtd_guard_disrupted{kind="chassis"} 1.0', text)
        self.assertIn("hbtd_guard_held 8.0", text)
        self.assertIn('hbtd_guard_disruptions_total{kind="chassis"} 1.0', text)
        self.assertIn('hbtd_guard_disruptions_total{kind="slot"} 0.0', text)
        self.beat_for(10.0)
        text = self.request("GET", "/metrics").body.decode()
        self.assertIn('hbtd_guard_disrupted{kind="chassis"} 0.0', text)
        self.assertIn('hbtd_guard_ended_total{kind="chassis"} 1.0', text)

    def test_release(self) -> None:
        """An operator releases a domain; its deaths are judged with the next sweep."""
        self.disrupt()
        response = self.release({"Domain": "x1000c0"})
        self.assertEqual(response.json(), {"Released": ["x1000c0"], "Components": 8})
        self.beat_for(2.0, silent=C0)
        self.assertEqual(self.service.tracker.dead, 8)
        self.assertEqual(self.guard()["Statements"][0]["Reason"], "released")

    def test_release_all(self) -> None:
        """Without a domain all are released; again, there is nothing to release."""
        self.disrupt()
        self.assertEqual(self.release().json(), {"Released": ["x1000c0"], "Components": 8})
        self.assertEqual(self.release({}).json(), {"Released": [], "Components": 0})
        self.assertEqual(self.release({"Domain": None}).json()["Released"], [])

    def test_released_twice(self) -> None:
        """A domain that is released already, or never was disrupted, is not found."""
        self.disrupt()
        self.release({"Domain": "x1000c0"})
        for domain in ("x1000c0", "x1000c0s0", "nowhere"):
            self.assert_problem(
                self.release({"Domain": domain}),
                404,
                f"{domain} is not disrupted, or was released already",
                PATH,
            )

    def test_bad_bodies(self) -> None:
        """A body that names no domain is refused, whatever it is, and releases nothing."""
        self.disrupt()
        bodies: tuple[object, ...] = (
            *(b"[", [], 1, "x1000c0", {"Domain": 1}, {"Domain": ["x1000c0"]}, {"Domain": ""}),
            *({"Domain": "x" * 65}, {"Domain": "x\n"}, {"Domain": "ä"}),
        )
        for body in bodies:
            self.assertEqual(self.release(body).status, 400, body)
        self.assertEqual(self.guard()["Held"], 8)

    def test_follower(self) -> None:
        """A replica that does not lead names the one that does, and shows what that shares."""
        self.disrupt()
        self.service.monitor.become_follower()
        name = self.service.core.name
        self.assert_problem(
            self.release(),
            503,
            f"This replica does not lead, and only the leader holds deaths; ask the leader, {name}",
            PATH,
        )
        answer = self.guard()
        self.assertEqual((answer["Leading"], answer["Held"]), (False, None))
        (disruption,) = answer["Disruptions"]
        self.assertEqual((disruption["Away"], disruption["Living"]), (8, 8))
        self.assertIsNone(disruption["XNames"])
        shown = self.request("GET", "/v1/components/x1000c0s0b0n0").json()
        self.assertEqual(shown["Disruption"]["Domain"], "x1000c0")
        self.assertIsNotNone(shown["Disruption"]["HeldUntil"])
        other = self.request("GET", "/v1/components/x1000c1s0b0n0").json()
        self.assertNotIn("Disruption", other)

    def test_follower_in_maintenance(self) -> None:
        """Nor does such a replica say that the death of somebody waits whom nobody judges."""
        self.disrupt()
        self.service.monitor.become_follower()
        name, other = "x1000c0s0b0n0", "x1000c0s0b0n1"
        body = {"XNames": [name], "For": 60}
        id = self.request("POST", "/v1/maintenance", body).json()["Id"]
        shown = self.request("GET", f"/v1/components/{name}").json()
        self.assertNotIn("Disruption", shown)
        self.assertNotIn("disrupted", shown["Why"]["Text"])
        # It is judged anew, with its own times.
        self.request("DELETE", f"/v1/maintenance/{id}")
        shown = self.request("GET", f"/v1/components/{name}").json()
        self.assertNotIn("Disruption", shown)
        self.assertIn("Disruption", self.request("GET", f"/v1/components/{other}").json())

    def test_events(self) -> None:
        """Whoever reads events gets one of each statement, without a number of the log."""
        self.beat_for(60.0)
        reader = Subscriber(self.connect())
        inside = Subscriber(self.connect(), "/hmi/v1/events?under=x1000c0s1")
        outside = Subscriber(self.connect(), "/hmi/v1/events?under=x1000c1")
        member = Subscriber(self.connect(), "/hmi/v1/events?names=x1000c0s0b0n0")
        stranger = Subscriber(self.connect(), "/hmi/v1/events?names=x1000c1s0b0n0")
        self.beat_for(35.0, silent=C0)
        self.beat_for(10.0)
        expected = [("disrupted", "x1000c0"), ("ended", "x1000c0")]
        for client, wanted in (
            (reader, expected),
            (inside, expected),
            (outside, []),
            (member, expected),
            (stranger, []),
        ):
            client.read()
            found = [each for each in client.stream.events if each.type == "guard"]
            said = [orjson.loads(each.data) for each in found]
            self.assertEqual([(each["What"], each["Domain"]) for each in said], wanted)
        self.assertNotIn(b"\nid: ", reader.body.partition(b"event: guard")[2].partition(b"\n\n")[0])

    def test_beats_over_http(self) -> None:
        """A heartbeat of a held member over HTTP lets it leave."""
        self.disrupt()
        beat = {**HEARTBEAT, "Component": "x1000c0s0b0n0"}
        self.assertEqual(self.request("POST", "/v1/heartbeat", beat).status, 200)
        self.reactor.pump([0.1] * 12)
        self.assertEqual(self.guard()["Held"], 7)
        self.assertNotIn(
            "Disruption", self.request("GET", f"/v1/components/{beat['Component']}").json()
        )
