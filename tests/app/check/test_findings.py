"""The status of a check, and its lines."""

from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

from hbtd.app.check.findings import Findings
from hbtd.app.errors import StartupError


class FindingsTests(SynchronousTestCase):
    """What is printed, and what comes of it."""

    def setUp(self) -> None:
        """Collect the lines."""
        self.said: list[str] = []
        self.findings = Findings(self.said.append)

    def test_status(self) -> None:
        """A wrong option comes before what can pass: the start would fail again because of it."""
        self.findings.warning("it rains")
        self.assertEqual(self.findings.status, 0)
        self.findings.error(StartupError("no port", passing=True))
        self.assertEqual(self.findings.status, 75)
        self.findings.error(StartupError("no such option"))
        self.findings.error(StartupError("no file", passing=True))
        self.assertEqual(self.findings.status, 2)
        self.findings.conclude()
        last = "hbtd could not start: 3 errors, with 1 warning. It would exit with status 2."
        self.assertEqual(self.said[-1], last)

    def test_one_line(self) -> None:
        """A finding is one line, whatever is in a name."""
        self.findings.error(StartupError("--sm_ca: a\nok: b\x1b[2J"))
        self.assertEqual(self.said, ["error: --sm_ca: a\\nok: b\\x1b[2J"])

    def test_log(self) -> None:
        """What hbtd logs as a warning is one; other lines, and those of others, are not."""
        with self.findings.hearing():
            Logger("hbtd.access").warn("{what} is open", what="the door")
            Logger("hbtd.access").info("all is well")
            Logger("else").warn("nothing of ours")
        Logger("hbtd.access").warn("too late")
        self.assertEqual(self.said, ["warning: the door is open"])
