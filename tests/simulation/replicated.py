"""A world with three replicas of hbtd that share an etcd."""

from collections.abc import Callable, Sequence
from functools import partial
from random import Random

from hbtd.app.stores import make_store
from hbtd.store.etcd_log_format import LOG
from tests.simulation.changes import SETTLED, Changes
from tests.simulation.etcd import ETCD, PORT, Etcd
from tests.simulation.nodes import Node
from tests.simulation.replica_oracle import SHARED, ReplicaOracle
from tests.simulation.server import Server
from tests.simulation.world import HSM, World

HOSTS = ("10.0.0.11", "10.0.0.12", "10.0.0.13")

_LONG_STOP = 10.0
"""Seconds of a stop, or Warntime if that is less, after which what is read then may be old."""

_READ_LATE = 2.0
"""Seconds in which heartbeats of those who are warned about, or dead, don't count for it."""

_LAST_CHANGE = 60.0
"""Seconds after all faults at which parameters are changed: nobody doubts what is in force then."""

_LAST_RESTART = 75.0
"""Seconds after all faults at which a replica is restarted, and joins the others."""

_PROBES = 4.0
"""Seconds after which nodes are no longer sent to a replica that is not ready."""


class ReplicatedWorld(World):
    """Three replicas, etcd, HSM and nodes."""

    options = " REPLICAS=3"
    quiet = 110.0
    rules: Sequence[tuple[int, int, int]] = ((10, 30, 2), (8, 20, 2), (15, 40, 5))
    """The triples of Warntime, Errtime and Interval of which such a world has one."""

    size = 30
    """The number of nodes."""

    lasts = 300.0
    """Seconds in which things go wrong."""

    oracle: ReplicaOracle
    make_oracle: type[ReplicaOracle] = ReplicaOracle

    def __init__(
        self, seed: int, kafka: bool = True, with_faults: bool = True, start_beats: int = 1
    ) -> None:
        super().__init__(
            seed,
            self.rules,
            self.make_oracle,
            others=(HSM, ETCD),
            nodes=self.size,
            seconds=self.lasts,
            kafka=kafka,
            with_faults=with_faults,
            start_beats=start_beats,
        )
        self.etcd = Etcd(self.clock, self.network, self.random, self.fail)
        self.servers = [
            self.server(f"hbtd-{number}", host, f"http://{ETCD}:{PORT}", make_store)
            for number, host in enumerate(HOSTS)
        ]
        self.by_host = {server.host: server for server in self.servers}
        self._not_shared_since = dict.fromkeys(HOSTS, 0.0)
        self._shared_since = dict.fromkeys(HOSTS, 0.0)
        self._shares = dict.fromkeys(HOSTS, False)
        self._stopped_at: dict[str, float] = {}
        self._reads_late_until = dict.fromkeys(HOSTS, 0.0)
        self.network.on_write = self._sent
        self._lost_data_at = float("-inf")
        random = self.hazard("rules", 0.5)
        self._changes = None if random is None else Changes(self, random, self)

    # What the oracle is told

    def _passes(self, host: str, other: str) -> bool:
        return self.network.passes(host, other) and self.network.passes(other, host)

    def note_state(self) -> None:
        """Tell the oracle which replicas can share what they hear, and whether all is well."""
        now = self.clock.now
        well = self.etcd.healthy and self.hsm_ok
        for server in self.servers:
            host = server.host
            self._note_stop(server)
            shares = server.hears and self.etcd.healthy and self.reaches(host, ETCD)
            if shares != self._shares[host]:
                self._shares[host] = shares
                (self._shared_since if shares else self._not_shared_since)[host] = now
            if server.alive and not (shares and self.reaches(host, HSM)):
                well = False
        # With an etcd that is slow, or loses answers, replicas may hear each other, or may not.
        hears = self.etcd.running and any(
            server.hears and self._passes(server.host, ETCD) for server in self.servers
        )
        self.oracle.hears.set(now, hears)
        self.oracle.works.set(now, well and any(self._shares.values()))

    def _note_stop(self, server: Server) -> None:
        """Note whether a process is stopped, and until when it reads late if it was for long."""
        now = self.clock.now
        if server.alive and not server.running:
            self._stopped_at.setdefault(server.host, now)
            return
        since = self._stopped_at.pop(server.host, now)
        # hbtd measures it from the last tick before.
        if now - since > min(self.warntime, _LONG_STOP) - 1.0:
            self._reads_late_until[server.host] = now + _READ_LATE

    def may_publish(self, host: str) -> bool:
        """Return whether a replica holds the lock in etcd, or nobody does as etcd has lost it."""
        return host == self.etcd.leads() or self.clock.now <= self.oracle.no_lock_until

    def node_answered(self, node: Node, host: str) -> None:
        """Tell the oracle of a heartbeat, once others have learnt of it.

        A replica that was stopped for long may not count what it reads in the first two seconds
        (docs/guarantees.md).
        """
        self.truth.note("heard", node.name, story=False)
        self.oracle.beaten(node.name)
        at, sent = self.clock.now, node.answered_sent
        if at < self._reads_late_until[host]:
            return

        def shared() -> None:
            if self._shares[host] and self._shared_since[host] <= at:
                self.oracle.shared(node.name, at, sent)

        self.clock.after(SHARED, shared)

    def _sent(self, source: str, target: str, data: bytes) -> None:
        if target == HSM and source in self.by_host and b"ComponentIDs" in data:
            self.check(partial(self.oracle.sent, source, self.etcd.leads(), self.clock.now))

    def run(self) -> None:
        """Let it all happen; raise `Violation` if hbtd breaks a promise."""
        super().run()
        keys = [key for key in self.etcd.state.keys if not key.startswith(LOG)]
        self.oracle.check_size("keys in etcd", len(keys), 50 + 6 * len(self.nodes))

    def shares_since(self, host: str) -> float:
        """Return since when a replica has shared what it hears, infinity if it does not."""
        return self._shared_since[host] if self._shares[host] else float("inf")

    def sees_others(self, host: str) -> bool:
        """Return whether a replica certainly sees that another one lives, if it looks now."""
        settled = self.clock.now - SETTLED
        return self._lost_data_at < settled and any(
            self.shares_since(other) <= settled for other in HOSTS if other != host
        )

    # Nodes

    def choose(self, node: Node) -> str:
        """Return one of the replicas that a load balancer takes for ready."""
        now = self.clock.now
        ready = [
            host
            for host in HOSTS
            if self._shares[host] or now - self._not_shared_since[host] < _PROBES
        ]
        others = [host for host in ready if host != node.server]
        return self.random.choice(others or ready or HOSTS)

    # What goes wrong

    def faults(self) -> list[tuple[float, Callable[[], None]]]:
        """Return kinds of faults with their weights."""
        return [
            *self.machine_faults(),
            (2, self.hsm_trouble),
            (5, self._stop),
            (3, self._kill),
            (2, self._cut_hsm),
            (2, lambda: self.cut_nodes(self.random.choice(HOSTS))),
            (4, self._cut_etcd),
            (2, lambda: self.slow(self._server())),
            (3, self._move),
            (1, self._roll),
            (2, self._slow_etcd),
            (2, self._lose_answers),
            (1, self._kill_etcd),
            (1, self._fill_etcd),
            (0.5, self._lose_data),
        ]

    def _schedule_faults(self) -> None:
        super()._schedule_faults()
        if self._changes is not None:
            server = Random(f"last restart {self.seed}").choice(self.servers)
            self.clock.at(self.seconds + _LAST_CHANGE, self._changes.patch)
            self.clock.at(self.seconds + _LAST_RESTART, lambda: server.end(server.start))

    def hazards(self) -> list[tuple[float, Callable[[], None]]]:
        """Return what only some seeds have."""
        some = super().hazards()
        if self._changes is not None:
            some += [(4, self._changes.patch), (1, self._upgrade)]
        if self._troubles is not None:
            some += [(1, self._etcd_vanishes)]
        return some

    def vanishes(self, server: Server) -> None:
        """Do nothing: what a replica has shared is not lost with it."""

    def _etcd_vanishes(self) -> None:
        self.etcd.kill(power=True)
        self._trouble("vanishes with its host")
        self.later(0.5, 30, self._start_etcd)

    def _start_etcd(self) -> None:
        self.etcd.start()
        self._trouble("starts")

    def _upgrade(self) -> None:
        """Restart one replica after the other with other parameters on their command lines."""
        assert self._changes is not None
        rule = self._changes.another()
        self.truth.note("hbtd", f"replicas are restarted one by one with {rule}")
        for number, server in enumerate(self.servers):
            self.clock.after(15.0 * number, partial(self._changes.restart, server, rule))

    def _server(self) -> Server:
        """Return a replica, the leader as often as not."""
        leader = self.by_host.get(self.etcd.leads() or "")
        chosen = self.random.choice(self.servers)
        return leader if leader is not None and self.random.random() < 0.5 else chosen

    def _stop(self) -> None:
        server = self._server()
        if server.running:
            server.stop()
            self.later(0.2, self.random.choice((5, 20, 3 * self.errtime)), server.resume)

    def _kill(self) -> None:
        server = self._server()
        if server.alive:
            server.kill()
            self.later(0.5, 40, server.start)

    def _cut_hsm(self) -> None:
        self._cut_one_way(HSM, 30)

    def _cut_etcd(self) -> None:
        self._cut_one_way(ETCD, self.random.choice((4, 30)))

    def _cut_one_way(self, other: str, most: float) -> None:
        host = self._server().host
        if self.random.random() < 0.5:
            self.cut(host, other, 0.5, most)
        else:
            self.cut(other, host, 0.5, most)

    def _move(self) -> None:
        some = self.random.sample(self.nodes, self.random.randint(1, min(10, len(self.nodes))))
        self.truth.note("move", " ".join(node.name for node in some))
        for node in some:
            node.move()

    def _roll(self) -> None:
        """Restart one replica after the other."""
        self.truth.note("hbtd", "replicas are restarted one by one")
        for number, server in enumerate(self.servers):
            self.clock.after(15.0 * number, partial(server.end, server.start))

    def _slow_etcd(self) -> None:
        self.etcd.delay = self.random.uniform(0.05, 2.0)
        self._trouble(f"answers up to {self.etcd.delay:.1f} s late")
        self.later(1, 30, self._mend_etcd)

    def _lose_answers(self) -> None:
        self.etcd.lossy = self.random.uniform(0.05, 0.5)
        self._trouble(f"answers {1 - self.etcd.lossy:.0%} of what it does")
        self.later(1, 30, self._mend_etcd)

    def _fill_etcd(self) -> None:
        self.etcd.state.full = True
        self._trouble("has no space")
        self.later(1, 30, self._mend_etcd)

    def _mend_etcd(self) -> None:
        self.etcd.delay, self.etcd.lossy, self.etcd.state.full = 0.0, 0.0, False
        self._trouble("is well again")

    def _kill_etcd(self) -> None:
        self.etcd.kill()
        self._trouble("is killed")
        self.later(0.5, 30, self._start_etcd)

    def _lose_data(self) -> None:
        self.etcd.kill()
        self.etcd.state.lose_data()
        self._lost_data_at = self.clock.now
        if not any(server.alive for server in self.servers):
            self.oracle.lost_all()
        self.telemetry_oracle.lost_data()
        self.oracle.no_lock_until = self.clock.now + self.oracle.relock
        self.etcd.start()
        self._trouble("loses its data")

    def _trouble(self, what: str) -> None:
        self.truth.note("etcd", what)
        self.note_state()
