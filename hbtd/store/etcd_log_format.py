"""The keys and values of the log of transitions in etcd, and of its readers' cursors.

Each transaction in which the leader commits judgements also writes one key of the log, named after
the number of its last entry. So the keys sort in the order of the entries, and the number of the
last entry is known without reading values.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson

from hbtd.store.etcd_format import END_OF_NUMBERS, InvalidValue
from hbtd.store.past import LogEntry
from hbtd.tracker.transitions import Judgement, Phase, Transition

LOG = b"hbtd/log/"
"""The prefix of the keys of the log; the number of the key's last entry follows, in 16 digits.

The key keeps this number even if trimming of the log has deleted that entry.
"""
LOG_END = b"hbtd/log0"
"""The exclusive end of the range of the keys of the log, which begins with `LOG`."""
CURSOR = b"hbtd/cursor/"
"""The prefix of the key of a cursor; the name of the reader follows."""

_DIGITS = 16
"""The digits of the number in a key: as many as the highest number has."""

_TRANSITIONS = frozenset(Transition.__members__)
_PHASES = {phase.value: phase for phase in Phase}


def log_key(number: int) -> bytes:
    """Return the key of the log whose last entry has the number `number`."""
    return LOG + b"%0*d" % (_DIGITS, number)


def number_of(key: bytes) -> int:
    """Return the number in a key of the log; raise `InvalidValue` if there is none."""
    digits = key[len(LOG) :]
    if len(digits) != _DIGITS or not digits.isdigit() or int(digits) >= END_OF_NUMBERS:
        raise InvalidValue("its key has no number of the log")
    return int(digits)


def entry_value(entry: LogEntry) -> bytes:
    """Return an entry of the log, encoded as JSON for `log_value`."""
    number, judgement, judge = entry
    fields: tuple[object, ...] = (
        number,
        judgement.component,
        judgement.transition.name,
        judgement.before.value,
        judgement.at,
        judgement.timestamp,
        judgement.why,
        judge,
    )
    if judgement.silent is not None:
        fields += (round(judgement.silent, 3),)  # the versions before ignore it
    return orjson.dumps(fields)


def log_value(entries: Sequence[bytes]) -> bytes:
    """Return the value of a key of the log that has these entries, encoded by `entry_value`."""
    return b"[" + b",".join(entries) + b"]"


class StoredEntry(NamedTuple):
    """An entry of the log as it is stored; the fields that trimming needs are also attributes."""

    number: int
    component: str
    at: float
    """The Unix time of the judgement, in seconds."""
    fields: list[Any]
    """All fields of the entry, as in the result of `entry_value`."""


def read_stored(key: bytes, value: bytes) -> list[StoredEntry]:
    """Return the entries that are stored in the value of a key of the log, in order.

    Raise `InvalidValue` if the key is not one of the log, or the value is not a list of entries.
    The names of components are not checked.
    """
    last = number_of(key)
    try:
        return [_stored(fields, last) for fields in orjson.loads(value)]
    except (ValueError, TypeError, LookupError):
        raise InvalidValue("it is not a list of entries of the log") from None


def _stored(fields: list[Any], last: int) -> StoredEntry:
    """Return the entry that these fields, read from JSON, stand for.

    `last` is the number in the entry's key, the highest number that an entry in this key may have.
    Raise `ValueError`, `TypeError` or `LookupError` if the entry is invalid.
    """
    number, xname, transition, before, at, timestamp, why, judge, *_ = fields
    if type(number) is not int or not 0 < number <= last:
        raise ValueError("the number is out of range")
    if type(at) not in (int, float) or before not in _PHASES:
        raise ValueError("not a time, or not a phase")
    if transition not in _TRANSITIONS:
        raise ValueError("not a transition")
    if not (type(xname) is type(timestamp) is type(why) is type(judge) is str):
        raise TypeError("not a text")
    return StoredEntry(number, xname, at, fields)


def as_entry(stored: StoredEntry) -> LogEntry:
    """Return a stored entry as a `LogEntry`, the form in which readers of the log get it."""
    number, xname, transition, before, at, timestamp, why, judge, *added = stored.fields
    made, phase = Transition[transition], _PHASES[before]
    # Entries of earlier versions don't say for how long the component was silent.
    silent = float(added[0]) if added and type(added[0]) in (int, float) else None
    return LogEntry(number, Judgement(xname, made, timestamp, phase, why, float(at), silent), judge)


def cursor_value(number: int) -> bytes:
    """Return the value that stores a cursor."""
    return b"%d" % number


def read_cursor(_: bytes, value: bytes) -> int:
    """Return the number in the value of a cursor; raise `InvalidValue` if there is none."""
    if not value.isdigit() or len(value) > _DIGITS or int(value) >= END_OF_NUMBERS:
        raise InvalidValue("it is not the number of an entry of the log")
    return int(value)


def read_last_number(key: bytes, value: bytes) -> int:
    """Return the number in a key of the log, or in the value of a cursor.

    The log has, or once had, entries with numbers up to that number. Raise `InvalidValue` if the
    key or the cursor is invalid.
    """
    return number_of(key) if key.startswith(LOG) else read_cursor(key, value)
