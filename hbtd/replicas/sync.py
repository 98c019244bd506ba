"""Synchronization with the other replicas: reads etcd, watches it, and writes signs of life."""

from collections.abc import Callable

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from hbtd.etcd.client import EtcdClient
from hbtd.etcd.errors import NOT_FOUND, Compacted, EtcdRefused, EtcdUnavailable
from hbtd.etcd.messages import Event, KeyValue, Put
from hbtd.etcd.watch import Watch
from hbtd.replicas.applier import Applier
from hbtd.replicas.election import LEASE
from hbtd.replicas.hearing import SILENCE, Hearing
from hbtd.replicas.position import Position, State
from hbtd.replicas.sign_of_life import SignOfLife, Waiting
from hbtd.runtime.backoff import Backoff
from hbtd.runtime.periodic import PeriodicService
from hbtd.store.etcd import EtcdStore, describe
from hbtd.store.etcd_format import (
    ALIVE,
    EVERYTHING,
    HEALTH,
    LIFE,
    PRESENCE,
    StoredRecord,
    is_record,
)
from hbtd.store.etcd_log_format import LOG, LOG_END
from hbtd.tracker.observed import ObservedClock

_PRESENCE = 1.0
"""Seconds between two writes of the presence key, alone or together with other keys."""

_RENEWAL = 2.0
"""Seconds between two renewals of the lease while all of etcd is read."""

_CHECK = 0.25
"""Seconds between two checks for silent replicas."""

_RETRY = (0.4, 1.0)
"""The shortest and the longest pause, in seconds, before the next attempt after etcd failed."""

_LONG_OUTAGE = 30.0
"""Seconds without news from etcd after which all keys are read again, not only the changes."""


class Sync(Service):
    """Keeps this replica synchronized with the others.

    First, all keys in etcd are read; then etcd is watched for changes. If the watch breaks, a new
    watch begins at the revision that the broken one has reached, or all keys are read again. This
    replica is *synchronized* once the watch has reported a write that this replica made after the
    watch began, because all older changes have been reported by then.

    While this replica is not synchronized, or while the sign of life of a living replica is late,
    heartbeats that other replicas take may not arrive here, so the observed clock stands still.
    """

    _log = Logger()

    def __init__(
        self,
        client: EtcdClient,
        clock: IReactorTime,
        observed: ObservedClock,
        store: EtcdStore,
        applier: Applier,
        name: str,
        jitter: Callable[[], float],
        waiting: Callable[[], Waiting],
        leading: Callable[[], bool],
        became_synchronized: Callable[[], None],
        progressed: Callable[[], None],
    ) -> None:
        """Make the service that synchronizes this replica with the others; it is not started yet.

        `name` is this replica's host and port, for its presence key. `jitter` returns a random
        number from 0 to 1; `waiting` returns the components whose heartbeats may be waiting at this
        replica; `leading` returns whether this replica leads. `became_synchronized` is called each
        time this replica has become synchronized, and `progressed` each time changes in etcd have
        been applied.
        """
        self._client = client
        self._clock = clock
        self._store = store
        self._applier = applier
        self._name = name
        self._waiting = waiting
        self._leading = leading
        self._became_synchronized = became_synchronized
        self._progressed = progressed
        self._number = str(applier.number).encode()
        self._backoff = Backoff(*_RETRY, jitter)
        self._lease = 0
        self._position = Position()
        self._hearing = Hearing(observed, applier.moment, applier.present)
        self._watch: Watch | None = None
        self._broken: Exception | None = None
        self._work: Deferred[None] = succeed(None)
        self._presence = PeriodicService(
            clock, _PRESENCE, self._write_presence, "the write of this replica's presence"
        )
        self._checking = PeriodicService(
            clock, _CHECK, self._check, "the check for silent replicas", now=False
        )

    @property
    def synchronized(self) -> bool:
        """Whether this replica is synchronized, and still in contact with etcd.

        Contact is lost when etcd has sent nothing for `SILENCE` seconds.
        """
        return self._position.synchronized and self._hearing.current

    @property
    def revision(self) -> int:
        """The revision of etcd up to which changes are applied; 0 if all keys have to be read."""
        return self._position.revision

    def startService(self) -> None:
        """Start to read and to watch etcd.

        The observed clock stands still until this replica is synchronized.
        """
        super().startService()
        self._hearing.begin()
        self._checking.startService()
        self._work = Deferred.fromCoroutine(self._run())

    def stopService(self) -> Deferred[None]:
        """Stop, and revoke the lease, so that other replicas don't count this one as living.

        Return a Deferred that fires when the lease is revoked, or could not be revoked.
        """
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._checking.stopService()
        self._work.addErrback(lambda failure: failure.trap(CancelledError))
        self._work.cancel()
        await self._work
        if self._lease:
            try:
                await self._client.revoke(self._lease)
            except (EtcdUnavailable, EtcdRefused) as error:
                self._log.debug(
                    "This replica's lease could not be revoked; etcd ends it when it"
                    " expires: {error}",
                    error=str(error),
                )

    def reload(self) -> None:
        """Start to read all of etcd again, because this replica's data may differ from it."""
        self._fall_behind()
        self._position.unload()
        self._break(None)

    def reconnect(self) -> None:
        """Close the watch of etcd, and continue to watch on a new connection."""
        self._break(None)

    async def _run(self) -> None:
        while self.running:
            try:
                await self._join()
                loading = self._position.state is State.LOADING
                if loading or self._hearing.silent_for > _LONG_OUTAGE:
                    await self._load()
                await self._watch_changes()
            except Compacted:
                self._position.unload()
            except (EtcdUnavailable, EtcdRefused) as error:
                self._store.out_of_sync(describe(error))
                if isinstance(error, EtcdRefused) and error.code == NOT_FOUND:
                    self._lease = 0
                await deferLater(self._clock, self._backoff.next())
            except CancelledError:
                if not self.running:
                    raise
            except Exception:  # noqa: BLE001  # otherwise this replica would stay deaf
                self._log.failure(
                    "Synchronization with etcd failed because of a bug in hbtd; this replica reads"
                    " all of etcd again."
                )
                self._position.unload()
                await deferLater(self._clock, self._backoff.next())

    async def _join(self) -> None:
        """Renew the lease or, if there is none, get a lease and attach the life key to it.

        Raise `EtcdUnavailable` or `EtcdRefused` if etcd fails.
        """
        if self._lease and await self._client.renew(self._lease):
            return
        lease = await self._client.grant(LEASE)
        await self._client.put(LIFE + self._number, ALIVE, lease)
        # Not before: if the answer is lost, all of this is to be done again.
        self._lease = lease
        self._store.writer.set_presence(self._make_presence)

    async def _load(self) -> None:
        """Read and apply all keys in etcd, while this replica writes nothing.

        After that, write the key `HBTD_HEALTH_KEY`, by which the next call finds out whether etcd
        has lost its data. Raise the exceptions of `EtcdClient.pages` if etcd fails.
        """
        self._applier.before_load()
        renewing = PeriodicService(
            self._clock, _RENEWAL, self._renew_lease, "the renewal of the lease", now=False
        )
        renewing.startService()
        try:
            await self._store.exclusively(self._read_all)
            await self._client.put(*HEALTH)
        finally:
            renewing.stopService()
        self._hearing.hear()

    async def _renew_lease(self) -> None:
        """Renew the lease, so that other replicas count this one as living while it reads etcd.

        As its sign of life is late meanwhile, they stop their observed clocks, and so do not judge
        the components that this one hears.
        """
        try:
            await self._client.renew(self._lease)
        except (EtcdUnavailable, EtcdRefused) as error:
            self._log.debug(
                "This replica's lease could not be renewed; trying again: {error}", error=str(error)
            )

    async def _read_all(self) -> None:
        known = await self._client.get(HEALTH[0]) is not None
        records: list[StoredRecord] = []
        others: list[KeyValue] = []
        revision = 0
        # The log is read by whoever needs it: here, its last number is enough.
        for start, end in ((EVERYTHING[0], LOG), (LOG_END, EVERYTHING[1])):
            async for page in self._client.pages(start, end, revision=revision):
                # Parsed page by page, since that takes several microseconds for each record.
                for item in page.items:
                    if not is_record(item.key):
                        others.append(item)
                    elif (
                        record := self._store.mirror.read_record(item.key, item.value)
                    ) is not None:
                        records.append(record)
                revision = page.revision
        last = await self._client.last_key(LOG, LOG_END, revision=revision)
        if last is not None:
            others.append(last)
        again = self._position.was_synchronized
        if again and (not known or self._position.lost(revision)):
            self._log.error("etcd has lost its data; this replica is writing its own copy back.")
            self._applier.merge(records, others)
        else:
            self._applier.load(records, others, first=not again)
        self._position.loaded(revision)

    async def _watch_changes(self) -> None:
        """Watch etcd and apply changes until the watch breaks; raise the error that broke it."""
        self._position.watching()
        self._broken = None
        # Allow for the time until the watch reports the first write of the presence key.
        self._hearing.give(SILENCE / 2)
        self._watch = self._client.watch(
            [EVERYTHING], self._position.revision + 1, self._apply, silence=SILENCE
        )
        self._presence.startService()
        try:
            await self._watch.ended
        except CancelledError:
            if self._broken is not None:
                raise self._broken from None
            raise
        finally:
            self._watch = None
            await self._presence.stopService()
            self._fall_behind()

    def _break(self, error: Exception | None) -> None:
        """End the watch: `_watch_changes` raises `error`, or `CancelledError` if that is `None`."""
        self._broken = error
        if self._watch is not None:
            self._watch.ended.cancel()

    def _apply(self, events: list[Event], revision: int) -> None:
        if self._position.synchronized and not self._hearing.current:
            # This process did not run, and other replicas may have judged as if it was gone. Begin
            # again to find out.
            raise EtcdUnavailable("was not listened to for a while")
        self._hearing.hear()
        for event in events:
            self._applier.apply(event)
        if self._position.applied(revision):
            self._now_synchronized()
        self._progressed()

    def _now_synchronized(self) -> None:
        self._backoff.reset()
        self._store.in_sync()
        self._became_synchronized()

    def _fall_behind(self) -> None:
        if self._position.fall_behind():
            self._hearing.lose()

    def _make_presence(self) -> Put:
        """Return the write of this replica's presence key, its sign of life."""
        sign = SignOfLife(self._name.encode(), True, self._waiting(), self._leading())
        return Put(PRESENCE + self._number, sign.to_bytes(), self._lease)

    async def _write_presence(self) -> None:
        """Write the presence key, unless it has just been written, and renew the lease.

        If etcd fails, or the lease has ended, end the watch. A deleted life key is written again.
        """
        applier, position = self._applier, self._position
        seen = applier.present.get(applier.number)
        try:
            # `seen` is when the watch reported the last write, a moment after it was made.
            lately = seen and applier.moment().elapsed - seen.elapsed < _PRESENCE / 2
            if not (position.has_barrier and lately):
                before = position.revision
                revision = await self._store.touch()
                if revision <= before:
                    # etcd has lost its data: its revisions begin again.
                    self.reload()
                    return
                if position.wrote(revision):
                    self._now_synchronized()
            if applier.number not in applier.alive:
                # Another client has deleted the life key.
                await self._client.put(LIFE + self._number, ALIVE, self._lease)
            if await self._client.renew(self._lease):
                return
            self._lease = 0
            self._break(EtcdUnavailable("our lease has ended"))
        except (EtcdUnavailable, EtcdRefused) as error:
            self._break(error)

    def _check(self) -> None:
        self._hearing.check(synchronized=self._position.synchronized)
