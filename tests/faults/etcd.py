"""Three replicas on etcd, killed with SIGKILL a hundred times, most often the leader."""

import signal
from unittest import skipIf

from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from hbtd.replicas.election import LEASE
from hbtd.replicas.hearing import SILENCE
from tests.support.etcd_server import EtcdServer, why_not
from tests.support.fault_story import INTERVAL, KILLS, LATE, Span, Story
from tests.support.processes import HbtdProcess
from tests.support.running import reactor, until
from tests.support.server_process import free_ports

REPLICAS = 3
EXPIRED = LEASE + 2.0
"""Seconds after a kill by which the lease has expired, and with it the lock and the presence.

etcd checks leases only now and then, and the next leader has to notice.
"""
CALM = EXPIRED + SILENCE
"""Seconds after a kill by which silence is judged again.

Observed time stands still while a replica's sign of life is missing, and is held back by as much
as that went unnoticed.
"""


@skipIf(why_not() is not None, why_not() or "")
class EtcdTests(Story):
    """The story with three replicas, each of which has its own nodes."""

    # A replica's absence is noticed after `SILENCE`; its nodes must not be overdue before that.
    warntime, errtime = 5, 8
    reviving = 0.02
    settling = CALM + 5.0
    delay = 1.5

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        """Start an empty etcd."""
        super().setUp()
        self.etcd = EtcdServer()
        self.addCleanup(deferToThread, self.etcd.close)
        await deferToThread(self.etcd.start)
        self.ports = free_ports(REPLICAS)
        self.replicas: dict[int, HbtdProcess] = {}
        self.led = 0

    async def test_killed_again_and_again(self) -> None:
        """HSM ends up correct, and never gets a false warning or death after a kill."""
        for port in self.ports:
            self.replicas[port] = self.run_hbtd(self.etcd.address, port)
        for process in self.replicas.values():
            await process.url
        self.served.append(Span(reactor.seconds() + EXPIRED))
        await self.play(self.ports)

    async def kill_again_and_again(self) -> None:
        """Kill the leader just when it acts, and then other replicas; wait for a new leader.

        Every fourth round waits until silent nodes have been judged.
        """
        kills = rounds = 0
        while kills < KILLS:
            rounds += 1
            await until(self.leaders, within=CALM + 10.0)
            if rounds % 4 == 0:
                seen = self.errtime + INTERVAL + LATE
                await deferLater(reactor, CALM + seen + self.random.uniform(0.0, 4.0))
            else:
                await deferLater(reactor, self.random.uniform(0.0, 2.0))
            await self.an_update()
            leaders = self.leaders()
            first = leaders[0] if leaders and self.random.random() < 0.8 else None
            more = min(self.random.randint(3, 7), KILLS - kills)
            for number in range(more):
                port = first if number == 0 and first else self.random.choice(self.ports)
                await self.kill(port)
                kills += 1
                await deferLater(reactor, self.random.uniform(0.0, 1.2))
        print(f"\n{self.led} of {kills} kills were of the leader")

    async def last_ones(self) -> list[HbtdProcess]:
        """Wait until all replicas serve."""
        for process in self.replicas.values():
            await process.url
        return list(self.replicas.values())

    def leaders(self) -> list[int]:
        """Return the ports of the replicas that lead by their own logs: one, or none."""
        return [port for port, process in self.replicas.items() if _leads(process)]

    async def kill(self, port: int) -> None:
        """Kill a replica and restart it."""
        process = self.replicas[port]
        process.url.addErrback(lambda failure: None)
        self.led += _leads(process)
        self.served[-1].end = min(self.served[-1].end, reactor.seconds())
        process.signal(signal.SIGKILL)
        self.kills.append(reactor.seconds())
        self.assertEqual(await process.ended, -signal.SIGKILL, process.said)
        self.read(process)
        self.served.append(Span(reactor.seconds() + CALM))
        self.replicas[port] = self.run_hbtd(self.etcd.address, port)


def _leads(process: HbtdProcess) -> bool:
    began = process.said.rfind("This replica leads now.")
    return began > process.said.rfind("This replica no longer leads.")
