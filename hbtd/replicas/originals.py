"""Interprets the records that original hbtds write to etcd.

The original hbtd and this one can share an etcd (docs/protocol.md, "etcd"). The original writes a
record for each heartbeat, as this hbtd does, but also in its sweeps. When a component that was
warned about is heard from again, the original leaves the flag of the warning in the record until
its next sweep. So the flag does not show whether a heartbeat or a sweep has written the record.

The times in the record do show it. A sweep writes a time that it has read from the record, even if
a heartbeat has replaced that time meanwhile. So a time that the record has not had before is that
of a new heartbeat. This time may be earlier than the times before, because the clocks of hosts
differ, and may be set back.
"""

from collections.abc import Collection, Sequence
from enum import Enum, auto

from hbtd.store.etcd_format import StoredRecord
from hbtd.tracker.records import Record
from hbtd.tracker.transitions import Judgement, Transition


class Meaning(Enum):
    """The meaning of a record that an original hbtd has written."""

    HEARTBEAT = auto()
    """The component has sent a heartbeat."""
    WARNING = auto()
    """The component was warned about, and has not been heard from since."""
    GAP = auto()
    """A warning after a time in which no hbtd was listening.

    The component counts as warned about, and its silence is measured anew.
    """
    RETURN = auto()
    """The original told HSM that the component is back; the heartbeat itself is known already."""


def meaning(
    stored: StoredRecord, before: Collection[int], warntime: float, *, living: bool
) -> Meaning:
    """Return the meaning of a record, `stored`, that an original hbtd has written.

    `before` has the times that the component's record had before this one, in Unix seconds: the
    last two at most, none if there was no record. `warntime` is in seconds. `living` says whether
    the component is tracked, and not dead.
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
    """Return the record with which to restore a component, from its record `stored` in etcd.

    `judgement` is the component's stored judgement, if any. The flag of a warning is removed if the
    heartbeat in the record is less than `warntime` seconds old: an original has heard from the
    component again, and left the flag in the record. But the flag is kept if `judgement` is a
    warning that was made after this very heartbeat, because `warntime` may have been increased
    later.

    If an original has made the warning, the age is reduced to `warntime`, the silence that the
    warning proves: since then the original may have heard the component, cut off from etcd.
    """
    record = stored.record
    if not record.warned or stored.after_gap:
        return record
    judged = (
        judgement is not None
        and judgement.transition is Transition.WARNED
        and judgement.timestamp == record.timestamp
    )
    if record.age < warntime:
        return record._replace(warned=judged)
    return record if judged else record._replace(age=warntime)


class StoredTimes:
    """The last two times of each record in etcd, and the components that originals warned about.

    The time of a record is that of a heartbeat, in Unix seconds. Whenever a record is written, its
    last two times are kept here.
    """

    def __init__(self) -> None:
        # The last time, and the one before if there was another.
        self._heard: dict[str, tuple[int, ...]] = {}
        self.warned: set[str] = set()
        """The components that an original hbtd has warned about, if the warning still stands.

        HSM may have been told of the warning. Originals store no judgements, from which a new
        leader could learn of the warning.
        """

    def load(self, records: Sequence[StoredRecord]) -> None:
        """Replace the contents by the times and warnings in `records`, all the records in etcd."""
        self._heard = {each.record.component: (each.heard,) for each in records}
        self.warned = {each.record.component for each in records if each.record.warned}

    def note(self, xname: str, heard: int) -> Sequence[int]:
        """Keep the time `heard`, in Unix seconds, with which a component's record was written.

        Return the times that the record had before: at most two, the last one first.
        """
        before = self._heard.get(xname, ())
        if heard not in before[:1]:
            self._heard[xname] = (heard, *before[:1])
        return before

    def remove(self, xname: str) -> None:
        """Drop the times and the warning of a component whose record was deleted."""
        self._heard.pop(xname, None)
        self.warned.discard(xname)
