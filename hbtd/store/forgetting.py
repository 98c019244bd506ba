"""Components that a store's thread forgets together, in one transaction."""

from threading import Lock
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

_MOST: Final = 500
"""The most components in one transaction: a commit may have to wait for it."""


class Forgetting:
    """Names of components that are to be forgotten, until the store's thread takes them.

    A transaction of its own for each of thousands of components would make commits, and so HSM,
    wait for as long as all of these take.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._names: list[str] = []
        self._taken = False
        self._waiting: list[Deferred[None]] = []

    def add(self, xname: str) -> Deferred[None] | None:
        """Add a component; return `None`, and add nothing, if it is too late or too many are there.

        The Deferred fires when the component is forgotten, or fails if that is not possible.
        """
        with self._lock:
            if self._taken or len(self._names) >= _MOST:
                return None
            self._names.append(xname)
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        return waiting

    def take(self) -> list[str]:
        """Return the names, to which no more are added. The store's thread calls this."""
        with self._lock:
            self._taken = True
            return self._names

    def end(self, result: Any) -> None:
        """Fire the Deferreds that `add` has returned; `result` is a `Failure` if that failed."""
        self._taken = True
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if isinstance(result, Failure):
                each.errback(result)
            else:
                each.callback(None)
