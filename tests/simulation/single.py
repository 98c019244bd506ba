"""A world with one hbtd and a store on a disk."""

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from hbtd.store.sqlite import SqliteStore
from tests.simulation.changes import Changes
from tests.simulation.disk import Disk
from tests.simulation.nodes import Node
from tests.simulation.oracle import STORED, Oracle
from tests.simulation.server import Server
from tests.simulation.world import HSM, World

HBTD = "10.0.0.1"

_UNNOTICED = 0.6
"""Seconds of a pause that hbtd may not notice."""

_RESTART = 1.0
"""Seconds after which the service manager starts hbtd again when it has given up."""


class SingleWorld(World):
    """One hbtd, its disk, HSM and nodes."""

    rules: Sequence[tuple[int, int, int]] = ((5, 12, 1), (10, 30, 2), (8, 20, 5))
    """Warntime, Errtime and Interval, one of which a world has."""

    def __init__(
        self,
        seed: int,
        kafka: bool = True,
        with_faults: bool = True,
        nodes: int = 40,
        start_beats: int = 1,
        seconds: float = 600.0,
    ) -> None:
        super().__init__(
            seed,
            self.rules,
            Oracle,
            nodes=nodes,
            seconds=seconds,
            kafka=kafka,
            with_faults=with_faults,
            start_beats=start_beats,
        )
        self.disk = Disk(Random(f"disk {seed}"))
        self.truth.hidden = str(self.disk.path.parent)
        self.network.backlog = 4 if seed % 2 else 128
        self.hbtd = self.server("hbtd", HBTD, f"sqlite:{self.disk.path}", self._make_store)
        self.servers = [self.hbtd]
        self._ran = False
        self._starting = True
        self._changed_at = 0.0
        self._disk_ok = True
        self._hears_from = 0.0
        random = self.hazard("rules", 0.5)
        self._changes = None if random is None else Changes(self, random, None)

    def _make_store(
        self, params: Any, reactor: Any, observed: Any, etcd: Any, judge: str, *rest: Any
    ) -> SqliteStore:
        reactor.stopped.addCallback(lambda _: self._gives_up())
        return self.disk.store(reactor, observed.now, judge)

    def run(self) -> None:
        """Let it all happen, and remove the disk's files."""
        try:
            super().run()
        finally:
            self.disk.close()

    def choose(self, node: Node) -> str:
        """Return hbtd's host."""
        return HBTD

    def node_answered(self, node: Node, host: str) -> None:
        """Tell the oracle that a node's heartbeat was answered."""
        self.truth.note("heard", node.name, story=False)
        self.oracle.answered(node.name, self.clock.now, node.answered_sent)

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
                if not self._starting:
                    self.oracle.resumed(now, self._changed_at)
                patience = 0.0 if self._starting else max(min(pause, self._warntime), left, 0.0)
                self._hears_from = now + patience
                self.clock.at(self._hears_from, self.note_state)
            self._ran, self._changed_at = runs, now
        if runs or not self.hbtd.alive:
            self._starting = not runs
        hears = runs and now >= self._hears_from
        hsm = self.reaches(HBTD, HSM)
        self.oracle.hears.set(self.clock.now, hears)
        self.oracle.stores.set(self.clock.now, runs and self._disk_ok)
        works = runs and self.hsm_ok and hsm and self._disk_ok
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
        self._loses()
        self.disk.lose_power()

    def _loses(self) -> None:
        """Tell the oracle that hbtd does not store what it has heard just now."""
        self.oracle.lost(self.clock.now)

    def _restart(self) -> None:
        """Restart hbtd with other parameters on its command line."""
        if self.hbtd.running and self._changes is not None:
            # What can be stored is, before it ends.
            self.oracle.lost(self.clock.now, 0.0 if self._disk_ok else STORED)
            self._changes.restart(self.hbtd, self._changes.another())

    def faults(self) -> list[tuple[float, Callable[[], None]]]:
        """Return kinds of faults with their weights."""
        return [
            *self.machine_faults(),
            (3, self._stop_hbtd),
            (1, self._suspend),
            (2, self._end_hbtd),
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

    def _end_hbtd(self) -> None:
        """Kill hbtd, or take the power from its host."""
        if not self.hbtd.alive:
            return
        if self.disk.random.random() < 0.5:
            self._loses()
            self.hbtd.kill()
            self.disk.kill()
        else:
            self.vanishes(self.hbtd)
            self.hbtd.vanish()
        self.later(0.5, 40, self.hbtd.start)

    def _gives_up(self) -> None:
        """End hbtd, which can't open its store; the service manager starts it again."""
        self.hbtd.end(lambda: self.clock.after(_RESTART, self.hbtd.start))

    def _cut_hsm(self) -> None:
        self.cut(*self.random.choice(((HBTD, HSM), (HSM, HBTD))), 0.5, 30)

    def _step_clock(self) -> None:
        step = self.random.choice((-3600.0, -5.0, 5.0, 3600.0))
        self.truth.note("clock", f"steps by {step:g} s")
        self.hbtd.wall_offset += step

    def _break_disk(self) -> None:
        if not self._disk_ok:
            return
        self._disk_ok = False
        random = self.disk.random
        what = random.choice(("is full", "fails now and then", "fails", "is slow"))
        self.truth.note("disk", what)
        if what == "is full":
            self.disk.room = random.choice((0, random.randint(0, 200_000)))
        elif what == "is slow":
            self.disk.slow = random.choice((2.0, 8.0))
        else:
            self.disk.errors = 1.0 if what == "fails" else random.uniform(0.02, 0.5)
        self.note_state()

        def mend() -> None:
            self.truth.note("disk", "is well again")
            self.disk.room, self.disk.errors, self.disk.slow = None, 0.0, 0.0
            self._disk_settles()

        self.later(1, 30, mend)

    def _disk_settles(self) -> None:
        """Take the disk for well once hbtd has written what has waited for it."""
        if self.disk.waiting:
            self.clock.after(0.1, self._disk_settles)
            return
        self.clock.after(STORED, self._disk_well)

    def _disk_well(self) -> None:
        self._disk_ok = True
        self.note_state()
