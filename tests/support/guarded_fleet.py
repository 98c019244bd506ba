"""2,000 nodes that beat to hbtd with `--guard=hold`, and what HSM, events and answers say of them.

hbtd runs as processes of its own. `HBTD_FAULT_SEED` sets the seed of the random numbers.
"""

import os
from collections.abc import Collection, Iterable
from itertools import groupby
from random import Random
from typing import Any

from twisted.internet.task import deferLater

from hbtd.formats.times import parse_time
from hbtd.simulator.bulk_update import Update
from hbtd.simulator.fleet import Fleet, node_names
from hbtd.tracker.transitions import Transition
from tests.support.balancer import Balancer
from tests.support.event_reader import EventReader
from tests.support.hsm_memory import DIED, KINDS, RESTARTED, STARTED, WARNED
from tests.support.own_metrics import numbers
from tests.support.own_stalls import OwnStalls
from tests.support.replicas_running import Replicas, Spawned, until_true
from tests.support.running import reactor, until

SEED = int(os.environ.get("HBTD_FAULT_SEED", "1"))

NAMES = node_names(2000)
PERIOD = 2.0
WARNTIME, ERRTIME, INTERVAL = 7, 18, 1
"""What another replica hears is known up to 3 s later, and `Warntime` is longer than that and two
periods. A gap of hbtd has silences that began just before it count only after another `Warntime`;
with this `Errtime`, that is before a death is due."""
LATE = 3.0
"""Seconds that a judgement may take to reach HSM on a busy machine."""
PATIENCE = 30.0
"""Seconds more than allowed after which nothing is waited for any more."""
STEADY = 3 * PERIOD
"""Seconds for which all nodes beat before they fall silent, so that hbtd knows their periods."""
SHORTLY = 7.0
"""Seconds before the end of the hold at which nodes begin to come back."""


class GuardedFleet(Replicas):
    """Mixed into a test case: hbtd, a fleet, and what hbtd says of its nodes."""

    timeout = 240
    hold = 20
    """Seconds for which deaths wait."""

    def observe(self, kv_url: str) -> None:
        """Start an HSM whose updates are noted, for hbtd with this store."""
        self.telling: dict[str, list[tuple[float, Transition]]] = {name: [] for name in NAMES}
        self.heard: dict[str, float] = {}
        self.back: dict[str, float] = {}
        self.silent: set[str] = set()
        self.figures: list[str] = []
        self.stalls = OwnStalls(self)
        self.begin(kv_url, on_update=self._note)
        self.hsm.behaviour.cost_ms = 0.5

    def _note(self, update: Update) -> None:
        for name in update.names:
            self.telling[name].append((reactor.seconds(), KINDS[update.message]))

    def _answered(self, name: str, seconds: float) -> None:
        now = self.heard[name] = reactor.seconds()
        if name not in self.silent:
            self.back.setdefault(name, now)

    async def serve(self, count: int) -> None:
        """Start replicas, as many as `count`, and the nodes; wait until their periods are known."""
        balancer = self.balancer = Balancer()
        self.serving: list[Spawned] = []
        for _ in range(count):
            replica = await self.spawned(
                *(f"--warntime={WARNTIME}", f"--errtime={ERRTIME}", f"--interval={INTERVAL}"),
                *("--guard=hold", f"--guard_hold={self.hold}"),
            )
            self.serving.append(replica)
            balancer.ports.append(port_of(replica))
        self.readers = {each: EventReader(self) for each in self.serving}
        for replica, reader in self.readers.items():
            await reader.connect(replica.url)
        self.fleet = Fleet(
            reactor, balancer, "http://hbtd", NAMES,
            random=Random(SEED), period=PERIOD, timeout=2.0, connections=200,
            on_answer=self._answered,
        )  # fmt: skip
        self.fleet.startService()
        self.addCleanup(self.fleet.stopService)
        await until(lambda: all(self.telling.values()), within=30 + PATIENCE)
        await deferLater(reactor, STEADY)

    async def leader(self) -> Spawned:
        """Return the replica that leads; wait for one to do so."""
        leading: list[Spawned] = []

        async def led() -> bool:
            leading[:] = [each for each in self.serving if await each.leads()]
            return bool(leading)

        await until_true(led, within=PATIENCE)
        return leading[0]

    async def guard(self) -> Any:
        """Return what the guard of the leader says."""
        status, said = await (await self.leader()).get("guard")
        self.assertEqual(status, 200)
        return said

    async def deaf(self) -> dict[Spawned, float]:
        """Return for how many seconds each that serves could not hear, or made up for that.

        Each second in which hbtd is deaf on a busy machine is followed by as long a standstill. HSM
        and the nodes are in the process of the test.
        """
        return {
            each: self.stalls.seconds
            + 2 * (await numbers(self.web, each.url))["deaf_seconds_total"]
            for each in self.serving
        }

    async def excuse(self) -> None:
        """Excuse nothing that was before."""
        self.deaf_before = await self.deaf()

    async def fall_silent(self, names: Iterable[str]) -> None:
        """Let nodes fall silent at once."""
        await self.excuse()
        self.silent.update(names)
        self.fleet.kill(self.silent)
        self.fell_silent = reactor.seconds()

    async def disrupted(self, names: Collection[str]) -> None:
        """Wait until a disruption is stated, and the deaths of these nodes wait.

        All replicas have told their readers by then.
        """
        said = await self.held(len(names))
        await until(lambda: all(each.read("guard") for each in self.readers.values()), PATIENCE)
        (stated,) = said["Statements"]
        self.began, self.until = unix(stated["Began"]), unix(stated["Until"])
        found = unix(stated["At"]) - self.fell_silent
        self.figures.append(
            f"{stated['Domain']} found {found:.1f} s after all fell silent, with {stated['Away']}"
            f" silent; {said['Held']} deaths held"
        )
        excused = await self.excused()
        self.assertLess(found, ERRTIME + INTERVAL + LATE + excused)
        # Those who beat last may not be known to be silent yet.
        self.assertLessEqual(stated["Away"], len(names))
        self.assertGreaterEqual(self.until - self.began, self.hold - 0.1)
        self.assertLess(self.until - self.began, self.hold + 0.1 + excused)

    async def held(self, number: int) -> Any:
        """Wait until so many deaths wait; return what the guard of the leader says then."""
        said: dict[str, Any] = {}

        async def waiting() -> bool:
            said.update(await self.guard())
            return said["Held"] == number and bool(said["Statements"])

        try:
            await until_true(waiting, within=ERRTIME + INTERVAL + LATE + PATIENCE)
        except AssertionError:
            for each in said["Disruptions"]:
                del each["XNames"]
            self.fail(f"{number} deaths should wait, and the guard says {said}")
        return said

    async def excused(self) -> float:
        """Return the seconds by which what hbtd says may be late, as it was deaf since `excuse`."""
        before = self.deaf_before
        return max(seconds - before[each] for each, seconds in (await self.deaf()).items())

    async def come_back(self, names: Collection[str]) -> None:
        """Let nodes come back shortly before the end of the hold; wait until all were heard."""
        await deferLater(reactor, max(self.until - SHORTLY - reactor.seconds(), 0.0))
        self.back.clear()
        self.silent.difference_update(names)
        self.fleet.revive(names)
        await until(lambda: self.back.keys() >= set(names), within=SHORTLY + PATIENCE)
        last = max(self.back[name] for name in names)
        self.figures.append(f"back up to {self.until - last:.1f} s before the end of the hold")
        self.assertLess(last, self.until, "the machine is too busy for this test")

    async def told_dead(self, names: Iterable[str]) -> None:
        """Wait until HSM has been told that nodes are dead."""
        within = max(self.until - reactor.seconds(), 0.0) + PATIENCE
        await until(lambda: all(DIED in self.kinds(name) for name in names), within)

    def kinds(self, name: str) -> list[Transition]:
        """Return what HSM was told of a node, without repetitions."""
        return [what for what, _ in groupby(what for _, what in self.telling[name])]

    def death(self, name: str) -> float:
        """Return when HSM was told first that a node is dead."""
        return next(at for at, what in self.telling[name] if what is DIED)

    def assert_told(self, *, back: Collection[str], away: Collection[str]) -> None:
        """Check what HSM was told of those who came back, of those who did not, and of all others.

        Warnings and returns do not wait.
        """
        wrong: dict[str, list[str]] = {}
        for name in NAMES:
            expected = [STARTED]
            if name in away:
                expected = [STARTED, WARNED, DIED]
            elif name in back:
                expected = [STARTED, WARNED, RESTARTED]
            if (said := self.kinds(name)) != expected:
                wrong[name] = [each.name for each in said]
        some = dict(sorted(wrong.items())[:5])
        self.assertEqual(some, {}, f"{len(wrong)} nodes are told what is not true")

    async def assert_stated(self, domain: str, reason: str) -> None:
        """Check that a domain was stated to be disrupted once, and not to be for a reason, once."""
        stated = [(1, "disrupted", domain, None), (2, "ended", domain, reason)]

        async def over() -> bool:
            return len((await self.guard())["Statements"]) >= len(stated)

        await until_true(over, within=PATIENCE)
        said = await self.guard()
        self.assertEqual(statements(reversed(said["Statements"])), stated)
        self.assertEqual((said["Held"], said["Disruptions"]), (0, []))
        for replica, reader in self.readers.items():
            heard = statements(reader.read("guard"))
            self.assertEqual(heard, stated if replica in self.serving else stated[:1])
            self.assertNotIn("Traceback", replica.process.said)

    async def report(self) -> None:
        """Print the figures."""
        statistics, excused = self.fleet.statistics, await self.excused()
        print(f"\n      seed {SEED}: {'; '.join(self.figures)}; {excused:.1f} s excused")
        print(
            f"      heartbeats: {statistics.answered} answered, up to"
            f" {statistics.latency().max:.1f} s; failed: {dict(statistics.failures)}"
        )


def statements(said: Iterable[Any]) -> list[tuple[int, str, str, str | None]]:
    """Return what statements say, in short."""
    return [(each["Number"], each["What"], each["Domain"], each["Reason"]) for each in said]


def unix(text: str) -> float:
    """Return the Unix time of a time in an answer."""
    return parse_time(text, 0.0)


def port_of(replica: Spawned) -> int:
    """Return the port of a replica."""
    return int(replica.url.rpartition(":")[2])
