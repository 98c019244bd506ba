"""Replicas beside the original: an upgrade, kills, a downgrade, and a gap in the monitoring.

The original is a stand-in (`tests.support.original_hbtd`), the replicas are processes, and etcd is
real. `HBTD_FAULT_SEED` sets the seed of the random numbers.
"""

import os
import signal
from collections.abc import Iterable
from itertools import count
from random import Random
from typing import NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, deferLater

from hbtd.simulator.bulk_update import Update
from hbtd.simulator.fleet import node_names
from hbtd.tracker.transitions import Transition
from tests.support.hsm_memory import KINDS
from tests.support.original_hbtd import OriginalHbtd
from tests.support.replicas_running import OwnReplicasTestCase, Spawned, until_true
from tests.support.running import reactor, until

SEED = int(os.environ.get("HBTD_FAULT_SEED", "1"))
STARTED, WARNED, RESTARTED, DIED = Transition

WARNTIME, ERRTIME, INTERVAL = 4, 9, 1
PERIOD = 0.8
LEASE = 10
NAP = WARNTIME + 2.5
"""Seconds of silence that make a warning, but no death."""
LATE = 3.0
"""Seconds that a judgement may take to reach HSM on a busy machine."""

NAMES = node_names(60)
NAPPERS, DOOMED = NAMES[:30], [NAMES[start : start + 5] for start in range(30, 50, 5)]


class Told(NamedTuple):
    """What HSM was told of a node, when, and by whom."""

    at: float
    what: Transition
    ours: bool


class MixedFleetTests(OwnReplicasTestCase):
    """No replica tells HSM that a node is dead that beats, and deaths are told in time."""

    timeout = 300

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        """Start etcd, an HSM, and nodes that have nobody to talk to yet."""
        etcd = await self.start()
        self.begin(etcd.address, on_update=self.note)
        self.hsm.behaviour.cost_ms = 0.5
        self.random = Random(SEED)
        self.telling: dict[str, list[Told]] = {name: [] for name in NAMES}
        self.serving: list[Spawned | OriginalHbtd] = []
        self.talks_to: dict[str, Spawned | OriginalHbtd] = {}
        self.wakes = dict.fromkeys(NAMES, 0.0)
        self.naps: dict[str, list[tuple[float, float]]] = {name: [] for name in NAMES}
        self.died: dict[str, float] = {}
        self.beaten = 0
        self._numbers = count(100)
        self._loops: list[LoopingCall] = []
        for name in NAMES:
            loop = LoopingCall(self.beat, name)
            reactor.callLater(self.random.uniform(0.0, PERIOD), loop.start, PERIOD)
            self._loops.append(loop)
        self._originals: list[OriginalHbtd] = []
        self._sending = 0

    async def silence(self) -> None:
        """Stop all nodes and originals, and wait for the answers to their last requests."""
        for loop in self._loops:
            if loop.running:
                loop.stop()
        for original in self._originals:
            original.kill()
        await until(lambda: not (self._sending or any(each.busy for each in self._originals)))

    def note(self, update: Update) -> None:
        """Record an update of a replica."""
        self.tell(KINDS[update.message], update.names, ours=True)

    def tell(self, transition: Transition, names: Iterable[str], *, ours: bool = False) -> None:
        """Record what HSM is told."""
        for name in names:
            self.telling[name].append(Told(reactor.seconds(), transition, ours))

    def beat(self, name: str) -> None:
        """Send a heartbeat to the process that a node talks to, or to another if that is gone."""
        if name in self.died or self.wakes[name] > reactor.seconds() or not self.serving:
            return
        if self.talks_to.get(name) not in self.serving:
            self.talks_to[name] = self.random.choice(self.serving)
        sent = Deferred.fromCoroutine(self.send(name, self.talks_to[name]))
        sent.addErrback(lambda failure: None)  # its process was killed

    async def send(self, name: str, process: Spawned | OriginalHbtd) -> None:
        """Send a heartbeat."""
        self._sending += 1
        try:
            await process.beat(name, f"t{reactor.seconds():.2f}")
        finally:
            self._sending -= 1
        self.beaten += 1

    async def original(self) -> OriginalHbtd:
        """Start an original."""
        original = OriginalHbtd(
            self.connect(self.kv_url),
            reactor,
            reactor.seconds,
            self.tell,
            next(self._numbers),
            warntime=WARNTIME,
            errtime=ERRTIME,
            interval=INTERVAL,
        )
        self._originals.append(original)
        await original.start()
        self.serving.append(original)
        return original

    async def ours(self) -> Spawned:
        """Start a replica."""
        replica = await self.spawned(
            f"--warntime={WARNTIME}", f"--errtime={ERRTIME}", f"--interval={INTERVAL}"
        )
        self.serving.append(replica)
        return replica

    def kill(self, original: OriginalHbtd) -> None:
        """Kill an original."""
        self.serving.remove(original)
        original.kill()

    def end(self, replica: Spawned, number: int) -> None:
        """Send a signal to a replica that ends it."""
        self.serving.remove(replica)
        replica.process.signal(number)

    def die(self, names: Iterable[str]) -> None:
        """Let nodes die."""
        self.died.update(dict.fromkeys(names, reactor.seconds()))

    async def nap(self, names: Iterable[str], at: Spawned | OriginalHbtd) -> None:
        """Let nodes be silent until they are warned about, and then talk to this process."""
        wakes = reactor.seconds() + NAP
        for name in names:
            self.wakes[name] = wakes
            self.naps[name].append((reactor.seconds(), wakes + PERIOD + LATE))
            self.talks_to[name] = at
        await deferLater(reactor, NAP)

    async def dead(self, names: Iterable[str], extra: float = 0.0) -> float:
        """Assert that deaths are told in time; return the seconds that it took."""
        names = list(names)
        began = min(self.died[name] for name in names)
        within = ERRTIME + 2 * INTERVAL + LATE + extra - (reactor.seconds() - began)
        await until(lambda: all(self.last(each) is DIED for each in names), within)
        return float(reactor.seconds()) - began

    def last(self, name: str) -> Transition | None:
        """Return what HSM was told last of a node."""
        return self.telling[name][-1].what if self.telling[name] else None

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
        total = sum(map(len, self.telling.values()))
        print(
            f"\nseed {SEED}: {'; '.join(figures)}; {total} told, {self.beaten} heartbeats;", end=" "
        )
        print(f"{len(faults)} faults")
        self.assertEqual(faults, [])
        self.assertEqual(returned, NAPPERS)

    def faults(self) -> list[str]:
        """Return what HSM was told wrongly by replicas, and what it was not told, in words."""
        found: list[str] = []
        for name, told in self.telling.items():
            for at, what, ours in told:
                napped = any(start < at < end for start, end in self.naps[name])
                if at > self.died.get(name, float("inf")) or not ours:
                    continue
                if what is DIED or (what is WARNED and not napped):
                    found.append(f"{name} beats, and a replica told {what.name}: {told}")
            if name in self.died and self.last(name) is not DIED:
                found.append(f"{name} is dead, and HSM was told {told}")
            if name not in self.died and self.last(name) not in (STARTED, RESTARTED):
                found.append(f"{name} beats, and HSM was told {told}")
        return found
