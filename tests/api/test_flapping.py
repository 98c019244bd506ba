"""Who is flapping, and how dead components are started, as clients of the whole service see it."""

from typing import Any

from twisted.logger import capturedLogs

from hbtd.tracker.transitions import Judgement, Phase, Transition
from tests.support.clocked_api import ClockedAPITestCase
from tests.support.components_api import CHASSIS, ComponentsTestCase
from tests.support.event_stream import EventStream, unchunked
from tests.support.hsm_memory import lines
from tests.support.http_memory import encode_request

A, B, C, *_ = CHASSIS
MOST = 10


class FlappingTests(ComponentsTestCase):
    """A component that dies and starts again and again, with `--flap_changes=10`."""

    def setUp(self):
        """Wait until all that have started are in the log."""
        super().setUp()
        self.reactor.pump([0.1] * 30)
        self.change_parameter("Flap_changes", str(MOST))

    def change(self, name: str, times: int) -> None:
        """Let a component die and start in turn, so often altogether."""
        for _ in range(times):
            if self.service.tracker.phase(name) is Phase.DEAD:
                self.beat(name)
            else:
                self.service.tracker.apply_death(name)
                self.service.monitor.commit([Judgement(name, Transition.DIED, "t", Phase.HEALTHY)])
            self.reactor.pump([0.1] * 12)

    def test_shown(self) -> None:
        """One that changes too often is shown as flapping, and found as such; others are not."""
        self.change(A, MOST - 1)
        self.change(B, 2)
        self.assertEqual(self.names("flapping=true"), [])
        self.change(A, 1)
        self.assertEqual(self.names("flapping=true"), [A])
        self.assertEqual(self.names(f"flapping=true&names={A},{B}"), [A])
        self.assertEqual(self.names(f"flapping=false&names={A},{B}"), [B])
        self.assertEqual(self.names("flapping=true&state=dead"), [])
        self.assertEqual(len(self.names("flapping=false")), len(CHASSIS) + 1)
        shown = {x["XName"]: x["Flapping"] for x in self.get("/components")["Components"]}
        self.assertEqual([name for name, flapping in shown.items() if flapping], [A])

    def test_why(self) -> None:
        """`why` says how often a component has changed within the hour, and whether it flaps."""
        self.change(A, MOST)
        found = self.get(f"/components/{A}")
        self.assertEqual((found["Flapping"], found["Why"]["Changes"]), (True, MOST + 1))
        self.assertTrue(
            found["Why"]["Text"].endswith(
                " It is flapping: it has changed its state more than 10 times within an hour"
                " (Flap_changes), 11 of them within the last."
            ),
            found["Why"]["Text"],
        )
        steady = self.get(f"/components/{B}")
        self.assertEqual((steady["Flapping"], steady["Why"]["Changes"]), (False, 1))
        self.assertNotIn("flapping", steady["Why"]["Text"])

    def test_metric(self) -> None:
        """A metric has how many are flapping."""
        self.change(A, MOST)
        self.assertIn(b"\nhbtd_flapping 1.0\n", self.request("GET", "/metrics").body)

    def test_event(self) -> None:
        """Readers of events are sent one when it begins, without a number, and the log a line."""
        client = self.connect()
        client.send(encode_request("GET", f"/hmi/v1/events?names={A}"))
        with capturedLogs() as logged:
            self.change(A, MOST + 3)
        body = client.received().partition(b"\r\n\r\n")[2]
        stream = EventStream()
        stream.feed(unchunked(body))
        self.assertIn(b"\n\nevent: flapping\n", unchunked(body))
        (event,) = [each for each in stream.events if each.type == "flapping"]
        self.assertRegex(
            event.data, f'^{{"XName":"{A}","Flapping":true,"Changes":11,"At":"20[^"]*Z"}}$'
        )
        place = stream.events.index(event)
        self.assertEqual(
            [x.type for x in stream.events[place - 1 :]],
            ["transition", "flapping", "transition", "transition", "transition"],
        )
        said = [line for line in lines(logged, "info") if "lapping" in line]
        self.assertEqual(said, [f"Flapping, with more than 10 state changes within an hour: {A}"])

    def test_always_told(self) -> None:
        """HSM is to be told of the last state of one that is flapping, as of any other."""
        self.change(A, MOST + 4)
        self.assertEqual(self.names("flapping=true"), [A])
        for transition in (Transition.DIED, Transition.STARTED):
            self.change(A, 1)
            waiting = self.service.core.store.judgements()
            latest = {each.component: each.transition for each in self.successResultOf(waiting)}
            self.assertIs(latest[A], transition)
            self.assertEqual(self.get(f"/components/{A}")["HSM"]["State"], "waiting")

    def test_off(self) -> None:
        """With 0 nobody is marked, and nothing is counted; marks that were there are gone."""
        self.change(A, MOST)
        self.change_parameter("Flap_changes", "0")
        found = self.get(f"/components/{A}")
        self.assertEqual((found["Flapping"], found["Why"]["Changes"]), (False, None))
        self.assertEqual(self.names("flapping=true"), [])
        self.change_parameter("Flap_changes", "10")
        self.assertEqual(self.names("flapping=true"), [A])

    def change_parameter(self, name: str, value: str) -> None:
        """Change a parameter."""
        response = self.request("PATCH", "/v1/params", {name: value})
        self.assertEqual((response.status, response.json()[name]), (200, value))
        self.reactor.pump([0.1] * 12)

    def test_start_beats(self) -> None:
        """A dead component is started by as many heartbeats as the parameter says."""
        self.change_parameter("Start_beats", "3")
        self.change(A, 1)
        for expected in ("dead", "dead", "healthy"):
            self.beat(A)
            self.assertEqual(self.get(f"/components/{A}")["State"], expected)
        self.change(C, 1)
        self.change_parameter("Start_beats", "1")
        self.beat(C)
        self.assertEqual(self.get(f"/components/{C}")["State"], "healthy")


class StartingTests(ClockedAPITestCase):
    """Which heartbeats start dead components."""

    options = {"start_beats": 2, "warntime": 10, "errtime": 20, "interval": 1}

    def die(self, *names: str) -> None:
        """Let components send a heartbeat, and die."""
        self.begin()
        self.beat(*names)
        self.reactor.pump([0.1] * 250)
        self.assertEqual(self.states(*names), ["dead"] * len(names))

    def beat(self, *names: str) -> None:
        """Send a heartbeat of each of some components."""
        for name in names:
            self.service.monitor.beat(name, "t", "OK")
        self.reactor.pump([0.1] * 12)

    def states(self, *names: str) -> list[str]:
        """Return the states of components."""
        return [self.shown(name)["State"] for name in names]

    def shown(self, name: str) -> Any:
        """Return what is known of a component."""
        return self.request("GET", f"/v1/components/{name}").json()

    def test_threshold(self) -> None:
        """Heartbeats of a component that has times of its own are in time by these."""
        self.die(A, B)
        limits = [{"Match": A, "Warntime": 3, "Errtime": 20}]
        self.assertEqual(self.request("PUT", "/v1/thresholds", limits).status, 200)
        self.beat(A, B)
        self.reactor.pump([0.1] * 40)
        self.beat(A, B)
        self.assertEqual(self.states(A, B), ["dead", "healthy"])

    def test_maintenance(self) -> None:
        """A maintenance until they are back ends with the first one, and the last one starts."""
        self.die(A)
        wanted = {"XNames": [A], "For": 600, "Until": "back"}
        self.assertEqual(self.request("POST", "/v1/maintenance", wanted).status, 201)
        self.assertTrue(self.shown(A)["Maintenance"])
        for expected in ("dead", "healthy"):
            self.beat(A)
            shown = self.shown(A)
            self.assertEqual((shown["State"], shown.get("Maintenance")), (expected, None))
