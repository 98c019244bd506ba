"""Which places mutants leave alone, which tests they get, and which of them are known."""

import ast
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.mutation.__main__ import listed
from tests.mutation.mutants import Mutant, Spans, mutants, sample
from tests.mutation.tests_of import modules, of, statement
from tests.mutation.touched import Test

try:
    import cosmic_ray
except ImportError:
    cosmic_ray = None

SOURCE = '''
"""A module of 1 or 2 lines."""

Kind = int | None


class Class:
    """A class of 3."""

    @decorated(4)
    def method(self, first: int | None, *, second: int = 5) -> int | str:
        """Do it 6 times."""
        self._log.info("seven", times=7)
        assert first is not None, 8
        kept: int | None = 9
        raise ValueError(f"only {first + 10:.3f} of {kept}")
'''


class SpansTests(SynchronousTestCase):
    """What no mutant changes."""

    def test_left(self):
        """Only defaults and what runs are changed: no types, texts, logs or assertions."""
        spans = Spans(SOURCE)
        lines = SOURCE.splitlines()

        def left(text: str) -> bool:
            line = next(number for number, each in enumerate(lines, 1) if text in each)
            return spans.contain((line, lines[line - 1].index(text)))

        for text in ("1 or 2", "| None", "3.", "4)", "*,", "| str", "6 times", "7)", "8", "10"):
            self.assertTrue(left(text), text)
        for text in ("5)", "9", "raise"):
            self.assertFalse(left(text), text)


class SampleTests(SynchronousTestCase):
    """Which mutants are drawn."""

    def test_seed(self):
        """The same seed draws the same mutants, however they were found; another one others."""
        found = [Mutant("hbtd/x.py", line, 0, "AddNot", line) for line in range(100)]
        drawn = sample(found, 1, 10)
        self.assertEqual(sample(found[::-1], 1, 10), drawn)
        self.assertNotEqual(sample(found, 2, 10), drawn)
        self.assertEqual(sample(found, 1, 1000), found)


class OperatorTests(SynchronousTestCase):
    """What is changed, if cosmic-ray is installed."""

    skip = None if cosmic_ray is not None else "cosmic-ray is not installed: make mutants does that"

    def test_left_out(self):
        """Calls and changes of what others see are left out, not what would fail at once."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "x.py").write_text(
                "class Class:\n"
                "    def __init__(self):\n"
                "        self.x = 1\n"
                "        self.start()\n"
                "    def start(self):\n"
                '        """Start."""\n'
                "        self.x = y = 2\n"
                "        z = self.x\n"
                "        z += self.x\n"
                "        del self.x\n"
                "        return z\n"
            )
            found = [each for each in mutants(folder, "x.py") if each.operator == "LeaveOut"]
        self.assertEqual([each.line for each in found], [4, 7, 9, 10])

    def test_examples(self):
        """The operator that cosmic-ray lacks does what its examples say."""
        from cosmic_ray.mutating import mutate_code

        from tests.mutation.leave_out import LeaveOut

        for example in LeaveOut.examples():
            code = mutate_code(example.pre_mutation_code, LeaveOut(), example.occurrence)
            self.assertEqual(code, example.post_mutation_code)


class TestsOfTests(SynchronousTestCase):
    """Which tests a mutant gets."""

    def setUp(self):
        """Make a small checkout."""
        self.checkout = Path(self.mktemp())
        for path, source in (
            (
                "hbtd/hsm/outbox.py",
                "LIMIT = 1\n\n\ndef f(x):\n    if x:\n        g(\n            x)\n    h()\n",
            ),
            ("tests/hsm/test_outbox.py", ""),
            ("tests/hsm/test_client.py", ""),
            ("tests/api/test_why.py", "from hbtd.hsm.outbox import f\n"),
            ("tests/app/test_hsm_away.py", ""),
            ("tests/api/test_http.py", "from hbtd.hsm.client import f\n"),
        ):
            (self.checkout / path).parent.mkdir(parents=True, exist_ok=True)
            (self.checkout / path).write_text(source)

    def test_modules(self):
        """First those of its folder are run, then those that import it or are named after that."""
        own, others = modules(self.checkout, "hbtd/hsm/outbox.py")
        self.assertEqual(own, ["tests.hsm.test_client", "tests.hsm.test_outbox"])
        self.assertEqual(others, ["tests.api.test_why", "tests.app.test_hsm_away"])

    def test_lines(self):
        """Those that run the line are run, those of the module first, then quick ones."""
        path = "hbtd/hsm/outbox.py"
        known = [
            Test("tests.hsm.test_client.T.test_slow", 2.0, {path: {4, 6}}),
            Test("tests.hsm.test_client.T.test_quick", 1.0, {path: {6}}),
            Test("tests.hsm.test_outbox.T.test_it", 3.0, {path: {7}}),
            Test("tests.hsm.test_outbox.T.test_other", 0.0, {path: {4, 5}}),
        ]

        def names(line: int) -> list[str]:
            mutant = Mutant(path, line, 0, "AddNot", 0)
            return [test.name.rpartition("_")[2] for test in of(mutant, self.checkout, known)]

        self.assertEqual(names(7), ["it", "quick", "slow"])
        self.assertEqual(names(8), [])
        # Line 1 runs when the module is imported, which no test does by itself.
        self.assertEqual(names(1), ["other", "it", "quick", "slow"])

    def test_statement(self):
        """A line is one of its statement's; of a compound statement, one of its head's."""
        tree = ast.parse("if (a and\n    b):\n    f(\n        c)\nx = 1\n")
        for line, lines in ((1, {1, 2}), (2, {1, 2}), (3, {3, 4}), (4, {3, 4}), (5, {5})):
            self.assertEqual(statement(tree, line), lines)


class ListedTests(SynchronousTestCase):
    """The list of equivalent mutants."""

    def test_listed(self):
        """A row has a file, its code, and that of the mutant; the last run lists none."""
        path = Path(self.mktemp())
        path.write_text(
            "| `hbtd/a.py` | `x \\| 1` | `x & 1` | why |\n"
            "## The last run\n| `hbtd/b.py` | `1` | `2` | why |\n"
        )
        self.assertEqual(listed(path), {("hbtd/a.py", "x | 1", "x & 1")})
