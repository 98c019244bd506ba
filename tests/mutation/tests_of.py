"""Which tests concern a mutant, and in which order they are run.

Those that run its line, as recorded on hbtd as it is: first those of its module, by the project's
mirror of folders, then others of its folder, and if it survives these, those of all modules that
import its module or are named after its folder, as `tests/api/test_access.py`. A line that runs at
import, as that of a constant, has the tests that run anything of its file.
"""

import ast
import re
from collections import defaultdict
from functools import cache
from pathlib import Path

from tests.mutation.mutants import SCOPE, Mutant
from tests.mutation.touched import Test


@cache
def modules(checkout: Path, path: str) -> tuple[list[str], list[str]]:
    """Return the modules of tests that concern a file: those of its folder, and others.

    The others import it, or are named after its folder.
    Of a folder that is not in the scope as a whole, only those of the file count as its own.
    """
    folder, _, stem = path.removesuffix(".py").rpartition("/")
    mirrored = folder.replace("hbtd", "tests", 1)
    name = re.escape(f"{folder}/{stem}".replace("/", "."))
    parts = re.escape(folder.replace("/", "."))
    imports = re.compile(rf"(?m)^from ({name} import|{parts} import (.*, )?{stem}\b)")
    named = f"_{folder.rpartition('/')[2]}"
    own, others = [], []
    for found in sorted((checkout / "tests").rglob("test_*.py")):
        each = str(found.relative_to(checkout))
        near = each.startswith(f"{mirrored}/test_{stem}")
        if near or (folder in SCOPE and each.startswith(f"{mirrored}/")):
            own.append(each)
        elif named in found.name or imports.search(found.read_text()):
            others.append(each)
    as_names = [
        [each.removesuffix(".py").replace("/", ".") for each in some] for some in (own, others)
    ]
    return as_names[0], as_names[1]


def of(mutant: Mutant, checkout: Path, known: list[Test]) -> list[Test]:
    """Return the tests to run, in their order."""
    tree = ast.parse((checkout / mutant.path).read_text())
    lines = statement(tree, mutant.line)
    chosen = [test for test in known if not lines.isdisjoint(test.lines.get(mutant.path, ()))]
    if not chosen and not _in_function(tree, mutant.line):
        chosen = [test for test in known if mutant.path in test.lines]
    own = mutant.path.removesuffix(".py").replace("/", ".").replace("hbtd.", "tests.", 1)
    folder, _, stem = own.rpartition(".")

    # All of a module together, as each has to be imported; quick modules and quick tests first.
    total: defaultdict[str, float] = defaultdict(float)
    for test in chosen:
        total[test.module] += test.spent

    def order(test: Test) -> tuple[bool, float, str, float]:
        near = test.name.startswith(f"{folder}.test_{stem}")
        return not near, total[test.module], test.module, test.spent

    return sorted(chosen, key=order)


def _in_function(tree: ast.Module, line: int) -> bool:
    """Say whether a line runs when a function is called."""
    return any(
        isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body[0].lineno <= line <= (node.end_lineno or 0)
        for node in ast.walk(tree)
    )


def statement(tree: ast.Module, line: int) -> set[int]:
    """Return the lines of the statement that has a line; of a compound one, of its head."""
    best = {line}
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt | ast.ExceptHandler) and node.lineno <= line:
            body = getattr(node, "body", None)
            last = body[0].lineno - 1 if body else node.end_lineno or node.lineno
            if line <= max(last, node.lineno):
                best = set(range(node.lineno, max(last, node.lineno) + 1))
    return best
