"""Real agents of nodes, an hbtd that is killed, stopped and frozen, and the two promises."""

import signal
from pathlib import Path

from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from hbtd.simulator.fleet import node_names
from tests.support.agent import AgentProcess, spawn_agent
from tests.support.certificates import make_identity, write_identity
from tests.support.processes import HbtdProcess, spawn
from tests.support.running import reactor, start_hsm, until
from tests.support.server_process import free_ports

NODES, WARNTIME, ERRTIME = 100, 6, 12


class AgentsTests(TestCase):
    """A hundred nodes with hbtd-agent."""

    timeout = 240

    async def test_promises(self) -> None:
        """No node with an agent is warned about, whatever befalls hbtd; each that dies is told."""
        self.hsm = start_hsm(self)
        self.folder = Path(self.mktemp()).absolute()
        self.cert, self.key = write_identity(make_identity("localhost"), self.folder)
        (self.port,) = free_ports(1)
        self.names = node_names(NODES)
        agents = {name: self.agent(name) for name in self.names}
        hbtd = await self.start()
        await until(lambda: self.told("Ready") == set(self.names), within=60)
        for trouble, seconds in (
            (signal.SIGTERM, 0.0),
            (signal.SIGKILL, 10.0),
            (signal.SIGSTOP, 10.0),
        ):
            hbtd.signal(trouble)
            if trouble == signal.SIGSTOP:
                await deferLater(reactor, seconds)
                hbtd.signal(signal.SIGCONT)
            else:
                await hbtd.ended
                await deferLater(reactor, seconds)
                hbtd = await self.start()
            # hbtd waits Warntime at most, and would warn Warntime later, at its next sweep.
            await deferLater(reactor, 2 * WARNTIME + 2)
            self.assertEqual(self.told("Standby"), set())
            self.assertEqual(self.alarms(), [], (trouble, seconds))
        await self.dies(agents)
        for name, agent in agents.items():
            self.assertLessEqual(len(agent.said.splitlines()), 14, (name, agent.said))

    async def dies(self, agents: dict[str, AgentProcess]) -> None:
        """Kill some agents, and see that HSM is told of these deaths in time, and of no others."""
        dead = set(self.names[:5])
        began = reactor.seconds()
        for name in dead:
            agents.pop(name).finish()
        await until(lambda: self.told("Standby") == dead, within=ERRTIME + 3)
        self.assertGreater(reactor.seconds() - began, ERRTIME - WARNTIME / 3 - 1)
        self.assertEqual({name for _, name in self.alarms()}, dead)

    def agent(self, name: str) -> AgentProcess:
        """Start the agent of a node."""
        options = [f"--url=https://localhost:{self.port}", f"--ca={self.cert}", "--nid=1"]
        return spawn_agent(self, [*options, f"--xname={name}"])

    async def start(self) -> HbtdProcess:
        """Start hbtd on the same store and port."""
        hbtd = spawn(
            self,
            [
                *("-m", "hbtd", "--use_telemetry=no", f"--sm_url={self.hsm.url}"),
                *(f"--kv_url=sqlite:{self.folder}/hbtd.sqlite", f"--port={self.port}"),
                *(f"--tls_cert={self.cert}", f"--tls_key={self.key}"),
                *(f"--warntime={WARNTIME}", f"--errtime={ERRTIME}", "--interval=1"),
            ],
        )
        await hbtd.url
        return hbtd

    def told(self, state: str) -> set[str]:
        """Return the components that HSM has in a state."""
        return {name for name, each in self.hsm.hsm.components.items() if each.state == state}

    def alarms(self) -> list[tuple[str, str]]:
        """Return what HSM was told of silence."""
        return [
            (update.flag, name)
            for update in self.hsm.hsm.updates
            if update.flag in ("Warning", "Alert")
            for name in update.names
        ]
