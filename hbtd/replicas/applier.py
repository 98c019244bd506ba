"""What the others write, taken up: records, judgements, requests, parameters, signs of life."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from twisted.logger import Logger

from hbtd.config.live_params import LiveParams
from hbtd.etcd.messages import Event, KeyValue
from hbtd.monitor import Monitor
from hbtd.replicas.shared_params import SharedParams
from hbtd.store.etcd import EtcdStore
from hbtd.store.etcd_format import (
    FORGET,
    LIFE,
    LOCK,
    PARAMS,
    PRESENCE,
    REQUEST,
    STARTED,
    StoredJudgement,
    is_record,
)
from hbtd.tracker.records import Record
from hbtd.tracker.transitions import Transition


class Moment(NamedTuple):
    """When something was heard."""

    elapsed: float
    """On a clock that always runs."""
    observed: float
    """On the observed clock."""


class Applier:
    """Knows what each of etcd's keys means to this replica.

    What we wrote ourselves we know: a transaction of ours is known by our mark, which comes first
    in it, and is passed over.
    """

    _log = Logger()

    def __init__(
        self,
        number: int,
        store: EtcdStore,
        monitor: Monitor,
        shared_params: SharedParams,
        params: LiveParams,
        moment: Callable[[], Moment],
        before_load: Callable[[], None],
    ) -> None:
        """Make the one for the replica of this number."""
        self.number = number
        self._store = store
        self._monitor = monitor
        self._shared_params = shared_params
        self._params = params
        self.moment = moment
        """Gives the present one."""
        self.before_load = before_load
        """To be called before all is read anew."""
        self._writer = (0, 0)
        self.present: dict[int, Moment] = {}
        """When each replica that lives, this one included, last wrote something."""
        self.alive: set[int] = set()
        """The replicas that have a life key: of any version, and of the field's service, too."""
        self.locks: set[bytes] = set()
        """The keys of who holds the lock and who waits for it."""

    def load(self, records: Sequence[Record], others: Sequence[KeyValue], *, first: bool) -> None:
        """Take up all that there is, the records and all other keys, instead of what we knew.

        The `first` time this tells whether we join others, whose parameters count, or are alone.
        """
        self._store.mirror.clear()
        params = self._take_all(others)
        alone = not self.alive - {self.number}
        if first and (alone or params is None):
            # Before those that are there are taken up: ours count.
            self._shared_params.publish_all()
        if params is not None:
            self._shared_params.apply(params.value, params.mod_revision)
        if first and alone and self._params.current.clear_on_gap:
            records = []
            self._store.clear_records().addErrback(
                lambda failure: self._log.failure("Stored heartbeats could not be cleared", failure)
            )
        self._monitor.load(records, self._store.mirror.dead())

    def add(self, records: Sequence[Record], others: Sequence[KeyValue]) -> None:
        """Have an etcd that lost its data told again what we know, and learn what others told."""
        self._monitor.store_all()
        params = self._take_all(others)
        self._shared_params.restore()
        if params is not None:
            self._shared_params.apply(params.value, params.mod_revision)
        self._monitor.add_missing(records)

    def _take_all(self, others: Sequence[KeyValue]) -> KeyValue | None:
        """Take up all keys that are no records; but the parameters, which are given back.

        What was known of replicas, and of revisions, is forgotten: these may have begun anew.
        """
        self._shared_params.reset()
        self.present.clear()
        self.alive.clear()
        self.locks.clear()
        params: KeyValue | None = None
        for item in others:
            if item.key == PARAMS:
                params = item
            elif not _is_strange(item.key, item.value, item.lease):
                self._take(item.key, item.value, item.mod_revision)
        return params

    def follow(self, event: Event) -> None:
        """Take up a change."""
        key, value, revision, lease = event
        if _is_strange(key, value, lease):
            return
        if key.startswith(PRESENCE):
            self._writer = (revision, _number(key, PRESENCE))
        if self._writer == (revision, self.number):
            self._take_sign_of_life(key, value)
            if key.startswith(REQUEST):
                # It may be for us to answer, if we come to lead, or just have.
                self._store.mirror.apply(key, value, revision)
                if value == STARTED:
                    self._monitor.judge_started(key[len(REQUEST) :].decode("utf-8", "replace"))
        elif is_record(key):
            self._take_record(key, value)
        else:
            kept = self._take(key, value, revision)
            if kept is not None and kept.judgement.transition is Transition.DIED:
                self._monitor.apply_death(kept.judgement.component)
            if key.startswith(REQUEST) and value == FORGET:
                self._monitor.apply_forget(key[len(REQUEST) :].decode("utf-8", "replace"))

    def _take_record(self, key: bytes, value: bytes | None) -> None:
        if value is None:
            self._monitor.apply_removal(key.decode("utf-8", "replace"))
            return
        record = self._store.mirror.read_record(key, value)
        if record is None:
            return
        if record.warned:
            self._monitor.apply_warning(record)
        else:
            self._monitor.apply_heartbeat(record)

    def _take(self, key: bytes, value: bytes | None, revision: int) -> StoredJudgement | None:
        """Take up a key that is no record; gives the judgement, if it is one."""
        self._take_sign_of_life(key, value)
        if key.startswith(LOCK):
            (self.locks.discard if value is None else self.locks.add)(key)
        if key == PARAMS:
            self._shared_params.apply(value, revision)
        return self._store.mirror.apply(key, value, revision)

    def _take_sign_of_life(self, key: bytes, value: bytes | None) -> None:
        if key.startswith(PRESENCE):
            number = _number(key, PRESENCE)
            if value is None:
                self.present.pop(number, None)
            else:
                self.present[number] = self.moment()
        elif key.startswith(LIFE):
            number = _number(key, LIFE)
            if value is None:
                self.alive.discard(number)
            else:
                self.alive.add(number)


def _is_strange(key: bytes, value: bytes | None, lease: int) -> bool:
    """Tell whether a key can't have been written by a replica, which is left alone then.

    A sign of life without a lease would never end, and a request about no component never be done.
    """
    if key.startswith(PRESENCE):
        return value is not None and not lease
    return key.startswith(REQUEST) and not key.isascii()


def _number(key: bytes, prefix: bytes) -> int:
    """Read a replica's number; 0 for what is none."""
    digits = key[len(prefix) :]
    return int(digits) if digits.isdigit() and len(digits) < 20 else 0
