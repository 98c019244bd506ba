"""The questions of the night: a chassis and one more node die, and somebody asks about it at 3 a.m.

Each question is one line of `hbtctl` and one of `curl`. They are asked before hbtd is restarted,
after SIGTERM, and after SIGKILL; of replicas, both the leader and the follower are asked.
`HBTD_NIGHT` names a file for the questions and the answers.
"""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from hbtd.formats.nodesets import fold
from hbtd.formats.times import format_time
from hbtd.simulator.fleet import node_names
from tests.support.etcd_running import OwnEtcdTestCase
from tests.support.processes import CHECKOUT, HbtdProcess, spawn
from tests.support.replicas_running import until_true
from tests.support.running import WebClient, until
from tests.support.server_process import free_ports

NODES = 512
PERIOD, WARNTIME, ERRTIME = 1, 8, 10
CHASSIS, MORE, ONE = "x1000c1", "x1000c4s5b0n3", "nid000123"
"""What is killed: the nodes of a chassis, and one more; the last is the hostname of one of them."""

DEAD = [*node_names(NODES)[64:128], MORE]
ONE_XNAME = node_names(NODES)[122]
FOLDED = fold(DEAD)
SOON = 1.0
"""Seconds by which times may differ: heartbeats are dated by when they were heard."""


class Night(TestCase):
    """Mixed into a test case: real processes, and the questions."""

    timeout = 150

    async def begin(self, kv_url: str, count: int) -> None:
        """Start an HSM, as many replicas as `count`, and a fleet; kill the nodes."""
        self.kv_url = kv_url
        self.transcript = os.environ.get("HBTD_NIGHT")
        self.web = WebClient(self)
        self.spent = 0.0
        hsm = await self.simulator(r"(http://\S+)", "hsm", "--port=0", "--standby_cost_ms=0.5")
        self.sm_url = hsm
        self.ports = free_ports(count)
        self.processes: dict[int, HbtdProcess] = {}
        for port in self.ports:
            await self.run_hbtd(port)
        self.fleet = await self.simulator(
            r"commands to the fleet: (http://\S+)",
            "fleet", f"--url={self.url(self.ports[0])}", f"--nodes={NODES}", f"--period={PERIOD}",
            "--control_port=0",
        )  # fmt: skip
        await self.counts(healthy=NODES)
        await until_true(self.named, within=30)  # other replicas get names within ten seconds
        self.killed = time.time()
        killing = await deferToThread(
            subprocess.run,
            ["curl", "-sS", f"{self.fleet}/kill", "-d", f"{CHASSIS},{MORE}"],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        self.assertIn("65", killing.stdout)
        await self.counts(healthy=NODES - 65, dead=65)

        async def told() -> bool:
            return all([(await self.summary(port))["Groups"][0]["Told"] for port in self.ports])

        await until_true(told, within=30)
        await until_true(self.known, within=30)

    async def known(self) -> bool:
        """Return whether each replica knows since when the dead are dead.

        A follower hears of a death before it has read that in the log.
        """
        path = "/hmi/v1/components?state=dead"
        found = [await self.fetch(port, path) for port in self.ports]
        return all(each["Since"] for answer in found for each in answer["Components"])

    async def fetch(self, port: int, path: str) -> Any:
        """Return a decoded answer, without a line in the transcript."""
        answer = await deferToThread(
            subprocess.run, ["curl", "-sS", "-g", self.url(port) + path],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        return json.loads(answer.stdout)

    async def named(self) -> bool:
        """Return whether each replica knows the NIDs of all nodes."""
        path = "/hmi/v1/components?names=nid[000001-000512]&limit=1"
        found = [await self.fetch(port, path) for port in self.ports]
        return all(answer.get("Unknown") == "" for answer in found)

    async def simulator(self, announced: str, *arguments: str) -> str:
        """Start a part of the simulator; return what it announces."""
        process = spawn(self, ["-m", "hbtd.simulator", *arguments])
        process.url.addErrback(lambda failure: None)
        await until(lambda: re.search(announced, process.said), within=20)
        found = re.search(announced, process.said)
        assert found is not None
        return found[1]

    async def run_hbtd(self, port: int) -> None:
        """Start hbtd on a port, and wait until it serves."""
        process = self.processes[port] = spawn(
            self,
            [
                "-m", "hbtd", f"--kv_url={self.kv_url}", f"--port={port}", "--tls=no",
                "--use_telemetry=no", f"--sm_url={self.sm_url}", f"--warntime={WARNTIME}",
                f"--errtime={ERRTIME}", "--interval=1",
            ],
        )  # fmt: skip
        await process.url

    async def restart(self, port: int, number: signal.Signals) -> None:
        """End the hbtd on a port with a signal, start it anew, and wait until it knows again."""
        old = self.processes[port]
        old.signal(number)
        await old.ended
        self.assertNotIn("Traceback", old.said)
        await self.run_hbtd(port)
        await self.counts(healthy=NODES - 65, dead=65)

        async def leads() -> bool:
            said = [await self.summary(each) for each in self.ports]
            leaders = [each["Replica"] for each in said if each["Leading"]]
            # The others know its name once it has said so, within a second.
            return [each["Leader"] for each in said] == leaders * len(said)

        await until_true(leads, within=25)
        await until_true(self.known, within=20)

    @staticmethod
    def url(port: int) -> str:
        """Return the URL of the hbtd on a port."""
        return f"http://localhost:{port}"

    async def summary(self, port: int) -> Any:
        """Return the summary of the hbtd on a port."""
        status, answer = await self.web.request("GET", f"{self.url(port)}/hmi/v1/summary")
        self.assertEqual(status, 200)
        return answer

    async def counts(self, **expected: int) -> None:
        """Wait until all replicas count so many components in each state."""

        async def counted() -> bool:
            answers = [(await self.summary(port))["Counts"] for port in self.ports]
            return all(each.items() >= expected.items() for each in answers)

        await until_true(counted, within=30)

    async def hbtctl(self, port: int, words: str, status: int = 0) -> str:
        """Ask with hbtctl; return what it prints."""
        environ = {"HBTCTL_URL": self.url(port), "PYTHONPATH": str(CHECKOUT), "TZ": "UTC"}
        command = [sys.executable, "-m", "hbtd.ctl", *shlex.split(words)]
        return await self.ask(f"hbtctl {words}", command, environ, status)

    async def curl(self, port: int, path: str) -> Any:
        """Ask with curl; return the decoded answer."""
        command = ["curl", "-sS", "--fail", "-g", f"{self.url(port)}/hmi/v1/{path}"]
        return json.loads(await self.ask(shlex.join(command), command, {}, 0))

    async def ask(self, shown: str, command: list[str], environ: Any, status: int) -> str:
        """Run a command; return its output, after writing down both and the time it took."""
        began = time.monotonic()
        done = await deferToThread(
            subprocess.run, command, capture_output=True, text=True,
            env={"PATH": os.environ["PATH"], **environ},
        )  # fmt: skip
        took = time.monotonic() - began
        self.spent += took
        self.write(f"$ {shown}    # {took * 1000:.0f} ms\n{_shortened(done.stdout)}\n")
        self.assertEqual((done.returncode, done.stderr), (status, ""), shown)
        return str(done.stdout)

    def write(self, text: str) -> None:
        """Write to the transcript, if one is wanted."""
        if self.transcript:
            with Path(self.transcript).open("a") as file:
                file.write(text)

    async def questions(self, port: int, when: str) -> None:
        """Ask all questions of the hbtd on a port, and check the answers."""
        summary = await self.summary(port)
        role = "leads" if summary["Leading"] else "follows"
        self.write(f"\n## {self.id().rpartition('.')[2]}, {when}; the replica asked {role}\n\n")
        began = self.spent
        await self.who(port)
        await self.since_when(port)
        await self.how_much(port)
        await self.told(port)
        await self.why(port)
        await self.last_night(port)
        await self.leader(port)
        self.write(f"# all questions: {self.spent - began:.1f} s\n")
        self.assertLess(self.spent - began, 60)

    async def who(self, port: int) -> None:
        """Ask who is silent."""
        self.write("# who is silent?\n")
        self.assertEqual(await self.hbtctl(port, "list --state silent -o nodeset"), f"{FOLDED}\n")
        answer = await self.curl(port, "components?state=warned,dead")
        self.assertEqual(fold(each["XName"] for each in answer["Components"]), FOLDED)
        self.assertEqual((len(answer["Components"]), answer["Next"]), (65, None))

    async def since_when(self, port: int) -> None:
        """Ask since when."""
        self.write("# since when?\n")
        out = await self.hbtctl(port, "list --state dead --no-headers --columns xname,last,since")
        rows = [line.split() for line in out.splitlines()]
        self.assertEqual([row[0] for row in rows], DEAD)
        answer = await self.curl(port, "components?state=dead")
        for row, each in zip(rows, answer["Components"], strict=True):
            heard, dead = _seconds(each["LastHeartbeat"]), _seconds(each["Since"])
            self.assertTrue(self.killed - PERIOD * 1.2 - SOON < heard < self.killed + SOON, each)
            self.assertTrue(ERRTIME - SOON < dead - heard < 2 * ERRTIME, each)
            self.assertIn(_clock(dead), row[-1])

    async def how_much(self, port: int) -> None:
        """Ask whether it is one node or a whole chassis."""
        self.write("# one node or a whole chassis?\n")
        out = await self.hbtctl(port, "status")
        self.assertIn("512 components: 447 healthy, 0 warned, 65 dead\n", out)
        self.assertRegex(out, rf"\n  {CHASSIS} 64/64 silent since [0-9:]+, HSM told [0-9:]+\n")
        self.assertIn(f"also silent: {MORE}\n", out)
        answer = await self.curl(port, "summary")
        (group,) = answer["Groups"]
        self.assertEqual((group["XName"], group["Silent"], group["Total"]), (CHASSIS, 64, 64))
        self.assertIn(group["Text"], out)
        self.assertEqual((answer["Silent"], answer["Counts"]["dead"]), (MORE, 65))
        since = _seconds(group["Since"])
        self.assertTrue(self.killed - PERIOD * 1.2 - SOON < since < self.killed + SOON, group)
        self.assertIn(f"{CHASSIS}  64/64 dead", await self.hbtctl(port, "tree --down"))

    async def told(self, port: int) -> None:
        """Ask whether HSM heard of it, and when."""
        self.write("# did HSM hear of it, and when?\n")
        out = await self.hbtctl(port, "list --state dead --no-headers --columns xname,hsm")
        answer = await self.curl(port, "components?state=dead")
        at = {each["XName"]: each["HSM"] for each in answer["Components"]}
        for line, name in zip(out.splitlines(), DEAD, strict=True):
            self.assertEqual(at[name]["State"], "told", at[name])
            self.assertIn(f"told {_shown(at[name]['At'])}", line)
        times = {name: _seconds(each["At"]) for name, each in at.items()}
        self.at_first = getattr(self, "at_first", times)
        for name, first in self.at_first.items():
            self.assertAlmostEqual(times[name], first, delta=SOON, msg=name)
            self.assertTrue(0 < first - self.killed < 2 * ERRTIME + SOON)

    async def why(self, port: int) -> None:
        """Ask why hbtd thinks so of one."""
        self.write("# why does hbtd think so (of one)?\n")
        out = await self.hbtctl(port, f"why {ONE}")
        self.assertIn(f"{ONE_XNAME} (Node, {ONE}, NID 123)\ndead since ", out)
        self.assertIn(f"dead after {ERRTIME} s", out)
        answer = await self.curl(port, f"components/{ONE}")
        self.assertEqual((answer["XName"], answer["State"]), (ONE_XNAME, "dead"))
        self.assertEqual((answer["Hostname"], answer["NID"]), (ONE, "123"))
        self.assertIn(answer["Why"]["Text"].split(" s", 1)[0][:18], out)
        self.assertEqual(
            [each["Transition"] for each in answer["Transitions"]], ["died", "warned", "started"]
        )

    async def last_night(self, port: int) -> None:
        """Ask what happened last night, and how it was at a moment."""
        self.write("# what happened last night?\n")
        out = await self.hbtctl(port, f"history --since -1h --under {CHASSIS} --no-headers")
        lines = out.splitlines()
        self.assertEqual(sum(" died " in line for line in lines), 64)
        self.assertEqual(len(lines), 3 * 64)
        since = format_time(self.killed - 3600)
        answer = await self.curl(port, f"history?since={since}&names={ONE}")
        self.assertEqual(
            [each["Transition"] for each in answer["Entries"]], ["started", "warned", "died"]
        )
        self.write("# who was silent then?\n")
        before, after = format_time(self.killed), format_time(self.killed + 2 * ERRTIME)
        out = await self.hbtctl(port, f"history --at {before} --state dead --no-headers")
        self.assertEqual(out, "")
        out = await self.hbtctl(port, f"history --at {after} --state dead --no-headers")
        self.assertEqual([line.split()[0] for line in out.splitlines()], DEAD)
        answer = await self.curl(port, f"history?at={after}&state=dead")
        self.assertEqual([each["XName"] for each in answer["Components"]], DEAD)

    async def leader(self, port: int) -> None:
        """Ask which replica judges."""
        self.write("# which replica judges?\n")

        async def all_agree() -> bool:
            # On a busy machine the lead may just have been lost; then nobody is named for a second.
            summaries = {each: await self.summary(each) for each in self.ports}
            leads = [each for each, told in summaries.items() if told["Leading"]]
            if len(leads) != 1:
                return False
            name = summaries[leads[0]]["Replica"]
            out = await self.hbtctl(port, "internals")
            answers = [await self.curl(port, path) for path in ("summary", "internals")]
            return f"Leader: {name}\n" in out and all(
                (each["Leader"], each["Leading"]) == (name, port == leads[0]) for each in answers
            )

        await until_true(all_agree, within=15)


class SqliteTests(Night):
    """One hbtd, with a file."""

    async def test_sqlite(self) -> None:
        """The answers are the same before a restart, after one, and after a kill."""
        await self.begin(f"sqlite:{Path(self.mktemp()).resolve()}", 1)
        (port,) = self.ports
        await self.questions(port, "before a restart")
        await self.restart(port, signal.SIGTERM)
        await self.questions(port, "after SIGTERM and a start")
        await self.restart(port, signal.SIGKILL)
        await self.questions(port, "after SIGKILL and a start")


class EtcdTests(OwnEtcdTestCase, Night):
    """Two replicas on etcd."""

    timeout = 150

    async def test_etcd(self) -> None:
        """Leader and follower answer the same, before restarts, after them, and after kills."""
        etcd = await self.start()
        await self.begin(etcd.address, 2)
        first, second = self.ports
        await self.both("before a restart")
        await self.restart(first, signal.SIGTERM)
        await self.both("after SIGTERM of the leader and a start")
        await self.restart(second, signal.SIGKILL)
        await self.both("after SIGKILL of the other leader and a start")

    async def both(self, when: str) -> None:
        """Ask both replicas."""
        for port in self.ports:
            await self.questions(port, when)


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def _clock(at: float) -> str:
    return f"{datetime.fromtimestamp(at, timezone.utc):%H:%M:%S}"


def _shown(text: str) -> str:
    from hbtd.ctl.times import shown_time

    return shown_time(text)


def _shortened(text: str, most: int = 12, width: int = 240) -> str:
    lines = [line if len(line) <= width else f"{line[:width]} ..." for line in text.splitlines()]
    more = [f"... {len(lines) - most} further lines"] if len(lines) > most else []
    return "\n".join([*lines[:most], *more])
