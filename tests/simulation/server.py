"""A host of the world on which an hbtd runs, one process after the other."""

from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

from twisted.internet.base import DelayedCall
from twisted.python.failure import Failure

from hbtd.app.service import HbtdService
from hbtd.app.stores import StoreFactory
from hbtd.config.params import Params
from hbtd.runtime.host import Host
from tests.simulation.clock import WorldClock
from tests.simulation.network import Network
from tests.simulation.process import Process, ProcessReactor, ProcessState
from tests.simulation.telemetry import Telemetry
from tests.simulation.truth import Truth

PORT = 28500
EPOCH = 1_800_000_000.0


class Server:
    """The processes of hbtd on one host, of which one runs at a time, or none."""

    def __init__(
        self,
        name: str,
        host: str,
        params: Params,
        make_store: StoreFactory,
        clock: WorldClock,
        network: Network,
        random: Random,
        truth: Truth,
        fail: Callable[[Failure], None],
        changed: Callable[[], None],
        telemetry: Telemetry | None = None,
    ) -> None:
        """Make the host; `changed` is called when hbtd was killed, was stopped, or goes on."""
        self.name = name
        self.host = host
        self.params = params
        self.slow = 1.0
        """How many times as long as usual everything takes."""
        self.wall_offset = 0.0
        """By how many seconds the host's clock is wrong."""
        self.on_start: Callable[[], object] = lambda: None
        """Called when a process begins."""
        self.process: Process | None = None
        self.service: HbtdService | None = None
        self._remains: list[object] = []
        self._make_store = make_store
        self._clock = clock
        self._network = network
        self._random = random
        self._truth = truth
        self._fail = fail
        self._changed = changed
        self._telemetry = telemetry

    @property
    def alive(self) -> bool:
        """Whether there is a process, running or stopped."""
        return self.process is not None and self.process.state is not ProcessState.DEAD

    @property
    def running(self) -> bool:
        """Whether a process runs."""
        return self.process is not None and self.process.state is ProcessState.RUNNING

    @property
    def hears(self) -> bool:
        """Whether a process runs, and listens."""
        port = self._network.port_at(self.host, PORT)
        return self.running and port is not None and port.reading

    def start(self) -> None:
        """Start a process, unless there is one."""
        if self.alive:
            return
        self._truth.note("hbtd", f"{self.name} starts")
        self._network.appear(self.host)
        self._remains.append((self.process, self.service))
        process = self.process = Process(self._clock, self._cost, self._fail)
        reactor = self._reactor = ProcessReactor(process, self._network, self.host)
        self._remains.append(reactor)
        self._begin(process, reactor)
        self.on_start()

    def _begin(self, process: Process, reactor: ProcessReactor) -> None:
        """Begin what the process does."""
        host = Host(
            elapsed=process.now,
            wall=lambda: EPOCH + process.now() + self.wall_offset,
            processor=lambda: process.used,
            random=self._random.random,
            name=lambda: self.name,
        )
        kafka: dict[str, Any] = {}
        if self._telemetry is not None:
            kafka["connect_kafka"] = partial(self._telemetry.connect, process, self.host)
            kafka["background"] = self._telemetry.background(process)
        service = self.service = HbtdService(
            self.params, reactor, host=host, make_store=self._make_store, **kafka
        )
        process.timer(service.startService)

    def delayed_calls(self) -> list[DelayedCall]:
        """Return what the process is to do later."""
        return self._reactor.getDelayedCalls()

    def _cost(self) -> float:
        return self.slow * self._random.uniform(0.00001, 0.0001)

    def kill(self) -> None:
        """Send SIGKILL."""
        if self.process is not None and self.alive:
            self._truth.note("hbtd", f"{self.name} is killed")
            self.process.kill()
            self._changed()

    def vanish(self) -> None:
        """End the process with its host, so that nobody is told."""
        if self.process is not None and self.alive:
            self._truth.note("hbtd", f"{self.name} vanishes with its host")
            self.process.lose_power()
            self._network.vanish(self.host)
            self._changed()

    def stop(self) -> None:
        """Send SIGSTOP."""
        if self.process is not None and self.running:
            self._truth.note("hbtd", f"{self.name} is stopped by SIGSTOP")
            self.process.stop()
            self._changed()

    def resume(self) -> None:
        """Send SIGCONT."""
        if self.process is not None and self.process.state is ProcessState.STOPPED:
            self._truth.note("hbtd", f"{self.name} goes on")
            self.process.resume()
            self._changed()

    def end(self, done: Callable[[], object]) -> None:
        """Send SIGTERM; call `done` when the process has ended."""
        process, service = self.process, self.service
        if process is None or service is None or not self.running:
            done()
            return
        self._truth.note("hbtd", f"{self.name} is stopped by SIGTERM")

        def ended(_: object) -> None:
            if process.state is not ProcessState.DEAD:
                self._truth.note("hbtd", f"{self.name} has ended")
                process.kill()
                self._changed()
                done()

        process.timer(lambda: service.stopService().addBoth(ended))
