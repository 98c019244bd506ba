"""The two machines of a soak: replicas on a real etcd, and one hbtd on SQLite."""

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.task import LoopingCall, deferLater
from twisted.internet.threads import deferToThread
from twisted.web.server import Site as WebSite

from hbtd.net.tls import Identity, client_policy
from hbtd.simulator.fake_hsm import FakeHSM
from hbtd.simulator.fleet import Fleet
from tests.soak import measures
from tests.soak.processes import Logged, Ports, resume, run_agent, spawn_hbtd
from tests.soak.schedule import (
    AGENTS,
    CERTIFICATE,
    ETCD_FREEZE,
    ETCD_STOP,
    FREEZE,
    HSM,
    HSM_TROUBLES,
    KILL,
    NODES,
    RELOAD,
    TERMINATE,
    Fault,
)
from tests.soak.truth import ERRTIME, INTERVAL, WARNTIME, SeveralOracle, SingleOracle, Truth
from tests.support.agent import AgentProcess
from tests.support.certificates import make_identity, write_identity
from tests.support.etcd_server import EtcdServer
from tests.support.running import reactor
from tests.support.server_process import free_ports

SHARED = 2.5
"""Seconds after which other replicas know of a heartbeat (docs/guarantees.md)."""

_PERIOD = WARNTIME / 3
_CONNECTIONS = 80
_PROBES = 4.0
"""Seconds after which a balancer sends nobody to a replica that does not answer."""

_LONG_STOP = 9.0
_READ_LATE = 2.0
"""A replica that was stopped for so long may not count what it reads at first."""

_UNNOTICED = 0.6
"""Seconds of a pause that hbtd may not notice."""

_LAST_CALLS = 12.0
"""Seconds after HSM's trouble in which an update that HSM never answers may still be waited for."""

_STARVED = 2.0
"""Seconds for which the host is taken to be too busy after it was found to be so."""

COUNTERS = {
    "heartbeats": "hbtd_heartbeats_total",
    "judged": "hbtd_transitions_total",
    "delivered": "hbtd_hsm_delivered_total",
    "failed": "hbtd_hsm_failed_total",
    "pending": "hbtd_hsm_pending",
    "deaf_s": "hbtd_deaf_seconds_total",
    "entries": "hbtd_history_entries",
}
"""What is sampled of /metrics."""


class Machine:
    """Nodes, the hbtds that watch them, and the HSM that is told."""

    def __init__(
        self,
        name: str,
        names: Sequence[str],
        agents: int,
        processes: int,
        folder: Path,
        truth: Truth,
        say: Callable[[str], None],
        broken: Callable[[str], None],
        history: str,
        seed: int,
    ) -> None:
        """`names` are those of all nodes, of which the first `agents` have a real agent."""
        self.name = name
        self.names = list(names)
        self.truth = truth
        self.ports = free_ports(processes)
        self.balancer = Ports(self.ports)
        self.processes: dict[int, Logged] = {}
        self.happened: dict[str, int] = {}
        """How often each kind of fault was injected."""
        self._say, self._broken = say, broken
        self._folder = folder
        self._random = Random(f"{seed} {name} names")
        self._history = history
        self._serving: set[int] = set()
        self._frozen: dict[int, float] = {}
        self._hsm_ok = True
        self._starved_until = 0.0
        self.errors = 0
        """How many lines of logs tell of errors."""
        self.starved = 0
        """How often the host was too busy, or etcd too slow, to say that all works."""
        self._authority = make_identity("authority", days=30)
        self._renew()
        self.hsm = FakeHSM(reactor, truth.told)
        self._hsm_port = reactor.listenTCP(
            0, WebSite(self.hsm.resource(), timeout=60), interface="127.0.0.1"
        )
        self._agents: dict[str, AgentProcess | None] = dict.fromkeys(names[:agents])
        url = "https://localhost"
        self.fleet = Fleet(
            reactor,
            wrapClientTLS(client_policy("insecure").creatorForNetloc(b"localhost", 443),
                          self.balancer),
            url,
            names[agents:],
            random=Random(f"{seed} {name}"),
            period=_PERIOD,
            timeout=20.0,
            connections=_CONNECTIONS,
            on_answer=self._answered,
        )  # fmt: skip

    # Life

    async def start(self) -> None:
        """Start hbtd, and wait until it serves."""
        for name in self.names:
            self.truth.exists(name)
        for port in self.ports:
            self._run(port)
        for process in list(self.processes.values()):
            await process.url

    async def beat(self) -> None:
        """Start the nodes."""
        self.fleet.startService()
        for name in self._agents:
            self._start_agent(name)
            await deferLater(reactor, 0.02)

    async def stop(self) -> None:
        """Stop all that runs, in order."""
        await self.fleet.stopService()
        stopping = [agent.finish() for agent in self._agents.values() if agent]
        await DeferredList([each for each in stopping if each], consumeErrors=True)
        for process in self.processes.values():
            if process.running:
                resume(process.pid)
                process.signal(signal.SIGTERM)
        # hbtd itself gives up what it can't tell after a while.
        ended = DeferredList([process.ended for process in self.processes.values()])
        ended.addTimeout(30, reactor)
        with suppress(Exception):
            await ended
        for process in self.processes.values():
            process.finish()
        self.hsm.stop()
        await self._hsm_port.stopListening()

    def _options(self, port: int) -> list[str]:
        hsm = f"http://127.0.0.1:{self._hsm_port.getHost().port}/hsm/v1"
        return [
            *("--use_telemetry=no", f"--port={port}", f"--sm_url={hsm}", "--sm_sync=60"),
            *(f"--warntime={WARNTIME}", f"--errtime={ERRTIME}", f"--interval={INTERVAL}"),
            *(f"--tls_cert={self._tls_folder}/cert.pem", f"--tls_key={self._tls_folder}/key.pem"),
            f"--history={self._history}",
            f"--kv_url={self.kv_url}",
        ]

    kv_url = ""

    def _run(self, port: int) -> None:
        """Start an hbtd."""
        letter = "abc"[self.ports.index(port)]
        path = self._folder / f"{self.name}-{letter}.log"

        def wrong(line: str) -> None:
            # An error that hbtd itself tells of may be due to a fault, as of etcd while hbtd ends.
            says = self._say if " error " in line else self._broken
            self.errors += 1
            says(f"{self.name} {letter}: {line}")

        process = spawn_hbtd(self._options(port), path, wrong)
        self.processes[port] = process

        def serves(url: str) -> None:
            if url:
                self._serving.add(port)
                self.balancer.down.discard(port)
            self.note()

        process.url.addCallback(serves)
        self.note()

    def _renew(self) -> None:
        """Write a new certificate of the same authority."""
        leaf = make_identity("localhost", self._authority, days=20)
        write_identity(Identity(leaf.chain[:1], leaf.key), self._tls_folder)
        ca, _ = write_identity(self._authority, self._tls_folder / "authority")
        ca.replace(self._tls_folder / "ca.pem")

    @property
    def _tls_folder(self) -> Path:
        return self._folder / f"{self.name}-tls"

    def _start_agent(self, name: str) -> None:
        # Each stays with one hbtd, as a balancer here would only be slow.
        port = self.ports[list(self._agents).index(name) % len(self.ports)]
        options = [f"--url=https://localhost:{port}", f"--ca={self._tls_folder}/ca.pem", "--nid=1"]
        self._agents[name] = run_agent([*options, f"--xname={name}"])
        self.truth.booted(name, reactor.seconds(), agent=True)

    # What is true

    def _answered(self, name: str, seconds: float) -> None:
        raise NotImplementedError

    def note(self) -> None:
        """Tell the oracle what works."""
        raise NotImplementedError

    def _alive(self, port: int) -> bool:
        process = self.processes.get(port)
        return process is not None and process.running and port not in self._frozen

    def _well(self) -> bool:
        """Whether HSM works, and so does each process that runs."""
        running = [port for port, process in self.processes.items() if process.running]
        well = all(port in self._serving and port not in self._frozen for port in running)
        return self._hsm_ok and bool(running) and well and not self._starves

    @property
    def _starves(self) -> bool:
        return float(reactor.seconds()) < self._starved_until

    def starve(self) -> None:
        """Note that all is slow at present: not all works."""
        self.starved += not self._starves
        self._starved_until = reactor.seconds() + _STARVED
        self.note()
        reactor.callLater(_STARVED + 0.01, self.note)

    # Faults

    async def fault(self, fault: Fault) -> None:
        """Let a fault happen, and end, unless what it is about is in trouble already."""
        happens = {
            KILL: self._end,
            TERMINATE: self._end,
            FREEZE: self._freeze,
            RELOAD: self._reload,
            CERTIFICATE: self._new_certificate,
            HSM: self._trouble_hsm,
            NODES: self._upset_nodes,
            AGENTS: self._upset_agents,
        }[fault.kind]
        await happens(fault)

    def happens(self, fault: Fault, what: str) -> None:
        """Count a fault, and say it."""
        self.happened[fault.kind] = self.happened.get(fault.kind, 0) + 1
        self._say(f"{self.name}: {fault.kind} {what}, {fault.seconds:.1f} s")

    def _target(self, fault: Fault) -> int | None:
        """Return the port of a fault's process, `None` if that is in trouble already."""
        port = self.ports[fault.number]
        return port if port in self._serving and self._alive(port) else None

    async def _end(self, fault: Fault) -> None:
        port = self._target(fault)
        if port is None:
            return
        self.happens(fault, "abc"[fault.number])
        process = self.processes[port]
        self._serving.discard(port)
        self.balancer.down.add(port)
        self.loses(killed=fault.kind == KILL)
        process.signal(signal.SIGKILL if fault.kind == KILL else signal.SIGTERM)
        await process.ended
        self.note()
        await deferLater(reactor, fault.seconds)
        self._run(port)
        await self.processes[port].url

    def loses(self, *, killed: bool) -> None:
        """Tell the oracle that an hbtd ends, and what it may not have stored."""

    async def _freeze(self, fault: Fault) -> None:
        port = self._target(fault)
        if port is None:
            return
        self.happens(fault, "abc"[fault.number])
        process = self.processes[port]
        self._frozen[port] = reactor.seconds()
        process.signal(signal.SIGSTOP)
        self.note()
        probes = reactor.callLater(_PROBES, self.balancer.down.add, port)
        await deferLater(reactor, fault.seconds)
        if probes.active():
            probes.cancel()
        process.signal(signal.SIGCONT)
        self._goes_on(port, reactor.seconds() - self._frozen.pop(port))
        self.note()
        self.balancer.down.discard(port)

    def _goes_on(self, port: int, seconds: float) -> None:
        """Note that a process goes on that was stopped."""

    async def _reload(self, fault: Fault) -> None:
        port = self._target(fault)
        if port is not None:
            self.happens(fault, "abc"[fault.number])
            self.processes[port].signal(signal.SIGHUP)

    async def _new_certificate(self, fault: Fault) -> None:
        self.happens(fault, "renewed")
        self._renew()

    async def _trouble_hsm(self, fault: Fault) -> None:
        if not self._hsm_ok:
            return
        trouble = HSM_TROUBLES[fault.number]
        self.happens(fault, " ".join(map(str, trouble)))
        usual = self.hsm.behaviour
        self._hsm_ok = False
        self.note()
        self.hsm.behaviour = usual.merged(trouble)
        await deferLater(reactor, fault.seconds)
        self.hsm.behaviour = usual
        await deferLater(reactor, _LAST_CALLS)
        self._hsm_ok = True
        self.note()

    async def _upset_nodes(self, fault: Fault) -> None:
        """Have nodes lose power, or hang, and come back."""
        free = sorted(self.fleet.beating)
        if not free:
            return
        first = self._random.randrange(len(free))
        names = free[first : first + fault.number]
        happens = self._random.choice([self.fleet.kill, self.fleet.freeze])
        self.happens(fault, f"{len(names)} from {names[0]}")
        happens(names)
        for name in names:
            self.truth.died(name, reactor.seconds())
        await deferLater(reactor, fault.seconds)
        for name in names:
            self.truth.booted(name, reactor.seconds())
        self.fleet.revive(names)

    async def _upset_agents(self, fault: Fault) -> None:
        """Kill agents, and start them again."""
        running = [name for name, agent in self._agents.items() if agent is not None]
        names = self._random.sample(running, min(fault.number, len(running)))
        self.happens(fault, f"{len(names)} agents")
        ending = []
        for name in names:
            agent = self._agents[name]
            assert agent is not None
            self._agents[name] = None
            self.truth.died(name, reactor.seconds())
            ending.append(agent.finish())
        for ended in ending:
            if ended is not None:
                await ended
        await deferLater(reactor, fault.seconds)
        for name in names:
            self._start_agent(name)

    # Samples

    def sizes(self) -> dict[str, float]:
        """Return the sizes of the store."""
        raise NotImplementedError

    def pids(self) -> Iterator[tuple[str, int]]:
        """Yield the name and the number of each process that runs."""
        for letter, port in zip("abc", self.ports, strict=False):
            if port in self.processes and self.processes[port].running:
                yield f"{self.name}-{letter}", self.processes[port].pid

    async def sample(self, ask: Callable[[str], Any]) -> dict[str, float]:
        """Return what all need; `ask` gets a URL and returns the text there, `""` if it can't."""
        found: dict[str, float] = dict(await deferToThread(self.sizes))
        for name, pid in self.pids():
            own = {"pid": pid, **measures.process(pid)}
            log = self._folder / f"{name}.log"
            if log.exists():
                own["log_mb"] = measures.megabytes(log)
            found.update({f"{name}.{what}": value for what, value in own.items()})
        asked = [
            (f"{self.name}-{letter}", port)
            for letter, port in zip("abc", self.ports, strict=False)
            if port in self._serving and self._alive(port)
        ]
        for name, port in asked:
            text = await ask(f"https://localhost:{port}/metrics")
            numbers = measures.metrics(text, COUNTERS)
            found.update({f"{name}.{what}": value for what, value in numbers.items()})
        found[f"{self.name}.beating"] = len(self.fleet.beating) + len(self.truth.agents)
        found[f"{self.name}.told"] = self.truth.told_of
        self.hsm.updates.clear()
        return found


class ReplicaMachine(Machine):
    """Replicas on an etcd."""

    def __init__(self, *arguments: Any, oracle: SeveralOracle) -> None:
        self._oracle = oracle
        # Its log in memory is cut often, so that its memory is as large soon as it gets.
        self.etcd = EtcdServer(options=["--snapshot-count=1000"])
        self._etcd_up, self._etcd_well = False, False
        self._probing = LoopingCall(lambda: Deferred.fromCoroutine(self._probe()))
        self._shared_since: dict[int, float] = {}
        self._late_until: dict[int, float] = {}
        super().__init__(*arguments)

    async def start(self) -> None:
        """Start etcd and hbtd, and wait until it serves."""
        await deferToThread(self.etcd.start)
        self._etcd_up = self._etcd_well = True
        self.kv_url = self.etcd.address
        await super().start()
        self._probing.start(1.0).addErrback(lambda failure: None)

    async def _probe(self) -> None:
        """See whether etcd answers in time."""
        began = reactor.seconds()
        answers = await deferToThread(self.etcd.healthy)
        if self._etcd_well and (not answers or reactor.seconds() - began > 0.5):
            self.starve()

    async def stop(self) -> None:
        """Stop all that runs, etcd at the end."""
        if self._probing.running:
            self._probing.stop()
        self.etcd.thaw()
        await super().stop()
        await deferToThread(self.etcd.close)

    def note(self) -> None:
        """Tell the oracle which replicas share what they hear, and whether all is well."""
        now = reactor.seconds()
        for port in self.ports:
            shares = self._etcd_well and not self._starves
            if shares and port in self._serving and self._alive(port):
                self._shared_since.setdefault(port, now)
            else:
                self._shared_since.pop(port, None)
        self._oracle.hears.set(now, self._etcd_up and any(map(self._alive, self.ports)))
        self._oracle.works.set(now, self._etcd_well and self._well())

    def _goes_on(self, port: int, seconds: float) -> None:
        if seconds > _LONG_STOP:
            self._late_until[port] = reactor.seconds() + _READ_LATE

    def _answered(self, name: str, seconds: float) -> None:
        """Tell the oracle of a heartbeat, once others have learnt of it."""
        at, port = reactor.seconds(), self.balancer.speaking
        self._oracle.beaten(name)
        if at >= self._late_until.get(port, 0.0):
            reactor.callLater(SHARED, self._share, name, at, port)

    def _share(self, name: str, at: float, port: int) -> None:
        if self._shared_since.get(port, float("inf")) <= at:
            self._oracle.shared(name, at)

    async def fault(self, fault: Fault) -> None:
        """Let a fault happen, and end."""
        if fault.kind not in (ETCD_STOP, ETCD_FREEZE):
            await super().fault(fault)
        elif self._etcd_well:
            self.happens(fault, "etcd")
            self._etcd_well = False
            self.note()
            stops = fault.kind == ETCD_STOP
            # In half of the cases it is killed.
            ends = self.etcd.stop if self._random.random() < 0.5 else self.etcd.kill
            await deferToThread(ends if stops else self.etcd.freeze)
            self._etcd_up = not stops
            self.note()
            await deferLater(reactor, fault.seconds)
            self._etcd_up = True
            self.note()
            await deferToThread(self.etcd.start if stops else self.etcd.thaw)
            self._etcd_well = True
            self.note()

    def pids(self) -> Iterator[tuple[str, int]]:
        """Yield the name and the number of each process that runs, etcd among them."""
        yield from super().pids()
        if self.etcd.pid is not None:
            yield "etcd", self.etcd.pid

    def sizes(self) -> dict[str, float]:
        """Return the sizes of etcd's files, and of what it says of its database."""
        if self.etcd.folder is None:
            return {}
        member = self.etcd.folder / "data" / "member"
        found = {
            "etcd.wal_mb": measures.megabytes(member / "wal"),
            "etcd.db_mb": measures.megabytes(member / "snap" / "db"),
        }
        if self._etcd_well:
            wanted = {
                "in_use": "etcd_mvcc_db_total_size_in_use_in_bytes",
                "keys": "etcd_debugging_mvcc_keys_total",
            }
            numbers = measures.metrics(self.etcd.metrics(), wanted)
            found["etcd.in_use_mb"] = round(numbers.get("in_use", 0.0) / 1e6, 3)
            found["etcd.keys"] = numbers.get("keys", 0.0)
        return found


class SqliteMachine(Machine):
    """One hbtd on SQLite."""

    def __init__(self, *arguments: Any, oracle: SingleOracle) -> None:
        self._oracle = oracle
        self._ran, self._changed_at, self._hears_from = False, 0.0, 0.0
        super().__init__(*arguments)
        self.kv_url = f"sqlite:{self._folder / 'hbtd.sqlite'}"

    def note(self) -> None:
        """Tell the oracle whether hbtd hears, and whether all works.

        After a stop hbtd waits for its nodes as long as that was, Warntime at most.
        """
        now = reactor.seconds()
        runs = self._alive(self.ports[0])
        if runs != self._ran:
            frozen = now - self._changed_at if runs and self.ports[0] in self._serving else 0.0
            if frozen:
                self._oracle.resumed(now, self._changed_at)
                left = self._hears_from - self._changed_at
                patience = max(min(frozen - _UNNOTICED, WARNTIME), left, 0.0)
                self._hears_from = now + patience
                reactor.callLater(patience, self.note)
            self._ran, self._changed_at = runs, now
        self._oracle.hears.set(now, runs and now >= self._hears_from)
        self._oracle.stores.set(now, runs)
        self._oracle.works.set(now, self._well())

    def loses(self, *, killed: bool) -> None:
        """Tell the oracle what hbtd has not stored."""
        if killed:
            self._oracle.lost(reactor.seconds())
        else:
            self._oracle.lost(reactor.seconds(), 0.0)

    def _answered(self, name: str, seconds: float) -> None:
        self.truth.answered(name, reactor.seconds())

    def sizes(self) -> dict[str, float]:
        """Return the sizes of the database and its log."""
        path = self._folder / "hbtd.sqlite"
        return {
            "sqlite.file_mb": measures.megabytes(path),
            "sqlite.log_mb": measures.megabytes(path.with_name("hbtd.sqlite-wal")),
        }
