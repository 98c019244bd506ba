"""Helm and kubernetes-validate, for tests of the chart: `make chart-tools` installs both.

Helm is the command, if there is one (`make helm`), and otherwise its library for Python.
"""

import functools
import json
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from unittest import skipIf

import yaml
from twisted.trial.unittest import SynchronousTestCase

from tests.support.processes import CHECKOUT
from tests.support.programs import run_program

CHART = CHECKOUT / "deploy" / "helm" / "hbtd"
RELEASE, NAMESPACE = "site", "services"

_TOOLS = Path(sys.prefix) / "chart-tools" / "bin"

# Helm's engine, in a process of its own: it is written in Go, and has handlers of signals.
_LIBRARY = """
import json, sys
import helm_python
chart, release, namespace, what = sys.argv[1:]
values = json.load(sys.stdin)
try:
    if what == "lint":
        # A number for the severity: 1 is information, which --strict allows, too.
        said = helm_python.lint(chart, values, strict=True, namespace=namespace)
        wrong = [each["error"] for each in said["messages"] if each["severity"] > 1]
        wrong += said["errors"]
        sys.exit("\\n".join(wrong) if wrong else 0)
    with helm_python.Chart.load(chart) as loaded:
        texts = loaded.render(values, name=release, namespace=namespace)
except helm_python.HelmError as error:
    sys.exit(str(error))
print("\\n---\\n".join(text for name, text in texts.items() if not name.endswith(".txt")))
"""

Object = dict[str, Any]
"""An object of Kubernetes."""


class Refused(Exception):
    """Helm refuses values; the text is what it says."""


def why_not() -> str | None:
    """Return why the chart can't be tested, `None` if it can."""
    if not (_TOOLS / "kubernetes-validate").is_file():
        return "There is no kubernetes-validate: make chart-tools"
    if _command() is None:
        library = [str(_TOOLS / "python"), "-c", "import helm_python"]
        if subprocess.run(library, capture_output=True, check=False).returncode:
            return "There is no library of Helm for this host: make helm"
    return None


def _command() -> str | None:
    built = _TOOLS / "helm"
    return str(built) if built.is_file() else shutil.which("helm")


needs_helm = skipIf(why_not() is not None, why_not() or "")


def values_of(name: str) -> Object:
    """Return the values in a file of the chart."""
    values: Object = yaml.safe_load((CHART / name).read_text())
    return values


def render(values: Mapping[str, Any], release: str = RELEASE, chart: Path = CHART) -> list[Object]:
    """Return the objects that the chart makes with these values, over its own ones.

    `chart` is its directory or an archive of it. Raise `Refused` if Helm refuses the values.
    """
    text = _run("template", json.dumps(values), release, str(chart))
    return [each for each in yaml.safe_load_all(text) if each]


def lint(values: Mapping[str, Any]) -> None:
    """Have Helm look for mistakes in the chart, strictly; raise `Refused` if there is one."""
    _run("lint", json.dumps(values), RELEASE, str(CHART))


@functools.cache
def _run(what: str, values: str, release: str, chart: str) -> str:
    """Return what Helm prints; several tests look at the same."""
    command = _command()
    if command is None:
        words = [str(_TOOLS / "python"), "-c", _LIBRARY, chart, release, NAMESPACE, what]
    elif what == "lint":
        words = [command, "lint", "--strict", f"--namespace={NAMESPACE}", "--values=-", chart]
    else:
        place = (release, chart, f"--namespace={NAMESPACE}")
        words = [command, "template", *place, "--values=-"]
    done = subprocess.run(
        words, input=values, capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode:
        # Beside what is wrong, it says that it follows symbolic links.
        lines = (done.stdout + done.stderr).splitlines()
        raise Refused("\n".join(line for line in lines if line and "symbolic link" not in line))
    return done.stdout


def validate(objects: Iterable[Object], folder: Path) -> str:
    """Return what kubernetes-validate finds wrong with objects, strictly; "" if nothing.

    They are written into `folder`, which is made.
    """
    folder.mkdir(parents=True)
    paths = []
    for number, each in enumerate(objects):
        paths.append(folder / f"{number}-{each['kind']}.yaml")
        paths[-1].write_text(yaml.safe_dump(each))
    command = [str(_TOOLS / "kubernetes-validate"), "--strict", "--quiet", *map(str, paths)]
    status, said = run_program(command, within=60)
    return said if status else ""


@needs_helm
class ChartTestCase(SynchronousTestCase):
    """A test case about what the chart makes."""

    def find(self, objects: Iterable[Object], kind: str, suffix: str = "") -> Object:
        """Return the only object of a kind whose name ends so."""
        found = [o for o in objects if o["kind"] == kind and o["metadata"]["name"].endswith(suffix)]
        self.assertEqual(len(found), 1, f"{kind} …{suffix}")
        return found[0]

    def container(self, values: Mapping[str, Any]) -> Object:
        """Return hbtd's container, as these values make it."""
        pod = self.find(render(values), "Deployment")["spec"]["template"]["spec"]
        container: Object = pod["containers"][0]
        return container


EVERYTHING: Object = yaml.safe_load((CHECKOUT / "tests/deploy/helm/everything.yaml").read_text())
ALL = {
    "default": {},
    "original": values_of("values-cray-hms-hbtd.yaml"),
    "everything": EVERYTHING,
}
"""The values with which everything has to be valid."""
