"""The command hbtctl with a real hbtd."""

import signal
from io import StringIO

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from hbtd.ctl.main import run
from tests.support.processes import spawn
from tests.support.running import start_hbtd, until

NODES = [f"x1000c{chassis}s0b0n{node}" for chassis in (0, 7) for node in (0, 1)]


class ServiceTests(TestCase):
    """Commands, and what hbtd itself answers."""

    def setUp(self) -> None:
        """Start hbtd."""
        self.hbtd = start_hbtd(self, tls=False)

    async def hbtctl(self, *words: str) -> int:
        """Run a command in a thread; what it printed is in `self.out` and `self.err`."""
        out, err = StringIO(), StringIO()
        environ = {"HBTCTL_URL": self.hbtd.url}
        status: int = await deferToThread(run, words, environ, StringIO(), out, err)
        self.out, self.err = out.getvalue(), err.getvalue()
        return status

    async def test_life(self) -> None:
        """Nodes that are sent for are healthy; those that fall silent are named, and forgotten."""
        for nid, name in enumerate(NODES):
            identity = ("--nid", str(nid), "--hostname", f"nid{nid:06}")
            self.assertEqual(await self.hbtctl("send", name, "--count", "1", *identity), 0)
        self.assertEqual(await self.hbtctl("wait", "x1000c[0,7]s0b0n[0-1]", "--timeout", "0"), 0)
        self.assertEqual(await self.hbtctl("status", "--check"), 0)
        self.assertIn("4 components: 4 healthy, 0 warned, 0 dead", self.out)
        short = ("warntime=1", "errtime=2", "interval=1")
        self.assertEqual(await self.hbtctl("params", *short), 0)
        tracker = self.hbtd.service.tracker

        async def beat() -> None:
            for name in NODES[:2]:
                await self.hbtd.beat(name)

        await until(lambda: tracker.dead == 4, within=20)
        dead = [tracker.component(name) for name in NODES]
        await until(lambda: all(each is not None and each.since for each in dead))
        await beat()
        self.assertEqual(await self.hbtctl("params", "errtime=4000", "warntime=3000"), 0)
        await beat()
        self.assertEqual(await self.hbtctl("list", "--state", "dead", "-o", "nodeset"), 0)
        self.assertEqual(self.out, "x1000c7s0b0n[0-1]\n")
        self.assertEqual(await self.hbtctl("tree", "--down"), 0)
        self.assertIn("`- x1000c7  2/2 dead since ", self.out)
        self.assertEqual(await self.hbtctl("why", "nid000003"), 0)
        self.assertIn("x1000c7s0b0n1 (Node, nid000003, NID 3)\ndead* since ", self.out)
        self.assertIn("started   heartbeat", self.out)
        self.assertEqual(await self.hbtctl("forget", "--yes", "x1000c7s0b0n[0-1],x9c0"), 1)
        self.assertEqual(self.out, "2 forgotten: x1000c7s0b0n[0-1]\n")
        self.assertIn("hbtctl: not tracked: x9c0; --under x9c0 is for what is in it", self.err)
        gone = ("--state", "gone", "--timeout", "0")
        self.assertEqual(await self.hbtctl("wait", "x1000c7s0b0n[0-1]", *gone), 0)

    async def test_past(self) -> None:
        """Events, history and internals are as a real hbtd tells them."""
        nodes = ",".join(NODES)
        follower = spawn(self, ["-m", "hbtd.ctl", "--url", self.hbtd.url, "events", "-f"])
        follower.url.addErrback(lambda failure: None)
        for nid, name in enumerate(NODES):
            await self.hbtctl("send", name, "--count", "1", "--nid", str(nid))
        self.assertEqual(await self.hbtctl("wait", nodes, "--timeout", "5"), 0)
        await self.hbtctl("params", "warntime=1", "errtime=2", "interval=1")
        dead = ("--state", "dead", "--timeout", "20", "--interval", "0.1")
        self.assertEqual(await self.hbtctl("wait", *dead, "--under", "x1000"), 0)
        last = self.hbtd.service.store.last_number
        await until(lambda: last() == 3 * len(NODES))
        await until(lambda: follower.said.count(" died ") == len(NODES))
        follower.signal(signal.SIGINT)
        await follower.ended
        # All fell silent together, which the guard says once.
        self.assertEqual(follower.said.count(" is disrupted: "), 1)
        self.assertEqual(follower.said.count("\n"), 3 * len(NODES) + 1)
        self.assertEqual(await self.hbtctl("events", "-n", "4", "--under", "x1000c7"), 0)
        self.assertEqual([line.split()[2:4] for line in self.out.splitlines()], [
            [name, what] for what in ("warned", "died") for name in NODES[2:]
        ])  # fmt: skip
        self.assertEqual(await self.hbtctl("events", "--after", "8"), 0)
        self.assertEqual(self.out.count(" died "), 4)
        self.assertEqual(await self.hbtctl("history", "nid000001", "--since", "-1h"), 0)
        lines = self.out.splitlines()
        self.assertEqual(lines[0].split(), ["TIME", "XNAME", "FROM", "TO", "TRANSITION", "WHY"])
        self.assertEqual(
            [line.split()[3:6] for line in lines[1:]],
            [
                ["unknown", "healthy", "started"],
                ["healthy", "warned", "warned"],
                ["warned", "dead", "died"],
            ],
        )
        self.assertEqual(await self.hbtctl("history", "--at", "-1s", "--no-headers"), 0)
        self.assertEqual(self.out.count("\n"), len(NODES))
        self.assertEqual(await self.hbtctl("history", "--at", "-1h"), 0)
        self.assertEqual(self.out, "XNAME  STATE  SINCE\n")
        self.assertEqual(await self.hbtctl("internals"), 0)
        for line in ("Leading: yes", "Store:", "Observed:", "SelfChecks:"):
            self.assertIn(line, self.out)

    async def test_refusals(self) -> None:
        """What hbtd refuses is said in its words, in one line, with status 2."""
        for words, text in (
            (("list", "x[0-9999]c[0-7]s[0-9]b0n0"), "are 800,000 names"),
            (("list", "x1["), "bracket"),
            (("list", "--under", "nowhere"), "under"),
            (("list", "--state", "up"), "'up'"),
            (("params", "warntime=soon"), "'warntime' with illegal value 'soon'"),
            (("send", "nobody", "--count", "1"), "Invalid Component Name"),
        ):
            self.assertEqual(await self.hbtctl(*words), 2, words)
            self.assertIn(text, self.err)
            self.assertEqual(self.err.count("\n"), 1)
            self.assertNotIn("; \n", self.err)
        self.assertEqual(await self.hbtctl("why", "x9c0"), 1)
        self.assertEqual(await self.hbtctl("list", "x9c0"), 1)

    async def test_health(self) -> None:
        """The probes of a real hbtd are understood."""
        self.assertEqual(await self.hbtctl("health"), 0)
        self.assertIn("KvStore: Initialization key present: HBTD_OK", self.out)
