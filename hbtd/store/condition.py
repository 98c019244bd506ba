"""The condition of the store: whether it can be used, for the readiness check and the log."""

from collections.abc import Callable
from math import inf

from twisted.logger import Logger
from twisted.python.failure import Failure

from hbtd.runtime.outage import Outage
from hbtd.store.interface import IStore, NotLeading, StoreUnusable

_PATIENCE = 5.0
"""Seconds for which a store may fail before hbtd reports that it is not ready."""


class StoreCondition:
    """Tracks whether a store can be used; logs when its calls begin to fail or to succeed again."""

    _log = Logger()

    def __init__(self, store: IStore, now: Callable[[], float]) -> None:
        """Make an object that tracks whether `store` can be used.

        `now` returns the seconds of a monotonic clock.
        """
        self._store = store
        self._now = now
        self._outage = Outage(self._outage_began, self._outage_ended, now)
        self._usable_at = -_PATIENCE
        self._failed_at = -inf

    def ready(self) -> bool:
        """Return whether the store can be used now, or was usable less than five seconds ago.

        The store is checked only when this method is called; each checkpoint calls the method.
        """
        if self._store.usable():
            self._usable_at = self._now()
        return self._now() - self._usable_at < _PATIENCE

    def failed(self, error: Exception) -> None:
        """Record that a call of the store has failed; log the first failure of an outage.

        `NotLeading` is ignored, because it is no fault of the store.
        """
        if isinstance(error, NotLeading):
            return  # this replica is about to follow, or to lead again
        self._failed_at = self._now()
        if not isinstance(error, StoreUnusable) and self._outage.reason is None:
            self._log.failure(
                "The store failed because of a bug in hbtd; hbtd keeps trying to use the store.",
                Failure(error),
            )
        self._outage.fail(str(error))

    @property
    def working_for(self) -> float:
        """Seconds since a call of the store last failed; `inf` if none has failed."""
        return self._now() - self._failed_at

    def worked(self) -> None:
        """Record that a call of the store has succeeded; log the end of an outage."""
        if self._store.usable():
            self._outage.recover()

    def _outage_began(self, reason: str) -> None:
        self._log.warn(
            "The store can't be used; until it recovers, judgements are held back and HSM is not"
            " updated: {error}",
            error=reason,
        )

    def _outage_ended(self) -> None:
        self._log.info("The store can be used again; judgements are committed and passed on.")
