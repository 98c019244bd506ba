"""Who leads: the replica that holds the lock, on a lease that it keeps alive."""

from collections.abc import Callable

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, TimeoutError, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from hbtd.etcd.client import EtcdClient
from hbtd.etcd.errors import EtcdRefused, EtcdUnavailable, LockTimeout
from hbtd.runtime.periodic import periodic
from hbtd.store.etcd_format import LOCK

LEASE = 10
"""Seconds for which a lease lasts that is not kept alive."""

MARGIN = 1.0
"""Seconds before the lease may lapse at which we stop leading."""

_KEEP_ALIVE = 2.0
"""Seconds between two times that the lease is kept alive."""

_CHECK = 0.25
"""Seconds between two looks at whether the lease may have lapsed."""

_RETRY = 1.0
"""Seconds before another attempt when etcd could not be had."""

_FAREWELL = 2.0
"""Seconds that giving up the lock may take when we end."""


class _Term:
    """One lease, and how long it is sure to last."""

    def __init__(self, lease: int, valid_until: float) -> None:
        self.lease = lease
        self.valid_until = valid_until
        self.over: Deferred[None] = Deferred()
        """Fires when the lease has ended, or may have."""

    def end(self) -> None:
        """Have it be over."""
        if not self.over.called:
            self.over.callback(None)


class Election(Service):
    """Stands for leader all the time, and says when it is and when it no longer is.

    The lease's time counts from before etcd was asked to begin it anew, on a clock that also runs
    while we don't. So `held` ends before another replica can begin, whatever happens to us.
    """

    _log = Logger()

    def __init__(
        self,
        client: EtcdClient,
        clock: IReactorTime,
        elapsed: Callable[[], float],
        gained: Callable[[bytes], None],
        lost: Callable[[], None],
    ) -> None:
        """`gained` gets the key that stands for holding the lock; `elapsed` gives seconds."""
        self._client = client
        self._clock = clock
        self._elapsed = elapsed
        self._gained = gained
        self._lost = lost
        self._term: _Term | None = None
        self._key: bytes | None = None
        self._standing: Deferred[None] = succeed(None)

    @property
    def held(self) -> bool:
        """Whether we hold the lock, at this very moment."""
        term = self._term
        return self._key is not None and term is not None and self._elapsed() < term.valid_until

    def give_up(self) -> None:
        """Stand anew, for we don't have the lock any more."""
        if self._term is not None:
            self._term.end()

    def startService(self) -> None:
        """Stand for leader."""
        super().startService()
        self._standing = Deferred.fromCoroutine(self._stand())

    async def stop(self) -> None:
        """Give up the lock, if we have it, so that another can lead at once."""
        super().stopService()
        self._standing.addErrback(lambda failure: failure.trap(CancelledError))
        self._standing.cancel()
        await self._standing

    def stopService(self) -> Deferred[None]:
        """Do as `stop`."""
        return Deferred.fromCoroutine(self.stop())

    async def _stand(self) -> None:
        while self.running:
            try:
                await self._serve_a_term()
            except LockTimeout:
                continue  # another leads; again, with another lease
            except (EtcdUnavailable, EtcdRefused) as error:
                self._log.debug("Can't stand for leader: {error}", error=str(error))
            except CancelledError:
                raise
            except Exception:  # noqa: BLE001  # or nobody would lead any more
                self._log.failure("Standing for leader failed; it goes on.")
            await deferLater(self._clock, _RETRY)

    async def _serve_a_term(self) -> None:
        """Get a lease, wait for the lock, and keep both for as long as can be."""
        asked_at = self._elapsed()
        lease = await self._client.grant(LEASE)
        term = self._term = _Term(lease, asked_at + LEASE - MARGIN)
        keeping = periodic(self._clock, lambda: self._keep_alive(term))
        keeping.start(_KEEP_ALIVE)
        checking = periodic(self._clock, lambda: self._check(term))
        checking.start(_CHECK)
        had = False
        try:
            key = await self._client.lock(LOCK, lease, LEASE)
            had = True
            if not term.over.called:
                self._key = key
                self._gained(key)
                await term.over
        finally:
            for loop in (keeping, checking):
                loop.stop()
            self._term = None
            if self._key is not None:
                self._key = None
                self._lost()
            if had:
                await self._revoke(lease)

    async def _keep_alive(self, term: _Term) -> None:
        asked_at = self._elapsed()
        try:
            seconds = await self._client.renew(term.lease)
        except (EtcdUnavailable, EtcdRefused):
            return  # it is tried again until time is up
        if seconds == 0:
            term.end()
        term.valid_until = max(term.valid_until, asked_at + min(seconds, LEASE) - MARGIN)

    def _check(self, term: _Term) -> None:
        if self._elapsed() >= term.valid_until:
            term.end()

    async def _revoke(self, lease: int) -> None:
        """Have the lock go now, not when the lease runs out."""
        revoking = self._client.revoke(lease).addTimeout(_FAREWELL, self._clock)
        revoking.addErrback(
            lambda failure: failure.trap(EtcdUnavailable, EtcdRefused, TimeoutError)
        )
        await revoking
