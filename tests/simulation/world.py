"""A world: a machine of nodes, hbtd, an HSM, and what goes wrong, all decided by a seed."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from random import Random
from typing import Any, TypeVar, cast

from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.python.failure import Failure

from hbtd.app.stores import StoreFactory
from hbtd.config.params import Params
from hbtd.simulator.bulk_update import Update
from hbtd.simulator.fleet import node_names
from tests.simulation.clock import WorldClock
from tests.simulation.hsm import LONGEST_STALL, USUAL, WorldHSM
from tests.simulation.network import Network, divided
from tests.simulation.nodes import Node
from tests.simulation.oracle import CONTESTED, Oracle, Promise, Violation
from tests.simulation.process import Process, ProcessReactor
from tests.simulation.replica_oracle import ReplicaOracle
from tests.simulation.rules import Rule
from tests.simulation.server import PORT, Server
from tests.simulation.sites import WorldSite
from tests.simulation.tampering import SYNC, Tampering
from tests.simulation.telemetry import ADDRESS, Telemetry
from tests.simulation.telemetry_oracle import TelemetryOracle
from tests.simulation.troubles import Troubles
from tests.simulation.truth import Truth

_Server = TypeVar("_Server", bound=Server)

_LONGEST_LINE = 500
"""The most characters of a line of hbtd's log in a story."""

HSM = "10.0.0.2"

_FIRST_WITH_HAZARDS = 20_000
"""The first seed whose world may have hazards; those before were known when none had any."""


_LAST_STALL = 60.0
"""Seconds before the end of what goes wrong at which HSM begins to stall for the last time."""

_LAST_DEATH = 10.0
"""Seconds after all that goes wrong at which a node dies for good."""

_AT_REST = 20.0
"""Seconds at the end of a world in which all has to work."""

_BETWEEN_HAZARDS = 25.0
"""Seconds between two hazards, on average."""


@contextmanager
def logged(world: "World") -> Iterator[None]:
    """Return a context manager in whose block hbtd's log is part of a world's story.

    A failure that is logged as critical is one that nothing else has caught.
    """

    def note(event: LogEvent) -> None:
        ours = event["log_namespace"].startswith("hbtd.")
        if ours and event["log_level"] is not LogLevel.debug:
            world.truth.note("log", formatEvent(event)[:_LONGEST_LINE])
        # Twisted logs what nobody has handled of a Deferred.
        unhandled = event["log_namespace"].startswith("twisted.internet.defer")
        critical = event["log_level"] is LogLevel.critical and "log_failure" in event
        if critical and (ours or unhandled):
            world.fail(event["log_failure"])

    observer = cast("ILogObserver", note)
    globalLogPublisher.addObserver(observer)
    try:
        yield
    finally:
        globalLogPublisher.removeObserver(observer)


class World:
    """One seed's world; subclasses say what runs in it."""

    quiet = 150.0
    """Seconds without faults at the end of the world."""

    tampered = 0.67
    """In what share of worlds others than hbtd write in HSM's table."""

    compared = False
    """Whether hbtd compares HSM's table also if others leave it alone.

    It would hide what hbtd itself has told HSM wrongly, or not at all.
    """

    stalls_last = 0.5
    """In what share of worlds HSM stalls until all else is well: late words are the last ones."""

    between_faults = 8.0
    """After how many seconds, on average, something else goes wrong."""

    between_tampering = 25.0
    """After how many seconds, on average, they do so again."""

    options = ""
    """What `make simulate` takes besides a seed, to run such a world again."""

    def __init__(
        self,
        seed: int,
        rules: Sequence[tuple[int, int, int]],
        make_oracle: Callable[[int, int, int], Oracle],
        others: Sequence[str] = (HSM,),
        nodes: int = 40,
        seconds: float = 600.0,
        kafka: bool = True,
        with_faults: bool = True,
    ) -> None:
        """Make a world with one of some triples of Warntime, Errtime and Interval.

        `others` are the hosts that hbtd connects to; `kafka` says whether hbtd publishes on a
        Kafka; `with_faults`, whether anything goes wrong.
        """
        self.seed = seed
        self.with_faults = with_faults
        # The oracle of Kafka knows neither other rules nor other timestamps.
        hazards = [self.hazard(name, 0.5) for name in ("rules", "troubles")]
        kafka = kafka and hazards == [None, None]
        self.random = Random(seed)
        self.clock = WorldClock()
        self.truth = Truth(lambda: self.clock.now)
        self.seconds = seconds
        self.network = Network(self.clock, self.random)
        self.network.on_listen = self._listens
        pieces = self.hazard("pieces", 0.5)
        if pieces is not None:
            self.truth.note("network", "divides what is sent at once")
            self.network.pieces = partial(divided, pieces)
        self.warntime, self.errtime, self.interval = self.random.choice(rules)
        self.oracle = make_oracle(self.warntime, self.errtime, self.interval)
        self.telemetry_oracle = TelemetryOracle(
            self.oracle, self.warntime, self.errtime, isinstance(self.oracle, ReplicaOracle)
        )
        self.telemetry: Telemetry | None = None
        if kafka:
            self.telemetry = Telemetry(
                seed,
                self.clock,
                self.network,
                self.truth,
                self.telemetry_oracle,
                self.check,
                self.may_publish,
            )
        self.failures: list[str] = []
        self.violations: list[Violation] = []
        self.servers: list[Server] = []
        self.hsm_ok = True
        random = self.hazard("troubles", 0.5)
        self._troubles = None if random is None else Troubles(self, random, others)
        self._start_hsm()
        self.tampering = Tampering(
            seed, self.clock, self.hsm, node_names(nodes), self.truth, self.tampered
        )
        self.oracle.compared = self.compared or self.tampering.happens
        self.nodes = [
            Node(
                name,
                number,
                self.clock,
                self.network,
                self.random,
                self.random.uniform(1.0, self.warntime / self.random.choice((3.0, 1.7))),
                self.choose,
                self.node_answered,
                self.fail,
            )
            for number, name in enumerate(node_names(nodes))
        ]
        for node in self.nodes:
            node.on_beat = partial(self._beats, node.name)
        self._names = {node.host: node.name for node in self.nodes}
        self.network.on_late = self._late
        # When updates arrived at HSM that had to be sent again, and when they were sent first.
        self._late_updates: deque[tuple[float, float]] = deque(maxlen=10)
        self.truth.state = self.state

    # What subclasses say

    def choose(self, node: Node) -> str:
        """Return the host to which a node connects now."""
        raise NotImplementedError

    def node_answered(self, node: Node, host: str) -> None:
        """Note that a node's heartbeat was answered by a host."""
        raise NotImplementedError

    def may_publish(self, host: str) -> bool:
        """Return whether the hbtd on a host may give messages to Kafka."""
        return True

    def note_state(self) -> None:
        """Tell the oracle what works at the moment."""
        raise NotImplementedError

    def faults(self) -> list[tuple[float, Callable[[], None]]]:
        """Return kinds of faults with their weights."""
        raise NotImplementedError

    def vanishes(self, server: Server) -> None:
        """Note that a server's host is about to lose its power."""
        raise NotImplementedError

    def hazards(self) -> list[tuple[float, Callable[[], None]]]:
        """Return kinds of faults, with their weights, that only some seeds have.

        They take their chances from sources of their own, see `hazard`.
        """
        return [] if self._troubles is None else self._troubles.faults()

    def reaches(self, host: str, other: str) -> bool:
        """Return whether a host reaches another one, and is reached by it, without trouble."""
        if self._troubles is not None and self._troubles.hinders(host, other):
            return False
        return self.network.passes(host, other) and self.network.passes(other, host)

    def hazard(self, name: str, share: float) -> Random | None:
        """Return a source of chance for a hazard, `None` if this world does not have it."""
        random = Random(f"{name} {self.seed}")
        has_it = random.random() < share and self.seed >= _FIRST_WITH_HAZARDS and self.with_faults
        return random if has_it else None

    def state(self) -> str:
        """Return in a few words what works, whether hbtd owes HSM anything, and who is silent."""
        running = [server for server in self.servers if server.running]
        owes = any(
            server.service is not None and server.service.core.notifier.pending_count
            for server in running
        )
        silent = any(not node.alive or node.hanging for node in self.nodes)
        return (
            f"HSM is {'well' if self.hsm_ok else 'in trouble'}, {len(running)} of"
            f" {len(self.servers)} hbtd run, {'something' if owes else 'nothing'} is owed,"
            f" {'some nodes are silent' if silent else 'all nodes beat'}"
        )

    # Parts

    def fail(self, failure: Failure) -> None:
        """Note an exception that nothing has caught."""
        message = repr(failure.value)
        self.failures.append(f"{message}\n{failure.getTraceback()}")
        self.truth.note("bug", failure.getErrorMessage())

    def _params(self, address: str, kv_url: str) -> Params:
        return Params(
            kv_url=kv_url,
            sm_url=f"http://{HSM}:27779/hsm/v1",
            address=address,
            port=PORT,
            tls=False,
            use_telemetry=self.telemetry is not None,
            telemetry_host="" if self.telemetry is None else ADDRESS,
            warntime=self.warntime,
            errtime=self.errtime,
            interval=self.interval,
            sm_sync=SYNC if self.oracle.compared else 0,
        )

    def server(self, name: str, host: str, kv_url: str, make_store: StoreFactory) -> Server:
        """Return a host of hbtd, on which it does not run yet."""
        return self.make_server(Server, name, host, kv_url, make_store)

    def make_server(
        self, kind: type[_Server], name: str, host: str, kv_url: str, make_store: StoreFactory
    ) -> _Server:
        """Return a host of this world, of some kind, on which nothing runs yet."""
        return kind(
            name,
            host,
            self._params(host, kv_url),
            make_store,
            self.clock,
            self.network,
            self.random,
            self.truth,
            self.fail,
            self.note_state,
            self.telemetry,
        )

    def _start_hsm(self) -> None:
        process = Process(self.clock, lambda: 0.0002, self.fail)
        reactor = ProcessReactor(process, self.network, HSM)
        self.hsm = WorldHSM(reactor, self.told, self.random)
        site = WorldSite(self.hsm.resource(), reactor)
        reactor.listenTCP(27779, site)

    def _listens(self) -> None:
        if self.servers:
            self.note_state()

    def _beats(self, name: str, number: int) -> None:
        self.telemetry_oracle.beats(name, number, self.clock.now)

    def told(self, update: Update) -> None:
        """Tell the oracle what HSM is told."""
        calm = self.oracle.calm(self.clock.now)
        for name in update.names:
            self.telemetry_oracle.told(name, update.state, update.flag, calm)
            if self.oracle.word(name) != f"{update.state}/{update.flag}".lower():
                self.tampering.told_new(name)
            elif self.hsm_ok and not self.oracle.may_repeat(name, self.clock.now):
                # An HSM that stalls is told again what it has not acknowledged.
                self.tampering.again[name] += 1
                self.check(partial(self.oracle.check_again, name, self.tampering.again[name]))
            self.truth.note("told", f"{name} {update.state}/{update.flag}")
            # HSM may take long over an update; hbtd can't take back what it has sent.
            times = update.received, self._sent_at(update)
            self.check(partial(self.oracle.told, name, update.state, update.flag, *times))

    def check(self, call: Callable[[], None]) -> None:
        """Note the violation that a call of the oracle finds, if any."""
        try:
            call()
        except Violation as violation:
            self.truth.note("wrong", str(violation))
            self.violations.append(violation)

    # What goes wrong

    def later(self, low: float, high: float, call: Callable[[], None]) -> None:
        """Have something happen after some seconds, between two bounds."""
        at = min(self.clock.now + self.random.uniform(low, high), self.seconds)
        self.clock.at(at, call)

    def machine_faults(self) -> list[tuple[float, Callable[[], None]]]:
        """Return the faults of nodes."""
        return [(6, self._crash), (6, self._hang), (2, self._slot)]

    def _crash_node(self, node: Node, power: bool) -> None:
        if not node.alive:
            return
        self.truth.note("crash", f"{node.name} {'loses power' if power else 'is killed'}")
        node.crash(power)
        self.oracle.died(node.name, self.clock.now)

    def _late(self, source: str, target: str, sent: float) -> None:
        name = self._names.get(source)
        if name is not None:
            self.oracle.late(name, self.clock.now)
        elif target == HSM:
            self._late_updates.append((self.clock.now, sent))

    def _sent_at(self, update: Update) -> float | None:
        """Return when an update was sent first that a network has lost; `None` if none has."""
        late = [
            sent
            for arrived, sent in self._late_updates
            if arrived <= update.received <= arrived + 1.0
        ]
        return min(late, default=None)

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
            self.later(0.1, 3 * self.errtime, lambda: self._boot(node))

    def _slot(self) -> None:
        slot = self.random.choice(self.nodes).name.partition("b")[0]
        some = [node for node in self.nodes if node.name.partition("b")[0] == slot]
        self.power(some, None)

    def power(self, nodes: Sequence[Node], seconds: float | None) -> None:
        """Have nodes lose their power, for some seconds, or as long as chance says."""
        for node in nodes:
            self._crash_node(node, power=True)

        def boot() -> None:
            for node in nodes:
                self._boot(node)

        if seconds is None:
            self.later(1, 3 * self.errtime, boot)
        else:
            self.later(seconds, seconds, boot)

    def silence(self, nodes: Sequence[Node], seconds: float) -> None:
        """Lose what nodes send, and what is sent to them, for some seconds."""
        names = " ".join(node.name for node in nodes)
        self.truth.note("network", f"nothing from or to {names} for {seconds:.1f} s")
        mends = [self.network.cut(node.host, "*") for node in nodes]
        mends += [self.network.cut("*", node.host) for node in nodes]

        def mend() -> None:
            for each in mends:
                each()

        self.later(seconds, seconds, mend)

    def _hang(self) -> None:
        node = self.random.choice(self.nodes)
        if not node.alive or node.hanging:
            return
        self.truth.note("hang", node.name)
        node.hang()

        def wake() -> None:
            self.truth.note("wake", node.name)
            node.wake()

        self.later(0.5, 2 * self.errtime, wake)

    def hsm_trouble(self) -> None:
        """Have HSM be away, or slow, for a while."""
        if not self.hsm_ok:
            return
        changes = self.random.choice(
            (
                {"ready": False},
                {"database_gone": True},
                {"cost_ms": 400.0},
                {"stalls": True},
                {"refuse": [node.name for node in self.random.sample(self.nodes, 2)]},
            )
        )
        self._have_hsm(changes, 1, 60)

    def _have_hsm(self, changes: Mapping[str, Any], low: float, high: float) -> None:
        """Have HSM, which is well, be in trouble for some seconds."""
        self.truth.note("hsm", str(changes))
        self.hsm.change(changes)
        self.hsm_ok = False
        self.note_state()
        began = self.clock.now

        def mend() -> None:
            self.truth.note("hsm", "is well again")
            self.hsm.change(USUAL)
            for name in changes.get("refuse", ()):
                self.oracle.refused(name, self.clock.now - began)
            # Updates that were stalled still take effect for a while.
            self.clock.after(LONGEST_STALL if "stalls" in changes else 0.0, well)

        def well() -> None:
            self.hsm_ok = True
            self.note_state()

        self.later(low, high, mend)

    def _stall_last(self, random: Random) -> None:
        """Have HSM stall while some nodes fall silent again and again, until all is at rest."""
        if not self.hsm_ok:
            return
        self.truth.note("hsm", "stalls, as some nodes flap")
        self.hsm.change({"stalls": True})
        self.hsm_ok = False
        self.note_state()
        for node in random.sample(self.nodes, len(self.nodes) // 3):
            self._flap(node, random)

        def mend() -> None:
            self.truth.note("hsm", "is well again")
            self.hsm.change(USUAL)
            self.clock.after(LONGEST_STALL, well)

        def well() -> None:
            self.hsm_ok = True
            self.note_state()

        self.clock.at(self.seconds, mend)

    def _flap(self, node: Node, random: Random) -> None:
        """Have a node fall silent, often until it is warned about, and come back."""
        if self.clock.now >= self.seconds or node.hanging:
            return
        node.hang()
        silent = random.uniform(1.0, 1.5) * (self.warntime + self.interval)

        def wake() -> None:
            node.wake()
            self.clock.after(random.uniform(1, 15), lambda: self._flap(node, random))

        self.clock.after(silent, wake)

    def cut(self, source: str, target: str, low: float, high: float) -> None:
        """Lose all messages from one host to another for some seconds."""
        self.truth.note("network", f"no messages from {source} to {target}")
        mend_it = self.network.cut(source, target)
        self.note_state()

        def mend() -> None:
            self.truth.note("network", f"messages from {source} to {target} again")
            mend_it()
            self.note_state()

        self.later(low, high, mend)

    def cut_nodes(self, host: str) -> None:
        """Lose what some nodes send to a host, for a moment."""
        some = self.random.sample(self.nodes, self.random.randint(1, 5))
        seconds = self.random.uniform(0.2, self.warntime / 3)
        self.truth.note(
            "network", f"nothing from {' '.join(node.name for node in some)} for {seconds:.1f} s"
        )
        for node in some:
            mend = self.network.cut(node.host, host)
            self.clock.after(seconds, mend)

    def slow(self, server: Server) -> None:
        """Give a server little of a processor for some seconds."""
        self.truth.note("hbtd", f"{server.name} gets little of a processor")
        server.slow = self.random.uniform(2, 20)

        def mend() -> None:
            server.slow = 1.0

        self.later(5, 40, mend)

    # The story

    def _schedule_hazards(self) -> None:
        some = self.hazards()
        if not some:
            return
        kinds, weights = zip(*((call, weight) for weight, call in some), strict=True)
        random, time = Random(f"hazards {self.seed}"), 15.0
        while (time := time + random.expovariate(1 / _BETWEEN_HAZARDS)) < self.seconds - 20:
            (call,) = random.choices(kinds, weights)
            self.clock.at(time, call)

    def start_servers(self) -> None:
        """Start hbtd on its hosts when the world begins."""
        for server in self.servers:
            server.start()

    def _die_last(self) -> None:
        """Take the power from a node for good, while all is well: its death has to be told soon."""
        living = [node for node in self.nodes if node.alive]
        if living:
            self._crash_node(Random(f"last death {self.seed}").choice(living), power=True)

    def _schedule_faults(self) -> None:
        kinds, weights = zip(*((call, weight) for weight, call in self.faults()), strict=True)
        if self.telemetry is not None:
            hosts = tuple(server.host for server in self.servers)
            self.telemetry.schedule(10.0, self.seconds, hosts)
        self.tampering.schedule(20.0, self.seconds - 20, self.between_tampering)
        random = Random(f"last stall {self.seed}")
        if random.random() < self.stalls_last:
            self.clock.at(self.seconds - _LAST_STALL, partial(self._stall_last, random))
        time = 15.0
        while (time := time + self.random.expovariate(1 / self.between_faults)) < self.seconds - 20:
            (call,) = self.random.choices(kinds, weights)
            self.clock.at(time, call)
        self._schedule_hazards()

    def excused(self) -> float:
        """Return for how many seconds, of all nodes, one beat and hbtd could not hear it."""
        now, deaf = self.clock.now, self.oracle.deaf
        return sum(deaf(*span) for node in self.nodes for span in node.beating(now))

    def run(self) -> None:
        """Let it all happen; raise `Violation` if hbtd breaks a promise."""
        self.start_servers()
        for node in self.nodes:
            self.clock.after(self.random.uniform(0, 5), partial(self._boot, node))
        if self.with_faults:
            self._schedule_faults()
            self.clock.at(self.seconds + _LAST_DEATH, self._die_last)
        end = self.seconds + self.quiet
        now = 0.0
        while now < end:
            now = min(now + 5.0, end)
            self.clock.run(now)
            self.oracle.check_deaths(now)
            if self.failures:
                self.violations.append(
                    Violation(Promise.NO_BUG, f"hbtd has a bug: {self.failures[0]}")
                )
            if self.violations:
                raise self.violations[0]
        if not self.oracle.works.throughout(end - _AT_REST, end):
            raise Violation(Promise.NO_BUG, "the world does not come to rest")
        alive = {node.name: node.alive for node in self.nodes}
        self.oracle.check_rest(alive)
        self._check_table(alive)
        if self.telemetry is not None:
            self.telemetry_oracle.check_rest(alive)
        followed: dict[str, Rule] = {}
        for server in self.servers:
            if server.service is not None:
                core = server.service.core
                params = core.params.current
                followed[server.name] = Rule(params.warntime, params.errtime, params.interval)
                waiting = core.notifier.pending_count
                self.oracle.check_size(f"updates of {server.name}", waiting, 0)
                unpublished = core.publisher.pending_count
                most = self.telemetry_oracle.most_waiting
                self.oracle.check_size(f"messages of {server.name}", unpublished, most)
                uncommitted = len(core.uncommitted)
                self.oracle.check_size(f"judgements of {server.name}", uncommitted, 0)
                calls = len(server.delayed_calls())
                self.oracle.check_size(f"calls of {server.name}", calls, 100 + 4 * len(self.nodes))
        self.oracle.check_rules(followed)

    def _check_table(self, alive: dict[str, bool]) -> None:
        """Check HSM's table itself: it is the truth, unless others wrote a row again and again."""
        for name, lives in alive.items():
            row = self.hsm.components.get(name)
            if row is not None and self.tampering.written[name] < CONTESTED:
                self.oracle.check_row(name, f"{row.state}/{row.flag}", lives)
