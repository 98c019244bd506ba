"""Watches the size of etcd's database, for metrics and a warning before it is full."""

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from hbtd.etcd.client import EtcdClient
from hbtd.etcd.errors import EtcdRefused, EtcdUnavailable
from hbtd.etcd.messages import DatabaseSize
from hbtd.runtime.outage import Outage
from hbtd.runtime.periodic import PeriodicService

INTERVAL = 30.0
"""Seconds between two readings of the size of etcd's database."""

FULL = 0.8
"""The fraction of the quota above which the database counts as nearly full."""

_MIB = 2**20

_ROOM = "Compact it, then defragment each member, or raise --quota-backend-bytes"

_NEARLY_FULL = (
    f"etcd's database is nearly full ({{size}}); once it is full, nothing is judged. {_ROOM}."
)

_IS_FULL = (
    f"etcd's database is full ({{size}}); nothing is judged. {_ROOM}; then end the alarm:"
    " etcdctl alarm disarm."
)

_ALARM = (
    "etcd takes no writes because its database was full, although there is room now ({size});"
    " nothing is judged. End the alarm: etcdctl alarm disarm."
)


class Space(Service):
    """Reads the size of etcd's database regularly, and logs a warning while it is nearly full."""

    _log = Logger()

    def __init__(self, client: EtcdClient, clock: IReactorTime) -> None:
        self._client = client
        self.size: DatabaseSize | None = None
        """The size of the database as it was last read; `None` before the first reading."""
        self._shortage = Outage(self._runs_short, self._has_room, clock.seconds)
        self._looking = PeriodicService(clock, INTERVAL, self._look, "the look at etcd's size")

    def startService(self) -> None:
        """Begin to read the size of etcd's database, every `INTERVAL` seconds."""
        super().startService()
        self._looking.startService()

    def stopService(self) -> Deferred[None]:
        """Stop; return a Deferred that fires when a reading in progress has ended."""
        super().stopService()
        return self._looking.stopService()

    async def _look(self) -> None:
        try:
            self.size = size = await self._client.database_size()
        except (EtcdUnavailable, EtcdRefused) as error:
            self._log.debug(
                "The size of etcd's database could not be read; trying again: {error}",
                error=str(error),
            )
            return
        shortage = _shortage(size)
        if shortage is not None:
            self._shortage.fail(shortage.format(size=_describe(size)), shortage)
        elif size.quota:
            self._shortage.recover()

    def _runs_short(self, reason: str) -> None:
        self._log.warn("{reason}", reason=reason)

    def _has_room(self) -> None:
        self._log.info("etcd's database has enough room again.")


def _shortage(size: DatabaseSize) -> str | None:
    """Return the warning about a database of this size; `None` if the database has room.

    The warning has the field `{size}`, which the caller has to fill in.
    """
    if size.full and 0 < size.size < FULL * size.quota:
        return _ALARM
    if size.full or 0 < size.quota <= size.size:
        return _IS_FULL
    return _NEARLY_FULL if size.quota and size.size >= FULL * size.quota else None


def _describe(size: DatabaseSize) -> str:
    limit = f"{size.size / _MIB:.0f}" + (f" of {size.quota / _MIB:.0f}" if size.quota else "")
    return f"{limit} MiB, of which {size.in_use / _MIB:.0f} MiB are in use"
