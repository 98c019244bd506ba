"""The client of etcd, with the calls that hbtd needs."""

import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from typing import Any

from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from hbtd.etcd.errors import NOT_FOUND, EtcdRefused, EtcdUnavailable, LockTimeout
from hbtd.etcd.gateway import Gateway
from hbtd.etcd.messages import (
    Compare,
    DatabaseSize,
    Event,
    KeyValue,
    Operation,
    Page,
    TxnResult,
    count_message,
    decode_bytes,
    encode_bytes,
    last_key_message,
    put_message,
    range_message,
    read_count,
    read_key_values,
    read_size,
    read_txn,
    revision_of,
)
from hbtd.etcd.watch import Watch
from hbtd.net.own_secrets import Login, SecretFile

MAX_OPERATIONS = 128
"""The maximum number of operations in a transaction, and likewise of its compares: 128.

128 is the default of etcd's option `--max-txn-ops`, which limits each of the two numbers.
"""

PAGE = 2000
"""The number of keys that are read in one call, unless the caller sets another limit."""


class EtcdClient:
    """A client of one etcd cluster. Keys and values are bytes; durations are in seconds.

    Every call fails with `EtcdUnavailable` if etcd can't be reached, or reports an error that the
    call has not caused. etcd may have carried out the failed call, so a call should be retried only
    if it can safely take effect twice; the compares of a retried transaction may fail because its
    first attempt succeeded. Every call fails with `EtcdRefused` if etcd refuses it, and with
    `CancelledError` if its Deferred is cancelled.
    """

    def __init__(
        self,
        http: HTTPClient,
        clock: IReactorTime,
        endpoints: Sequence[str],
        timeout: float,
        user_agent: str,
        login: SecretFile[Login] | None = None,
    ) -> None:
        """Make a client of the cluster with these endpoints.

        The endpoints are base URLs such as `https://etcd-0:2379`, without `/v3`. `http` decides
        which certificates are trusted. A call takes at most `timeout` seconds of `clock`, including
        the time to read the answer. `login` is needed for an etcd with users. `Gateway` describes
        how calls move from one endpoint to the next, and how `login` is used.
        """
        self._gateway = Gateway(http, clock, endpoints, timeout, user_agent, login)
        self._clock = clock

    async def breathe(self) -> None:
        """Let the reactor do other work before the caller continues with a long computation."""
        await deferLater(self._clock, 0)

    def put(self, key: bytes, value: bytes, lease: int = 0) -> Deferred[int]:
        """Set a key, and attach it to a lease unless `lease` is 0.

        The Deferred fires with the revision of the change. It fails with `EtcdRefused` of code
        `NOT_FOUND` if there is no such lease.
        """
        return self._gateway.call("/kv/put", put_message(key, value, lease), revision_of)

    def get(self, key: bytes) -> Deferred[KeyValue | None]:
        """Return a key with its value, or `None` if the key does not exist."""

        def read(answer: Any) -> KeyValue | None:
            revision_of(answer)
            found = read_key_values(answer)
            return found[0] if found else None

        return self._gateway.call("/kv/range", range_message(key, b""), read)

    def range(
        self, start: bytes, end: bytes, *, limit: int = PAGE, revision: int = 0
    ) -> Deferred[Page]:
        """Return the first `limit` keys from `start` up to but excluding `end`, in sorted order.

        The keys and their values are as of `revision`, or as of now if `revision` is 0. The
        Deferred fails with `Compacted` if etcd no longer has that revision.
        """

        def read(answer: Any) -> Page:
            # The revision in the header is the present one, even if an older one was asked for.
            present = revision_of(answer)
            more = bool(answer.get("more", False))
            return Page(read_key_values(answer), revision or present, more)

        message = range_message(start, end, limit, revision)
        return self._gateway.call("/kv/range", message, read)

    def last_key(self, start: bytes, end: bytes, *, revision: int = 0) -> Deferred[KeyValue | None]:
        """Return the last key from `start` up to but excluding `end`, `None` if there is none.

        The key comes without its value. It is the last one as of `revision`, or as of now if
        `revision` is 0. etcd reads the whole range to find it. The Deferred fails with `Compacted`
        if etcd no longer has that revision.
        """

        def read(answer: Any) -> KeyValue | None:
            revision_of(answer)
            found = read_key_values(answer)
            return found[0] if found else None

        return self._gateway.call("/kv/range", last_key_message(start, end, revision), read)

    async def pages(
        self, start: bytes, end: bytes, *, size: int = PAGE, revision: int = 0
    ) -> AsyncIterator[Page]:
        """Yield all keys from `start` up to but excluding `end`, in pages of up to `size` keys.

        All pages are as of `revision`, or as of the first call if `revision` is 0. If there are no
        keys, one empty page is yielded. Raise the exceptions with which the Deferred of `range`
        fails. Raise `Compacted` also if etcd is compacted between two pages.
        """
        more = True
        while more:
            page = await self.range(start, end, limit=size, revision=revision)
            yield page
            more, revision = page.more, page.revision
            if more:
                start = page.items[-1].key + b"\0"

    def txn(
        self, compares: Sequence[Compare], operations: Sequence[Operation]
    ) -> Deferred[TxnResult]:
        """Carry out all of `operations` if all of `compares` hold, otherwise none of them.

        The operations take effect together, in one revision. The Deferred fails with `EtcdRefused`
        if two operations change the same key. Raise `ValueError` if there are more than
        `MAX_OPERATIONS` operations or compares.
        """
        if max(len(compares), len(operations)) > MAX_OPERATIONS:
            raise ValueError(f"more than {MAX_OPERATIONS} operations in a transaction")
        message = {
            "compare": [each.message for each in compares],
            "success": [each.message for each in operations],
        }
        return self._gateway.call("/kv/txn", message, read_txn)

    def count(self, ranges: Sequence[tuple[bytes, bytes]]) -> Deferred[int]:
        """Return the total number of keys in `ranges`.

        A range is a pair of keys, and includes the first but not the second. If the second key is a
        zero byte, the range has no end. Each range is counted in a call of its own rather than in
        one transaction, because an etcd whose database is full refuses all transactions, even those
        that only read.
        """
        return Deferred.fromCoroutine(self._count(ranges))

    async def _count(self, ranges: Sequence[tuple[bytes, bytes]]) -> int:
        counted = 0
        for each in ranges:
            counted += await self._gateway.call("/kv/range", count_message(*each), read_count)
        return counted

    def compact(self, revision: int) -> Deferred[int]:
        """Delete the history of all keys before `revision`; return the current revision.

        The Deferred fails with `Compacted` if that history was deleted before, and with
        `EtcdRefused` if etcd has not reached `revision` yet.
        """
        return self._gateway.call("/kv/compaction", {"revision": str(revision)}, revision_of)

    def database_size(self) -> Deferred[DatabaseSize]:
        """Return the size of etcd's database, as reported by the cluster member that answers."""
        return Deferred.fromCoroutine(self._database_size())

    async def _database_size(self) -> DatabaseSize:
        found = await self._gateway.call("/maintenance/status", {}, read_size)
        if found.quota:
            return found
        # Before 3.6 etcd tells its quota only among its metrics.
        with suppress(EtcdUnavailable):
            text = await self._gateway.get("/metrics")
            quota = re.search(rb"(?m)^etcd_server_quota_backend_bytes ([0-9.e+]+)$", text)
            if quota is not None:
                found = found._replace(quota=int(float(quota[1])))
        return found

    def grant(self, ttl: int) -> Deferred[int]:
        """Create a lease of at least `ttl` seconds (etcd may choose more); return its ID."""
        return self._gateway.call(
            "/lease/grant", {"TTL": str(ttl)}, lambda answer: int(answer["ID"])
        )

    def renew(self, lease: int) -> Deferred[int]:
        """Renew a lease; return its TTL in seconds, or 0 if the lease has ended."""
        return self._gateway.call(
            "/lease/keepalive",
            {"ID": str(lease)},
            lambda answer: int(answer["result"].get("TTL", 0)),
        )

    async def _revoke(self, lease: int) -> None:
        try:
            await self._gateway.call("/lease/revoke", {"ID": str(lease)}, revision_of)
        except EtcdRefused as error:
            if error.code != NOT_FOUND:
                raise

    def revoke(self, lease: int) -> Deferred[None]:
        """End a lease, and delete the keys attached to it; do nothing if it has ended already."""
        return Deferred.fromCoroutine(self._revoke(lease))

    def lock(self, name: bytes, lease: int, wait: float) -> Deferred[bytes]:
        """Acquire a lock within `wait` seconds; return the key that exists while the lock is held.

        The lock is held for as long as the lease lasts. The caller renews the lease, beginning
        before this call, and revokes it to release the lock. A transaction with `Compare.exists` of
        the returned key is fenced: it takes effect only while the lock is held.

        Each call needs a lease of its own. If the lock is not acquired, the lease is revoked, so
        that nothing is left behind in etcd, and the Deferred fails: with `LockTimeout` after `wait`
        seconds; with `EtcdRefused` if the lease has ended, which etcd may report only once the lock
        is free; with `EtcdUnavailable` or `CancelledError` as every call does. If the revocation
        fails as well, the lease lasts until it expires.

        If the connection breaks unnoticed, etcd may give the lock to this client, which does not
        learn of that; other clients then can't acquire the lock for up to `wait` seconds.
        """
        return Deferred.fromCoroutine(self._lock(name, lease, wait))

    async def _lock(self, name: bytes, lease: int, wait: float) -> bytes:
        message = {"name": encode_bytes(name), "lease": str(lease)}
        try:
            return await self._gateway.call(
                "/lock/lock", message, lambda answer: decode_bytes(answer["key"]), wait
            )
        except Exception as error:
            # To delete the key is not enough: etcd may create the key later, and keeps it if the
            # lock is free. Nor can the lease be used for another attempt, which would have the same
            # key: etcd deletes the key when it notices, perhaps late, that this call was abandoned.
            try:
                await self._revoke(lease)
            except (EtcdUnavailable, EtcdRefused):
                if isinstance(error, CancelledError):
                    raise error from None  # whoever cancels this must not take it for a failure
                raise
            if isinstance(error, EtcdUnavailable) and error.timed_out:
                raise LockTimeout(f"the lock was not had within {wait} s") from error
            raise

    def watch(
        self,
        ranges: Sequence[tuple[bytes, bytes]],
        start_revision: int,
        on_events: Callable[[list[Event], int], None],
        *,
        silence: float,
        on_progress: Callable[[int], None] = lambda revision: None,
    ) -> Watch:
        """Start to watch the changes of ranges of keys, from a revision on; return the `Watch`.

        `on_events` is called with changes. `on_progress` is called when etcd, without a change,
        reports the revision up to which it has reported all changes. The watch counts as broken
        after `silence` seconds without a message from etcd. See `Watch.__init__`, which has the
        same parameters.
        """
        return Watch(
            self._gateway,
            self._clock,
            ranges,
            start_revision,
            on_events,
            silence=silence,
            on_progress=on_progress,
        )
