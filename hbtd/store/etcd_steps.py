"""What is written to etcd, step by step, and how steps become transactions."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from hbtd.etcd.client import MAX_OPERATIONS
from hbtd.etcd.messages import Operation, Put
from hbtd.store.etcd_format import Kept, record_value
from hbtd.tracker.records import Record
from hbtd.tracker.transitions import Judgement

_T = TypeVar("_T")

_MAX_BYTES = 512 * 1024
"""Bytes of keys and values in a transaction; etcd takes 1.5 MiB."""


class Step:
    """Operations on one component that belong together, and what memory has to learn of them."""

    def __init__(
        self, operations: list[Operation], kept: Kept | None = None, gone: str | None = None
    ) -> None:
        self.operations = operations
        self.kept = kept
        """The judgement that is kept with it."""
        self.gone = gone
        """The component that has no judgement after it."""
        self.asked: tuple[str, bytes] | None = None
        """For which component the leader is asked for what."""


def key_of(prefix: bytes, xname: str) -> bytes:
    """Give the key of what is kept of a component under a prefix."""
    return prefix + xname.encode()


def put_of(record: Record, wall: float) -> Put:
    """Make what writes a record; `wall` is the Unix time in seconds."""
    return Put(record.component.encode(), record_value(record, wall))


def size_of(operation: Operation) -> int:
    """Give the bytes of an operation's key and value."""
    return len(operation.key) + (len(operation.value) if isinstance(operation, Put) else 0)


def latest(judgements: Iterable[Judgement]) -> Iterable[tuple[str, Judgement]]:
    """Give each component's last judgement, in the order of these."""
    last: dict[str, Judgement] = {}
    for judgement in judgements:
        last.pop(judgement.component, None)
        last[judgement.component] = judgement
    return last.items()


def portions(items: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    """Divide a list into lists of this size, or less."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def transactions(steps: Iterable[Step]) -> Iterator[list[Step]]:
    """Divide steps into what fits into a transaction, with a mark."""
    some: list[Step] = []
    operations, size = 1, 0
    for step in steps:
        more = sum(map(size_of, step.operations))
        if some and (
            operations + len(step.operations) > MAX_OPERATIONS or size + more > _MAX_BYTES
        ):
            yield some
            some, operations, size = [], 1, 0
        some.append(step)
        operations += len(step.operations)
        size += more
    if some:
        yield some
