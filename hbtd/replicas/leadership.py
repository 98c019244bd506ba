"""Leadership: whether this replica is the leader, which alone may judge and send updates to HSM."""

import math
from collections.abc import Callable


class Leadership:
    """Whether this replica leads, and until when.

    `Election` calls `hold` with the time until which this replica's lease in etcd is certain to
    last, and `release` when this replica stops leading. Code that must not run on two replicas at
    once calls `held` immediately before it acts.
    """

    def __init__(self, elapsed: Callable[[], float]) -> None:
        """Make the object; at first, this replica does not lead.

        `elapsed` returns the seconds of a clock that also advances while the process does not run.
        """
        self._elapsed = elapsed
        self._until = -math.inf

    def held(self) -> bool:
        """Return whether this replica leads at this moment."""
        return self._elapsed() < self._until

    def hold(self, until: float = math.inf) -> None:
        """Let this replica lead until the clock `elapsed` reaches `until`; by default for ever."""
        self._until = until

    def release(self) -> None:
        """End the leadership of this replica."""
        self._until = -math.inf
