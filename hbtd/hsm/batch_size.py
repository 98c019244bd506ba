"""The number of components that one PATCH names."""

_FIRST = 100
_MOST = 5000

_SLOW = 50
"""Smaller batches than this don't help against an HSM that is slow whatever their size."""


class BatchSize:
    """Learns from response times how many components HSM accepts in a given time.

    HSM's speed sets the size, not the number of waiting components: HSM completes a PATCH even
    when the client has timed out, and then does the same work again for the retry.
    """

    def __init__(self) -> None:
        self.size = _FIRST
        """How many components to put into the next batch."""

    def answered(self, count: int, took: float, target: float) -> None:
        """Note that HSM took `took` seconds for a batch of `count` that should take `target`.

        The size grows by at most half, and only after a full batch. It shrinks at once, but not
        below `_SLOW`: only timeouts make it smaller than that.
        """
        fitting = int(count * target / took) if took > 0 else _MOST
        if took > target:
            self.size = min(self.size, max(fitting, _SLOW))
        elif count >= self.size:
            self.size = max(self.size, min(self.size * 3 // 2 + 1, fitting, _MOST))

    def timed_out(self, count: int) -> None:
        """Note that HSM did not answer a batch of `count` components in time."""
        self.size = max(1, min(self.size, count) // 2)
