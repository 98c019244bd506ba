"""One hbtd with thousands of nodes, and a fake HSM: all of them are processes of their own."""

import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from hbtd.simulator.fleet import node_names
from tests.support.hsm_load import MeteredHSM
from tests.support.load_generator import Generator
from tests.support.own_metrics import numbers
from tests.support.processes import HbtdProcess, spawn
from tests.support.running import WebClient, reactor, until
from tests.support.service_manager import ServiceManager
from tests.support.steady_load import Load

INTERVAL = 1
"""Seconds between two sweeps."""


class ManyNodesTestCase(TestCase):
    """A test case with ten thousand nodes."""

    timeout = 300

    COUNT = 10_000
    NAMES = node_names(COUNT)
    PERIOD, WARNTIME, ERRTIME = 5, 15, 20

    async def start(self, *options: str) -> None:
        """Start a fake HSM, hbtd, and what sends the heartbeats; wait until HSM has all nodes."""
        self.client = WebClient(self)
        fake = spawn(self, ["-m", "hbtd.simulator", "hsm", "--port=0"])
        fake.url.addErrback(lambda failure: None)
        announced = re.compile(r"listening on \S+:(\d+)/")
        await until(lambda: announced.search(fake.said), 20)
        (port,) = announced.findall(fake.said)
        self.hsm = f"http://127.0.0.1:{port}"
        self.metered = MeteredHSM(self, int(port))
        listening = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.addCleanup(listening.close)
        directory = Path(self.mktemp()).absolute()
        directory.mkdir()
        self.hbtd: HbtdProcess = ServiceManager(self).start(
            *("-m", "hbtd", "--use_telemetry=no", "--tls=no", f"--interval={INTERVAL}"),
            *(f"--warntime={self.WARNTIME}", f"--errtime={self.ERRTIME}", *options),
            *(f"--sm_url={self.metered.url}", f"--kv_url=sqlite:{directory}/store"),
            passed=listening,
        )
        self.url = await self.hbtd.url
        load = Load(False, self.COUNT, self.COUNT // 10, self.COUNT / self.PERIOD, 0, 0)
        self.generator = Generator(self, listening.getsockname()[1], load)
        await self.until_table(dict.fromkeys(self.NAMES, "Ready/OK"), 60)

    async def table(self) -> dict[str, str]:
        """Return what HSM's table says, by component."""
        path = "/hsm/v1/State/Components?stateonly=true"
        _, answer = await self.client.request("GET", f"{self.hsm}{path}")
        return {row["ID"]: f"{row['State']}/{row['Flag']}" for row in answer["Components"]}

    async def until_table(self, wanted: Mapping[str, str], within: float) -> None:
        """Wait until HSM's table says this, and nothing else."""
        deadline = reactor.seconds() + within
        while (table := await self.table()) != wanted:
            if reactor.seconds() > deadline:
                wrong = sorted(wanted.items() ^ table.items())
                said = await self.comparison()
                self.fail(f"after {within:.0f} s {len(wrong)} are wrong: {wrong[:10]}; {said}")
            await deferLater(reactor, 0.5)

    async def comparison(self) -> dict[str, Any]:
        """Return what hbtd says of its comparisons."""
        status, body = await self.client.request("GET", f"{self.url}/hmi/v1/reconcile")
        self.assertEqual(status, 200)
        return dict(body)

    async def updates(self) -> list[dict[str, Any]]:
        """Return the updates that HSM has received."""
        _, updates = await self.client.request("GET", f"{self.hsm}/control/updates")
        return list(updates)

    async def deaf(self) -> float:
        """Return for how many seconds hbtd could not hear so far, or made up for that.

        Each second in which it is deaf on a busy machine is followed by as long a standstill.
        """
        return 2 * (await numbers(self.client, self.url))["deaf_seconds_total"]
