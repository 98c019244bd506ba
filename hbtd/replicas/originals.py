"""Interprets the records that original hbtds write to etcd.

The original hbtd and this one can share an etcd (docs/protocol.md, "etcd"). The original writes a
record for each heartbeat, as this hbtd does, but also in its sweeps, and its flags say less: the
flag of a warning stays in the record when the component is heard again, until the next sweep of an
original. So the flag alone does not show whether a write is a heartbeat. The stored time does,
compared with those stored before: a sweep writes a time that it has read, which may have been
replaced meanwhile; any other time is that of a heartbeat. A heartbeat's time may be earlier than
the stored one, as hosts' clocks differ, and step.
"""

from collections.abc import Collection, Sequence
from enum import Enum, auto

from hbtd.store.etcd_format import StoredRecord
from hbtd.tracker.records import Record
from hbtd.tracker.transitions import Judgement, Transition


class Meaning(Enum):
    """The meaning of a record that an original hbtd has written."""

    HEARTBEAT = auto()
    """The component was heard."""
    WARNING = auto()
    """The component was warned about, and has not been heard since."""
    GAP = auto()
    """Nobody was listening for a while: the component is warned, and its silence begins anew."""
    RETURN = auto()
    """A warning was withdrawn: HSM was told of a heartbeat that is known already."""


def meaning(
    stored: StoredRecord, before: Collection[int], warntime: float, *, living: bool
) -> Meaning:
    """Return the meaning of a record, `stored`, that an original hbtd has written.

    `before` has the last two times, in Unix seconds, that the component's record had before; it is
    empty if there was no record. `warntime` is in seconds. `living` says whether the component is
    tracked, and not dead.
    """
    if stored.after_gap:
        return Meaning.GAP
    if stored.record.warned:
        # Without an earlier record, a time long ago is that of a warning that came too late.
        heard = stored.heard not in before if before else stored.record.age < warntime
        return Meaning.HEARTBEAT if heard else Meaning.WARNING
    if stored.heard not in before or not living:
        return Meaning.HEARTBEAT
    return Meaning.RETURN


def as_loaded(stored: StoredRecord, judgement: Judgement | None, warntime: float) -> Record:
    """Return the record to restore, from a `stored` one, when all of etcd is read.

    `judgement` is the component's stored judgement, if any. The flag of a warning is removed if the
    heartbeat is younger than `warntime` seconds: an original has heard the component, and left the
    flag. The flag stays if `judgement` is a warning after this very heartbeat, because `warntime`
    may have been increased since.
    """
    record = stored.record
    if not record.warned or stored.after_gap or record.age >= warntime:
        return record
    if judgement is not None and judgement.transition is Transition.WARNED:
        return record._replace(warned=judgement.timestamp == record.timestamp)
    return record._replace(warned=False)


class StoredTimes:
    """The last two times stored in each record in etcd; the components that originals warned about.

    The times are those of heartbeats, in Unix seconds.
    """

    def __init__(self) -> None:
        # The last time, and the one before if there was another.
        self._heard: dict[str, tuple[int, ...]] = {}
        self.warned: set[str] = set()
        """The components that an original told HSM are warned about, and has not taken back.

        An original stores no judgements, from which a new leader could learn of the warning.
        """

    def load(self, records: Sequence[StoredRecord]) -> None:
        """Replace the contents by those of `records`, which are all records in etcd."""
        self._heard = {each.record.component: (each.heard,) for each in records}
        self.warned = {each.record.component for each in records if each.record.warned}

    def note(self, xname: str, heard: int) -> Sequence[int]:
        """Note that the record of a component was written with the time `heard`, in Unix seconds.

        Return the times that the record had before: at most two, the last one first.
        """
        before = self._heard.get(xname, ())
        if heard not in before[:1]:
            self._heard[xname] = (heard, *before[:1])
        return before

    def remove(self, xname: str) -> None:
        """Note that the record of a component was deleted."""
        self._heard.pop(xname, None)
        self.warned.discard(xname)
