"""Queries over HTTP: which components are heartbeating."""

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
    encode_request,
    parse_responses,
)
from tests.support.invalid_inputs import NOT_NAMES, NOT_OBJECTS

MANY = "/hmi/v1/hbstates"
ONE = "/hmi/v1/hbstate"


class ManyTests(APITestCase):
    """`POST /hbstates`."""

    def setUp(self):
        """Send a heartbeat of one component."""
        super().setUp()
        self.request("POST", "/v1/heartbeat", HEARTBEAT)

    def ask(self, names):
        """Query names; return the answer as pairs."""
        response = self.request("POST", MANY, {"XNames": names})
        self.assertEqual((response.status, response.content_type), (200, JSON))
        answer = response.json()
        self.assertEqual(list(answer), ["HBStates"])
        for state in answer["HBStates"]:
            self.assertEqual(list(state), ["XName", "Heartbeating"])
        return [(state["XName"], state["Heartbeating"]) for state in answer["HBStates"]]

    def test_in_turns(self):
        """A query of many names does not keep others waiting, and is answered like a short one."""
        names = [XNAME, *(f"x{number}" for number in range(9999))]
        asker, other = self.connect(), self.connect()
        asker._protocol.dataReceived(encode_request("POST", MANY, {"XNames": names}))
        self.assertEqual(asker.received(), b"")
        other._protocol.dataReceived(encode_request("GET", "/v1/liveness"))
        self.assertEqual(parse_responses(other.received())[0].status, 204)
        asker.send(b"")
        (answer,) = parse_responses(asker.received())
        expected = [{"XName": name, "Heartbeating": name == XNAME} for name in names]
        self.assertEqual(answer.body, orjson.dumps({"HBStates": expected}))

    def test_gone_meanwhile(self):
        """A client that hangs up before the answer leaves no error."""
        asker = self.connect()
        query = encode_request("POST", MANY, {"XNames": [XNAME] * 10_000})
        asker._protocol.dataReceived(query)
        asker.hang_up()
        self.reactor.advance(0)
        self.assertEqual(self.flushLoggedErrors(), [])
        self.assertEqual(self.factory.site.room.taken, 0)

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
        """There is a state for each name, in the order of the query, repeated ones included."""
        other = "x1000c0s0b0n1"
        self.assertEqual(
            self.ask([other, XNAME, other, XNAME, XNAME]),
            [(other, False), (XNAME, True), (other, False), (XNAME, True), (XNAME, True)],
        )

    def test_names_as_sent(self):
        """Names are returned exactly as they were sent, valid or not."""
        spellings = [f" {XNAME}\n", XNAME.upper(), "x1000c0s0b0n0000", "x01000c0s0b0n0"]
        self.assertEqual(self.ask(spellings), [(name, True) for name in spellings])
        names = [*NOT_NAMES, "", " ", '"\\/\b\f\n\r\t', "\x00\x1f\x7f", "\u2028", "a" * 100_000]
        self.assertEqual(self.ask(names), [(name, False) for name in names])

    def test_nothing_asked(self):
        """An empty list, a missing one and null have an empty answer."""
        bodies: tuple[object, ...] = ({"XNames": []}, {"XNames": None}, {}, {"Other": [1]})
        for body in (*bodies, {"xnames": []}, {"XNames": [], "xnames": [1]}):
            response = self.request("POST", MANY, body)
            self.assertEqual((response.status, response.body), (200, b'{"HBStates":[]}'))

    def test_unusable(self):
        """A body that is no JSON object, or has other types in it, is refused."""
        values: tuple[object, ...] = (1, 1.5, True, False, "", {}, {"0": "x1"})
        bodies = [{"XNames": value} for value in ("x1", [[]], [None], *values)]
        bodies += [{"XNames": [XNAME, value]} for value in (None, [XNAME], *values) if value != ""]
        for body in (*NOT_OBJECTS, *bodies):
            response = self.request("POST", MANY, body)
            self.assert_problem(response, 400, "Error unmarshalling inbound request", MANY)

    def test_keys_in_any_case(self):
        """The key may be in any case, the exact one is preferred, and unknown ones are ignored."""
        for key in ("xnames", "XNAMES", "Xnames"):
            response = self.request("POST", MANY, {key: [XNAME], "Other": 1})
            self.assertEqual(len(response.json()["HBStates"]), 1)
        body = {"xnames": 5, "XNames": [XNAME], "XNAMES": None}
        self.assertEqual(len(self.request("POST", MANY, body).json()["HBStates"]), 1)

    def test_content_type_ignored(self):
        """The Content-Type of a query is ignored."""
        for content_type in ("multipart/form-data", "application/x-www-form-urlencoded", "x"):
            headers = {"Content-Type": content_type}
            self.assertEqual(self.request("POST", MANY, {"XNames": []}, headers).status, 200)

    def test_whole_machine(self):
        """One query may have all names of a large machine."""
        names = [
            f"x{c}c{m}s{s}b0n{n}" for c, m, s, n in product(range(50), range(8), range(8), range(4))
        ]
        names[7777] = XNAME
        self.assertEqual([name for name, beating in self.ask(names) if beating], [XNAME])

    def test_asking_changes_nothing(self):
        """Queries change nothing."""
        before = self.state()
        self.ask([XNAME, "x1000c0s0b0n1"])
        self.request("GET", f"{ONE}/x1000c0s0b0n1")
        self.assertEqual(self.state(), before)


class OneTests(APITestCase):
    """`GET /hbstate/{xname}`."""

    def setUp(self):
        """Send a heartbeat of one component."""
        super().setUp()
        self.request("POST", "/v1/heartbeat", HEARTBEAT)

    def test_exact_bytes(self):
        """The answer has the name in normal form, under both prefixes."""
        for prefix, name in product(PREFIXES, (XNAME, "X1000C0S0B0N000", f"%20{XNAME}%0a")):
            response = self.request("GET", f"{prefix}/hbstate/{name}")
            self.assertEqual(response.body, b'{"XName":"x1000c0s0b0n0","Heartbeating":true}')
            self.assertEqual((response.status, response.content_type), (200, JSON))

    def test_unknown(self):
        """A name that is not tracked or not valid is answered with false, not with 404."""
        for name in ("x1000c0s0b0n1", *NOT_NAMES, "a+b", "%", "\x00", "?", "#"):
            response = self.request("GET", f"{ONE}/{quote(name, safe='')}")
            self.assertEqual(response.status, 200)
            self.assertEqual(response.json()["Heartbeating"], False)

    def test_normal_form(self):
        """Names that are no xnames are returned in normal form, too."""
        for name, shown in (("%20NoBody007%20", "nobody7"), ("000", "0"), ("%C3%89", "é")):
            response = self.request("GET", f"/v1/hbstate/{name}")
            self.assertEqual(response.json(), {"XName": shown, "Heartbeating": False})

    def test_query_ignored(self):
        """The query part of the URL is ignored."""
        response = self.request("GET", f"/v1/hbstate/{XNAME}?x=%ff&y")
        self.assertEqual(response.json(), {"XName": XNAME, "Heartbeating": True})

    def test_not_text(self):
        """A name that is not UTF-8 is refused."""
        for name in ("%ff", "%c3", "%ed%a0%80", "x%fe"):
            response = self.request("GET", f"{ONE}/{name}")
            self.assertEqual(response.status, 400)
            self.assertEqual(response.json()["detail"], "Method and path must be UTF-8")


class HeartbeatingTests(TimedAPITestCase):
    """From when to when a component is heartbeating."""

    def states(self):
        """Query with both routes; return the state, which must be the same."""
        one = self.request("GET", f"{ONE}/{XNAME}").json()["Heartbeating"]
        many = self.request("POST", MANY, {"XNames": [XNAME]}).json()["HBStates"]
        self.assertEqual(many, [{"XName": XNAME, "Heartbeating": one}])
        return one

    def test_until_errtime(self):
        """A component is heartbeating until it has been silent for Errtime, warned or not."""
        self.assertFalse(self.states())
        self.request("POST", "/v1/heartbeat", HEARTBEAT)
        self.assertTrue(self.states())
        self.pass_time(29.75)
        self.assertEqual(self.tracker.warned, 1)
        self.assertTrue(self.states())
        self.pass_time(0.25)
        self.assertFalse(self.states())

    def test_before_the_sweep(self):
        """It stops at Errtime, not at the next sweep."""
        self.request("PATCH", "/v1/params", {"Interval": "1000", "Errtime": "20"})
        self.request("POST", "/v1/heartbeat", HEARTBEAT)
        self.pass_time(19.75)
        self.assertTrue(self.states())
        self.pass_time(0.25)
        self.assertFalse(self.states())
        self.assertEqual(self.tracker.healthy, 1)

    def test_errtime_changes(self):
        """A change of Errtime takes effect at once."""
        self.request("POST", "/v1/heartbeat", HEARTBEAT)
        self.pass_time(8)
        for errtime, beating in (("8", False), ("9", True), ("1", False), ("30", True)):
            self.request("PATCH", "/v1/params", {"Errtime": errtime})
            self.assertEqual(self.states(), beating)

    def test_back_from_the_dead(self):
        """A dead component is heartbeating again after its next heartbeat."""
        self.request("POST", "/v1/heartbeat", HEARTBEAT)
        self.pass_time(60)
        self.assertEqual(self.tracker.dead, 1)
        self.assertFalse(self.states())
        body = orjson.dumps({"Status": "up", "Timestamp": "now"})
        self.request("POST", f"/v1/heartbeat/{XNAME.upper()}", body)
        self.assertTrue(self.states())

    def test_goodbye(self):
        """A deleted component is not heartbeating."""
        self.request("POST", "/v1/heartbeat", HEARTBEAT)
        self.request("DELETE", f"/v1/heartbeat/{XNAME}")
        self.assertFalse(self.states())
