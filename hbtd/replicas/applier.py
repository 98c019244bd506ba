"""Applies to this replica the changes that other replicas write to etcd."""

from collections.abc import Callable, Iterable, Sequence
from sys import intern
from typing import NamedTuple

from twisted.logger import Logger

from hbtd.config.live_params import LiveParams
from hbtd.etcd.messages import Event, KeyValue
from hbtd.monitor import Monitor
from hbtd.replicas.block_reader import BlockReader
from hbtd.replicas.originals import Meaning, StoredTimes, as_loaded, meaning
from hbtd.replicas.remote_changes import RemoteChanges
from hbtd.replicas.shared_params import SharedParams
from hbtd.replicas.sign_of_life import SignOfLife, Waiting, read_sign_of_life
from hbtd.store.etcd import EtcdStore
from hbtd.store.etcd_blocks import BLOCK
from hbtd.store.etcd_format import (
    FORGET,
    JUDGEMENT,
    LIFE,
    LOCK,
    PARAMS,
    PRESENCE,
    REQUEST,
    STARTED,
    StoredJudgement,
    StoredRecord,
    heard_in,
    is_record,
)
from hbtd.store.etcd_identities import IDENTITY, read_identities
from hbtd.store.etcd_log_format import LOG
from hbtd.store.etcd_settings import SETTING, read_setting, settings_in
from hbtd.store.etcd_steps import key_of
from hbtd.tracker.records import Record
from hbtd.tracker.transitions import Phase, Transition


class Moment(NamedTuple):
    """A point in time, as two clocks show it."""

    elapsed: float
    """Seconds of a clock that also advances while the process does not run."""
    observed: float
    """Seconds of the observed clock."""


class Applier:
    """Applies what is in etcd to this replica: its monitor, its parameters and its mirror of etcd.

    Changes that this replica has written itself are skipped, because they are applied already. Such
    changes are recognized by the first change of their transaction: each transaction of a replica
    begins with a write of that replica's presence key.
    """

    _log = Logger()

    def __init__(
        self,
        number: int,
        store: EtcdStore,
        changes: RemoteChanges,
        monitor: Monitor,
        shared_params: SharedParams,
        params: LiveParams,
        moment: Callable[[], Moment],
        before_load: Callable[[], None],
    ) -> None:
        """Make the applier of this replica, whose number is `number`.

        `moment` returns the current time by two clocks. `before_load` is called each time before
        all of etcd is read.
        """
        self.number = number
        """The number of this replica."""
        self._store = store
        self._changes = changes
        self._monitor = monitor
        self._shared_params = shared_params
        self._params = params
        self.moment = moment
        """A function that returns the current time by two clocks."""
        self.before_load = before_load
        """A function that is called each time before all of etcd is read."""
        self._blocks = BlockReader(store, changes)
        # The revision of the last transaction of any replica, and the number of that replica.
        self._writer = (0, 0)
        self.present: dict[int, Moment] = {}
        """The time at which each living replica was last heard from, by replica number.

        This replica is included; it is heard from when its writes come back from etcd.
        """
        self._signs_of_life: dict[int, SignOfLife] = {}
        self.alive: set[int] = set()
        """The numbers of the replicas that have a life key, including original hbtds."""
        self.locks: set[bytes] = set()
        """The keys in etcd of the replicas that hold the leader's lock, or wait for this lock."""
        self._times = StoredTimes()

    @property
    def all_read_blocks(self) -> bool:
        """Whether every process that shares the etcd reads blocks, as its sign of life says.

        The result is false while an original hbtd runs, or a replica that has yet to read all of
        etcd: such a process has a life key in etcd, but no sign of life.
        """
        signs = self._signs_of_life
        return self.alive <= signs.keys() and all(sign.reads_blocks for sign in signs.values())

    @property
    def waiting_elsewhere(self) -> dict[int, Waiting]:
        """The components whose heartbeats wait at other replicas, by the number of the replica.

        Replicas at which no heartbeats wait are left out.
        """
        signs = self._signs_of_life.items()
        return {n: sign.waiting for n, sign in signs if sign.waiting and n != self.number}

    @property
    def leader_elsewhere(self) -> str | None:
        """The name of the other replica whose sign of life says that it leads; `None` if none does.

        A leader that was killed is named until its lease ends, or until another replica's sign of
        life says that it leads.
        """
        leaders = [n for n, sign in self._signs_of_life.items() if sign.leads and n != self.number]
        if not leaders:
            return None
        latest = max(leaders, key=lambda number: self.present[number].elapsed)
        return self._signs_of_life[latest].name.decode("utf-8", "replace")

    @property
    def warned(self) -> set[str]:
        """The components of which an original hbtd may have told HSM that they are warned about.

        A component is removed once an original has told HSM that the component returned, or a
        replica has stored a judgement about the component.
        """
        return self._times.warned

    def load(
        self, records: Sequence[StoredRecord], others: Sequence[KeyValue], *, first: bool
    ) -> None:
        """Replace the data of this replica with the data in etcd, after all of etcd was read.

        `records` are the records in etcd, and `others` are all other keys. `first` says whether
        etcd was read for the first time since the start. If so, this replica publishes its own
        parameters if no other replica lives or etcd has none; otherwise it adopts the parameters in
        etcd. On such a first load, if no other replica lives and `clear_on_gap` is set, this
        replica also deletes all records.
        """
        self._store.mirror.clear()
        # Before the records: who is spared is not judged by its age.
        self._store.settings.replace(settings_in(others))
        self._store.blocks.reset(_living(records))
        params = self._apply_all(others)
        self._times.load(records)
        alone = not self.alive - {self.number}
        if first and (alone or params is None):
            # This comes before the parameters in etcd are applied, which would overwrite them.
            self._shared_params.publish_all()
        if params is not None:
            self._shared_params.apply(params.value, params.mod_revision)
        if first and alone and self._params.current.clear_on_gap:
            records = []
            self._times.load(records)
            self._store.clear_records().addErrback(
                lambda failure: self._log.failure(
                    "The stored records could not be deleted, although clear_on_gap is set; the"
                    " next start of hbtd may restore them.",
                    failure,
                )
            )
        self._changes.load(self._as_loaded(records), self._store.mirror.dead())
        self._apply_identities(others)

    def merge(self, records: Sequence[StoredRecord], others: Sequence[KeyValue]) -> None:
        """Write the data of this replica back to an etcd that has lost its data.

        Before that, apply what is in etcd already: `records`, and all other keys, `others`.
        """
        keys = {item.key for item in others}
        self._store.blocks.reset(_living(records))
        self._store.mirror.lose(keys)
        self._store.settings.merge(settings_in(others))
        params = self._apply_all(others)
        self._times.load(records)
        self._shared_params.restore()
        if params is not None:
            self._shared_params.apply(params.value, params.mod_revision)
        # The mirror still has judgements that etcd has lost.
        dead = [x for x in self._store.mirror.dead() if key_of(JUDGEMENT, x) in keys]
        self._changes.merge(self._as_loaded(records), dead)
        self._apply_identities(others)

    def _as_loaded(self, records: Sequence[StoredRecord]) -> list[Record]:
        """Return records for the tracker, without those flags of warnings that are out of date.

        An original hbtd leaves the flag in a record when it hears the component again.
        """
        warntime = self._params.current.warntime
        found: list[Record] = []
        for stored in records:
            judged = self._store.mirror.judgement(stored.record.component)
            judgement = None if judged is None else judged.judgement
            found.append(as_loaded(stored, judgement, warntime))
        return found

    def _apply_all(self, others: Sequence[KeyValue]) -> KeyValue | None:
        """Apply `others`, which are all keys but those of records; return that of the parameters.

        The key of the parameters is returned unapplied; `None` if there is no such key. What may be
        outdated is forgotten before: known replicas and locks, and the parameters' revision.
        """
        self._shared_params.reset()
        self.present.clear()
        self._signs_of_life.clear()
        self.alive.clear()
        self.locks.clear()
        params: KeyValue | None = None
        for item in others:
            if item.key == PARAMS:
                params = item
            elif not _is_foreign(item.key, item.value, item.lease):
                self._apply_other(item.key, item.value, item.mod_revision)
        return params

    def _apply_identities(self, items: Iterable[KeyValue]) -> None:
        for item in items:
            if item.key.startswith(IDENTITY):
                for each in self._store.mirror.read(read_identities, item.key, item.value) or ():
                    self._changes.apply_identity(each)

    def apply(self, event: Event) -> None:
        """Apply `event`, the change of one key, which the watch of etcd has reported."""
        key, value, revision, lease = event
        if _is_foreign(key, value, lease):
            return
        if key.startswith(SETTING):
            # Those of this replica, too: etcd's answer to the write may have been lost.
            self._store.settings.apply(read_setting(key, value), revision)
            return
        if key.startswith(PRESENCE):
            self._writer = (revision, _number(key, PRESENCE))
        if self._writer == (revision, self.number):
            self._apply_presence(key, value)
            if is_record(key):
                self._note_own_record(key.decode(), value)
            elif key.startswith(JUDGEMENT) and value is not None:
                # Whatever it says, the next leader finds it there.
                self._times.warned.discard(key[len(JUDGEMENT) :].decode())
            if key.startswith(REQUEST):
                # This replica has to grant its own request if it has just become the leader, or
                # if it does so later.
                self._store.mirror.apply(key, value, revision)
                if value == STARTED:
                    xname = key[len(REQUEST) :].decode("utf-8", "replace")
                    self._monitor.judge_returns(started=[xname])
        elif key.startswith(BLOCK):
            if self._writer[0] == revision:  # otherwise no replica has written it
                self._blocks.apply(key, value, revision, source_of(self._writer[1]))
        elif key.startswith(IDENTITY):
            self._apply_identities([KeyValue(key, value or b"{}", revision, revision, lease)])
        elif is_record(key) and value is not None and revision == self._blocks.revision:
            stored = self._blocks.apply_record(key, value, source_of(self._writer[1]))
            if stored is not None:
                self._times.note(stored.record.component, stored.heard)
        elif is_record(key):
            self._apply_record(key, value, self._writer[1] if self._writer[0] == revision else 0)
        else:
            judged = self._apply_other(key, value, revision)
            if judged is not None:
                self._times.warned.discard(judged.judgement.component)
                if judged.judgement.transition is Transition.DIED:
                    self._changes.apply_death(judged.judgement.component)
                phase = judged.judgement.transition.after
                self._changes.apply_told(judged.judgement.component, phase, judged.told)
            elif key.startswith(JUDGEMENT) and value is None:
                # Other judgements than alarms are deleted once HSM has acknowledged them.
                xname = key[len(JUDGEMENT) :].decode("utf-8", "replace")
                self._changes.apply_told(xname, Phase.HEALTHY, self._store.wall())
            elif key.startswith(LOG):
                self._changes.log_grown()
            if key.startswith(REQUEST) and value == FORGET:
                self._changes.apply_forget(key[len(REQUEST) :].decode("utf-8", "replace"))

    def _note_own_record(self, xname: str, value: bytes | None) -> None:
        if value is None:
            self._times.remove(xname)
        else:
            self._times.note(xname, heard_in(value))

    def _apply_record(self, key: bytes, value: bytes | None, writer: int) -> None:
        if value is None:
            xname = key.decode("utf-8", "replace")
            self._times.remove(xname)
            self._store.blocks.note_change(xname)
            if writer:
                self._changes.apply_removal(xname)
            else:
                self._times.warned.add(xname)
                self._changes.apply_burial(xname)
            return
        stored = self._store.mirror.read_record(key, value)
        if stored is None:
            return
        record = stored.record
        self._store.blocks.note_records([record.component])
        if record.warned:
            self._store.blocks.note_change(record.component)
        before = self._times.note(record.component, stored.heard)
        if not writer:
            self._apply_foreign_record(stored, before)
        elif record.warned:
            self._changes.apply_warning(record)
        else:
            self._changes.apply_heartbeat(record, source_of(writer))

    def _apply_foreign_record(self, stored: StoredRecord, before: Sequence[int]) -> None:
        """Apply a record that no replica of this hbtd has written, but probably an original.

        `before` has the times of earlier heartbeats, in Unix seconds, that were stored in the
        component's record before: at most two, the last one first.
        """
        record = stored.record
        xname = record.component
        living = self._changes.is_living(xname)
        means = meaning(stored, before, self._params.current.warntime, living=living)
        if means is Meaning.HEARTBEAT:
            self._changes.apply_heartbeat(record, source_of(0))
            if record.warned and before and stored.heard < before[0]:
                # It may be a sweep that several heartbeats have overtaken, and HSM be warned.
                self._times.warned.add(xname)
            return
        if means is Meaning.RETURN:
            self._times.warned.discard(xname)
            return
        if means is Meaning.WARNING:
            self._changes.apply_warning(record, by_a_leader=False)
        else:
            self._changes.apply_gap(record)
        self._times.warned.add(xname)

    def _apply_other(
        self, key: bytes, value: bytes | None, revision: int
    ) -> StoredJudgement | None:
        """Apply a change of a key that is not that of a record.

        Return the judgement if the key now holds one, `None` otherwise.
        """
        self._apply_presence(key, value)
        if key.startswith(LOCK):
            (self.locks.discard if value is None else self.locks.add)(key)
        if key == PARAMS:
            self._shared_params.apply(value, revision)
        return self._store.mirror.apply(key, value, revision)

    def _apply_presence(self, key: bytes, value: bytes | None) -> None:
        """Apply a change of a presence key or of a life key; ignore other keys."""
        if key.startswith(PRESENCE):
            number = _number(key, PRESENCE)
            if value is None:
                self.present.pop(number, None)
                self._signs_of_life.pop(number, None)
            else:
                self.present[number] = self.moment()
                self._signs_of_life[number] = read_sign_of_life(value)
        elif key.startswith(LIFE):
            number = _number(key, LIFE)
            if value is None:
                self.alive.discard(number)
            else:
                self.alive.add(number)


def _living(records: Iterable[StoredRecord]) -> set[str]:
    """Return the components that have a record without the flag of a warning."""
    return {each.record.component for each in records if not each.record.warned}


def source_of(number: int) -> str:
    """Return the text that names replica `number` as the source of a heartbeat in the tracker."""
    return intern(f"replica {number}")


def _is_foreign(key: bytes, value: bytes | None, lease: int) -> bool:
    """Return whether a key is to be ignored, because no replica can have written it.

    A presence key without a lease would never be deleted, and a request about something that is not
    a component would never be granted.
    """
    if key.startswith(PRESENCE):
        return value is not None and not lease
    return key.startswith(REQUEST) and not key.isascii()


def _number(key: bytes, prefix: bytes) -> int:
    """Return the number of a replica that follows `prefix` in a key, or 0 if there is none."""
    digits = key[len(prefix) :]
    return int(digits) if digits.isdigit() and len(digits) < 20 else 0
