"""A copy, in memory, of the judgements and of the requests to the leader that are in etcd."""

from collections.abc import Callable, Container
from typing import NamedTuple, TypeVar

from twisted.logger import Logger

from hbtd.store.etcd_format import (
    JUDGEMENT,
    REQUEST,
    InvalidValue,
    StoredJudgement,
    StoredRecord,
    read_judgement,
    read_record,
)
from hbtd.store.etcd_log_format import CURSOR, LOG, read_last_number
from hbtd.store.etcd_steps import Step
from hbtd.tracker.transitions import Judgement, Transition

_T = TypeVar("_T")

_MAX_REPORTED = 1000
"""The most keys whose invalid values are logged.

Each of these keys is remembered, so that it is logged only once.
"""


class LeaderRequest(NamedTuple):
    """A request that a follower has stored in etcd for the leader."""

    kind: bytes
    """The kind of request: `STARTED` or `FORGET`; any other value counts as `STARTED`."""

    revision: int
    """The number of the etcd revision in which the request was written."""


class EtcdMirror:
    """A copy, in memory, of the judgements and of the requests to the leader that are in etcd.

    `wrote` updates the copy with what this replica has written to etcd, and `apply` with the
    changes that etcd reports. `read` interprets the values of keys; it counts and logs invalid
    values.
    """

    _log = Logger()

    def __init__(self, wall: Callable[[], float]) -> None:
        """Make an empty mirror.

        `wall` returns the present Unix time in seconds; the ages of records are computed from it.
        """
        self._wall = wall
        self._judgements: dict[str, StoredJudgement] = {}
        self._reserved = 0
        self.last_number = 0
        """The highest number of a judgement or of a log entry that was seen in etcd; 0 if none."""
        self._reported: set[bytes] = set()
        self.cursors: dict[bytes, int] = {}
        """The cursors of the readers of the log of transitions, by the cursors' keys in etcd."""
        self.lost_cursors: dict[bytes, int] = {}
        """The cursors, by key, that etcd has lost and that no replica has written back yet."""
        self.requests: dict[str, LeaderRequest] = {}
        """The requests to the leader, by the xname of the component that a request is about."""
        self.skipped_count = 0
        """The number of invalid values that were read and skipped."""

    def clear(self) -> None:
        """Empty the mirror, before all judgements and requests are read from etcd again."""
        self._judgements.clear()
        self.cursors.clear()
        self.requests.clear()

    def lose(self, keys: Container[bytes]) -> None:
        """Record in `lost_cursors` which cursors are missing, after etcd has lost data.

        `keys` are the keys that etcd still has: a cursor whose key is not among them is lost.
        """
        lost = {key: number for key, number in self.cursors.items() if key not in keys}
        self.lost_cursors.update(lost)

    def moved(self, key: bytes, number: int) -> None:
        """Record that the cursor with the key `key` has the value `number` in etcd.

        The cursor is removed from `lost_cursors`.
        """
        self.cursors[key] = number
        self.lost_cursors.pop(key, None)

    def apply(self, key: bytes, value: bytes | None, revision: int) -> StoredJudgement | None:
        """Update the mirror after the change of a key in etcd.

        `value` is the new value of the key, or `None` if the key was deleted; `revision` is the
        number of the etcd revision of the change. Return the judgement in the value, or `None` if
        the key is not that of a judgement, was deleted, or has an invalid value.

        Of the log of transitions, the mirror keeps only the cursors and the highest number. Keys
        other than those of judgements, requests to the leader, the log and cursors are ignored.
        """
        if key.startswith(JUDGEMENT):
            stored = self.read(read_judgement, key, value) if value is not None else None
            if stored is None:
                xname = key[len(JUDGEMENT) :].decode("utf-8", "replace")
                self._judgements.pop(xname, None)
            else:
                self._keep(stored)
            return stored
        if key.startswith(REQUEST):
            xname = key[len(REQUEST) :].decode("utf-8", "replace")
            if value is None:
                self.requests.pop(xname, None)
            else:
                self.requests[xname] = LeaderRequest(value, revision)
        elif key.startswith((LOG, CURSOR)):
            number = None if value is None else self.read(read_last_number, key, value)
            # The next number must be higher, also once judgements and entries are deleted.
            self._saw(number or 0)
            if key.startswith(CURSOR) and number is None:
                self.cursors.pop(key, None)
            elif key.startswith(CURSOR) and number is not None:
                self.moved(key, number)
        return None

    def wrote(self, step: Step, revision: int) -> None:
        """Update the mirror with a step that this replica has written to etcd in a transaction.

        `revision` is the number of the etcd revision that the transaction has made.
        """
        if step.judgement is not None:
            self._keep(step.judgement)
        if step.dropped is not None:
            self._judgements.pop(step.dropped, None)
        if step.request is not None:
            xname, kind = step.request
            known = self.requests.get(xname)
            # The watch may have reported a later request before etcd answered this one.
            if known is None or known.revision < revision:
                self.requests[xname] = LeaderRequest(kind, revision)

    def removed(self, requests: dict[str, LeaderRequest]) -> None:
        """Remove from the mirror requests to the leader that are no longer in etcd.

        A newer request about the same component stays in the mirror.
        """
        for xname, request in requests.items():
            if self.requests.get(xname) == request:
                del self.requests[xname]

    def read(self, reader: Callable[[bytes, bytes], _T], key: bytes, value: bytes) -> _T | None:
        """Interpret the value of a key in etcd: return the result of `reader(key, value)`.

        If `reader` raises `InvalidValue`, return `None` and count the invalid value. Also log the
        key and the error, unless an invalid value of the same key, or invalid values of 1000 keys,
        were logged before.
        """
        try:
            return reader(key, value)
        except InvalidValue as error:
            self.skipped_count += 1
            if key not in self._reported and len(self._reported) < _MAX_REPORTED:
                self._reported.add(key)
                self._log.warn(
                    "Ignoring the value of etcd's key {key!r}: {error}",
                    key=key[:100].decode("utf-8", "replace"),
                    error=str(error),
                )
            return None

    def read_record(self, key: bytes, value: bytes) -> StoredRecord | None:
        """Return the record that `value`, the value of a record's key in etcd, contains.

        Return `None` if the value is invalid; then count and log it, as `read` does.
        """
        return self.read(lambda key, value: read_record(key, value, self._wall()), key, value)

    def judgement(self, xname: str) -> StoredJudgement | None:
        """Return the stored judgement of a component, or `None` if it has none."""
        return self._judgements.get(xname)

    def judgements(self) -> list[StoredJudgement]:
        """Return all judgements, in the order of their commits."""
        return sorted(self._judgements.values(), key=lambda stored: stored.number)

    def dead(self) -> list[str]:
        """Return the xnames of the components whose stored judgement is `DIED`."""
        judgements: list[Judgement] = [stored.judgement for stored in self._judgements.values()]
        return [each.component for each in judgements if each.transition is Transition.DIED]

    @property
    def next_number(self) -> int:
        """The number for the next judgement: one more than the highest seen in etcd or reserved."""
        return max(self.last_number, self._reserved) + 1

    def reserve(self, number: int) -> None:
        """Reserve a number for a judgement: from now on, `next_number` is higher than `number`."""
        self._reserved = max(self._reserved, number)

    def _saw(self, number: int) -> None:
        self.last_number = max(self.last_number, number)

    def _keep(self, stored: StoredJudgement) -> None:
        self._judgements[stored.judgement.component] = stored
        self._saw(stored.number)
