"""What is written about hbtd-smoke follows from its parser."""

import re
import shlex
import shutil
import subprocess
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from hbtd.smoke.arguments import EXAMPLES, MEANINGS, make_parser, parse
from hbtd.smoke.manual import page
from tests.support.processes import CHECKOUT


class ManualTests(SynchronousTestCase):
    """docs/hbtd-smoke.1, and the help."""

    def test_current(self) -> None:
        """The manual page is what the parser says."""
        if (CHECKOUT / "docs" / "hbtd-smoke.1").read_text("utf-8") != page():
            self.fail("docs/hbtd-smoke.1 is not current: run `make docs`")

    def test_complete(self) -> None:
        """It has each option and exit status."""
        text = page().replace("\\-", "-")
        for option in re.findall(r"--[a-z-]+", make_parser({}).format_help()):
            self.assertIn(option, text)
        for number, _ in MEANINGS:
            self.assertIn(f"\n.B {number}\n", text)

    def test_examples(self) -> None:
        """The examples are command lines that can be used."""
        for example in EXAMPLES:
            command, *words = shlex.split(example.partition(" > ")[0])
            self.assertEqual(command, "hbtd-smoke")
            parse(words, {})

    def test_roff(self) -> None:
        """Groff finds nothing wrong with it."""
        if not shutil.which("groff"):
            raise SkipTest("there is no groff")
        path = str(CHECKOUT / "docs" / "hbtd-smoke.1")
        done = subprocess.run(
            ["groff", "-man", "-Tutf8", "-ww", path], capture_output=True, check=True
        )
        self.assertEqual(done.stderr, b"")

    def test_operations(self) -> None:
        """The page about running hbtd has each exit status."""
        text = (CHECKOUT / "docs" / "operations.md").read_text().partition("## hbtd-smoke")[2]
        for number, _ in MEANINGS:
            self.assertRegex(text, rf"\| {number}\b")
