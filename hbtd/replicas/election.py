"""The election of the leader: the replica that holds a lock in etcd, on a lease that it renews."""

from collections.abc import Callable

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, TimeoutError, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from hbtd.etcd.client import EtcdClient
from hbtd.etcd.errors import EtcdRefused, EtcdUnavailable, LockTimeout
from hbtd.replicas.leadership import Leadership
from hbtd.runtime.backoff import Backoff
from hbtd.runtime.periodic import PeriodicService
from hbtd.store.etcd_format import LOCK

LEASE = 10
"""The TTL of a replica's leases, in seconds."""

MARGIN = 1.0
"""Seconds before its lease ends at which a leader that can't renew the lease stops leading."""

_RENEWAL = 2.0
"""Seconds between two renewals of the lease."""

_CHECK = 0.25
"""Seconds between two checks whether the lease may have expired."""

_RETRY = (0.75, 1.5)
"""The shortest and the longest pause, in seconds, before the next attempt after etcd failed."""

_REVOCATION = 2.0
"""The most seconds to wait for the revocation of the lease, which releases the lock."""


class _Term:
    """A lease of this replica, and the time until which the lease is certain to last."""

    def __init__(self, lease: int, valid_until: float) -> None:
        self.lease = lease
        self.valid_until = valid_until
        """When the lease may expire, less `MARGIN`, in seconds of `elapsed`."""
        self.over: Deferred[None] = Deferred()
        """A Deferred that fires once the lease may have expired, or `end` was called."""

    def end(self) -> None:
        """End the term: fire the Deferred `over`, unless it has fired already."""
        if not self.over.called:
            self.over.callback(None)


class Election(Service):
    """Keeps trying to make this replica the leader; reports when its leadership begins and ends.

    The time of a lease is counted from just before etcd is asked to grant or renew the lease, on a
    clock that also advances while the process does not run. So the leadership of this replica ends
    before another replica can be elected.
    """

    _log = Logger()

    def __init__(
        self,
        client: EtcdClient,
        clock: IReactorTime,
        elapsed: Callable[[], float],
        leadership: Leadership,
        jitter: Callable[[], float],
        elected: Callable[[bytes], None],
        deposed: Callable[[], None],
    ) -> None:
        """Make the service, which sets `leadership` when this replica starts or stops leading.

        `elapsed` returns the seconds of the clock of `leadership`; `jitter` returns a random number
        from 0 to 1. `elected` is called when this replica has been elected, with the key that
        exists in etcd while this replica holds the lock. `deposed` is called when the leadership of
        this replica has ended.
        """
        self._client = client
        self._clock = clock
        self._elapsed = elapsed
        self._leadership = leadership
        self._elected = elected
        self._deposed = deposed
        self._backoff = Backoff(*_RETRY, jitter)
        self._term: _Term | None = None
        self._leading = False
        self._running_for_leader: Deferred[None] = succeed(None)

    def startService(self) -> None:
        """Start trying to become the leader."""
        super().startService()
        self._running_for_leader = Deferred.fromCoroutine(self._run())

    def stopService(self) -> Deferred[None]:
        """Stop trying to become the leader; release the lock if this replica holds it.

        Another replica can then lead. Return a Deferred that fires once etcd has released the lock,
        or two seconds have passed.
        """
        super().stopService()
        stopped = self._running_for_leader
        stopped.addErrback(lambda failure: failure.trap(CancelledError))
        stopped.cancel()
        return stopped

    def resign(self) -> None:
        """Release the lock, if this replica holds it, and try to become the leader again."""
        if self._term is not None:
            self._term.end()

    async def _run(self) -> None:
        while self.running:
            try:
                await self._serve_term()
            except LockTimeout:
                continue  # another replica leads; try again, with another lease
            except (EtcdUnavailable, EtcdRefused) as error:
                self._log.debug(
                    "This replica can't try to become the leader now; next attempt soon: {error}",
                    error=str(error),
                )
            except CancelledError:
                raise
            except Exception:  # noqa: BLE001  # otherwise no replica would lead in the end
                self._log.failure(
                    "Trying to become the leader failed because of a bug in hbtd; this replica"
                    " tries again."
                )
            await deferLater(self._clock, self._backoff.next())

    async def _serve_term(self) -> None:
        """Get a lease, wait for the lock, and keep both for as long as possible.

        Raise the exceptions of `EtcdClient.lock` if the lock is not acquired.
        """
        asked_at = self._elapsed()
        lease = await self._client.grant(LEASE)
        term = self._term = _Term(lease, asked_at + LEASE - MARGIN)
        loops = (
            PeriodicService(
                self._clock, _RENEWAL, lambda: self._renew(term), "the renewal of the lock's lease"
            ),
            PeriodicService(
                self._clock, _CHECK, lambda: self._check(term), "the check of the lock's lease"
            ),
        )
        for loop in loops:
            loop.startService()
        locked = False
        try:
            key = await self._client.lock(LOCK, lease, LEASE)
            locked = True
            self._backoff.reset()
            if not term.over.called:
                await self._lead(term, key)
        finally:
            for loop in loops:
                loop.stopService()
            self._term = None
            if locked:
                await self._revoke(lease)

    async def _lead(self, term: _Term, key: bytes) -> None:
        """Hold the leadership, with the lock that `key` stands for, until the term is over."""
        self._leading = True
        self._leadership.hold(term.valid_until)
        try:
            self._elected(key)
            await term.over
        finally:
            self._leading = False
            self._leadership.release()
            self._deposed()

    async def _renew(self, term: _Term) -> None:
        asked_at = self._elapsed()
        try:
            seconds = await self._client.renew(term.lease)
        except (EtcdUnavailable, EtcdRefused):
            return  # tried again until the term is over
        if seconds == 0:
            term.end()
        term.valid_until = max(term.valid_until, asked_at + min(seconds, LEASE) - MARGIN)
        if self._leading and term is self._term:
            self._leadership.hold(term.valid_until)

    def _check(self, term: _Term) -> None:
        if self._elapsed() >= term.valid_until:
            term.end()

    async def _revoke(self, lease: int) -> None:
        """Revoke the lease, so that the lock is released now and not when the lease expires."""
        revoking = self._client.revoke(lease).addTimeout(_REVOCATION, self._clock)
        revoking.addErrback(
            lambda failure: failure.trap(EtcdUnavailable, EtcdRefused, TimeoutError)
        )
        await revoking
