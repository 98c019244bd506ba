"""The batch size: the number of components that one update to HSM names."""

_FIRST = 100
"""The batch size before HSM's speed is known."""

_MOST = 5000
"""The largest batch size."""

_SLOW = 50
"""The smallest batch size that slow responses lead to; only timeouts lead to smaller ones.

An HSM that is slow even with such small batches would be slow at any size.
"""


_PATIENCE = 4.0
"""The time that HSM may take for suspects, as a multiple of the time that it took last."""

_LEAST_PATIENCE = 1.0
"""Seconds that HSM may take for suspects in addition to that multiple."""


class BatchSize:
    """The number of components to put into a batch, learned from HSM's response times.

    The size follows HSM's speed, not the number of components in the outbox, so that updates don't
    time out. HSM completes an update even when its client has timed out, and then does the same
    work again for the retry.
    """

    def __init__(self) -> None:
        self.size = _FIRST
        """The number of components to put into the next batch, at most."""
        self._took: tuple[float, int] | None = None

    def answered(self, count: int, took: float, target: float) -> None:
        """Adapt the size after HSM answered a batch of `count` components in `took` seconds.

        `target` is the number of seconds that a batch should take. The size grows by at most half,
        and only after a full batch. It shrinks at once, but only timeouts reduce it below `_SLOW`.
        """
        self._took = took, count
        fitting = int(count * target / took) if took > 0 else _MOST
        if took > target:
            self.size = min(self.size, max(fitting, _SLOW))
        elif count >= self.size:
            self.size = max(self.size, min(self.size * 3 // 2 + 1, fitting, _MOST))

    def patience(self, count: int) -> float | None:
        """Return the seconds that HSM may take for `count` suspects.

        They are a few times what HSM took for its last answer, so that suspects on which HSM hangs
        are found soon. Return `None` if HSM has not answered yet.
        """
        if self._took is None:
            return None
        took, lately = self._took
        return _LEAST_PATIENCE + _PATIENCE * took * max(1.0, count / lately)

    def timed_out(self, count: int) -> None:
        """Reduce the size after HSM did not answer a batch of `count` components in time.

        The new size is half of the old one, or half of `count` if that is less.
        """
        self.size = max(1, min(self.size, count) // 2)
