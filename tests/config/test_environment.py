"""The environment: what Kubernetes sets, and what is misspelt."""

from typing import ClassVar

from hypothesis import given as hypothesis_given
from hypothesis import strategies as st
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from hbtd.config.command_line import HbtdOptions
from hbtd.config.environment import warnings
from hbtd.config.params import PARAMETERS, Params
from hbtd.config.suggestions import did_you_mean

# What Kubernetes puts into pods beside a Service named hbtd.
SERVICE = {
    "HBTD_SERVICE_HOST": "10.96.12.7",
    "HBTD_SERVICE_PORT": "28500",
    "HBTD_SERVICE_PORT_HTTPS": "28500",
    "HBTD_PORT": "tcp://10.96.12.7:28500",
    "HBTD_PORT_28500_TCP": "tcp://10.96.12.7:28500",
    "HBTD_PORT_28500_TCP_PROTO": "tcp",
    "HBTD_PORT_28500_TCP_PORT": "28500",
    "HBTD_PORT_28500_TCP_ADDR": "10.96.12.7",
}


class KubernetesTests(SynchronousTestCase):
    """Variables that Kubernetes sets for Services."""

    def parse(self, environ: dict[str, str], *arguments: str) -> HbtdOptions:
        """Parse a command line in an environment."""
        options = HbtdOptions(environ)
        options.parseOptions(["--kv_url=mem:", *arguments])
        return options

    def test_service(self) -> None:
        """Beside a Service named hbtd, its variables count as unset, and nothing is said."""
        options = self.parse(SERVICE)
        self.assertEqual((options.params, options.warnings), (Params(kv_url="mem:"), []))

    def test_service_with_longer_name(self) -> None:
        """Beside a Service whose name begins with hbtd, nothing is said either."""
        others = {name.replace("HBTD_", "HBTD_KV_DB_", 1): text for name, text in SERVICE.items()}
        self.assertEqual(self.parse(others).warnings, [])

    def test_every_option(self) -> None:
        """For every option such a value counts as unset, with IPv6 and other protocols, too."""
        for value in ("tcp://10.96.12.7:28500", "udp://[fd00::7]:1", "sctp://10.96.12.7:28500"):
            environ = {p.environment: value for p in PARAMETERS if p.name != "kv_url"}
            self.assertEqual(self.parse(environ).params, Params(kv_url="mem:"))
            options = HbtdOptions({"HBTD_KV_URL": value})
            options.parseOptions([])
            self.assertEqual(options.params, Params())

    def test_command_line(self) -> None:
        """The command line and proper values count beside them."""
        self.assertEqual(self.parse(SERVICE, "--port=1").params.port, 1)
        self.assertEqual(self.parse({**SERVICE, "HBTD_PORT": "28501"}).params.port, 28501)


class OriginalImageTests(SynchronousTestCase):
    """The variables of the original hbtd's image."""

    GIVEN: ClassVar = {
        "DEBUG": "1",
        "ERRTIME": "60",
        "WARNTIME": "35",
        "SM_URL": "http://cray-smd/hsm/v1",
        "KV_URL": "mem:",
        "USE_TELEMETRY": "0",
        "TELEMETRY_HOST": "kafka:9092:topic",
    }
    MEANT = Params(
        debug=1,
        errtime=60,
        warntime=35,
        sm_url="http://cray-smd/hsm/v1",
        kv_url="mem:",
        use_telemetry=False,
        telemetry_host="kafka:9092:topic",
    )

    def parse(self, environ: dict[str, str], *arguments: str) -> Params:
        """Parse a command line in the environment of the image."""
        options = HbtdOptions({"HBTD_ORIGINAL_ENV": "yes", **environ})
        options.parseOptions(arguments)
        self.assertEqual(options.warnings, [])
        return options.params

    def test_all(self) -> None:
        """Each of them sets its option, in the image alone."""
        self.assertEqual(self.parse(self.GIVEN), self.MEANT)
        for elsewhere in ({}, {"HBTD_ORIGINAL_ENV": "no"}, {"HBTD_ORIGINAL_ENV": ""}):
            options = HbtdOptions({**self.GIVEN, **elsewhere})
            options.parseOptions([])
            self.assertEqual(options.params, Params())

    def test_precedence(self) -> None:
        """The command line precedes `HBTD_...`, and this the original's variable."""
        theirs = {**self.GIVEN, "HBTD_ERRTIME": "61", "HBTD_KV_URL": "sqlite:a"}
        params = self.parse(theirs, "--warntime=36")
        self.assertEqual((params.errtime, params.warntime, params.kv_url), (61, 36, "sqlite:a"))

    def test_empty(self) -> None:
        """An empty variable counts as unset; an empty `KV_URL` leads to the etcd of the chart."""
        empty = dict.fromkeys(self.GIVEN, "")
        etcd = {"ETCD_HOST": "etcd", "ETCD_PORT": "2379"}
        self.assertEqual(self.parse({**empty, **etcd}), Params(kv_url="http://etcd:2379"))
        self.assertEqual(
            self.parse({"HBTD_KV_URL": "", "KV_URL": "mem:"} | etcd).kv_url, "http://etcd:2379"
        )
        with self.assertRaisesRegex(UsageError, "ETCD_HOST and ETCD_PORT don't say where"):
            self.parse(empty)

    def test_refused(self) -> None:
        """A value that can't be used is refused as an option's is, and the variable is named."""
        for name in self.GIVEN:
            bad = "\udc80" if name == "KV_URL" else "x y"
            with self.assertRaisesRegex(UsageError, f"^{name}='.*' can't be used: it must be "):
                self.parse({**self.GIVEN, name: bad})
        with self.assertRaisesRegex(UsageError, "^HBTD_ORIGINAL_ENV='maybe' can't be used: it mu"):
            self.parse({"HBTD_ORIGINAL_ENV": "maybe"})

    def test_refused_with_check(self) -> None:
        """With `--check`, all of them are named that can't be used."""
        options = HbtdOptions({"HBTD_ORIGINAL_ENV": "yes", "DEBUG": "x", "ERRTIME": "y"})
        options.parseOptions(["--check"])
        self.assertEqual([each.partition("=")[0] for each in options.faults], ["DEBUG", "ERRTIME"])


class WarningTests(SynchronousTestCase):
    """Unknown variables are warned about."""

    def test_misspelt(self) -> None:
        """A variable that is like an option's has that suggested."""
        for name, said in (
            ("HBTD_WARN_TIME", " (did you mean HBTD_WARNTIME?)"),
            ("HBTD_KVURL", " (did you mean HBTD_KV_URL?)"),
            ("HBTD_warntime", " (did you mean HBTD_WARNTIME?)"),
            ("HBTD_TLS_CRT", " (did you mean HBTD_TLS_CERT?)"),
            ("HBTD_COLOUR", ""),
            ("HBTD_", ""),
        ):
            line = f"Ignoring the environment variable {name}: there is no such option{said}."
            self.assertEqual(warnings({name: "x"}), [line])

    def test_unsaid(self) -> None:
        """Nothing is said of known, empty and other programs' variables."""
        environ = {p.environment: "x" for p in PARAMETERS}
        environ |= {"HBTD_COLOUR": "", "HBTDX": "x", "hbtd_port": "x", "PATH": "/bin"}
        self.assertEqual(warnings(environ), [])

    @hypothesis_given(st.text(max_size=200))
    def test_any_name(self, name: str) -> None:
        """Whatever a name is, the suggestion is one of the known names or none."""
        known = [p.name for p in PARAMETERS]
        answers = {"", *(f" (did you mean {each}?)" for each in known)}
        self.assertIn(did_you_mean(name, known), answers)
        for each in known:
            self.assertEqual(did_you_mean(each.upper(), known), f" (did you mean {each}?)")
