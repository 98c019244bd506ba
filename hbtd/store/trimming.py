"""The service that trims the log of transitions, so that the log doesn't grow without bound."""

from collections.abc import Callable, Sequence

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from hbtd.config.live_params import LiveParams
from hbtd.runtime.outage import Outage
from hbtd.runtime.periodic import PeriodicService
from hbtd.store.interface import IStore, NotLeading, StoreUnusable

MAX_WAITING = 100_000
"""How many of the newest log entries are kept for readers that have yet to pass them on."""

_INTERVAL = 60.0


class Trimming(PeriodicService):
    """A service that trims the log of transitions once a minute, while this replica leads.

    The parameter `history`, a duration such as `30d`, says for how long entries are kept, and
    `history_count` says how many entries are kept at most.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        wall: Callable[[], float],
        store: IStore,
        params: LiveParams,
        leading: Callable[[], bool],
        readers: Sequence[str],
    ) -> None:
        """Make the service that trims the log of `store`; it has yet to be started.

        `wall` returns the current Unix time in seconds, and `leading` returns whether this replica
        leads. `readers` are the names of the log's readers. An entry that at least one of these
        readers has yet to pass on is kept, if the entry is one of the newest `MAX_WAITING`.
        """
        super().__init__(clock, _INTERVAL, self._trim, "trimming the log of transitions", now=False)
        self._wall = wall
        self._store = store
        self._params = params
        self._leading = leading
        self._readers = readers
        self._trimming: Deferred[int] = succeed(0)
        self._outage = Outage(self._began, self._ended, clock.seconds)

    def stopService(self) -> Deferred[None]:
        """Stop the service, and cancel the trimming of the log if it is in progress.

        The Deferred fires when no trimming is in progress any more.
        """
        stopped = super().stopService()
        self._trimming.cancel()
        return stopped

    async def _trim(self) -> None:
        if not self._leading():
            return
        try:
            self._trimming = Deferred.fromCoroutine(self._trim_now())
            await self._trimming
        except (CancelledError, NotLeading):
            return
        except StoreUnusable as error:
            self._outage.fail(str(error))
        else:
            self._outage.recover()

    async def _trim_now(self) -> int:
        params = self._params.current
        before = self._wall() - params.history_seconds
        return await self._store.trim(before, params.history_most, await self._told())

    async def _told(self) -> int:
        """Return the number of the last log entry that all readers have passed on.

        All entries but those with the last 100,000 numbers count as passed on.
        """
        last = self._store.last_number()
        cursors = [await self._store.cursor(reader) for reader in self._readers]
        told = min((each for each in cursors if each is not None), default=last)
        return max(told, last - MAX_WAITING)

    def _began(self, reason: str) -> None:
        self._log.warn(
            "The log of transitions can't be trimmed, and grows meanwhile: {reason}", reason=reason
        )

    def _ended(self) -> None:
        self._log.info("Trimming the log of transitions works again.")
