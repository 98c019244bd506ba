"""A small machine whose replicas take over from each other all the time."""

from collections.abc import Callable, Sequence
from functools import partial

from tests.simulation.etcd import ETCD
from tests.simulation.nodes import Node
from tests.simulation.replicated import ReplicatedWorld
from tests.simulation.server import Server

_LEASE = 10.0
"""Seconds after which a leader that is cut off is one no more."""

_AWAY = 20.0
"""The most seconds, besides Errtime, for which HSM is away while a lead ends."""


class HandoverWorld(ReplicatedWorld):
    """Three replicas and a few nodes, for a short time: many such worlds can be run.

    What goes wrong aims at the moments in which the lead passes on: the leader is stopped or cut
    off for about as long as its lease lasts, while it owes HSM updates, commits judgements, or
    abandons what HSM has not answered, and nodes die, return and move meanwhile.
    """

    options = " HANDOVER=yes"
    rules = ((4, 9, 1), (5, 12, 1))
    size = 8
    lasts = 90.0
    quiet = 80.0
    between_faults = 5.0

    def faults(self) -> list[tuple[float, Callable[[], None]]]:
        """Return kinds of faults with their weights."""
        return [
            *super().faults(),
            (14, self._owe),
            (12, self._commit_late),
            (12, self._stop_leader),
            (8, self._abandon),
            (6, self._cut_follower),
            (6, self._ask),
        ]

    def _leader(self) -> Server | None:
        leader = self.by_host.get(self.etcd.leads() or "")
        return leader if leader is not None and leader.running else None

    def _around_the_lease(self) -> float:
        return self.random.uniform(_LEASE - 4.0, _LEASE + 5.0)

    def _some(self) -> Sequence[Node]:
        living = [node for node in self.nodes if node.alive and not node.hanging]
        return self.random.sample(living, min(len(living), self.random.randint(1, 3)))

    def _fall_silent(self, low: float, high: float) -> None:
        """Have some nodes lose their power, and boot after some seconds, or never."""
        some = self._some()
        for node in some:
            self._crash_node(node, power=True)
        if self.random.random() < 0.8:
            self.later(low, high, partial(self._boot_all, some))

    def _boot_all(self, nodes: Sequence[Node]) -> None:
        for node in nodes:
            self._boot(node)

    def _cut_leader(self, leader: Server, seconds: float) -> None:
        """Cut a leader off from etcd, in one direction or in both."""
        ways = [(leader.host, ETCD), (ETCD, leader.host)]
        for source, target in self.random.choice((ways, ways[:1], ways[1:])):
            self.cut(source, target, seconds, seconds)

    def _owe(self) -> None:
        """Cut a leader off while it owes HSM updates; HSM is back when its lease ends."""
        leader = self._leader()
        if leader is None:
            return
        if self.hsm_ok:
            self._have_hsm({"ready": False}, self.errtime, self.errtime + _AWAY)
        self._fall_silent(self.errtime, 2 * self.errtime)
        lag = self.random.uniform(0.0, self.errtime + 2.0)
        self.clock.after(lag, lambda: self._cut_leader(leader, self._around_the_lease()))
        if self.random.random() < 0.3:
            self._slow_etcd()

    def _commit_late(self) -> None:
        """Have a leader's commits arrive when its lease is over."""
        leader = self._leader()
        if leader is None:
            return
        self._fall_silent(self.errtime - 1.0, self.errtime + _LEASE)
        lag = self.random.choice((self.warntime, self.errtime)) + self.random.uniform(-1.0, 1.5)
        seconds = self._around_the_lease()
        self.clock.after(lag, lambda: self.cut(leader.host, ETCD, seconds, seconds))

    def _stop_leader(self) -> None:
        """Stop a leader's process for about as long as its lease lasts, while nodes move."""
        leader = self._leader()
        if leader is None:
            return
        self._fall_silent(1.0, self.errtime + _LEASE)

        def stop() -> None:
            if leader.running:
                leader.stop()
                self.later(self._around_the_lease(), self._around_the_lease(), leader.resume)
                for node in self._some():
                    node.move()

        self.clock.after(self.random.uniform(0.0, self.errtime + 1.0), stop)

    def _abandon(self) -> None:
        """Have HSM stall while nodes die and return; the leader is killed meanwhile, perhaps."""
        if not self.hsm_ok:
            return
        self._have_hsm({"stalls": True}, 5.0, 25.0)
        self._fall_silent(self.warntime, self.errtime + 5.0)
        leader = self._leader()
        if leader is not None and self.random.random() < 0.6:
            self.later(1.0, 20.0, lambda: self._end(leader))

    def _end(self, server: Server) -> None:
        if server.alive:
            server.kill()
            self.later(0.5, 10, server.start)

    def _cut_follower(self) -> None:
        """Cut a follower off from etcd for seconds, while nodes that it hears come and go."""
        leader = self._leader()
        others = [server for server in self.servers if server is not leader and server.running]
        if others:
            server = self.random.choice(others)
            self._cut_leader(server, self.random.uniform(1.0, 8.0))
            self._fall_silent(0.5, self.errtime)

    def _ask(self) -> None:
        """Have nodes start at followers while nobody leads, or the leader is out of reach."""
        leader = self._leader()
        self._fall_silent(self.errtime + 1.0, self.errtime + _LEASE)
        if leader is not None:
            lag = self.errtime + self.random.uniform(0.0, 4.0)
            self.clock.after(lag, lambda: self._end(leader))
