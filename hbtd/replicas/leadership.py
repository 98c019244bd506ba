"""Leadership: whether this replica is the one that may judge and send updates to HSM."""

import math
from collections.abc import Callable


class Leadership:
    """Whether this replica leads, and until when.

    The election sets this for as long as the lease is certain to last, and ends it. Code that must
    not run on two replicas checks `held` immediately before it acts.
    """

    def __init__(self, elapsed: Callable[[], float]) -> None:
        """Begin without the leadership.

        `elapsed` returns the seconds of a clock that also advances while the process does not run.
        """
        self._elapsed = elapsed
        self._until = -math.inf

    def held(self) -> bool:
        """Return whether this replica leads at this moment."""
        return self._elapsed() < self._until

    def hold(self, until: float = math.inf) -> None:
        """Let this replica lead until `elapsed` returns more than `until`; by default for ever."""
        self._until = until

    def release(self) -> None:
        """End the leadership of this replica."""
        self._until = -math.inf
