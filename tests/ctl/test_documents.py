"""The manual page and the completion, which follow from the parsers."""

import re
import shutil
import subprocess
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from hbtd.ctl import backup_manual
from hbtd.ctl.arguments import make_parsers
from hbtd.ctl.commands import COMMANDS
from hbtd.ctl.completion import script
from hbtd.ctl.manual import page
from hbtd.store.backup import MEANINGS, make_parser
from tests.support.processes import CHECKOUT


def groff(name: str) -> bytes:
    """Return what groff has to complain about in a manual page; skip the test without groff."""
    if not shutil.which("groff"):
        raise SkipTest("there is no groff")
    command = ["groff", "-man", "-Tutf8", "-ww", str(CHECKOUT / "docs" / name)]
    return subprocess.run(command, capture_output=True, check=True).stderr


class ManualTests(SynchronousTestCase):
    """docs/hbtctl.1."""

    def test_current(self) -> None:
        """The manual page is what the parsers say."""
        if (CHECKOUT / "docs" / "hbtctl.1").read_text("utf-8") != page():
            self.fail("docs/hbtctl.1 is not current: run `make docs`")

    def test_complete(self) -> None:
        """It has each command, and each option once or more."""
        text = page().replace("\\-", "-")
        for name, parser in make_parsers({}).commands.items():
            self.assertRegex(text, rf"(?m)^\.SS {name}\b")
            for option in re.findall(r"--[a-z-]+", parser.format_help()):
                self.assertIn(f"\\fB{option}\\fR", text) if option != "--help" else None

    def test_roff(self) -> None:
        """Groff finds nothing wrong with it."""
        self.assertEqual(groff("hbtctl.1"), b"")


class BackupManualTests(SynchronousTestCase):
    """docs/hbtd-backup.8."""

    def test_current(self) -> None:
        """The manual page is what the parser says."""
        if (CHECKOUT / "docs" / "hbtd-backup.8").read_text("utf-8") != backup_manual.page():
            self.fail("docs/hbtd-backup.8 is not current: run `make docs`")

    def test_complete(self) -> None:
        """It has each argument, option and exit status, and how a copy is restored."""
        text = backup_manual.page().replace("\\-", "-")
        for argument in re.findall(r"--[a-z-]+|SOURCE|TARGET", make_parser().format_help()):
            self.assertIn(argument, text)
        for number, _ in MEANINGS:
            self.assertIn(f"\n.B {number}\n", text)
        self.assertIn("To restore a copy", text)

    def test_roff(self) -> None:
        """Groff finds nothing wrong with it."""
        self.assertEqual(groff("hbtd-backup.8"), b"")


class CompletionTests(SynchronousTestCase):
    """Completion in real shells."""

    def completed(self, line: str) -> list[str]:
        """Return what bash offers for a line, whose last word is completed."""
        words = line.split(" ")
        quoted = " ".join(f"'{word}'" for word in words)
        program = (
            f"{script('bash')}\nCOMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}\n"
            "_hbtctl; printf '%s\\n' \"${COMPREPLY[@]}\""
        )
        done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True)
        self.assertEqual(done.stderr, "")
        return done.stdout.split()

    def test_commands(self) -> None:
        """Commands are completed, also after options and their values."""
        self.assertEqual(self.completed("hbtctl w"), ["why", "watch", "whatif", "wait"])
        self.assertEqual(self.completed("hbtctl --url https://x -o json tr"), ["tree"])
        names = {command.name for command in COMMANDS}
        self.assertLess(names, set(self.completed("hbtctl ")))

    def test_options(self) -> None:
        """Each command has its own options, and the common ones."""
        self.assertEqual(self.completed("hbtctl tree --d"), ["--down"])
        self.assertEqual(self.completed("hbtctl list --d"), [])
        self.assertEqual(self.completed("hbtctl list --ur"), ["--url"])

    def test_values(self) -> None:
        """States, forms of output and shells are completed; other values are not guessed."""
        self.assertEqual(self.completed("hbtctl wait x1 --state d"), ["dead"])
        self.assertEqual(self.completed("hbtctl list -o n"), ["nodeset"])
        self.assertEqual(self.completed("hbtctl completion z"), ["zsh"])
        self.assertEqual(self.completed("hbtctl wait --timeout 6"), [])
        self.assertEqual(self.completed("hbtctl thresholds s"), ["set", "show"])
        self.assertIn("/etc/passwd", self.completed("hbtctl thresholds set /etc/pass"))

    def test_zsh(self) -> None:
        """Zsh takes its script."""
        if not shutil.which("zsh"):
            raise SkipTest("there is no zsh")
        program = f"autoload -U compinit; compinit -u -D\n{script('zsh')}\necho $_comps[hbtctl]"
        done = subprocess.run(["zsh", "-fc", program], capture_output=True, text=True, check=True)
        self.assertIn("_hbtctl", done.stdout)
        self.assertEqual(done.stderr, "")
