"""Leadership: whether this replica is the one that may judge and tell HSM."""

import math
from collections.abc import Callable


class Leadership:
    """Whether this replica leads, at this very moment.

    The election gives it, for as long as its lease is sure to last, and takes it away. Whatever
    must not happen twice asks `held` right before it acts.
    """

    def __init__(self, elapsed: Callable[[], float]) -> None:
        """`elapsed` returns seconds of a clock that runs even while this process does not."""
        self._elapsed = elapsed
        self._until = -math.inf

    def held(self) -> bool:
        """Return whether this replica leads."""
        return self._elapsed() < self._until

    def hold(self, until: float = math.inf) -> None:
        """Lead until this moment, in seconds of `elapsed`."""
        self._until = until

    def release(self) -> None:
        """Lead no longer."""
        self._until = -math.inf
