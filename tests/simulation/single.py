"""A world with one hbtd and a store on a disk."""

from collections.abc import Callable
from typing import Any

from tests.simulation.changes import Changes
from tests.simulation.disk import Disk, DiskStore
from tests.simulation.nodes import Node
from tests.simulation.oracle import STORED, Oracle
from tests.simulation.server import Server
from tests.simulation.world import HSM, World

HBTD = "10.0.0.1"

_UNNOTICED = 0.6
"""Seconds of a pause that hbtd may not notice."""


class SingleWorld(World):
    """One hbtd, its disk, HSM and nodes."""

    def __init__(self, seed: int, kafka: bool = True) -> None:
        super().__init__(seed, ((5, 12, 1), (10, 30, 2), (8, 20, 5)), Oracle, kafka=kafka)
        self.disk = Disk()
        self.network.backlog = 4 if seed % 2 else 128
        self.hbtd = self.server("hbtd", HBTD, "mem:", self._make_store)
        self.servers = [self.hbtd]
        self._ran = False
        self._starting = True
        self._changed_at = 0.0
        self._broken_at = 0.0
        self._hears_from = 0.0
        random = self.hazard("rules", 0.5)
        self._changes = None if random is None else Changes(self, random, None)

    def _make_store(
        self, params: Any, reactor: Any, observed: Any, etcd: Any, judge: str, host: Any
    ) -> DiskStore:
        return DiskStore(
            self.disk, reactor, observed.now, lambda: self.random.uniform(0.0005, 0.02)
        )

    def choose(self, node: Node) -> str:
        """Return hbtd's host."""
        return HBTD

    def node_answered(self, node: Node, host: str) -> None:
        """Tell the oracle that a node's heartbeat was answered."""
        self.truth.note("heard", node.name, story=False)
        self.oracle.answered(node.name, self.clock.now)

    def note_state(self) -> None:
        """Tell the oracle whether hbtd runs, and whether HSM hears it.

        After a pause hbtd waits for its nodes as long as the pause was, Warntime at most. Nobody's
        silence counts meanwhile.
        """
        now, runs = self.clock.now, self.hbtd.hears
        if runs != self._ran:
            if runs:
                pause = now - self._changed_at - _UNNOTICED
                left = self._hears_from - self._changed_at
                patience = 0.0 if self._starting else max(min(pause, self._warntime), left, 0.0)
                self._hears_from = now + patience
                self.clock.at(self._hears_from, self.note_state)
            self._ran, self._changed_at = runs, now
        if runs or not self.hbtd.alive:
            self._starting = not runs
        hears = runs and now >= self._hears_from
        hsm = self.reaches(HBTD, HSM)
        self.oracle.hears.set(self.clock.now, hears)
        works = runs and self.hsm_ok and hsm and not self.disk.broken
        self.oracle.works.set(self.clock.now, works)

    @property
    def _warntime(self) -> int:
        # hbtd may go by the shortest one, and hear so much the sooner.
        return min(rule.warntime for rule in self.oracle.rules.possible)

    def hazards(self) -> list[tuple[float, Callable[[], None]]]:
        """Return what only some seeds have."""
        some = super().hazards()
        if self._changes is not None:
            some += [(3, self._changes.patch), (2, self._restart)]
        return some

    def vanishes(self, server: Server) -> None:
        """Note that hbtd's host is about to lose its power."""
        stored = self._broken_at if self.disk.broken else self.clock.now
        self.oracle.lost(stored - STORED)

    def _restart(self) -> None:
        """Restart hbtd with other parameters on its command line."""
        if self.hbtd.running and self._changes is not None:
            stored = self._broken_at if self.disk.broken else self.clock.now
            self.oracle.lost(stored)
            self._changes.restart(self.hbtd, self._changes.another())

    def faults(self) -> list[tuple[float, Callable[[], None]]]:
        """Return kinds of faults with their weights."""
        return [
            *self.machine_faults(),
            (3, self._stop_hbtd),
            (1, self._suspend),
            (2, self._kill_hbtd),
            (3, self.hsm_trouble),
            (2, self._cut_hsm),
            (3, lambda: self.cut_nodes(HBTD)),
            (2, lambda: self.slow(self.hbtd)),
            (1, self._step_clock),
            (1, self._break_disk),
        ]

    def _stop_hbtd(self) -> None:
        if self.hbtd.running:
            self.hbtd.stop()
            self.later(0.2, 2 * self.errtime, self.hbtd.resume)

    def _suspend(self) -> None:
        """Suspend the whole host: its kernel does not answer either."""
        if not self.hbtd.running:
            return
        self.truth.note("hbtd", "is suspended with its host")
        self.hbtd.stop()
        mend = [self.network.cut(HBTD, "*"), self.network.cut("*", HBTD)]

        def resume() -> None:
            for each in mend:
                each()
            self.hbtd.resume()
            self.note_state()

        self.later(0.2, 2 * self.errtime, resume)

    def _kill_hbtd(self) -> None:
        if self.hbtd.alive:
            self.vanishes(self.hbtd)
            self.hbtd.kill()
            self.later(0.5, 40, self.hbtd.start)

    def _cut_hsm(self) -> None:
        self.cut(*self.random.choice(((HBTD, HSM), (HSM, HBTD))), 0.5, 30)

    def _step_clock(self) -> None:
        step = self.random.choice((-3600.0, -5.0, 5.0, 3600.0))
        self.truth.note("clock", f"steps by {step:g} s")
        self.hbtd.wall_offset += step

    def _break_disk(self) -> None:
        self.truth.note("disk", "is full")
        if not self.disk.broken:
            self._broken_at = self.clock.now
        self.disk.broken = True
        self.note_state()

        def mend() -> None:
            self.truth.note("disk", "has room again")
            self.disk.broken = False
            self.note_state()

        self.later(1, 30, mend)
