"""What hbtd keeps in etcd, byte for byte.

The keys and values that the field's service reads and writes too (docs/protocol.md, "etcd"):
components' records, `params`, the health key and the replicas' life keys. What is ours alone is
under `hbtd/`: judgements, requests to the leader, and the replicas' presence.
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
"""The ranges of the components' records, each under its xname.

In the first is whatever sits in a cabinet; the field's replicas judge those alone.
"""

EVERYTHING = (b"all", b"xz")
"""The range that has all of the below but the health key, and the records."""

PARAMS = b"params"
HEALTH = (b"HBTD_HEALTH_KEY", b"HBTD_OK")
LOCK = b"hbtd_dist_lock"
LIFE = b"hbtd_lifekey-"
"""The beginning of a replica's life key; its number follows."""
ALIVE = b"1"

JUDGEMENT = b"hbtd/judgement/"
"""The beginning of the key of a component's latest judgement; its xname follows."""
REQUEST = b"hbtd/request/"
"""The beginning of the key by which a replica asks the leader for something about a component."""
PRESENCE = b"hbtd/replica/"
"""The beginning of the key that a replica writes with all that it writes, its number following."""

STARTED = b"started"
"""The request to judge that a component that nobody knew has started."""
FORGET = b"forget"
"""The request to forget a component."""

_MOST = 2**53
"""Numbers of judgements are below."""

_FIELDS = (
    "Component",
    "Last_hb_rcv_time",
    "Last_hb_timestamp",
    "Last_hb_status",
    "Had_warning",
)


class NotOurs(Exception):
    """A value that can't be what its key says; the message says why."""


class Kept(NamedTuple):
    """A judgement as it is kept."""

    judgement: Judgement
    number: int
    """Its place in the order of commits."""
    delivered: bool
    """Whether HSM has acknowledged it."""


def record_value(record: Record, wall: float) -> bytes:
    """Write a record; `wall` is the Unix time in seconds."""
    heard = max(0, floor(wall - record.age))
    values = (
        record.component,
        format(heard, "x"),
        record.timestamp,
        record.status,
        "WN" if record.warned else "",
    )
    return orjson.dumps(dict(zip(_FIELDS, values, strict=True)))


def read_record(key: bytes, value: bytes, wall: float) -> Record:
    """Read a record; raises `NotOurs`.

    The ages are by wall clocks, as good as these are. What is missing is taken to be empty, the
    time to be now; what else there is has no meaning for us.
    """
    xname = _component(key)
    stored = _object(value)
    texts: list[str] = []
    for name, field in zip(_FIELDS, pick(stored, _FIELDS), strict=True):
        if field is not None and not isinstance(field, str):
            raise NotOurs(f"its {name} is not a text")
        texts.append(field or "")
    _, heard, timestamp, status, warning = texts
    try:
        age = wall - int(heard, 16) if heard else 0.0
    except (ValueError, OverflowError):
        raise NotOurs(f"its Last_hb_rcv_time is {heard[:20]!r}, no hexadecimal number") from None
    return Record(xname, max(age, 0.0), timestamp, status, bool(warning))


def judgement_value(kept: Kept) -> bytes:
    """Write a judgement."""
    (_, transition, timestamp), number, delivered = kept
    return orjson.dumps(
        {
            "Transition": transition.name,
            "Timestamp": timestamp,
            "Number": number,
            "Delivered": delivered,
        }
    )


def read_judgement(key: bytes, value: bytes) -> Kept:
    """Read a judgement; raises `NotOurs`."""
    xname = _component(key[len(JUDGEMENT) :])
    stored = _object(value)
    transition = Transition.__members__.get(str(stored.get("Transition")))
    timestamp, number = stored.get("Timestamp"), stored.get("Number")
    if transition is None or not isinstance(timestamp, str):
        raise NotOurs("it is no judgement: Transition or Timestamp can't be what they are")
    # Others come after it, and have to be numbers that JSON can have.
    if type(number) is not int or not 0 <= number < _MOST:
        raise NotOurs("it is no judgement: its Number is none, or out of range")
    delivered = bool(stored.get("Delivered"))
    return Kept(Judgement(xname, transition, timestamp), number, delivered)


def read_params(value: bytes) -> dict[str, Any]:
    """Read parameters, of which any may be missing or unusable; raises `NotOurs`."""
    return _object(value)


def _object(value: bytes) -> dict[str, Any]:
    try:
        stored = orjson.loads(value)
    except ValueError:
        raise NotOurs("it is not JSON") from None
    if not isinstance(stored, dict):
        raise NotOurs("it is not a JSON object")
    return stored


def _component(key: bytes) -> str:
    name = key.decode("utf-8", "replace")
    if xnames.parse(name) != name:
        raise NotOurs("its key is no xname in normal form")
    return name


def is_record(key: bytes) -> bool:
    """Tell whether a key is in one of the ranges of the records."""
    return any(start <= key < end for start, end in RECORDS)
