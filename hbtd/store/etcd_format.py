"""The keys and values that hbtd writes to etcd, byte for byte.

The original hbtd reads and writes some of these keys and values, too (docs/protocol.md, "etcd"):
the records of components, `params`, the health key and the replicas' life keys. The keys under
`hbtd/` are this hbtd's own: judgements, requests to the leader, and the presence of replicas.
"""

from math import floor
from typing import Any, NamedTuple

import orjson

from hbtd.formats import xnames
from hbtd.formats.go_json import pick
from hbtd.tracker.records import Record
from hbtd.tracker.transitions import Judgement, Transition

RECORDS = (
    (b"x0", b"xz"),
    (b"all", b"alm"),
    (b"d0", b"d:"),
    (b"p0", b"p:"),
    (b"s0", b"s:"),
    (b"sms0", b"sms:"),
)
"""The ranges of keys that hold records: the key of a record is the xname of its component.

The first range is that of the components in a cabinet; the original hbtd judges only those.
"""

EVERYTHING = (b"all", b"xz")
"""The range of keys that contains all keys of hbtd in etcd, except the health key."""

PARAMS = b"params"
HEALTH = (b"HBTD_HEALTH_KEY", b"HBTD_OK")
LOCK = b"hbtd_dist_lock"
LIFE = b"hbtd_lifekey-"
"""The prefix of a replica's life key; the number of the replica follows.

The life key exists for as long as the replica's lease.
"""
ALIVE = b"1"

JUDGEMENT = b"hbtd/judgement/"
"""The prefix of the key of a component's latest judgement; the xname follows."""
REQUEST = b"hbtd/request/"
"""The prefix of the key of a request to the leader; the xname of the component follows."""
PRESENCE = b"hbtd/replica/"
"""The prefix of a replica's presence key, its sign of life; the number of the replica follows.

Each transaction of the replica begins with a write of this key.
"""

STARTED = b"started"
"""The value of a request to judge that a component has started."""
FORGET = b"forget"
"""The value of a request to forget a component."""

END_OF_NUMBERS = 2**53
"""The exclusive upper limit of the numbers of judgements: 2 to the power of 53.

Many JSON parsers read numbers as IEEE 754 doubles, which are exact for integers below this limit.
"""

_WARNED, _WARNED_AFTER_GAP = "WN", "WG"
"""The values of `Had_warning` for components that were warned about."""

_FIELDS = (
    "Component",
    "Last_hb_rcv_time",
    "Last_hb_timestamp",
    "Last_hb_status",
    "Had_warning",
)


class InvalidValue(Exception):
    """Raised when a key or a value in etcd is not of the expected form; the message says why."""


class StoredJudgement(NamedTuple):
    """A judgement as it is stored in etcd."""

    judgement: Judgement
    number: int
    """The number of the judgement; judgements that are committed later have higher numbers."""
    delivered: bool
    """Whether HSM has acknowledged the judgement."""
    told: float = 0.0
    """The Unix time at which HSM acknowledged the judgement; 0 if not known."""


class StoredRecord(NamedTuple):
    """A record as it is stored in etcd."""

    record: Record
    heard: int
    """The Unix time of the heartbeat, by the wall clock of the replica that wrote the record."""
    after_gap: bool
    """Whether the component was warned about after a gap in the monitoring.

    Only the original hbtd stores this.
    """


def record_value(record: Record, wall: float) -> bytes:
    """Return the value that stores a record; `wall` is the present Unix time in seconds."""
    heard = max(0, floor(wall - record.age))
    values = (
        record.component,
        format(heard, "x"),
        record.timestamp,
        record.status,
        _WARNED if record.warned else "",
    )
    return orjson.dumps(dict(zip(_FIELDS, values, strict=True)))


def read_record(key: bytes, value: bytes, wall: float) -> StoredRecord:
    """Return the record that is stored in a key's value.

    The age of the record is the difference between `wall`, the present Unix time in seconds, and
    the stored time of the heartbeat, by the wall clock of the replica that wrote the record. A
    missing field counts as empty, and a missing time as the present time; unknown fields are
    ignored. Raise `InvalidValue` if the key or the value is not that of a record.
    """
    xname = _component(key)
    stored = read_object(value)
    texts: list[str] = []
    for name, field in zip(_FIELDS, pick(stored, _FIELDS), strict=True):
        if field is not None and not isinstance(field, str):
            raise InvalidValue(f"its {name} is not a text")
        texts.append(field or "")
    _, heard, timestamp, status, warning = texts
    try:
        time = int(heard, 16) if heard else floor(wall)
        age = wall - time if heard else 0.0
    except (ValueError, OverflowError):
        raise InvalidValue(
            f"its Last_hb_rcv_time is {heard[:20]!r}, no hexadecimal number"
        ) from None
    record = Record(xname, max(age, 0.0), timestamp, status, bool(warning))
    return StoredRecord(record, time, warning == _WARNED_AFTER_GAP)


def heard_in(value: bytes) -> int:
    """Return the time of the heartbeat, in Unix seconds, in a value made by `record_value`.

    This is faster than `read_record`.
    """
    return int(orjson.loads(value)[_FIELDS[1]], 16)


def judgement_value(stored: StoredJudgement) -> bytes:
    """Return the value that stores a judgement."""
    judgement, number, delivered, told = stored
    fields: dict[str, object] = {
        "Transition": judgement.transition.name,
        "Timestamp": judgement.timestamp,
        "Number": number,
        "Delivered": delivered,
    }
    if told:
        fields["Told"] = told  # the versions before ignore it
    return orjson.dumps(fields)


def read_judgement(key: bytes, value: bytes) -> StoredJudgement:
    """Return the judgement that is stored in a key's value.

    Raise `InvalidValue` if the key or the value is not that of a judgement.
    """
    xname = _component(key[len(JUDGEMENT) :])
    stored = read_object(value)
    transition = Transition.__members__.get(str(stored.get("Transition")))
    timestamp, number = stored.get("Timestamp"), stored.get("Number")
    if transition is None or not isinstance(timestamp, str):
        raise InvalidValue("it is no judgement: its Transition or Timestamp is invalid")
    # The numbers of later judgements follow this one, and have to be exact in JSON.
    if type(number) is not int or not 0 <= number < END_OF_NUMBERS:
        raise InvalidValue("it is no judgement: its Number is missing or out of range")
    delivered = bool(stored.get("Delivered"))
    told = stored.get("Told")
    known = delivered and isinstance(told, int | float)
    judgement = Judgement(xname, transition, timestamp)
    return StoredJudgement(judgement, number, delivered, float(told) if known and told else 0.0)


def read_params(value: bytes) -> dict[str, Any]:
    """Return the parameters in the value of the key `params`: a dictionary from names to values.

    Any parameter may be missing or invalid. Raise `InvalidValue` if the value is not a JSON object.
    """
    return read_object(value)


def read_object(value: bytes) -> dict[str, Any]:
    """Return the JSON object in a value; raise `InvalidValue` if the value is anything else."""
    try:
        stored = orjson.loads(value)
    except ValueError:
        raise InvalidValue("it is not JSON") from None
    if not isinstance(stored, dict):
        raise InvalidValue("it is not a JSON object")
    return stored


def _component(key: bytes) -> str:
    name = key.decode("utf-8", "replace")
    if xnames.parse(name) != name:
        raise InvalidValue("its key is no xname in normal form")
    return name


def is_record(key: bytes) -> bool:
    """Return whether a key is in one of the ranges of keys that hold records."""
    return any(start <= key < end for start, end in RECORDS)
