"""The documents say what the code does."""

import json
import re
import runpy
import shlex
from collections import Counter
from itertools import chain, pairwise
from pathlib import Path
from urllib.parse import urlsplit

from twisted.trial.unittest import SynchronousTestCase

from hbtd.api.routes import Role
from hbtd.config.command_line import HbtdOptions
from hbtd.config.option_docs import updated
from hbtd.config.params import PARAMETERS
from hbtd.ctl.arguments import parse
from hbtd.smoke.arguments import parse as parse_smoke
from hbtd.store.sqlite_file import VERSION
from tests.support.http_memory import HEARTBEAT, APITestCase
from tests.support.processes import CHECKOUT

OTHERS = ("help", "version", "check", "health", "print-unit")
"""The options that are no parameters."""


class OptionsTests(SynchronousTestCase):
    """Every option is described wherever people look for it."""

    def test_current(self) -> None:
        """The generated parts of docs/options.md and the manual page match the definitions."""
        for path in (CHECKOUT / "docs" / "options.md", CHECKOUT / "docs" / "hbtd.8"):
            if path.read_text() != updated(path):
                self.fail(f"docs/{path.name} is not current: run `make docs`")

    def test_table(self) -> None:
        """docs/options.md has a row for every option, and for no other."""
        rows = re.findall(r"^\| (`--[^|]*) \|", self.text("options.md"), re.MULTILINE)
        named = re.findall(r"`--([\w-]+)[` ]", " ".join(rows))
        self.assertEqual(sorted(named), sorted([*_names(), *OTHERS]))

    def test_table_cells(self) -> None:
        """docs/options.md has the environment variables and the defaults of the code."""
        row = re.compile(r"^\| `--(\w+)` \| `(\w+)` \| ([^|]*) \| [^|]+ \|$", re.MULTILINE)
        found = row.findall(self.text("options.md"))
        self.assertEqual(sorted(name for name, _, _ in found), sorted(_names()))
        for name, environment, default in found:
            (parameter,) = (p for p in PARAMETERS if p.name == name)
            self.assertEqual(environment, parameter.environment)
            stated = default.strip("`").replace("none", "")
            self.assertEqual(parameter.value_type.parse(stated), parameter.default, name)

    def test_changeable(self) -> None:
        """docs/options.md names the parameters that can be changed while hbtd runs."""
        section = self.text("options.md").partition("## Changing parameters while hbtd runs")[2]
        named = set(re.findall(r"`(\w+)`", section.partition("<!--")[0]))
        self.assertEqual(named, {p.name for p in PARAMETERS if not p.fixed})

    def test_manual(self) -> None:
        """The manual page has every option, and no other."""
        section = self.text("hbtd.8").partition("\n.SH OPTIONS\n")[2].partition("\n.SH ")[0]
        named = re.findall(r"^\.B[IR]? --([\w-]+)", section, re.MULTILINE)
        self.assertEqual(sorted(named), sorted([*_names(), *OTHERS]))

    def test_manual_texts(self) -> None:
        """The manual page describes each option as `--help` does."""
        text = " ".join(re.sub(r"\\f[BR]", "", self.text("hbtd.8")).split())
        for parameter in PARAMETERS:
            described = parameter.help.replace("`", "")
            self.assertIn(f"--{parameter.name} = value {described}", text)

    def test_manual_items(self) -> None:
        """Each option of the manual page is an item of its own, and not part of the one before."""
        lines = (
            self.text("hbtd.8").partition("\n.SH OPTIONS\n")[2].partition("\n.SH ")[0].splitlines()
        )
        for before, line in pairwise(lines):
            if re.match(r"\.B[IR]? --\w", line) and "name" not in line:
                self.assertEqual(before, ".TP", line)

    def test_protocol(self) -> None:
        """docs/protocol.md names every option."""
        text = self.text("protocol.md")
        for name in _names():
            self.assertRegex(text, rf"\b{name}\b|\b{name.capitalize()}\b|\b{name.upper()}\b")

    def text(self, name: str) -> str:
        """Return the text of a document."""
        return (CHECKOUT / "docs" / name).read_text()


class RoutesTests(APITestCase):
    """The routes are described."""

    def test_protocol(self) -> None:
        """docs/protocol.md has every path of the API with its methods, and no other."""
        text = (CHECKOUT / "docs" / "protocol.md").read_text()
        section = text.partition("\n#### Addresses\n")[2].partition("\n#### ")[0]
        described: dict[str, set[str]] = {}
        for paths, methods in re.findall(r"^\| (`/[^|]*) \| ([^|]*) \|", section, re.MULTILINE):
            for path in re.findall(r"`([^`]*)`", paths):
                described[path] = set(methods.split(", "))
        served: dict[str, set[str]] = {}
        for route in self.service.routes.api:
            path = route.path.replace("<", "{").replace(">", "}")
            served.setdefault(path, set()).add(route.method)
        self.assertEqual(described, served)

    def test_roles(self) -> None:
        """The table in docs/security.md says of every route who may use it."""
        text = (CHECKOUT / "docs" / "security.md").read_text()
        section = text.partition("\n## Two roles\n")[2].partition("\n### ")[0]
        described, method = {}, ""
        for requests, who in re.findall(r"^\| (`[A-Z][^|]*) \| ([^|]*) \|$", section, re.MULTILINE):
            for each in re.findall(r"`([^`]*)`", requests):
                named, _, path = each.rpartition(" ")
                method = named or method  # that of the path before
                described[method, path] = who
        words = {
            Role.NODE: "the node; everybody, with `--node_access=any`",
            Role.NODE_OR_OPERATOR: "the node, with credentials; operators",
            Role.OPERATOR: "operators",
            Role.READER: "everybody; operators, with `--reader_access=operators`",
            Role.ANYONE: "everybody",
        }
        served = {
            (route.method, route.path.replace("<", "{").replace(">", "}")): words[route.role]
            for route in self.service.routes.api
        }
        self.assertEqual(described, served)

    def test_readers(self) -> None:
        """docs/protocol.md names all that `--reader_access=operators` closes, and nothing else."""
        text = " ".join((CHECKOUT / "docs" / "protocol.md").read_text().split())
        (named,) = re.findall(r"with `--reader_access=operators`, ([^.]*) are for operators", text)
        closed = {
            route.path.replace("<", "{").replace(">", "}")
            for route in self.service.routes.api
            if route.role is Role.READER
        }
        self.assertEqual(set(re.findall(r"`([^`]*)`", named)), closed)

    def test_params(self) -> None:
        """The example of `GET /params` in docs/protocol.md has every parameter."""
        text = (CHECKOUT / "docs" / "protocol.md").read_text()
        section = text.partition("\n### GET /params\n")[2]
        (example,) = re.findall(r"^```json\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)[:1]
        answer = self.request("GET", "/v1/params").json()
        self.assertEqual(json.loads(example).keys(), answer.keys())


class LinesTests(SynchronousTestCase):
    """The sources of documents are readable, and so are their diffs."""

    def test_lengths(self) -> None:
        """Outside tables and code no line is longer than 110 characters."""
        for path in _documents():
            lines = _without_code(path.read_text()).splitlines()
            lines = [line for line in lines if not line.startswith("|")]
            self.assertEqual([line for line in lines if len(line) > 110], [], path.name)


class MetricsTests(APITestCase):
    """Every metric is described."""

    def exposed(self) -> set[str]:
        """Return the names of hbtd's metrics."""
        self.request("POST", "/v1/heartbeat", HEARTBEAT)  # there are metrics by cabinet
        self.request("PUT", "/v1/thresholds", [{"Match": "Node"}])
        text = self.request("GET", "/metrics").body.decode()
        names = set(re.findall(r"^(hbtd_\w+)", text, re.MULTILINE))
        for name in re.findall(r"^# TYPE (\w+) histogram", text, re.MULTILINE):
            names -= {f"{name}{part}" for part in ("_bucket", "_count", "_sum")}
            names.add(name)
        return names

    def test_alerts(self) -> None:
        """The alerts are on existing metrics; those of etcd and certificates are elsewhere."""
        text = (CHECKOUT / "deploy" / "hbtd.rules.yml").read_text()
        named = set(re.findall(r"\bhbtd_\w+?(?=_bucket\b|\b)", text))
        self.assertGreater(len(named), 8)
        elsewhere = {
            *("hbtd_store_requests", "hbtd_store_size_bytes", "hbtd_store_quota_bytes"),
            "hbtd_certificate_expiry_timestamp_seconds",
            "hbtd_revocation_list_expiry_timestamp_seconds",
        }
        self.assertEqual(named - self.exposed(), elsewhere)

    def test_what_has_an_alert(self) -> None:
        """There is an alert for every metric that shows that something is wrong."""
        text = (CHECKOUT / "deploy" / "hbtd.rules.yml").read_text()
        conditions = set(
            re.findall(r"\bhbtd_\w+", "".join(re.findall(r"expr:(.*?)labels:", text, re.S)))
        )
        expected = {
            *("leading", "store_usable", "store_size_bytes", "store_requests", "hsm_ready"),
            *("hsm_pending", "hsm_set_aside", "kafka_connected", "kafka_dropped_total"),
            "hsm_table_differences",
            *("kafka_refused_total", "refused_total", "deaf_seconds_total", "overloaded"),
            *("log_dropped_total", "certificate_expiry_timestamp_seconds", "silent_groups"),
            *("hsm_told_seconds_bucket", "reactor_lag_seconds_bucket", "hsm_table_absent"),
            "flapping",
            *("self_check_failures_total", "revocation_list_expiry_timestamp_seconds"),
        }
        self.assertEqual({f"hbtd_{each}" for each in expected} - conditions, set())

    def test_protocol(self) -> None:
        """docs/protocol.md has every metric of hbtd, and no other."""
        names = self.exposed()
        text = (CHECKOUT / "docs" / "protocol.md").read_text()
        section = text.partition("\n### Metrics\n")[2].partition("\n## ")[0]
        self.assertEqual(set(re.findall(r"^\| `(hbtd_\w+)", section, re.MULTILINE)), names)


class LayersTests(SynchronousTestCase):
    """docs/design.md says where things are."""

    def test_layers(self) -> None:
        """Its table has every folder and module of hbtd/, each below whatever imports from it."""
        text = (CHECKOUT / "docs" / "design.md").read_text()
        section = text.partition("\n## Where things are\n")[2].partition("\n## ")[0]
        rows = re.findall(r"^\| (`[^|]*) \|", section, re.MULTILINE)
        order = [re.findall(r"`hbtd/(\w+)", row) for row in rows]
        place = {name: number for number, names in enumerate(order) for name in names}
        rules = (CHECKOUT / "pyproject.toml").read_text()
        (layers,) = re.findall(r"^layers = \[$(.*?)^\]$", rules, re.MULTILINE | re.DOTALL)
        levels = [re.findall(r"\w+", line) for line in re.findall(r'"(.*)"', layers)]
        self.assertEqual(sorted(place), sorted(chain.from_iterable(levels)))
        for higher, lower in pairwise(levels[1:]):  # hbtd/__main__.py is with the ways to start
            self.assertLess(max(place[name] for name in higher), min(place[name] for name in lower))


class CommandsTests(SynchronousTestCase):
    """The commands of hbtd in the documents can be given like that."""

    def test_commands(self) -> None:
        """Each in a block of commands is parsed by its program."""
        pattern = re.compile(r"(?:^|[$|;&] )((?:hbtd|hbtctl|hbtd-smoke) [^|;&]+)")
        parsed = Counter[str]()
        for path in _documents():
            for line in _commands(path.read_text()):
                for command in pattern.findall(line):
                    program, *words = shlex.split(command, comments=True)
                    if ">" in words:
                        words = words[: words.index(">")]
                    if program == "hbtctl":
                        parse(words, {})
                    elif program == "hbtd-smoke":
                        parse_smoke(words, {})
                    else:
                        HbtdOptions({}).parseOptions([word for word in words if word != "…"])
                    parsed[program] += 1
        self.assertGreater(min(parsed[each] for each in ("hbtd", "hbtctl", "hbtd-smoke")), 1)


class MigrationTests(SynchronousTestCase):
    """The commands of docs/migration.md can be given like that."""

    def test_commands(self) -> None:
        """Each is parsed by its program, or is one of a few of other programs."""
        commands = _commands((CHECKOUT / "docs" / "migration.md").read_text())
        compare = runpy.run_path(str(CHECKOUT / "deploy" / "shadow" / "compare.py"))
        parsed = Counter[str]()
        for command in commands:
            program, *words = shlex.split(command, comments=True)
            if ">" in words:
                words = words[: words.index(">")]
            if program == "hbtd":
                HbtdOptions({}).parseOptions(words)
            elif program == "hbtctl":
                parse(words, {})
            elif program == "python3":
                self.assertEqual(words[0], "deploy/shadow/compare.py")
                compare["make_parser"]().parse_args(words[1:])
            else:
                self.assertIn(program, ("tr", "curl", "etcdctl", "helm", "kubectl"), command)
            parsed[program] += 1
        others = {"tr", "curl", "etcdctl", "helm", "kubectl"}
        self.assertEqual(set(parsed), {"hbtd", "hbtctl", "python3", *others})


class FormatTests(SynchronousTestCase):
    """What is said of going back to an earlier release."""

    def test_number(self) -> None:
        """The page about running hbtd has the number of the SQLite file's format."""
        text = (CHECKOUT / "docs" / "operations.md").read_text()
        self.assertIn(f"the number of its format, which is {VERSION}.", text)


class ReferenceTests(SynchronousTestCase):
    """What the documents refer to exists."""

    def test_paths(self) -> None:
        """Every path in the documents that begins with a folder of the checkout exists."""
        pattern = re.compile(
            r"(?<![\w/.])(?:hbtd|tests|docs|deploy|benchmarks|requirements)/[\w/.-]*"
        )
        for document in _documents():
            for span in re.findall(r"`([^`\n]+)`", _without_code(document.read_text())):
                for path in pattern.findall(span):
                    if "<" not in span:  # not a key in etcd
                        self.assertTrue((CHECKOUT / path).exists(), f"{document.name}: {path}")

    def test_links(self) -> None:
        """Every link to a file leads to one, and its anchor to a heading of that document."""
        for document in _documents():
            text = re.sub(r"`[^`]*`", "", _without_code(document.read_text()))
            for link in re.findall(r"\]\(([^)\s]+)\)", text):
                if "://" in link:
                    continue
                path, _, anchor = link.partition("#")
                target = document.parent / path if path else document
                self.assertTrue(target.exists(), f"{document.name}: {link}")
                if anchor:
                    self.assertIn(anchor, _anchors(target), f"{document.name}: {link}")

    def test_reachable(self) -> None:
        """Whoever reads the README finds every document by its links."""
        found, left = set(), [CHECKOUT / "README.md"]
        while left:
            document = left.pop()
            if document in found or document.suffix != ".md":
                continue
            found.add(document)
            for link in re.findall(r"\]\(([^)\s#]+)", _without_code(document.read_text())):
                if "://" not in link:
                    left.append((document.parent / link).resolve())
        self.assertEqual(set(_documents()) - found, set())

    def test_addresses(self) -> None:
        """Links to other sites are complete, and none is on this host."""
        for document in _documents():
            text = re.sub(r"`[^`]*`", "", _without_code(document.read_text()))
            for link in re.findall(r"\]\((\w+:[^)\s]*)\)", text):
                parts = urlsplit(link)
                self.assertEqual(parts.scheme, "https", f"{document.name}: {link}")
                self.assertIn(".", parts.hostname or "", f"{document.name}: {link}")

    def test_runbook(self) -> None:
        """Every alert leads to a heading of the runbook."""
        rules = (CHECKOUT / "deploy" / "hbtd.rules.yml").read_text()
        links = re.findall(r"runbook_url: \S*?(docs/\w+\.md)#(\S+)", rules)
        self.assertEqual(len(links), rules.count("- alert:"))
        for path, anchor in links:
            self.assertIn(anchor, _anchors(CHECKOUT / path))

    def test_sections(self) -> None:
        """Every section of a document that a docstring or comment names exists."""
        pattern = re.compile(r'(docs/\w+\.md), "([^"]+)"')
        named = 0
        for source in sorted((CHECKOUT / "hbtd").rglob("*.py")):
            text = re.sub(r"\s*\n\s*(# )?", " ", source.read_text())
            for path, section in pattern.findall(text):
                named += 1
                headings = re.findall(r"^#+ (.+)$", (CHECKOUT / path).read_text(), re.MULTILINE)
                self.assertIn(section, headings, f"{source.name}: {path}")
        self.assertGreater(named, 5)


def _names() -> list[str]:
    return [parameter.name for parameter in PARAMETERS]


def _documents() -> list[Path]:
    """Return the paths of all documents in Markdown."""
    return [*sorted(CHECKOUT.glob("*.md")), *sorted((CHECKOUT / "docs").rglob("*.md"))]


def _without_code(text: str) -> str:
    """Return a document's text without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def _anchors(document: Path) -> set[str]:
    """Return the anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", _without_code(document.read_text()), re.MULTILINE)
    anchors: Counter[str] = Counter()
    found = set()
    for heading in headings:
        anchor = re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
        found.add(f"{anchor}-{anchors[anchor]}" if anchors[anchor] else anchor)
        anchors[anchor] += 1
    return found


def _commands(text: str) -> list[str]:
    """Return the commands in a document's blocks of shell code."""
    blocks = re.findall(r"^ *```(?:sh|console)\n(.*?)^ *```$", text, flags=re.MULTILINE | re.DOTALL)
    return [
        line.strip()
        for block in blocks
        for line in block.replace("\\\n", "").splitlines()
        if line.strip()
    ]
