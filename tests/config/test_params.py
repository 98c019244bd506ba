"""The operational parameters: how they are rendered, changed and refused."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.logger import capturedLogs, eventAsText
from twisted.trial.unittest import SynchronousTestCase

from hbtd.config.live_params import LiveParams, ParamsRefused, patched
from hbtd.config.params import PARAMETERS, Params
from hbtd.config.value_types import TelemetryAddress, parse_telemetry_host

MAX = 2**32 - 1
BY_WIRE = {p.wire: p for p in PARAMETERS}
FIXED = [p for p in PARAMETERS if p.fixed]
CHANGEABLE = [p for p in PARAMETERS if not p.fixed]
# For every changeable parameter a good value, how it is rendered, and a bad value.
SAMPLES: dict[str, tuple[str, str, str]] = {
    "Debug": ("0x2", "2", "-1"),
    "Nosm": ("YES", "1", "maybe"),
    "Use_telemetry": ("off", "0", "x"),
    "Telemetry_host": ("kafka:9092:topic", "kafka:9092:topic", "kafka:9092"),
    "Warntime": ("0b1111", "15", "abc"),
    "Errtime": ("1_000", "1000", "1.5"),
    "Interval": ("017", "15", str(MAX + 1)),
    "Sm_url": ("https://hsm:27779/hsm/v2", "https://hsm:27779/hsm/v2", "ftp://hsm"),
    "Sm_timeout": ("0o7", "7", " 7"),
    "Sm_retries": ("0", "0", "three"),
    "Start_beats": ("0x64", "100", "0"),
    "Flap_changes": ("0", "0", "101"),
    "Guard": ("hold", "hold", "on"),
    "Guard_share": ("0x3c", "60", "101"),
    "Guard_hold": ("1_20", "120", "90s"),
}
KINDS_OF_REASON = {"Use_telemetry": "unknown value", "Telemetry_host": "invalid format"}


def reason(wire: str) -> str:
    """Return the reason for which the bad value of a parameter is refused."""
    kind = KINDS_OF_REASON.get(wire, "illegal value")
    return f"Parameter '{wire.lower()}' with {kind} '{SAMPLES[wire][2]}'; "


class ParamsTestCase(SynchronousTestCase):
    """Knows why a change is refused."""

    def refusal(self, changes: Mapping[str, object], params: Params | None = None) -> str:
        """Return the reasons for which a change is refused."""
        return str(self.assertRaises(ParamsRefused, patched, params or Params(), changes))


class RenderingTests(SynchronousTestCase):
    """Parameters are rendered as `GET /params` shows them."""

    def test_defaults(self):
        """Defaults are rendered as texts, those of the original hbtd first, in its order."""
        self.assertEqual(
            list(Params().rendered().items()),
            [
                ("Debug", "0"),
                ("Nosm", "0"),
                ("Use_telemetry", "1"),
                ("Telemetry_host", ""),
                ("Warntime", "10"),
                ("Errtime", "30"),
                ("Port", "28500"),
                ("Kv_url", "https://localhost:2379"),
                ("Interval", "5"),
                ("Sm_url", "http://localhost:27779/hsm/v1"),
                ("Sm_timeout", "10"),
                ("Sm_retries", "3"),
                ("Tls", "1"),
                ("Tls_cert", ""),
                ("Tls_key", ""),
                ("Tls_client_ca", ""),
                ("Tls_client_crl", ""),
                ("Tls_client_required", "0"),
                ("Sm_ca", "system"),
                ("Sm_sync", "300"),
                ("Boot_time", "0"),
                ("Kv_ca", ""),
                ("Kv_cert", ""),
                ("Kv_key", ""),
                ("Kv_compact", "auto"),
                ("Listen", ""),
                ("Address", ""),
                ("Fast_lane", "1"),
                ("Log_format", "text"),
                ("Clear_on_gap", "0"),
                ("History", "30d"),
                ("History_count", "auto"),
                ("Maintenance_max", "7d"),
                ("Start_beats", "1"),
                ("Flap_changes", "0"),
                ("Guard", "report"),
                ("Guard_share", "55"),
                ("Guard_hold", "auto"),
                ("Groups", ""),
                ("Operator_access", "loopback"),
                ("Reader_access", "any"),
                ("Node_access", "any"),
                ("Jwt_audience", "system-compute"),
                ("Jwt_issuer", ""),
                ("Jwt_trust_domain", ""),
                ("Jwt_require_xname", "0"),
                ("Jwt_ca", "system"),
                ("Max_components", "1000000"),
                ("Max_connections", "50000"),
                ("Max_connections_per_peer", "20000"),
                ("Max_event_readers", "500"),
                ("Max_header_bytes", "16384"),
                ("Max_body_bytes", "4194304"),
                ("Request_timeout", "20"),
                ("Idle_timeout", "3900"),
                ("Max_connection_age", "43200"),
                ("Sm_cert", ""),
                ("Sm_key", ""),
                ("Sm_token", ""),
                ("Kv_login", ""),
                ("Telemetry_tls", "0"),
                ("Telemetry_ca", "system"),
                ("Telemetry_cert", ""),
                ("Telemetry_key", ""),
                ("Telemetry_login", ""),
                ("Telemetry_sasl", "scram-sha-512"),
            ],
        )

    def test_shown_again(self):
        """Every rendered value can be parsed."""
        params = replace(Params(), nosm=True, telemetry_host="k:1:t", debug=MAX, tls=False)
        for wire, value in params.rendered().items():
            parameter = BY_WIRE[wire]
            self.assertEqual(
                parameter.value_type.parse(value), getattr(params, parameter.name), wire
            )

    def test_names(self):
        """A parameter has a name in JSON and one in the environment."""
        names = [(p.name, p.wire, p.environment) for p in PARAMETERS]
        self.assertIn(("use_telemetry", "Use_telemetry", "HBTD_USE_TELEMETRY"), names)
        self.assertIn(("sm_url", "Sm_url", "HBTD_SM_URL"), names)


class PatchTests(ParamsTestCase):
    """`PATCH /params` changes parameters, or refuses with reasons."""

    def test_samples_are_complete(self):
        """There is a sample for every changeable parameter; the others are fixed."""
        self.assertEqual([p.wire for p in CHANGEABLE], list(SAMPLES))
        self.assertEqual(len(CHANGEABLE) + len(FIXED), len(PARAMETERS))

    def test_each(self):
        """A change of one parameter changes no other."""
        for wire, (value, shown, _) in SAMPLES.items():
            after = patched(Params(), {wire: value}).rendered()
            self.assertEqual(after, {**Params().rendered(), wire: shown})

    def test_each_refused(self):
        """Every changeable parameter refuses a bad value in its own words."""
        for wire, (_, _, bad) in SAMPLES.items():
            self.assertEqual(self.refusal({wire: bad}), reason(wire))

    def test_exact_words(self):
        """The reasons have the words of the original hbtd, to the letter."""
        complaints: list[tuple[Mapping[str, object], str]] = [
            ({"Warntime": "abc"}, "Parameter 'warntime' with illegal value 'abc'; "),
            ({"Use_telemetry": "x"}, "Parameter 'use_telemetry' with unknown value 'x'; "),
            ({"Telemetry_host": "x"}, "Parameter 'telemetry_host' with invalid format 'x'; "),
            ({"Port": "1"}, "Parameter 'port' can't be changed in PATCH operation; "),
            ({"Kv_url": "mem:"}, "Parameter 'kv_url' can't be changed in PATCH operation; "),
            ({"Warntime": 5}, "Invalid data type in Warntime field. "),
        ]
        for changes, words in complaints:
            self.assertEqual(self.refusal(changes), words)

    def test_all_complaints(self):
        """All reasons are given at once, in the order of the parameters."""
        for first, second in combinations(SAMPLES, 2):
            bad = {second: SAMPLES[second][2], first: SAMPLES[first][2]}
            self.assertEqual(self.refusal(bad), reason(first) + reason(second))

    def test_all_or_nothing(self):
        """If one value is bad, nothing changes."""
        for wire, (_, _, bad) in SAMPLES.items():
            changes = {name: sample[0] for name, sample in SAMPLES.items()}
            live = LiveParams(Params())
            self.assertRaises(ParamsRefused, live.patch, {**changes, wire: bad})
            self.assertEqual(live.current, Params())

    def test_any_case(self):
        """Names match in any case; the exact one wins over another."""
        for name in ("warntime", "WARNTIME", "WarnTime"):
            self.assertEqual(patched(Params(), {name: "7"}).warntime, 7)
        for changes in ({"Warntime": "1", "warntime": "2"}, {"warntime": "2", "Warntime": "1"}):
            self.assertEqual(patched(Params(), changes).warntime, 1)

    def test_unknown(self):
        """Unknown names are ignored, whatever their value."""
        values: list[object] = ["x", 1, None, [], {}]
        for value in values:
            self.assertEqual(patched(Params(), {"Colour": value, "Debug ": value}), Params())

    def test_left_alone(self):
        """An empty text or a null leaves a parameter unchanged, even a fixed one."""
        params = replace(Params(), telemetry_host="k:1:t", nosm=True)
        for empty in ("", None):
            self.assertEqual(patched(params, {p.wire: empty for p in PARAMETERS}), params)
        self.assertEqual(patched(params, {}), params)

    def test_types(self):
        """A value that is not a text is refused, and no other reason is given."""
        values: list[object] = [0, 5, 1.5, True, False, [], ["5"], {}]
        for parameter in PARAMETERS:
            for value in values:
                words = self.refusal({parameter.wire: value, "Debug ": 1, "debug": "x"})
                self.assertEqual(words, f"Invalid data type in {parameter.wire} field. ")

    def test_fixed(self):
        """A change of a fixed parameter is refused, whatever the value."""
        for parameter in FIXED:
            for value in ("yes", "no", "80", "json", "/etc/key.pem", "nonsense"):
                try:
                    present = parameter.value_type.parse(value) == parameter.default
                except ValueError:
                    present = False
                if not present:
                    self.assertEqual(
                        self.refusal({parameter.wire: value}),
                        f"Parameter '{parameter.name}' can't be changed in PATCH operation; ",
                    )

    def test_fixed_but_the_same(self):
        """A fixed parameter may be sent back unchanged, except the port."""
        params = replace(Params(), kv_url="mem:", tls_cert="c", tls_key="k", listen="tcp:80")
        for parameter in FIXED:
            same = {parameter.wire: params.rendered()[parameter.wire]}
            if parameter.name == "port":
                self.assertIn("'port' can't be changed", self.refusal(same, params))
            else:
                self.assertEqual(patched(params, same), params)

    def test_everything_sent_back(self):
        """All rendered parameters except the port can be sent back, and nothing changes."""
        shown: dict[str, object] = dict(Params().rendered())
        del shown["Port"]
        self.assertEqual(patched(Params(), shown), Params())

    def test_limits(self):
        """Integers have 32 bits; numbers of seconds may not be 0."""
        for wire in ("Debug", "Sm_retries"):
            self.assertEqual(patched(Params(), {wire: "0"}).rendered()[wire], "0")
        for wire in ("Warntime", "Errtime", "Interval", "Sm_timeout"):
            self.assertEqual(patched(Params(), {wire: "1"}).rendered()[wire], "1")
            self.refusal({wire: "0"})
        for wire in ("Debug", "Sm_retries", "Warntime", "Errtime", "Interval", "Sm_timeout"):
            self.assertEqual(patched(Params(), {wire: hex(MAX)}).rendered()[wire], str(MAX))
            for value in (str(MAX + 1), "-1", "+1", "1s", "1 "):
                self.refusal({wire: value})

    def test_switches(self):
        """Yes and no have four words each, in any case."""
        for wire in ("Nosm", "Use_telemetry"):
            for shown, words in [("1", "1 yes TRUE On"), ("0", "0 No false OFF")]:
                for word in words.split():
                    self.assertEqual(patched(Params(), {wire: word}).rendered()[wire], shown)
            for word in ("2", "y", "n", "yes ", "00", "enable"):
                self.refusal({wire: word})

    @settings(max_examples=200)
    @given(st.dictionaries(st.sampled_from(sorted(SAMPLES)), st.booleans(), min_size=1))
    def test_any_mixture(self, good):
        """Any set of changes is made, or refused with a reason for each bad value."""
        changes = {wire: SAMPLES[wire][0 if fine else 2] for wire, fine in good.items()}
        bad = [wire for wire in SAMPLES if not good.get(wire, True)]
        if bad:
            self.assertEqual(self.refusal(changes), "".join(map(reason, bad)))
        else:
            shown = {wire: SAMPLES[wire][1] for wire in good}
            after = patched(Params(), changes).rendered()
            self.assertEqual(after, {**Params().rendered(), **shown})

    @settings(max_examples=200)
    @given(st.dictionaries(st.sampled_from(sorted(BY_WIRE)), st.text()))
    def test_any_texts(self, changes):
        """Any texts are refused, or leave parameters that can be used."""
        live = LiveParams(Params())
        try:
            params = live.patch(changes)
        except ParamsRefused as refused:
            self.assertTrue(str(refused).endswith("; "))
            self.assertEqual(live.current, Params())
        else:
            for wire, value in params.rendered().items():
                BY_WIRE[wire].value_type.parse(value)


class ValueTests(SynchronousTestCase):
    """Values with parts are parsed."""

    def test_telemetry_host(self):
        """A telemetry host consists of exactly a host, a port and a topic."""
        self.assertEqual(parse_telemetry_host("k:9092:t"), TelemetryAddress("k", 9092, "t"))
        for text in ["", "k", "k:9092", "k:9092:", ":9092:t", "k::t", "k:x:t", "k:9092:t:u"]:
            self.assertRaises(ValueError, parse_telemetry_host, text)
        for port in ("0", "65536", "-1", "9092 "):
            self.assertRaises(ValueError, parse_telemetry_host, f"k:{port}:t")

    def test_telemetry_address(self):
        """There is no telemetry address if telemetry is off or no host is given."""
        host = "kafka:9092:topic"
        for use, text, expected in [
            (True, host, TelemetryAddress("kafka", 9092, "topic")),
            (False, host, None),
            (True, "", None),
            (False, "", None),
        ]:
            params = Params(use_telemetry=use, telemetry_host=text)
            self.assertEqual(params.telemetry_address, expected)

    def test_sm_url(self):
        """The base URL of HSM is http or https, has a host, and is kept as written."""
        for url in ["http://hsm", "https://hsm:27779/hsm/v2", "http://[::1]:80/x", "HTTP://Hsm/"]:
            self.assertEqual(patched(Params(), {"Sm_url": url}).sm_url, url)
        for url in [
            "hsm",
            "hsm:27779",
            "/hsm/v2",
            "http:",
            "http://",
            "http://:80",
            "http://hsm:0",
            "http://hsm:65536",
            "http://hsm:port",
            "http://[::1",
            "http://user:secret@hsm",
            "http://hsm/v2?x=1",
            "http://hsm/v2#x",
            "http://hsm/\n",
            "http://h\u00fcsm",
        ]:
            self.assertRaises(ParamsRefused, patched, Params(), {"Sm_url": url})

    def test_sm_url_with_blanks(self):
        """Blanks around a URL or in its host are refused."""
        for url in (" http://hsm", "http://hsm ", "http://h sm"):
            self.assertRaises(ParamsRefused, patched, Params(), {"Sm_url": url})


class LiveParamsTests(SynchronousTestCase):
    """Listeners are told of changes."""

    def setUp(self):
        self.live = LiveParams(Params())
        self.told: list[tuple[str, Params, Params]] = []

    def listen(self, name: str) -> None:
        """Add a listener that records its calls under a name."""
        self.live.on_change(lambda old, new: self.told.append((name, old, new)))

    def test_listeners(self):
        """Every listener is called once with the old and the new parameters, in order."""
        self.listen("a")
        self.listen("b")
        new = self.live.patch({"Warntime": "7", "Errtime": "20"})
        self.assertEqual(new, replace(Params(), warntime=7, errtime=20))
        self.assertEqual(self.told, [("a", Params(), new), ("b", Params(), new)])

    def test_listener_fails(self):
        """A change that a listener fails to make is undone everywhere, and can be made again."""
        fails = [ZeroDivisionError, None]

        def listener(old: Params, new: Params) -> None:
            if new.warntime == 7 and (error := fails.pop(0)) is not None:
                raise error

        self.listen("a")
        self.live.on_change(listener)
        self.listen("b")
        with self.assertRaises(ZeroDivisionError):
            self.live.patch({"Warntime": "7"})
        self.assertEqual(self.live.current, Params())
        new = replace(Params(), warntime=7)
        self.assertEqual(self.told, [("a", Params(), new), ("a", new, Params())])
        self.told.clear()
        self.assertEqual(self.live.patch({"Warntime": "7"}), new)
        self.assertEqual(self.told, [("a", Params(), new), ("b", Params(), new)])

    def test_undoing_fails(self):
        """A listener that can't go back is logged; the others go back."""

        def fail(old: Params, new: Params) -> None:
            raise ZeroDivisionError

        self.listen("a")
        self.live.on_change(fail)
        with self.assertRaises(ZeroDivisionError):
            self.live.adopt({"Warntime": "7"})
        self.assertEqual([new.warntime for _, _, new in self.told], [7, 10])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.live.current, Params())

    def test_already_changed(self):
        """The change is in force when listeners are called."""
        seen: list[int] = []
        self.live.on_change(lambda old, new: seen.append(self.live.current.warntime))
        self.live.patch({"Warntime": "7"})
        self.assertEqual(seen, [7])

    def test_no_change(self):
        """Listeners are not called if nothing changes, or if the change is refused."""
        self.listen("a")
        self.live.patch({"Warntime": "0xa", "Interval": ""})
        self.assertRaises(ParamsRefused, self.live.patch, {"Warntime": "7", "Port": "1"})
        self.assertEqual(self.told, [])

    def test_one_after_the_other(self):
        """Changes accumulate."""
        self.listen("a")
        first = self.live.patch({"Warntime": "7"})
        second = self.live.patch({"Errtime": "20"})
        self.assertEqual(second, replace(Params(), warntime=7, errtime=20))
        self.assertEqual(self.told[1], ("a", first, second))

    def test_adopted(self):
        """What another replica has changed is one line; what is the same already is none."""
        for values, lines in (
            ({"Warntime": "10"}, []),
            (
                {"Warntime": "7", "Debug": "1", "Port": "1"},
                [
                    "Parameters changed through another replica:"
                    " Debug is '1', was '0'; Warntime is '7', was '10'."
                ],
            ),
        ):
            with capturedLogs() as events:
                self.live.adopt(values)
            self.assertEqual(
                [
                    eventAsText(event, includeTimestamp=False, includeSystem=False)
                    for event in events
                ],
                lines,
            )
        with capturedLogs() as events:
            self.live.patch({"Warntime": "8"})  # the caller logs that
        self.assertEqual(events, [])
