"""Synchronization with the other replicas: reading etcd, watching it, and writing the presence."""

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
from hbtd.store.etcd_format import ALIVE, EVERYTHING, HEALTH, LIFE, PRESENCE, is_record
from hbtd.tracker.observed import ObservedClock
from hbtd.tracker.records import Record

SILENCE = 3.0
"""Seconds without a message from etcd, or from a living replica, that make this replica deaf."""

_PRESENCE = 1.0
"""Seconds between two writes of the presence key, be it with another write or alone."""

_RENEWAL = 2.0
"""Seconds between two renewals of the lease while etcd is read."""

_CHECK = 0.25
"""Seconds between two checks for silence."""

_RETRY = (0.4, 1.0)
"""The shortest and the longest pause, in seconds, before the next attempt when etcd fails."""

_LONG_OUTAGE = 30.0
"""Seconds after which reading everything anew is quicker than catching up on changes."""


class Sync(Service):
    """Keeps this replica in sync with the others.

    It reads everything in etcd, then watches the changes. When the watch breaks, it resumes where
    that ended, or reads everything anew. It is *up* once a write of its own, made after the watch
    began, has come back: then everything older has, too.

    While it is not up, or while another living replica writes no presence, heartbeats that other
    replicas take may not arrive, so the observed clock does not count.
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
        became_synchronized: Callable[[], None],
        progressed: Callable[[], None],
    ) -> None:
        """Make the synchronization of the replica that people know by `name`.

        `elapsed` returns seconds of a clock that runs even while this process does not, `jitter` a
        random number from 0 to 1. `became_synchronized` is called each time it comes up, `progressed` after
        changes were applied.
        """
        self._client = client
        self._clock = clock
        self._elapsed = elapsed
        self._observed = observed
        self._store = store
        self._applier = applier
        self._moment = applier.moment
        self._name = name
        self._became_synchronized = became_synchronized
        self._progressed = progressed
        self._number = str(applier.number).encode()
        self._backoff = Backoff(*_RETRY, jitter)
        self._lease = 0
        self._revision = 0  # up to which changes are applied; 0: everything has to be read
        self._newest = 0  # the newest revision that was ever seen
        self._barrier = 0  # the revision to be applied before it is up; 0: not known yet
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
        """Whether everything in etcd has arrived, except for what is on its way."""
        return self._synchronized and self._elapsed() - self._heard.elapsed < SILENCE

    @property
    def revision(self) -> int:
        """The revision up to which etcd's changes are applied."""
        return self._revision

    def startService(self) -> None:
        """Begin to read and to watch; the observed clock stands still until this is up."""
        super().startService()
        self._heard = self._moment()
        self._observed.deafen(0.0)
        self._checking.startService()
        self._work = Deferred.fromCoroutine(self._run())

    def stopService(self) -> Deferred[None]:
        """Stop, and revoke the lease, so that no other replica waits for this one's presence."""
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
                    "This replica's lease could not be revoked: {error}", error=str(error)
                )

    def reload(self) -> None:
        """Read everything anew, since what this replica knows differs from what etcd has."""
        self._revision = 0
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
            except Exception:  # noqa: BLE001  # without another attempt it would be deaf for good
                self._log.failure("Synchronization with etcd failed; all is read anew.")
                self._revision = 0
                await deferLater(self._clock, self._backoff.next())

    async def _join(self) -> None:
        """Renew the lease, or get one, with the life key on it."""
        if self._lease and await self._client.renew(self._lease):
            return
        self._lease = await self._client.grant(LEASE)
        await self._client.put(LIFE + self._number, ALIVE, self._lease)
        presence = Put(PRESENCE + self._number, self._name.encode(), self._lease)
        self._store.writer.set_presence(presence)

    async def _load(self) -> None:
        """Read everything in etcd, while no write of this replica is on its way there."""
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
        """Count as alive, though silent, while reading takes long.

        The other replicas then wait for this one, instead of judging the components it hears.
        """
        try:
            await self._client.renew(self._lease)
        except (EtcdUnavailable, EtcdRefused) as error:
            self._log.debug("This replica's lease could not be renewed: {error}", error=str(error))

    async def _read_all(self) -> None:
        known = await self._client.get(HEALTH[0]) is not None
        records: list[Record] = []
        others: list[KeyValue] = []
        revision = 0
        async for page in self._client.pages(*EVERYTHING):
            # Parsed page by page, since each record takes several microseconds.
            for item in page.items:
                if not is_record(item.key):
                    others.append(item)
                elif (record := self._store.mirror.read_record(item.key, item.value)) is not None:
                    records.append(record)
            revision = page.revision
        if self._was_synchronized and (not known or revision < self._newest):
            self._log.error("etcd has lost its data; this replica writes what it knows again.")
            self._applier.merge(records, others)
        else:
            self._applier.load(records, others, first=not self._was_synchronized)
        self._revision = self._newest = revision

    async def _watch_changes(self) -> None:
        """Apply changes until the watch breaks; raise the reason."""
        self._barrier = 0
        self._broken = None
        # Allow for the time until the first write of the presence comes back.
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
        """End the present watch, for a reason."""
        self._broken = error
        if self._watch is not None:
            self._watch.ended.cancel()

    def _apply(self, events: list[Event], revision: int) -> None:
        if self._synchronized and not self.synchronized:
            # This process did not run. Other replicas may have counted it as gone: find out first.
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
        """Stop the observed clock, as of that moment, until all replicas are heard again."""
        # By observed time: seconds that were not counted don't have to be made up for.
        self._observed.deafen(self._observed.now() - moment.observed)

    async def _write_presence(self) -> None:
        """Write the presence key, unless another write has just done so, and renew the lease."""
        applier = self._applier
        seen = applier.present.get(applier.number)
        try:
            # The last write came back a moment after it was made, so less than a period ago.
            if not (self._barrier and seen and self._elapsed() - seen.elapsed < _PRESENCE / 2):
                before = self._revision
                revision = await self._store.touch()
                if revision <= before:
                    # etcd has lost its data and counts anew.
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
        """Let the observed clock count only while all other living replicas are heard."""
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
