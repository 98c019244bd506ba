"""A copy in memory of what etcd holds about judgements."""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

from twisted.logger import Logger

from hbtd.store.etcd_format import (
    JUDGEMENT,
    REQUEST,
    InvalidValue,
    StoredJudgement,
    read_judgement,
    read_record,
)
from hbtd.store.etcd_steps import Step
from hbtd.tracker.records import Record
from hbtd.tracker.transitions import Judgement, Transition

_T = TypeVar("_T")

_MAX_REPORTED = 1000
"""Keys with invalid values that are remembered, so that each is logged once."""


class LeaderRequest(NamedTuple):
    """A request to the leader that is in etcd."""

    kind: bytes
    """`STARTED` or `FORGET`; whatever else a replica has written counts as `STARTED`."""

    revision: int
    """The revision at which it was written."""


class EtcdMirror:
    """The judgements and the requests to the leader that are in etcd.

    It is told of changes in two ways: `wrote` by the writer of this replica, `apply` by whoever
    watches etcd. It also reads values, and counts and logs those that are invalid.
    """

    _log = Logger()

    def __init__(self, wall: Callable[[], float]) -> None:
        """`wall` returns the Unix time in seconds, by which the ages of records are reckoned."""
        self._wall = wall
        self._judgements: dict[str, StoredJudgement] = {}
        self._last_number = 0
        self._reported: set[bytes] = set()
        self.requests: dict[str, LeaderRequest] = {}
        """The requests to the leader, by component."""
        self.skipped_count = 0
        """The number of invalid values that were read and skipped."""

    def clear(self) -> None:
        """Forget all judgements and requests: etcd is about to be read anew."""
        self._judgements.clear()
        self.requests.clear()

    def apply(self, key: bytes, value: bytes | None, revision: int) -> StoredJudgement | None:
        """Apply a change of a key; `value` is `None` when it was deleted.

        Return the judgement if the key holds one, `None` otherwise. Only the keys of judgements
        and requests have an effect.
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
        return None

    def wrote(self, step: Step, revision: int) -> None:
        """Apply a step that this replica has written, in a transaction of this revision."""
        if step.judgement is not None:
            self._keep(step.judgement)
        if step.dropped is not None:
            self._judgements.pop(step.dropped, None)
        if step.request is not None:
            xname, kind = step.request
            known = self.requests.get(xname)
            # The watch may have brought a later request before etcd answered.
            if known is None or known.revision < revision:
                self.requests[xname] = LeaderRequest(kind, revision)

    def removed(self, requests: dict[str, LeaderRequest]) -> None:
        """Note that these requests are no longer in etcd; later ones of their components are."""
        for xname, request in requests.items():
            if self.requests.get(xname) == request:
                del self.requests[xname]

    def read(self, reader: Callable[[bytes, bytes], _T], key: bytes, value: bytes) -> _T | None:
        """Return what `reader` makes of a key and its value, `None` if the value is invalid.

        Invalid values are counted, and logged once for each key.
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

    def read_record(self, key: bytes, value: bytes) -> Record | None:
        """Return the record in a value, `None` if it is invalid; see `read`."""
        return self.read(lambda key, value: read_record(key, value, self._wall()), key, value)

    def judgement(self, xname: str) -> StoredJudgement | None:
        """Return the latest judgement of a component, `None` if there is none."""
        return self._judgements.get(xname)

    def judgements(self) -> list[StoredJudgement]:
        """Return all judgements in the order of their commit."""
        return sorted(self._judgements.values(), key=lambda stored: stored.number)

    def dead(self) -> list[str]:
        """Return the components whose latest judgement is that they died."""
        judgements: list[Judgement] = [stored.judgement for stored in self._judgements.values()]
        return [each.component for each in judgements if each.transition is Transition.DIED]

    @property
    def next_number(self) -> int:
        """The number that the next judgement gets: higher than that of any before it."""
        return self._last_number + 1

    def _keep(self, stored: StoredJudgement) -> None:
        self._judgements[stored.judgement.component] = stored
        self._last_number = max(self._last_number, stored.number)
