"""A batch of components that the store's thread is to forget in one transaction."""

from threading import Lock
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

_MOST: Final = 500
"""The most components in one transaction: a commit may have to wait for it."""


class Forgetting:
    """A batch of components that the store's thread is to forget in one transaction.

    If each of thousands of components were forgotten in a transaction of its own, commits, and
    therefore updates to HSM, would have to wait for all these transactions.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._names: list[str] = []
        self._taken = False
        self._waiting: list[Deferred[None]] = []

    def add(self, xname: str) -> Deferred[None] | None:
        """Add a component; return a Deferred, or `None` if the batch accepts no more components.

        The batch accepts up to 500 components until `take` is called. The Deferred fires with
        `None` when the component has been forgotten, or fails if the store can't forget it.
        """
        with self._lock:
            if self._taken or len(self._names) >= _MOST:
                return None
            self._names.append(xname)
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        return waiting

    def take(self) -> list[str]:
        """Return the xnames in the batch, and accept no more components from now on.

        The store's thread calls this method.
        """
        with self._lock:
            self._taken = True
            return self._names

    def end(self, result: Any) -> None:
        """Fire the Deferreds that `add` has returned, when the transaction has ended.

        If `result` is a `Failure`, each Deferred fails with it.
        """
        self._taken = True
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if isinstance(result, Failure):
                each.errback(result)
            else:
                each.callback(None)
