"""A world in memory with nodes and an HSM, in which hbtd crashes and is restarted.

What is stored survives, nothing else does. A crash can be had at any moment, and before or after
any single thing that the store does.
"""

import sys
from collections.abc import Callable, Container, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, cast

from treq.client import HTTPClient
from treq.testing import StubTreq
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from hbtd.config.live_params import LiveParams
from hbtd.config.params import Params
from hbtd.hsm.client import HSMClient
from hbtd.hsm.notifier import Notifier
from hbtd.monitor import Monitor
from hbtd.simulator.bulk_update import Update
from hbtd.simulator.fake_hsm import FakeHSM
from hbtd.store.interface import StoreUnusable
from hbtd.store.memory import MemoryStore
from hbtd.store.memory_log import MemoryLog
from hbtd.telemetry.publisher import Publisher
from hbtd.tracker.observed import ObservedClock
from hbtd.tracker.records import Record
from hbtd.tracker.tracker import Tracker
from hbtd.tracker.transitions import Judgement, Transition
from tests.support.hsm_memory import KINDS, URL
from tests.support.journal_memory import make_journal

_STEP = 0.1


class Told(NamedTuple):
    """A transition that HSM was told, with the time."""

    at: float
    what: Transition


class Disk:
    """What survives a crash, and its own clock."""

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        self.standing: dict[str, Judgement] = {}
        self.undelivered: dict[str, Judgement] = {}
        self.log = MemoryLog()
        self.stored_at: dict[str, float] = {}
        self.now = 0.0
        self.failing = False
        """Whether nothing can be written."""
        self.writes: list[tuple[float, str, list[str]]] = []
        """The writes: when, what, and of which components."""

    def unpaired(self, left: Container[str]) -> str | None:
        """Return a judgement without its record, or a record without its judgement.

        Of those that have `left` a start may still be told.
        """
        for name, judgement in self.standing.items():
            record = self.records.get(name)
            if judgement.transition is Transition.DIED:
                if record is not None:
                    return f"{name} is dead and has {record}"
            elif record is None:
                if name in left and not judgement.transition.alarming:
                    continue
                return f"{name} has {judgement.transition.name} and no record"
            elif record.warned is not (judgement.transition is Transition.WARNED):
                return f"{name} has {judgement.transition.name} and {record}"
        for name, record in self.records.items():
            if record.warned and name not in self.standing:
                return f"{name} has {record} and no judgement"
        return None


class DiskStore(MemoryStore):
    """A store on such a disk, which may kill its process."""

    durable = True

    def __init__(self, disk: Disk, clock: Clock, observed: Callable[[], float]) -> None:
        super().__init__()
        self._disk = disk
        self._clock = clock
        self._observed = observed
        self._began = disk.now - observed()
        self._records = disk.records
        self._judgements = disk.standing
        self._undelivered = disk.undelivered
        self._log = disk.log
        self.trouble = False
        self._writing = False
        self.crashed = False
        self.crash_in: int | None = None
        """After how many writes the process is killed."""
        self.crash_on = ""
        """The kinds of writes that count; all if empty."""
        self.crash_after = False
        """Whether it is killed after the write or before it."""
        self.hangs_on: str | None = None
        """The kind of write that never finishes; all if empty."""

    def _do(
        self, what: str, names: Sequence[str], write: Callable[[], Deferred[Any]]
    ) -> Deferred[Any]:
        if self._writing:  # part of another write
            return write()
        if self.crash_in is not None and what.startswith(self.crash_on):
            self.crash_in -= 1
        now = self.crash_in is not None and self.crash_in < 0
        if now and not self.crash_after:
            self.crashed = True
        hangs = self.hangs_on is not None and what.startswith(self.hangs_on)
        if self.crashed or hangs:
            return Deferred()
        self.trouble = self._disk.failing
        if self._disk.failing:
            return fail(StoreUnusable("disk full"))
        before = set(self._records.items())
        self._disk.now = self._began + self._observed()
        self._writing = True
        write()
        self._writing = False
        for name, record in self._records.items():
            if (name, record) not in before or name in names:
                self._disk.stored_at[name] = self._disk.now
        self._disk.writes.append((self._clock.seconds(), what, sorted(names)))
        self.crashed = now
        return Deferred() if now else succeed(None)

    def commit(
        self, judgements: Sequence[Judgement], records: Sequence[Record] = ()
    ) -> Deferred[bool]:
        """Commit, unless killed."""
        names = [each.component for each in judgements]
        done = self._do("commit", names, lambda: super(DiskStore, self).commit(judgements, records))
        return done.addCallback(lambda _: True)

    def checkpoint(
        self, records: Sequence[Record], starting: Sequence[Record] = ()
    ) -> Deferred[None]:
        """Keep records, unless killed."""
        names = [each.component for each in records]
        return self._do("checkpoint", names, lambda: super(DiskStore, self).checkpoint(records))

    def delivered(self, judgements: Sequence[Judgement], at: float = 0.0) -> Deferred[None]:
        """Note it, unless killed."""
        names = [each.component for each in judgements]
        return self._do(
            "delivered", names, lambda: super(DiskStore, self).delivered(judgements, at)
        )

    def forget(self, xname: str) -> Deferred[None]:
        """Forget, unless killed."""
        return self._do("forget", [xname], lambda: super(DiskStore, self).forget(xname))

    def clear_records(self) -> Deferred[None]:
        """Drop all records, unless killed."""
        return self._do("clear", [], lambda: super(DiskStore, self).clear_records())

    def records(self, after: str = "", most: int = sys.maxsize) -> Deferred[Sequence[Record]]:
        """Return records after `after`, with their ages."""
        now, stored_at = self._disk.now, self._disk.stored_at

        def aged(found: Sequence[Record]) -> Sequence[Record]:
            return [each._replace(age=each.age + now - stored_at[each.component]) for each in found]

        return super().records(after, most).addCallback(aged)

    def usable(self) -> bool:
        """Return whether it is open and the last write succeeded."""
        return super().usable() and not self.trouble


class Process:
    """One process of hbtd."""

    def __init__(self, disk: Disk, hsm: FakeHSM, params: Params) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.params = LiveParams(params)
        # StubTreq makes its methods up as it is made.
        self._stub: Any = StubTreq(hsm.resource())
        self._observed = ObservedClock(
            self.clock.seconds, lambda: float(self.params.current.warntime)
        )
        self.store = DiskStore(disk, self.clock, self._observed.now)
        self.tracker = Tracker(note_changes=True)
        http = cast("HTTPClient", self)
        self.notifier = Notifier(
            self.clock,
            HSMClient(http, self.clock, self.params, "hbtd"),
            self.params,
            self.store.delivered,
            lambda: 0.125,
        )
        publisher = Publisher(self.clock, self.store, self.params, _no_kafka, lambda: 0.125)
        tellers = (self.notifier.tell, publisher.tell)
        journal, checkpointer = make_journal(
            self.clock,
            self._observed,
            self.tracker,
            self.store,
            self.params,
            tellers,
        )
        self.monitor = Monitor(
            self.clock,
            self._observed,
            self.tracker,
            self.store,
            journal,
            checkpointer,
            self.notifier,
            publisher,
            self.params,
        )
        self.store.open()
        self.notifier.startService()
        started = Deferred.fromCoroutine(self.monitor.start())
        started.addCallback(lambda _: self.monitor.start_observing())

    def request(self, *args: Any, **kwargs: Any) -> Any:
        """Send a request, unless the process was killed."""
        return Deferred() if self.store.crashed else self._stub.request(*args, **kwargs)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.advance(seconds)
        self.flush()

    def flush(self) -> None:
        """Deliver what was sent."""
        if not self.store.crashed:
            self._stub.flush()


class World:
    """Nodes that send heartbeats, an hbtd that may be down, and an HSM that notes its updates."""

    def __init__(self, periods: dict[str, float], **params: Any) -> None:
        """`periods` has the seconds between the heartbeats of each node; none is started yet."""
        self.clock = Clock()
        self.disk = Disk()
        self.told: dict[str, list[Told]] = {name: [] for name in periods}
        self.hsm = FakeHSM(self.clock, self._note)
        self.params = {
            "kv_url": "mem:",
            "sm_url": URL,
            "use_telemetry": False,
            "warntime": 10,
            "errtime": 30,
            "interval": 5,
            **params,
        }
        self.periods = periods
        self.due: dict[str, float] = {}
        """The time of the next heartbeat of each node that is started."""
        self.beats = 0
        self.process: Process | None = None
        self.unpaired: list[str] = []
        self.lifelong = set(periods)
        """The nodes that were never silenced."""
        self.goodbyes: dict[str, float] = {}
        """The times at which nodes said goodbye that have not come back."""

    @property
    def now(self) -> float:
        """Seconds since the beginning."""
        return self.clock.seconds()

    def _note(self, update: Update) -> None:
        for name in update.names:
            self.told[name].append(Told(self.now, KINDS[update.message]))

    def kinds(self, name: str) -> list[Transition]:
        """Return the transitions that HSM was told of a node."""
        return [each.what for each in self.told[name]]

    def up(self, **params: Any) -> Process:
        """Start hbtd."""
        assert self.process is None
        self.process = Process(self.disk, self.hsm, Params(**{**self.params, **params}))
        return self.process

    def down(self) -> None:
        """Kill hbtd."""
        if self.process is not None:
            self.process.store.crashed = True
            self._crashed()

    def _crashed(self) -> None:
        """Find nodes whose goodbye was lost: hbtd was killed before it was stored."""
        self.process = None
        for name in list(self.goodbyes):
            judgement = self.disk.standing.get(name)
            alarm = judgement is not None and judgement.transition.alarming
            if name in self.disk.records or alarm:
                del self.goodbyes[name]

    def restart(self, seconds: float = 1.0, **params: Any) -> Process:
        """Kill hbtd, and start it again after a while."""
        self.down()
        self.advance(seconds)
        return self.up(**params)

    def start(self, *names: str) -> None:
        """Let nodes send heartbeats from now on."""
        for name in names:
            self.due.setdefault(name, self.now)
            self.goodbyes.pop(name, None)

    def silence(self, *names: str) -> None:
        """Let nodes be silent."""
        for name in names:
            self.due.pop(name, None)
            self.lifelong.discard(name)

    def forget(self, name: str) -> None:
        """Let a node say goodbye and be silent."""
        self.silence(name)
        if self.process is not None:
            self.process.monitor.forget(name)
            self.goodbyes[name] = self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds - 1e-6
        while self.now < end:
            for name, due in list(self.due.items()):
                if due <= self.now + 1e-6:
                    self.due[name] = due + self.periods[name]
                    self.beats += 1
                    if self.process is not None:
                        self.process.monitor.beat(name, f"t{self.beats}", "OK")
            step = min(_STEP, end + 1e-6 - self.now)
            self.clock.advance(step)
            if self.process is not None:
                self.process.advance(step)
                if self.process.store.crashed:
                    self._crashed()
            unpaired = self.disk.unpaired(self.goodbyes)
            if unpaired is not None:
                self.unpaired.append(unpaired)


def _no_kafka(address: object) -> Any:
    raise AssertionError("Kafka")


_AFTER_A_START = (Transition.WARNED, Transition.RESTARTED)


class Verdict:
    """What HSM should know in the end, and what it must never have been told."""

    def __init__(self, world: World) -> None:
        self._world = world

    def faults(self) -> list[str]:
        """Return what is wrong, node by node."""
        world = self._world
        found = list(world.unpaired[:1])
        for name, told in world.told.items():
            kinds = world.kinds(name)
            if name in world.due and (not kinds or kinds[-1].alarming):
                found.append(f"{name} beats, but HSM was told {told}")
            silent = name not in world.due and name not in world.goodbyes
            if silent and kinds and kinds[-1] is not Transition.DIED:
                found.append(f"{name} is silent, but HSM was told {told}")
            if name in world.lifelong and any(kind.alarming for kind in kinds):
                found.append(f"{name} was never silent, but HSM was told {told}")
            found += [f"{name}: {each} after its death: {told}" for each in self._undead(name)]
            left = world.goodbyes.get(name, float("inf"))
            if any(each.what.alarming and each.at > left + 0.5 for each in told):
                found.append(f"{name} said goodbye at {left}, but HSM was told {told}")
        return found

    def _undead(self, name: str) -> list[str]:
        """Return what HSM was told of a node after its death, if the node had not started again.

        HSM may miss a start that the log has, since it is told the latest only.
        """
        entries = self._world.disk.log.read(0, 10**6)
        log = [each.judgement.transition for each in entries if each.judgement.component == name]
        pairs, place = [*pairwise(log)], 0
        for one, other in pairwise(self._world.kinds(name)):
            place = log.index(one, place)
            missed = log[place : log.index(other, place)] if other in log[place:] else []
            if Transition.STARTED not in missed[1:]:
                pairs.append((one, other))
        return [b.name for a, b in pairs if a is Transition.DIED and b in _AFTER_A_START]
