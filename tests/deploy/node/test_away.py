"""What hbtd-agent says of itself when its node is shut down."""

import os
import signal
from pathlib import Path
from typing import Any

from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase

from tests.support.agent import (
    NoLog,
    SimulatedClock,
    SimulatedHbtd,
    agent,
    answer,
    pythons,
    spawn_agent,
)
from tests.support.live_agent import LiveTestCase, options
from tests.support.running import NODE, reactor, until

_TARGET = agent.Target("https", "hbtd", 28500, "/hmi/v1")


class LeavingTests(SynchronousTestCase):
    """An agent that ends, and an hbtd that answers as a test says."""

    def leave(
        self, reply: Any, *, ends: bool = True, heard: bool = True, away: float = 600.0
    ) -> tuple[list[bytes], list[str]]:
        """End an agent; return what it has sent, and logged."""
        clock = SimulatedClock(1e9, 2e9)
        hbtd, log, sent = SimulatedHbtd(clock, lambda now: reply), NoLog(), list[bytes]()
        settings = agent.Settings(
            _TARGET, NODE, "nid1", "1", "OK", "system", "", "", "", None, {}, away
        )
        made = agent.Agent(settings, hbtd, log, "", clock)
        made._heard = heard
        request = hbtd.request

        def noted(data: bytes, patience: float) -> Any:
            self.assertLessEqual(patience, 3.0)
            sent.append(data)
            return request(data, patience)

        self.patch(hbtd, "request", noted)
        made.leave(lambda: ends)
        return sent, log.lines

    def test_said(self) -> None:
        """At a shutdown it says for how long the node is away, and logs that hbtd knows."""
        (request,), lines = self.leave(answer(204))
        head, _, body = request.partition(b"\r\n\r\n")
        self.assertTrue(head.startswith(f"POST /hmi/v1/heartbeat/{NODE}/away HTTP/1.1".encode()))
        self.assertIn(b"\r\nContent-Length: %d" % len(body), head)
        self.assertEqual(body, b'{"For":600.0,"Reason":"shutdown"}')
        self.assertEqual(lines, [f"hbtd knows that {NODE} will be away, for 600 s at most"])

    def test_not_said(self) -> None:
        """It says nothing if the node goes on, is not known to hbtd, or is not to say anything."""
        for case in ({"ends": False}, {"heard": False}, {"away": 0.0}):
            self.assertEqual(self.leave(answer(204), **case), ([], []), case)

    def test_refused(self) -> None:
        """That hbtd does not let nodes say so, or is older, is normal; other failures are not."""
        for status in (401, 403, 404, 405):
            self.assertEqual(self.leave(answer(status))[1], [], status)
        for reply in (answer(503), agent.Failed("timeout", "timed out")):
            (line,) = self.leave(reply)[1]
            self.assertTrue(line.startswith("hbtd does not know that this node will be away: "))

    def test_settings(self) -> None:
        """The seconds are an option like the others: a number from 0 to a week."""
        given = {"url": "https://hbtd.example", "xname": NODE}

        def find(text: str) -> Any:
            return agent.find_settings({**given, "away": text}, {}, lambda path: "", lambda: "")

        self.assertEqual([find(text).away for text in ("", "0", "90.5")], [600.0, 0.0, 90.5])
        for text in ("-1", "nan", "604801", "soon"):
            error = self.assertRaises(agent.Misused, find, text)
            self.assertIn("is no time in seconds", str(error))


class SystemTests(LiveTestCase):
    """Agents as processes, with a stand-in of systemctl."""

    timeout = 120

    def systemctl(self, says: str) -> dict[str, str]:
        """Make a stand-in of systemctl; return the environment in which it is found."""
        folder = Path(self.mktemp()).resolve()
        folder.mkdir()
        program = folder / "systemctl"
        program.write_text(f'#!/bin/sh\n[ "$*" = is-system-running ] && echo {says}; exit 1\n')
        program.chmod(0o755)
        return {"PATH": f"{folder}:{os.environ['PATH']}"}

    async def test_shutdown(self) -> None:
        """With each Python, hbtd is told of a node that is shut down, but not of a mere stop."""
        hbtd, trusting = self.start()
        found: list[list[str]] = []
        own = self.certify(NODE)
        for says, python in (
            ("running", min(pythons().values())),
            *(("stopping", each) for each in pythons().values()),
        ):
            process = spawn_agent(
                self, options(hbtd.url, *trusting, *own), self.systemctl(says), python
            )
            await until(lambda: "are taken at" in process.said)  # noqa: B023  # it is awaited here
            self.assertEqual(await process.stop(), 0, process.said)
            in_force = hbtd.service.core.maintenances.in_force
            found.append([entry.maintenance.id for entry in in_force.entries.values()])
            # It may say so once in Errtime, which is another matter.
            hbtd.service.core.maintenances._lately._times.clear()
        self.assertEqual(found, [[], *[[f"away-{NODE}"]] * len(pythons())])

    async def test_forbidden(self) -> None:
        """Where nodes can't show who they are nothing is said of it, and the exit status is 0."""
        hbtd, trusting = self.start(node_access="any", operator_access="cert:ops")
        process = spawn_agent(self, options(hbtd.url, *trusting), self.systemctl("stopping"))
        await until(lambda: "are taken at" in process.said)
        self.assertEqual(await process.stop(), 0)
        self.assertEqual(process.said.count("\n"), 1)

    async def test_slow_systemctl(self) -> None:
        """A systemctl that hangs is waited for two seconds, and a second signal ends it at once."""
        hbtd, trusting = self.start(node_access="any")
        environ = self.systemctl("stopping; exec sleep 60")
        for signals in (1, 2):
            process = spawn_agent(self, options(hbtd.url, *trusting), environ)
            await until(lambda: "are taken at" in process.said)  # noqa: B023  # it is awaited here
            began = reactor.seconds()
            ended = process.stop()
            if signals == 2:
                await deferLater(reactor, 0.2)
                process._signal(signal.SIGTERM)
            self.assertEqual(await ended, 0)
            self.assertLess(reactor.seconds() - began, 30)
