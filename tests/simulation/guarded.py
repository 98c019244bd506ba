"""Small machines whose failure domains fall silent: slots, chassis, cabinets, a PDU, all of it."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from hbtd.config.params import Params
from hbtd.simulator.bulk_update import Update
from tests.simulation.guard_judge import Judge, Told
from tests.simulation.guard_oracle import GuardOracle, GuardRules
from tests.simulation.guard_watch import Statement, Watcher
from tests.simulation.handover import HandoverWorld
from tests.simulation.nodes import Node
from tests.simulation.outages import KINDS, Domain, domains_of, read_groups
from tests.simulation.silences import Silences
from tests.simulation.single import SingleWorld
from tests.simulation.world import World

_GROUPS = Path(__file__).with_name("guarded.groups")

_PLACES = ("x1000c0", "x1000c1", "x1001c0")

NAMES = [f"{place}s{slot}b0n{node}" for place in _PLACES for slot in (0, 1) for node in (0, 1, 2)]
"""The nodes: two cabinets, three chassis, six slots."""

_RESTS = 20.0
"""Seconds between two outages in which all nodes beat."""

_PATIENCE = 2.0
"""The least seconds for which a node is to be silent that may wait for an answer before."""

_LONGER = 10.0
"""Seconds by which a restart or a change of the leader may make a hold longer."""


class Outage(NamedTuple):
    """What is planned for a domain."""

    domain: Domain
    ends: float
    """When all beat again."""
    again: float
    """After how many seconds something else happens to the domain, if anything does."""
    least: float
    """After how many seconds some come back, at the earliest."""


class Guarded(World):
    """A world in which domains fall silent, come back or stay away, beside single deaths.

    Nobody else writes HSM's table, and HSM, disk and etcd are well, so that it is clear what hbtd
    has to do; in some worlds hbtd is killed, restarted or stopped, or another replica leads.
    """

    quiet = 75.0
    tampered = 0.0
    stalls_last = 0.0
    late = 0.0
    """How many seconds later a heartbeat may be known than it was answered."""

    settle = 20.0
    """Seconds after a disturbance from which on hbtd works as if there had been none."""

    recovery = 1.0
    """Seconds, besides twice Warntime, within which it judges again those silent before."""

    first = 25.0
    """When the first domain falls silent; by then the periods of all nodes are known."""

    troubled = 0.45
    """In what share of outages hbtd is disturbed."""

    def __init__(self, seed: int, *args: Any, **more: Any) -> None:
        """Make a world, whose guard and outages are decided by a source of chance of their own."""
        self.chance = Random(f"guard {seed}")
        self.mode = self.chance.choice(("hold",) * 7 + ("report",))
        self.hold_param = self.chance.choice(("auto", "auto", "18", "40"))
        super().__init__(seed, *args, **more)
        self.hold = 3.0 * self.errtime if self.hold_param == "auto" else float(self.hold_param)
        self.domains = domains_of(NAMES, read_groups(_GROUPS.read_text()))
        self.by_name = {node.name: node for node in self.nodes}
        self.log = Silences(self.oracle.hears)
        rules = GuardRules(
            self.warntime,
            self.errtime,
            self.interval,
            self.hold if self.mode == "hold" else 0.0,
            late=self.late,
            settle=self.settle,
            recovery=self.recovery + 2 * self.warntime,
        )
        self.guard_oracle = GuardOracle(
            self.log, rules, self.domains, lambda name: self.by_name[name].period
        )
        self.watcher = Watcher(self.clock, self.network, self.servers, self._stated, self.fail)
        self._beat_at: dict[str, float] = {}
        self._lost: set[str] = set()
        self.oracle.waits = self._waits

    # What the log is told

    def machine(self, number: int) -> Sequence[str]:
        """Return the names of the nodes."""
        return NAMES

    def hazard(self, name: str, share: float) -> None:
        """Return nothing: such a world has no other hazards."""

    def _params(self, address: str, kv_url: str) -> Params:
        params = super()._params(address, kv_url)
        return replace(params, guard=self.mode, guard_hold=self.hold_param, groups=str(_GROUPS))

    def told(self, update: Update) -> None:
        """Note what HSM is told."""
        super().told(update)
        for name in update.names:
            word = f"{update.state}/{update.flag}".lower()
            self.log.note_told(name, word, self.clock.now)

    def node_answered(self, node: Node, host: str) -> None:
        """Note that a heartbeat was answered."""
        super().node_answered(node, host)
        self.log.note_heard(node.name, self.clock.now)

    def note_state(self) -> None:
        """Note that hbtd does not run as it did."""
        super().note_state()
        self.log.note_disturbed(self.clock.now)

    def _beats(self, name: str, number: int) -> None:
        super()._beats(name, number)
        self._beat_at[name] = self.clock.now

    def _late(self, source: str, target: str, sent: float) -> None:
        super()._late(source, target, sent)
        name = self._names.get(source)
        if name is not None:
            self.log.note_late(name, self.clock.now)

    def _stated(self, statement: Statement) -> None:
        includes = f", with {' '.join(statement.includes)}" if statement.includes else ""
        self.truth.note(
            "guard",
            f"{statement.number}: {statement.kind} {statement.domain} {statement.what}"
            f" {statement.reason}{includes}, said at {statement.at:.2f}",
        )

    def _waits(self, name: str) -> float:
        """Return how many seconds a death may wait besides."""
        now = self.clock.now
        since = self.log.last(name, now)
        if self.mode != "hold" or not self.guard_oracle.may_wait(name, since, now):
            return 0.0
        disturbed = sum(since <= each <= now for each in self.log.disturbances)
        return self.hold + 2 * self.interval + _LONGER * disturbed

    # What goes wrong

    def disturb(self) -> None:
        """Have something happen to hbtd."""
        raise NotImplementedError

    def _schedule_faults(self) -> None:
        at = self.first
        while (ends := self._plan(at)) is not None:
            at = ends + _RESTS

    def _plan(self, at: float) -> float | None:
        """Plan an outage from a time on; return when all is well, `None` if that is too late."""
        chance = self.chance
        again = chance.uniform(1.0, self.errtime + self.hold)
        plan = chance.choices(
            (self._falls, self._partly, self._few, self._twice, self._spreads, self._remnant),
            (5, 4, 1.5, 2, 2, 2),
        )[0]
        ends = at + self.errtime + self.hold + 3 * self.interval + 4.0
        if plan == self._remnant:
            again = self.errtime + 2 * self.interval + 4.0
        if plan in (self._twice, self._spreads, self._remnant):
            ends += again
        if ends > self.seconds:
            return None
        kind = chance.choice(KINDS if plan != self._remnant else KINDS[1:])
        domain = chance.choice([each for each in self.domains if each.kind == kind])
        least = self.errtime * 0.5
        if chance.random() < self.troubled:
            trouble = chance.uniform(-3.0, self.errtime + self.hold)
            self.clock.at(at + trouble, self.disturb)
            ends += _LONGER
            if trouble < self.errtime + 2 * self.interval:
                least = self.errtime + self.recovery + 2 * self.warntime
        for _ in range(chance.choice((0, 0, 1, 2))):
            name = chance.choice(NAMES)
            if name not in domain.nodes:
                begins = at + chance.uniform(-self.errtime / 2, self.errtime + self.hold)
                single = Outage(domain, ends, again, least)
                self.clock.at(begins, partial(self._fall, [name], single))
        self.clock.at(at, partial(plan, Outage(domain, ends, again, least)))
        return ends + 2.0

    def _falls(self, outage: Outage) -> None:
        """Have all of a domain fall silent."""
        self._fall(outage.domain.nodes, outage)

    def _partly(self, outage: Outage) -> None:
        """Have most of a domain fall silent, or somewhat more than half of it."""
        nodes = sorted(outage.domain.nodes)
        number = round(len(nodes) * self.chance.uniform(0.5, 0.95))
        self._fall(self.chance.sample(nodes, number), outage)

    def _few(self, outage: Outage) -> None:
        """Have less than half of a domain fall silent."""
        nodes = sorted(outage.domain.nodes)
        number = max(int(len(nodes) * self.chance.uniform(0.2, 0.49)), 1)
        self._fall(self.chance.sample(nodes, number), outage)

    def _twice(self, outage: Outage) -> None:
        """Have a domain fall silent, come back, and fall silent once more."""
        back = self.clock.now + outage.again * self.chance.uniform(0.5, 0.95)
        self._fall(outage.domain.nodes, outage._replace(ends=back), stay=1.0)
        self.clock.after(outage.again, partial(self._fall, outage.domain.nodes, outage))

    def _spreads(self, outage: Outage) -> None:
        """Have a domain fall silent in a part that stays away first."""
        domain = outage.domain
        smaller = [each for each in self.domains if each.nodes < domain.nodes] or [domain]
        self._fall(self.chance.choice(smaller).nodes, outage)
        self.clock.after(outage.again, partial(self._fall, domain.nodes, outage))

    def _remnant(self, outage: Outage) -> None:
        """Have half of a domain die, spread over it, and then all that is left of it."""
        nodes = sorted(outage.domain.nodes, key=lambda name: (name[-1], name))
        self._fall(nodes[: len(nodes) // 2], outage, stay=1.0)
        self.clock.after(outage.again, partial(self._fall, nodes, outage))

    def _fall(self, names: Collection[str], outage: Outage, stay: float | None = None) -> None:
        """Have nodes fall silent that beat; all beat again when the outage ends, some before.

        `stay` is the share of those that stay away until then, if chance is not to say so.
        """
        nodes = [self.by_name[name] for name in sorted(names)]
        nodes = [node for node in nodes if self._is_well(node)]
        if not nodes:
            return
        chance = self.chance
        stay = chance.choice((0.0, 0.3, 0.5, 1.0)) if stay is None else stay
        how = chance.choice((self._cut_power, self._cut_power, self._hang_node, self._lose))
        spread = chance.choice((0.0, 0.0, 0.5, 2.0))
        left = outage.ends - self.clock.now
        returns = chance.uniform(min(outage.least, left), min(max(self.hold, outage.least), left))
        falling = " ".join(node.name for node in nodes)
        self.truth.note("falls", f"{falling} until {outage.ends:.1f}")
        for node in nodes:
            lasts = left
            if chance.random() >= stay:
                lasts = min(left, returns + chance.uniform(0.0, self.errtime / 2))
            begins = chance.uniform(0.0, spread)
            lasts = max(lasts - begins, 0.1)
            self.clock.after(begins, partial(self._have_fall, node, lasts, how))

    def _is_well(self, node: Node) -> bool:
        return node.alive and not node.hanging and node.name not in self._lost

    def _waits_for_answer(self, node: Node) -> bool:
        return self._beat_at.get(node.name, -1.0) > node.last_answered

    def _have_fall(self, node: Node, seconds: float, how: Callable[[Node, float], None]) -> None:
        """Have a node fall silent as soon as it waits for no answer.

        So everybody knows which heartbeat was the last one.
        """
        if not self._is_well(node):
            return
        if self._waits_for_answer(node) and seconds > _PATIENCE:
            self.clock.after(0.1, partial(self._have_fall, node, seconds - 0.1, how))
            return
        if self._waits_for_answer(node):
            self.log.note_unanswered(node.name)
        how(node, seconds)

    def _cut_power(self, node: Node, seconds: float) -> None:
        self._crash_node(node, power=True)
        self.clock.after(seconds, partial(self._boot, node))

    def _hang_node(self, node: Node, seconds: float) -> None:
        self.truth.note("hang", node.name)
        node.hang()
        self.clock.after(seconds, node.wake)

    def _lose(self, node: Node, seconds: float) -> None:
        mends = [self.network.cut(node.host, "*"), self.network.cut("*", node.host)]
        self.truth.note("network", f"nothing from or to {node.name} for {seconds:.1f} s")
        self._lost.add(node.name)

        def mend() -> None:
            self._lost.discard(node.name)
            for each in mends:
                each()

        self.clock.after(seconds, mend)

    # The end

    def run(self) -> None:
        """Let it all happen, and judge it; raise `Violation` if hbtd breaks a promise."""
        super().run()
        statements = [each for _, each in sorted(self.watcher.known.items())]
        last = self.watcher.last
        told = Told(statements, len(last["Disruptions"]), last["Held"])
        judge = Judge(self.guard_oracle, told, self.clock.now)
        judge.judge(self.check)
        self.table = judge.table
        if self.violations:
            raise self.violations[0]


class GuardedWorld(Guarded, SingleWorld):
    """Outages of domains at one hbtd, which is killed, restarted and stopped meanwhile."""

    options = " GUARD=yes"
    rules = ((4, 9, 1), (5, 12, 1))

    def __init__(self, seed: int, kafka: bool = False, with_faults: bool = True) -> None:
        super().__init__(
            seed, kafka=kafka, with_faults=with_faults, nodes=len(NAMES), seconds=200.0
        )

    def disturb(self) -> None:
        """Kill hbtd, restart it, or stop it for a moment."""
        hbtd = self.hbtd
        if not hbtd.running:
            return
        what = self.chance.choice(("kill", "end", "stop"))
        if what == "kill":
            self._loses()
            hbtd.kill()
            self.disk.kill()
            self.clock.after(self.chance.uniform(0.3, 8.0), hbtd.start)
        elif what == "end":
            self.oracle.lost(self.clock.now, 0.0)
            hbtd.end(hbtd.start)
        else:
            hbtd.stop()
            self.clock.after(self.chance.uniform(0.3, 8.0), hbtd.resume)


class GuardedReplicas(Guarded, HandoverWorld):
    """Outages of domains while replicas lead in turn."""

    options = " GUARD=yes REPLICAS=3"
    rules = ((5, 14, 1), (6, 16, 1))
    quiet = 110.0
    lasts = 160.0
    size = len(NAMES)
    late = 3.5
    settle = 32.0
    recovery = 25.0
    first = 36.0
    troubled = 0.7

    def disturb(self) -> None:
        """Have another replica lead."""
        how: Sequence[Callable[[], None]] = (self._end_leader, self._stop_one, self._cut_leader)
        self.chance.choice(how)()

    def _stop_one(self) -> None:
        leader = self._leader()
        if leader is not None:
            self._stop_for(leader, self.chance.uniform(0.3, 15.0))
