"""The etcd of a world: one member, with a process, a disk, and troubles."""

from collections.abc import Callable
from random import Random

from twisted.python.failure import Failure

from hbtd.store.etcd_format import LOCK
from tests.simulation.clock import WorldClock
from tests.simulation.network import Network
from tests.simulation.process import Process, ProcessReactor
from tests.simulation.sites import WorldSite
from tests.support.etcd_gateway import EtcdGateway
from tests.support.etcd_state import EtcdState

ETCD = "10.0.0.3"
PORT = 2379

_EXPIRY = 0.5
"""Seconds between two looks at leases, as in a real etcd."""


class Etcd:
    """An etcd whose keys outlive its processes."""

    def __init__(
        self,
        clock: WorldClock,
        network: Network,
        random: Random,
        fail: Callable[[Failure], None],
    ) -> None:
        """Make it, and start a process."""
        self.state = EtcdState(lambda: clock.now)
        self.delay = 0.0
        """The most seconds by which an answer is late."""
        self.lossy = 0.0
        """The share of requests that are not answered although they take effect."""
        self._clock = clock
        self._network = network
        self._random = random
        self._fail = fail
        self._askers: dict[bytes, str] = {}
        self._process: Process | None = None
        self._remains: list[Process] = []
        self.start()
        self._expire()

    @property
    def running(self) -> bool:
        """Whether there is a process."""
        return self._process is not None

    @property
    def healthy(self) -> bool:
        """Whether it runs, answers fast, and takes writes."""
        return (
            self._process is not None
            and not self.state.full
            and self.delay < 0.05
            and self.lossy == 0.0
        )

    def start(self) -> None:
        """Start a process, unless one runs."""
        if self._process is not None:
            return
        self._network.appear(ETCD)
        process = self._process = Process(self._clock, self._cost, self._fail)
        reactor = ProcessReactor(process, self._network, ETCD)
        gateway = EtcdGateway(
            self.state,
            reactor,
            lambda: self._random.uniform(0.0, self.delay) if self.delay else 0.0,
            lambda: bool(self.lossy) and self._random.random() < self.lossy,
            self._asked,
        )
        site = WorldSite(gateway, reactor)
        reactor.listenTCP(PORT, site)
        self.state.extend_leases()

    def kill(self, power: bool = False) -> None:
        """Kill the process, or its host; what was answered is on the disk."""
        if self._process is not None:
            process, self._process = self._process, None
            self._remains.append(process)
            if power:
                process.lose_power()
                self._network.vanish(ETCD)
            else:
                process.kill()
            self.state.leave()

    def leads(self) -> str | None:
        """Return the host that holds the replicas' lock, `None` if nobody does."""
        holder = self.state.holder(LOCK)
        return None if holder is None else self._askers.get(holder)

    def _asked(self, key: bytes, host: str) -> None:
        self._askers[key] = host

    def _cost(self) -> float:
        return self._random.uniform(0.0001, 0.001)

    def _expire(self) -> None:
        if self._process is not None:
            self.state.advance()
        self._clock.after(_EXPIRY, self._expire)
