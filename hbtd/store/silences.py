"""The service that moves the long silences that the tracker notices into the store's table."""

from collections.abc import Callable, Iterable
from math import inf

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime

from hbtd.runtime.periodic import PeriodicService
from hbtd.store.condition import StoreCondition
from hbtd.store.interface import IStore
from hbtd.store.past import Noticed
from hbtd.tracker.observed import ObservedClock
from hbtd.tracker.silences import LongSilence, Silences

_EVERY = 5.0
"""Seconds between two looks for new silences: those of many components share a write."""

_BATCH = 500
"""The most silences that are stored in one call of the store."""

_MOST_AT_ONCE = 10_000
"""The most silences that are stored in `_EVERY` seconds, whoever makes more.

The others wait in memory. A machine of 100,000 components that were all silent for a while has them
stored within a minute.
"""


class SilenceKeeper(Service):
    """Stores the long silences that the tracker has noticed, every five seconds.

    Silences that could not be stored are stored later; too many of them are lost.
    """

    def __init__(
        self,
        clock: IReactorTime,
        wall: Callable[[], float],
        observed: ObservedClock,
        silences: Silences,
        store: IStore,
        condition: StoreCondition,
    ) -> None:
        """Make a keeper of the silences in `silences`; it stores none until it is started.

        `wall` returns the Unix time in seconds; `condition` is told when a call of the store fails.
        """
        self._wall = wall
        self._observed = observed
        self._silences = silences
        self._store = store
        self._condition = condition
        # Those that are just being stored.
        self._moving: list[LongSilence] = []
        self.since = wall()
        """The Unix time from which on this process has noticed all long silences."""
        self._lost = -inf
        # What it has said to the store; nothing need be said as long as there is nothing to say.
        self._said = Noticed(self.since)
        self._storing = PeriodicService(
            clock, _EVERY, lambda: self._store_noted(_MOST_AT_ONCE), "storing silences", now=False
        )

    def startService(self) -> None:
        """Begin to store silences; those that end from now on are noticed."""
        super().startService()
        self.since = self._wall()
        self._said = Noticed(self.since)
        self._storing.startService()

    async def stop(self) -> None:
        """Store the silences that wait, and no others; call this when no heartbeats are taken."""
        super().stopService()
        await self._storing.stopService()
        await self._store_noted(len(self._silences))

    def waiting(self) -> list[LongSilence]:
        """Return the silences that are not in the store's table, for all that is known here.

        Their times are observed seconds; `dated` converts them. Call this just when the answer of
        `IStore.silences` has arrived: then each silence is in one of the two.
        """
        return [*self._moving, *self._silences]

    def dated(self, silences: Iterable[LongSilence]) -> list[LongSilence]:
        """Return silences with their ends in Unix seconds instead of observed ones."""
        now = self._wall()
        ago = self._observed.seconds_ago
        return [LongSilence(name, now - ago(ended), length) for name, ended, length in silences]

    def whole_since(self, stored: float | None) -> float:
        """Return the Unix time from which on no long silences are missing.

        `stored` is `SilencesThen.whole_since`, as the store knows nothing of those that were lost
        before it got them.
        """
        return max(self.since if stored is None else stored, self._noticed().lost)

    async def _store_noted(self, left: int) -> None:
        """Store `left` silences at most, and what this process says of all of them.

        What can't be stored is left to the next call.
        """
        while True:
            taken = self._silences.take(min(_BATCH, left))
            noticed = self._noticed()
            if not taken and noticed == self._said:
                return
            left -= len(taken)
            self._moving = taken
            stored = False
            try:
                await self._store.keep_silences(self.dated(taken), noticed)
                stored = True
            except Exception as error:  # noqa: BLE001  # the next call tries again
                self._condition.failed(error)
                return
            finally:
                self._moving = []
                if not stored:
                    self._silences.put_back(taken)
            self._said = noticed

    def _noticed(self) -> Noticed:
        """Return what this process has to say of the silences that it has noticed so far."""
        lost = self._silences.take_lost()
        if lost is not None:
            self._lost = max(self._lost, self._wall() - self._observed.seconds_ago(lost))
        return Noticed(self.since, self._silences.longest_missed, self._lost)
