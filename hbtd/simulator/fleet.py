"""A fleet of compute nodes that beat, fall silent, and come back."""

import itertools
import math
import random
from collections.abc import Collection, Iterable, Sequence
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
"""How many nodes can be named."""


def node_names(count: int) -> list[str]:
    """Name so many nodes, cabinet by cabinet, from `x1000c0s0b0n0` on.

    Raises `ValueError` unless `count` is from 0 to `MOST_NODES`.
    """
    if not 0 <= count <= MOST_NODES:
        raise ValueError(f"can name 0 to {MOST_NODES} nodes")
    places = itertools.product(
        range(_FIRST_CABINET, _LAST_CABINET + 1), *(range(size) for size in _CABINET)
    )
    return [f"x{x}c{c}s{s}b{b}n{n}" for x, c, s, b, n in itertools.islice(places, count)]


@dataclass(slots=True, eq=False)
class _Node:
    name: str
    number: int

    phase: float = 0.0
    """When its next beat is due, before jitter."""

    timer: IDelayedCall | None = None
    """Runs as long as it has power, also while it is frozen."""

    pending: Beat | None = None
    """Its heartbeat that waits for its turn or for an answer."""


class Fleet(Service):
    """Nodes that POST heartbeats to hbtd, each in its own time, over a few shared connections.

    Each node beats once in `period` seconds, give or take `jitter`, a fraction of the period
    that is less than 1; the first beats are spread over one period. A node waits for the answer
    to one heartbeat before it sends another, which counts as failed then. Failed ones are never
    repeated.

    `clock` provides `IReactorTime`. Its seconds date the heartbeats, too, so they must be Unix
    time, as those of Twisted's reactors are. `endpoint` connects to the host of `url`, the base
    of hbtd's API (`client_endpoint` makes one). All that is random is drawn from `random`.
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
    ) -> None:
        if not (period > 0 and 0 <= jitter < 1 and connections > 0 and timeout > 0):
            raise ValueError("period, jitter, connections or timeout out of range")
        self.beating: set[str] = set(names)
        """The names of the nodes that beat, or will once started; only to be looked at."""

        self.killed: set[str] = set()
        """The names of the nodes without power; only to be looked at."""

        self.frozen: set[str] = set()
        """The names of the nodes that hang; only to be looked at."""

        self.statistics = Statistics()
        """What became of the heartbeats so far."""

        self._clock = clock
        self._random = random
        self._period = period
        self._jitter = jitter
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

    # Life

    def startService(self) -> None:
        """Connect, and let all nodes that have power beat."""
        super().startService()
        for link in self._links:
            link.startService()
        now = self._clock.seconds()
        for node in self._nodes.values():
            # Drawn for every node, so that those switched off change nothing for the others.
            node.phase = now + self._random.random() * self._period
            if node.name not in self.killed:
                node.timer = self._clock.callLater(node.phase - now, self._due, node)

    def stopService(self) -> Deferred[None]:
        """Silence all nodes and disconnect; fires when that is done.

        Heartbeats that are on their way are dropped and not counted any further.
        """
        super().stopService()
        for node in self._nodes.values():
            self._switch_off(node)
        parted = DeferredList([link.stopService() for link in self._links], consumeErrors=True)
        return parted.addCallback(lambda _: None)

    def start(self) -> None:
        """Start beating, unless it does already."""
        if not self.running:
            self.startService()

    def stop(self) -> Deferred[None]:
        """Stop beating, if it does; fires when all connections are closed."""
        return self.stopService()

    # Fate

    def kill(self, names: Iterable[str]) -> None:
        """Power nodes off, frozen ones as well. Raises `KeyError` if any is unknown.

        A heartbeat that has not been written yet vanishes. One that has can't be called back
        from a shared connection; it counts as usual.
        """
        for node in self._find(names):
            self._switch_off(node)
            self.beating.discard(node.name)
            self.frozen.discard(node.name)
            self.killed.add(node.name)

    def freeze(self, names: Iterable[str]) -> None:
        """Hang nodes that beat; killed ones stay killed. Raises `KeyError` if any is unknown.

        A hung node sends nothing new, but a heartbeat on its way stays on its way.
        """
        for node in self._find(names):
            if node.name in self.beating:
                self.beating.remove(node.name)
                self.frozen.add(node.name)

    def revive(self, names: Iterable[str]) -> None:
        """Let silent nodes beat again. Raises `KeyError` if any is unknown.

        A frozen node goes on with its old schedule, as if it had only slept. A killed one boots:
        it beats at once, and every period from now on.
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
        """Choose a share, from 0 to 1, of the nodes that beat, or of others, at random."""
        if not 0 <= share <= 1:
            raise ValueError("a share is from 0 to 1")
        # Sorted, because the order of a set differs from run to run.
        candidates = sorted(self.beating if among is None else among)
        return self._random.sample(candidates, round(share * len(candidates)))

    def _find(self, names: Iterable[str]) -> list[_Node]:
        return [self._nodes[name] for name in names]

    # Beats

    def _switch_off(self, node: _Node) -> None:
        if node.timer is not None:
            node.timer.cancel()
            node.timer = None
        if node.pending is not None:
            node.pending.withdrawn = True
            node.pending = None

    def _due(self, node: _Node) -> None:
        """Let a node beat, unless it hangs, and look forward to its next beat."""
        now = self._clock.seconds()
        # Beats that we slept through are skipped, not made up for all at once.
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
            f'{{"Component":"{node.name}","Hostname":"nid{node.number:06}","NID":"{node.number}",'
            f'"Status":"OK","Timestamp":"{stamp}"}}'
        )
        return f"{self._head}{len(body)}\r\n\r\n{body}".encode()

    def _sent(self, beat: Beat) -> None:
        self.statistics.sent += 1

    def _answered(self, beat: Beat) -> None:
        self._settle(beat)
        self.statistics.note_answer(self._clock.seconds() - beat.due)

    def _failed(self, beat: Beat, reason: str) -> None:
        self._settle(beat)
        self.statistics.failures[reason] += 1

    def _settle(self, beat: Beat) -> None:
        node = self._nodes[beat.node]
        # A node that was killed and booted again has forgotten what was on its way.
        if node.pending is beat:
            node.pending = None
