"""The demonstration, which plays the life of a small fleet beside a real hbtd."""

import subprocess
import sys
from io import StringIO
from typing import Any
from xml.etree import ElementTree

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from hbtd.simulator.bulk_update import Update
from hbtd.simulator.demo import run_demo
from hbtd.simulator.options import DemoOptions
from hbtd.simulator.transcript import Transcript
from tests.support.processes import CHECKOUT


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


class PictureTests(SynchronousTestCase):
    """The picture of the demonstration that the README shows."""

    def test_picture(self):
        """The picture has every word of the output, and columns begin at the same place."""
        lines = [
            "  0.0 s  demo   hello & <goodbye>",
            " 10.0 s  HSM    Ready/OK       Heartbeat started  x0c0s0b0n0 x0c0s0b0n1",
            " 11.0 s  HSM    Standby/Alert  Heartbeat stopped  x0c0s0b0n0",
        ]
        script = CHECKOUT / "docs" / "demo_picture.py"
        drawn = subprocess.run(
            [sys.executable, str(script)],
            input="\n".join(lines),
            capture_output=True,
            text=True,
            check=True,
        )
        svg = ElementTree.fromstring(drawn.stdout)
        texts = [each for each in svg.iter() if each.tag.endswith("}text")][1:]
        words = " ".join(str(each.text) for each in texts).split()
        self.assertEqual(words, " ".join(lines).split())
        seconds = [str(each.text) for each in texts if str(each.text).endswith(" s")]
        self.assertEqual(seconds, ["0.0 s", "10.0 s", "11.0 s"])
        ends = [
            float(each.get("x", "")) + float(each.get("textLength", ""))
            for each in texts
            if each.text in seconds
        ]
        self.assertEqual(len({round(end, 1) for end in ends}), 1)
        states = [each.get("x") for each in texts if each.text in ("Ready/OK", "Standby/Alert")]
        self.assertEqual(len(states), 2)
        self.assertEqual(len(set(states)), 1)


class DemoTests(TestCase):
    """The whole story, at twice its usual speed."""

    timeout = 120

    async def test_demo(self):
        """Nodes lose power, hang and return; HSM learns of all of it; hbtd ends well."""
        from twisted.internet import reactor as installed

        reactor: Any = installed
        out = StringIO()
        await run_demo(reactor, DemoOptions(), out, warntime=2)
        text = out.getvalue()
        told = [
            "96 nodes boot; each sends a heartbeat every 0.5 s\n",
            "Ready/OK       Heartbeat started ",
            "a whole chassis loses power: x1000c1, with 32 nodes\n",
            "3 lose power: ",
            "3 hang: ",
            "Ready/Warning  Heartbeat stopped -- might be dead ",
            "the 3 that hung resume\n",
            "Standby/Alert  Heartbeat stopped -- declared dead ",
            "hbtctl tree --down\n",
            "96 components: 35 dead, 61 healthy\n",
            "x1000c1  32/32 dead since ",
            "the 35 without power boot again\n",
            "Ready/OK       Heartbeat started ",
            " heartbeats sent in ",
            "96 components are known, all Ready/OK\n",
            "ended on SIGTERM with exit status 0\n",
        ]
        position = 0
        for part in told:
            found = text.find(part, position)
            self.assertGreaterEqual(found, 0, f"{part!r} is missing or out of order in\n{text}")
            position = found + len(part)
        between = text.partition("that hung resume\n")[2].partition("hbtctl tree")[0]
        self.assertIn("Ready/OK       Heartbeat restarted ", between)
