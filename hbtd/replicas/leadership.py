"""Leadership: whether this replica is the one that may judge and send updates to HSM."""

import math
from collections.abc import Callable


class Leadership:
    """The state of this replica: it leads until a certain moment, or not at all.

    The election grants the leadership for as long as the lease is certain to last, and withdraws
    it. Code that must not run on two replicas checks `held` immediately before it acts.
    """

    def __init__(self, elapsed: Callable[[], float]) -> None:
        """Make a state in which this replica does not lead.

        `elapsed` returns the seconds of a clock that also advances while the process does not run.
        """
        self._elapsed = elapsed
        self._until = -math.inf

    def held(self) -> bool:
        """Return whether this replica leads at this moment."""
        return self._elapsed() < self._until

    def hold(self, until: float = math.inf) -> None:
        """Let this replica lead until the clock `elapsed` shows `until`; by default for ever."""
        self._until = until

    def release(self) -> None:
        """Let this replica lead no longer."""
        self._until = -math.inf
