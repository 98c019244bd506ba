"""A world: a machine of nodes, an hbtd, an HSM, and what goes wrong, all decided by a seed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from random import Random
from typing import Any, cast

from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.web.server import Site

from hbtd.app.service import HbtdService
from hbtd.config.params import Params
from hbtd.runtime.host import Host
from hbtd.simulator.fake_hsm import FakeHSM, Update
from hbtd.simulator.fleet import node_names
from tests.simulation.clock import WorldClock
from tests.simulation.disk import Disk, DiskStore
from tests.simulation.network import Network
from tests.simulation.nodes import Node
from tests.simulation.oracle import Oracle, Violation
from tests.simulation.process import Process, ProcessReactor, ProcessState
from tests.simulation.truth import Truth

_LONGEST_LINE = 500
"""The most characters of a line of hbtd's log in a story."""

HBTD, HSM = "10.0.0.1", "10.0.0.2"
EPOCH = 1_800_000_000.0
QUIET = 150.0
"""Seconds without faults at the end of a world."""


@contextmanager
def logged(truth: Truth) -> Iterator[None]:
    """Return a context manager in whose block hbtd's log is part of the story."""

    def note(event: LogEvent) -> None:
        if event["log_namespace"].startswith("hbtd.") and event["log_level"] is not LogLevel.debug:
            truth.note("log", formatEvent(event)[:_LONGEST_LINE])

    observer = cast("ILogObserver", note)
    globalLogPublisher.addObserver(observer)
    try:
        yield
    finally:
        globalLogPublisher.removeObserver(observer)


class World:
    """One seed's world."""

    def __init__(self, seed: int, nodes: int = 40, seconds: float = 600.0) -> None:
        self.random = Random(seed)
        self.clock = WorldClock()
        self.truth = Truth(lambda: self.clock.now)
        self.seconds = seconds
        self.network = Network(self.clock, self.random)
        self.warntime, self.errtime, self.interval = self.random.choice(
            ((5, 12, 1), (10, 30, 2), (8, 20, 5))
        )
        self.oracle = Oracle(self.warntime, self.errtime, self.interval)
        self.disk = Disk()
        self.failures: list[str] = []
        self.violations: list[Violation] = []
        self.process: Process | None = None
        self.service: HbtdService | None = None
        self._slow = 1.0
        self._wall_offset = 0.0
        self._hsm_ok = True
        self._link_ok = 0
        self._start_hsm()
        self.nodes = [
            Node(
                name,
                number,
                self.clock,
                self.network,
                self.random,
                self.random.uniform(1.0, self.warntime / 3),
                (HBTD, 28500),
                self._node_answered,
                self._fail,
            )
            for number, name in enumerate(node_names(nodes))
        ]

    # Parts

    def _fail(self, failure: Failure) -> None:
        self.failures.append(failure.getTraceback())
        self.truth.note("bug", failure.getErrorMessage())

    def _start_hsm(self) -> None:
        process = Process(self.clock, lambda: 0.0002, self._fail)
        reactor = ProcessReactor(process, self.network, HSM)
        self.hsm = FakeHSM(reactor, on_update=self._told)
        site = Site(self.hsm.resource(), reactor=reactor)
        site.noisy = False
        reactor.listenTCP(27779, site)

    def _told(self, update: Update) -> None:
        for name in update.names:
            self.truth.note("told", f"{name} {update.state}/{update.flag}")
            try:
                # HSM may take long over an update; hbtd can't take back what it has sent.
                self.oracle.told(name, update.state, update.flag, update.received)
            except Violation as violation:
                self.truth.note("wrong", str(violation))
                self.violations.append(violation)

    def _node_answered(self, node: Node) -> None:
        self.truth.note("heard", node.name, story=False)
        self.oracle.answered(node.name, self.clock.now)

    def start_hbtd(self) -> None:
        """Start a process of hbtd."""
        self.truth.note("hbtd", "starts")
        process = Process(self.clock, self._cost, self._fail)
        reactor = ProcessReactor(process, self.network, HBTD)
        host = Host(
            elapsed=process.now,
            wall=lambda: EPOCH + process.now() + self._wall_offset,
            processor=lambda: process.used,
            random=self.random.random,
            name=lambda: "hbtd",
        )
        params = Params(
            kv_url="mem:",
            sm_url=f"http://{HSM}:27779/hsm/v1",
            address=HBTD,
            port=28500,
            tls=False,
            use_telemetry=False,
            warntime=self.warntime,
            errtime=self.errtime,
            interval=self.interval,
        )

        def make_store(
            params: Any, reactor: Any, observed: Any, etcd: Any, judge: str, host: Any
        ) -> DiskStore:
            return DiskStore(
                self.disk, reactor, observed.now, lambda: self.random.uniform(0.0005, 0.02)
            )

        self.service = HbtdService(params, reactor, host=host, make_store=make_store)
        self.process = process
        process.timer(self.service.startService)
        self.clock.after(0.5, self._note_state)

    def _cost(self) -> float:
        return self._slow * self.random.uniform(0.00001, 0.0001)

    def _note_state(self) -> None:
        """Tell the oracle whether hbtd runs, and whether HSM hears it."""
        hears = self.process is not None and self.process.state is ProcessState.RUNNING
        self.oracle.hears.set(self.clock.now, hears)
        self.oracle.works.set(self.clock.now, hears and self._hsm_ok and not self._link_ok)

    # What goes wrong

    def faults(self) -> list[tuple[float, Callable[[], None]]]:
        """Return kinds of faults with their weights."""
        return [
            (6, self._crash),
            (6, self._hang),
            (2, self._slot),
            (3, self._stop_hbtd),
            (2, self._kill_hbtd),
            (3, self._hsm_trouble),
            (2, self._cut_hsm),
            (3, self._cut_nodes),
            (2, self._slow_hbtd),
            (1, self._step_clock),
            (1, self._break_disk),
        ]

    def _later(self, low: float, high: float, call: Callable[[], None]) -> None:
        at = min(self.clock.now + self.random.uniform(low, high), self.seconds)
        self.clock.at(at, call)

    def _crash_node(self, node: Node, power: bool) -> None:
        if not node.alive:
            return
        self.truth.note("crash", f"{node.name} {'loses power' if power else 'is killed'}")
        node.crash(power)
        self.oracle.died(node.name, self.clock.now)

    def _boot(self, node: Node) -> None:
        if node.alive:
            return
        self.truth.note("boot", node.name)
        self.oracle.booted(node.name)
        node.boot()

    def _crash(self) -> None:
        node = self.random.choice(self.nodes)
        self._crash_node(node, self.random.random() < 0.7)
        if self.random.random() < 0.7:
            self._later(0.1, 3 * self.errtime, lambda: self._boot(node))

    def _slot(self) -> None:
        slot = self.random.choice(self.nodes).name.partition("b")[0]
        some = [node for node in self.nodes if node.name.partition("b")[0] == slot]
        for node in some:
            self._crash_node(node, power=True)

        def boot() -> None:
            for node in some:
                self._boot(node)

        self._later(1, 3 * self.errtime, boot)

    def _hang(self) -> None:
        node = self.random.choice(self.nodes)
        if not node.alive or node.hanging:
            return
        self.truth.note("hang", node.name)
        node.hang()

        def wake() -> None:
            self.truth.note("wake", node.name)
            node.wake()

        self._later(0.5, 2 * self.errtime, wake)

    def _stop_hbtd(self) -> None:
        process = self.process
        if process is None or process.state is not ProcessState.RUNNING:
            return
        self.truth.note("hbtd", "is stopped by SIGSTOP")
        process.stop()
        self._note_state()

        def resume() -> None:
            if process.state is ProcessState.STOPPED:
                self.truth.note("hbtd", "goes on")
                process.resume()
                self._note_state()

        self._later(0.2, 2 * self.errtime, resume)

    def _kill_hbtd(self) -> None:
        process = self.process
        if process is None or process.state is ProcessState.DEAD:
            return
        self.truth.note("hbtd", "is killed")
        process.kill()
        self._note_state()
        self._later(0.5, 40, self.start_hbtd)

    def _hsm_trouble(self) -> None:
        if not self._hsm_ok:
            return
        changes = self.random.choice(
            (
                {"ready": False},
                {"database_gone": True},
                {"cost_ms": 400.0},
            )
        )
        self.truth.note("hsm", str(changes))
        self.hsm.behaviour = self.hsm.behaviour.merged(changes)
        self._hsm_ok = False
        self._note_state()

        def mend() -> None:
            self.truth.note("hsm", "is well again")
            self.hsm.behaviour = self.hsm.behaviour.merged(
                {"ready": True, "database_gone": False, "cost_ms": 0.5}
            )
            self._hsm_ok = True
            self._note_state()

        self._later(1, 60, mend)

    def _cut_hsm(self) -> None:
        pair = self.random.choice(((HBTD, HSM), (HSM, HBTD)))
        self.truth.note("network", f"no messages from {pair[0]} to {pair[1]}")
        mend_it = self.network.cut(*pair)
        self._link_ok += 1
        self._note_state()

        def mend() -> None:
            self.truth.note("network", f"messages from {pair[0]} to {pair[1]} again")
            mend_it()
            self._link_ok -= 1
            self._note_state()

        self._later(0.5, 30, mend)

    def _cut_nodes(self) -> None:
        some = self.random.sample(self.nodes, self.random.randint(1, 5))
        seconds = self.random.uniform(0.2, self.warntime / 3)
        self.truth.note(
            "network", f"nothing from {' '.join(node.name for node in some)} for {seconds:.1f} s"
        )
        for node in some:
            mend = self.network.cut(node.host, HBTD)
            self.clock.after(seconds, mend)

    def _slow_hbtd(self) -> None:
        self.truth.note("hbtd", "gets little of a processor")
        self._slow = self.random.uniform(2, 20)

        def mend() -> None:
            self._slow = 1.0

        self._later(5, 40, mend)

    def _step_clock(self) -> None:
        step = self.random.choice((-3600.0, -5.0, 5.0, 3600.0))
        self.truth.note("clock", f"steps by {step:g} s")
        self._wall_offset += step

    def _break_disk(self) -> None:
        self.truth.note("disk", "is full")
        self.disk.broken = True
        before, self._hsm_ok = self._hsm_ok, False
        self._note_state()

        def mend() -> None:
            self.truth.note("disk", "has room again")
            self.disk.broken = False
            self._hsm_ok = before or self._hsm_ok
            self._note_state()

        self._later(1, 30, mend)

    # The story

    def run(self) -> None:
        """Let it all happen; raise `Violation` if hbtd breaks a promise."""
        self.start_hbtd()
        for node in self.nodes:
            self.clock.after(self.random.uniform(0, 5), partial(self._boot, node))
        kinds, weights = zip(*((call, weight) for weight, call in self.faults()), strict=True)
        time = 15.0
        while (time := time + self.random.expovariate(1 / 8)) < self.seconds - 20:
            (call,) = self.random.choices(kinds, weights)
            self.clock.at(time, call)
        end = self.seconds + QUIET
        now = 0.0
        while now < end:
            now = min(now + 5.0, end)
            self.clock.run(now)
            self.oracle.check_deaths(now)
            if self.failures:
                self.violations.append(Violation(f"hbtd has a bug: {self.failures[0]}"))
            if self.violations:
                raise self.violations[0]
        self.oracle.check_rest({node.name: node.alive for node in self.nodes})
