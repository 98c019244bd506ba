"""Pauses between retries: they grow, and differ from one process to the next."""

from collections.abc import Callable

from twisted.application.internet import backoffPolicy

_FACTOR = 1.5
"""By how much each pause is longer than the one before."""


class Backoff:
    """The pauses between one attempt and the next, on Twisted's `backoffPolicy`.

    They grow from `first` to `longest` seconds, to each of which up to half of `first` is added
    at random: replicas that lost the same etcd at the same moment don't come back in step.
    """

    def __init__(self, first: float, longest: float, jitter: Callable[[], float]) -> None:
        """`jitter` returns a random number from 0 to 1, as `random.random` does."""
        self._policy = backoffPolicy(first, longest, _FACTOR, lambda: jitter() * first / 2)
        self._failures = 0

    @property
    def failures(self) -> int:
        """How many pauses there have been since the last success."""
        return self._failures

    def next(self) -> float:
        """Return for how many seconds to wait after another failure."""
        failures, self._failures = self._failures, self._failures + 1
        return self._policy(failures)

    def reset(self) -> None:
        """Begin anew with short pauses: an attempt has succeeded."""
        self._failures = 0
