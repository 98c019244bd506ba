"""Replicas beside the original: the nodes that talk to them, and what HSM is told.

The original is a stand-in (`tests.support.original_hbtd`), the replicas are processes, and etcd is
real. `HBTD_FAULT_SEED` sets the seed of the random numbers.
"""

import os
from collections.abc import Iterable
from itertools import count, pairwise
from random import Random
from typing import NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, deferLater

from hbtd.simulator.bulk_update import Update
from hbtd.simulator.fleet import node_names
from hbtd.simulator.hsm_table import ComponentState
from hbtd.tracker.transitions import Transition
from tests.support.hsm_memory import KINDS
from tests.support.original_hbtd import OriginalHbtd
from tests.support.replicas_running import OwnReplicasTestCase, Spawned
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
ROWS = {
    STARTED: ("Ready", "OK"),
    WARNED: ("Ready", "Warning"),
    RESTARTED: ("Ready", "OK"),
    DIED: ("Standby", "Alert"),
}
"""The state and the flag that HSM's table has after each transition."""


class Told(NamedTuple):
    """What HSM was told of a node, when, and by whom."""

    at: float
    what: Transition
    ours: bool


class MixedFleetTestCase(OwnReplicasTestCase):
    """A test case about originals and replicas that share an etcd."""

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
        self.heard: dict[str, list[tuple[float, float]]] = {name: [] for name in NAMES}
        """When the heartbeats were sent that were answered, and when they were."""
        self.died: dict[str, float] = {}
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
        """Record what HSM is told, and in its table what an original tells it."""
        for name in names:
            self.telling[name].append(Told(reactor.seconds(), transition, ours))
            if not ours:
                self.hsm.table.force({name: ComponentState(*ROWS[transition])})

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
        sent = reactor.seconds()
        try:
            await process.beat(name, f"t{sent:.2f}")
        finally:
            self._sending -= 1
        self.heard[name].append((sent, reactor.seconds()))

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

    async def ours(self, *options: str) -> Spawned:
        """Start a replica."""
        replica = await self.spawned(
            f"--warntime={WARNTIME}", f"--errtime={ERRTIME}", f"--interval={INTERVAL}", *options
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
            self.talks_to[name] = at
        await deferLater(reactor, NAP)

    def silent(self, name: str, seconds: float, at: float) -> bool:
        """Return whether a node may have been silent for so long, at a time or just before it.

        It is silent from when a heartbeat is sent until the next one is answered. A silence that
        ended less than `LATE` seconds before counts, too, as HSM is told that much later. On a busy
        machine nodes are silent that are meant to beat.
        """
        latest = (float("inf"), float("inf"))
        beats = sorted([*self.heard[name], latest])
        return any(
            sent + seconds <= min(at, answered) and answered >= at - LATE
            for (sent, _), (_, answered) in pairwise(beats)
        )

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
