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
from hbtd.replicas.applier import Applier, Moment
from hbtd.replicas.election import LEASE
from hbtd.runtime.backoff import Backoff
from hbtd.runtime.periodic import PeriodicService
from hbtd.store.etcd import EtcdStore
from hbtd.store.etcd_blocks import READS_BLOCKS
from hbtd.store.etcd_format import ALIVE, EVERYTHING, HEALTH, LIFE, PRESENCE, WAITING, is_record
from hbtd.tracker.observed import ObservedClock
from hbtd.tracker.records import Record

SILENCE = 3.0
"""Seconds without a message from etcd, or from a living replica, after which hbtd is deaf."""

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

    First, all keys in etcd are read; then etcd is watched for changes. If the watch breaks, another
    watch begins where that one ended, or all keys are read again. This replica is *synchronized*
    once the watch has reported a write that this replica made after the watch began: all older
    changes have been reported, too.

    While this replica is not synchronized, or while the sign of life of a living replica is late,
    heartbeats that other replicas take may not arrive here, so the observed clock stands still.
    """

    _log = Logger()

    def __init__(
        self,
        client: EtcdClient,
        clock: IReactorTime,
        elapsed: Callable[[], float],
        observed: ObservedClock,
        store: EtcdStore,
        applier: Applier,
        name: str,
        jitter: Callable[[], float],
        waiting: Callable[[], bool],
        became_synchronized: Callable[[], None],
        progressed: Callable[[], None],
    ) -> None:
        """Make the service that synchronizes this replica with the others; it is not started yet.

        `name` is the value of this replica's presence key. `elapsed` returns the seconds of a clock
        that also advances while the process does not run; `jitter` returns a random number from 0
        to 1; `waiting` returns whether clients wait before they are heard. `became_synchronized` is
        called each time this replica has become synchronized, `progressed` each time changes have
        been applied.
        """
        self._client = client
        self._clock = clock
        self._elapsed = elapsed
        self._observed = observed
        self._store = store
        self._applier = applier
        self._moment = applier.moment
        self._name = name
        self._waiting = waiting
        self._became_synchronized = became_synchronized
        self._progressed = progressed
        self._number = str(applier.number).encode()
        self._backoff = Backoff(*_RETRY, jitter)
        self._lease = 0
        self._revision = 0  # up to which changes are applied; 0: all keys have to be read
        self._newest = 0  # the newest revision that was seen
        self._barrier = 0  # synchronized once this revision is applied; 0: not known yet
        self._synchronized = False
        self._was_synchronized = False
        self._was_deaf = False
        self._heard = self._moment()
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
        """Whether this replica is synchronized, and the watch has reported something recently.

        Recently means within the last `SILENCE` seconds.
        """
        return self._synchronized and self._elapsed() - self._heard.elapsed < SILENCE

    @property
    def revision(self) -> int:
        """The revision of etcd up to which changes are applied, or 0 if all has to be read."""
        return self._revision

    def startService(self) -> None:
        """Start to read and to watch etcd.

        The observed clock stands still until this replica is synchronized.
        """
        super().startService()
        self._heard = self._moment()
        self._observed.deafen(0.0)
        self._checking.startService()
        self._work = Deferred.fromCoroutine(self._run())

    def stopService(self) -> Deferred[None]:
        """Stop, and revoke the lease, so that other replicas don't count this one as living.

        The Deferred fires when that is done or has failed.
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
                    "This replica's lease could not be revoked; it has to expire: {error}",
                    error=str(error),
                )

    def reload(self) -> None:
        """Read all of etcd again, because its contents differ from those of this replica."""
        self._revision = 0
        self._break(None)

    def reconnect(self) -> None:
        """Watch etcd on a new connection, from where the present watch ends."""
        self._break(None)

    async def _run(self) -> None:
        while self.running:
            try:
                await self._join()
                if self._revision == 0 or self._elapsed() - self._heard.elapsed > _LONG_OUTAGE:
                    await self._load()
                await self._watch_changes()
            except Compacted:
                self._revision = 0
            except (EtcdUnavailable, EtcdRefused) as error:
                self._store.out_of_sync(f"etcd: {error}")
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
                self._revision = 0
                await deferLater(self._clock, self._backoff.next())

    async def _join(self) -> None:
        """Renew the lease or, if there is none, get a lease and attach the life key to it.

        Raise `EtcdUnavailable` or `EtcdRefused` if etcd fails.
        """
        if self._lease and await self._client.renew(self._lease):
            return
        self._lease = await self._client.grant(LEASE)
        await self._client.put(LIFE + self._number, ALIVE, self._lease)
        self._set_presence()

    async def _load(self) -> None:
        """Read and apply all keys in etcd while this replica writes nothing; write the health key.

        Raise the exceptions of `EtcdClient.pages` if etcd fails.
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
        self._heard = self._moment()

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
        records: list[Record] = []
        others: list[KeyValue] = []
        revision = 0
        async for page in self._client.pages(*EVERYTHING):
            # Parsed page by page, since that takes several microseconds for each record.
            for item in page.items:
                if not is_record(item.key):
                    others.append(item)
                elif (record := self._store.mirror.read_record(item.key, item.value)) is not None:
                    records.append(record)
            revision = page.revision
        if self._was_synchronized and (not known or revision < self._newest):
            self._log.error("etcd has lost its data; this replica is writing its own copy back.")
            self._applier.merge(records, others)
        else:
            self._applier.load(records, others, first=not self._was_synchronized)
        self._revision = self._newest = revision

    async def _watch_changes(self) -> None:
        """Watch etcd and apply changes until the watch breaks; raise what ended it."""
        self._barrier = 0
        self._broken = None
        # Allow for the time until the watch reports the first write of the presence key.
        soonest = self._elapsed() - SILENCE / 2
        self._heard = self._heard._replace(elapsed=max(self._heard.elapsed, soonest))
        self._watch = self._client.watch(
            [EVERYTHING], self._revision + 1, self._apply, silence=SILENCE
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
            if self._synchronized:
                self._lose_synchronization()

    def _break(self, error: Exception | None) -> None:
        """End the watch: `_watch_changes` raises `error`, or `CancelledError` if that is `None`."""
        self._broken = error
        if self._watch is not None:
            self._watch.ended.cancel()

    def _apply(self, events: list[Event], revision: int) -> None:
        if self._synchronized and not self.synchronized:
            # This process did not run, and other replicas may have judged as if it was gone. Begin
            # again to find out.
            raise EtcdUnavailable("was not listened to for a while")
        self._heard = self._moment()
        for event in events:
            self._applier.apply(event)
        self._revision = self._newest = revision
        self._synchronized_if_current()
        self._progressed()

    def _synchronized_if_current(self) -> None:
        if self._synchronized or not 0 < self._barrier <= self._revision:
            return
        self._synchronized = self._was_synchronized = True
        self._backoff.reset()
        self._store.in_sync()
        self._became_synchronized()

    def _lose_synchronization(self) -> None:
        self._synchronized = False
        self._was_deaf = True
        self._deaf_since(self._heard)

    def _deaf_since(self, moment: Moment) -> None:
        """Stop the observed clock until `_check` finds that all replicas are heard again.

        A standstill then makes up for the seconds that the clock has counted since `moment`.
        """
        # In observed time, since a standstill makes up only for seconds that were counted.
        self._observed.deafen(self._observed.now() - moment.observed)

    def _set_presence(self) -> None:
        """Set what this replica's presence key says from now on: its name, and whether any wait."""
        value = self._name.encode() + READS_BLOCKS + (WAITING if self._waiting() else b"")
        self._store.writer.set_presence(Put(PRESENCE + self._number, value, self._lease))

    async def _write_presence(self) -> None:
        """Write the presence key, unless it has just been written, and renew the lease.

        If etcd fails, or the lease has ended, end the watch. A deleted life key is written again.
        """
        applier = self._applier
        self._set_presence()
        seen = applier.present.get(applier.number)
        try:
            # `seen` is when the watch reported the last write, a moment after it was made.
            if not (self._barrier and seen and self._elapsed() - seen.elapsed < _PRESENCE / 2):
                before = self._revision
                revision = await self._store.touch()
                if revision <= before:
                    # etcd has lost its data: its revisions begin again.
                    self.reload()
                    return
                self._barrier = self._barrier or revision
                self._synchronized_if_current()
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
        """Let the observed clock run only while etcd and all living replicas are heard."""
        if self._synchronized and not self.synchronized:
            self._deaf_since(self._heard)
        if not self.synchronized:
            return
        now = self._moment()
        longest_silent = min(self._applier.present.values(), default=now)
        if now.elapsed - longest_silent.elapsed >= SILENCE:
            self._deaf_since(longest_silent)
        else:
            self._observed.hear(patiently=self._was_deaf)
            self._was_deaf = False
