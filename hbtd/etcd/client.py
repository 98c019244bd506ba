"""The client of etcd."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from treq.client import HTTPClient
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from hbtd.etcd.errors import NOT_FOUND, EtcdRefused, EtcdUnavailable, LockNotHad
from hbtd.etcd.gateway import Gateway
from hbtd.etcd.messages import (
    Compare,
    Event,
    KeyValue,
    Operation,
    Page,
    TxnResult,
    decode_bytes,
    encode_bytes,
    put_message,
    range_message,
    read_key_values,
    read_txn,
    revision_of,
)
from hbtd.etcd.watch import Watch

MAX_OPERATIONS = 128
"""Operations, and likewise compares, that etcd takes in a transaction unless told otherwise."""

PAGE = 2000
"""Keys that are read at a time, unless the caller knows better."""


class EtcdClient:
    """etcd in Python's words: keys and values are bytes, times are seconds.

    `endpoints` are base URLs such as `https://etcd-0:2379`, without `/v3`, all of one cluster;
    whom https trusts is up to `http`. A call takes no more than `timeout` seconds in all, body
    included, as `clock` measures them. How calls move on from endpoint to endpoint is described
    at `Gateway`.

    Every call fails with `EtcdUnavailable` when etcd can't be had, and then it may have been
    carried out all the same: ask again only for what may be done twice. A transaction that
    compares what it changes may, asked again, find its own doing. Every call fails with
    `EtcdRefused` when etcd does not want it, and with `CancelledError` when it is cancelled.
    """

    def __init__(
        self,
        http: HTTPClient,
        clock: IReactorTime,
        endpoints: Sequence[str],
        timeout: float,
        user_agent: str,
    ) -> None:
        self._gateway = Gateway(http, clock, endpoints, timeout, user_agent)
        self._clock = clock

    def put(self, key: bytes, value: bytes, lease: int = 0) -> Deferred[int]:
        """Set a key, on a lease if that is not 0; gives the revision that this made.

        Fails with `EtcdRefused` of code `NOT_FOUND` when there is no such lease.
        """
        return self._gateway.call("/kv/put", put_message(key, value, lease), revision_of)

    def get(self, key: bytes) -> Deferred[KeyValue | None]:
        """Read a key; gives `None` if it does not exist."""

        def read(said: Any) -> KeyValue | None:
            revision_of(said)
            found = read_key_values(said)
            return found[0] if found else None

        return self._gateway.call("/kv/range", range_message(key, b""), read)

    def range(
        self, start: bytes, end: bytes, *, limit: int = PAGE, revision: int = 0
    ) -> Deferred[Page]:
        """Read at most `limit` keys from `start` up to, but without, `end`, in their order.

        As they were at a revision; 0: as they are. Fails with `Compacted` if that is too old.
        """

        def read(said: Any) -> Page:
            # The header has the present revision, whichever was asked for.
            present = revision_of(said)
            return Page(read_key_values(said), revision or present, bool(said.get("more", False)))

        message = range_message(start, end, limit, revision)
        return self._gateway.call("/kv/range", message, read)

    async def pages(
        self, start: bytes, end: bytes, *, size: int = PAGE, revision: int = 0
    ) -> AsyncIterator[Page]:
        """Read all keys from `start` up to, but without, `end`, at one revision.

        That is the one given or, for 0, the present one; each page has it. A range without keys
        has one empty page. Raises what `range` fails with; `Compacted` too if etcd is compacted
        meanwhile.
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
        """Do all of `operations` if all compares hold, or else nothing.

        They take effect together, in one revision. No key may be changed twice; etcd refuses
        that. Raises `ValueError` when there are more than `MAX_OPERATIONS` of either.
        """
        if max(len(compares), len(operations)) > MAX_OPERATIONS:
            raise ValueError(f"more than {MAX_OPERATIONS} operations in a transaction")
        message = {
            "compare": [each.message for each in compares],
            "success": [each.message for each in operations],
        }
        return self._gateway.call("/kv/txn", message, read_txn)

    def grant(self, ttl: int) -> Deferred[int]:
        """Make a lease of so many seconds, which etcd may lengthen; gives its number."""
        return self._gateway.call("/lease/grant", {"TTL": str(ttl)}, lambda said: int(said["ID"]))

    def keep_alive(self, lease: int) -> Deferred[int]:
        """Begin a lease's time anew; gives its seconds, 0 if it has ended."""
        return self._gateway.call(
            "/lease/keepalive",
            {"ID": str(lease)},
            lambda said: int(said["result"].get("TTL", 0)),
        )

    async def _revoke(self, lease: int) -> None:
        try:
            await self._gateway.call("/lease/revoke", {"ID": str(lease)}, revision_of)
        except EtcdRefused as error:
            if error.code != NOT_FOUND:
                raise

    def revoke(self, lease: int) -> Deferred[None]:
        """End a lease, and delete the keys that are on it. One that has ended already is fine."""
        return Deferred.fromCoroutine(self._revoke(lease))

    def lock(self, name: bytes, lease: int, wait: float) -> Deferred[bytes]:
        """Get hold of a lock, waiting for it if need be; gives the key that stands for holding it.

        It goes with the lease: the caller keeps that alive from before this call on, and revokes it
        to let go of the lock. `Compare.exists` of the key makes a transaction depend on holding it.

        A lease serves one call of this only. Unless the lock is had, the lease is revoked, which
        leaves nothing behind, whatever etcd made of the call; then this fails: with `LockNotHad`
        after `wait` seconds; with `EtcdRefused` when the lease ends meanwhile, if only once the
        lock is free; with `EtcdUnavailable`; or, cancelled, with `CancelledError`. When etcd
        can't be told to revoke it either, the lease has to run out.

        `wait` also bounds for how long a connection that broke unnoticed can keep others from a
        lock that is ours without our knowing.
        """
        return Deferred.fromCoroutine(self._lock(name, lease, wait))

    async def _lock(self, name: bytes, lease: int, wait: float) -> bytes:
        message = {"name": encode_bytes(name), "lease": str(lease)}
        try:
            return await self._gateway.call(
                "/lock/lock", message, lambda said: decode_bytes(said["key"]), wait
            )
        except Exception as error:
            # Deleting the key would not do: etcd may yet make it, and keeps it if the lock is free.
            # Nor could the lease serve another attempt, whose key would be the same: etcd deletes
            # it when it notices, maybe late, that nobody waits for its answer any more.
            await self._revoke(lease)
            if isinstance(error, EtcdUnavailable) and error.timed_out:
                raise LockNotHad(f"the lock was not had within {wait} s") from error
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
        """Follow the changes of ranges of keys, from a revision on; see `Watch`."""
        return Watch(
            self._gateway,
            self._clock,
            ranges,
            start_revision,
            on_events,
            silence=silence,
            on_progress=on_progress,
        )
