"""deploy/compose: what it names exists, in hbtd and in the repository."""

import json
import re
import shlex
from typing import Any
from urllib.parse import urlsplit

import yaml
from twisted.trial.unittest import SynchronousTestCase

from hbtd.config.command_line import HbtdOptions
from hbtd.config.environment import ORIGINAL_NAMES
from hbtd.config.params import PARAMETERS
from hbtd.ctl.arguments import parse
from hbtd.simulator.options import SimulatorOptions
from tests.support.image import instructions
from tests.support.processes import CHECKOUT

FOLDER = CHECKOUT / "deploy" / "compose"
REPLICAS = ("hbtd-1", "hbtd-2", "hbtd-3")


def _dockerfile() -> dict[str, str]:
    """Return what follows each instruction of the Dockerfile; the last one of a kind counts."""
    return dict(instructions((CHECKOUT / "Dockerfile").read_text()))


class ComposeTests(SynchronousTestCase):
    """The file of Compose, against what it is about."""

    def setUp(self) -> None:
        """Read it."""
        self.services: dict[str, Any] = self.read("compose.yaml")["services"]

    def read(self, name: str) -> Any:
        """Read a file of the folder."""
        return yaml.safe_load((FOLDER / name).read_text())

    def host_and_port(self, address: str) -> None:
        """Assert that a service, or the name of all replicas, is at an address."""
        host, _, port = address.partition(":")
        service = self.services.get("hbtd-1" if host == "hbtd" else host)
        assert service is not None, address
        known = json.dumps(service)
        if host.startswith("hbtd"):
            known = _dockerfile()["EXPOSE"]
        elif host == "prometheus":
            known = ":9090"
        self.assertRegex(known, rf"\b{port}\b", address)

    def test_replicas(self) -> None:
        """The replicas know each variable; their neighbours are services, at these ports."""
        for name in REPLICAS:
            environ = self.services[name]["environment"]
            ours = {p.environment for p in PARAMETERS}
            self.assertEqual(set(environ) - ours - set(ORIGINAL_NAMES.values()), set())
            options = HbtdOptions({**environ, "HBTD_ORIGINAL_ENV": "yes"})
            options.parseOptions([])
            self.assertEqual(options.warnings, [])
            params = options.params
            self.host_and_port(urlsplit(params.kv_url).netloc)
            self.host_and_port(urlsplit(params.sm_url).netloc)
            address = params.telemetry_address
            assert address is not None
            self.host_and_port(f"{address.host}:{address.port}")
            self.assertEqual(self.services[name]["networks"]["default"]["aliases"], ["hbtd"])
            self.assertEqual(self.services[name]["ports"][0].rpartition(":")[2], str(params.port))

    def test_image(self) -> None:
        """The image is the one of the Dockerfile's comment, and is made of this checkout."""
        for name in (*REPLICAS, "hsm", "fleet"):
            service = self.services[name]
            self.assertIn(f"-t {service['image']} .", (CHECKOUT / "Dockerfile").read_text())
            self.assertEqual((FOLDER / service["build"]).resolve(), CHECKOUT)
            start = json.loads(_dockerfile()["ENTRYPOINT"])
            self.assertEqual(service.get("entrypoint", start)[:2], start[:2])

    def test_simulator(self) -> None:
        """The fake HSM and the fleet are started with options that the simulator has."""
        for name in ("hsm", "fleet"):
            service = self.services[name]
            self.assertEqual(service["entrypoint"][-2:], ["-m", "hbtd.simulator"])
            options = SimulatorOptions()
            options.parseOptions(service["command"])
            self.assertEqual(options.subCommand, name)
            if name == "fleet":
                self.host_and_port(urlsplit(options.subOptions["url"]).netloc)
                self.assertEqual(set(service["depends_on"]), set(REPLICAS))
                # Docker takes the keys that end `attach` from a terminal only.
                self.assertTrue(service["stdin_open"] and service["tty"])

    def test_prometheus(self) -> None:
        """Prometheus asks each replica, with TLS, and has the rules where its file says."""
        config = self.read("prometheus.yml")
        (job,) = config["scrape_configs"]
        targets = job["static_configs"][0]["targets"]
        self.assertEqual([each.partition(":")[0] for each in targets], list(REPLICAS))
        for target in targets:
            self.host_and_port(target)
        self.assertEqual(job["scheme"], "https")
        mounted = self.mounted("prometheus")
        self.assertEqual(mounted["/etc/prometheus/prometheus.yml"], FOLDER / "prometheus.yml")
        (rules,) = config["rule_files"]
        self.assertEqual(
            mounted[f"/etc/prometheus/{rules}"], CHECKOUT / "deploy" / "hbtd.rules.yml"
        )

    def test_grafana(self) -> None:
        """Grafana has a default source, which is Prometheus, and the dashboard in its folder."""
        mounted = self.mounted("grafana")
        self.assertEqual(
            mounted["/etc/grafana/provisioning/datasources/hbtd.yaml"],
            FOLDER / "grafana-datasources.yaml",
        )
        (source,) = self.read("grafana-datasources.yaml")["datasources"]
        self.assertTrue(source["isDefault"])
        self.host_and_port(urlsplit(source["url"]).netloc)
        self.assertEqual(
            mounted["/etc/grafana/provisioning/dashboards/hbtd.yaml"],
            FOLDER / "grafana-dashboards.yaml",
        )
        (provider,) = self.read("grafana-dashboards.yaml")["providers"]
        dashboard = f"{provider['options']['path']}/hbtd.json"
        self.assertEqual(mounted[dashboard], CHECKOUT / "deploy" / "grafana" / "hbtd.json")
        environ = self.services["grafana"]["environment"]
        self.assertEqual(environ["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"], dashboard)

    def mounted(self, name: str) -> dict[str, Any]:
        """Return the files of this repository that a service sees, by their paths there."""
        found = {}
        for volume in self.services[name]["volumes"]:
            source, target, *_ = volume.split(":")
            if source.startswith("."):
                found[target] = (FOLDER / source).resolve()
                self.assertTrue(found[target].is_file(), source)
        return found

    def test_readme(self) -> None:
        """Its commands name services that there are, and hbtctl takes those that it is given."""
        text = (FOLDER / "README.md").read_text().replace("\\\n", " ")
        blocks = "".join(re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
        commands = [shlex.split(line, comments=True) for line in blocks.splitlines()]
        asked = 0
        for words in commands:
            if words[:2] != ["docker", "compose"]:
                continue
            verb, *rest = words[2:]
            names = [each for each in rest if not each.startswith("-")]
            if verb in ("exec", "attach"):
                names = names[:1]
            self.assertLessEqual(set(names), set(self.services), words)
            if "hbtctl" in words:
                parse(words[words.index("hbtctl") + 1 :], {})
                asked += 1
        self.assertGreaterEqual(asked, 2)
        ports = {each for name in self.services for each in self.services[name].get("ports", ())}
        for url in re.findall(r"<https?://localhost:(\d+)/", text):
            self.assertTrue(any(f"127.0.0.1:{url}:" in each for each in ports), url)
