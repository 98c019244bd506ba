"""hbtd with `sqlite:`, killed with SIGKILL at a hundred random moments beside an unsteady fleet."""

import signal
from pathlib import Path

from twisted.internet.task import deferLater

from tests.faults.story import KILLS, Span, Story
from tests.support.processes import HbtdProcess
from tests.support.running import reactor
from tests.support.server_process import free_ports


class SqliteTests(Story):
    """The story with one hbtd on a file."""

    async def test_killed_again_and_again(self) -> None:
        """HSM ends up with the truth, and was never told of a silence that was hbtd's own."""
        self.kv_url = f"sqlite:{Path(self.mktemp()).resolve()}"
        (self.port,) = free_ports(1)
        await self.play([self.port])

    async def kill_again_and_again(self) -> None:
        """Kill hbtd and start it again, as often as is asked for."""
        for _ in range(KILLS):
            await self.run_and_kill()

    async def last_ones(self) -> list[HbtdProcess]:
        """Start the last hbtd."""
        last = self.run_hbtd(self.kv_url, self.port)
        await last.url
        self.served.append(Span(reactor.seconds()))
        return [last]

    async def run_and_kill(self) -> None:
        """Run hbtd for a random while, mostly short, at times long enough for a death."""
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
                await self.some_news()
        process.signal(signal.SIGKILL)
        self.kills.append(reactor.seconds())
        if process.url.called and self.served and self.served[-1].end == float("inf"):
            self.served[-1].end = reactor.seconds()
        self.assertEqual(await process.ended, -signal.SIGKILL, process.said)
        self.read(process)
