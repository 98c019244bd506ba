"""The HSM of a world: the fake one, and updates that take effect after later ones."""

from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from twisted.internet.interfaces import IReactorTime

from hbtd.simulator.bulk_update import Update
from hbtd.simulator.fake_hsm import FakeHSM

LONGEST_STALL = 25.0
"""The most seconds that an update takes while HSM stalls; hbtd gives up after ten."""

USUAL: Mapping[str, object] = {
    "ready": True,
    "database_gone": False,
    "cost_ms": 0.5,
    "stalls": False,
    "refuse": [],
}
"""How HSM behaves when it is well."""


class WorldHSM(FakeHSM):
    """A fake HSM that may work on several updates at once, each for as long as chance says."""

    def __init__(
        self, clock: IReactorTime, on_update: Callable[[Update], None], random: Random
    ) -> None:
        super().__init__(clock, on_update)
        self._random = random
        self._stalls = False

    def change(self, changes: Mapping[str, Any]) -> None:
        """Change how HSM behaves; `stalls` says whether it works on several updates at once."""
        changes = dict(changes)
        self._stalls = bool(changes.pop("stalls", self._stalls))
        self.behaviour = self.behaviour.merged(changes)

    def _work(self) -> None:
        while self._stalls and self._queue:
            stalled = self._queue.popleft()
            seconds = self._random.uniform(0.0, LONGEST_STALL)
            self._clock.callLater(seconds, self._apply, *stalled)
        super()._work()
