"""The link to the other replicas: our sign of life, and etcd's changes, without a gap."""

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
from hbtd.runtime.periodic import periodic
from hbtd.store.etcd import EtcdStore
from hbtd.store.etcd_format import ALIVE, EVERYTHING, HEALTH, LIFE, PRESENCE, is_record
from hbtd.tracker.observed import ObservedClock
from hbtd.tracker.records import Record

SILENCE = 3.0
"""Seconds without a word from etcd, or from a living replica, after which we count as deaf."""

_PRESENCE = 1.0
"""Seconds between two signs of life, be they written with something else or by themselves."""

_KEEP_ALIVE = 2.0
"""Seconds between two times that the lease is kept alive while we read."""

_CHECK = 0.25
"""Seconds between two looks at who has been silent."""

_RETRY = 0.5
"""Seconds before etcd is tried again."""

_LONG_GAP = 30.0
"""Seconds after which it is quicker to read all anew than to catch up on changes."""


class Sync(Service):
    """Keeps this replica in touch with the others.

    Reads all that is in etcd, then follows its changes; when that breaks, goes on where it broke,
    or reads anew. The link is *up* once what we wrote after it was made has come back to us: then
    everything older has, too. While it is down, or a living replica's sign of life is missing,
    beats that others take don't reach us, and the observed clock does not count.
    """

    _log = Logger()

    def __init__(
        self,
        client: EtcdClient,
        clock: IReactorTime,
        elapsed: Callable[[], float],
        observed: ObservedClock,
        store: EtcdStore,
        following: Applier,
        name: str,
        came_up: Callable[[], None],
        progress: Callable[[], None],
    ) -> None:
        """Make a link for a replica that people know by this name.

        `elapsed` gives seconds that pass even when we don't run. `came_up` is called whenever the
        link is up again, `progress` whenever changes have been taken up.
        """
        self._client = client
        self._clock = clock
        self._elapsed = elapsed
        self._observed = observed
        self._store = store
        self._applier = following
        self._moment = following.moment
        self._name = name
        self._came_up = came_up
        self._progress = progress
        self._number = str(following.number).encode()
        self._lease = 0
        self._revision = 0  # what has been taken up; 0: nothing that can be built on
        self._newest = 0  # the newest revision that was ever seen
        self._barrier = 0  # what has to be taken up until the link is up; 0: not known yet
        self._up = False
        self._was_up = False
        self._gap = False
        self._heard = self._moment()
        self._watch: Watch | None = None
        self._broken: Exception | None = None
        self._work: Deferred[None] = succeed(None)
        self._presence = periodic(clock, self._show_presence)
        self._checking = periodic(clock, self._check)

    @property
    def up(self) -> bool:
        """Whether all that is in etcd has reached us, but for what is under way."""
        return self._up and self._elapsed() - self._heard.elapsed < SILENCE

    def startService(self) -> None:
        """Get in touch."""
        super().startService()
        self._heard = self._moment()
        self._observed.deafen(0.0)
        self._checking.start(_CHECK, now=False)
        self._work = Deferred.fromCoroutine(self._stay_in_touch())

    async def stop(self) -> None:
        """Say good-bye, so that nobody waits for a sign of life of ours."""
        super().stopService()
        self._checking.stop()
        self._work.addErrback(lambda failure: failure.trap(CancelledError))
        self._work.cancel()
        await self._work
        if self._lease:
            try:
                await self._client.revoke(self._lease)
            except (EtcdUnavailable, EtcdRefused) as error:
                self._log.debug("Could not say good-bye to etcd: {error}", error=str(error))

    def stopService(self) -> Deferred[None]:
        """Do as `stop`."""
        return Deferred.fromCoroutine(self.stop())

    @property
    def revision(self) -> int:
        """Up to where etcd's changes have been taken up."""
        return self._revision

    def reload(self) -> None:
        """Read all anew, for what we hold is not what etcd has."""
        self._revision = 0
        self._break(None)

    async def _stay_in_touch(self) -> None:
        while self.running:
            try:
                await self._join()
                if self._revision == 0 or self._elapsed() - self._heard.elapsed > _LONG_GAP:
                    await self._load()
                await self._follow()
            except Compacted:
                self._revision = 0
            except (EtcdUnavailable, EtcdRefused) as error:
                self._store.out_of_sync(f"etcd: {error}")
                if isinstance(error, EtcdRefused) and error.code == NOT_FOUND:
                    self._lease = 0
                await deferLater(self._clock, _RETRY)
            except CancelledError:
                if not self.running:
                    raise
            except Exception:  # noqa: BLE001  # or we would never hear of the others again
                self._log.failure("Keeping in touch with etcd failed; it is begun anew.")
                self._revision = 0
                await deferLater(self._clock, _RETRY)

    async def _join(self) -> None:
        """Have a lease, for our life key and our sign of life."""
        if self._lease and await self._client.renew(self._lease):
            return
        self._lease = await self._client.grant(LEASE)
        await self._client.put(LIFE + self._number, ALIVE, self._lease)
        presence = Put(PRESENCE + self._number, self._name.encode(), self._lease)
        self._store.writer.set_presence(presence)

    async def _load(self) -> None:
        """Read all that is in etcd, while nothing of ours is on its way there."""
        self._applier.before_load()
        keeping = periodic(self._clock, self._keep_lease)
        keeping.start(_KEEP_ALIVE, now=False)
        try:
            await self._store.exclusively(self._read_all)
            await self._client.put(*HEALTH)
        finally:
            keeping.stop()
        self._heard = self._moment()

    async def _keep_lease(self) -> None:
        """Remain one of those that live, though silent, while reading takes long.

        Or our nodes, of whom the others don't hear meanwhile, would seem to be silent.
        """
        try:
            await self._client.renew(self._lease)
        except (EtcdUnavailable, EtcdRefused) as error:
            self._log.debug("Our lease could not be kept alive: {error}", error=str(error))

    async def _read_all(self) -> None:
        known = await self._client.get(HEALTH[0]) is not None
        records: list[Record] = []
        others: list[KeyValue] = []
        revision = 0
        async for page in self._client.pages(*EVERYTHING):
            # Read page by page, for each record costs several microseconds.
            for item in page.items:
                if not is_record(item.key):
                    others.append(item)
                elif (record := self._store.mirror.read_record(item.key, item.value)) is not None:
                    records.append(record)
            revision = page.revision
        if self._was_up and (not known or revision < self._newest):
            self._log.error("etcd has lost what was in it; it is told again what we know.")
            self._applier.add(records, others)
        else:
            self._applier.load(records, others, first=not self._was_up)
        self._revision = self._newest = revision

    async def _follow(self) -> None:
        """Take up changes until that breaks; raises why it did."""
        self._barrier = 0
        self._broken = None
        # A sign of life comes back soon.
        soonest = self._elapsed() - SILENCE / 2
        self._heard = self._heard._replace(elapsed=max(self._heard.elapsed, soonest))
        self._watch = self._client.watch(
            [EVERYTHING], self._revision + 1, self._take_up, silence=SILENCE
        )
        showing = self._presence.start(_PRESENCE)
        try:
            await self._watch.ended
        except CancelledError:
            if self._broken is not None:
                raise self._broken from None
            raise
        finally:
            self._watch = None
            self._presence.stop()
            await showing
            if self._up:
                self._fall()

    def _break(self, error: Exception | None) -> None:
        """Give up the present watch, for a reason."""
        self._broken = error
        if self._watch is not None:
            self._watch.ended.cancel()

    def _take_up(self, events: list[Event], revision: int) -> None:
        if self._up and not self.up:
            # We did not run. Others may have counted us as gone; let us see what is what first.
            raise EtcdUnavailable("was not listened to for a while")
        self._heard = self._moment()
        for event in events:
            self._applier.follow(event)
        self._revision = self._newest = revision
        self._rise()
        self._progress()

    def _rise(self) -> None:
        """See whether the link is up."""
        if self._up or not 0 < self._barrier <= self._revision:
            return
        self._up = self._was_up = True
        self._store.in_sync()
        self._came_up()

    def _fall(self) -> None:
        self._up = False
        self._gap = True
        self._deaf_since(self._heard)

    def _deaf_since(self, moment: Moment) -> None:
        """Have no time count from then on, until we hear again."""
        # Not the time that has passed: what was not counted is not to be made up for.
        self._observed.deafen(self._observed.now() - moment.observed)

    async def _show_presence(self) -> None:
        """Give a sign of life, unless we just did by writing something else."""
        following = self._applier
        seen = following.present.get(following.number)
        try:
            # The last one came back a moment after it was written, so not a whole period ago.
            if not (self._barrier and seen and self._elapsed() - seen.elapsed < _PRESENCE / 2):
                before = self._revision
                revision = await self._store.touch()
                if revision <= before:
                    # etcd has begun anew, without its data.
                    self.reload()
                    return
                self._barrier = self._barrier or revision
                self._rise()
            if following.number not in following.alive:
                # Somebody has deleted it.
                await self._client.put(LIFE + self._number, ALIVE, self._lease)
            if await self._client.renew(self._lease):
                return
            self._lease = 0
            self._break(EtcdUnavailable("our lease has ended"))
        except (EtcdUnavailable, EtcdRefused) as error:
            self._break(error)

    def _check(self) -> None:
        """Have the observed clock count only while we hear of all the others."""
        if self._up and not self.up:
            self._deaf_since(self._heard)
        if not self.up:
            return
        now = self._moment()
        longest_silent = min(self._applier.present.values(), default=now)
        if now.elapsed - longest_silent.elapsed >= SILENCE:
            self._deaf_since(longest_silent)
        else:
            self._observed.hear(patiently=self._gap)
            self._gap = False
