"""Maintenance in memory, with all clocks in the hands of a test, and a tracker that is swept."""

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from hbtd.config.live_params import LiveParams
from hbtd.config.params import Params
from hbtd.formats.nodesets import fold
from hbtd.rules.maintenance import End, Maintenance
from hbtd.rules.maintenances import Maintenances
from hbtd.store.interface import StoreUnusable
from hbtd.store.memory import MemoryStore
from hbtd.store.settings import Setting
from hbtd.tracker.tracker import Tracker
from hbtd.tracker.transitions import Judgement

WALL = 1_800_000_000.0
WARNTIME, ERRTIME = 10, 30


class FailingStore(MemoryStore):
    """A store in memory that fails to write settings while it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.fails = False
        self.written: list[list[Setting]] = []
        self.hold: Deferred[None] | None = None
        self._held: Deferred[None] | None = None

    def write_settings(self, settings: Any) -> Deferred[None]:
        """Write settings, or fail; if there is `hold`, when that has fired."""
        self.written.append(list(settings))
        return self._in_turn(lambda: MemoryStore.write_settings(self, settings))

    def replace_settings(self, replacements: Any) -> Deferred[Any]:
        """Replace settings, or fail; if there is `hold`, when that has fired."""
        self.written.append([setting for setting, _ in replacements])
        return self._in_turn(lambda: MemoryStore.replace_settings(self, replacements))

    def _in_turn(self, write: Callable[[], Deferred[Any]]) -> Deferred[Any]:
        """Write, after the write that is held, if one is."""
        if self.fails:
            return fail(StoreUnusable("the disk is full"))
        if self.hold is not None:
            self._held, self.hold = self.hold, None
        elif self._held is None or self._held.called:
            return write()
        done: Deferred[Any] = Deferred()
        self._held.addCallback(lambda _: write().chainDeferred(done))
        return done


class Deafness:
    """An observed clock that stands still while it is `deaf`."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._lost = 0.0
        self._since: float | None = None

    @property
    def deaf(self) -> bool:
        """Whether the clock stands still."""
        return self._since is not None

    @deaf.setter
    def deaf(self, deaf: bool) -> None:
        if self._since is not None:
            self._lost += self._seconds() - self._since
        self._since = self._seconds() if deaf else None

    def now(self) -> float:
        """Return the observed time."""
        return (self._seconds() if self._since is None else self._since) - self._lost


class MaintenanceTestCase(SynchronousTestCase):
    """Has maintenances over a store in memory, and a tracker that a test sweeps."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.stepped = 0.0
        self.observed = Deafness(self.clock.seconds)
        self.params = LiveParams(Params(kv_url="mem:", warntime=WARNTIME, errtime=ERRTIME))
        self.leads = True
        self.store = FailingStore()
        self.begin()

    def begin(self) -> None:
        """Begin, or begin again as after a restart, with an empty tracker."""
        self.tracker = Tracker()
        self.maintenances = Maintenances(
            self.clock,
            self.clock.seconds,
            self.wall,
            self.observed,
            self.tracker,
            self.store,
            self.params,
            lambda: self.leads,
            iter_random().__next__,
        )

    def restart(self, seconds: float = 0.0) -> None:
        """Begin again, after some time, with what the store has."""
        self.successResultOf(Deferred.fromCoroutine(self.maintenances.stop()))
        self.kill(seconds)

    def kill(self, seconds: float = 0.0) -> None:
        """Begin again, without having stopped in good order."""
        kept = [
            (Setting(kind, name, text), 0)
            for kind in ("maintenance", "away")
            for name, text in self.store.settings.texts(kind).items()
        ]
        for call in self.clock.getDelayedCalls():
            call.cancel()
        self.clock.advance(seconds)
        self.store = FailingStore()
        self.begin()
        self.store.settings.replace(kept)

    def wall(self) -> float:
        """Return the Unix time."""
        return WALL + self.clock.seconds() + self.stepped

    def advance(self, seconds: float) -> list[tuple[str, str]]:
        """Let time pass, and sweep each second; return who was judged, and how."""
        found: list[Judgement] = []
        end = self.clock.seconds() + seconds
        while self.clock.seconds() < end:
            self.clock.advance(min(1.0, end - self.clock.seconds()))
            found += self.sweep()
        return [(each.component, each.transition.name) for each in found]

    def sweep(self) -> list[Judgement]:
        """Look for silent components."""
        return self.tracker.sweep(self.observed.now(), WARNTIME, ERRTIME, 10**6)

    def beat(self, *names: str) -> list[str]:
        """Let components be heard; return the transitions."""
        now = self.observed.now()
        judgements = [self.tracker.beat(name, now, "", "") for name in names]
        return [each.transition.name for each in judgements if each is not None]

    def set(self, *names: str, back: bool = False, seconds: float = 600.0) -> str:
        """Set a maintenance; return its identifier."""
        end = End(self.wall(), self.wall() + seconds, back)
        setting = Deferred.fromCoroutine(self.maintenances.set(fold(names), end, "why", "who"))
        self.settle()
        wanted: Maintenance = self.successResultOf(setting)
        return wanted.id

    def change(self, id: str, **fields: Any) -> Maintenance:
        """Change a maintenance."""
        entry = self.maintenances.find(id)
        changing = Deferred.fromCoroutine(self.maintenances.change(entry, fields))
        self.settle()
        wanted: Maintenance = self.successResultOf(changing)
        return wanted

    def end(self, id: str) -> None:
        """End a maintenance."""
        ending = Deferred.fromCoroutine(self.maintenances.end(self.maintenances.find(id)))
        self.settle()
        self.successResultOf(ending)

    def away(self, name: str, seconds: float = 600.0) -> bool:
        """Let a component say that it will be away."""
        saying = Deferred.fromCoroutine(self.maintenances.away(name, seconds, "reboot"))
        self.settle()
        living: bool = self.successResultOf(saying)
        return living

    def settle(self) -> None:
        """Do all that is to be done at once."""
        while any(call.getTime() <= self.clock.seconds() for call in self.clock.getDelayedCalls()):
            self.clock.advance(0)

    def kept(self) -> list[str]:
        """Return the components of all maintenances in the store, as nodesets."""
        found = self.store.settings
        texts = [*found.texts("maintenance").values(), *found.texts("away")]
        return [text if "{" not in text else text.partition('"XNames":"')[2][:-2] for text in texts]


def iter_random() -> Any:
    """Yield numbers from 0 to 1, always the same ones."""
    number = 0
    while True:
        number = (number * 7919 + 104_729) % 1_000_003
        yield number / 1_000_003
