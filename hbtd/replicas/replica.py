"""The service of a replica: one of several hbtd processes that share a store in etcd.

One replica is the leader. Only the leader judges; all other replicas are followers.
"""

from collections.abc import Callable
from contextlib import suppress

from twisted.application.service import Service
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from hbtd.config.live_params import LiveParams
from hbtd.etcd.client import EtcdClient
from hbtd.etcd.errors import EtcdRefused, EtcdUnavailable
from hbtd.monitor import Monitor
from hbtd.replicas.applier import Applier, Moment
from hbtd.replicas.compaction import Compaction
from hbtd.replicas.election import Election
from hbtd.replicas.leadership import Leadership
from hbtd.replicas.remote_changes import RemoteChanges
from hbtd.replicas.shared_params import SharedParams
from hbtd.replicas.sign_of_life import Waiting
from hbtd.replicas.space import Space
from hbtd.replicas.sync import Sync
from hbtd.runtime.deadline import DeadlineExceeded, bounded
from hbtd.runtime.periodic import PeriodicService
from hbtd.store.etcd import EtcdStore
from hbtd.store.etcd_format import FORGET
from hbtd.store.interface import StoreUnusable
from hbtd.tracker.observed import ObservedClock

_PARTING = 5.0
"""The most seconds that writing owed records (see `Blocks.owed`) may take when a replica stops."""

_REVIEW = 1.0
"""Seconds between two reviews of the role of this replica and of the requests to the leader."""


class Replica(Service):
    """Makes the monitor judge while this replica holds the leader's lock and is synchronized.

    At all other times this replica is a follower. If the store is not shared,
    `hbtd.replicas.alone.Alone` is used instead.
    """

    _log = Logger()

    def __init__(
        self,
        client: EtcdClient,
        clock: IReactorTime,
        elapsed: Callable[[], float],
        observed: ObservedClock,
        leadership: Leadership,
        store: EtcdStore,
        monitor: Monitor,
        changes: RemoteChanges,
        params: LiveParams,
        name: str,
        jitter: Callable[[], float],
        waiting: Callable[[], Waiting],
    ) -> None:
        """Make the replica of this process, and draw the number by which other replicas know it.

        `name` is this replica's host and port, by which operators tell replicas apart. `elapsed`
        returns the seconds of a clock that also advances while the process does not run; `jitter`
        returns a random number from 0 to 1; `waiting` returns the components whose heartbeats may
        be waiting at this replica.
        """
        self._clock = clock
        self._leadership = leadership
        self._name = name
        self._store = store
        self._monitor = monitor
        self._changes = changes
        number = 1 + int(jitter() * (2**31 - 1))
        self._shared_params = SharedParams(client, store, params)
        self._applier = Applier(
            number,
            store,
            changes,
            monitor,
            self._shared_params,
            params,
            lambda: Moment(elapsed(), observed.now()),
            self._step_down,
        )
        self.sync = Sync(
            client,
            clock,
            observed,
            store,
            self._applier,
            name,
            jitter,
            waiting,
            lambda: monitor.leading,
            self._became_synchronized,
            self._progressed,
        )
        self._election = Election(
            client, clock, elapsed, leadership, jitter, self._elected, self._deposed
        )
        self.space = Space(client, clock)
        """The service that watches the size of etcd's database."""
        self._compaction = Compaction(
            client, clock, elapsed, params, lambda: self.sync.revision, lambda: monitor.leading
        )
        self._lock_key: bytes | None = None
        # The revision to be applied before this replica leads; `None` while it is not known.
        self._lead_from: int | None = None
        self._reviewing = PeriodicService(
            clock, _REVIEW, self._review, "the review of the replica's role", now=False
        )
        self._first_synchronized: Deferred[None] = Deferred()
        # The components that an original had warned about at the last review.
        self._warned: set[str] = set()

    @property
    def waiting_elsewhere(self) -> dict[int, Waiting]:
        """The components whose heartbeats wait at other replicas, by the number of the replica.

        Replicas at which no heartbeats wait are left out.
        """
        return self._applier.waiting_elsewhere

    @property
    def synchronized(self) -> bool:
        """Whether this replica is synchronized with the others; see `Sync`."""
        return self.sync.synchronized

    @property
    def leader(self) -> str | None:
        """The name of the leader, this replica or another; `None` if it is not known."""
        return self._name if self._monitor.leading else self._applier.leader_elsewhere

    def startService(self) -> None:
        """Start to synchronize with the other replicas, and to try to become the leader."""
        super().startService()
        self.sync.startService()
        self._election.startService()
        self._reviewing.startService()
        self.space.startService()
        self._compaction.startService()

    async def wait_until_synchronized(self, within: float) -> None:
        """Wait until this replica is synchronized for the first time, for at most `within` seconds.

        If it is not synchronized by then, return without an exception.
        """
        waiting = self._first_synchronized.addTimeout(within, self._clock)
        await waiting.addErrback(lambda failure: failure.trap(TimeoutError))

    def reconnect(self) -> None:
        """Watch etcd on a new connection, because the credentials for etcd have changed."""
        self.sync.reconnect()

    def stopService(self) -> Deferred[None]:
        """Stop; release the lock, so that another replica can lead at once.

        First, heartbeats that are only in blocks are written as records, since an original hbtd may
        be started next, and originals do not read blocks. Then, if this replica leads, it deletes
        from etcd the requests that have been granted. Return a Deferred that fires when this
        replica has stopped.
        """
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._reviewing.stopService()
        self.space.stopService()
        self._compaction.stopService()
        with suppress(StoreUnusable, DeadlineExceeded):
            await bounded(self._clock, _PARTING, self._store.write_owed_records())
        if self._monitor.leading:
            # Otherwise the next leader would grant these requests once more.
            await self._remove_requests()
            await self._store.flush()
        await self._election.stopService()
        await self.sync.stopService()

    def _elected(self, lock_key: bytes) -> None:
        self._lock_key = lock_key
        self._lead_from = None
        self._review_now()

    def _deposed(self) -> None:
        self._lock_key = None
        if self._monitor.leading:
            self._step_down()
            if self.running:
                # The last judgements of this replica may not be in etcd.
                self.sync.reload()

    def _became_synchronized(self) -> None:
        if not self._first_synchronized.called:
            self._first_synchronized.callback(None)
        self._choose_form()
        self._review_now()

    def _progressed(self) -> None:
        self._choose_form()
        self._lead_if_caught_up()

    def _choose_form(self) -> None:
        """Choose whether this replica writes heartbeats to etcd in blocks, or as records.

        Blocks are chosen while it is synchronized and all living replicas read blocks. When records
        are chosen after blocks, the heartbeats that are only in blocks are written as records, too.
        """
        blocks = self._store.blocks
        allowed = self.sync.synchronized and self._applier.all_read_blocks
        before = blocks.allowed
        blocks.allow(allowed)
        if before and not allowed:
            Deferred.fromCoroutine(self._store.write_owed_records()).addErrback(
                lambda failure: failure.trap(StoreUnusable)
            )

    def _review_now(self) -> None:
        Deferred.fromCoroutine(self._review()).addErrback(
            lambda failure: self._log.failure(
                "A check of this replica's role (leader or follower) failed because of a bug in"
                " hbtd; the next check is in 1 s.",
                failure,
            )
        )

    async def _review(self) -> None:
        """Do the periodic work that depends on the role of this replica.

        If the replica leads, delete from etcd the requests that it has granted, and judge that
        healthy components restarted if an original hbtd has warned HSM about them. If the replica
        does not lead, but is elected and synchronized, begin to lead. Leader or not, write changed
        parameters, and cursors that etcd has lost, to etcd while the replica is synchronized.
        """
        self._choose_form()
        if self.sync.synchronized:
            self._shared_params.write()
            with suppress(StoreUnusable):
                await self._store.restore_cursors()
                await self._store.restore_settings()
        if self._monitor.leading:
            # Not at once: an original tells HSM of a warning a moment after it has stored that.
            warned = self._changes.all_committed(self._warned & self._applier.warned)
            self._monitor.judge_returns(warned=warned)
            self._warned = set(self._applier.warned)
            await self._remove_requests()
        elif self._lock_key is not None and self.sync.synchronized:
            if self._lead_from is None:
                with suppress(EtcdUnavailable, EtcdRefused):
                    # All writes of the previous leader have earlier revisions.
                    self._lead_from = await self._store.touch()
            self._lead_if_caught_up()

    def _lead_if_caught_up(self) -> None:
        lock_key = self._lock_key
        if lock_key is None or not self._leadership.held() or not self.sync.synchronized:
            return
        if self._lead_from is None or self.sync.revision < self._lead_from:
            return
        if lock_key not in self._applier.locks:
            self._log.error(
                "Another client has deleted this replica's lock in etcd; this replica tries to"
                " become the leader again."
            )
            self._election.resign()
        elif not self._monitor.leading:
            self._lead(lock_key)

    def _lead(self, lock_key: bytes) -> None:
        self._log.info("This replica leads now.")
        self._store.writer.lock_gained(lock_key)
        requests = list(self._store.mirror.requests.items())
        started = [xname for xname, request in requests if request.kind != FORGET]
        Deferred.fromCoroutine(self._monitor.become_leader(started)).addErrback(
            lambda failure: self._log.failure(
                "This replica holds the leader's lock but could not begin to lead because of a bug"
                " in hbtd; restart this replica.",
                failure,
            )
        )
        for xname, request in requests:
            if request.kind == FORGET and not self._changes.is_stored(xname):
                self._monitor.forget(xname)

    def _step_down(self) -> None:
        if self._monitor.leading:
            self._log.info("This replica no longer leads.")
            self._store.writer.lock_lost()
            self._monitor.become_follower()

    async def _remove_requests(self) -> None:
        """Delete from etcd the requests to the leader that have been granted."""
        requests = self._store.mirror.requests.items()
        # A forgotten component has no record: one that has a record was heard again since, so it
        # is not forgotten.
        granted = [x for x, each in requests if each.kind != FORGET or self._changes.is_stored(x)]
        granted = self._changes.all_committed(granted)
        if granted:
            with suppress(StoreUnusable):
                await self._store.remove_requests(granted)
