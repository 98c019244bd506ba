"""HSM's table, in which others write what is not true, is put right within two comparisons."""

import signal
from collections.abc import Iterable
from dataclasses import replace
from itertools import cycle
from random import Random
from typing import Any

from twisted.internet.task import deferLater

from hbtd.simulator.hsm_table import ComponentState, read_rows
from tests.support.hsm_memory import DIED as DIED_UPDATE
from tests.support.many_nodes import ManyNodesTestCase
from tests.support.mixed_fleet import (
    DIED,
    ERRTIME,
    INTERVAL,
    LATE,
    LEASE,
    NAMES,
    PERIOD,
    SEED,
    MixedFleetTestCase,
)
from tests.support.replicas_running import Spawned, until_true
from tests.support.running import reactor, until

SYNC = 20
"""Seconds between two comparisons."""
PAUSE = 10
"""Seconds between the two looks of one."""
RIGHT = 2 * (SYNC + PAUSE) + LATE
"""Seconds within which the table is right: two comparisons."""
FALSE = ("Standby/Alert", "Ready/Warning", "Off/OK")
"""What somebody writes into HSM's table of nodes that live."""


class ManyComponentsTests(ManyNodesTestCase):
    """A machine of ten thousand nodes, a few of which are dead."""

    DEAD, WRONG, WRONG_DEAD = 50, 490, 10
    RIGHT = SYNC + PAUSE + 2 * ManyNodesTestCase.PERIOD + LATE
    """Seconds: the next two looks, and two heartbeats of each node after the first."""

    async def test_five_hundred_wrong(self) -> None:
        """What is wrong about 500 of them is right after two looks; no living one is told dead."""
        random = Random(SEED)
        names = self.NAMES
        dying = set(random.sample(names, self.DEAD))
        living = [name for name in names if name not in dying]
        truth = {name: "Standby/Alert" if name in dying else "Ready/OK" for name in names}
        started = reactor.seconds()
        await self.start(f"--sm_sync={SYNC}")
        stopped = dict.fromkeys(dying, reactor.seconds())
        self.generator.stop(*dying)
        await self.until_table(truth, 2 * self.ERRTIME)
        excused = await self.deaf()

        before = await self.comparison()
        known = len(await self.updates())
        self.metered.clear()
        wrong = {name: random.choice(FALSE) for name in random.sample(living, self.WRONG)}
        wrong |= dict.fromkeys(sorted(dying)[: self.WRONG_DEAD], "Ready/OK")
        began = reactor.seconds()
        await self.client.request("PATCH", f"{self.hsm}/control/components", wrong)
        self.assertEqual(await self.table(), truth | wrong)
        await self.until_table(truth, self.RIGHT + excused)
        took = reactor.seconds() - began
        after = await self.comparison()
        load = {kind: replace(each) for kind, each in self.metered.load.items()}
        updates = await self.updates()
        seen = await self.generator.counts()
        deaths, false = self.deaths(updates, stopped)
        print(
            f"\n      {len(wrong)} of {self.COUNT} wrong: right after {took:.0f} s and"
            f" {after['Ended'] - before['Ended']} comparisons; deaths told within"
            f" {max(deaths.values()):.1f} s; {seen['kept']['outcomes']}"
        )
        for kind, each in load.items():
            print(f"      HSM's load, {kind}: {each}")

        self.assertEqual(false, [])
        self.assertEqual(set(deaths), dying)
        self.assertLess(max(deaths.values()), self.ERRTIME + INTERVAL + LATE + excused)
        # Nobody is named but those that were wrong, once each, and many at a time.
        again = [name for update in updates[known:] for name in update["names"]]
        self.assertEqual(sorted(again), sorted(wrong))
        self.assertLess(load["updates"].requests, self.WRONG / 5)
        self.assertLess(load["updates"].sent, 100 * self.WRONG)
        # As often as it is said, and not one after the other.
        self.assertLessEqual(after["Begun"], (reactor.seconds() - started) / SYNC + 1)
        # Two looks a comparison, the one under way at the beginning and at the end included.
        looks = 2 * (after["Begun"] - before["Ended"])
        self.assertLessEqual(load["reads"].requests, looks)
        self.assertGreaterEqual(load["reads"].requests, 2 * (after["Ended"] - before["Begun"]))
        self.assertLess(load["reads"].received, looks * 100 * self.COUNT)
        self.assertLessEqual(load["probes"].requests, took / 5 + 2)

    def deaths(
        self, updates: Iterable[dict[str, Any]], stopped: dict[str, float]
    ) -> tuple[dict[str, float], list[str]]:
        """Return how long it took to tell HSM of each death, and whose was told that lives."""
        deaths: dict[str, float] = {}
        false: list[str] = []
        for update in updates:
            if update["message"] != DIED_UPDATE.message:
                continue
            for name in update["names"]:
                if name in stopped and update["received"] > stopped[name]:
                    deaths.setdefault(name, update["applied"] - stopped[name])
                else:
                    false.append(name)
        return deaths, false


class MixedTableTests(MixedFleetTestCase):
    """Originals and replicas that take turns, beside others that write HSM's table."""

    timeout = 480

    async def test_mixed(self) -> None:
        """After an upgrade, a kill, a downgrade, and an outage of HSM the table becomes true."""
        try:
            await self.disturb()
        finally:
            await self.silence()

    async def disturb(self) -> None:
        """Have all that happen while the nodes send heartbeats."""
        figures: list[str] = []
        doomed = [NAMES[start : start + 3] for start in range(0, 12, 3)]

        # The upgrade: the table was falsified while an original had the lock.
        one = await self.original()
        await until(lambda: len(self.hsm.table.rows) == len(NAMES))
        self.falsify(NAMES[10:20])
        first = await self.ours(f"--sm_sync={SYNC}")
        second = await self.ours(f"--sm_sync={SYNC}")
        self.kill(one)
        leader, other = await self.leader(first, second)
        self.die(doomed[0])
        await self.dead(doomed[0], extra=LEASE)
        figures.append(f"upgraded {await self.right():.0f} s")

        # The leader is killed; living nodes are called dead, and dead ones living.
        self.end(leader, signal.SIGKILL)
        self.die(doomed[1])
        self.falsify(NAMES[20:30])
        self.hsm.table.force({doomed[0][0]: ComponentState("Ready", "OK")})
        await until_true(other.leads, within=LEASE + 4 * INTERVAL + LATE)
        await self.dead(doomed[1], extra=LEASE + ERRTIME)
        figures.append(f"killed {await self.right():.0f} s")

        # The downgrade, and the upgrade after it.
        two = await self.original()
        await deferLater(reactor, 2 * INTERVAL)
        self.end(other, signal.SIGTERM)
        self.die(doomed[2])
        await self.dead(doomed[2], extra=INTERVAL)
        self.falsify(NAMES[30:40])
        third = await self.ours(f"--sm_sync={SYNC}")
        self.kill(two)
        await until_true(third.leads, within=LEASE + 4 * INTERVAL + LATE)
        figures.append(f"downgraded, upgraded {await self.right():.0f} s")

        # HSM's database is gone for a while, and back from a copy in which some are wrong.
        self.hsm.behaviour.database_gone = True
        self.die(doomed[3])
        await deferLater(reactor, ERRTIME + 2 * INTERVAL)
        self.falsify(NAMES[40:50])
        self.hsm.table.force({doomed[1][0]: ComponentState("Ready", "OK")})
        self.hsm.behaviour.database_gone = False
        figures.append(f"HSM down {await self.right():.0f} s")

        print(f"\nseed {SEED}: {'; '.join(figures)}")

    async def leader(self, one: Spawned, other: Spawned) -> tuple[Spawned, Spawned]:
        """Wait for one of two replicas to lead; return the leader, and the other one."""

        async def led() -> bool:
            return await one.leads() or await other.leads()

        await until_true(led, within=LEASE + 4 * INTERVAL + LATE)
        return (one, other) if await one.leads() else (other, one)

    def falsify(self, names: Iterable[str]) -> None:
        """Have somebody write into HSM's table what is not true of living nodes."""
        self.hsm.table.force(read_rows(dict(zip(names, cycle(FALSE), strict=False))))

    def assert_no_false_death(self) -> None:
        """Check that HSM was told of no node's death while it sent heartbeats."""
        for name, told in self.telling.items():
            living = [each for each in told if each.at < self.died.get(name, float("inf"))]
            self.assertNotIn(DIED, [each.what for each in living], f"{name} lives")

    async def right(self) -> float:
        """Wait until HSM's table is the truth; return the seconds that it took."""
        began = reactor.seconds()
        await deferLater(reactor, PERIOD)

        def wrong() -> dict[str, ComponentState]:
            return {
                name: row
                for name, row in self.hsm.table.rows.items()
                if (row.state, row.flag)
                != (("Standby", "Alert") if name in self.died else ("Ready", "OK"))
            }

        try:
            await until(lambda: not wrong(), RIGHT)
        except AssertionError:
            self.fail(f"still wrong: {wrong()}")
        finally:
            self.assert_no_false_death()
        seconds: float = reactor.seconds() - began
        return seconds
