"""The steps by which the leader, or a follower, commits judgements to etcd."""

from collections.abc import Sequence

from hbtd.etcd.messages import Delete, Operation, Put
from hbtd.store.etcd_format import JUDGEMENT, REQUEST, STARTED, StoredJudgement, judgement_value
from hbtd.store.etcd_log_format import entry_value
from hbtd.store.etcd_mirror import EtcdMirror
from hbtd.store.etcd_steps import Step, key_of, latest, put_of
from hbtd.store.interface import LogEntry
from hbtd.tracker.records import Record
from hbtd.tracker.transitions import Judgement, Transition


class Numbering:
    """Assigns numbers to the judgements that the leader commits.

    Later judgements get higher numbers, and no two judgements get the same number. When a commit
    seems to fail, etcd may have carried it out nevertheless. So if the commit is retried while this
    replica still holds the same lock, the judgements get the same numbers as before, and each of
    them is in the log only once.
    """

    def __init__(self, mirror: EtcdMirror) -> None:
        self._mirror = mirror
        self._unsure: list[tuple[Judgement, int]] = []
        self._lock_key: bytes | None = None

    def assign(self, judgements: Sequence[Judgement], lock_key: bytes | None) -> list[int]:
        """Return the numbers of the judgements of a commit, in the order of `judgements`.

        `lock_key` is the key in etcd that exists while this replica holds the leader's lock; `None`
        if it does not lead. If the last commit failed, and `lock_key` is still the same, the
        judgements of that commit get the same numbers again.
        """
        # By identity: judgements that say the same are equal.
        known = {id(judgement): number for judgement, number in self._unsure}
        if self._lock_key != lock_key:
            known.clear()
        number = 0
        numbers: list[int] = []
        for judgement in judgements:
            before = known.get(id(judgement), 0)
            number = before if before > number else self._mirror.next_number
            self._mirror.reserve(number)
            numbers.append(number)
        self._unsure = list(zip(judgements, numbers, strict=True))
        self._lock_key = lock_key
        return numbers

    def committed(self) -> None:
        """Forget the numbers of the last commit, because the commit has succeeded."""
        self._unsure = []


def steps_of_leader(
    judgements: Sequence[Judgement],
    numbers: Sequence[int],
    records: Sequence[Record],
    judge: str,
    wall: float,
) -> list[Step]:
    """Return the steps by which a leader commits judgements and records.

    `numbers` are the numbers of the judgements. There is a step for each judgement, in the order of
    `judgements`; the step also adds the judgement to the log of transitions. The step for the last
    judgement on a component writes the component's record in `records` or, if the component has
    died and has no record there, deletes its stored record. The step for an earlier judgement
    writes a record that agrees with that judgement, if one is needed. Records of components without
    a judgement have steps of their own. `judge` is the host and port of this replica, `wall` the
    present Unix time in seconds.
    """
    given = {record.component: record for record in records}
    last = {
        judgement.component: number for judgement, number in zip(judgements, numbers, strict=True)
    }
    ends = {j.component: j.transition for j in judgements}
    steps: list[Step] = []
    for judgement, number in zip(judgements, numbers, strict=True):
        xname = judgement.component
        stored = StoredJudgement(judgement, number, False)
        operations: list[Operation] = [Put(key_of(JUDGEMENT, xname), judgement_value(stored))]
        record = given.get(xname)
        if number != last[xname]:
            record = _record_meanwhile(judgement, record, ends[xname])
        if record is not None:
            operations.append(put_of(record, wall))
        elif judgement.transition is Transition.DIED:
            operations.append(Delete(xname.encode()))
        steps.append(Step(operations, stored, entry_value(LogEntry(number, judgement, judge))))
    return steps + [
        Step([put_of(each, wall)]) for xname, each in given.items() if xname not in last
    ]


def _record_meanwhile(
    judgement: Judgement, record: Record | None, end: Transition
) -> Record | None:
    """Return the record to write with a judgement that is not its component's last in the commit.

    The result agrees with `judgement`, because the process may be killed before the transaction of
    the component's last judgement; it is `None` if no record is to be written. `end` is the
    transition of that last judgement. `record` is the record to write with it, `None` if there is
    none, because the component has died or was forgotten.
    """
    if judgement.transition is Transition.DIED:
        return None
    warned = judgement.transition is Transition.WARNED
    if record is not None:
        return record._replace(warned=warned)
    if end is Transition.DIED:
        return Record(judgement.component, 0.0, judgement.timestamp, "", warned)
    return None


def steps_of_follower(
    judgements: Sequence[Judgement], records: Sequence[Record], wall: float
) -> list[Step]:
    """Return the steps by which a follower writes records.

    For a judgement that a component started, the steps also write a request to the leader to make
    this judgement. No judgements are written, nor the records of components whose last judgement
    is an alarm. `wall` is the present Unix time in seconds.
    """
    remaining = {record.component: record for record in records}
    for xname, judgement in latest(judgements):
        if judgement.transition.alarming:
            # Judged while this replica led: the record would pass the alarm on to others.
            remaining.pop(xname, None)
    steps = [
        request(xname, STARTED, put_of(remaining.pop(xname), wall))
        for xname, judgement in latest(judgements)
        if judgement.transition is Transition.STARTED and xname in remaining
    ]
    return steps + [Step([put_of(record, wall)]) for record in remaining.values()]


def request(xname: str, kind: bytes, operation: Operation) -> Step:
    """Return a step that carries out `operation`, and writes a request to the leader.

    `kind` is the content of the request, `STARTED` or `FORGET`. The request and `operation` are
    about the component `xname`.
    """
    return Step([operation, Put(key_of(REQUEST, xname), kind)], request=(xname, kind))
