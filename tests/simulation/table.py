"""A small machine whose table of HSM others write all the time."""

from random import Random

from tests.simulation.oracle import LATE
from tests.simulation.single import SingleWorld

_FEUD = 120.0
"""Seconds of a fight for a component, in which it becomes contested."""


class TableWorld(SingleWorld):
    """One hbtd and a few nodes, for a short time: many such worlds can be run.

    HSM's table is falsified, restored, emptied and fought over, HSM is slow or lacks the call, and
    all other faults of a machine with one hbtd happen, too.
    """

    options = " TABLE=yes"
    rules = ((5, 12, 1), (4, 9, 1))
    tampered = 1.0
    between_tampering = 12.0

    def __init__(self, seed: int, kafka: bool = False, with_faults: bool = True) -> None:
        super().__init__(seed, kafka=kafka, with_faults=with_faults, nodes=8, seconds=200.0)

    def _schedule_faults(self) -> None:
        super()._schedule_faults()
        if Random(f"feud {self.seed}").random() < 0.5:
            self.clock.at(20.0, self._feud)

    def _feud(self) -> None:
        """Have others fight for a component that changes after it, and write once more then."""
        node = self.nodes[0]
        word = "Standby/Alert"
        self.tampering.fight(node.name, word, _FEUD)
        died = _FEUD + 1
        self.clock.after(died, lambda: self._crash_node(node, power=True))
        self.clock.after(died + self.errtime + LATE, lambda: self._boot(node))
        self.clock.after(
            self.seconds - self.clock.now, lambda: self.tampering.write(node.name, word)
        )
