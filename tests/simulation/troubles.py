"""Rarer troubles: of connections, of hosts, of clocks, and of chassis and cabinets."""

from collections import Counter
from collections.abc import Callable, Sequence
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulation.server import Server
    from tests.simulation.world import World

NOTICED = 20.0
"""Seconds within which hbtd gives up a connection that has become deaf: its time limit, twice."""

_WRONG = ("1970-01-01T00:00:00Z", "2999-12-31T23:59:59Z", "soon", "-1")
"""What nodes say whose clocks are wrong."""


class Troubles:
    """Causes them in a world, with chances from a source of their own."""

    def __init__(self, world: "World", random: Random, others: Sequence[str]) -> None:
        """Prepare for a world; `others` are the hosts that hbtd connects to."""
        self._world = world
        self._random = random
        self._others = others
        self._hindered: Counter[tuple[str, str]] = Counter()
        self._lags = 0

    def faults(self) -> list[tuple[float, Callable[[], None]]]:
        """Return kinds of troubles with their weights."""
        return [
            (3, self._tear),
            (2, self._reset),
            (2, self._forget),
            (2, self._forget_nodes),
            (2, self._lag),
            (2, self._step_clock),
            (2, self._vanish),
            (1, self._wrong_clock),
            (2, self._enclosure),
        ]

    def hinders(self, host: str, other: str) -> bool:
        """Return whether hbtd on a host may have trouble to reach another host."""
        return self._lags > 0 or self._hindered[host, other] > 0

    def _hinder(self, host: str, other: str, seconds: float) -> None:
        self._hindered[host, other] += 1
        self._world.note_state()

        def over() -> None:
            self._hindered[host, other] -= 1
            self._world.note_state()

        self._world.clock.after(seconds, over)

    def _server(self) -> "Server":
        return self._random.choice(self._world.servers)

    def _note(self, text: str) -> None:
        self._world.truth.note("network", text)

    def _tear(self) -> None:
        """Reset a connection in the middle of a request, or of an answer."""
        server, share = self._server(), self._random.random()
        nodes = [node.host for node in self._world.nodes]
        other = self._random.choice([*self._others, self._random.choice(nodes)])
        source, target = self._random.sample((server.host, other), 2)
        self._note(f"{share:.0%} of the next message from {source} to {target} arrives")
        self._world.network.tear(source, target, share)
        if other in self._others:
            self._hinder(server.host, other, NOTICED)

    def _reset(self) -> None:
        """Reset all connections between two hosts."""
        server, other = self._server(), self._random.choice(self._others)
        self._note(f"connections between {server.host} and {other} are reset")
        self._world.network.reset(server.host, other)
        self._hinder(server.host, other, NOTICED)

    def _forget(self) -> None:
        """Have a firewall forget the connections between two hosts."""
        server, other = self._server(), self._random.choice(self._others)
        self._note(f"connections between {server.host} and {other} become deaf")
        self._world.network.forget(server.host, other)
        self._hinder(server.host, other, NOTICED)

    def _forget_nodes(self) -> None:
        """Have a firewall forget the connections of some nodes."""
        server, nodes = self._server(), self._world.nodes
        some = self._random.sample(nodes, self._random.randint(1, min(10, len(nodes))))
        self._note(f"connections become deaf of {' '.join(node.name for node in some)}")
        for node in some:
            self._world.network.forget(node.host, server.host)

    def _lag(self) -> None:
        """Have messages of different connections overtake each other."""
        most, seconds = self._random.uniform(0.02, 0.2), self._random.uniform(1, 30)
        if self._lags:
            return
        self._note(f"messages take up to {most:.2f} s for {seconds:.1f} s")
        self._lags += 1
        self._world.network.lag = lambda: self._random.uniform(0.0, most)
        self._world.note_state()

        def over() -> None:
            self._world.network.lag = lambda: 0.0
            self._lags -= 1
            self._world.note_state()

        self._world.clock.after(seconds, over)

    def _step_clock(self) -> None:
        server, step = self._server(), self._random.choice((-3600.0, -5.0, 5.0, 3600.0))
        self._world.truth.note("clock", f"of {server.name} steps by {step:g} s")
        server.wall_offset += step

    def _vanish(self) -> None:
        """Have the host of an hbtd lose its power."""
        server = self._server()
        if server.alive:
            self._world.vanishes(server)
            server.vanish()
            self._world.later(5, 60, server.start)

    def _wrong_clock(self) -> None:
        node = self._random.choice(self._world.nodes)
        node.timestamp = self._random.choice(_WRONG)
        self._world.truth.note("clock", f"{node.name} says that it is {node.timestamp!r}")

    def _enclosure(self) -> None:
        """Have all nodes of a chassis or a cabinet fall silent at once."""
        level = self._random.choice("sc")
        prefix = self._random.choice(self._world.nodes).name.partition(level)[0]
        some = [n for n in self._world.nodes if n.name.partition(level)[0] == prefix]
        kind = self._random.choice((self._world.power, self._world.silence))
        kind(some, self._random.uniform(1, 3 * self._world.errtime))
