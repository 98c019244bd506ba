"""What is asked about components over HTTP: pages, one component, the summary, and forgetting."""

from typing import Any

import orjson
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs, formatEvent

from hbtd.store.memory import MemoryStore
from tests.support.components_api import CHASSIS, ComponentsTestCase
from tests.support.http_memory import (
    HEARTBEAT,
    APITestCase,
    Connection,
    TimedAPITestCase,
    encode_request,
)

HOSTILE = "\x1b]0;pwned\x07\x9b31m\u202eevil\x7f\u2028\U000e0041"


class PageTests(ComponentsTestCase):
    """`GET /components`."""

    def test_all(self):
        """All components come in natural order, with all that is known."""
        answer = self.get("/components")
        self.assertEqual(
            [each["XName"] for each in answer["Components"]],
            [*CHASSIS, "x1001c0s9b0n0", "x1001c0s10b0n0"],
        )
        self.assertEqual((answer["Next"], answer["Unknown"]), (None, ""))
        first = answer["Components"][0]
        self.assertRegex(first.pop("LastHeartbeat"), "^20.*Z$")
        self.assertGreaterEqual(first.pop("Age"), 0)
        first.pop("Since")
        self.assertEqual(first.pop("HSM")["State"], "waiting")
        self.assertEqual(
            first,
            {
                "XName": CHASSIS[0],
                "Type": "Node",
                "State": "healthy",
                "Flapping": False,
                "Timestamp": HEARTBEAT["Timestamp"],
                "Status": HEARTBEAT["Status"],
                "Source": "127.0.0.1",
                "Hostname": "nid000000",
                "NID": "0",
            },
        )

    def test_pages(self):
        """Page after page, every component comes once, also while others come and go."""
        found, after = [], ""
        while after is not None:
            answer = self.get(f"/components?limit=5{after and '&after=' + after}")
            found += [each["XName"] for each in answer["Components"]]
            after = answer["Next"]
            self.service.monitor.forget_on_request(found[0])
            self.beat(f"x1000c0s{len(found)}b0n0")
        self.assertEqual(found, [*CHASSIS, "x1001c0s9b0n0", "x1001c0s10b0n0"])
        self.assertEqual(len(self.names("limit=18&under=x1000c7")), len(CHASSIS) - 1)

    def test_conditions(self):
        """Each condition leaves out what does not meet it, and all have to be met."""
        self.beat("x1001c0b0")
        self.service.tracker.apply_death(CHASSIS[3])
        self.assertEqual(self.names("state=dead"), [CHASSIS[3]])
        self.assertEqual(len(self.names("state=ok,dead")), len(CHASSIS) + 3)
        self.assertEqual(self.names("state=warned"), [])
        self.assertEqual(self.names("type=chassisbmc"), ["x1001c0b0"])
        self.assertEqual(len(self.names("type=Node,ChassisBMC&under=x1001")), 3)
        self.assertEqual(self.names("under=X1001c0s09&state=healthy"), ["x1001c0s9b0n0"])
        self.assertEqual(self.names("under=x100"), [])
        self.assertEqual(len(self.names("under=s0")), len(CHASSIS) + 3)
        self.assertEqual(self.names("under=x1000&state=dead&names=x1000c7s[0-7]b0n1"), [CHASSIS[3]])

    def test_names(self):
        """Nodesets of xnames, NIDs and host names; what is not tracked is said."""
        answer = self.get(
            "/components?names=nid[000002-000003],LOGIN-1,901,x1000c7s0b0n0,"
            "x1000c7s[7-9]b0n0,nobody,nid[000070-000071]"
        )
        self.assertEqual(
            [each["XName"] for each in answer["Components"]],
            [
                "x1000c7s0b0n0",
                "x1000c7s1b0n0",
                "x1000c7s1b0n1",
                "x1000c7s7b0n0",
                "x1001c0s9b0n0",
                "x1001c0s10b0n0",
            ],
        )
        self.assertEqual(answer["Unknown"], "nid[000070-000071],nobody,x1000c7s[8-9]b0n0")

    def test_hostile(self):
        """What nodes choose comes through, and no byte of it as such."""
        self.beat(CHASSIS[0], Status=HOSTILE, Timestamp=HOSTILE, Hostname=HOSTILE, NID="7")
        for path in ("/components", f"/components/{CHASSIS[0]}"):
            answer = self.get(path)
            found = answer.get("Components", [answer])[0]
            for field in ("Status", "Timestamp", "Hostname"):
                self.assertEqual(found[field], HOSTILE)

    def test_wrong(self):
        """Wrong parameters are refused, and it is said which and why."""
        for query, said in (
            ("state=ill", "Parameter state has 'ill'; it must be one or more of ok,"),
            ("state=", "Parameter state has ''"),
            ("type=Nodes", "Parameter type has 'nodes'"),
            ("under=cabinet7", "Parameter under is no xname"),
            ("under=", "Parameter under is no xname"),
            ("limit=0", "Parameter limit is no number from 1 to 1000"),
            ("limit=1001", "Parameter limit"),
            ("limit=-1", "Parameter limit"),
            ("limit=%D9%A3", "Parameter limit"),
            ("limit=1&limit=2", "Parameter limit is given twice"),
            ("flapping=yes", "Parameter flapping is neither true nor false"),
            ("flapping=", "Parameter flapping is neither true nor false"),
            ("after=7", "Parameter after is no value of Next"),
            ("names=@dead", "node groups (@) are not known"),
            ("names=x[0-9999]c[0-7]s[0-63]b[0-1]n[0-3]", "are 40,960,000 names"),
            ("names=x[0-999999999]", "are 1,000,000,000 names"),
            ("%1b=1", "Parameter \\x1b is not known; known are: after, flapping, limit, names"),
            ("state", "The query of the URL is not NAME=VALUE"),
            ("names=%ff", "The query of the URL is not NAME=VALUE"),
        ):
            self.assertIn(said, self.refused(f"/components?{query}"), query)


class OneTests(TimedAPITestCase):
    """`GET /components/{name}`, with time in the test's hands."""

    def setUp(self):
        super().setUp()
        self.factory = self.reactor.tcpServers[0][1]

    def why(self, name: str = "x1c0") -> Any:
        """Return why a component is in its state."""
        return self.request("GET", f"/v1/components/{name}").json()["Why"]

    def test_unknown(self):
        """What was never heard of is not found, and its name is shown in printable characters."""
        for name, shown in (("x9", "x9"), ("%1b]0;x", "\\x1b]0;x"), ("nid7", "nid7")):
            response = self.request("GET", f"/v1/components/{name}")
            self.assertEqual(response.status, 404)
            self.assertEqual(
                response.json()["detail"], f"No component {shown} is tracked, nor is it in the log"
            )

    def test_transitions(self):
        """The log's latest entries come newest first, also of what is no longer tracked."""
        self.request("POST", "/v1/heartbeat", {**HEARTBEAT, "Component": "x1c0"})
        self.pass_time(1)
        answer = self.request("GET", "/v1/components/nid000083").json()
        (entry,) = answer["Transitions"]
        self.assertEqual((entry["From"], entry["To"]), ("unknown", "healthy"))
        self.assertEqual((entry["Transition"], entry["Why"]), ("started", "heartbeat"))
        self.assertEqual((answer["Why"]["Warntime"], answer["Why"]["Errtime"]), (10, 30))
        self.request("DELETE", "/v1/heartbeat/x1c0")
        self.pass_time(1)
        answer = self.request("GET", "/v1/components/x1c0").json()
        self.assertEqual((answer["State"], len(answer["Transitions"])), ("unknown", 1))
        self.assertIn("Not tracked", answer["Why"]["Text"])


class TreeTests(ComponentsTestCase):
    """`GET /tree`."""

    def test_quiet(self):
        """While all are heard, no part of the machine is listed."""
        counts = {"healthy": 18, "warned": 0, "dead": 0, "total": 18}
        self.assertEqual(self.get("/tree"), {"Counts": counts, "Parts": [], "Next": None})

    def test_silent(self):
        """Parts in which something is silent are listed, each before its own parts."""
        for name in (*CHASSIS[:2], "x1001c0s9b0n0"):
            self.service.tracker.apply_death(name)
        answer = self.get("/tree")
        self.assertEqual(answer["Counts"], {"healthy": 15, "warned": 0, "dead": 3, "total": 18})
        parts = [(p["XName"], p["Type"], *p["Counts"].values()) for p in answer["Parts"]]
        slot = CHASSIS[0].partition("b")[0]
        self.assertEqual(
            parts,
            [
                ("x1000", "Cabinet", 14, 0, 2, 16),
                ("x1000c7", "Chassis", 14, 0, 2, 16),
                (slot, "ComputeModule", 0, 0, 2, 2),
                ("x1001", "Cabinet", 1, 0, 1, 2),
                ("x1001c0", "Chassis", 1, 0, 1, 2),
                ("x1001c0s9", "ComputeModule", 0, 0, 1, 1),
            ],
        )

    def test_under(self):
        """With `under`, only this part and what is in it count."""
        for name in (*CHASSIS[:2], CHASSIS[-1], "x1001c0s9b0n0", "x1001c0s10b0n0"):
            self.service.tracker.apply_death(name)
        answer = self.get("/tree?under=x1001c0")
        self.assertEqual(answer["Counts"]["total"], 2)
        self.assertEqual(
            [p["XName"] for p in answer["Parts"]], ["x1001c0", "x1001c0s9", "x1001c0s10"]
        )
        first, last = (name[: name.index("b")] for name in (CHASSIS[0], CHASSIS[-1]))
        for under, parts in (
            ("x1000c7", ["x1000c7", first, last]),
            (first, [first]),
            (last, [last]),
            ("x1001", ["x1001", "x1001c0", "x1001c0s9", "x1001c0s10"]),
            ("x1001c0s10", ["x1001c0s10"]),
            ("x1001c0s10b0n0", []),
        ):
            answer = self.get(f"/tree?under={under}")
            self.assertEqual([p["XName"] for p in answer["Parts"]], parts)
        self.assertEqual(self.get("/tree?under=x1001c0s9b0n0")["Counts"]["dead"], 1)
        self.assertEqual(self.get("/tree?under=x100")["Counts"]["total"], 0)

    def test_pages(self):
        """Pages follow each other without gaps, whatever their size."""
        for name in (CHASSIS[0], CHASSIS[5], "x1001c0s9b0n0"):
            self.service.tracker.apply_death(name)
        whole = self.get("/tree")["Parts"]
        for limit in range(1, len(whole) + 1):
            found, after = [], ""
            while after is not None:
                page = self.get(f"/tree?limit={limit}" + (f"&after={after}" if after else ""))
                self.assertLessEqual(len(page["Parts"]), limit)
                found += page["Parts"]
                after = page["Next"]
            self.assertEqual(found, whole)

    def test_wrong(self):
        """Parameters that can't be used are refused."""
        self.assertIn("under", self.refused("/tree?under=x1000_"))
        self.assertIn("after", self.refused("/tree?after=7"))


class SummaryTests(ComponentsTestCase):
    """`GET /summary`."""

    def tell_hsm(self, name: str) -> None:
        """Note that HSM was told of a component."""
        component = self.service.tracker.component(name)
        assert component is not None
        component.told = 1.8e9

    def test_quiet(self):
        """While all are heard, there are counts and nothing else."""
        answer = self.get("/summary")
        self.assertEqual(answer["Counts"], {"healthy": 18, "warned": 0, "dead": 0, "total": 18})
        self.assertEqual((answer["Groups"], answer["Silent"], answer["More"]), ([], "", 0))
        self.assertEqual((answer["Leading"], answer["HSM"]["Ready"]), (True, False))

    def test_chassis(self):
        """A dead chassis is one group with a line for people; one more dead node is named."""
        self.reactor.advance(0)
        for name in (*CHASSIS, "x1001c0s9b0n0"):
            self.service.tracker.apply_death(name)
            self.tell_hsm(name)
        answer = self.get("/summary")
        (group,) = answer["Groups"]
        since = group.pop("Since")
        self.assertEqual(
            group,
            {
                "XName": "x1000c7",
                "Type": "Chassis",
                "Silent": 16,
                "Total": 16,
                "Warned": 0,
                "Dead": 16,
                "Told": "2027-01-15T08:00:00.000Z",
                "Text": f"x1000c7 16/16 silent since {since[11:19]}, HSM told 2027-01-15 08:00:00",
            },
        )
        self.assertEqual(answer["Silent"], "x1001c0s9b0n0")

    def test_yet_to_be_stored(self):
        """HSM was not told of what is not stored yet, although nothing of it waits to be sent."""
        notifier = self.service.notifier
        self.assertEqual((notifier.pending_count, len(CHASSIS) + 2), (0, 18))
        self.assertEqual(self.get("/summary")["HSM"]["Waiting"], 18)
        told = self.get("/components?limit=1")["Components"][0]["HSM"]
        self.assertEqual((told["State"], told["At"]), ("waiting", None))
        self.assertIn("yet to be stored", told["Reason"])
        self.reactor.pump([0.1] * 5)
        self.assertEqual(self.get("/summary")["HSM"]["Waiting"], notifier.pending_count)
        told = self.get("/components?limit=1")["Components"][0]["HSM"]
        self.assertEqual((told["State"], notifier.pending_count), ("waiting", 18))
        self.assertIn("nosm is set", told["Reason"])

    def test_metrics(self):
        """The metrics count by cabinet, and the parts that are wholly silent."""
        for name in CHASSIS[:4]:
            self.service.tracker.apply_death(name)
        text = self.request("GET", "/metrics").body.decode()
        for line in (
            'hbtd_cabinet_components{cabinet="x1000",state="healthy"} 12.0',
            'hbtd_cabinet_components{cabinet="x1000",state="dead"} 4.0',
            'hbtd_cabinet_components{cabinet="x1001",state="healthy"} 2.0',
            'hbtd_silent_groups{type="Chassis"} 0.0',
            'hbtd_silent_groups{type="ComputeModule"} 2.0',
        ):
            self.assertIn(line, text.splitlines())


class RoomTests(APITestCase):
    """Answers that take much memory while they are made."""

    def test_many_at_once(self):
        """Names beyond the memory for large bodies get a 503, and don't keep it."""
        self.begin(max_body_bytes=65_536)
        for path in ("components?limit=1&", "history?limit=1&", "events?"):
            for _ in range(3):
                response = self.request("GET", f"/v1/{path}names=x[0-9999]c0")
                self.assertEqual(response.status, 503, path)
                self.assertEqual(response.headers["retry-after"], "10")
        self.assertEqual(self.request("GET", "/v1/components?names=x[0-2999]c0").status, 200)

    def test_looks_at_everybody(self):
        """An answer for which all components are looked at counts with what that takes."""
        self.begin(max_body_bytes=8192)
        for number in range(70_000):
            self.service.tracker.beat(f"x{number}", 0.0, "t", "OK")
        paths = ("components/nobody", "components?limit=1&names=nobody", "tree?limit=1", "metrics")
        for path in paths:
            self.assertEqual(self.request("GET", f"/v1/{path}").status, 503, path)
        for number in range(40_000):
            self.service.tracker.forget(f"x{number}")
        statuses = [self.request("GET", f"/v1/{path}").status for path in paths]
        self.assertEqual(statuses, [404, 200, 200, 200])


class SlowStore(MemoryStore):
    """A store that forgets nobody until a test lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[Deferred[None]] = []

    def forget(self, xname: str) -> Deferred[None]:
        """Forget a component, later."""
        self.waiting.append(Deferred())
        return self.waiting[-1]


class SlowlyForgottenTests(APITestCase):
    """A store that takes its time to forget components."""

    def test_few_at_once(self):
        """The store gets no more than some before it has forgotten those: commits come between."""
        store = SlowStore()
        self.begin(make_store=lambda *args: store)
        answer = self.connect()
        body = orjson.dumps({"XNames": ["x[0-299]c0"]})
        answer.send(b"POST /v1/forget HTTP/1.1\r\nHost: localhost\r\n"
                    b"Content-Length: %d\r\n\r\n%b" % (len(body), body))  # fmt: skip
        most = count = 0
        for _ in range(100):
            self.reactor.pump([0.01] * 5)
            most = max(most, len(store.waiting))
            waiting, store.waiting = store.waiting, []
            count += len(waiting)
            for each in waiting:
                each.callback(None)
        self.assertEqual(count, 300)
        self.assertLessEqual(most, 50)


class ForgetTests(ComponentsTestCase):
    """`POST /forget`."""

    def forget(self, body: object) -> tuple[int, Any, list[str]]:
        """Make a request; return its status, its answer, and what was logged of changes."""
        with capturedLogs() as events:
            response = self.request("POST", "/v1/forget", body)
        lines = [formatEvent(event) for event in events]
        return response.status, response.json(), [line for line in lines if "Change by" in line]

    def test_forgotten(self):
        """Many are forgotten at once, by xname, NID and host name; it is said what was found."""
        status, answer, lines = self.forget(
            {"XNames": ["x1000c7s[0-3]b0n[0-1]", "login-1,nid000001", "x5c0", "nid000700"]}
        )
        self.assertEqual(status, 200)
        self.assertEqual(
            answer,
            {
                "Forgotten": 9,
                "XNames": "x1000c7s[0-3]b0n[0-1],x1001c0s10b0n0",
                "Unknown": "nid000700,x5c0",
                "TooSoon": "",
                "Ambiguous": "",
            },
        )
        self.assertEqual(self.service.tracker.healthy, 9)
        self.assertEqual(
            lines,
            [
                "Change by loopback from 127.0.0.1: POST /v1/forget: 9 no longer tracked:"
                " x1000c7s[0-3]b0n[0-1],x1001c0s10b0n0."
            ],
        )

    def test_borrowed_names(self):
        """A node that calls itself like another one has neither forgotten, nor itself in place."""
        self.beat(CHASSIS[5], Hostname="nid000003", NID="900")
        self.beat(CHASSIS[6], Hostname="x1000c7s7b1n9", NID="6")
        _, answer, _ = self.forget({"XNames": ["nid[000003-000004],900", "x1000c7s7b1n9"]})
        self.assertEqual(answer["XNames"], CHASSIS[4])
        self.assertEqual(answer["Ambiguous"], "900,nid000003")
        self.assertEqual(answer["Unknown"], "x1000c7s7b1n9")
        _, _, lines = self.forget({"XNames": ["nid000003"]})
        self.assertIn("nothing changed, none could be forgotten.", lines[0])
        _, answer, _ = self.forget({"XNames": ["nid000003", CHASSIS[3]]})
        self.assertEqual((answer["XNames"], answer["Ambiguous"]), (CHASSIS[3], "nid000003"))

    def test_nobody_hides(self):
        """Of components with one name all are listed; asked for one, hbtd says which they are."""
        self.beat(CHASSIS[5], Hostname="nid000003", NID="3")
        answer = self.request("GET", "/v1/components?names=nid000003").json()
        self.assertEqual([c["XName"] for c in answer["Components"]], [CHASSIS[3], CHASSIS[5]])
        response = self.request("GET", "/v1/components/nid000003")
        self.assert_problem(
            response,
            400,
            "nid000003 is what 2 components call themselves: x1000c7s[1-2]b0n1; give an xname",
            "/hmi/v1/components",
        )

    def test_too_soon(self):
        """What came back and was forgotten less than Errtime before stays, and is named."""
        self.forget({"XNames": CHASSIS})
        self.beat(CHASSIS[0])
        _, answer, lines = self.forget({"XNames": CHASSIS[:2]})
        self.assertEqual((answer["Forgotten"], answer["TooSoon"]), (0, CHASSIS[0]))
        self.assertEqual(answer["Unknown"], CHASSIS[1])
        self.assertIn("nothing changed, none could be forgotten.", lines[0])
        _, _, lines = self.forget({"XNames": CHASSIS[1:2]})
        self.assertIn("nothing changed, none was tracked.", lines[0])

    def test_wrong(self):
        """A body with anything wrong forgets nothing; the refusal is logged."""
        for body in (
            b"",
            b"[]",
            {},
            {"XNames": "x1000c7"},
            {"XNames": [1]},
            {"XNames": [CHASSIS[0], "x[1"]},
            {"XNames": ["x[0-9999]c[0-7]", "x[0-9999]c[0-7]"]},
        ):
            status, answer, lines = self.forget(body)
            self.assertEqual((status, len(lines)), (400, 1), body)
            self.assertEqual(self.service.tracker.healthy, 18)
        self.assertIn("no more than 20,000 are allowed", answer["detail"])

    def test_client_gone(self):
        """If the client goes in the middle, what was forgotten by then is logged all the same."""
        for number in range(300):
            self.beat(f"x2c0s{number}b0n0")
        connection = Connection(
            self.factory, StringTransport(peerAddress=IPv4Address("TCP", "127.0.0.1", 4000))
        )
        body = orjson.dumps({"XNames": ["x2c0s[0-299]b0n0"]})
        with capturedLogs() as events:
            # The calls of the reactor are run one by one.
            connection._protocol.dataReceived(encode_request("POST", "/v1/forget", body))
            while self.service.tracker.healthy == 318:
                self.reactor.advance(0)
            connection.hang_up()
            self.reactor.pump([0] * 20)
        gone = 318 - self.service.tracker.healthy
        self.assertTrue(0 < gone < 300)
        (line,) = [text for text in map(formatEvent, events) if text and "Change by" in text]
        self.assertIn(f"{gone} no longer tracked: x2c0s[0-{gone - 1}]b0n0; the client", line)
        self.assertEqual(self.flushLoggedErrors(), [])
