"""hbtd with `sqlite:`, killed with SIGKILL at a hundred random moments."""

import signal
from pathlib import Path

from twisted.internet.task import deferLater

from tests.support.fault_story import KILLS, Span, Story
from tests.support.processes import HbtdProcess
from tests.support.running import reactor
from tests.support.server_process import free_ports


class SqliteTests(Story):
    """The story with one hbtd and an SQLite file."""

    async def test_killed_again_and_again(self) -> None:
        """HSM ends up correct, and never gets a false warning or death after a kill."""
        self.kv_url = f"sqlite:{Path(self.mktemp()).resolve()}"
        (self.port,) = free_ports(1)
        await self.play([self.port])

    async def kill_again_and_again(self) -> None:
        """Kill and restart hbtd `KILLS` times."""
        for _ in range(KILLS):
            await self.run_and_kill()

    async def last_ones(self) -> list[HbtdProcess]:
        """Start hbtd for the last time."""
        last = self.run_hbtd(self.kv_url, self.port)
        await last.url
        self.served.append(Span(reactor.seconds()))
        return [last]

    async def run_and_kill(self) -> None:
        """Run hbtd for a random time, mostly short, sometimes long enough for a death."""
        process = self.run_hbtd(self.kv_url, self.port)
        how = self.random.random()
        if how < 0.1:
            process.url.addErrback(lambda failure: None)
            await deferLater(reactor, self.random.uniform(0.3, 0.9))
        else:
            await process.url
            self.served.append(Span(reactor.seconds()))
            if how < 0.55:
                await deferLater(reactor, self.random.uniform(0.0, 1.5))
            else:
                await deferLater(reactor, self.random.uniform(0.0, 10.0 if how < 0.85 else 4.0))
                await self.an_update()
        process.signal(signal.SIGKILL)
        self.kills.append(reactor.seconds())
        if process.url.called and self.served and self.served[-1].end == float("inf"):
            self.served[-1].end = reactor.seconds()
        self.assertEqual(await process.ended, -signal.SIGKILL, process.said)
        self.read(process)
