"""The chart as such: valid, documented, of this version, and with all of hbtd's options."""

import json
import subprocess
import sys
from pathlib import Path

import yaml
from twisted.trial.unittest import SynchronousTestCase

from hbtd import __version__
from hbtd.config.params import PARAMETERS
from tests.support.helm import (
    ALL,
    CHART,
    EVERYTHING,
    ChartTestCase,
    Object,
    Refused,
    lint,
    render,
    validate,
)
from tests.support.processes import CHECKOUT

CUSTOM = ("monitoring.coreos.com/", "networking.istio.io/")
"""The APIs of operators, which are none of Kubernetes' own."""


class DocumentedTests(SynchronousTestCase):
    """What is written about the chart, and in it; needs no Helm."""

    def test_current(self) -> None:
        """The schema has hbtd's options, and the README the values, as they are now."""
        done = subprocess.run(
            [sys.executable, str(CHECKOUT / "docs" / "chart.py"), "--check"],
            capture_output=True,
            text=True,
            cwd=CHECKOUT,
            check=False,
        )
        self.assertEqual((done.returncode, done.stdout), (0, ""), done.stderr)

    def test_options(self) -> None:
        """The values can have each of hbtd's options, and no other."""
        schema = json.loads((CHART / "values.schema.json").read_text())
        options = schema["properties"]["options"]
        self.assertEqual(set(options["properties"]), {p.name for p in PARAMETERS})
        self.assertIs(options["additionalProperties"], False)

    def test_version(self) -> None:
        """The chart's version, and that of the image that it takes, are hbtd's."""
        chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
        self.assertEqual((chart["version"], chart["appVersion"]), (__version__, __version__))

    def test_not_copied(self) -> None:
        """Alerts and dashboard are those of deploy/; links lead there in a checkout."""
        for name, origin in (("hbtd.rules.yml", ""), ("hbtd.json", "grafana")):
            present = (CHECKOUT / "deploy" / origin / name).read_bytes()
            self.assertEqual((CHART / "files" / name).read_bytes(), present)


class ValidTests(ChartTestCase):
    """What Helm and Kubernetes say of the chart."""

    def test_lint(self) -> None:
        """`helm lint --strict` finds nothing, with the defaults, the original's values, and all."""
        for values in ALL.values():
            lint(values)

    def test_valid(self) -> None:
        """Each object is valid by Kubernetes' schemas, which allow no unknown field."""
        for name, values in ALL.items():
            objects = render(values)
            own = [each for each in objects if not each["apiVersion"].startswith(CUSTOM)]
            self.assertGreater(len(own), 3, name)
            self.assertEqual(validate(own, Path(self.mktemp())), "", name)

    def test_kinds(self) -> None:
        """The chart makes what its values say, and no more."""
        usual = ["Deployment", "Pod", "PodDisruptionBudget", "Service"]
        more = ["ConfigMap", "NetworkPolicy", "PrometheusRule", "ServiceMonitor", "VirtualService"]
        self.assertEqual(sorted(o["kind"] for o in render({})), sorted([*usual, "Service"]))
        kinds = sorted(o["kind"] for o in render(EVERYTHING))
        self.assertEqual(kinds, sorted([*usual, "Service", *more]))
        off = {name: {"enabled": False} for name in ("apiService", "podDisruptionBudget", "smoke")}
        self.assertEqual(sorted(o["kind"] for o in render(off)), ["Deployment", "Service"])

    def test_names(self) -> None:
        """Names are those of the release, however long, and of no other release."""
        for release in ("site", "a" * 53):
            names = [each["metadata"]["name"] for each in render(EVERYTHING, release)]
            self.assertTrue(all(n.startswith(release) and len(n) <= 63 for n in names), names)
        self.assertEqual(self.find(render({}, "hbtd"), "Deployment")["metadata"]["name"], "hbtd")

    def test_refused(self) -> None:
        """A value that can't be used is refused with a line that names it."""
        wrong: list[tuple[Object, str]] = [
            ({"options": {"warntim": 35}}, "warntim"),
            ({"options": {"warntime": True}}, "warntime"),
            ({"options": {"errtime": -1}}, "errtime"),
            ({"options": {"tls_cert": 7}}, "tls_cert"),
            ({"replicaCount": "three"}, "replicaCount"),
            ({"replica": 3}, "replica"),
            ({"service": {"type": "Ingress"}}, "service"),
            ({"probes": {"prefix": "/api"}}, "prefix"),
            ({"secrets": {"tls": "A Secret"}}, "tls"),
            ({"options": {"kv_url": "mem:"}}, "kv_url: mem:, which only one replica can use"),
            ({"options": {"port": 0}}, "options.port: 0 can't be used"),
            ({"options": {"tls": False}, "secrets": {"tls": "x"}}, "secrets.tls can't be used"),
            ({"secrets": {"clientCRL": "x"}}, "secrets.clientCRL can't be used without"),
        ]
        for values, named in wrong:
            with self.assertRaises(Refused) as raised:
                render(values)
            lines = [line for line in str(raised.exception).splitlines() if named in line]
            self.assertEqual(len(lines), 1, f"{values}: {raised.exception}")
