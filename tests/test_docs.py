"""The documents say what the code does."""

import re

from twisted.trial.unittest import SynchronousTestCase

from hbtd.config.command_line import HbtdOptions
from hbtd.config.params import PARAMETERS
from tests.support.http_memory import APITestCase
from tests.support.processes import CHECKOUT


class OptionsTests(SynchronousTestCase):
    """Every option is described wherever people look for it."""

    def test_readme(self) -> None:
        """README's table has every option, and no other."""
        text = (CHECKOUT / "README.md").read_text()
        rows = re.findall(r"^\| (`--[^|]*) \|", text, re.MULTILINE)
        named = re.findall(r"`--(\w+)`", " ".join(rows))
        self.assertEqual(sorted(named), sorted([*_names(), "help", "version"]))

    def test_readme_defaults(self) -> None:
        """README's defaults are those of the code."""
        text = (CHECKOUT / "README.md").read_text()
        for row in re.findall(r"^\| (`--[^|]*) \| ([^|]*) \|", text, re.MULTILINE):
            for name in re.findall(r"`--(\w+)`", row[0]):
                if name in ("help", "version"):
                    continue
                (parameter,) = (p for p in PARAMETERS if p.name == name)
                stated = row[1].strip("`").replace("none", "")
                self.assertEqual(parameter.kind.parse(stated or ""), parameter.default, name)

    def test_manual(self) -> None:
        """The manual page has every option, and no other."""
        text = (CHECKOUT / "docs" / "hbtd.8").read_text()
        named = re.findall(r"^\.BI? --(\w+)", text, re.MULTILINE)
        self.assertEqual(set(named), {*_names(), "help", "version"})

    def test_manual_texts(self) -> None:
        """The manual page describes each as `--help` does."""
        text = (CHECKOUT / "docs" / "hbtd.8").read_text()
        for parameter in PARAMETERS:
            self.assertIn(f"--{parameter.name} = value\n{parameter.help}\n", text)

    def test_protocol(self) -> None:
        """docs/protocol.md names every option."""
        text = (CHECKOUT / "docs" / "protocol.md").read_text()
        for name in _names():
            self.assertRegex(text, rf"\b{name}\b|\b{name.capitalize()}\b|\b{name.upper()}\b")

    def test_help(self) -> None:
        """`--help` has every option."""
        usage = HbtdOptions({}).getUsage()
        for name in _names():
            self.assertIn(f"--{name}=", usage)


class LinesTests(SynchronousTestCase):
    """The documents can be read, and their changes seen, as they are."""

    def test_lengths(self) -> None:
        """Outside tables and code no line is longer than 110 characters."""
        for path in (CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").glob("*.md"))):
            text = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
            lines = [line for line in text.splitlines() if not line.startswith("|")]
            self.assertEqual([line for line in lines if len(line) > 110], [], path.name)


class MetricsTests(APITestCase):
    """The metrics are described."""

    def exposed(self) -> set[str]:
        """Give the names of hbtd's metrics."""
        text = self.request("GET", "/metrics").body.decode()
        return set(re.findall(r"^(hbtd_\w+)", text, re.MULTILINE))

    def test_alerts(self) -> None:
        """The alerts are on metrics that there are, those of a store on etcd included."""
        text = (CHECKOUT / "deploy" / "hbtd.rules.yml").read_text()
        named = set(re.findall(r"\bhbtd_\w+", text))
        self.assertGreater(len(named), 8)
        self.assertEqual(named - self.exposed(), {"hbtd_store_requests"})

    def test_protocol(self) -> None:
        """docs/protocol.md has every metric of hbtd's, and no other."""
        names = self.exposed()
        text = (CHECKOUT / "docs" / "protocol.md").read_text()
        section = text.partition("\n### Metrics\n")[2].partition("\n## ")[0]
        self.assertEqual(set(re.findall(r"^\| `(hbtd_\w+)", section, re.MULTILINE)), names)


def _names() -> list[str]:
    return [parameter.name for parameter in PARAMETERS]
