"""Test cases with an hbtd, a fleet and a browser, all of them real."""

import urllib.request
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final
from unittest import skipIf

from twisted.internet.defer import Deferred
from twisted.internet.threads import blockingCallFromThread, deferToThread
from twisted.trial.unittest import TestCase

from tests.support.browser import Browser, why_not
from tests.support.processes import HbtdProcess, spawn
from tests.support.running import WebClient, heartbeat, reactor
from tests.support.server_process import free_ports

_REASON: Final = why_not()
NODES: Final = 128
"""How many nodes a fleet has."""
HIDE: Final = (
    "Object.defineProperty(document, 'hidden', { value: given[0], configurable: true });"
    "document.dispatchEvent(new Event('visibilitychange'));"
)
"""Hides the page, or shows it again."""
TOKEN: Final = "correct-horse-battery-staple"
"""The token of who may read, where not everybody may."""
TIMES: Final = ("--interval=1", "--warntime=2", "--errtime=4")


def wait_for(work: Coroutine[Any, Any, Any]) -> Any:
    """Return what a coroutine returns. Call it in a thread."""
    return blockingCallFromThread(reactor, lambda: Deferred.fromCoroutine(work))


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

    async def serve_closed(self) -> Path:
        """Start an hbtd that wants `TOKEN` of whoever reads; return the file that has it."""
        tokens = Path(self.mktemp()).resolve()
        tokens.parent.mkdir(parents=True, exist_ok=True)
        tokens.write_text(f"alice:{TOKEN}\n")
        await self.serve("--reader_access=operators", f"--operator_access=token:{tokens}")
        return tokens

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


class BeatsTestCase(PageTestCase):
    """A test case in which single heartbeats are sent."""

    def beat(self, *names: str) -> None:
        """Send a heartbeat of each component. Call it in a thread."""
        for name in names:
            sent = {**heartbeat(), "Component": name}
            wait_for(self.sender.request("POST", f"{self.url}/hmi/v1/heartbeat", sent))

    async def serve(self, *options: str, port: int = 0) -> Any:
        """Start an hbtd, and wait until it serves."""
        self.sender = WebClient(self)
        return await super().serve(*options, port=port)


@skipIf(_REASON is not None, _REASON or "")
class ModulesTestCase(TestCase):
    """A test case with a browser in which the modules are loaded."""

    timeout = 120

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        process = spawn(
            self,
            ["-m", "hbtd", "--kv_url=mem:", "--nosm", "--use_telemetry=no", "--port=0", "--tls=no",
             "--address=127.0.0.1"],
        )  # fmt: skip
        self.url = await process.url
        self.page = await deferToThread(Browser)
        self.addCleanup(deferToThread, self.page.close)
        await deferToThread(self.page.open, self.url)

    async def run_script(self, script: str, *given: object) -> Any:
        """Return what a script returns, which has all modules of the page."""
        modules = (
            "const modules = ['xnames', 'layout', 'machine', 'clock', 'silence', 'changes', 'told',"
            "'panels'];"
            "const [xnames, layout, { Machine }, clock, silence, lines, { Told }, panels] ="
            " await Promise.all(modules.map((each) => import(`/ui/${each}.js`)));"
        )
        return await deferToThread(self.page.run, modules + script, *given)
