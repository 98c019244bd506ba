"""Deaths wait with `--guard=hold`: a chassis and a system of 2,000 nodes fall silent, and are back.

So it is with one hbtd, and with replicas whose leader is killed meanwhile.
`HBTD_FAULT_SEED` sets the seed of the random numbers.
"""

import signal
from pathlib import Path

from twisted.internet.task import deferLater

from tests.support.guarded_fleet import (
    ERRTIME,
    INTERVAL,
    LATE,
    NAMES,
    GuardedFleet,
    port_of,
)
from tests.support.replicas_running import OwnReplicasTestCase
from tests.support.running import reactor

CHASSIS = [name for name in NAMES if name.startswith("x1000c3s")]
STRAY = "x1002c5s4b1n2"
AWAY = ["x1000c0s0b0n0", "x1000c3s1b0n2", "x1001c7s7b1n3", "x1002c5s4b1n2", "x1003c6s1b1n3"]
"""The nodes that stay away when the whole system falls silent."""

MORE = 10
"""Seconds by which a change of the leader may make a hold longer (docs/guarantees.md)."""


class Story(GuardedFleet):
    """Mixed into a test case: what becomes of the nodes."""

    longer = 0
    """Seconds by which the hold may be longer than its rules say."""

    async def disturb(self) -> None:
        """Do what goes wrong while deaths wait: nothing."""

    async def chassis(self) -> None:
        """Let a chassis and a node elsewhere fall silent; the chassis is back within the hold."""
        await self.fall_silent([*CHASSIS, STRAY])
        await self.disrupted(CHASSIS)
        await self.told_dead([STRAY])
        stray, excused = self.death(STRAY) - self.heard[STRAY], await self.excused()
        self.figures.append(f"a node elsewhere told dead after {stray:.1f} s")
        self.assertGreaterEqual(stray, ERRTIME)
        self.assertLess(stray, ERRTIME + INTERVAL + LATE + excused, "it had to wait")
        await self.disturb()
        await self.come_back(CHASSIS)
        await self.after_the_hold()
        await self.report()
        self.assert_told(back=CHASSIS, away=[STRAY])
        await self.assert_stated("x1000c3", "back")

    async def system(self) -> None:
        """Let the whole system fall silent; all but a few nodes are back within the hold."""
        back = sorted({*NAMES}.difference(AWAY))
        await self.fall_silent(NAMES)
        await self.disrupted(NAMES)
        await self.disturb()
        await self.come_back(back)
        await self.told_dead(AWAY)
        deaths, excused = [self.death(name) for name in AWAY], await self.excused()
        first, last = min(deaths) - self.until, max(deaths) - self.until
        self.figures.append(f"{len(AWAY)} told dead {first:.1f} to {last:.1f} s after its end")
        await self.after_the_hold()
        await self.report()
        self.assert_told(back=back, away=AWAY)
        self.assertGreaterEqual(first, 0.0)
        self.assertLess(last, self.longer + INTERVAL + LATE + excused)
        await self.assert_stated("s0", "over")

    async def after_the_hold(self) -> None:
        """Let the time pass in which a death would be told that has waited."""
        last = self.until + self.longer + INTERVAL + LATE + await self.excused()
        await deferLater(reactor, max(last - reactor.seconds(), 0.0))


class AloneTests(Story):
    """One hbtd, with an SQLite file."""

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        """Start it."""
        self.observe(f"sqlite:{Path(self.mktemp()).resolve()}")
        await self.serve(1)

    async def test_chassis(self) -> None:
        """Nobody of a chassis that is back within the hold dies, and a node elsewhere in time."""
        await self.chassis()

    async def test_system(self) -> None:
        """Of a whole system nobody dies who is back within the hold, and at its end all others."""
        await self.system()


class ReplicasTests(Story, OwnReplicasTestCase):
    """Two replicas on an etcd; the leader is killed while deaths wait."""

    hold = 30
    longer = MORE

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        """Start them."""
        self.observe((await self.start()).address)
        await self.serve(2)

    async def disturb(self) -> None:
        """Kill the leader, and wait until the other replica leads and has the deaths wait."""
        leader, waiting = await self.leader(), (await self.guard())["Held"]
        self.serving.remove(leader)
        self.balancer.ports.remove(port_of(leader))
        leader.process.signal(signal.SIGKILL)
        killed = reactor.seconds()
        await self.leader()
        self.figures.append(f"another leads {reactor.seconds() - killed:.1f} s after the kill")
        await self.held(waiting)
        await self.excuse()

    async def test_chassis(self) -> None:
        """Nobody of a chassis that is back within the hold dies, whoever leads meanwhile."""
        await self.chassis()

    async def test_system(self) -> None:
        """The next leader holds the deaths of a whole system no longer and no shorter."""
        await self.system()
