"""How many components one PATCH may name."""

_FIRST = 100
_MOST = 5000

_SLOW = 50
"""Smaller chunks than this don't help against an HSM that is slow whatever it is told."""


class BatchSize:
    """Learns from HSM's answers how many components it takes in a given time.

    What counts is how fast HSM is, not how many nodes died: a PATCH that takes longer than the
    caller waits is done all the same, and done again when it is repeated.
    """

    def __init__(self) -> None:
        self.size = _FIRST
        """How many components to put into the next chunk."""

    def answered(self, count: int, took: float, target: float) -> None:
        """Note that HSM took so many seconds for a chunk that should take `target`.

        Grows by no more than half and only when a chunk was full; shrinks at once, but not to
        nothing: only timeouts make it smaller than `_SLOW`.
        """
        fitting = int(count * target / took) if took > 0 else _MOST
        if took > target:
            self.size = min(self.size, max(fitting, _SLOW))
        elif count >= self.size:
            self.size = max(self.size, min(self.size * 3 // 2 + 1, fitting, _MOST))

    def timed_out(self, count: int) -> None:
        """Note that HSM did not answer a chunk of this size in time."""
        self.size = max(1, min(self.size, count) // 2)
