"""Replicas beside the original: an upgrade, kills, a downgrade, and a gap in the monitoring."""

import signal

from twisted.internet.task import deferLater

from tests.support.mixed_fleet import (
    DIED,
    ERRTIME,
    INTERVAL,
    LATE,
    LEASE,
    NAMES,
    PERIOD,
    RESTARTED,
    SEED,
    STARTED,
    WARNTIME,
    MixedFleetTestCase,
)
from tests.support.replicas_running import until_true
from tests.support.running import reactor, until

NAPPERS, DOOMED = NAMES[:30], [NAMES[start : start + 5] for start in range(30, 50, 5)]


class MixedFleetTests(MixedFleetTestCase):
    """No replica tells HSM that a node is dead that beats, and deaths are told in time."""

    timeout = 300

    async def test_mixed(self) -> None:
        """Replicas join originals, replace them, are replaced by them, and join after a gap."""
        try:
            await self.mix()
        finally:
            await self.silence()

    async def mix(self) -> None:
        """Have all that happen while the nodes send heartbeats."""
        figures: list[str] = []
        one, two = await self.original(), await self.original()
        await until(lambda: all(self.last(name) is STARTED for name in NAMES))
        await self.nap(NAPPERS, one)
        await deferLater(reactor, 2 * INTERVAL + PERIOD)

        # The upgrade begins: warned nodes beat at an original while a replica leads.
        first = await self.ours()
        await until_true(first.leads, within=3 * INTERVAL + LATE)
        await self.nap(NAPPERS, one)
        await deferLater(reactor, ERRTIME)
        returned = [name for name in NAPPERS if self.last(name) is RESTARTED]
        figures.append(f"{len(returned)} of {len(NAPPERS)} warned nodes that beat at an original")
        self.kill(two)
        self.die(DOOMED[0])
        figures.append(f"beside an original {await self.dead(DOOMED[0]):.1f} s")

        # The leader is killed, while an original waits for the lock, too.
        second = await self.ours()
        await deferLater(reactor, 2 * PERIOD)
        self.die(DOOMED[1])
        self.end(first, signal.SIGKILL)
        await until_true(second.leads, within=LEASE + 4 * INTERVAL + LATE)
        figures.append(f"killed {await self.dead(DOOMED[1], extra=LEASE + ERRTIME):.1f} s")
        self.kill(one)
        await self.nap(NAPPERS[:10], second)

        # The downgrade: an original takes over, and declares deaths.
        three = await self.original()
        await deferLater(reactor, 2 * INTERVAL)
        self.end(second, signal.SIGTERM)
        self.die(DOOMED[2])
        figures.append(f"downgraded {await self.dead(DOOMED[2], extra=INTERVAL):.1f} s")

        # A gap: nobody listens, then an original alone, which a replica joins.
        self.kill(three)
        self.die(DOOMED[3])
        await deferLater(reactor, LEASE + ERRTIME)
        four = await self.original()
        await until(lambda: four.sweeps > 0)
        listening = reactor.seconds()
        await self.ours()
        await until(
            lambda: all(self.last(name) is DIED for name in DOOMED[3]),
            ERRTIME + 2 * INTERVAL + 2 * LATE,
        )
        figures.append(f"after a gap {reactor.seconds() - listening:.1f} s")
        await deferLater(reactor, WARNTIME + LATE)

        faults = self.faults()
        total, beaten = (sum(map(len, x.values())) for x in (self.telling, self.heard))
        print(f"\nseed {SEED}: {'; '.join(figures)}; {total} told, {beaten} heartbeats;", end=" ")
        print(f"{len(faults)} faults")
        self.assertEqual(faults, [], "\n".join(faults))
        self.assertEqual(returned, NAPPERS)

    def faults(self) -> list[str]:
        """Return what HSM was told wrongly by replicas, and what it was not told, in words."""
        found: list[str] = []
        for name, told in self.telling.items():
            for at, what, ours in told:
                if at > self.died.get(name, float("inf")) or not ours or not what.alarming:
                    continue
                # Originals write down whole seconds.
                least = (ERRTIME if what is DIED else WARNTIME) - 1
                if not self.silent(name, least, at):
                    beats = [f"{sent:.1f}" for sent, _ in self.heard[name] if at - 30 < sent < at]
                    found.append(f"{name} beats ({beats}), and a replica told {what.name}: {told}")
            if name in self.died and self.last(name) is not DIED:
                found.append(f"{name} is dead, and HSM was told {told}")
            if name not in self.died and self.last(name) not in (STARTED, RESTARTED):
                found.append(f"{name} beats, and HSM was told {told}")
        return found
