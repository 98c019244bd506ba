"""The demonstration, which plays the life of a small fleet beside a real hbtd."""

from io import StringIO
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from hbtd.simulator.demo import Transcript, run_demo
from hbtd.simulator.fake_hsm import Update
from hbtd.simulator.options import DemoOptions


class TranscriptTests(SynchronousTestCase):
    """Lines are in columns."""

    def setUp(self):
        self.out = StringIO()
        self.clock = Clock()
        self.clock.advance(1000)
        self.transcript = Transcript(self.clock, self.out)

    def test_say(self):
        """A line has the seconds since the start, the speaker and the text."""
        self.clock.advance(12.34)
        self.transcript.say("demo", "hello")
        self.assertEqual(self.out.getvalue(), " 12.3 s  demo   hello\n")

    def test_update(self):
        """An update's line has its state, its message, two names, and the number of others."""
        names = ["x0c0s0b0n0", "x0c0s0b0n1", "x0c0s0b0n2", "x0c0s0b0n3"]
        for count, state, flag, message in (
            (2, "Ready", "OK", "Heartbeat started"),
            (4, "Standby", "Alert", "Heartbeat stopped -- declared dead"),
        ):
            update = Update(b"", 0.0, names=names[:count], state=state, flag=flag, message=message)
            self.transcript.update(update)
        self.assertEqual(
            self.out.getvalue().splitlines(),
            [
                "  0.0 s  HSM    Ready/OK       Heartbeat started                   "
                "x0c0s0b0n0 x0c0s0b0n1",
                "  0.0 s  HSM    Standby/Alert  Heartbeat stopped -- declared dead  "
                "x0c0s0b0n0 x0c0s0b0n1 +2",
            ],
        )


class DemoTests(TestCase):
    """The whole story, at twice its usual speed."""

    timeout = 40

    async def test_demo(self):
        """Nodes lose power, hang and return; HSM learns of all of it; hbtd ends well."""
        from twisted.internet import reactor as installed

        reactor: Any = installed
        out = StringIO()
        await run_demo(reactor, DemoOptions(), out, warntime=2)
        text = out.getvalue()
        told = [
            "40 nodes boot; each sends a heartbeat every 0.5 s\n",
            "Ready/OK       Heartbeat started ",
            "3 lose power: ",
            "2 hang: ",
            "Ready/Warning  Heartbeat stopped -- might be dead ",
            "the 2 that hung resume\n",
            "Ready/OK       Heartbeat restarted ",
            "Standby/Alert  Heartbeat stopped -- declared dead ",
            "the 3 without power boot again\n",
            "Ready/OK       Heartbeat started ",
            " heartbeats sent in ",
            "40 components are known, all Ready/OK\n",
            "ended on SIGTERM with exit status 0\n",
        ]
        position = 0
        for part in told:
            found = text.find(part, position)
            self.assertGreaterEqual(found, 0, f"{part!r} is missing or out of order in\n{text}")
            position = found + len(part)
