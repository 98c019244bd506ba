"""A monitor in memory with a guard, and a small machine that beats or falls silent."""

from collections.abc import Iterable
from typing import Any, cast

from twisted.logger import ILogObserver, LogEvent, globalLogPublisher

from hbtd.formats.nodesets import expand
from hbtd.guard.groups import Groups
from hbtd.guarding.live_guard import LiveGuard
from hbtd.guarding.sharing import Sharing
from hbtd.guarding.statements import Statement
from hbtd.store.settings import Setting, Settings
from hbtd.tracker.cohorts import Deadlines
from hbtd.tracker.transitions import Transition
from tests.support.hsm_memory import DIED, WALL, lines
from tests.support.monitor_memory import MonitorTestCase, TroubledStore

MACHINE = "x1000c[0-3]s[0-1]b0n[0-3]"
"""Four chassis, each with two slots of four nodes."""

PERIOD = 3.0
"""Seconds between two heartbeats of each node."""


def names(nodeset: str) -> list[str]:
    """Return the names of a nodeset; none if it is empty."""
    return list(expand(nodeset, 1_000_000)) if nodeset else []


class DurableStore(TroubledStore):
    """A store in memory that counts as one that outlives the process."""

    durable = True


class GuardedTestCase(MonitorTestCase):
    """Has a monitor with a guard, which judges a small machine every second."""

    groups: Groups = Groups()
    machine = MACHINE

    def setUp(self):
        self.kept: DurableStore | None = None
        self.found: list[tuple[Setting, int]] = []
        self.jump = 0.0
        self.said: list[Statement] = []
        super().setUp()
        self.events: list[LogEvent] = []
        observe = cast("ILogObserver", self.events.append)
        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)

    def begin(self, **params: Any) -> None:
        super().begin(**{"guard": "hold", "interval": 1, **params})

    def make_store(self) -> TroubledStore:
        """Return the store, which is the same after a restart."""
        return self.kept or DurableStore(self.clock)

    def restart(self, down: float = 1.0, jump: float = 0.0, **params: Any) -> None:
        """Kill hbtd, and start it after some seconds, in which the wall clock has jumped."""
        assert isinstance(self.store, DurableStore)
        self.kept = self.store
        # The clock of the next process begins anew, as that of another host would.
        self.jump += self.clock.seconds() - 1000 + down + jump
        texts = self.store.settings.texts("guard").items()
        self.found = [(Setting("guard", name, text), 0) for name, text in texts]
        self.kept.settings = Settings()
        self.start(**{"guard": "hold", **params})

    def wall(self) -> float:
        """Return the time of the wall clock, which jumps as a test says."""
        return WALL + self.clock.seconds() + self.jump

    def make_guard(self) -> LiveGuard:
        """Return the guard, whose statements are noted."""
        self.sharing = Sharing(self.store, self.clock.seconds, self.wall)
        self.sharing.on_statement(self.said.append)
        # As when a store is opened that has settings.
        self.store.settings.replace(self.found)
        self.guard = LiveGuard(
            self.clock,
            self.wall,
            self.observed,
            self.tracker,
            self.params,
            self.sharing,
            self.groups,
        )
        return self.guard

    def beat_all(self, seconds: float, silent: str = "", machine: str = "") -> None:
        """Let time pass while all nodes beat but some."""
        quiet = set(names(silent))
        beating = [each for each in names(machine or self.machine) if each not in quiet]
        self.beat_for(seconds, *beating, every=PERIOD)

    def up(self, **params: Any) -> None:
        """Start, and let all nodes beat until their periods are known."""
        self.start(**params)
        self.beat_all(60.0)
        self.assertEqual(self.dead(), [])

    def dead(self) -> list[str]:
        """Return the nodes that are dead, in order."""
        return sorted(self.tracker.dead_components())

    def told_dead(self) -> list[str]:
        """Return the nodes of which HSM was told that they died, each as often as it was told."""
        return sorted(
            name for name in names(self.machine) for what in self.told(name) if what is DIED
        )

    def told_of(self, nodeset: str, transition: Transition) -> int:
        """Return of how many of these nodes HSM was told a transition."""
        return sum(transition in self.told(name) for name in names(nodeset))

    def statements(self) -> list[tuple[str, str | None]]:
        """Return the domain of each statement, and how it ended, as they were passed on."""
        return [(each.domain, each.ended and each.ended.value) for each in self.said]

    def logged(self, level: str) -> list[str]:
        """Return what was logged of failure domains at a level."""
        return [line for line in lines(self.events, level) if "isrupt" in line]

    def held(self) -> list[str]:
        """Return the nodes whose death the tracker holds back."""
        return sorted(
            each.xname
            for rule, components in self.tracker.judged()
            if isinstance(rule, Deadlines) and rule.held
            for each in components
        )

    def assertHeld(self, nodeset: Iterable[str] | str) -> None:
        """Check who is held."""
        expected = names(nodeset) if isinstance(nodeset, str) else nodeset
        self.assertEqual(self.held(), sorted(expected))
