"""The file of `--groups`, as hbtd starts with it."""

from pathlib import Path

from twisted.internet.testing import MemoryReactorClock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from hbtd.app.errors import CAN_PASS, StartupError
from hbtd.app.service import HbtdService
from hbtd.config.params import Params
from hbtd.guard.groups import Groups
from tests.support.guarded_memory import GuardedTestCase, names


class GroupsTests(SynchronousTestCase):
    """hbtd that is made, and not started."""

    def make(self, content: str | None) -> HbtdService:
        """Make hbtd with a file of groups."""
        self.path = Path(self.mktemp())
        if content is not None:
            self.path.write_text(content)
        params = Params(kv_url="mem:", nosm=True, use_telemetry=False, groups=str(self.path))
        return HbtdService(params, MemoryReactorClock())

    def test_read(self) -> None:
        """The groups in the file are failure domains; too small ones are named in the log."""
        with capturedLogs() as events:
            service = self.make("pdu-1 x1000c0s[0-7]b0n0\npdu-2 x1000c0s0b0n0\n")
        self.assertEqual(service.core.guard.group_count, 2)
        domains = service.core.guard.domains.of("x1000c0s0b0n0")
        self.assertEqual(domains, ("x1000c0s0", "x1000c0", "x1000", "pdu-1", "pdu-2", "s0"))
        said = [line for line in map(formatEvent, events) if line and "never disrupted" in line]
        self.assertEqual(len(said), 1)
        self.assertIn("(1 groups): pdu-2.", said[0])

    def test_unusable(self) -> None:
        """A file that can't be used keeps hbtd from starting, with one line that says why."""
        for content, why in (
            (None, "No such file"),
            ("pdu-1\n", "line 1 of .* is no group"),
            ("pdu-1 x1000c0s[0-\n", "line 1 of .* nodeset is not valid"),
            ("\x00\n", "is no name"),
        ):
            error = self.assertRaises(StartupError, self.make, content)
            self.assertRegex(str(error), f"^--groups: .*{why}")
            self.assertTrue(str(error).isprintable())
            self.assertEqual(error.status, CAN_PASS)


class PduTests(GuardedTestCase):
    """A PDU on which some slots of two chassis hang."""

    groups = Groups([("pdu-1", ["x1000c0s0", "x1000c1s1"])])

    def test_pdu(self) -> None:
        """When all that hangs on it falls silent, the PDU is disrupted, and nothing else."""
        self.up()
        quiet = "x1000c0s0b0n[0-3],x1000c1s1b0n[0-3]"
        self.beat_all(45.0, silent=quiet)
        self.assertEqual(self.statements(), [("pdu-1", None)])
        self.assertHeld(quiet)
        self.assertIn("Group pdu-1 is disrupted: 8 of 8", self.logged("warn")[0])
        self.assertEqual(self.guard.release("pdu-1"), (["pdu-1"], 8))
        self.beat_all(1.1, silent=quiet)
        self.assertEqual(self.dead(), names(quiet))
