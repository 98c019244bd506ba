"""Steps, the smallest units of writing to etcd, and how they are batched into transactions."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from hbtd.etcd.client import MAX_OPERATIONS
from hbtd.etcd.messages import Operation, Put
from hbtd.store.etcd_format import StoredJudgement, record_value
from hbtd.store.etcd_log_format import log_key, log_value
from hbtd.tracker.records import Record
from hbtd.tracker.transitions import Judgement

_T = TypeVar("_T")

_MAX_BYTES = 512 * 1024
"""The most bytes of keys and values in a transaction; etcd accepts 1.5 MiB by default."""

_MAX_LOGGED = 16 * 1024
"""The most bytes of entries in a key of the log.

A replica of an earlier release reads all keys, 2000 in an answer of 64 MiB at most.
"""


@dataclass
class Step:
    """Operations on etcd that must be in one transaction, and the changes that they make.

    The fields other than `operations` describe the changes for the `EtcdMirror` and for the log.
    """

    operations: list[Operation]
    judgement: StoredJudgement | None = None
    """The judgement that the operations write, if any."""
    logged: bytes = b""
    """The entry about `judgement` to be added to the log, as JSON (see `entry_value`), if any."""
    dropped: str | None = None
    """The xname of the component whose judgement the operations delete, if any."""
    request: tuple[str, bytes] | None = None
    """The xname and the kind of the request to the leader that the operations write, if any."""


def key_of(prefix: bytes, xname: str) -> bytes:
    """Return the key in etcd that consists of a prefix and the xname of a component."""
    return prefix + xname.encode()


def put_of(record: Record, wall: float) -> Put:
    """Return the operation that writes a record to etcd.

    `wall` is the present Unix time in seconds; the time of the heartbeat is computed from it and
    from the record's age.
    """
    return Put(record.component.encode(), record_value(record, wall))


def size_of(operation: Operation) -> int:
    """Return the number of bytes of an operation's key and value."""
    return len(operation.key) + (len(operation.value) if isinstance(operation, Put) else 0)


def latest(judgements: Iterable[Judgement]) -> Iterable[tuple[str, Judgement]]:
    """Return the last of the given judgements about each component.

    The result has pairs of the xname and the judgement, in the order of `judgements`.
    """
    last: dict[str, Judgement] = {}
    for judgement in judgements:
        last.pop(judgement.component, None)
        last[judgement.component] = judgement
    return last.items()


def batches(items: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    """Yield the items of a sequence in batches of `size`; the last batch may be smaller."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def transactions(steps: Iterable[Step]) -> Iterator[list[Step]]:
    """Yield the steps in batches, each of which etcd accepts as one transaction.

    In each transaction there is room left for two more operations: one that writes the presence
    key, and one that writes entries of the log.
    """
    batch: list[Step] = []
    operations, size, logged = 2, 0, 0
    for step in steps:
        more = sum(map(size_of, step.operations)) + len(step.logged)
        if batch and (
            operations + len(step.operations) > MAX_OPERATIONS
            or size + more > _MAX_BYTES
            or logged + len(step.logged) > _MAX_LOGGED
        ):
            yield batch
            batch, operations, size, logged = [], 2, 0, 0
        batch.append(step)
        operations += len(step.operations)
        size += more
        logged += len(step.logged)
    if batch:
        yield batch


def operations_of(batch: Iterable[Step]) -> list[Operation]:
    """Return the operations of a transaction that carries out the steps in `batch`.

    Of several operations on one key, only the last is returned, because etcd refuses transactions
    with more than one. If the steps have entries for the log, a further operation writes these
    entries. The operation that writes the presence key is not included.
    """
    operations: dict[bytes, Operation] = {}
    logged: list[bytes] = []
    number = 0
    for step in batch:
        operations.update((each.key, each) for each in step.operations)
        if step.logged and step.judgement is not None:
            logged.append(step.logged)
            number = step.judgement.number
    if logged:
        key = log_key(number)
        operations[key] = Put(key, log_value(logged))
    return list(operations.values())
