"""The command line and the environment: every spelling, and every refusal."""

import re
import sys
from io import StringIO

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from hbtd import __version__
from hbtd.config.command_line import CommandLine, HbtdOptions
from hbtd.config.deployed import deployed_text
from hbtd.config.parameter import Group
from hbtd.config.params import PARAMETERS, Params

MEMORY = "--kv_url=mem:"
BY_NAME = {p.name: p for p in PARAMETERS}
# For every option, texts and the values that they mean; defaults are not among them.
SAMPLES: dict[str, dict[str, object]] = {
    "debug": {"2": 2, "0x1f": 31, "0b11": 3},
    "nosm": {"yes": True, "1": True, "TRUE": True, "On": True},
    "use_telemetry": {"no": False, "0": False, "False": False, "OFF": False},
    "telemetry_host": {"kafka:9092:topic": "kafka:9092:topic"},
    "warntime": {"7": 7, "0o17": 15},
    "errtime": {"20": 20, "1_000": 1000},
    "port": {"28501": 28501, "0": 0},
    "kv_url": {
        "mem:": "mem:",
        "sqlite:/var/lib/hbtd.sqlite": "sqlite:/var/lib/hbtd.sqlite",
        "http://a:2379,https://[::1]:2379": "http://a:2379,https://[::1]:2379",
        "HTTP://A:2379,Https://b": "http://A:2379,https://b",
    },
    "interval": {"1": 1, "4294967295": 2**32 - 1},
    "sm_url": {"https://localhost:27999/hsm/smd/v1": "https://localhost:27999/hsm/smd/v1"},
    "sm_timeout": {"3": 3},
    "sm_retries": {"0": 0},
    "tls": {"no": False, "Off": False},
    "tls_cert": {"/etc/hbtd/a cert.pem": "/etc/hbtd/a cert.pem"},
    "tls_key": {"key.pem": "key.pem"},
    "tls_client_ca": {"ca.pem": "ca.pem"},
    "tls_client_crl": {"crl.pem": "crl.pem"},
    "tls_client_required": {"yes": True},
    "sm_ca": {"insecure": "insecure", "/etc/ca.pem": "/etc/ca.pem"},
    "sm_sync": {"0": 0, "0x14": 20},
    "boot_time": {"0": 0, "86400": 86400},
    "kv_ca": {"system": "system"},
    "kv_cert": {"cert.pem": "cert.pem"},
    "kv_key": {"key.pem": "key.pem"},
    "kv_compact": {"yes": "yes", "no": "no"},
    "listen": {"tcp:80:interface=::1": "tcp:80:interface=::1"},
    "address": {"10.0.0.5,[::1]": "10.0.0.5,::1"},
    "fast_lane": {"no": False},
    "log_format": {"json": "json"},
    "clear_on_gap": {"1": True, "yes": True},
    "history": {"0": "0", "90s": "90s", "36500d": "36500d"},
    "history_count": {"0": "0", "2_000": "2000", "auto": "auto"},
    "maintenance_max": {"1s": "1s", "90m": "90m", "365d": "365d"},
    "start_beats": {"1": 1, "0x64": 100},
    "flap_changes": {"0": 0, "100": 100},
    "guard": {"off": "off", "report": "report", "hold": "hold"},
    "guard_share": {"1": 1, "100": 100},
    "guard_hold": {"auto": "auto", "1": "1", "86_400": "86400"},
    "groups": {"/etc/hbtd/groups": "/etc/hbtd/groups"},
    "operator_access": {
        "any": "any",
        "token:/etc/hbtd/tokens": "token:/etc/hbtd/tokens",
        "loopback+cert:ops,root+token:a+b": "loopback+cert:ops,root+token:a+b",
    },
    "reader_access": {"operators": "operators"},
    "node_access": {
        "cert": "cert",
        "jwt:/etc/hbtd/jwks.json": "jwt:/etc/hbtd/jwks.json",
        "cert+jwt:https://spire.example/keys": "cert+jwt:https://spire.example/keys",
    },
    "jwt_audience": {"hbtd": "hbtd"},
    "jwt_issuer": {"https://spire.example/": "https://spire.example/"},
    "jwt_trust_domain": {"site.example": "site.example"},
    "jwt_require_xname": {"yes": True},
    "jwt_ca": {"insecure": "insecure", "/etc/ca.pem": "/etc/ca.pem"},
    "max_components": {"10": 10, "0x10": 16},
    "max_connections": {"1": 1, "100_000": 100_000},
    "max_connections_per_peer": {"0": 0, "10": 10},
    "max_event_readers": {"1": 1, "500": 500},
    "max_header_bytes": {"1024": 1024, "0x8000": 32768},
    "max_body_bytes": {"65536": 65536, "0x100000": 2**20},
    "request_timeout": {"5": 5},
    "idle_timeout": {"300": 300},
    "max_connection_age": {"0": 0, "2592000": 2592000},
    "sm_cert": {"cert.pem": "cert.pem"},
    "sm_key": {"key.pem": "key.pem"},
    "sm_token": {"/etc/hbtd/hsm-token": "/etc/hbtd/hsm-token"},
    "kv_login": {"/etc/hbtd/etcd-login": "/etc/hbtd/etcd-login"},
    "telemetry_tls": {"yes": True},
    "telemetry_ca": {"insecure": "insecure", "/etc/ca.pem": "/etc/ca.pem"},
    "telemetry_cert": {"cert.pem": "cert.pem"},
    "telemetry_key": {"key.pem": "key.pem"},
    "telemetry_login": {"/etc/hbtd/kafka-login": "/etc/hbtd/kafka-login"},
    "telemetry_sasl": {"plain": "plain", "scram-sha-256": "scram-sha-256"},
}
# For every option that refuses some values, such values.
BAD = {
    "debug": ["", "abc", "-1", "4294967296", "1.5"],
    "nosm": ["", "maybe", "2"],
    "use_telemetry": ["", "maybe", "2"],
    "telemetry_host": ["kafka", "kafka:9092", "kafka::topic", "a:b:c"],
    "warntime": ["", "0", "10s", "0x"],
    "errtime": ["", "0", "never"],
    "port": ["", "65536", "-1", "http"],
    "kv_url": ["sqlite", "sqlite:", "etcd", "ftp://etcd:2379", "http://", "http://a:2379,", "mem"],
    "interval": ["", "0", "0.5"],
    "sm_url": ["", "localhost", "ftp://hsm", "https://"],
    "sm_timeout": ["", "0", "x"],
    "sm_retries": ["", "x", "-1"],
    "tls": ["", "perhaps"],
    "tls_client_required": ["", "always"],
    "fast_lane": ["", "slow"],
    "log_format": ["", "xml", "JSON"],
    "kv_compact": ["", "never", "1"],
    "clear_on_gap": ["", "2"],
    "history": ["", "30", "1.5d", "-1d", "d", "1w", "36501d", "30 d", "\u0663d", "1d1h", "forever"],
    "history_count": ["", "-1", "1.5", "many", "Auto", "4294967296"],
    "maintenance_max": ["", "0", "0s", "7", "1.5h", "366d", "-1d", "7D"],
    "start_beats": ["", "0", "101", "1.5", "-1", "many"],
    "flap_changes": ["", "101", "1.5", "-1", "off"],
    "guard": ["", "on", "yes", "Hold"],
    "guard_share": ["", "0", "101", "55%", "0.55"],
    "guard_hold": ["", "0", "86401", "90s", "Auto", "forever"],
    "operator_access": [
        *("", "nobody", "token", "token:", "cert", "cert:", "cert:a,,b", "any:x", "loopback:1"),
        *("loopback+loopback", "loopback+", "+any", "token:a+token:b", "Loopback", "jwt:x"),
    ],
    "reader_access": ["", "nobody", "Any", "any+operators", "loopback"],
    "node_access": [
        *("", "nobody", "jwt", "jwt:", "cert:x", "any:", "cert+cert", "token:x"),
        *("jwt:ftp://x/y", "jwt:https://", "jwt:https://u@h/x", "jwt:https://h:0/x"),
        *("jwt:https://h/x#y", "jwt:https://h/x?key=y"),
    ],
    "jwt_audience": [""],
    "jwt_trust_domain": ["spiffe://site.example", "Site.example", "a/b", "a\n", "a" * 256],
    "jwt_require_xname": ["", "2"],
    "max_components": ["", "0", "-1", "many"],
    "max_connections": ["", "0", "-1", "many"],
    "max_connections_per_peer": ["", "-1", "many"],
    "max_event_readers": ["", "0", "-1", "many"],
    "max_header_bytes": ["", "0", "1023", "1048577", "16 KiB"],
    "max_body_bytes": ["", "0", "65535", "1073741825"],
    "request_timeout": ["", "0", "86401", "1.5"],
    "idle_timeout": ["", "0", "86401", "never"],
    "max_connection_age": ["", "-1", "2592001", "never"],
    "telemetry_tls": ["", "2"],
    "telemetry_sasl": ["", "PLAIN", "gssapi"],
}
# Options that an option needs.
PARTNERS = {
    "tls_cert": ["--tls_key=k.pem"],
    "tls_key": ["--tls_cert=c.pem"],
    "telemetry_cert": ["--telemetry_key=k.pem", "--telemetry_tls=yes"],
    "telemetry_key": ["--telemetry_cert=c.pem", "--telemetry_tls=yes"],
    "sm_cert": ["--sm_key=k.pem"],
    "sm_key": ["--sm_cert=c.pem"],
    "kv_cert": ["--kv_key=k.pem"],
    "kv_key": ["--kv_cert=c.pem"],
    "tls_client_crl": ["--tls_client_ca=ca.pem"],
    "tls_client_required": ["--tls_client_ca=ca.pem"],
    "jwt_issuer": ["--node_access=jwt:jwks.json"],
    "jwt_trust_domain": ["--node_access=jwt:jwks.json"],
    "operator_access": ["--tls_client_ca=ca.pem"],
    "node_access": ["--tls_client_ca=ca.pem"],
}


class OptionsTestCase(SynchronousTestCase):
    """Parses command lines."""

    def params(self, *arguments: str, **environ: str) -> Params:
        """Return the parameters that arguments and an environment set."""
        options = HbtdOptions(environ)
        options.parseOptions(arguments)
        return options.params

    def refusal(self, *arguments: str, **environ: str) -> str:
        """Return the message with which arguments and an environment are refused."""
        return str(self.assertRaises(UsageError, self.params, *arguments, **environ))


class SpellingTests(OptionsTestCase):
    """The spellings of options."""

    def test_beginning(self):
        """The beginning of a name does, with its value after a blank or an equals sign."""
        for arguments in (("--por", "8080"), ("--por=8080",), ("-por", "8080")):
            self.assertEqual(self.params(MEMORY, *arguments).port, 8080, arguments)
        self.assertTrue(self.params(MEMORY, "--nosm").nosm)
        self.assertIn("there is no option --portable", self.refusal("--portable", "1"))

    def test_ambiguous_beginning(self):
        """A beginning that several options share, also those without a parameter, is refused."""
        for argument in ("--p=8080", "-p=8080", "--c=yes", "--c"):
            self.assertIn("not a unique prefix", self.refusal(argument), argument)

    def test_samples_are_complete(self):
        """There is a sample for every option."""
        self.assertEqual(list(SAMPLES), [p.name for p in PARAMETERS])

    def test_defaults(self):
        """An option that is not given has its default."""
        self.assertEqual(self.params(MEMORY), Params(kv_url="mem:"))

    def test_every_spelling(self):
        """Every option can be written in four ways, and as an environment variable."""
        for name, values in SAMPLES.items():
            others = [*(() if name == "kv_url" else [MEMORY]), *PARTNERS.get(name, [])]
            for text, value in values.items():
                for written in (
                    [f"--{name}={text}"],
                    [f"--{name}", text],
                    [f"-{name}={text}"],
                    [f"-{name}", text],
                ):
                    got = getattr(self.params(*others, *written), name)
                    self.assertEqual((type(got), got), (type(value), value), written)
                got = getattr(self.params(*others, **{f"HBTD_{name.upper()}": text}), name)
                self.assertEqual(got, value, name)

    def test_documented_call(self):
        """The call that the documentation of the original hbtd shows is understood."""
        params = self.params(
            "--sm_url=https://localhost:27999/hsm/smd/v1",
            "--port=28501",
            "--use_telemetry=no",
            "--kv_url=mem:",
        )
        self.assertEqual((params.port, params.use_telemetry), (28501, False))

    def test_nosm(self):
        """`--nosm` may stand without a value; what follows is no value unless it is yes or no."""
        for dashes in ("--", "-"):
            for tail, expected in [
                ([""], True),
                (["", "--debug=2"], True),
                (["=yes"], True),
                (["=no"], False),
                (["=FALSE"], False),
                (["", "no"], False),
                (["", "Off"], False),
                (["", "1"], True),
                (["", "-debug=2"], True),
            ]:
                written = [f"{dashes}nosm{tail[0]}", *tail[1:]]
                self.assertIs(self.params(MEMORY, *written).nosm, expected, written)
        self.assertIn("stray", self.refusal(MEMORY, "--nosm", "stray"))

    def test_last_one_counts(self):
        """If an option is given twice, the last one counts."""
        self.assertEqual(self.params(MEMORY, "--debug=1", "-debug", "2").debug, 2)

    def test_value_with_equals(self):
        """A value may contain equals signs and blanks."""
        listen = "unix:/run/a b=c.sock:mode=600"
        self.assertEqual(self.params(MEMORY, f"--listen={listen}").listen, listen)
        self.assertEqual(self.params(MEMORY, "--listen", listen).listen, listen)

    def test_own_certificates(self):
        """A certificate for a neighbour takes its key, and one for Kafka takes TLS."""
        for name in ("sm", "kv", "telemetry"):
            refusal = self.refusal(MEMORY, f"--{name}_cert=c.pem", "--telemetry_tls=yes")
            self.assertIn(f"--{name}_cert and --{name}_key must be given together", refusal)
        pair = ("--telemetry_cert=c.pem", "--telemetry_key=k.pem")
        self.assertIn("--telemetry_tls=yes", self.refusal(MEMORY, *pair))
        self.params(MEMORY, *pair, "--telemetry_tls=yes")

    def test_value_with_dash(self):
        """A value may begin with a dash."""
        params = self.params(MEMORY, "--tls_cert", "-cert.pem", "--tls_key=-key.pem")
        self.assertEqual((params.tls_cert, params.tls_key), ("-cert.pem", "-key.pem"))


class EnvironmentTests(OptionsTestCase):
    """The environment sets parameters, and the command line takes precedence."""

    def test_command_line_wins(self):
        """The command line takes precedence, even over a value that can't be used."""
        for value in ("7", "nonsense"):
            params = self.params(MEMORY, "--warntime=8", HBTD_WARNTIME=value)
            self.assertEqual(params.warntime, 8)
        self.assertFalse(self.params(MEMORY, "--nosm=no", HBTD_NOSM="yes").nosm)

    def test_one_from_each(self):
        """One option may be given on the command line, another in the environment."""
        params = self.params(MEMORY, "--warntime=8", HBTD_ERRTIME="40", HBTD_WARNTIME="9")
        self.assertEqual((params.warntime, params.errtime), (8, 40))

    def test_empty(self):
        """An empty variable counts as unset."""
        environ = {p.environment: "" for p in PARAMETERS if p.name != "kv_url"}
        self.assertEqual(self.params(MEMORY, **environ), Params(kv_url="mem:"))

    def test_other_variables(self):
        """Variables in lower case, without the prefix or with unknown names are ignored."""
        params = self.params(MEMORY, hbtd_debug="1", DEBUG="1", HBTD_DEBUG_="1", HBTD_COLOUR="1")
        self.assertEqual(params, Params(kv_url="mem:"))

    def test_etcd_variables(self):
        """An empty `kv_url` is built from `ETCD_HOST` and `ETCD_PORT`."""
        self.assertIn("http://kv.local:2379", self.kv_url("--kv_url="))
        self.assertIn("http://kv.local:2379", self.kv_url("--kv_url", ""))

    def test_etcd_variables_not_needed(self):
        """A `kv_url` that is not empty is used as it is."""
        self.assertEqual(self.kv_url(MEMORY), "mem:")
        self.assertIn("//other:1", self.kv_url("--kv_url=http://other:1"))

    def test_no_etcd_variables(self):
        """An empty `kv_url` is refused unless both variables are set."""
        for environ in ({}, {"ETCD_HOST": "e"}, {"ETCD_PORT": "1"}):
            words = self.refusal("--kv_url=", **environ)
            for word in ("--kv_url", "ETCD_HOST", "ETCD_PORT", "mem:"):
                self.assertIn(word, words)

    def test_strange_etcd_variables(self):
        """Variables that are no host and port are refused, such as those that Kubernetes sets."""
        for host, port in (("e", "tcp://10.0.0.1:2379"), ("e", "0"), ("e e", "1"), ("me@e", "1")):
            words = self.refusal("--kv_url=", ETCD_HOST=host, ETCD_PORT=port)
            for word in (f"ETCD_HOST={host!r}", f"ETCD_PORT={port!r}", "--kv_url"):
                self.assertIn(word, words)

    def kv_url(self, *arguments: str) -> str:
        """Return the URL that is used if the variables are set, or the message of the refusal."""
        environ = {"ETCD_HOST": "kv.local", "ETCD_PORT": "2379"}
        try:
            return self.params(*arguments, **environ).kv_url
        except UsageError as refused:
            return str(refused)


class RefusalTests(OptionsTestCase):
    """A refusal is one line that names the option, the value, and the values allowed."""

    def test_every_bad_value(self):
        """A bad value is refused with the option, the value and the values allowed."""
        for name, values in BAD.items():
            for value in values:
                words = self.refusal(MEMORY, f"--{name}={value}")
                allowed = BY_NAME[name].value_type.allowed
                if (name, value) != ("telemetry_host", ""):
                    self.assertEqual(
                        words, f"--{name}={value!r} can't be used: it must be {allowed}"
                    )

    def test_bad_environment(self):
        """A bad value in the environment is refused with the name of the variable."""
        for name, values in BAD.items():
            variable = BY_NAME[name].environment
            others = () if name == "kv_url" else (MEMORY,)
            for value in filter(None, values):
                words = self.refusal(*others, **{variable: value})
                self.assertTrue(words.startswith(f"{variable}={value!r} can't be used: "), words)

    def test_what_is_allowed(self):
        """The values allowed are described in plain words."""
        for argument, words in [
            ("--nosm=x", "yes, no, true, false, on, off, 1 or 0"),
            ("--warntime=x", "a whole number of seconds from 1 to 4294967295"),
            ("--sm_retries=x", "an integer from 0 to 4294967295"),
            ("--port=x", "65535"),
            ("--telemetry_host=x", "host:port:topic"),
            ("--log_format=x", "text or json"),
            ("--kv_compact=x", "auto, yes or no"),
            ("--sm_url=x", "http:// or https://"),
            ("--kv_url=x", "mem:"),
        ]:
            self.assertIn(words, self.refusal(MEMORY, argument))

    def test_credentials(self):
        """Credentials in a URL are refused, and a password is not shown."""
        for argument in ("--sm_url=https://me:hunter2@hsm/v2", "--sm_url=http://me:hu/nter2@hsm"):
            words = self.refusal(MEMORY, argument)
            self.assertIn("//me:...@hsm", words)
            self.assertIn("without credentials", words)
            self.assertNotIn("hu", words.replace("http", ""))

    def test_value_as_written(self):
        """A refused value is shown as it was written, also when it begins with a dash."""
        for value in ("-1", "-15", "--15", "-0x10", "-nosm"):
            words = self.refusal(MEMORY, "--warntime", value)
            self.assertIn(f"--warntime={value!r} ", words)

    def test_unknown(self):
        """An unknown option is refused with its name."""
        for argument in ("--colour=red", "--colour", "-colour", "stray", "-", "--NOSM"):
            self.assertIn(argument.lstrip("-").partition("=")[0], self.refusal(MEMORY, argument))

    def test_misspelt(self):
        """An unknown option that is like another has that suggested."""
        for argument, meant in (
            ("--wartime=3", "--warntime"),
            ("-wartime=3", "--warntime"),
            ("--kv-url=mem:", "--kv_url"),
            ("--Port", "--port"),
            ("--tls-cert", "--tls_cert"),
            ("--nosn", "--nosm"),
            ("--versoin", "--version"),
        ):
            self.assertIn(f" (did you mean {meant}?)", self.refusal(MEMORY, argument, "x"))
        self.assertEqual(self.refusal(MEMORY, "--colour"), "there is no option --colour")

    def test_missing_value(self):
        """An option without its value at the end of the line is refused with its name."""
        for name in ("warntime", "kv_url", "use_telemetry", "tls"):
            self.assertIn(f"--{name}", self.refusal(MEMORY, f"--{name}"))
        for argument in ("--warntime", "-warntime", "--warnt"):
            self.assertEqual(
                self.refusal(MEMORY, argument),
                "--warntime needs a value: --warntime=VALUE (a whole number of seconds from 1 to"
                " 4294967295)",
            )

    def test_certificate_without_key(self):
        """A certificate needs its key, and a key its certificate."""
        for arguments in (["--tls_cert=c"], ["--tls_key=k"], ["--tls_cert=c", "--tls_key="]):
            words = self.refusal(MEMORY, *arguments)
            self.assertIn("--tls_cert", words)
            self.assertIn("--tls_key", words)

    @settings(max_examples=200)
    @given(st.sampled_from(sorted(SAMPLES)), st.text())
    def test_any_value(self, name, value):
        """Any value of any option is accepted, or refused in a single printable line."""
        try:
            self.params(MEMORY, f"--{name}={value}", *PARTNERS.get(name, []))
        except UsageError as refused:
            self.assertIn(name, str(refused))
            self.assertTrue(str(refused).isprintable(), repr(str(refused)))


class CommandLineTests(SynchronousTestCase):
    """The command at a terminal."""

    def run_with(self, *arguments: str) -> tuple[object, str, str]:
        """Parse arguments that make it exit; return exit status, output and errors."""
        out, err = StringIO(), StringIO()
        self.patch(sys, "stdout", out)
        self.patch(sys, "stderr", err)
        stopped = self.assertRaises(SystemExit, CommandLine({}).parseOptions, arguments)
        return stopped.code, out.getvalue(), err.getvalue()

    def test_refused(self):
        """A refusal prints one line on standard error and exits with 2."""
        for arguments in (
            ["--warntime=abc"],
            ["--colour"],
            ["stray"],
            ["--port"],
            ["--kv_url="],
            [MEMORY, "--tls_key=k"],
            [MEMORY, "--listen", "a", "b\nc"],
        ):
            status, out, err = self.run_with(*arguments)
            self.assertEqual((status, out), (2, ""))
            self.assertRegex(err, r"\Ahbtd: [^\n]+\n\Z")

    def test_accepted(self):
        """Arguments that can be used set the parameters."""
        options = CommandLine({"HBTD_DEBUG": "1"})
        options.parseOptions([MEMORY, "--nosm"])
        self.assertEqual(options.params, Params(debug=1, nosm=True, kv_url="mem:"))

    def test_own_arguments(self):
        """By default, the arguments of the process are parsed."""
        self.patch(sys, "argv", ["hbtd", MEMORY, "-debug=2"])
        options = CommandLine({})
        options.parseOptions()
        self.assertEqual(options.params, Params(debug=2, kv_url="mem:"))

    def test_help(self):
        """`--help` lists every option with its default, and exits with 0."""
        for argument in ("--help", "-help", "-h"):
            status, out, err = self.run_with(argument)
            self.assertIn(status, (0, None))
            self.assertEqual(err, "")
            text = " ".join(out.split())
            for p in PARAMETERS:
                shown = str(p.default) or "none"
                shown = {"True": "yes", "False": "no"}.get(shown, shown)
                described = re.search(rf"--{p.name}= .*?\(Default: (.*?)\)", text)
                assert described is not None, p.name
                self.assertEqual(described[1], shown)

    def test_help_is_grouped(self):
        """`--help` lists each option below the heading of its group, in the order of groups."""
        usage = HbtdOptions({}).getUsage()
        headings = [f"\n{group.value}:\n" for group in Group]
        starts = [usage.index(heading) for heading in headings]
        self.assertEqual(starts, sorted(starts))
        ends = [*starts[1:], usage.index("\nOther:\n")]
        for group, start, end in zip(Group, starts, ends, strict=True):
            self.assertEqual(
                re.findall(r"^  --(\w+)=", usage[start:end], re.MULTILINE),
                [p.name for p in PARAMETERS if p.group is group],
            )

    def test_help_fits(self):
        """`--help` fits into 80 columns, or into as many as `COLUMNS` says."""
        for environ, widest in (({}, 80), ({"COLUMNS": "120"}, 120), ({"COLUMNS": "wide"}, 80)):
            longest = max(map(len, HbtdOptions(environ).getUsage().splitlines()))
            self.assertLessEqual(longest, widest)
            self.assertGreater(longest, widest - 10)

    def test_help_for_people(self):
        """The texts of `--help` have no markup, and a text of their own for each option."""
        self.assertNotIn("`", HbtdOptions({}).getUsage())
        self.assertEqual(len({p.help for p in PARAMETERS}), len(PARAMETERS))

    def test_version(self):
        """`--version` prints the version and exits with 0."""
        status, out, err = self.run_with("--version")
        self.assertEqual((status, out, err), (0, f"hbtd {__version__}\n", ""))

    def test_print_unit(self):
        """`--print-unit` prints the unit, or a file of deploy/, whatever else is given."""
        for arguments, name in (
            (["--print-unit"], "hbtd.service"),
            (["--print-unit", "--nosm"], "hbtd.service"),
            (["-print-unit"], "hbtd.service"),
            (["--print-unit", "hbtd.env"], "hbtd.env"),
            (["--print-unit=hbtd.rules.yml"], "hbtd.rules.yml"),
        ):
            status, out, err = self.run_with(*arguments)
            self.assertEqual((status, out, err), (0, deployed_text(name), ""))

    def test_print_unit_unknown(self):
        """Of a file that there is not, one line says which there are, and the exit status is 2."""
        for name in ("hbtd.timer", "../hbtd.env", "/etc/passwd", ""):
            status, out, err = self.run_with(f"--print-unit={name}")
            self.assertEqual((status, out), (2, ""))
            self.assertRegex(err, r"^hbtd: --print-unit='.*hbtd\.env.*hbtd\.service.*--help\n$")


class ServingTests(OptionsTestCase):
    """What is served where."""

    TLS = ("--tls_cert=cert.pem", "--tls_key=key.pem")

    def test_tls(self):
        """TLS is served on a port, and with a certificate on an endpoint."""
        for options, tls in (
            ((), True),
            (("--tls=no",), False),
            (("--listen=tcp:80",), False),
            (("--address=127.0.0.1",), True),
            *(((f"--listen={kind}:x", *self.TLS), True) for kind in ("tcp", "unix", "systemd")),
        ):
            self.assertEqual(self.params(MEMORY, *options).serves_tls, tls, options)

    def test_addresses(self):
        """Addresses are a list, none for all."""
        self.assertEqual(self.params(MEMORY).addresses, [])
        given = self.params(MEMORY, "--address=10.0.0.5, [fe80::1]")
        self.assertEqual(given.addresses, ["10.0.0.5", "fe80::1"])
        for bad in ("localhost", "10.0.0.5,", "10.0.0", "10.0.0.5:80"):
            self.assertIn("--address", self.refusal(MEMORY, f"--address={bad}"))

    def test_excluded(self):
        """What can't be served together is refused, and the message names the options."""
        for options, named in (
            (("--tls=no", *self.TLS), ("--tls=no", "--tls_cert")),
            (("--listen=tcp:80", "--address=::1"), ("--listen", "--address")),
            (("--listen=tcp:80", "--tls_client_ca=ca.pem"), ("--tls_client_ca", "--tls_cert")),
            (
                ("--listen=haproxy:tcp:80", "--operator_access=any", *self.TLS),
                ("--listen=haproxy", "--tls_cert", "the PROXY protocol comes before TLS"),
            ),
            (("--listen=onion:80", *self.TLS), ("--tls_cert", "onion")),
        ):
            said = self.refusal(MEMORY, *options)
            for name in named:
                self.assertIn(name, said)

    def test_ssl(self):
        """Twisted's own TLS endpoints, which break clients that send ALPN, are refused."""
        for kind in ("ssl", "SSL", "s\\sl", "tls"):
            said = self.refusal(MEMORY, f"--listen={kind}:443:privateKey=a.pem")
            self.assertIn("--listen=tcp:PORT, and --tls_cert and --tls_key", said)


class AccessTests(OptionsTestCase):
    """Rules of access that can't work are refused."""

    def test_certificates(self):
        """Rules about certificates need `--tls_client_ca`, and so TLS of hbtd's own."""
        for option in ("--operator_access=loopback+cert:ops", "--node_access=cert"):
            self.params(MEMORY, option, "--tls_client_ca=ca.pem")
            for others in ((), ("--tls=no",), ("--listen=tcp:80",)):
                said = self.refusal(MEMORY, option, *others)
                self.assertIn(option.partition("=")[0], said)
                self.assertIn("--tls_client_ca", said)
            self.refusal(MEMORY, option, "--tls=no", "--tls_client_ca=ca.pem")

    def test_without_effect(self):
        """An option that would close nothing, as another one is missing, is refused."""
        for option, needed in (
            ("--tls_client_crl=crl.pem", "--tls_client_ca=ca.pem"),
            ("--tls_client_required=yes", "--tls_client_ca=ca.pem"),
            ("--jwt_issuer=https://spire.example", "--node_access=jwt:jwks.json"),
            ("--jwt_trust_domain=site.example", "--node_access=jwt:jwks.json"),
        ):
            self.params(MEMORY, option, needed)
            said = self.refusal(MEMORY, option)
            for named in (option, needed):
                self.assertIn(named.partition("=")[0], said)

    def test_tokens(self):
        """Rules about tokens need no TLS: a gateway may have terminated it."""
        for option in ("--operator_access=token:tokens", "--node_access=jwt:jwks.json"):
            for others in ((), ("--tls=no",), ("--listen=tcp:80",)):
                self.params(MEMORY, option, *others)

    def test_haproxy(self):
        """A haproxy endpoint, whose clients can claim any address, excludes `loopback`."""
        for kind in ("haproxy", "HAProxy", "\\haproxy"):
            said = self.refusal(MEMORY, f"--listen={kind}:tcp:80")
            self.assertIn("--operator_access=loopback", said)
        self.params(MEMORY, "--listen=haproxy:tcp:80", "--operator_access=any")
