"""A small machine whose replicas take over from each other all the time."""

from collections.abc import Callable, Sequence
from functools import partial

from tests.simulation.etcd import ETCD
from tests.simulation.nodes import Node
from tests.simulation.replicated import ReplicatedWorld
from tests.simulation.server import Server

_LEASE = 10.0
"""Seconds after which a leader that is cut off is one no more."""

_OTHERS = 0.4
"""How often what else goes wrong with replicas does, compared with larger worlds."""

_AWAY = 20.0
"""The most seconds, besides Errtime, for which HSM is away while a lead ends."""


class HandoverWorld(ReplicatedWorld):
    """Three replicas and a few nodes, for a short time: many such worlds can be run.

    What goes wrong aims at the moments in which the lead passes on: the leader is stopped or cut
    off for about as long as its lease lasts, while it owes HSM updates, commits judgements, or
    abandons what HSM has not answered, and nodes die, return and move meanwhile. Nobody else writes
    HSM's table, as comparing it would hide what HSM was told wrongly.
    """

    options = " HANDOVER=yes"
    rules = ((4, 9, 1), (5, 12, 1))
    size = 8
    lasts = 90.0
    quiet = 80.0
    between_faults = 5.0
    tampered = 0.0

    def _schedule_faults(self) -> None:
        super()._schedule_faults()
        # What goes wrong last shows when all is at rest; later, it would be made up for.
        for low, high, call in ((70.0, 50.0, self._end_leader), (45.0, 25.0, self._hand_over)):
            self.clock.at(self.seconds - self.random.uniform(high, low), call)

    def _hand_over(self) -> None:
        (call,) = self.random.choices(*zip(*self._handovers(), strict=True))
        call()

    def faults(self) -> list[tuple[float, Callable[[], None]]]:
        """Return kinds of faults with their weights."""
        others = [(_OTHERS * weight, call) for weight, call in super().faults()]
        return [*others, *((weight, call) for call, weight in self._handovers())]

    def _handovers(self) -> list[tuple[Callable[[], None], float]]:
        return [
            (self._owe, 14),
            (self._commit_late, 12),
            (self._stop_leader, 12),
            (self._abandon, 8),
            (self._cut_follower, 8),
            (self._ask, 8),
        ]

    def _leader(self) -> Server | None:
        leader = self.by_host.get(self.etcd.leads() or "")
        return leader if leader is not None and leader.running else None

    def _around_the_lease(self) -> float:
        return self.random.uniform(_LEASE - 4.0, _LEASE + 5.0)

    def _some(self) -> Sequence[Node]:
        living = [node for node in self.nodes if node.alive and not node.hanging]
        return self.random.sample(living, min(len(living), self.random.randint(1, 3)))

    def _fall_silent(self, low: float, high: float) -> Sequence[Node]:
        """Have some nodes lose their power, and boot after some seconds, or never; return them."""
        some = self._some()
        for node in some:
            self._crash_node(node, power=True)
        if self.random.random() < 0.8:
            self.later(low, high, partial(self._boot_all, some))
        return some

    def _boot_all(self, nodes: Sequence[Node]) -> None:
        for node in nodes:
            self._boot(node)

    def _cut_leader(self) -> None:
        leader = self._leader()
        if leader is not None:
            self._cut_off(leader, self._around_the_lease())

    def _cut_off(self, server: Server, seconds: float) -> None:
        """Cut a replica off from etcd, in one direction or in both."""
        ways = [(server.host, ETCD), (ETCD, server.host)]
        for source, target in self.random.choice((ways, ways[:1], ways[1:])):
            self.cut(source, target, seconds, seconds)

    def _owe(self) -> None:
        """Cut a leader off while HSM takes nothing from it until its lease has ended, perhaps."""
        silent = self._fall_silent(self.errtime, 2 * self.errtime)
        if self.hsm_ok:
            refused = {"refuse": [node.name for node in silent]}
            changes = self.random.choice(({"ready": False}, refused, refused))
            self._have_hsm(changes, self.errtime + 5.0, self.errtime + _AWAY)
        lag = self.random.uniform(0.0, self.errtime + 2.0)
        self.clock.after(lag, self._cut_leader)
        if self.random.random() < 0.4:
            self.clock.after(max(lag - 3.0, 0.0), self._slow_etcd)

    def _commit_late(self) -> None:
        """Have a leader's commits arrive when its lease is over; it is stopped then, perhaps."""
        self._fall_silent(self.errtime - 1.0, self.errtime + _LEASE)

        def cut() -> None:
            leader = self._leader()
            if leader is None:
                return
            seconds = self._around_the_lease()
            self.cut(leader.host, ETCD, seconds, seconds)
            if self.random.random() < 0.7:
                # Its system sends again what it has written, until it goes on and gives that up.
                longer = seconds + self.random.uniform(0.0, _LEASE)
                lag = self.random.uniform(0.1, 2.5)
                self.clock.after(lag, lambda: self._stop_for(leader, longer))

        lag = self.random.choice((self.warntime, self.errtime)) + self.random.uniform(-1.0, 1.5)
        self.clock.after(lag, cut)

    def _stop_for(self, server: Server, seconds: float) -> None:
        if server.running:
            server.stop()
            self.later(seconds, seconds, server.resume)

    def _stop_leader(self) -> None:
        """Stop a leader's process for about as long as its lease lasts, while nodes move."""
        self._fall_silent(1.0, self.errtime + _LEASE)

        def stop() -> None:
            leader = self._leader()
            if leader is not None:
                self._stop_for(leader, self._around_the_lease())
                for node in self._some():
                    node.move()

        self.clock.after(self.random.uniform(0.0, self.errtime + 1.0), stop)

    def _abandon(self) -> None:
        """Have HSM stall while nodes die and return; the leader is killed meanwhile, perhaps."""
        if not self.hsm_ok:
            return
        self._have_hsm({"stalls": True}, 5.0, 25.0)
        self._fall_silent(self.warntime, self.errtime + 5.0)
        if self.random.random() < 0.6:
            self.later(1.0, 20.0, self._end_leader)

    def _end_leader(self) -> None:
        """Kill the leader, or have it end."""
        leader = self._leader()
        if leader is None:
            return
        if self.random.random() < 0.5:
            leader.kill()
            self.later(0.5, 10.0, leader.start)
        else:
            leader.end(leader.start)

    def _cut_follower(self) -> None:
        """Cut a follower off from etcd just before some nodes die that it hears."""
        leader = self._leader()
        others = [server for server in self.servers if server is not leader and server.running]
        if not others:
            return
        server = self.random.choice(others)
        longest = self.random.choice((8.0, 2 * _LEASE + 2 * self.errtime))
        self._cut_off(server, self.random.uniform(1.0, longest))
        for node in self.nodes:
            if node.alive and node.server == server.host and self.random.random() < 0.5:
                self.later(0.0, 3.0, partial(self._crash_node, node, power=True))
                if self.random.random() < 0.5:
                    self.later(longest, 2 * longest, partial(self._boot, node))

    def _ask(self) -> None:
        """Have nodes start while nobody leads, and while etcd is slow."""
        self._fall_silent(self.errtime + 1.0, self.errtime + _LEASE)
        lag = self.errtime + self.random.uniform(0.0, 4.0)
        self.clock.after(lag, self._slow_etcd)
        self.clock.after(lag, self._end_leader)
