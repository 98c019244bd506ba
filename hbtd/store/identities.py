"""The service that keeps host names and NIDs in the store, and restores them."""

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime

from hbtd.runtime.periodic import PeriodicService
from hbtd.store.condition import StoreCondition
from hbtd.store.interface import IStore
from hbtd.tracker.tracker import Tracker

_EVERY = 10.0
"""Seconds between two looks for new names: nodes of a chassis that boot together share a write."""

_BATCH = 500
"""The most names that are stored in one call of the store."""

_PAGE = 2000
"""The most names that are restored at a time: a few milliseconds' worth."""


class IdentityKeeper:
    """Stores changed host names and NIDs of components, and restores them after a start of hbtd.

    After `begin`, changes are stored every ten seconds. If the store is not durable, the caller
    does not call `begin`, and nothing is stored.
    """

    def __init__(
        self, clock: IReactorTime, tracker: Tracker, store: IStore, condition: StoreCondition
    ) -> None:
        """Make the keeper of the host names and NIDs in `tracker`; it stores none until `begin`.

        `condition` is told when a call of the store fails.
        """
        self._tracker = tracker
        self._store = store
        self._condition = condition
        self._storing = PeriodicService(
            clock, _EVERY, self.store_changed, "storing host names and NIDs", now=False
        )

    async def restore(self) -> None:
        """Apply the stored host names and NIDs to the components that are tracked.

        Raise `StoreUnusable` if the store can't be read.
        """
        after = ""
        while page := await self._store.identities(after, _PAGE):
            for identity in page:
                self._tracker.apply_identity(identity)
            after = page[-1].component

    def begin(self) -> None:
        """Begin to store changed host names and NIDs, every ten seconds."""
        self._storing.startService()

    def end(self) -> None:
        """Stop the periodic storing of changed host names and NIDs, which `begin` has started."""
        self._storing.stopService()

    async def store_changed(self) -> None:
        """Store the host names and NIDs that have changed since they were last stored.

        If the store fails, the next call stores them. Changes during a call are left to the next
        call, too: otherwise, components that change their names with every heartbeat would make the
        call endless.
        """
        left = self._tracker.renamed
        while left > 0 and (taken := self._tracker.take_renamed(min(_BATCH, left))):
            left -= len(taken)
            stored = False
            try:
                await self._store.identify(taken)
                stored = True
            except CancelledError:
                raise
            except Exception as error:  # noqa: BLE001  # the next call tries again
                self._condition.failed(error)
                return
            finally:
                if not stored:
                    self._tracker.put_back_renamed(taken)
