"""A simulated fleet of compute nodes, which send heartbeats, fall silent and return."""

import itertools
import math
import random
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall, IReactorTime, IStreamClientEndpoint

from hbtd.simulator.endpoints import split_url
from hbtd.simulator.links import Beat, Link, Outcomes
from hbtd.simulator.statistics import Statistics

_FIRST_CABINET: Final = 1000
_LAST_CABINET: Final = 9999
# Chassis in a cabinet, slots in a chassis, boards in a slot, nodes on a board.
_CABINET: Final = (8, 8, 2, 4)

MOST_NODES: Final = (_LAST_CABINET - _FIRST_CABINET + 1) * math.prod(_CABINET)
"""The largest possible number of nodes in a fleet: `node_names` can't make more names."""


def node_names(count: int) -> list[str]:
    """Return the xnames of `count` nodes, cabinet by cabinet, from `x1000c0s0b0n0` on.

    Raise `ValueError` unless `count` is from 0 to `MOST_NODES`.
    """
    if not 0 <= count <= MOST_NODES:
        raise ValueError(f"must be 0 to {MOST_NODES} nodes")
    places = itertools.product(
        range(_FIRST_CABINET, _LAST_CABINET + 1), *(range(size) for size in _CABINET)
    )
    return [f"x{x}c{c}s{s}b{b}n{n}" for x, c, s, b, n in itertools.islice(places, count)]


def _hostname(number: int) -> str:
    return f"nid{number:06}"


@dataclass(slots=True, eq=False)
class _Node:
    """A node of a fleet: its xname, its number, and its schedule."""

    name: str
    number: int

    phase: float = 0.0
    """When the next heartbeat is due, without jitter, in seconds of the fleet's clock."""

    timer: IDelayedCall | None = None
    """The timer of the next heartbeat; it runs while the node has power, even if frozen."""

    pending: Beat | None = None
    """The node's heartbeat that waits to be sent or to be answered, if any."""


class Fleet(Service):
    """Nodes that POST heartbeats to hbtd, on independent schedules, over a few shared connections.

    Each node sends a heartbeat every `period` seconds. The time of each heartbeat deviates at
    random by up to `jitter` times the period; `jitter` is below 1. The nodes' first heartbeats are
    spread over one period. While a heartbeat has no answer, the same node's next heartbeats are not
    sent and count as failed. No heartbeat is sent twice.

    `clock` measures the periods, and also gives the timestamps in the heartbeats, so its seconds
    must be Unix time, as those of Twisted's reactors are. `endpoint` connects to the host of `url`,
    the base URL of hbtd's API; `client_endpoint` makes such an endpoint. All random numbers are
    drawn from `random`. `on_answer`, if given, is called for each heartbeat that gets a 2xx answer,
    with the node's name and the seconds between the due time of the heartbeat and the answer.

    The constructor raises `ValueError` if a number is out of range or `url` can't be used.
    """

    def __init__(
        self,
        clock: IReactorTime,
        endpoint: IStreamClientEndpoint,
        url: str,
        names: Sequence[str],
        *,
        random: random.Random,
        period: float = 3.0,
        jitter: float = 0.1,
        connections: int = 16,
        timeout: float = 10.0,
        on_answer: Callable[[str, float], None] | None = None,
    ) -> None:
        if not (period > 0 and 0 <= jitter < 1 and connections > 0 and timeout > 0):
            raise ValueError("period, jitter, connections or timeout out of range")
        self.beating: set[str] = set(names)
        """Names of the nodes that are neither killed nor frozen; read-only."""

        self.killed: set[str] = set()
        """Names of the nodes that `kill` has powered off; read-only."""

        self.frozen: set[str] = set()
        """Names of the nodes that `freeze` has made hang; read-only."""

        self.hostnames = {_hostname(number): name for number, name in enumerate(names, 1)}
        """The xnames of all nodes, by host name; read-only."""

        self.statistics = Statistics()
        """Counts and latencies of the heartbeats so far."""

        self._clock = clock
        self._random = random
        self._period = period
        self._jitter = jitter
        self._on_answer = on_answer
        parts = split_url(url)
        self._head = (
            f"POST {parts.path.rstrip('/')}/hmi/v1/heartbeat HTTP/1.1\r\n"
            f"Host: {parts.netloc.rpartition('@')[2]}\r\n"
            "User-Agent: hbtd-simulator\r\n"
            "Content-Type: application/json\r\n"
            "Content-Length: "
        )
        self._nodes = {name: _Node(name, number) for number, name in enumerate(names, 1)}
        outcomes = Outcomes(self._sent, self._answered, self._failed)
        self._links = [
            Link(clock, endpoint, outcomes, timeout=timeout, jitter=random.random)
            for _ in range(min(connections, len(names)))
        ]

    def startService(self) -> None:
        """Connect, and start all nodes that have power; do nothing if the fleet runs already."""
        if self.running:
            return
        super().startService()
        for link in self._links:
            link.startService()
        now = self._clock.seconds()
        for node in self._nodes.values():
            # Drawn for every node, so that killed nodes don't change the schedules of others.
            node.phase = now + self._random.random() * self._period
            if node.name not in self.killed:
                node.timer = self._clock.callLater(node.phase - now, self._due, node)

    def stopService(self) -> Deferred[None]:
        """Stop all nodes and disconnect; return a Deferred that fires once that is done.

        Heartbeats that have no answer yet are dropped, and count neither as answered nor as failed.
        """
        super().stopService()
        for node in self._nodes.values():
            self._switch_off(node)
        closed = DeferredList([link.stopService() for link in self._links], consumeErrors=True)
        return closed.addCallback(lambda _: None)

    def kill(self, names: Iterable[str]) -> None:
        """Power nodes off, including frozen ones. Raise `KeyError` if a name is unknown.

        Heartbeats of these nodes that have not been sent are dropped. Heartbeats already sent can't
        be withdrawn from a shared connection, and are counted as usual.
        """
        for node in self._find(names):
            self._switch_off(node)
            self.beating.discard(node.name)
            self.frozen.discard(node.name)
            self.killed.add(node.name)

    def freeze(self, names: Iterable[str]) -> None:
        """Make nodes hang; killed nodes stay killed. Raise `KeyError` if a name is unknown.

        A frozen node makes no new heartbeats, but a heartbeat that already waits for a connection
        is still sent.
        """
        for node in self._find(names):
            if node.name in self.beating:
                self.beating.remove(node.name)
                self.frozen.add(node.name)

    def revive(self, names: Iterable[str]) -> None:
        """Bring killed and frozen nodes back. Raise `KeyError` if a name is unknown.

        A frozen node resumes its old schedule. A killed node boots: it sends a heartbeat at once,
        and then one heartbeat per period.
        """
        for node in self._find(names):
            if node.name in self.frozen:
                self.frozen.remove(node.name)
                self.beating.add(node.name)
            elif node.name in self.killed:
                self.killed.remove(node.name)
                self.beating.add(node.name)
                if self.running:
                    node.phase = self._clock.seconds()
                    self._due(node)

    def pick(self, share: float, among: Collection[str] | None = None) -> list[str]:
        """Return names of nodes chosen at random: the fraction `share` of the names `among`.

        By default, `among` is the nodes that send heartbeats. Raise `ValueError` unless `share` is
        from 0 to 1.
        """
        if not 0 <= share <= 1:
            raise ValueError("must be a share from 0 to 1")
        # The order of a set differs from run to run.
        candidates = sorted(self.beating if among is None else among)
        return self._random.sample(candidates, round(share * len(candidates)))

    def __contains__(self, name: str) -> bool:
        """Return whether the fleet has a node of this name."""
        return name in self._nodes

    def _find(self, names: Iterable[str]) -> list[_Node]:
        return [self._nodes[name] for name in names]

    def _switch_off(self, node: _Node) -> None:
        if node.timer is not None:
            node.timer.cancel()
            node.timer = None
        if node.pending is not None:
            node.pending.withdrawn = True
            node.pending = None

    def _due(self, node: _Node) -> None:
        """Send a node's heartbeat, unless the node is frozen, and schedule the next one."""
        now = self._clock.seconds()
        # Heartbeats that are overdue after a stall are skipped, not sent all at once.
        node.phase += self._period * max(1, math.floor((now - node.phase) / self._period) + 1)
        wobble = self._random.uniform(-self._jitter, self._jitter) * self._period
        node.timer = self._clock.callLater(max(0.0, node.phase + wobble - now), self._due, node)
        if node.name in self.frozen:
            return
        if node.pending is not None:
            self.statistics.failures["last one unanswered"] += 1
            return
        node.pending = Beat(node.name, self._request(node, now), now)
        self._links[node.number % len(self._links)].send(node.pending)

    def _request(self, node: _Node, now: float) -> bytes:
        stamp = datetime.fromtimestamp(now, timezone.utc).isoformat(timespec="milliseconds")
        body = (
            f'{{"Component":"{node.name}","Hostname":"{_hostname(node.number)}","NID":"{node.number}",'
            f'"Status":"OK","Timestamp":"{stamp}"}}'
        )
        return f"{self._head}{len(body)}\r\n\r\n{body}".encode()

    def _sent(self, beat: Beat) -> None:
        self.statistics.sent += 1

    def _answered(self, beat: Beat) -> None:
        self._settle(beat)
        seconds = self._clock.seconds() - beat.due
        self.statistics.note_answer(seconds)
        if self._on_answer is not None:
            self._on_answer(beat.node, seconds)

    def _failed(self, beat: Beat, reason: str) -> None:
        self._settle(beat)
        self.statistics.failures[reason] += 1

    def _settle(self, beat: Beat) -> None:
        node = self._nodes[beat.node]
        # A node that was killed and has booted since may have sent another heartbeat.
        if node.pending is beat:
            node.pending = None
