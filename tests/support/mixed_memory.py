"""Replicas of this hbtd and stand-ins of the original, on one etcd in memory and one HSM.

Everything is in one process, on clocks of the test, so that a story of minutes takes a second.
"""

from itertools import count
from random import Random
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

from treq.client import HTTPClient
from treq.testing import StubTreq
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from hbtd.app.unread import UnreadHeartbeats
from hbtd.config.live_params import LiveParams
from hbtd.config.params import Params
from hbtd.etcd.client import EtcdClient
from hbtd.etcd.errors import EtcdRefused, EtcdUnavailable
from hbtd.guard.groups import Groups
from hbtd.guarding.live_guard import LiveGuard
from hbtd.guarding.sharing import Sharing
from hbtd.guarding.statements import Statement
from hbtd.hsm.client import HSMClient
from hbtd.hsm.notifier import Notifier
from hbtd.monitor import Monitor
from hbtd.queries.guard import GuardFacts
from hbtd.replicas.hearing import SILENCE
from hbtd.replicas.leadership import Leadership
from hbtd.replicas.remote_changes import RemoteChanges
from hbtd.replicas.replica import Replica
from hbtd.rules.maintenances import Maintenances
from hbtd.simulator.bulk_update import Update
from hbtd.simulator.fake_hsm import FakeHSM
from hbtd.store.etcd import EtcdStore
from hbtd.store.etcd_blocks import Blocks
from hbtd.telemetry.publisher import Publisher
from hbtd.tracker.observed import ObservedClock
from hbtd.tracker.starting import Starting, StartRule
from hbtd.tracker.tracker import Tracker
from hbtd.tracker.transitions import Transition
from tests.support.etcd_memory import MemoryEtcd
from tests.support.hsm_memory import KINDS, URL, USER_AGENT
from tests.support.journal_memory import make_journal
from tests.support.original_hbtd import OriginalHbtd

WARNTIME, ERRTIME, INTERVAL = 6, 14, 2
_WALL = 1_790_000_000.0
_STEP = 0.05


class Told(NamedTuple):
    """What HSM was told of a component, when, and by whom."""

    at: float
    what: Transition
    ours: bool


class Process:
    """A process, which can be paused and killed, with a clock of its own."""

    def __init__(self, world: "World") -> None:
        self.clock = Clock()
        self.world = world
        self.alive = True
        self.paused = False
        self._behind = 0.0

    def advance(self, seconds: float) -> None:
        """Let time pass; a process that goes on sees at once how long it was paused."""
        if self.paused:
            self._behind += seconds
        elif self.alive:
            behind, self._behind = self._behind, 0.0
            self.clock.advance(seconds + behind)

    @property
    def serves(self) -> bool:
        """Whether it answers heartbeats."""
        return self.alive and not self.paused

    def kill(self) -> None:
        """Kill it: its clock does not go on."""
        self.alive = False

    def finish(self) -> None:
        """End what it has begun, for good, after the story."""
        raise NotImplementedError


class Original(Process):
    """A process of the original."""

    def __init__(self, world: "World", number: int) -> None:
        super().__init__(world)
        self.hbtd = OriginalHbtd(
            world.etcd.client(self.clock),
            self.clock,
            world.wall,
            lambda transition, names: world.tell(transition, names, ours=False),
            number,
            warntime=WARNTIME,
            errtime=ERRTIME,
            interval=INTERVAL,
        )
        starting = Deferred.fromCoroutine(self.hbtd.start())
        starting.addErrback(lambda failure: failure.trap(EtcdUnavailable, EtcdRefused))

    def beat(self, name: str) -> None:
        """Send it a heartbeat."""
        beating = Deferred.fromCoroutine(self.hbtd.beat(name, f"t{self.world.now:.2f}"))
        # After a pause: the node gets no answer, and sends another one later.
        beating.addErrback(lambda failure: failure.trap(EtcdUnavailable))

    def stop(self) -> None:
        """Send it SIGTERM, which makes no difference to etcd."""
        self.kill()

    def finish(self) -> None:
        """End it."""
        self.hbtd.kill()


class Ours(Process):
    """A replica of this hbtd."""

    def __init__(self, world: "World", number: int, start_beats: int = 1) -> None:
        super().__init__(world)
        clock = self.clock
        settings: dict[str, Any] = {
            "kv_url": "http://etcd.example",
            "sm_url": URL,
            "use_telemetry": False,
            "warntime": WARNTIME,
            "errtime": ERRTIME,
            "interval": INTERVAL,
            "start_beats": start_beats,
            "guard": world.guard,
        }
        params = self.params = LiveParams(Params(**settings))
        client: EtcdClient = world.etcd.client(clock)
        leadership = Leadership(clock.seconds)
        observed = ObservedClock(clock.seconds, lambda: params.current.warntime)
        store = EtcdStore(client, world.wall, Blocks(clock.seconds, lambda: params.current))
        self.store = store
        starting = Starting(
            lambda _: StartRule(params.current.start_beats, params.current.warntime)
        )
        self.tracker = Tracker(note_changes=True, starting=starting)
        hsm = HSMClient(cast("HTTPClient", world.stub), clock, params, USER_AGENT)
        self.notifier = Notifier(clock, hsm, params, store.delivered, lambda: 0.5, leadership.held)
        publisher = Publisher(clock, store, params, lambda address: cast("Any", None), lambda: 0.5)
        tellers = (self.notifier.tell, publisher.tell)
        journal, checkpointer = make_journal(
            clock, observed, self.tracker, store, params, tellers,
            synchronized=lambda: self.replica.synchronized,
        )  # fmt: skip
        # Nobody's connection waits, since there are none.
        scheduler = cast("Any", SimpleNamespace(waiting_long=set))
        overload = cast("Any", SimpleNamespace(queue_full=False))
        unread = UnreadHeartbeats(
            clock, scheduler, overload, self.tracker, observed, params, checkpointer, store.usable,
            lambda: self.replica.waiting_elsewhere,
        )  # fmt: skip
        # Each host's clock is wrong in its own way.
        wall = self.wall = lambda: world.wall() + world.skews.get(number, 0.0)
        self.sharing = Sharing(store, clock.seconds, wall)
        self.said: list[Statement] = []
        self.sharing.on_statement(self.said.append)
        self.guard = LiveGuard(
            clock, wall, observed, self.tracker, params, self.sharing, Groups(), SILENCE
        )  # fmt: skip
        self.facts = GuardFacts(
            self.guard, self.sharing, self.tracker, observed, params, lambda: self.replica.leader
        )
        self.monitor = Monitor(
            clock, observed, self.tracker, store, journal, checkpointer, self.notifier, publisher,
            params, unread.unheard, guard=self.guard,
        )  # fmt: skip
        changes = RemoteChanges(
            observed, self.tracker, checkpointer, self.notifier, params, self.monitor
        )
        self.replica = Replica(
            client, clock, clock.seconds, observed, leadership, store, self.monitor, changes,
            params, f"ours-{number}", Random(number).random, unread.waiting,
        )  # fmt: skip
        self.maintenances = Maintenances(
            clock, clock.seconds, world.wall, observed, self.tracker, store, params,
            lambda: self.monitor.leading and leadership.held(), Random(number).random,
        )  # fmt: skip
        self._stopping = False
        self.notifier.startService()
        self.replica.startService()
        Deferred.fromCoroutine(self._start())

    async def _start(self) -> None:
        await self.replica.wait_until_synchronized(5)
        await self.monitor.start()
        self.monitor.start_observing()

    def wake(self, *names: str) -> None:
        """Let it go on; heartbeats of `names` waited, and are read before anything else happens."""
        self.paused = False
        self.clock.rightNow += self._behind
        self._behind = 0.0
        for name in names:
            self.beat(name)

    def beat(self, name: str) -> None:
        """Send it a heartbeat."""
        self.monitor.beat(name, f"t{self.world.now:.2f}", "OK")

    def stop(self) -> None:
        """Send it SIGTERM."""
        self._stopping = True
        Deferred.fromCoroutine(self._stop())

    @property
    def serves(self) -> bool:
        """Whether it answers heartbeats, and is ready for them."""
        return super().serves and self.monitor.running and not self._stopping

    def finish(self) -> None:
        """End its services, unless they have ended."""
        if self.replica.running:
            self.stop()

    async def _stop(self) -> None:
        self.monitor.stop_observing()
        await self.monitor.stop()
        await self.maintenances.stop()
        await self.replica.stopService()
        await self.notifier.stopService()
        self.kill()


class World:
    """The time, an etcd, an HSM, and the processes."""

    def __init__(self, guard: str = "off") -> None:
        """Make a world; `guard` is the parameter of our replicas."""
        self.guard = guard
        self.skews: dict[int, float] = {}
        """By how many seconds the wall clock of a replica is wrong, by its number."""
        self._clock = Clock()
        self.etcd = MemoryEtcd(self._clock.seconds)
        self.hsm = FakeHSM(self._clock, self._updated)
        self.stub = StubTreq(self.hsm.resource())
        self.told: dict[str, list[Told]] = {}
        self._processes: list[Process] = []
        self._numbers = count(1000)

    @property
    def now(self) -> float:
        """The time since the beginning, in seconds."""
        return float(self._clock.seconds())

    def wall(self) -> float:
        """Return the Unix time."""
        return _WALL + self.now

    def tell(self, transition: Transition, names: list[str], *, ours: bool) -> None:
        """Note what HSM is told."""
        for name in names:
            self.told.setdefault(name, []).append(Told(self.now, transition, ours))

    def _updated(self, update: Update) -> None:
        self.tell(KINDS[update.message], update.names, ours=True)

    def original(self) -> Original:
        """Start an original."""
        original = Original(self, next(self._numbers))
        self._processes.append(original)
        return original

    def ours(self, start_beats: int = 1) -> Ours:
        """Start a replica of this hbtd."""
        ours = Ours(self, next(self._numbers), start_beats)
        self._processes.append(ours)
        return ours

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while self.now < end - 1e-9:
            step = min(_STEP, end - self.now)
            self._clock.advance(step)
            self.etcd.advance()
            for process in self._processes:
                process.advance(step)
            self.stub.flush()

    def close(self) -> None:
        """End all processes, also those that were killed, so that nothing is left waiting."""
        for process in self._processes:
            process.alive, process.paused = True, False
            process.finish()
        self.advance(25.0)

    def kinds(self, name: str, *, ours: bool | None = None) -> list[Transition]:
        """Return what HSM was told of a component, by ours or by originals alone if asked."""
        told = self.told.get(name, [])
        return [each.what for each in told if ours is None or each.ours is ours]
