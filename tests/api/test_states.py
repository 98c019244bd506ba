"""Queries over HTTP: who is heartbeating."""

from itertools import product
from urllib.parse import quote

import orjson

from tests.support.http_memory import (
    HEARTBEAT,
    JSON,
    PREFIXES,
    XNAME,
    APITestCase,
    TimedAPITestCase,
)
from tests.support.invalid_inputs import NOT_NAMES, NOT_OBJECTS

MANY = "/hmi/v1/hbstates"
ONE = "/hmi/v1/hbstate"


class ManyTests(APITestCase):
    """`POST /hbstates`."""

    def setUp(self):
        """Have one component heartbeat."""
        super().setUp()
        self.request("POST", "/v1/heartbeat", HEARTBEAT)

    def ask(self, names):
        """Ask about names; gives the answer as pairs."""
        response = self.request("POST", MANY, {"XNames": names})
        self.assertEqual((response.status, response.content_type), (200, JSON))
        answer = response.json()
        self.assertEqual(list(answer), ["HBStates"])
        for state in answer["HBStates"]:
            self.assertEqual(list(state), ["XName", "Heartbeating"])
        return [(state["XName"], state["Heartbeating"]) for state in answer["HBStates"]]

    def test_exact_bytes(self):
        """The answer is compact JSON with its keys in order, under both prefixes."""
        for prefix in PREFIXES:
            response = self.request(
                "POST", f"{prefix}/hbstates", {"XNames": [XNAME, "X1000C0S0B0N00", "nobody"]}
            )
            self.assertEqual(
                response.body,
                b'{"HBStates":[{"XName":"x1000c0s0b0n0","Heartbeating":true},'
                b'{"XName":"X1000C0S0B0N00","Heartbeating":true},'
                b'{"XName":"nobody","Heartbeating":false}]}',
            )
            self.assertEqual((response.status, response.content_type), (200, JSON))
            self.assertEqual(
                set(response.headers), {"server", "date", "content-type", "content-length"}
            )

    def test_order_and_duplicates(self):
        """There is an answer to each name, in the order asked, repeated ones included."""
        other = "x1000c0s0b0n1"
        self.assertEqual(
            self.ask([other, XNAME, other, XNAME, XNAME]),
            [(other, False), (XNAME, True), (other, False), (XNAME, True), (XNAME, True)],
        )

    def test_names_as_sent(self):
        """Names come back exactly as they were sent, whatever they are."""
        spellings = [f" {XNAME}\n", XNAME.upper(), "x1000c0s0b0n0000", "x01000c0s0b0n0"]
        self.assertEqual(self.ask(spellings), [(name, True) for name in spellings])
        names = [*NOT_NAMES, "", " ", '"\\/\b\f\n\r\t', "\x00\x1f\x7f", "\u2028", "a" * 100_000]
        self.assertEqual(self.ask(names), [(name, False) for name in names])

    def test_nothing_asked(self):
        """An empty list, none at all or null gets an empty answer."""
        bodies: tuple[object, ...] = ({"XNames": []}, {"XNames": None}, {}, {"Other": [1]})
        for body in (*bodies, {"xnames": []}, {"XNames": [], "xnames": [1]}):
            response = self.request("POST", MANY, body)
            self.assertEqual((response.status, response.body), (200, b'{"HBStates":[]}'))

    def test_unusable(self):
        """A body that is no JSON object, or holds other types, is refused."""
        values: tuple[object, ...] = (1, 1.5, True, False, "", {}, {"0": "x1"})
        bodies = [{"XNames": value} for value in ("x1", [[]], [None], *values)]
        bodies += [{"XNames": [XNAME, value]} for value in (None, [XNAME], *values) if value != ""]
        for body in (*NOT_OBJECTS, *bodies):
            response = self.request("POST", MANY, body)
            self.assert_problem(response, 400, "Error unmarshalling inbound request", MANY)

    def test_keys_in_any_case(self):
        """The key's case does not matter, an exact one wins, unknown ones are ignored."""
        for key in ("xnames", "XNAMES", "Xnames"):
            response = self.request("POST", MANY, {key: [XNAME], "Other": 1})
            self.assertEqual(len(response.json()["HBStates"]), 1)
        body = {"xnames": 5, "XNames": [XNAME], "XNAMES": None}
        self.assertEqual(len(self.request("POST", MANY, body).json()["HBStates"]), 1)

    def test_content_type_ignored(self):
        """The Content-Type of a query does not matter."""
        for content_type in ("multipart/form-data", "application/x-www-form-urlencoded", "x"):
            headers = {"Content-Type": content_type}
            self.assertEqual(self.request("POST", MANY, {"XNames": []}, headers).status, 200)

    def test_whole_machine(self):
        """A query may be about a whole machine at once."""
        names = [
            f"x{c}c{m}s{s}b0n{n}" for c, m, s, n in product(range(50), range(8), range(8), range(4))
        ]
        names[7777] = XNAME
        self.assertEqual([name for name, beating in self.ask(names) if beating], [XNAME])

    def test_asking_changes_nothing(self):
        """Questions leave no trace."""
        before = self.state()
        self.ask([XNAME, "x1000c0s0b0n1"])
        self.request("GET", f"{ONE}/x1000c0s0b0n1")
        self.assertEqual(self.state(), before)


class OneTests(APITestCase):
    """`GET /hbstate/{xname}`."""

    def setUp(self):
        """Have one component heartbeat."""
        super().setUp()
        self.request("POST", "/v1/heartbeat", HEARTBEAT)

    def test_exact_bytes(self):
        """The answer has the name in normal form, under both prefixes."""
        for prefix, name in product(PREFIXES, (XNAME, "X1000C0S0B0N000", f"%20{XNAME}%0a")):
            response = self.request("GET", f"{prefix}/hbstate/{name}")
            self.assertEqual(response.body, b'{"XName":"x1000c0s0b0n0","Heartbeating":true}')
            self.assertEqual((response.status, response.content_type), (200, JSON))

    def test_unknown(self):
        """A name that is not tracked, or is none, is false and not 404."""
        for name in ("x1000c0s0b0n1", *NOT_NAMES, "a+b", "%", "\x00", "?", "#"):
            response = self.request("GET", f"{ONE}/{quote(name, safe='')}")
            self.assertEqual(response.status, 200)
            self.assertEqual(response.json()["Heartbeating"], False)

    def test_normal_form(self):
        """Names that are no xnames are brought into normal form all the same."""
        for name, shown in (("%20NoBody007%20", "nobody7"), ("000", "0"), ("%C3%89", "é")):
            response = self.request("GET", f"/v1/hbstate/{name}")
            self.assertEqual(response.json(), {"XName": shown, "Heartbeating": False})

    def test_query_ignored(self):
        """What follows a question mark is no part of the name."""
        response = self.request("GET", f"/v1/hbstate/{XNAME}?x=%ff&y")
        self.assertEqual(response.json(), {"XName": XNAME, "Heartbeating": True})

    def test_not_text(self):
        """A name that is not UTF-8 is refused."""
        for name in ("%ff", "%c3", "%ed%a0%80", "x%fe"):
            response = self.request("GET", f"{ONE}/{name}")
            self.assertEqual(response.status, 400)
            self.assertEqual(response.json()["detail"], "Method and path must be UTF-8")


class HeartbeatingTests(TimedAPITestCase):
    """When a component is heartbeating, and when no longer."""

    def states(self):
        """Ask in both ways; gives the one answer."""
        one = self.request("GET", f"{ONE}/{XNAME}").json()["Heartbeating"]
        many = self.request("POST", MANY, {"XNames": [XNAME]}).json()["HBStates"]
        self.assertEqual(many, [{"XName": XNAME, "Heartbeating": one}])
        return one

    def test_until_errtime(self):
        """A component is heartbeating until its silence has lasted for Errtime, warned or not."""
        self.assertFalse(self.states())
        self.request("POST", "/v1/heartbeat", HEARTBEAT)
        self.assertTrue(self.states())
        self.pass_time(29.75)
        self.assertEqual(self.tracker.warned, 1)
        self.assertTrue(self.states())
        self.pass_time(0.25)
        self.assertFalse(self.states())

    def test_before_the_sweep(self):
        """It ends at Errtime, not at the sweep that notices."""
        self.request("PATCH", "/v1/params", {"Interval": "1000", "Errtime": "20"})
        self.request("POST", "/v1/heartbeat", HEARTBEAT)
        self.pass_time(19.75)
        self.assertTrue(self.states())
        self.pass_time(0.25)
        self.assertFalse(self.states())
        self.assertEqual(self.tracker.healthy, 1)

    def test_errtime_changes(self):
        """Another Errtime counts at once."""
        self.request("POST", "/v1/heartbeat", HEARTBEAT)
        self.pass_time(8)
        for errtime, beating in (("8", False), ("9", True), ("1", False), ("30", True)):
            self.request("PATCH", "/v1/params", {"Errtime": errtime})
            self.assertEqual(self.states(), beating)

    def test_back_from_the_dead(self):
        """A component that died is heartbeating again with its next heartbeat."""
        self.request("POST", "/v1/heartbeat", HEARTBEAT)
        self.pass_time(60)
        self.assertEqual(self.tracker.dead, 1)
        self.assertFalse(self.states())
        body = orjson.dumps({"Status": "up", "Timestamp": "now"})
        self.request("POST", f"/v1/heartbeat/{XNAME.upper()}", body)
        self.assertTrue(self.states())

    def test_goodbye(self):
        """A component that said goodbye is not heartbeating."""
        self.request("POST", "/v1/heartbeat", HEARTBEAT)
        self.request("DELETE", f"/v1/heartbeat/{XNAME}")
        self.assertFalse(self.states())
