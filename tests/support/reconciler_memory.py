"""A reconciler beside a fake HSM, both in memory."""

from typing import Any

from hbtd.hsm.report import Report
from hbtd.simulator.hsm_table import ComponentState
from hbtd.store.memory import MemoryStore
from hbtd.tracker.tracker import Tracker
from tests.support.hsm_memory import STARTED, HSMTestCase

NODES = [f"x0c0s0b0n{number}" for number in range(5)]


class ReconcilerTestCase(HSMTestCase):
    """Holds a reconciler, and a tracker of five nodes that HSM knows as Ready."""

    def begin(self, **params: Any) -> None:
        super().begin(**{"sm_sync": 300, "warntime": 10, "errtime": 30, **params})
        self.tracker = Tracker()
        self.store = MemoryStore()
        self.leading = True
        self.acknowledged = []
        self.reconciler = self.make_reconciler(
            self.clock.seconds, self.tracker, self.store, lambda: self.leading
        )
        self.beating = set(NODES)
        self.beat(*NODES)
        self.tell(STARTED, *NODES)
        self.notifier.startService()
        self.addCleanup(self.notifier.stopService)
        self.reconciler.startService()
        self.addCleanup(self.reconciler.stopService)
        self.pass_time(14)
        self.hsm.updates.clear()

    def beat(self, *names: str) -> None:
        """Take a heartbeat of each of these."""
        now = self.clock.seconds()
        judgements = [self.tracker.beat(name, now, "t", "OK") for name in names]
        if now > 1000:
            self.notifier.tell([each for each in judgements if each is not None])

    def pass_time(self, seconds: int) -> None:
        """Let time pass, second by second; those in `beating` are heard every two seconds."""
        for _ in range(seconds):
            if int(self.clock.seconds()) % 2 == 0:
                self.beat(*sorted(self.beating))
            self.sweep()
            self.advance(1)

    def sweep(self) -> None:
        """Judge who is silent."""
        limits = self.params.current
        judgements = self.tracker.sweep(self.clock.seconds(), limits.warntime, limits.errtime, 1000)
        self.notifier.tell(judgements)

    def falsify(self, **words: str) -> None:
        """Have somebody else change HSM's table."""
        for name, word in words.items():
            state, _, flag = word.partition("/")
            self.hsm.components[name] = ComponentState(state, flag)

    def told(self) -> list[tuple[str, list[str]]]:
        """Return what HSM was told: state and components of each update."""
        return [(f"{each.state}/{each.flag}", each.names) for each in self.hsm.updates]

    def word(self, name: str) -> str:
        """Return what HSM's table says."""
        row = self.hsm.components[name]
        return f"{row.state}/{row.flag}"

    def report(self, *, dry_run: bool = False) -> Report:
        """Request a comparison, and return its report."""
        answer = self.reconciler.request(dry_run=dry_run)
        self.pass_time(12)
        return self.successResultOf(answer)
