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
    """Operations that must be in one transaction, and the changes of the mirror that follow."""

    operations: list[Operation]
    judgement: StoredJudgement | None = None
    """The judgement that the operations write."""
    dropped: str | None = None
    """The component whose judgement the operations delete."""
    request: tuple[str, bytes] | None = None
    """The component and the kind of the request to the leader that the operations write."""


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
    """Return pairs of an xname and its last judgement, in the order of those judgements."""
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
    """Yield batches of steps, each of which fits into a transaction with one more operation."""
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
