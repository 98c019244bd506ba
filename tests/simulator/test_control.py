"""Commands to a fleet, on standard input and over HTTP."""

from io import StringIO
from typing import Any

import treq
from treq.testing import StubTreq
from twisted.internet.testing import StringTransport

from hbtd.simulator.control import CommandLines, CommandRefused, ControlServer, FleetControl
from hbtd.simulator.fleet import node_names
from tests.support.fleet_memory import FleetTestCase

NODES = node_names(600)


class CommandTests(FleetTestCase):
    """What the commands do."""

    def setUp(self):
        super().setUp()
        self.nodes = self.fleet(600)
        self.control = FleetControl(self.nodes)

    def refused(self, line: str) -> str:
        """Return why a command is refused; it must change nothing."""
        with self.assertRaises(CommandRefused) as caught:
            self.control.do(line)
        self.assertEqual(len(self.nodes.beating), 600)
        self.assertNotIn("\n", str(caught.exception))
        return str(caught.exception)

    def test_nodeset(self):
        """Nodes are named by nodesets, by what they are in, and by host names; each counts once."""
        for text, count in (
            ("x1000c0s0b0n0", 1),
            ("X1000c0s[0-7]b0n[0-1]", 16),
            ("x1000c7", 64),
            ("x1001", 88),
            ("x1000c[0-1],x1000c1s3,nid000600", 129),
            ("nid00000[1-9],x1000c0s0b0n0", 9),
            ("all", 600),
        ):
            killed = self.control.change("kill", text)
            self.assertEqual(self.nodes.killed, set(killed), text)
            self.assertEqual(len(killed), count, text)
            self.control.do("revive all")
        self.assertEqual(len(self.nodes.beating), 600)

    def test_chassis(self):
        """What is in x1000c1 is not in x1000c10, or in x1000c1's neighbours."""
        self.control.do("kill x1000c1")
        self.assertEqual(
            self.nodes.killed,
            {each for each in NODES if each[5:8] == "c1s"}
            - {each for each in NODES if each.startswith("x1001")},
        )

    def test_said(self):
        """A command tells how many nodes it has changed, and which, folded."""
        self.assertEqual(
            self.control.do("kill x1000c7"), "kill 64 nodes: x1000c7s[0-7]b[0-1]n[0-3]"
        )
        self.assertEqual(self.control.do("kill x1000c7s0b0n0"), "kill 0 nodes")
        self.assertEqual(self.control.do(" freeze nid000001 "), "freeze 1 nodes: x1000c0s0b0n0")
        self.assertEqual(
            self.control.do("status"),
            "beating 535  killed 64 (x1000c7s[0-7]b[0-1]n[0-3])  frozen 1 (x1000c0s0b0n0)",
        )
        self.assertEqual(
            self.control.do("revive x1000c7s0b0n[0-3],x1000c0"),
            "revive 5 nodes: x1000c0s0b0n0,x1000c7s0b0n[0-3]",
        )

    def test_share(self):
        """A share is taken from those that beat, and to be revived from the silent ones."""
        self.assertEqual(len(self.control.change("kill", "10%")), 60)
        self.assertEqual(len(self.control.change("freeze", "50%")), 270)
        self.assertEqual(len(self.control.change("revive", "100%")), 330)

    def test_refused(self):
        """What is no command, or names no node of the fleet, is refused and changes nothing."""
        for line in (
            "",
            "die x1000c7",
            "kill",
            "kill 101%",
            "kill x[0-",
            "kill x[0-9999]c[0-7]s[0-99999]",
            "kill x1000c0s0b0n0,x9",
            "kill nid999999",
            "kill @all",
            "kill \x1b[2J",
        ):
            self.assertNotIn("\x1b", self.refused(line))

    def test_lines(self):
        """Lines of standard input are commands; a wrong one is answered, and the next is read."""
        out = StringIO()
        lines = CommandLines(self.control, out)
        lines.makeConnection(StringTransport())
        lines.dataReceived(b"kill x1000c7\r\n\n  \nfoo\nstat")
        lines.dataReceived(b"us\n" + b"x" * 2_000_000 + b"\nrevive all\n\xff\n")
        told = out.getvalue().splitlines()
        self.assertEqual(told[0], "kill 64 nodes: x1000c7s[0-7]b[0-1]n[0-3]")
        self.assertTrue(told[1].startswith("'foo' is no command; there are kill NODES,"), told[1])
        self.assertTrue(told[2].startswith("beating 536"), told[2])
        self.assertEqual(told[3], "a command has at most 1000000 characters")


class HTTPTests(FleetTestCase):
    """The same over HTTP."""

    def setUp(self):
        super().setUp()
        self.nodes = self.fleet(600)
        self.client: Any = StubTreq(ControlServer(self.nodes).resource())

    def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, Any]:
        """Send a request; return the status of the answer, and its JSON."""
        url = f"http://fleet.example{path}"
        response = self.successResultOf(self.client.request(method, url, data=body))
        return response.code, self.successResultOf(treq.json_content(response))

    def test_changes(self):
        """Each change is a POST with a nodeset; GET /fleet shows what has become of the fleet."""
        names = "x1000c7s[0-7]b[0-1]n[0-3]"
        changed = {"Changed": 64, "Nodes": names}
        self.assertEqual(self.ask("POST", "/kill", b"x1000c7"), (200, changed))
        self.assertEqual(self.ask("POST", "/freeze", b"nid000001\n")[1]["Changed"], 1)
        expected = {
            "Nodes": 600,
            "Beating": 535,
            "Killed": names,
            "Frozen": "x1000c0s0b0n0",
            "Sent": 0,
            "Failed": 0,
        }
        self.assertEqual(self.ask("GET", "/fleet"), (200, expected))
        self.assertEqual(self.ask("POST", "/revive", b"all")[1]["Changed"], 65)
        self.assertEqual(len(self.nodes.beating), 600)

    def test_refused(self):
        """What can't be done is answered with 400 and a problem that says why."""
        for body in (b"", b"x9", b"x[0-", b"\xff", b"200%"):
            status, problem = self.ask("POST", "/kill", body)
            self.assertEqual((status, problem["status"]), (400, 400), body)
            self.assertTrue(problem["detail"])
        self.assertEqual(len(self.nodes.beating), 600)
