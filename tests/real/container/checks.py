"""What hadolint says of the Dockerfile, and Compose of deploy/compose."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any
from unittest import skipIf

from twisted.trial.unittest import SynchronousTestCase

from tests.support.processes import CHECKOUT
from tests.support.programs import run_program

TOOLS = Path(sys.prefix) / "container-tools"


def _tool(name: str) -> str | None:
    """Return the path of a program, `None` if there is none."""
    # Before the package's own command for Compose, which forgets the exit status.
    for folder in ("lib/*/site-packages/compose/**", "bin"):
        for installed in sorted(TOOLS.glob(f"{folder}/{name}*")):
            if installed.is_file():
                return str(installed)
    return shutil.which(name)


def _why_not(name: str) -> str | None:
    return None if _tool(name) else f"There is no {name}: make container-tools."


def _run(*command: str, given: str = "") -> tuple[int, str]:
    """Run a program; return its status, and what it has printed."""
    name, *arguments = command
    command = (_tool(name) or name, *arguments)
    return run_program(command, folder=CHECKOUT, given=given, within=120)


@skipIf(_why_not("hadolint") is not None, str(_why_not("hadolint")))
class DockerfileTests(SynchronousTestCase):
    """The linter of Dockerfiles."""

    def test_no_findings(self) -> None:
        """The linter finds nothing in the Dockerfile, and no finding is switched off there."""
        self.assertEqual(_run("hadolint", "--no-color", "Dockerfile"), (0, ""))
        self.assertNotIn("hadolint", (CHECKOUT / "Dockerfile").read_text())

    def test_one_base(self) -> None:
        """One argument names the base of every stage, so that one digest pins them all."""
        lines = (CHECKOUT / "Dockerfile").read_text().splitlines()
        bases = [line.split()[1] for line in lines if line.startswith("FROM ")]
        self.assertEqual(bases, ["${PYTHON}"] * 2)
        (base,) = [line for line in lines if line.startswith("ARG PYTHON=")]
        pinned = "\n".join(lines).replace(base, f"{base}@sha256:{'0' * 64}")
        self.assertEqual(_run("hadolint", "--no-color", "-", given=pinned), (0, ""))

    def test_finds(self) -> None:
        """It would find a base without version."""
        status, said = _run("hadolint", "--no-color", "-", given="FROM python\n")
        self.assertEqual(status, 1)
        self.assertIn("DL3006", said)


@skipIf(_why_not("docker-compose") is not None, str(_why_not("docker-compose")))
class ComposeTests(SynchronousTestCase):
    """The file of Compose."""

    def test_valid(self) -> None:
        """Compose reads it, by its schema, and resolves all that it refers to."""
        status, said = _run("docker-compose", *self.FILE, "config", "--format", "json")
        self.assertEqual(status, 0, said)
        resolved: dict[str, Any] = json.loads(said)
        services = resolved["services"]
        for name in ("hbtd-1", "hbtd-2", "hbtd-3", "hsm", "fleet"):
            self.assertEqual(services[name]["build"]["context"], str(CHECKOUT))
            self.assertTrue(services[name]["read_only"], name)
        for service in services.values():
            for volume in service.get("volumes", ()):
                if volume["type"] == "bind":
                    self.assertTrue(Path(volume["source"]).is_file(), volume)

    def test_refused(self) -> None:
        """It would refuse a key that there is not."""
        wrong = "services: {a: {image: b, helthcheck: {}}}"
        status, said = _run("docker-compose", "-f", "-", "config", given=wrong)
        self.assertNotEqual(status, 0)
        self.assertIn("helthcheck", said)

    FILE = ("-f", "deploy/compose/compose.yaml")
