"""Several replicas of hbtd on one etcd, with a fake HSM."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from hbtd.replicas.replica import Replica
from hbtd.simulator.bulk_update import Update
from hbtd.tracker.transitions import Transition
from tests.support.etcd_running import EtcdTestCase, OwnEtcdTestCase
from tests.support.hsm_memory import kind, nodes
from tests.support.processes import CHECKOUT, HbtdProcess, spawn
from tests.support.running import Hbtd, WebClient, reactor, start_hbtd, start_hsm, until

A, B, C, D = nodes(4)
WARNTIME, ERRTIME = 2, 4


class Replicas(TestCase):
    """Mixed into a test case that has an `etcd`: replicas, and the updates that HSM receives."""

    timeout = 120

    def begin(self, url: str, on_update: Callable[[Update], None] | None = None) -> None:
        """Start an HSM, for replicas on this etcd."""
        self.kv_url = url
        self.running_hsm = start_hsm(self, on_update=on_update)
        self.hsm = self.running_hsm.hsm
        self.web = WebClient(self)

    async def replica(self, **params: Any) -> Hbtd:
        """Start a replica in this process, and wait until it is up."""
        hbtd = self.launch(**params)
        replica = hbtd.service.replica
        assert isinstance(replica, Replica)
        await until(lambda: replica.sync.synchronized and hbtd.service.monitor.running)
        return hbtd

    def launch(self, **params: Any) -> Hbtd:
        """Start a replica in this process, without waiting for it."""
        settings = {
            "kv_url": self.kv_url,
            "nosm": False,
            "sm_url": self.running_hsm.url,
            "tls": False,
            "warntime": WARNTIME,
            "errtime": ERRTIME,
            "interval": 1,
            **params,
        }
        return start_hbtd(self, **settings)

    async def replicas(self, count: int, **params: Any) -> list[Hbtd]:
        """Start replicas, of which the first one leads."""
        leader = await self.replica(**params)
        await until(lambda: leader.service.monitor.leading)
        return [leader, *[await self.replica(**params) for _ in range(count - 1)]]

    def told(self, name: str) -> list[Transition]:
        """Return the transitions that HSM was told of a component."""
        return [kind(update) for update in self.updates(name)]

    def updates(self, name: str) -> list[Update]:
        """Return the updates that HSM applied and that named a component."""
        found = [each for each in self.hsm.updates if each.applied and name in each.names]
        return sorted(found, key=lambda update: update.applied or 0.0)

    async def is_told(self, name: str, *what: Transition, within: float = 40.0) -> None:
        """Wait until HSM has been told of these transitions of a component, and of no others."""
        try:
            await until(lambda: len(self.told(name)) >= len(what), within)
        except AssertionError:
            self.fail(f"{name}: {self.told(name)} after {within} s, not {list(what)}")
        self.assertEqual(self.told(name), list(what))

    async def spawned(
        self, *options: str, environ: dict[str, str] | None = None, cwd: Path = CHECKOUT
    ) -> "Spawned":
        """Start a replica as a process of its own, and wait until it serves.

        In another `cwd`, a copy of another release is run.
        """
        process = spawn(
            self,
            [
                "-m",
                "hbtd",
                f"--kv_url={self.kv_url}",
                "--port=0",
                "--tls=no",
                "--use_telemetry=no",
                f"--sm_url={self.running_hsm.url}",
                f"--warntime={WARNTIME}",
                f"--errtime={ERRTIME}",
                "--interval=1",
                *options,
            ],
            {**({"PYTHONPATH": str(cwd)} if cwd != CHECKOUT else {}), **(environ or {})},
            cwd,
        )
        return Spawned(process, await process.url, self.web)


class Spawned:
    """A replica that is a process of its own."""

    def __init__(self, process: HbtdProcess, url: str, web: WebClient) -> None:
        self.process = process
        self.url = url
        self._web = web

    async def get(self, path: str) -> tuple[int, Any]:
        """Send a GET request, and return the status and the answer."""
        return await self._web.request("GET", f"{self.url}/hmi/v1/{path}")

    async def beat(self, name: str, timestamp: str = "t") -> int:
        """Send a heartbeat, and return the status."""
        body = {"Status": "OK", "Timestamp": timestamp}
        status, _ = await self._web.request("POST", f"{self.url}/hmi/v1/heartbeat/{name}", body)
        return status

    async def metric(self, name: str) -> float:
        """Read a metric."""
        response = await self._web.treq.get(f"{self.url}/metrics", timeout=20, reactor=reactor)
        text = (await response.content()).decode()
        found = re.search(rf"^hbtd_{name} (\S+)$", text, re.MULTILINE)
        assert found is not None, name
        return float(found[1])

    async def leads(self) -> bool:
        """Return whether it leads."""
        return await self.metric("leading") == 1


async def until_all(
    replicas: Iterable[Hbtd], condition: Callable[[Hbtd], object], within: float = 30.0
) -> None:
    """Wait until a condition is true of all replicas; fail after `within` seconds."""
    await until(lambda: all(condition(each) for each in replicas), within)


async def until_true(condition: Any, within: float = 30.0) -> None:
    """Wait until a coroutine returns something true; fail after `within` seconds."""
    deadline = reactor.seconds() + within
    while not await condition():
        if reactor.seconds() > deadline:
            raise AssertionError(f"not within {within} s")
        waiting: Deferred[None] = Deferred()
        reactor.callLater(0.05, waiting.callback, None)
        await waiting


class ReplicasTestCase(EtcdTestCase, Replicas):
    """Replicas on an empty etcd."""

    timeout = 120

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        """Clear etcd, and start an HSM."""
        await super().setUp()
        self.begin(self.etcd.address)


class OwnReplicasTestCase(OwnEtcdTestCase, Replicas):
    """Replicas on etcds that are damaged; `begin` has to be called."""

    timeout = 240
