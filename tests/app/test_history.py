"""The log of transitions, in hbtd as a whole."""

import socket
from math import inf

from twisted.trial.unittest import SynchronousTestCase

from hbtd.app.service import HbtdService
from hbtd.config.command_line import HbtdOptions
from tests.support.crashing import World
from tests.support.hsm_memory import DIED, STARTED, WARNED, nodes
from tests.support.http_memory import HEARTBEAT, MemoryReactor, loopback_request
from tests.support.store_log_contract import EVERYTHING

MANY = 2000
"""How many components die while HSM is away."""


class ServiceTests(SynchronousTestCase):
    """The service on a reactor in memory."""

    def start(self, *arguments: str) -> HbtdService:
        """Start the service."""
        options = HbtdOptions({})
        options.parseOptions(["--kv_url=mem:", "--use_telemetry=no", "--nosm", *arguments])
        self.reactor = MemoryReactor()
        service = HbtdService(options.params, self.reactor)
        service.startService()
        self.addCleanup(self.stop, service)
        return service

    def stop(self, service: HbtdService) -> None:
        """Stop the service."""
        stopped = service.stopService()
        self.reactor.pump([0.1] * 10)
        self.successResultOf(stopped)

    def restart_a_node(self, service: HbtdService, times: int) -> None:
        """Let one component start, and be forgotten, several times."""
        factory = self.reactor.tcpServers[0][1]
        for _ in range(times):
            loopback_request(factory, "POST", "/v1/heartbeat", HEARTBEAT)
            self.reactor.pump([0.1] * 3)
            service.monitor.forget(str(HEARTBEAT["Component"]))
            self.reactor.pump([0.1] * 3)

    def test_logged(self):
        """A component's start is logged, with this replica's host and port, and counted."""
        service = self.start("--tls=no", "--port=12345")
        self.restart_a_node(service, 1)
        (entry,) = self.successResultOf(service.store.log(0, 9))
        self.assertEqual(entry.judge, f"{socket.gethostname()}:12345")
        self.assertEqual(entry.judgement.transition, STARTED)
        metrics = loopback_request(self.reactor.tcpServers[0][1], "GET", "/metrics").body.decode()
        self.assertIn(f"\nhbtd_history_last_number {float(entry.number)}\n", metrics)
        self.assertIn("\nhbtd_history_entries 1.0\n", metrics)

    def test_trimmed(self):
        """The log is trimmed while hbtd runs, and no longer once it has stopped."""
        service = self.start("--tls=no", "--history=0")
        self.restart_a_node(service, 5)
        last = service.store.last_number()
        self.assertEqual(len(self.successResultOf(service.store.log(0, 9))), 5)
        self.successResultOf(service.store.move_cursor("kafka", last))
        self.reactor.pump([1.0] * 61)
        (entry,) = self.successResultOf(service.store.log(0, 9))
        self.assertEqual(entry.number, last)


class AwayTests(SynchronousTestCase):
    """HSM is away while many components die."""

    def test_many_die(self):
        """All are told afterwards: nothing that HSM has yet to acknowledge was trimmed."""
        names = nodes(MANY)
        world = World(dict.fromkeys(names, 1e9), warntime=2, errtime=4, interval=1)
        process = world.up()
        world.start(*names)
        world.advance(1)
        world.hsm.behaviour.database_gone = True
        world.silence(*names)
        for _ in range(3):
            world.advance(3)
            store = process.store
            self.successResultOf(store.trim(inf, 0, store.last_number()))
        log = self.successResultOf(store.log(0, EVERYTHING))
        self.assertEqual(
            {(each.judgement.component, each.judgement.transition) for each in log},
            {(name, DIED) for name in names},
        )
        self.assertEqual(len(self.successResultOf(store.undelivered())), MANY)
        world.hsm.behaviour.database_gone = False
        for _ in range(60):
            world.advance(1)
            if not self.successResultOf(store.undelivered()):
                break
        self.assertEqual({name for name in names if world.kinds(name)[-1:] != [DIED]}, set())
        self.assertEqual(
            {kind for name in names for kind in world.kinds(name)} - {STARTED, WARNED, DIED}, set()
        )
