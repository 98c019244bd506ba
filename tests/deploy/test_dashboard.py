"""The dashboard for Grafana: whole, and on metrics that hbtd has."""

import json
import re
from typing import Any
from unittest import skipIf

from twisted.trial.unittest import SynchronousTestCase

from tests.support.http_memory import APITestCase
from tests.support.processes import CHECKOUT
from tests.support.prometheus import promtool, why_not

DASHBOARD: Any = json.loads((CHECKOUT / "deploy" / "grafana" / "hbtd.json").read_text())


def panels() -> list[Any]:
    """Return all panels but the rows."""
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def queries() -> list[str]:
    """Return the queries of all panels."""
    return [target["expr"] for panel in panels() for target in panel["targets"]]


class LayoutTests(SynchronousTestCase):
    """What people see."""

    def test_panels(self):
        """Each panel has a title, a description, its own number, and room of its own."""
        taken: set[tuple[int, int]] = set()
        for panel in panels():
            self.assertTrue(panel["title"] and panel["description"].endswith("."), panel["title"])
            at = panel["gridPos"]
            self.assertLessEqual(at["x"] + at["w"], 24)
            for x in range(at["x"], at["x"] + at["w"]):
                for y in range(at["y"], at["y"] + at["h"]):
                    self.assertNotIn((x, y), taken, panel["title"])
                    taken.add((x, y))
        numbers = [panel["id"] for panel in DASHBOARD["panels"]]
        self.assertEqual(len(numbers), len(set(numbers)))

    def test_source(self):
        """Each query asks the chosen Prometheus, about the chosen system alone."""
        for panel in panels():
            for target in panel["targets"]:
                self.assertEqual(target["datasource"]["uid"], "${datasource}")
                metrics = re.findall(r"\b(?:hbtd|process)_\w+(?! ==)\b(.)", target["expr"])
                self.assertTrue(metrics)
                self.assertEqual({each for each in metrics if each != " "}, {"{"}, target["expr"])
                self.assertIn('job="$job"', target["expr"])


class MetricsTests(APITestCase):
    """The queries of the dashboard."""

    def test_exist(self):
        """Every metric of a query exists, with each of the labels that the query names."""
        text = self.request("GET", "/metrics").body.decode()
        names = set(re.findall(r"^# HELP (\w+)", text, re.MULTILINE))
        names |= set(re.findall(r"^(\w+)", text, re.MULTILINE))
        asked = set(re.findall(r"\b(?:hbtd|process)_\w+", " ".join(queries())))
        self.assertGreater(len(asked), 20)
        self.assertEqual(asked - names, set())


@skipIf(why_not() is not None, str(why_not()))
class PromtoolTests(SynchronousTestCase):
    """The queries, as Prometheus reads them."""

    def test_syntax(self):
        """Prometheus can parse each query."""
        rules = [
            {"record": f"panel:{number}", "expr": query.replace("$__rate_interval", "1m")}
            for number, query in enumerate(queries())
        ]
        file = self.mktemp()
        with open(file, "w") as written:
            json.dump({"groups": [{"name": "panels", "rules": rules}]}, written)
        status, said = promtool("check", "rules", file)
        self.assertEqual((status, f"SUCCESS: {len(rules)} rules found" in said), (0, True), said)
