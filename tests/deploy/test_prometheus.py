"""A real Prometheus that scrapes a real hbtd: the alert of a killed chassis fires."""

import json
import re
from pathlib import Path
from typing import Any
from unittest import skipIf

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from hbtd.simulator.fleet import node_names
from tests.support.processes import CHECKOUT
from tests.support.prometheus import binary, why_not
from tests.support.running import WebClient, reactor, start_hbtd
from tests.support.server_process import free_ports

_WITHIN = 60.0
"""Seconds in which what a test waits for has to happen."""


class _Prometheus(ProcessProtocol):
    """Prometheus as a process."""

    def __init__(self) -> None:
        self.ended: Deferred[None] = Deferred()
        self.said = b""

    def errReceived(self, data: bytes) -> None:
        self.said += data

    def processEnded(self, reason: Any) -> None:
        reason.trap(ProcessDone, ProcessTerminated)
        self.ended.callback(None)

    def stop(self) -> Deferred[None]:
        """End the process."""
        if not self.ended.called:
            self.transport.signalProcess("TERM")  # type: ignore[union-attr]
        return self.ended


@skipIf(why_not("prometheus") is not None, str(why_not("prometheus")))
class ChassisTests(TestCase):
    """From a node's silence to the alert."""

    timeout = 180

    def configure(self, target: str) -> Path:
        """Write a configuration that scrapes a target each second; return its folder.

        The rules are those of `deploy/`, but each alert fires after a second instead of minutes.
        """
        folder = Path(self.mktemp()).resolve()
        folder.mkdir()
        rules = (CHECKOUT / "deploy" / "hbtd.rules.yml").read_text()
        (folder / "hbtd.rules.yml").write_text(re.sub(r"for: \d+\w", "for: 1s", rules))
        every = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        jobs = [{"job_name": "hbtd", "static_configs": [{"targets": [target]}]}]
        config = {"global": every, "rule_files": ["hbtd.rules.yml"], "scrape_configs": jobs}
        (folder / "prometheus.yml").write_text(json.dumps(config))  # which is YAML, too
        return folder

    def start(self, folder: Path) -> str:
        """Start Prometheus until the test ends; return its address."""
        (port,) = free_ports(1)
        process = _Prometheus()
        self.addCleanup(process.stop)
        program = binary("prometheus") or ""
        arguments = [
            program,
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        reactor.spawnProcess(process, program, arguments, env={}, path=str(folder))
        return f"http://127.0.0.1:{port}"

    async def test_fires(self) -> None:
        """A chassis falls silent, and its alert fires; it beats again, and the alert ends."""
        client = WebClient(self)
        hbtd = start_hbtd(self, tls=False, warntime=1, errtime=2, interval=1)
        address = self.start(self.configure(hbtd.url.partition("//")[2]))
        alive, lost = node_names(72)[64:], node_names(64)
        silent = False

        async def fires() -> bool:
            """Have the nodes beat; return whether the alert fires."""
            for name in alive if silent else [*alive, *lost]:
                await hbtd.beat(name)
            try:
                _, said = await client.request("GET", f"{address}/api/v1/alerts")
            except Exception:  # noqa: BLE001  # Prometheus has not started yet
                return False
            found = {
                (each["labels"]["alertname"], each["labels"].get("type"))
                for each in said["data"]["alerts"]
                if each["state"] == "firing"
            }
            return ("HbtdChassisSilent", "Chassis") in found

        async def until(expected: bool) -> None:
            """Wait until the alert fires, or does not any more."""
            deadline = reactor.seconds() + _WITHIN
            while await fires() is not expected:
                self.assertLess(reactor.seconds(), deadline, expected)
                await deferLater(reactor, 0.2)

        await until(False)
        silent = True
        await until(True)
        silent = False
        await until(False)
