"""Test cases with an hbtd, a fleet and a browser, all of them real."""

import urllib.request
from collections.abc import Callable
from typing import Any, Final
from unittest import skipIf

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.support.browser import Browser, why_not
from tests.support.processes import HbtdProcess, spawn
from tests.support.running import WebClient
from tests.support.server_process import free_ports

_REASON: Final = why_not()
NODES: Final = 128
"""How many nodes a fleet has."""
TIMES: Final = ("--interval=1", "--warntime=2", "--errtime=4")


@skipIf(_REASON is not None, _REASON or "")
class PageTestCase(TestCase):
    """A test case with hbtd, a fleet, and a browser."""

    timeout = 180

    def spawn_hbtd(self, port: int = 0, *options: str) -> HbtdProcess:
        """Start an hbtd, until the test ends at the latest."""
        common = ("--kv_url=mem:", "--nosm", "--use_telemetry=no", "--address=127.0.0.1", *TIMES)
        return spawn(self, ["-m", "hbtd", *common, f"--port={port}", *options])

    async def serve(self, *options: str, port: int = 0) -> HbtdProcess:
        """Start an hbtd, and wait until it serves."""
        process = self.spawn_hbtd(port, *options)
        self.url = (await process.url).replace("127.0.0.1", "localhost")
        return process

    async def fleet(self, nodes: int = NODES, period: float = 0.5) -> None:
        """Start a fleet, whose nodes `control` kills and revives."""
        (port,) = free_ports(1)
        process = spawn(
            self,
            ["-m", "hbtd.simulator", "fleet", f"--url={self.url}", f"--nodes={nodes}",
             f"--period={period}", f"--control_port={port}"],
        )  # fmt: skip
        process.url.addErrback(lambda failure: None)
        client = WebClient(self)

        async def all_beat() -> bool:
            _, summary = await client.request("GET", f"{self.url}/v1/summary")
            return bool(summary["Counts"]["healthy"] == nodes)

        while not await all_beat():
            pass
        self._control = f"http://127.0.0.1:{port}"

    def control(self, command: str, nodes: str) -> None:
        """Have the fleet `kill` or `revive` nodes. Call it in a thread."""
        urllib.request.urlopen(f"{self._control}/{command}", nodes.encode(), timeout=10).read()

    async def look(self, story: Callable[[Browser], Any], path: str = "/", **window: Any) -> None:
        """Open the page in a browser, and have a story told in a thread."""

        def tell() -> None:
            browser = Browser(**window)
            try:
                browser.open(self.url + path)
                story(browser)
            finally:
                browser.close()

        await deferToThread(tell)
