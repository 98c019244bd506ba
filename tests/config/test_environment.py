"""The environment: what Kubernetes sets, and what is misspelt."""

from hypothesis import given as hypothesis_given
from hypothesis import strategies as st
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
