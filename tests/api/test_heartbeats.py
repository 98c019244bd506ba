"""Heartbeats over HTTP: which are taken, which are refused and why, and components that leave."""

from itertools import product
from urllib.parse import quote

import orjson

from hbtd.tracker.transitions import Transition
from tests.support.http_memory import HEARTBEAT, PREFIXES, XNAME, APITestCase, TimedAPITestCase
from tests.support.invalid_inputs import NOT_NAMES, NOT_OBJECTS, ODD_VALUES

FIELDS = ("Component", "Hostname", "NID", "Status", "Timestamp")
NAMED = ("Status", "Timestamp")
INSTANCE = "/hmi/v1/heartbeat"

_ABSENT = object()


class PostTests(APITestCase):
    """`POST /heartbeat`."""

    def post(self, body, headers=None):
        """Send a heartbeat."""
        return self.request("POST", INSTANCE, body, headers)

    def assert_refused(self, body, detail):
        """Check that a heartbeat is refused with this detail, and without effect."""
        before = self.state()
        self.assert_problem(self.post(body), 400, detail, INSTANCE)
        self.assertEqual(self.state(), before)

    def test_taken(self):
        """A heartbeat is answered with an empty 200, under both prefixes."""
        for prefix in PREFIXES:
            response = self.request("POST", f"{prefix}/heartbeat", HEARTBEAT)
            self.assertEqual((response.status, response.body), (200, b""))
            self.assertEqual(set(response.headers), {"server", "date", "content-length"})
            self.assertEqual(response.headers["content-length"], "0")
        self.assertEqual((self.service.tracker.beats, self.service.tracker.healthy), (2, 1))

    def test_exact_bytes(self):
        """The answer to a heartbeat has four lines."""
        connection = self.connect()
        connection.send(b"POST /v1/heartbeat HTTP/1.1\r\nHost: h\r\nContent-Length: 126\r\n\r\n")
        connection.send(orjson.dumps(HEARTBEAT))
        self.assertRegex(
            connection.received(),
            rb"\AHTTP/1\.1 200 OK\r\nServer: hbtd\r\nDate: [^\r\n]+ GMT\r\n"
            rb"Content-Length: 0\r\n\r\n\Z",
        )

    def test_not_an_object(self):
        """A body that is no JSON object is refused."""
        for body in NOT_OBJECTS:
            self.assert_refused(body, "Invalid JSON data type")

    def test_wrong_types(self):
        """The refusal of a field that is not a string names the field."""
        for field, value in product(FIELDS, (0, 83, 1.5, True, False, [], ["x"], {}, {"a": "b"})):
            self.assert_refused({**HEARTBEAT, field: value}, f"Invalid data type in {field} field")

    def test_missing(self):
        """A field that is absent, null or empty is missing."""
        for field in FIELDS:
            rest = {name: value for name, value in HEARTBEAT.items() if name != field}
            for body in (rest, {**HEARTBEAT, field: None}, {**HEARTBEAT, field: ""}):
                self.assert_refused(body, f"Missing {field} field")

    def test_order_of_checks(self):
        """Wrong types are reported first, then missing fields, then the component, then the NID."""
        faults = (5, None, "", _ABSENT)
        values = {
            name: (HEARTBEAT[name], *faults, *(["nid"] if name in ("Component", "NID") else []))
            for name in FIELDS
        }
        before = self.state()
        for chosen in product(*values.values()):
            heartbeat = dict(zip(FIELDS, chosen, strict=True))
            detail = _first_fault(heartbeat)
            if detail is None:
                continue
            body = {name: value for name, value in heartbeat.items() if value is not _ABSENT}
            self.assert_problem(self.post(body), 400, detail, INSTANCE)
        self.assertEqual(self.state(), before)

    def test_invalid_component(self):
        """A component that is no xname is refused."""
        for name in NOT_NAMES:
            self.assert_refused({**HEARTBEAT, "Component": name}, "Invalid Component Name")

    def test_nids(self):
        """A NID may be any integer of 64 bits in Go's syntax."""
        good = "83 0x53 0X5f 0b11 0B11 0o7 0O17 017 1_000 0x_5_3 0_7 -5 +5 0 00 -0"
        good += f" {2**63 - 1} -{2**63} 0x7fff_ffff_ffff_ffff -0b1"
        for nid in good.split():
            self.assertEqual(self.post({**HEARTBEAT, "NID": nid}).status, 200, nid)

    def test_invalid_nids(self):
        """A NID that is no such integer is refused."""
        bad = "abc 0x 0b 0o 0b2 0o8 08 1__0 _1 1_ 0_ 0x_ 1.0 1e3 --5 +-5 - nid83 1,0 \u0663 \u00b2"
        bad += f" {2**63} -{2**63 + 1}"
        for nid in [*bad.split(), " ", " 1", "1 ", "1\n", "1\x00", "9" * 5000]:
            self.assert_refused({**HEARTBEAT, "NID": nid}, "Invalid NID")

    def test_keys_in_any_case(self):
        """The case of keys does not matter."""
        for change in (str.lower, str.upper, str.swapcase):
            body = {change(name): value for name, value in HEARTBEAT.items()}
            self.assertEqual(self.post(body).status, 200, body)
        body = {**HEARTBEAT, "TimeStamp": HEARTBEAT["Timestamp"]}
        del body["Timestamp"]
        self.assertEqual(self.post(body).status, 200)
        self.assert_refused({**body, "TimeStamp": 5}, "Invalid data type in Timestamp field")

    def test_exact_key_wins(self):
        """A key in its exact spelling is preferred to others, at any position."""
        for body in (
            {"component": "nobody", **HEARTBEAT, "COMPONENT": 5},
            {**HEARTBEAT, "nid": "x", "status": "", "hostname": None},
        ):
            self.assertEqual(self.post(body).status, 200)

    def test_last_other_key_wins(self):
        """Of several keys in other cases, the last one is used."""
        rest = {name: value for name, value in HEARTBEAT.items() if name != "NID"}
        self.assertEqual(self.post({**rest, "nid": "x", "Nid": "7"}).status, 200)
        self.assert_refused({**rest, "Nid": "7", "nid": "x"}, "Invalid NID")

    def test_same_key_twice(self):
        """Of a key that comes twice, the last one is used."""
        head = orjson.dumps(HEARTBEAT)[:-1]
        self.assertEqual(self.post(head + b',"NID":"7"}').status, 200)
        self.assert_refused(head + b',"NID":"x"}', "Invalid NID")

    def test_unknown_keys(self):
        """Unknown keys are ignored, whatever their values are."""
        values: tuple[object, ...] = (None, 1, "x", [[[]]], {"Component": 5})
        for value in values:
            body = {"": value, "X": value, "component_": value, "__class__": value, **HEARTBEAT}
            self.assertEqual(self.post(body).status, 200)

    def test_odd_values_of_unknown_keys(self):
        """What is in unknown keys, nested ones too, spoils no heartbeat, nor does an odd key."""
        body = orjson.dumps(HEARTBEAT)
        for beats, value in enumerate(ODD_VALUES, 1):
            odd = body[:-1] + b',"x":' + value + b"}"
            self.assertEqual(self.post(odd).status, 200, value[:50])
            self.assertEqual(self.service.tracker.beats, beats)
        self.assertEqual(self.post(body[:-1] + b',"\xff\\ud800":[1e999]}').status, 200)

    def test_odd_texts(self):
        """Broken UTF-8 and lone surrogates are replaced as by Go, byte by byte."""
        texts = {
            b"a\xffb": "a\ufffdb",
            b"\xe2\x82": "\ufffd\ufffd",
            b"\xe2\x82\xac\xe2\x82": "€\ufffd\ufffd",
            b"\xed\xa0\x80": "\ufffd" * 3,
            b"\xf4\x90\x80\x80": "\ufffd" * 4,
            b"\\ud800": "\ufffd",
            b"\\ud800x\\uDFFF": "\ufffdx\ufffd",
            b"\\ud800\\ud83d\\ude00\\ude00": "\ufffd😀\ufffd",
            b"\\\\ud800\xff": "\\ud800\ufffd",
            b"\\\\\\ud800": "\\\ufffd",
            b"1e999,[{\xff": "1e999,[{\ufffd",
        }
        for text, read in texts.items():
            body = orjson.dumps({**HEARTBEAT, "Status": "?", "Timestamp": "!"})
            body = body.replace(b"?", text).replace(b"!", text)
            self.assertEqual(self.post(body).status, 200, text)
            record = self.service.tracker.record(XNAME, 0.0)
            assert record is not None
            self.assertEqual((record.status, record.timestamp), (read, read), text)

    def test_odd_values_of_fields(self):
        """A field of another type is refused as such, however odd its value is."""
        for value in (b"1e999", b"9" * 400, b"[" * 2000 + b"]" * 2000, b'{"\xff":1}'):
            body = orjson.dumps({**HEARTBEAT, "Status": None}).replace(b"null", value)
            self.assert_refused(body, "Invalid data type in Status field")

    def test_too_deep(self):
        """Of levels, there may be ten thousand, as in Go."""
        body = orjson.dumps(HEARTBEAT)[:-1] + b',"x":'
        self.assertEqual(self.post(body + b"[" * 9999 + b"]" * 9999 + b"}").status, 200)
        deeper = body + b"[" * 10_000 + b"]" * 10_000 + b"}"
        self.assert_refused(deeper, "Invalid JSON data type")

    def test_content_type_ignored(self):
        """The Content-Type of a heartbeat does not matter."""
        for content_type in (
            "application/json; charset=utf-16",
            "application/x-www-form-urlencoded",
            "multipart/form-data",
            "multipart/form-data; boundary=x",
            "multipart/form-data; boundary=",
            "text/plain",
            ";;;",
            "",
        ):
            response = self.post(HEARTBEAT, {"Content-Type": content_type})
            self.assertEqual((response.status, response.body), (200, b""), content_type)

    def test_free_text(self):
        """Status, Timestamp and Hostname may be any text."""
        for text in (" ", "é", "💀", "\x00", "\r\n", "a" * 10_000, "{}", "%s{x}"):
            body = {**HEARTBEAT, "Status": text, "Timestamp": text, "Hostname": text}
            self.assertEqual(self.post(body).status, 200)
        self.assertEqual(self.service.tracker.healthy, 1)

    def test_spellings_are_one_component(self):
        """All spellings of a name are one component."""
        for name in ("x0c0s0b0n1", "X0C0S0B0N1", "x0000c00s00b00n01", " x0c0s0b0n1\t\n"):
            self.assertEqual(self.post({**HEARTBEAT, "Component": name}).status, 200, name)
        self.assertEqual((self.service.tracker.beats, self.service.tracker.healthy), (4, 1))
        self.assertIn("x0c0s0b0n1", self.service.tracker)


def _first_fault(heartbeat):
    """Return the fault that must be reported for a heartbeat, `None` if it is valid."""
    for name, value in heartbeat.items():
        if value == 5:
            return f"Invalid data type in {name} field"
    for name, value in heartbeat.items():
        if value in (None, "", _ABSENT):
            return f"Missing {name} field"
    if heartbeat["Component"] == "nid":
        return "Invalid Component Name"
    return "Invalid NID" if heartbeat["NID"] == "nid" else None


class NamedPostTests(APITestCase):
    """`POST /heartbeat/{xname}`."""

    body = {name: HEARTBEAT[name] for name in NAMED}

    def post(self, body, name=XNAME):
        """Send a heartbeat."""
        return self.request("POST", f"{INSTANCE}/{quote(name, safe='')}", body)

    def test_taken(self):
        """A heartbeat with two fields is answered with an empty 200, under both prefixes."""
        for prefix in PREFIXES:
            response = self.request("POST", f"{prefix}/heartbeat/{XNAME}", self.body)
            self.assertEqual((response.status, response.body), (200, b""))
            self.assertEqual(response.headers["content-length"], "0")
            self.assertIsNone(response.content_type)
        self.assertEqual((self.service.tracker.beats, self.service.tracker.healthy), (2, 1))

    def test_other_fields_ignored(self):
        """The path names the component; all other fields are ignored."""
        for rest in (HEARTBEAT, {"Component": "x9"}, {"Component": 5, "NID": None, "Hostname": ""}):
            self.assertEqual(self.post({**rest, **self.body}).status, 200)
        self.assertEqual(self.service.tracker.healthy, 1)
        self.assertIn(XNAME, self.service.tracker)

    def test_not_an_object(self):
        """A body that is no JSON object is refused before the name is checked."""
        before = self.state()
        for body, name in product(NOT_OBJECTS, (XNAME, "nobody")):
            self.assert_problem(self.post(body, name), 400, "Invalid JSON data type", INSTANCE)
        self.assertEqual(self.state(), before)

    def test_order_of_checks(self):
        """Wrong types are reported first, then missing fields, then the name in the path."""
        values = ("x", 5, None, "", _ABSENT)
        before = self.state()
        for status, timestamp, name in product(values, values, (XNAME, "nobody")):
            heartbeat = {"Status": status, "Timestamp": timestamp}
            checked = {**heartbeat, "NID": "1", "Component": name.replace("nobody", "nid")}
            detail = _first_fault(checked)
            if detail is None:
                continue
            body = {key: value for key, value in heartbeat.items() if value is not _ABSENT}
            self.assert_problem(self.post(body, name), 400, detail, INSTANCE)
        self.assertEqual(self.state(), before)

    def test_invalid_names(self):
        """A path without a valid name is refused."""
        before = self.state()
        for name in NOT_NAMES:
            self.assert_problem(self.post(self.body, name), 400, "Invalid Component Name", INSTANCE)
        self.assertEqual(self.state(), before)

    def test_spellings_are_one_component(self):
        """All spellings of a name in paths and bodies are one component."""
        for name in ("x0c0s0b0n1", "X0c0s0b0N1", "x00c0s0b0n01", " x0c0s0b0n1 "):
            self.assertEqual(self.post(self.body, name).status, 200, name)
        body = {**HEARTBEAT, "Component": "X0C0S0B0N1"}
        self.assertEqual(self.request("POST", INSTANCE, body).status, 200)
        self.assertEqual((self.service.tracker.beats, self.service.tracker.healthy), (5, 1))

    def test_encoded_path(self):
        """A name in the path may be percent-encoded."""
        path = "".join(f"%{ord(letter):02x}" for letter in XNAME)
        self.assertEqual(self.request("POST", f"{INSTANCE}/{path}", self.body).status, 200)
        self.assertIn(XNAME, self.service.tracker)


class WebPageTests(APITestCase):
    """Heartbeats that a browser sends for a web page."""

    def test_refused(self):
        """A heartbeat that a web page has sent, or another site, is refused under every route."""
        before = self.state()
        for path in (INSTANCE, f"/v1/heartbeat/{XNAME}"):
            for headers in (
                {"Origin": "https://evil.example"},
                {"oRIGIN": "null"},
                {"Origin": ""},
                {"Sec-Fetch-Site": "cross-site"},
                {"sec-fetch-site": " Cross-Site "},
                {"Sec-Fetch-Site": "none\r\nSec-Fetch-Site: cross-site"},
            ):
                response = self.request("POST", path, HEARTBEAT, headers)
                self.assert_problem(
                    response, 403, "Heartbeats from web pages are not taken", INSTANCE
                )
        self.assertEqual(self.state(), before)

    def test_taken(self):
        """Other values of the browsers' header are no reason to refuse a heartbeat."""
        for value in ("none", "same-origin", "cross-site-not"):
            response = self.request("POST", INSTANCE, HEARTBEAT, {"Sec-Fetch-Site": value})
            self.assertEqual(response.status, 200)


class DeleteTests(APITestCase):
    """`DELETE /heartbeat/{xname}`."""

    def test_forgotten(self):
        """DELETE forgets a component, under both prefixes and by any spelling."""
        for prefix, name in product(PREFIXES, (XNAME, XNAME.upper(), "x1000c00s0b0n00")):
            self.request("POST", INSTANCE, HEARTBEAT)
            self.assertIn(XNAME, self.service.tracker)
            response = self.request("DELETE", f"{prefix}/heartbeat/{name}")
            self.assertEqual((response.status, response.body), (204, b""))
            self.assertEqual(set(response.headers), {"server", "date", "hbtd-found"})
            self.assertEqual(response.headers["hbtd-found"], "true")
            self.assertNotIn(XNAME, self.service.tracker)
            self.reactor.advance(30)

    def test_untracked(self):
        """A component that is not tracked may be deleted, also twice."""
        for _ in range(2):
            response = self.request("DELETE", f"/v1/heartbeat/{XNAME}")
            self.assertEqual((response.status, response.headers["hbtd-found"]), (204, "false"))

    def test_others_stay(self):
        """Other components stay tracked."""
        for name in (XNAME, "x1000c0s0b0n1"):
            self.request("POST", INSTANCE, {**HEARTBEAT, "Component": name})
        self.request("DELETE", f"/v1/heartbeat/{XNAME}")
        self.assertIn("x1000c0s0b0n1", self.service.tracker)

    def test_invalid_names(self):
        """A path without a valid name is refused."""
        for name in NOT_NAMES:
            response = self.request("DELETE", f"/v1/heartbeat/{quote(name, safe='')}")
            self.assert_problem(response, 400, "Invalid Component Name", INSTANCE)

    def test_body_ignored(self):
        """A body is ignored."""
        for body in (b"{", HEARTBEAT):
            self.assertEqual(self.request("DELETE", f"/v1/heartbeat/{XNAME}", body).status, 204)


class LifeTests(TimedAPITestCase):
    """The effects of heartbeats and of DELETE as time passes."""

    def test_silence_after_goodbye(self):
        """A deleted component is neither warned about nor declared dead, and starts again."""
        self.request("POST", INSTANCE, HEARTBEAT)
        self.request("POST", INSTANCE, {**HEARTBEAT, "Component": "x1000c0s0b0n1"})
        self.request("DELETE", f"{INSTANCE}/{XNAME}")
        self.pass_time(60)
        judged = self.monitor.judged
        self.assertEqual((judged[Transition.WARNED], judged[Transition.DIED]), (1, 1))
        self.request("POST", INSTANCE, HEARTBEAT)
        self.assertEqual(judged[Transition.STARTED], 3)

    def test_goodbye_again(self):
        """A component is forgotten once in Errtime, as it is now, and is tracked until then."""
        path = f"{INSTANCE}/{XNAME}"
        self.request("POST", INSTANCE, HEARTBEAT)
        self.assertEqual(self.request("DELETE", path).status, 204)
        self.assertEqual(self.request("DELETE", path).status, 204)
        for _ in range(3):
            self.request("POST", INSTANCE, HEARTBEAT)
            response = self.request("DELETE", path)
            detail = "A component is forgotten once in Errtime seconds only"
            self.assert_problem(response, 429, detail, INSTANCE)
            self.assertEqual(response.headers["retry-after"], "30")
        self.assertEqual(self.monitor.judged[Transition.STARTED], 2)
        self.pass_time(4.5)
        self.assertEqual(self.request("DELETE", path).headers["retry-after"], "26")
        self.request("PATCH", "/v1/params", {"Errtime": "5"})
        self.assertEqual(self.request("DELETE", path).headers["retry-after"], "1")
        self.pass_time(0.5)
        self.assertEqual(self.request("DELETE", path).status, 204)
        self.request("POST", INSTANCE, HEARTBEAT)
        self.assertEqual(self.request("DELETE", path).headers["retry-after"], "5")

    def test_goodbyes_of_others(self):
        """A component is forgotten although others were just now."""
        for number in range(3):
            name = f"x0c0s0b0n{number}"
            self.request("POST", INSTANCE, {**HEARTBEAT, "Component": name})
            self.assertEqual(self.request("DELETE", f"{INSTANCE}/{name}").status, 204)

    def test_refused_heartbeats_are_silence(self):
        """A refused heartbeat does not count as one."""
        self.request("POST", INSTANCE, HEARTBEAT)
        for _ in range(40):
            self.pass_time(1)
            self.request("POST", INSTANCE, {**HEARTBEAT, "NID": "x"})
        self.assertEqual(self.monitor.judged[Transition.DIED], 1)
