"""The transactions by which a replica writes to etcd."""

from collections.abc import Callable, Iterable, Sequence

from hbtd.etcd.client import EtcdClient
from hbtd.etcd.messages import Compare, Delete, Operation, Put, TxnResult
from hbtd.store.etcd_format import REQUEST
from hbtd.store.etcd_mirror import EtcdMirror, LeaderRequest
from hbtd.store.etcd_steps import Step, key_of, operations_of, size_of, transactions
from hbtd.store.interface import NotLeading


class EtcdWriter:
    """Writes to etcd in as few transactions as etcd's limits allow, and updates the mirror.

    Writes are given as steps: groups of operations, none of which is divided between transactions.

    Every transaction begins with a write of this replica's presence key. By this key, replicas that
    watch etcd see which replica has made the transaction. *Fenced* transactions depend on the key
    in etcd that exists while this replica holds the leader's lock: they have no effect unless this
    replica holds the lock when etcd carries them out.
    """

    def __init__(self, client: EtcdClient, mirror: EtcdMirror) -> None:
        self._client = client
        self._mirror = mirror
        self._lock_key: bytes | None = None
        self._presence: Callable[[], Put] | None = None
        self.transactions = 0
        """The number of transactions in which steps were written."""
        self.bytes_written = 0
        """The number of bytes of keys and values in the transactions that `transactions` counts."""

    @property
    def lock_key(self) -> bytes | None:
        """The key in etcd that exists while this replica holds the leader's lock.

        The value is `None` if this replica does not lead.
        """
        return self._lock_key

    @property
    def leading(self) -> bool:
        """Whether this replica leads, as far as it knows.

        It may have lost the lock without having noticed yet; a fenced transaction then fails.
        """
        return self._lock_key is not None

    def lock_gained(self, lock_key: bytes) -> None:
        """Allow fenced transactions, because this replica holds the leader's lock now.

        `lock_key` is the key in etcd that exists while this replica holds the lock.
        """
        self._lock_key = lock_key

    def lock_lost(self) -> None:
        """Refuse fenced transactions from now on, because this replica no longer leads."""
        self._lock_key = None

    @property
    def presence(self) -> Put | None:
        """The operation with which each transaction begins: it writes the presence key.

        The value is `None` if `set_presence` has not been called yet.
        """
        return None if self._presence is None else self._presence()

    def set_presence(self, presence: Callable[[], Put]) -> None:
        """Begin every transaction with an operation that writes this replica's presence key.

        `presence` is called before each transaction, and returns that operation.
        """
        self._presence = presence

    async def write(self, steps: Sequence[Step], *, fenced: bool = False) -> int:
        """Write steps; return the revision of the last transaction, or 0 if there are no steps.

        The revision is a number that etcd gives to each transaction. No step is divided between
        transactions. If `fenced` is true, the transactions take effect only while this replica
        holds the leader's lock; raise `NotLeading` if the lock is not held. Raise the exceptions of
        `EtcdClient.txn` if etcd fails. Even when an exception is raised, some of the steps may have
        been written.
        """
        revision = 0
        compares: list[Compare] = []
        if fenced:
            if self._lock_key is None:
                raise NotLeading("another replica leads")
            compares.append(Compare.exists(self._lock_key))
        for batch in transactions(steps):
            operations = self._with_presence(operations_of(batch))
            result = await self._client.txn(compares, operations)
            self.transactions += 1
            self.bytes_written += sum(map(size_of, operations))
            if not result.succeeded:
                raise NotLeading("another replica leads")
            for step in batch:
                self._mirror.wrote(step, result.revision)
            revision = result.revision
        return revision

    async def write_if(self, compares: Sequence[Compare], operations: Sequence[Operation]) -> bool:
        """Carry out operations in one transaction if all conditions in `compares` are true.

        Return whether the operations were carried out. Raise the exceptions of `EtcdClient.txn` if
        etcd fails.
        """
        return (await self.attempt(compares, operations)).succeeded

    async def attempt(
        self, compares: Sequence[Compare], operations: Sequence[Operation]
    ) -> TxnResult:
        """Do what `write_if` does; return the revision, too."""
        return await self._client.txn(compares, self._with_presence(operations))

    async def remove(self, requests: dict[str, LeaderRequest]) -> bool:
        """Delete requests to the leader from etcd, and from the mirror.

        If any of the requests was replaced or deleted in etcd meanwhile, delete no request, and
        return `False`; otherwise return `True`. In the former case, the mirror keeps the requests,
        too, unless `requests` has only one: then it is known that this request is no longer in
        etcd. Raise the exceptions of `EtcdClient.txn` if etcd fails.
        """
        keys = [key_of(REQUEST, xname) for xname in requests]
        revisions = [request.revision for request in requests.values()]
        compares = list(map(Compare.mod_revision, keys, revisions))
        result = await self._client.txn(compares, self._with_presence(map(Delete, keys)))
        if result.succeeded or len(requests) == 1:
            self._mirror.removed(requests)
        return result.succeeded

    def _with_presence(self, operations: Iterable[Operation]) -> list[Operation]:
        presence = self.presence
        return [*operations] if presence is None else [presence, *operations]
