"""Pauses between retries: they grow up to a limit, and are partly random."""

from collections.abc import Callable

from twisted.application.internet import backoffPolicy

_FACTOR = 1.5
"""The factor by which each pause is longer than the one before."""


class Backoff:
    """The growing pauses after failed attempts, computed by Twisted's `backoffPolicy`.

    Pauses grow from `first` to `longest` seconds. A random time, up to half of `first`, is added to
    each pause, so that replicas don't all retry at the same moment after etcd has failed.
    """

    def __init__(self, first: float, longest: float, jitter: Callable[[], float]) -> None:
        """Make a backoff whose pauses grow from `first` to `longest` seconds.

        `jitter` must return a random number from 0 to 1.
        """
        self._policy = backoffPolicy(first, longest, _FACTOR, lambda: jitter() * first / 2)
        self._failures = 0

    @property
    def failures(self) -> int:
        """The number of failures since the last call of `reset`."""
        return self._failures

    def next(self) -> float:
        """Count a failure; return the seconds to wait before the next attempt."""
        failures, self._failures = self._failures, self._failures + 1
        return self._policy(failures)

    def reset(self) -> None:
        """Return to the shortest pause. Call this after an attempt has succeeded."""
        self._failures = 0
