"""The API of maintenance: what is set, shown, changed and ended, and what is refused."""

import json
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.logger import LogLevel, capturedLogs

from hbtd.rules import maintenances
from hbtd.store.interface import StoreUnusable
from tests.support.access_memory import CREDENTIALS
from tests.support.change_lines import ChangeTestCase
from tests.support.components_api import CHASSIS, ComponentsTestCase
from tests.support.event_stream import EventStream, unchunked
from tests.support.http_memory import XNAME, Connection, Response, encode_request
from tests.support.logged import said


def refuse() -> Deferred[None]:
    """Refuse what is to be written."""
    return fail(StoreUnusable("the disk is full"))


_ALL = "x1000c7s[0-7]b0n[0-1]"


class MaintenanceTestCase(ComponentsTestCase):
    """Has a chassis, and sends requests about maintenance."""

    def ask(self, method: str, path: str = "", body: object = b"") -> Response:
        """Send a request below `/maintenance`."""
        return self.request(method, f"/hmi/v1/maintenance{path}", body)

    def set(self, *names: str, **fields: object) -> dict[str, Any]:
        """Set a maintenance; return the answer."""
        end = {} if "Until" in fields else {"For": 600}
        response = self.ask("POST", "", {"XNames": names, **end, **fields})
        self.assertEqual(response.status, 201, response.body)
        answer: dict[str, Any] = response.json()
        return answer

    def detail(self, status: int, method: str, path: str = "", body: object = b"") -> str:
        """Return why a request is refused, with this status."""
        response = self.ask(method, path, body)
        self.assertEqual(response.status, status, response.body)
        return str(response.json()["detail"])


class SettingTests(MaintenanceTestCase):
    """`POST /maintenance`."""

    def test_set(self) -> None:
        """The answer has the identifier, the components, and what was not known."""
        answer = self.set(_ALL, "LOGIN-1", "X0005c0s00b0n0", "nobody", Reason=" fw ", By="alice")
        self.assertRegex(answer["Id"], "^[2-9a-z]{6}$")
        shown = {k: v for k, v in answer.items() if k not in ("Id", "At", "Until")}
        self.assertEqual(
            shown,
            {
                "Back": False,
                "Reason": "fw",
                "By": "alice",
                "Away": False,
                "Number": 18,
                "XNames": f"x5c0s0b0n0,{_ALL},x1001c0s10b0n0",
                "Untracked": "x5c0s0b0n0",
                "Unknown": "nobody",
                "Ambiguous": "",
            },
        )
        self.assertEqual(len(self.service.tracker.spared_components()), 17)

    def test_ambiguous(self) -> None:
        """A host name that several have sent stands for none of them, and is reported."""
        self.beat("x1001c0s9b0n0", Hostname="login-1", NID="901")
        answer = self.set("login-1", CHASSIS[0])
        self.assertEqual((answer["Ambiguous"], answer["XNames"]), ("login-1", CHASSIS[0]))

    def test_by_number(self) -> None:
        """Components are found by NID, too, and are in it once however often they are named."""
        answer = self.set("nid[000000-000003]", "1", CHASSIS[0], CHASSIS[0])
        self.assertEqual((answer["Number"], answer["XNames"]), (4, "x1000c7s[0-1]b0n[0-1]"))

    def test_many_names(self) -> None:
        """A hundred thousand components and more can be in one maintenance, in turns."""
        answer = self.set("x[0-2499]c[0-7]s[0-2]b0n[0-1]")
        self.assertEqual(answer["Number"], 120_000)
        self.assertLess(len(answer["XNames"]), 256 * 1024)
        self.assertEqual(len(self.service.core.maintenances.in_force), 120_000)
        row = self.get("/maintenance")["Maintenance"][0]
        self.assertEqual(row["Number"], 120_000)
        self.assertLessEqual(len(row["XNames"]), 4096)
        detail = self.get(f"/maintenance/{answer['Id']}")
        self.assertEqual((detail["XNames"], detail["Untracked"]), (answer["XNames"], 119_994))

    def test_too_many_names(self) -> None:
        """More than a million names are refused before any is made."""
        body = {"XNames": ["x[0-9999]c[0-7]s[0-63]b[0-1]"], "For": 5}
        self.assertIn("no more than 1,000,000 are allowed", self.detail(400, "POST", "", body))
        body = {"XNames": ["h[0-60000]", "i[0-60000]"], "For": 5}
        self.assertIn("more than 100,000 names that are no x", self.detail(400, "POST", "", body))

    def test_too_long(self) -> None:
        """Components that take too long a text as one nodeset are refused."""
        self.patch(maintenances, "LONGEST_NODESET", 30)
        detail = self.detail(400, "POST", "", {"XNames": [_ALL, "x5c0s0b0n0"], "For": 5})
        self.assertEqual(
            detail,
            "The components take 32 characters as one nodeset, and not 30 at most; set several"
            " maintenances",
        )

    def test_too_many(self) -> None:
        """More maintenances than there is room for are refused."""
        self.patch(maintenances, "MOST", 1)
        self.set(_ALL)
        detail = self.detail(409, "POST", "", {"XNames": [_ALL], "For": 5})
        self.assertEqual(detail, "There are 1 maintenances already; end some of them first")

    def test_refused(self) -> None:
        """What can't be used is refused, and sets nothing; the limit is that of the options."""
        self.begin(maintenance_max="1h")
        for body, why in (
            (b"", "The body must be a JSON object"),
            (b"[]", "The body must be a JSON object"),
            ({"For": 5}, "a list of nodesets, XNames"),
            ({"XNames": ["x0", 5], "For": 5}, "a list of nodesets, XNames"),
            ({"XNames": ["x0"]}, "An end is needed"),
            ({"XNames": ["x0"], "Until": "2020-01-01"}, "later than now"),
            ({"XNames": ["x0"], "For": 3601}, "3600 s from now at most"),
            ({"XNames": ["x0"], "For": 5, "Reason": "x" * 257}, "Reason must be a text"),
            ({"XNames": ["x0"], "For": 5, "By": 7}, "By must be a text"),
            ({"XNames": [], "For": 5}, "no component to set it for: it is empty"),
            ({"XNames": ["", " "], "For": 5}, "no component to set it for: it is empty"),
            ({"XNames": ["no"], "For": 5}, "no component to set it for: no not known"),
            ({"XNames": ["x["], "For": 5}, "bracket"),
            ({"XNames": ["@all"], "For": 5}, "node groups"),
        ):
            self.assertIn(why, self.detail(400, "POST", "", body), body)
        self.assertEqual(self.get("/maintenance"), {"Maintenance": [], "Next": None})

    def test_store_fails(self) -> None:
        """If the store fails nothing is set, and the answer says why."""
        self.patch(self.service.store, "write_settings", lambda settings: refuse())
        detail = self.detail(503, "POST", "", {"XNames": [_ALL], "For": 5})
        self.assertEqual(
            detail, "The store can't be written, so nothing was changed: the disk is full"
        )
        self.assertEqual(self.service.tracker.spared_components(), [])


class ShowingTests(MaintenanceTestCase):
    """What is shown of it, and of components that are in it."""

    def test_pages(self) -> None:
        """All are listed page by page: those of operators, then who is away, each once."""
        for number in range(3):
            self.set(CHASSIS[number])
        for name in CHASSIS[:3]:
            self.request("POST", f"/v1/heartbeat/{name}/away", {"For": 60, "Reason": "reboot"})
        whole = self.get("/maintenance")["Maintenance"]
        ids = [row["Id"] for row in whole]
        self.assertEqual(ids[3:], [f"away-{name}" for name in CHASSIS[:3]])
        self.assertEqual(ids[:3], sorted(ids[:3]))
        self.assertEqual([row["Away"] for row in whole], [False] * 3 + [True] * 3)
        found, after = [], ""
        for _ in range(4):
            page = self.get(f"/maintenance?limit=2{after}")
            found += page["Maintenance"]
            if page["Next"] is None:
                break
            after = f"&after={page['Next']}"
        self.assertEqual(found, whole)
        gone = self.get("/maintenance?after=away-x1000c7s0b0n0x")["Maintenance"]
        self.assertEqual([row["Id"] for row in gone], ids[4:])

    def test_component(self) -> None:
        """A component in maintenance has it in a field, and its reason for its state says so."""
        answer = self.set(CHASSIS[0], Reason="fw", By="alice")
        expected = {k: answer[k] for k in ("Id", "Until", "Back", "Reason", "By")}
        (row,) = self.get(f"/components?names={CHASSIS[0]}")["Components"]
        self.assertEqual(row["Maintenance"], {**expected, "Silent": False})
        (other,) = self.get(f"/components?names={CHASSIS[1]}")["Components"]
        self.assertNotIn("Maintenance", other)
        text = self.get(f"/components/{CHASSIS[0]}")["Why"]["Text"]
        self.assertIn(
            f"In maintenance {answer['Id']} until {answer['Until']} (by alice): fw; silence is no"
            " alarm.",
            text,
        )

    def test_silent(self) -> None:
        """The silence of a component is shown as what it is, and no alarm."""
        self.set(CHASSIS[0], CHASSIS[1], Until="back")
        component = self.service.tracker.component(CHASSIS[0])
        assert component is not None
        component.last_heard -= 500.0
        found = self.get(f"/components/{CHASSIS[0]}")
        self.assertEqual((found["State"], found["Maintenance"]["Silent"]), ("healthy", True))
        self.assertRegex(
            found["Why"]["Text"], r"^Silent for 5\d\d\.\d s, which is not judged\. In "
        )
        self.assertIn(", or until it is back", found["Why"]["Text"])
        beating = self.request("GET", f"/v1/hbstate/{CHASSIS[0]}").json()["Heartbeating"]
        self.assertFalse(beating)
        summary = self.get("/summary")
        self.assertEqual(
            summary["Maintenance"],
            {"Set": 1, "Away": 0, "Components": 2, "Silent": 1, "Warned": 0, "Dead": 0},
        )
        self.assertEqual((summary["Counts"]["healthy"], summary["Groups"]), (18, []))
        metrics = self.request("GET", "/metrics").body.decode()
        for line in (
            "hbtd_maintenances 1.0",
            "hbtd_maintenance_away 0.0",
            'hbtd_maintenance_components{silent="no"} 1.0',
            'hbtd_maintenance_components{silent="yes"} 1.0',
        ):
            self.assertIn(f"\n{line}\n", metrics)

    def test_silent_before(self) -> None:
        """Who was warned about or dead before is that, and no alarm: neither alone nor a group."""
        slot = [name for name in CHASSIS if name.startswith("x1000c7s3")]
        tracker = self.service.tracker
        for name in slot:
            tracker.apply_death(name)
        metrics = self.request("GET", "/metrics").body.decode()
        self.assertIn('\nhbtd_silent_groups{type="ComputeModule"} 1.0\n', metrics)
        self.set(*slot)
        summary = self.get("/summary")
        self.assertEqual((summary["Counts"]["dead"], summary["Maintenance"]["Dead"]), (2, 2))
        metrics = self.request("GET", "/metrics").body.decode()
        for line in (
            'hbtd_components{state="dead"} 2.0',
            "hbtd_maintenance_dead 2.0",
            'hbtd_silent_groups{type="ComputeModule"} 0.0',
            'hbtd_cabinet_components{cabinet="x1000",state="dead"} 2.0',
        ):
            self.assertIn(f"\n{line}\n", metrics)

    def test_drawn(self) -> None:
        """The picture has who is silent in maintenance, warned about or not."""
        self.set(CHASSIS[0], CHASSIS[1], CHASSIS[2])
        tracker = self.service.tracker
        for name in (CHASSIS[1], CHASSIS[3]):
            component = tracker.component(name)
            assert component is not None
            component.last_heard -= 500.0
        answer = self.get("/picture")
        self.assertEqual(answer["Maintenance"], "01" + "0" * 16)
        self.assertEqual(len(answer["States"]), 18)

    def test_selected(self) -> None:
        """Components in maintenance can be listed, whatever their states, and with others."""
        self.set(CHASSIS[1], CHASSIS[0])
        self.service.tracker.apply_death(CHASSIS[1])
        self.service.tracker.apply_death(CHASSIS[2])
        for state, expected in (
            ("maintenance", [0, 1]),
            ("dead", [1, 2]),
            ("Maintenance,dead", [0, 1, 2]),
        ):
            found = self.get(f"/components?state={state}")["Components"]
            self.assertEqual([each["XName"] for each in found], [CHASSIS[i] for i in expected])

    def test_nothing(self) -> None:
        """Without any, answers are as they were."""
        self.assertEqual(self.get("/components?state=maintenance")["Components"], [])
        self.assertNotIn("Maintenance", self.get("/summary"))
        self.assertNotIn("Maintenance", self.get(f"/components/{CHASSIS[0]}"))

    def test_judged_anew(self) -> None:
        """When it has ended, the reason for the state says when the component is judged."""
        id = self.set(CHASSIS[0])["Id"]
        self.ask("DELETE", f"/{id}")
        self.assertRegex(
            self.get(f"/components/{CHASSIS[0]}")["Why"]["Text"],
            r"Healthy: silent for \d+\.\d s; judged anew since its maintenance ended; unless it is"
            r" heard it is warned about in \d+\.\d s, and declared dead in \d+\.\d s\.",
        )


class ChangingTests(MaintenanceTestCase):
    """`PATCH` and `DELETE /maintenance/{id}`."""

    def test_change(self) -> None:
        """Its end can be put off and drawn near, within the limit; the rest stays as it is."""
        before = self.set(_ALL, Reason="fw", By="alice")
        path = f"/{before['Id']}"
        after = self.ask("PATCH", path, {"For": 7 * 86400, "By": "bob"}).json()
        self.assertGreater(after["Until"], before["Until"])
        self.assertEqual(
            [after[name] for name in ("Id", "XNames", "Reason", "By", "Back")],
            [before["Id"], _ALL, "fw", "bob", False],
        )
        self.assertIn("at most", self.detail(400, "PATCH", path, {"For": 7 * 86400 + 1}))
        self.assertIn("later than now", self.detail(400, "PATCH", path, {"Until": "-5s"}))
        self.assertIn("Nothing is to be", self.detail(400, "PATCH", path, {"XNames": ["x0"]}))
        self.assertEqual(self.ask("PATCH", path, {"Until": "back"}).json()["Back"], True)

    def test_unknown(self) -> None:
        """What never was, or is over, can be neither changed nor ended nor shown."""
        id = self.set(_ALL)["Id"]
        self.assertEqual(self.ask("DELETE", f"/{id}").status, 200)
        for each in (id, "x", "away-x1000c7s0b0n0", "%1b"):
            for method, body in (("PATCH", {"For": 5}), ("DELETE", b""), ("GET", b"")):
                detail = self.detail(404, method, f"/{each}", body)
                self.assertRegex(
                    detail, "^There is no maintenance [ -~]*: it is over, or never was"
                )

    def test_store_fails(self) -> None:
        """If the store fails it stays as it is."""
        id = self.set(_ALL)["Id"]
        self.patch(self.service.store, "write_settings", lambda settings: refuse())
        self.patch(self.service.store, "replace_settings", lambda settings: refuse())
        for method, body in (("PATCH", {"For": 5}), ("DELETE", b"")):
            self.assertIn("the disk is full", self.detail(503, method, f"/{id}", body))
        self.assertEqual(self.get(f"/maintenance/{id}")["Number"], 16)


class AwayTests(MaintenanceTestCase):
    """`POST /heartbeat/{xname}/away`."""

    def away(self, name: str, **fields: object) -> Response:
        """Say that a component will be away."""
        return self.request("POST", f"/hmi/v1/heartbeat/{name}/away", fields)

    def test_away(self) -> None:
        """What is noted is shown; the name may have any spelling, and is a path like any other."""
        answer = self.away(CHASSIS[0].upper(), For=600, Reason="reboot")
        self.assertEqual((answer.status, answer.headers["hbtd-found"]), (204, "true"))
        found = self.get(f"/components/{CHASSIS[0]}")
        shown = {k: v for k, v in found["Maintenance"].items() if k != "Until"}
        self.assertEqual(
            shown,
            {
                "Id": f"away-{CHASSIS[0]}",
                "Back": True,
                "Reason": "reboot",
                "By": CHASSIS[0],
                "Silent": False,
            },
        )
        self.assertIn("It has said that it will be away, and be back by", found["Why"]["Text"])
        self.assertEqual(self.get("/summary")["Maintenance"]["Away"], 1)
        coded = self.request("POST", f"/v1/heartbeat/{CHASSIS[1]}/%61way", {"For": 5})
        self.assertEqual(coded.status, 404)

    def test_untracked(self) -> None:
        """Of a component that is not tracked there is nothing to note."""
        answer = self.away("x5c0s0b0n0", For=600)
        self.assertEqual((answer.status, answer.headers["hbtd-found"]), (204, "false"))
        self.assertEqual(self.get("/maintenance")["Maintenance"], [])

    def test_refused(self) -> None:
        """What can't be used is refused."""
        for fields in ({}, {"For": "600"}, {"For": -1}, {"For": 7 * 86400 + 1}, {"Until": "back"}):
            self.assertEqual(self.away(CHASSIS[0], **fields).status, 400, fields)
        self.assertEqual(self.away("nid1", For=5).json()["detail"], "Invalid Component Name")
        self.assertEqual(self.away(CHASSIS[0], For=5, Reason=5).status, 400)
        self.assertEqual(self.away(CHASSIS[0], For=5).status, 204)
        again = self.away(CHASSIS[0], For=5)
        self.assertEqual((again.status, again.headers["retry-after"]), (429, "30"))


class LogTests(ChangeTestCase):
    """Every change is one line that says who has asked for it."""

    def test_lines(self) -> None:
        """What is set, changed and ended is logged, with who, and with control characters shown."""
        self.begin()
        self.beat()
        operator = CREDENTIALS["on this host"]
        path = "/v1/maintenance"
        body = {"XNames": [XNAME], "For": 60, "Reason": "f\x1bw", "By": "alice"}
        answer, (line,) = self.lines(operator, "POST", path, body)
        made = answer.json()
        self.assertEqual(
            line,
            f"Change by loopback from 127.0.0.1: POST /v1/maintenance: maintenance {made['Id']} of"
            f" 1 component until {made['Until']}, reason 'f\\x1bw', by 'alice': {XNAME}.",
        )
        answer, (line,) = self.lines(operator, "PATCH", f"{path}/{made['Id']}", {"Until": "back"})
        self.assertIn(f"until {answer.json()['Until']}, or until they are back, reason", line)
        self.assertTrue(line.endswith(f"; it was until {made['Until']}."), line)
        _, (line,) = self.lines(operator, "DELETE", f"{path}/{made['Id']}")
        self.assertIn(f"maintenance {made['Id']} ended, of 1 component: {XNAME}.", line)
        _, (line,) = self.lines(operator, "DELETE", f"{path}/{made['Id']}")
        self.assertIn("refused with 404: There is no maintenance", line)
        node = CREDENTIALS["own certificate"]
        away = f"/v1/heartbeat/{XNAME}/away"
        _, (line,) = self.lines(node, "POST", away, {"For": 60, "Reason": "reboot"})
        self.assertTrue(line.endswith("/away: away for 60 s, reason 'reboot'."), line)
        self.assertIn(f"certificate '{XNAME}'", line)
        # Nodes must not be able to fill the log with what changes nothing.
        answer, lines = self.lines(node, "POST", away, {})
        self.assertEqual((answer.status, lines), (400, []))

    def test_client_gone(self) -> None:
        """A change whose client does not wait for its answer is carried out, and logged."""
        self.begin()
        waiting: list[Any] = []
        write = self.service.store.write_settings

        def hold(settings: Any) -> Deferred[None]:
            waiting.append(settings)
            return Deferred()

        self.patch(self.service.store, "write_settings", hold)
        connection = Connection(self.factory)
        body = {"XNames": [XNAME], "For": 60}
        with capturedLogs() as events:
            connection.send(encode_request("POST", "/v1/maintenance", body))
            connection.hang_up()
            self.reactor.advance(0)
        (line,) = [text for text in said(events, LogLevel.info) if text.startswith("Change by")]
        self.assertTrue(line.endswith(f"maintenance of {XNAME}; the client did not wait for it."))
        write(waiting[0])
        self.assertTrue(self.service.tracker.is_spared(XNAME))


class EventTests(MaintenanceTestCase):
    """What readers of events are sent."""

    def read(self, query: str = "") -> Connection:
        """Begin to read events."""
        client = self.connect()
        client.send(encode_request("GET", f"/hmi/v1/events{query}"))
        return client

    def events(self, client: Connection) -> list[dict[str, Any]]:
        """Return the news of maintenances that a reader was sent."""
        stream = EventStream()
        stream.feed(unchunked(client.received().partition(b"\r\n\r\n")[2]))
        return [json.loads(each.data) for each in stream.events if each.type == "maintenance"]

    def test_story(self) -> None:
        """It is said when one is set, changed and ended, with what it is then."""
        client = self.read()
        id = self.set(CHASSIS[0], CHASSIS[1])["Id"]
        self.assertEqual(self.ask("PATCH", f"/{id}", {"Reason": "fw"}).status, 200)
        self.assertEqual(self.ask("DELETE", f"/{id}").status, 200)
        self.reactor.pump([0.1] * 12)
        events = self.events(client)
        self.assertEqual([each["What"] for each in events], ["set", "changed", "ended"])
        self.assertEqual([each["Reason"] for each in events], ["", "fw", "fw"])
        self.assertEqual({(x["Id"], x["Number"]) for x in events}, {(id, 2)})

    def test_away(self) -> None:
        """A component that will be away is news, too."""
        client = self.read()
        path = f"/hmi/v1/heartbeat/{CHASSIS[0]}/away"
        self.assertEqual(self.request("POST", path, {"For": 60}).status, 204)
        self.reactor.pump([0.1] * 12)
        (event,) = self.events(client)
        self.assertEqual((event["What"], event["XNames"]), ("set", CHASSIS[0]))

    def test_names(self) -> None:
        """Readers of some components are told of all maintenances."""
        readers = [self.read(query) for query in (f"?names={CHASSIS[2]}", "?under=x1000c7s1")]
        self.ask("DELETE", f"/{self.set(CHASSIS[0])['Id']}")
        self.reactor.pump([0.1] * 12)
        self.assertEqual([len(self.events(each)) for each in readers], [2, 2])
