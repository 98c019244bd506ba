"""The alerts: valid, each with its entry in the runbook, and each fires when it should."""

import re
import shutil
from pathlib import Path
from unittest import skipIf

from twisted.trial.unittest import SynchronousTestCase

from tests.support.http_memory import HEARTBEAT, APITestCase
from tests.support.processes import CHECKOUT
from tests.support.prometheus import promtool, why_not

RULES = CHECKOUT / "deploy" / "hbtd.rules.yml"
RUNBOOK = CHECKOUT / "docs" / "runbook.md"
UNIT_TESTS = Path(__file__).with_name("rules.test.yml")


def alerts() -> dict[str, str]:
    """Return the text of each alert by its name."""
    text = RULES.read_text()
    return dict(re.findall(r"- alert: (\w+)\n(.*?)(?=\n +- alert: |\Z)", text, re.DOTALL))


class RunbookTests(SynchronousTestCase):
    """What whoever is paged can read."""

    def test_linked(self):
        """Each alert links to the entry of its own name."""
        self.assertGreater(len(alerts()), 20)
        for name, text in alerts().items():
            links = re.findall(r"^ +runbook_url: (\S+)$", text, re.MULTILINE)
            self.assertEqual(links, [f"docs/runbook.md#{name.lower()}"], name)

    def test_entries(self):
        """The runbook has an entry for each alert and no other, each with its three parts."""
        text = RUNBOOK.read_text()
        entries = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE))
        self.assertEqual(sorted(entries), sorted(alerts()))
        for name, entry in entries.items():
            parts = re.findall(r"^\*\*([^*]+)\*\* \S", entry, re.MULTILINE)
            self.assertEqual(parts, ["What it means.", "Look at.", "Do."], name)

    def test_said(self):
        """Each alert has a severity, a summary and a description."""
        for name, text in alerts().items():
            self.assertRegex(text, r"labels: {severity: (critical|warning)}", name)
            for each in ("summary", "description"):
                self.assertEqual(len(re.findall(rf"^ +{each}: \S", text, re.MULTILINE)), 1, name)


@skipIf(why_not() is not None, str(why_not()))
class PromtoolTests(SynchronousTestCase):
    """The rules, as Prometheus reads them."""

    def test_check(self):
        """Promtool finds nothing wrong with the rules."""
        status, said = promtool("check", "rules", "--lint-fatal", str(RULES))
        self.assertEqual((status, f"SUCCESS: {len(alerts())} rules found" in said), (0, True), said)

    def test_unit_tests(self):
        """Alerts fire on the series on which they should, and on no others."""
        folder = Path(self.mktemp())
        folder.mkdir()
        shutil.copy(RULES, folder)
        shutil.copy(UNIT_TESTS, folder)
        status, said = promtool("test", "rules", UNIT_TESTS.name, folder=folder)
        self.assertEqual(status, 0, said)


@skipIf(why_not() is not None, str(why_not()))
class MetricsTests(APITestCase):
    """The metrics, as Prometheus reads them."""

    def test_check(self):
        """Promtool finds nothing wrong with hbtd's metrics."""
        self.request("POST", "/v1/heartbeat", HEARTBEAT)
        self.reactor.pump([0.1] * 20)
        text = self.request("GET", "/metrics").body.decode()
        # Those of the process are not ours to name.
        ours = re.sub(r"^(# \w+ )?(process|python)_.*\n", "", text, flags=re.MULTILINE)
        self.assertIn("hbtd_hsm_told_seconds_bucket", ours)
        status, said = promtool("check", "metrics", given=ours)
        self.assertEqual((status, said), (0, ""))
