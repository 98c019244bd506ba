"""A small machine whose table of HSM others write all the time."""

from tests.simulation.single import SingleWorld


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
