"""The imports of test modules: what they share is in tests.support."""

import ast
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.support.processes import CHECKOUT

TESTS = CHECKOUT / "tests"


class ImportTests(SynchronousTestCase):
    """Test modules are independent, a rule that import-linter can't express."""

    def test_test_modules(self) -> None:
        """Every module in tests/ imports from tests.support, if it imports from tests at all.

        The simulation is a program of its own, whose modules import each other.
        """
        found = [
            f"{path.relative_to(CHECKOUT)} imports {module}: move what they share to tests/support"
            for path in sorted(TESTS.rglob("*.py"))
            for module in _imported(path)
            if module.startswith("tests.") and not module.startswith(_allowed(path))
        ]
        self.assertEqual(found, [])


def _allowed(path: Path) -> tuple[str, ...]:
    simulation = ("tests.simulation",) if path.parent.name == "simulation" else ()
    return ("tests.support", *simulation)


def _imported(path: Path) -> list[str]:
    """Return the names of the modules that a file imports, wherever in it."""
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            names += [
                f"{module}.{alias.name}" if module == "tests" else module for alias in node.names
            ]
    return names
