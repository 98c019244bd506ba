"""Parameters over HTTP: how they are returned and changed, and that changes take effect at once."""

from itertools import product
from queue import Queue

import orjson

from hbtd.config.value_types import TelemetryAddress
from tests.support.http_memory import HEARTBEAT, JSON, PREFIXES, APITestCase, TimedAPITestCase
from tests.support.invalid_inputs import NOT_OBJECTS

PATH = "/hmi/v1/params"

SHOWN = {
    "Debug": "0",
    "Nosm": "1",
    "Use_telemetry": "0",
    "Telemetry_host": "",
    "Warntime": "10",
    "Errtime": "30",
    "Port": "28500",
    "Kv_url": "mem:",
    "Interval": "5",
    "Sm_url": "http://localhost:27779/hsm/v1",
    "Sm_timeout": "10",
    "Sm_retries": "3",
}
"""The parameters of the original hbtd, in its order, with their values in these tests."""

CHANGEABLE = {
    "Start_beats": "3",
    "Flap_changes": "10",
    "Guard": "hold",
    "Guard_share": "60",
    "Guard_hold": "120",
}
"""Those of ours that can be changed while hbtd runs, with other values."""

OURS = {
    "Tls": "0",
    "Tls_cert": "",
    "Tls_key": "",
    "Tls_client_ca": "",
    "Tls_client_crl": "",
    "Tls_client_required": "0",
    "Sm_ca": "system",
    "Sm_sync": "300",
    "Boot_time": "0",
    "Kv_ca": "",
    "Kv_cert": "",
    "Kv_key": "",
    "Kv_compact": "auto",
    "Listen": "",
    "Address": "",
    "Fast_lane": "1",
    "Log_format": "text",
    "Clear_on_gap": "0",
    "History": "30d",
    "History_count": "auto",
    "Maintenance_max": "7d",
    "Start_beats": "1",
    "Flap_changes": "0",
    "Guard": "report",
    "Guard_share": "55",
    "Guard_hold": "auto",
    "Groups": "",
    "Operator_access": "loopback",
    "Reader_access": "any",
    "Node_access": "any",
    "Jwt_audience": "system-compute",
    "Jwt_issuer": "",
    "Jwt_trust_domain": "",
    "Jwt_require_xname": "0",
    "Jwt_ca": "system",
    "Max_components": "1000000",
    "Max_connections": "50000",
    "Max_connections_per_peer": "20000",
    "Max_event_readers": "500",
    "Max_header_bytes": "16384",
    "Max_body_bytes": "4194304",
    "Request_timeout": "20",
    "Idle_timeout": "3900",
    "Max_connection_age": "43200",
    "Sm_cert": "",
    "Sm_key": "",
    "Sm_token": "",
    "Kv_login": "",
    "Telemetry_tls": "0",
    "Telemetry_ca": "system",
    "Telemetry_cert": "",
    "Telemetry_key": "",
    "Telemetry_login": "",
    "Telemetry_sasl": "scram-sha-512",
}
"""The parameters of all other options."""


def ours(test):
    """Return the parameters of all other options in a test, with or without the fast lane."""
    return {**OURS, "Fast_lane": "1" if test.fast_lane else "0"}


SECONDS = ("Warntime", "Errtime", "Interval", "Sm_timeout")
COUNTS = ("Debug", "Sm_retries")
BIG = 2**32 - 1


def illegal(key, value):
    """Return the fault of an invalid number or switch."""
    return f"Parameter '{key.lower()}' with illegal value '{value}'; "


def unchangeable(key):
    """Return the fault of a parameter that is fixed at start."""
    return f"Parameter '{key.lower()}' can't be changed in PATCH operation; "


class GetTests(APITestCase):
    """`GET /params`."""

    def test_exact_bytes(self):
        """All parameters are strings in compact JSON, those of the original hbtd first."""
        first = orjson.dumps(SHOWN)[:-1] + b","
        for prefix in PREFIXES:
            response = self.request("GET", f"{prefix}/params")
            self.assertEqual((response.status, response.content_type), (200, JSON))
            self.assertEqual(response.body[: len(first)], first)
            self.assertEqual(response.json(), {**SHOWN, **ours(self)})
            self.assertEqual(response.body, orjson.dumps(response.json()))

    def test_strings_only(self):
        """Every value is a string."""
        self.assertEqual({type(x) for x in self.request("GET", PATH).json().values()}, {str})


class PatchTests(APITestCase):
    """`PATCH /params`."""

    def patch_params(self, body, headers=None):
        """Send a PATCH."""
        return self.request("PATCH", PATH, body, headers)

    def assert_changes(self, body, **expected):
        """Check that a PATCH is answered with all parameters, which GET then returns as well."""
        before = self.request("GET", PATH).json()
        response = self.patch_params(body)
        self.assertEqual((response.status, response.content_type), (200, JSON), response.body)
        self.assertEqual(response.json(), {**before, **expected})
        self.assertEqual(response.body, self.request("GET", PATH).body)

    def assert_refused(self, body, detail):
        """Check that a PATCH is refused with this detail, and without effect."""
        before = self.state()
        self.assert_problem(self.patch_params(body), 400, detail, PATH)
        self.assertEqual(self.state(), before)

    def test_both_prefixes(self):
        """A PATCH under either prefix changes what both return."""
        for prefix, value in zip(PREFIXES, ("15", "16"), strict=True):
            self.request("PATCH", f"{prefix}/params", {"Warntime": value})
            for other in PREFIXES:
                shown = self.request("GET", f"{other}/params").json()
                self.assertEqual(shown["Warntime"], value)

    def test_numbers(self):
        """Numbers are accepted in Go's syntax, up to 32 bits, and returned in decimal."""
        for key in (*SECONDS, *COUNTS):
            for value, shown in (
                *(("7", "7"), ("0x1E", "30"), ("0b101", "5"), ("0o17", "15"), ("017", "15")),
                *(("1_000", "1000"), (str(BIG), str(BIG)), ("0xffff_ffff", str(BIG)), ("1", "1")),
            ):
                self.assert_changes({key: value}, **{key: shown})
        for key in COUNTS:
            self.assert_changes({key: "0"}, **{key: "0"})

    def test_bad_numbers(self):
        """An invalid number is refused."""
        bad = f"abc -1 +1 1.5 1e3 0x 08 1__0 _1 1_ ten {BIG + 1} \u0663".split()
        for key, value in product((*SECONDS, *COUNTS), [*bad, " 1", "1 ", " ", "1\x00", "9" * 999]):
            self.assert_refused({key: value}, illegal(key, value))

    def test_zero_seconds(self):
        """Times of zero are refused."""
        for key, value in product(SECONDS, ("0", "00", "0x0")):
            self.assert_refused({key: value}, illegal(key, value))

    def test_switches(self):
        """Switches are accepted as eight words in any case, and returned as 0 and 1."""
        for key in ("Nosm", "Use_telemetry"):
            for value in ("1", "yes", "YES", "true", "True", "on"):
                self.assert_changes({key: value}, **{key: "1"})
            for value in ("0", "no", "No", "false", "FALSE", "off"):
                self.assert_changes({key: value}, **{key: "0"})

    def test_bad_switches(self):
        """Any other word is refused, with the wording of the switch."""
        for value in ("2", "y", "maybe", " yes", "truе"):  # noqa: RUF001  # a Cyrillic letter
            self.assert_refused({"Nosm": value}, illegal("Nosm", value))
            complaint = f"Parameter 'use_telemetry' with unknown value '{value}'; "
            self.assert_refused({"Use_telemetry": value}, complaint)

    def test_telemetry_host(self):
        """A telemetry host consists of host, port and topic."""
        for value in ("kafka:9092:heartbeats", "10.1.2.3:1:t", "k.example.com:65535:a-b_c.d"):
            self.assert_changes({"Telemetry_host": value}, Telemetry_host=value)

    def test_bad_telemetry_host(self):
        """A telemetry host with a missing or invalid part is refused."""
        for value in ("x", "a:b", "a:9092", ":9092:t", "a::t", "a:9092:", "a:b:t", "a:0:t", "::"):
            complaint = f"Parameter 'telemetry_host' with invalid format '{value}'; "
            self.assert_refused({"Telemetry_host": value}, complaint)
        for value in ("a:65536:t", "a:9092:t:u", "a:-1:t", "9092"):
            complaint = f"Parameter 'telemetry_host' with invalid format '{value}'; "
            self.assert_refused({"Telemetry_host": value}, complaint)

    def test_sm_url(self):
        """The URL of HSM may be any http or https URL."""
        for value in ("http://h", "https://h:8443/hsm/v2", "http://[::1]:80/", "http://10.0.0.1"):
            self.assert_changes({"Sm_url": value}, Sm_url=value)

    def test_bad_sm_url(self):
        """Any other URL of HSM is refused."""
        bad = "x ftp://h http:// http:///x h:80 //h http://h:0 http://h:99999 http://h:x"
        bad += " http://[::1 http://h/?q=1 http://h/#f http://u:p@h/ http://\u00e9.example"
        for value in [*bad.split(), "http://h/\n", "http://h/\x00"]:
            self.assert_refused({"Sm_url": value}, illegal("Sm_url", value))

    def test_nothing(self):
        """Empty strings and nulls change nothing, and are accepted for fixed parameters, too."""
        for value in ("", None):
            self.assert_changes(dict.fromkeys((*SHOWN, *OURS), value))
        self.assert_changes({})

    def test_several(self):
        """Several parameters change together."""
        self.assert_changes(
            {"Warntime": "15", "Errtime": "0x2d", "Debug": "", "Nosm": "no"},
            Warntime="15",
            Errtime="45",
            Nosm="0",
        )

    def test_port(self):
        """The port can't be changed, not even to its current value."""
        for value in ("28500", "28501", "abc", "0"):
            self.assert_refused({"Port": value}, unchangeable("Port"))

    def test_ours_that_change(self):
        """The guard's parameters can be changed while hbtd runs, to values that are valid."""
        self.assert_changes(CHANGEABLE, **CHANGEABLE)
        for key in CHANGEABLE:
            self.assert_refused({key: "x"}, f"Parameter '{key.lower()}' with illegal value 'x'; ")

    def test_settled_at_start(self):
        """A parameter that is fixed at start is accepted only with its current value."""
        fixed = {key: value for key, value in ours(self).items() if key not in CHANGEABLE}
        for key, value in {"Kv_url": "mem:", **fixed}.items():
            self.assert_changes({key: value})
            if key in CHANGEABLE:
                continue
            for other in (f"{value}x", "no" if value == "1" else "yes", "json", "mem"):
                self.assert_refused({key: other}, unchangeable(key))

    def test_all_complaints(self):
        """All faults are reported in the order of GET, whatever the order in the request."""
        body = {
            "Tls": "yes",
            **dict.fromkeys(reversed(SHOWN), "x"),
            "Listen": "tcp:1",
        }
        detail = (
            "Parameter 'debug' with illegal value 'x'; "
            "Parameter 'nosm' with illegal value 'x'; "
            "Parameter 'use_telemetry' with unknown value 'x'; "
            "Parameter 'telemetry_host' with invalid format 'x'; "
            "Parameter 'warntime' with illegal value 'x'; "
            "Parameter 'errtime' with illegal value 'x'; "
            "Parameter 'port' can't be changed in PATCH operation; "
            "Parameter 'kv_url' can't be changed in PATCH operation; "
            "Parameter 'interval' with illegal value 'x'; "
            "Parameter 'sm_url' with illegal value 'x'; "
            "Parameter 'sm_timeout' with illegal value 'x'; "
            "Parameter 'sm_retries' with illegal value 'x'; "
            "Parameter 'tls' can't be changed in PATCH operation; "
            "Parameter 'listen' can't be changed in PATCH operation; "
        )
        self.assert_refused(body, detail)

    def test_all_or_nothing(self):
        """If one value is refused, the valid ones have no effect either."""
        self.assert_refused(
            {"Start_beats": "0"}, "Parameter 'start_beats' with illegal value '0'; "
        )
        self.assert_refused(
            {"Start_beats": "101", "Flap_changes": "101"},
            "Parameter 'start_beats' with illegal value '101'; "
            "Parameter 'flap_changes' with illegal value '101'; ",
        )
        good = {"Debug": "1", "Warntime": "11", "Errtime": "31", "Interval": "6"}
        self.assert_refused({**good, "Sm_retries": "-1"}, illegal("Sm_retries", "-1"))
        self.assert_refused({**good, "Port": "1"}, unchangeable("Port"))
        self.assert_refused({**good, "Nosm": 1}, "Invalid data type in Nosm field. ")

    def test_wrong_types(self):
        """Only the first value that is no string is reported, in the order of GET."""
        for key, value in product((*SHOWN, *OURS), (0, 1, 1.5, True, False, [], {}, ["1"])):
            self.assert_refused({key: value}, f"Invalid data type in {key} field. ")
        body = {"Sm_retries": 1, "Errtime": 30, "Debug": "x", "Port": "1"}
        self.assert_refused(body, "Invalid data type in Errtime field. ")

    def test_not_an_object(self):
        """A body that is no JSON object is refused."""
        for body in NOT_OBJECTS:
            self.assert_refused(body, "Invalid JSON data type")

    def test_keys_in_any_case(self):
        """Keys may be in any case, exact ones are preferred, and unknown ones are ignored."""
        self.assert_changes({"WARNTIME": "12", "errTime": "32"}, Warntime="12", Errtime="32")
        self.assert_changes({"warntime": "x", "Warntime": "13", "WARNTIME": 5}, Warntime="13")
        self.assert_changes({"Warn_time": "x", "": 5, "Params": {"Debug": "1"}})
        self.assert_changes(b'{"Debug":"1","Debug":"2"}', Debug="2")

    def test_content_type_ignored(self):
        """The Content-Type of a PATCH is ignored."""
        for content_type in ("multipart/form-data; boundary=x", "application/merge-patch+json"):
            response = self.patch_params({"Debug": "1"}, {"Content-Type": content_type})
            self.assertEqual(response.status, 200)

    def test_odd_values_are_echoed(self):
        """A refused value is reported exactly as it was sent."""
        for value in ("'; ", '"}', "\x00\x1b[31m", "\r\nX: y", "💀", "{0}{x}%s", "a" * 100_000):
            self.assert_refused({"Warntime": value}, illegal("Warntime", value))


class WarningTests(APITestCase):
    """A change that may not be meant is made, and has a `Warning` header."""

    def warnings(self, **changes: str) -> str | None:
        """Make a change, and return the header's value."""
        response = self.request("PATCH", PATH, changes)
        self.assertEqual(response.status, 200)
        return response.headers.get("warning")

    def test_unknown(self):
        """An unknown name is in the warning, with the one that may be meant."""
        for name, said in (
            ("Warn_time", "There is no parameter 'Warn_time' (did you mean Warntime?)"),
            ("colour", "There is no parameter 'colour'"),
        ):
            self.assertEqual(self.warnings(**{name: "1", "Interval": "7"}), f'199 hbtd "{said}"')
            self.assertEqual(self.service.params.current.interval, 7)

    def test_times(self):
        """A combination of times that leaves no time for a warning is warned about."""
        said = "No component is warned about before it is declared dead: Warntime is 10 s, Errtime"
        for errtime, warned in ((11, False), (10, True), (5, True)):
            header = self.warnings(Errtime=str(errtime))
            expected = f'199 hbtd "{said} {errtime} s"' if warned else None
            self.assertEqual(header, expected)

    def test_nothing(self):
        """Known names in any case, and what GET has answered, are no reason for a warning."""
        self.assertIsNone(self.warnings(wARNTIME="9", Debug=""))
        shown = self.request("GET", PATH).json()
        del shown["Port"]
        self.assertIsNone(self.warnings(**shown))

    def test_several(self):
        """There is a warning for each of ten names, and one for all others, each shortened."""
        header = self.warnings(**{f"{number}{'x' * 999}": "" for number in range(15)}) or ""
        parts = header.split(", ")
        self.assertEqual(len(parts), 11)
        self.assertEqual(parts[10], '199 hbtd "There are 5 more unknown names"')
        self.assertLess(len(header), 1200)

    def test_any_text(self):
        """Whatever a name is, the header is printable ASCII, and its text a quoted string."""
        for name in ('"', "\\", "a\r\nX-Forged: 1", "é", "\u2028", "\x00", "\U0001f600", ""):
            header = self.warnings(**{name: "1"}) or ""
            self.assertRegex(header, r'\A199 hbtd "(?:[ !#-\[\]-~]|\\["\\])*"\Z')


class EffectTests(TimedAPITestCase):
    """Changes that take effect before the answer arrives."""

    def patch_params(self, **changes):
        """Change parameters."""
        self.assertEqual(self.request("PATCH", PATH, changes).status, 200)

    def test_interval(self):
        """A new interval, shorter or longer, restarts the sweep's timer."""
        self.patch_params(Interval="1000", Warntime="1")
        self.request("POST", "/v1/heartbeat", HEARTBEAT)
        self.pass_time(100)
        self.assertEqual((self.tracker.healthy, self.tracker.dead), (1, 0))
        self.patch_params(Interval="2")
        self.pass_time(1.75)
        self.assertEqual(self.tracker.healthy, 1)
        self.pass_time(0.25)
        self.assertEqual(self.tracker.dead, 1)

    def test_times(self):
        """The next sweep uses the new times."""
        self.request("POST", "/v1/heartbeat", HEARTBEAT)
        self.patch_params(Warntime="60", Errtime="90")
        self.pass_time(55)
        self.assertEqual(self.tracker.healthy, 1)
        self.patch_params(Warntime="20")
        self.pass_time(5)
        self.assertEqual(self.tracker.warned, 1)
        self.patch_params(Errtime="30")
        self.pass_time(5)
        self.assertEqual(self.tracker.dead, 1)

    def test_sm_url(self):
        """HSM's readiness is polled at the new URL at once, and no more with nosm."""
        # The reactor in memory takes any name for that of this host.
        self.patch_params(Nosm="no", Sm_url="http://one.example:1234/hsm")
        self.patch_params(Sm_url="http://other.example:4321/hsm")
        self.assertEqual([client[1] for client in self.reactor.tcpClients], [1234, 4321])
        self.patch_params(Nosm="1")
        self.reactor.pump([1.0] * 20)
        self.assertEqual(len(self.reactor.tcpClients), 2)


class TelemetryTests(APITestCase):
    """The connection to Kafka, according to the parameters."""

    def connect_kafka(self, address):
        """Note the address."""
        self.addresses.put(address)
        return super().connect_kafka(address)

    def setUp(self):
        """Start the service."""
        self.addresses: Queue[TelemetryAddress] = Queue()
        super().setUp()

    def test_connected(self):
        """After a PATCH, hbtd connects to the broker and topic that it names."""
        self.request("PATCH", PATH, {"Telemetry_host": "192.0.2.9:0x2384:beats"})
        self.assertTrue(self.addresses.empty())
        self.request("PATCH", PATH, {"Use_telemetry": "on"})
        self.assertEqual(self.addresses.get(timeout=20), ("192.0.2.9", 9092, "beats"))
        self.request("PATCH", PATH, {"Telemetry_host": "192.0.2.9:9092:others"})
        self.assertEqual(self.addresses.get(timeout=20), ("192.0.2.9", 9092, "others"))
