"""Changes of Warntime, Errtime and Interval while the world goes on, and what is known of them."""

from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from tests.simulation.operator import Operator
from tests.simulation.rules import Rule

if TYPE_CHECKING:
    from tests.simulation.process import Process
    from tests.simulation.replicated import ReplicatedWorld
    from tests.simulation.server import Server
    from tests.simulation.single import SingleWorld

SETTLED = 5.0
"""Seconds after which all replicas know a change, while all works."""


class _Patch(NamedTuple):
    """A change that was answered, and may not have arrived everywhere."""

    rule: Rule
    server: "Server"
    process: "Process | None"
    at: float


class Changes:
    """Changes rules by PATCH and by restarts, and tells the oracle which may be in force when.

    A single hbtd goes by its command line when it starts, and by a PATCH from its answer on. Of
    replicas one that joins others goes by their rules, and one that sees no other by its command
    line, as may then the others; a PATCH reaches the others when it is in etcd
    (docs/decisions/0006-one-judge.md).
    """

    def __init__(
        self,
        world: "SingleWorld | ReplicatedWorld",
        random: Random,
        joins: "ReplicatedWorld | None",
    ) -> None:
        """Prepare changes in a world; `joins` is the same world if it has replicas."""
        self._world = world
        self._random = random
        self._joins = joins
        self._rules = world.oracle.rules
        self._operator = Operator(world.clock, world.network, world.fail)
        self._asked: list[Rule] = []
        self._clean = False
        self._answered: _Patch | None = None
        self._joining: dict[str, tuple[float, Server]] = {}
        (self._first,) = self._rules.possible
        for server in world.servers:
            server.params = replace(server.params, operator_access="any")
            server.on_start = lambda server=server: self._starts(server)  # type: ignore[misc]
        if joins is not None:
            world.clock.after(1.0, self._look)

    def another(self) -> Rule:
        """Return other rules, by which nobody who beats in time is silent for too long."""
        warntime, errtime, _ = self._first
        warntime += self._random.choice((0, 1, 3))
        errtime = self._random.randint(warntime + 2, max(errtime, warntime + 2))
        return Rule(warntime, errtime, self._random.choice((1, 2, 5)))

    def patch(self) -> None:
        """Have one hbtd be asked to go by other rules."""
        server, rule = self._random.choice(self._world.servers), self.another()
        now = self._world.clock.now
        self._world.truth.note("params", f"PATCH {rule} at {server.name}")
        self._clean = not self._asked and (self._joins is None or self._calm(now))
        self._asked.append(rule)
        self._rules.may(rule, now)
        process = server.process

        def ended(answered: bool) -> None:
            now = self._world.clock.now
            self._world.truth.note("params", f"{rule} is {'in force' if answered else 'unknown'}")
            self._asked.remove(rule)
            alone, self._clean = self._clean and not self._asked, False
            self._answered = None
            if answered and alone and process is server.process:
                if self._joins is None:
                    self._rules.only([rule], now)
                else:
                    self._answered = _Patch(rule, server, process, now)

        self._operator.patch(server.host, rule, ended)

    def restart(self, server: "Server", rule: Rule) -> None:
        """Restart an hbtd with other rules on its command line, if it runs."""
        if not server.running:
            return
        self._world.truth.note("params", f"{server.name} is to have {rule}")
        server.params = replace(server.params, **rule._asdict())
        server.end(server.start)

    def _starts(self, server: "Server") -> None:
        now = self._world.clock.now
        if self._joins is None:
            self._rules.only([_command_line(server), *self._asked], now)
        else:
            self._joining[server.host] = now, server
            self._look_at_joining(now)

    def _calm(self, now: float) -> bool:
        since = now - SETTLED
        return not self._joining and self._world.oracle.works.throughout(since, now)

    def _look(self) -> None:
        now = self._world.clock.now
        self._look_at_joining(now)
        patch = self._answered
        if patch is not None:
            if patch.process is not patch.server.process or not patch.server.alive:
                # Nobody knows whether it has written the change.
                self._answered = None
            elif now - patch.at >= SETTLED and not self._asked and self._calm(now):
                self._world.truth.note("params", f"{patch.rule} is in force everywhere")
                self._rules.only([patch.rule], now)
                self._answered = None
        self._world.clock.after(1.0, self._look)

    def _look_at_joining(self, now: float) -> None:
        world = self._joins
        assert world is not None
        for host, (since, server) in list(self._joining.items()):
            if not server.alive or now - max(world.shares_since(host), since) >= SETTLED:
                del self._joining[host]
            elif not world.sees_others(host):
                if _command_line(server) not in self._rules.possible:
                    self._answered = None
                    self._clean = False
                self._rules.may(_command_line(server), now)


def _command_line(server: "Server") -> Rule:
    return Rule(server.params.warntime, server.params.errtime, server.params.interval)
