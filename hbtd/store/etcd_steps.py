"""Steps, the smallest units of writing to etcd, and how they are batched into transactions."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from hbtd.etcd.client import MAX_OPERATIONS
from hbtd.etcd.messages import Operation, Put
from hbtd.store.etcd_format import StoredJudgement, record_value
from hbtd.tracker.records import Record
from hbtd.tracker.transitions import Judgement

_T = TypeVar("_T")

_MAX_BYTES = 512 * 1024
"""The most bytes of keys and values in a transaction; etcd accepts 1.5 MiB by default."""


@dataclass
class Step:
    """Operations that must be in one transaction, and what they change in the mirror."""

    operations: list[Operation]
    judgement: StoredJudgement | None = None
    """The judgement that the operations write, if any."""
    dropped: str | None = None
    """The xname of the component whose judgement the operations delete, if any."""
    request: tuple[str, bytes] | None = None
    """The xname and the kind of the request to the leader that the operations write, if any."""


def key_of(prefix: bytes, xname: str) -> bytes:
    """Return the key with this prefix for a component, such as the key of its judgement."""
    return prefix + xname.encode()


def put_of(record: Record, wall: float) -> Put:
    """Return the operation that writes a record; `wall` is the present Unix time in seconds."""
    return Put(record.component.encode(), record_value(record, wall))


def size_of(operation: Operation) -> int:
    """Return the number of bytes of an operation's key and value."""
    return len(operation.key) + (len(operation.value) if isinstance(operation, Put) else 0)


def latest(judgements: Iterable[Judgement]) -> Iterable[tuple[str, Judgement]]:
    """Return the last judgement of each component, as pairs of the xname and the judgement.

    The pairs are in the order in which their judgements are given.
    """
    last: dict[str, Judgement] = {}
    for judgement in judgements:
        last.pop(judgement.component, None)
        last[judgement.component] = judgement
    return last.items()


def batches(items: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    """Yield batches of `size` items of a sequence; the last batch may have fewer."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def transactions(steps: Iterable[Step]) -> Iterator[list[Step]]:
    """Yield the steps in batches, each small enough for one transaction.

    Each batch leaves room for one more operation, the write of the presence key.
    """
    batch: list[Step] = []
    operations, size = 1, 0
    for step in steps:
        more = sum(map(size_of, step.operations))
        if batch and (
            operations + len(step.operations) > MAX_OPERATIONS or size + more > _MAX_BYTES
        ):
            yield batch
            batch, operations, size = [], 1, 0
        batch.append(step)
        operations += len(step.operations)
        size += more
    if batch:
        yield batch
