"""One replica of several that share the work, of which one judges."""

from collections.abc import Callable
from contextlib import suppress
from random import SystemRandom

from twisted.application.service import Service
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from hbtd.config.params import LiveParams
from hbtd.etcd.client import EtcdClient
from hbtd.etcd.errors import EtcdRefused, EtcdUnavailable
from hbtd.monitor import Monitor
from hbtd.replicas.applier import Applier, Moment
from hbtd.replicas.election import Election
from hbtd.replicas.shared_params import SharedParams
from hbtd.replicas.sync import Sync
from hbtd.runtime.periodic import periodic
from hbtd.store.etcd import EtcdStore
from hbtd.store.etcd_format import FORGET
from hbtd.store.interface import StoreUnusable
from hbtd.tracker.observed import ObservedClock

_CONSIDER = 1.0
"""Seconds between two looks at whether to lead, and at what the others have asked for."""


class Replica(Service):
    """Has the monitor judge while we hold the lock and the link is up, and follow otherwise."""

    _log = Logger()

    def __init__(
        self,
        client: EtcdClient,
        clock: IReactorTime,
        elapsed: Callable[[], float],
        observed: ObservedClock,
        store: EtcdStore,
        monitor: Monitor,
        params: LiveParams,
        name: str,
    ) -> None:
        """`elapsed` gives seconds that pass even when we don't run; `name` is for people."""
        self._clock = clock
        self._store = store
        self._monitor = monitor
        number = SystemRandom().randrange(1, 2**31)
        self._shared_params = SharedParams(client, store, params)
        self._applier = Applier(
            number,
            store,
            monitor,
            self._shared_params,
            params,
            lambda: Moment(elapsed(), observed.now()),
            self._step_down,
        )
        self.link = Sync(
            client,
            clock,
            elapsed,
            observed,
            store,
            self._applier,
            name,
            self._came_up,
            self._lead_if_caught_up,
        )
        self.election = Election(client, clock, elapsed, self._gained, self._lost)
        self._lock_key: bytes | None = None
        self._lead_from = 0  # what has to be taken up before we lead; 0: not known yet
        self._considering = periodic(clock, self._consider)
        self._first_up: Deferred[None] = Deferred()

    def startService(self) -> None:
        """Get in touch with the others, and stand for leader."""
        super().startService()
        self.link.startService()
        self.election.startService()
        self._considering.start(_CONSIDER, now=False)

    async def ready(self, within: float) -> None:
        """Wait until the link is up for the first time, or so many seconds have passed."""
        waiting = self._first_up.addTimeout(within, self._clock)
        await waiting.addErrback(lambda failure: failure.trap(TimeoutError))

    async def stop(self) -> None:
        """Leave everything to the others, at once."""
        super().stopService()
        self._considering.stop()
        if self._monitor.leading:
            # Or the next leader would do it all once more.
            await self._answer()
            await self._store.flush()
        await self.election.stop()
        await self.link.stop()

    def stopService(self) -> Deferred[None]:
        """Do as `stop`."""
        return Deferred.fromCoroutine(self.stop())

    def _gained(self, lock_key: bytes) -> None:
        self._lock_key = lock_key
        self._lead_from = 0
        self._consider_now()

    def _lost(self) -> None:
        self._lock_key = None
        if self._monitor.leading:
            self._step_down()
            if self.running:
                # What we judged last may not have come to count.
                self.link.reload()

    def _came_up(self) -> None:
        if not self._first_up.called:
            self._first_up.callback(None)
        self._consider_now()

    def _consider_now(self) -> None:
        Deferred.fromCoroutine(self._consider()).addErrback(
            lambda failure: self._log.failure(
                "Looking after the replicas' affairs failed.", failure
            )
        )

    async def _consider(self) -> None:
        """Lead if we should and can; as the leader, see to what the others have asked for."""
        if self.link.up:
            self._shared_params.write()
        if self._monitor.leading:
            await self._answer()
        elif self._lock_key is not None and self.link.up:
            if not self._lead_from:
                with suppress(EtcdUnavailable, EtcdRefused):
                    # Whatever the last leader did is before this.
                    self._lead_from = await self._store.touch()
            self._lead_if_caught_up()

    def _lead_if_caught_up(self) -> None:
        lock_key = self._lock_key
        if lock_key is None or not self.election.held:
            return
        if not (self.link.up and 0 < self._lead_from <= self.link.revision):
            return
        if lock_key not in self._applier.locks:
            self._log.error("Somebody has deleted the lock by which this replica led.")
            self.election.give_up()
        elif not self._monitor.leading:
            self._log.info("This replica leads now.")
            self._store.writer.lock_gained(lock_key)
            asked = list(self._store.mirror.requests.items())
            started = [xname for xname, request in asked if request.kind != FORGET]
            Deferred.fromCoroutine(self._monitor.lead(started)).addErrback(
                lambda failure: self._log.failure("Beginning to lead failed.", failure)
            )
            for xname, request in asked:
                if request.kind == FORGET and not self._monitor.stored(xname):
                    self._monitor.forget(xname)

    def _step_down(self) -> None:
        if self._monitor.leading:
            self._log.info("This replica no longer leads.")
            self._store.writer.lock_lost()
            self._monitor.follow()

    async def _answer(self) -> None:
        asked = self._store.mirror.requests.items()
        # A goodbye took the record away: who has one is back, and must not be forgotten later.
        done = [x for x, each in asked if each.kind != FORGET or self._monitor.stored(x)]
        done = self._monitor.settled(done)
        if done:
            with suppress(StoreUnusable):
                await self._store.remove_requests(done)
