"""The command line: options, help, and complaints."""

import contextlib
import re
import shlex
from io import StringIO

from twisted.trial.unittest import SynchronousTestCase

from hbtd.ctl.arguments import make_parsers, parse, settings
from hbtd.ctl.client import Settings
from hbtd.ctl.commands import COMMANDS
from hbtd.ctl.failures import MEANINGS

SUFFICIENT = {
    "why": ["x1"],
    "wait": ["x1"],
    "send": ["x1"],
    "forget": ["x1"],
    "completion": ["bash"],
}


class ArgumentTests(SynchronousTestCase):
    """What the command line may be."""

    def complaint(self, *words: str) -> str:
        """Return what is said of words that can't be used."""
        err = StringIO()
        with contextlib.redirect_stderr(err):
            exited = self.assertRaises(SystemExit, parse, words, {})
        self.assertEqual(exited.code, 2)
        self.assertEqual(err.getvalue().count("\n"), 1)
        return err.getvalue()

    def test_positions(self) -> None:
        """Common options may stand before a command, and behind it, where they win."""
        options = ("--url=http://a", "--ca=b", "--cert=c", "--key=d", "--token-file=e")
        expected = Settings("http://a", "b", "c", "d", "e", 3.0)
        for command in COMMANDS:
            words = [command.name, *SUFFICIENT.get(command.name, [])]
            for line in (
                [*options, "--http-timeout=3", *words],
                [*words, *options, "--http-timeout=3"],
                ["--url=http://z", "--http-timeout=9", *words, *options, "--http-timeout=3"],
            ):
                self.assertEqual(settings(parse(line, {})), expected, line)

    def test_environment(self) -> None:
        """The environment supplies defaults; an empty variable counts as unset."""
        environ = {
            "HBTCTL_URL": "http://a",
            "HBTCTL_TOKEN_FILE": "t",
            "HBTCTL_CA": "b",
            "HBTCTL_CERT": "c",
            "HBTCTL_KEY": "d",
        }
        found = settings(parse(["status"], environ))
        self.assertEqual(found, Settings("http://a", "b", "c", "d", "t", 10.0))
        found = settings(parse(["status", "--url", "http://z"], environ))
        self.assertEqual(found.url, "http://z")
        found = settings(parse(["status"], dict.fromkeys(environ, "")))
        self.assertEqual(found, Settings("https://localhost:28500", "system", timeout=10.0))

    def test_complaints(self) -> None:
        """What can't be used is named in one line, with the help that shows what can."""
        for words, text in (
            (["lst"], "invalid choice: 'lst'"),
            (["list", "--stat", "x"], "unrecognized arguments: --stat (did you mean --state?)"),
            (["list", "-s", "dead"], "unrecognized arguments: -s (see hbtctl list --help)"),
            (["--token", "t", "status"], "--token (did you mean --token-file?) (see hbtctl status"),
            (
                ["wait"],
                "no components are named: give a NODESET, or --under (see hbtctl wait --help)",
            ),
            (
                ["forget"],
                "no components are named: give a NODESET, or --under (see hbtctl forget --help)",
            ),
            (["why"], "the following arguments are required: NODESET (see hbtctl why --help)"),
            (["wait", "x1", "--timeout", "soon"], "'soon' is not a number of seconds"),
            (["wait", "x1", "--timeout", "nan"], "'nan' is not a number of seconds"),
            (["send", "x1", "--period", "0"], "'0' seconds are too short"),
            (["list", "--under", "x1", "--under", "x2"], "--under: give it once"),
            (["list", "--limit", "-1"], "--limit"),
            (["list", "--limit", "٣"], "is not a whole number from 0 on"),
            (["whatif", "--errtime", "0"], "'0' is not a whole number of seconds from 1 on"),
            (["whatif", "--warntime", "7.5"], "--warntime: '7.5' is not a whole number"),
            (["events", "-n", "1001"], "1001 is more than 1000"),
            (
                ["tree", "-o", "nodeset"],
                "-o nodeset is for list, absent and history --at, not for tree",
            ),
            (["status", "-o", "xml"], "invalid choice: 'xml'"),
        ):
            self.assertIn(text, self.complaint(*words))

    def test_relative_times(self) -> None:
        """A time before now, which looks like an option, may follow its option."""
        options = parse(["history", "--since", "-2h", "--until=-1h"], {})
        self.assertEqual((options.since, options.until), ("-2h", "-1h"))
        self.assertIn("--since", self.complaint("history", "--since"))

    def test_help(self) -> None:
        """`--help` lists all commands, variables and exit statuses; each command has examples."""
        parsers = make_parsers({})
        text = parsers.main.format_help()
        for command in COMMANDS:
            self.assertIn(f"  {command.name:11} {command.summary}\n", text)
            described = parsers.commands[command.name].format_help()
            self.assertIn("examples:\n", described)
            for example in command.examples:
                self.assertIn(f"hbtctl {command.name}", example)
        for status, meaning in MEANINGS:
            self.assertRegex(text, rf"  {status} +{meaning[:20]}")
        self.assertIn("HBTCTL_TOKEN_FILE", text)
        for line in text.splitlines():
            self.assertLessEqual(len(line), 84)

    def test_examples(self) -> None:
        """What the examples show is a command line that can be used."""
        for command in COMMANDS:
            for example in command.examples:
                found = re.search(r"hbtctl ((?:'[^']*'|[^|&>)])*)", example)
                assert found is not None
                parse(shlex.split(found[1]), {})

    def test_nothing(self) -> None:
        """Without a command there is the help."""
        out = StringIO()
        with contextlib.redirect_stdout(out):
            exited = self.assertRaises(SystemExit, parse, [], {})
        self.assertEqual(exited.code, 0)
        self.assertIn("usage: hbtctl", out.getvalue())
