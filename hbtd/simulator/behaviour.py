"""The adjustable behaviour of the fake HSM, and its conversion from and to JSON."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from http import HTTPStatus
from typing import Any, Final

import orjson

from hbtd.formats import xnames

FAULTS: Final = ("reset", "garbage", "hang", "page")
"""The names of those faults of PATCHes which are not HTTP statuses.

The fields of `Behaviour` with the same names say what each fault does. An HTTP status, such as
`"500"`, is a fault, too: the fake HSM answers the PATCH with that status.
"""


@dataclass
class Behaviour:
    """The settings of the fake HSM: how it answers requests. They may be changed at any time.

    If several faults concern a PATCH, the first one in this order takes effect: `reset`, `garbage`,
    `hang`, `page`, `fail_status`, `too_large`, `faulty`, `database_gone`. The PATCH then changes
    nothing in the table.
    """

    ready: bool = True
    """Whether the readiness probe is answered with 200; otherwise with 503."""

    fail_status: int | None = None
    """The HTTP status with which every PATCH is answered, or `None` for the usual answers."""

    hang: bool = False
    """Whether PATCHes that arrive now are never answered, not even when `hang` is false again."""

    hang_ready: bool = False
    """Whether readiness probes that arrive while `hang` is true are never answered, either."""

    reset: bool = False
    """Whether the TCP connection of every PATCH is aborted."""

    garbage: bool = False
    """Whether every PATCH is answered with bytes that are not HTTP, and its connection closed."""

    page: bool = False
    """Whether every PATCH is answered with 200 and an HTML page, as login gateways do."""

    faulty: dict[str, str] = field(default_factory=dict)
    """The faults of PATCHes that name certain components: a dictionary from names to faults.

    The names of components may have any spelling. A fault is one of `FAULTS`, or an HTTP status
    such as `"500"`.
    """

    largest: int | None = None
    """The most components that a PATCH may name, or `None` if there is no limit."""

    too_large: str = "413"
    """The fault of each PATCH of more than `largest` components, written as in `faulty`."""

    database_gone: bool = False
    """Whether the fake HSM answers as the real HSM does when its database is down.

    PATCHes are then answered with 400, reads of the table with 500, and readiness probes with 503.
    """

    retry_after: str = ""
    """The `Retry-After` header of answers that reject a PATCH; if empty, the header is not sent."""

    refuse: set[str] = field(default_factory=set)
    """Names of components, in any spelling; a PATCH with one of them is answered with 400."""

    cost_ms: float = 0.0
    """The simulated duration of a PATCH, in milliseconds per component in the PATCH."""

    cost_ms_by_state: dict[str, float] = field(default_factory=dict)
    """The values to use in place of `cost_ms`, by the state that a PATCH sets."""

    discovers: bool = True
    """Whether a PATCH adds components to the table that are not in it yet.

    If not, such components are ignored, as they are by the real HSM.
    """

    lists: bool = True
    """Whether components can be listed; otherwise requests for lists are answered with 404."""

    unknown_types: set[str] = field(default_factory=set)
    """Types of components, such as `VirtualNode`, that the fake HSM does not know.

    Requests for lists of them are answered with 400, as the real HSM does with unknown types.
    """

    read_ms: float = 0.0
    """The simulated duration of a read of the table, in milliseconds."""

    def merged(self, changes: Mapping[str, object]) -> "Behaviour":
        """Return a copy in which `changes`, decoded from JSON, replace some fields.

        Raise `ValueError`, whose text names the field, if a field is unknown or its value has the
        wrong type or is out of range.
        """
        values: dict[str, Any] = {}
        for name, value in changes.items():
            read = _READERS.get(name)
            if read is None:
                raise ValueError(f"{name}: no such field")
            try:
                values[name] = read(value)
            except ValueError as error:
                raise ValueError(f"{name}: must be {error}") from error
        return replace(self, **values)

    def as_json(self) -> bytes:
        """Return all fields as a JSON object, in the form that `merged` accepts."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        sets = {name: sorted(value) for name, value in values.items() if isinstance(value, set)}
        return orjson.dumps(values | sets)

    def fault(self, names: Iterable[str]) -> str | None:
        """Return the fault of a PATCH with these components: one of `FAULTS`, or an HTTP status.

        Return `None` if there is no fault; `refuse` and `database_gone` are not considered.
        """
        for fault in FAULTS:
            if getattr(self, fault):
                return fault
        if self.fail_status is not None:
            return str(self.fail_status)
        names = list(names)
        if self.largest is not None and len(names) > self.largest:
            return self.too_large
        faulty = {xnames.normalise(name): fault for name, fault in self.faulty.items()}
        faults = (faulty.get(xnames.normalise(name)) for name in names)
        return next((fault for fault in faults if fault is not None), None)

    def cost(self, state: str, count: int) -> float:
        """Return the simulated seconds that a PATCH takes to set `count` components to a state."""
        return self.cost_ms_by_state.get(state, self.cost_ms) * count / 1000


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _status(value: object) -> int | None:
    if value is None:
        return None
    # A boolean is an int in Python, and a status below 200 would leave the client waiting.
    if isinstance(value, bool) or not isinstance(value, int) or not 200 <= value <= 599:
        raise ValueError("null or an HTTP status from 200 to 599")
    return value


def _count(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError("null or a number of components")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("a text")
    return value


def _fault(value: object) -> str:
    statuses = {str(status.value) for status in HTTPStatus if status >= HTTPStatus.BAD_REQUEST}
    if not isinstance(value, str) or (value not in FAULTS and value not in statuses):
        raise ValueError(f"one of {', '.join(FAULTS)}, or a status")
    return value


def _faults_by_name(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError("an object from names to faults; {} ends it")
    try:
        return {name: _fault(fault) for name, fault in value.items()}
    except ValueError as error:
        raise ValueError(f"an object from names to {error}") from None


def _milliseconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("a number of milliseconds")
    if not (math.isfinite(value) and value >= 0):
        raise ValueError("a number of milliseconds, 0 or more")
    return float(value)


def _names(value: object) -> set[str]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ValueError("a list of names; [] ends it")
    return set(value)


def _milliseconds_by_state(value: object) -> dict[str, float]:
    if not isinstance(value, dict):
        raise ValueError("an object from states to milliseconds; {} ends it")
    return {state: _milliseconds(cost) for state, cost in value.items()}


_READERS: Final[Mapping[str, Callable[[object], object]]] = {
    "ready": _flag,
    "fail_status": _status,
    "hang": _flag,
    "hang_ready": _flag,
    "reset": _flag,
    "garbage": _flag,
    "page": _flag,
    "faulty": _faults_by_name,
    "largest": _count,
    "too_large": _fault,
    "database_gone": _flag,
    "retry_after": _text,
    "refuse": _names,
    "cost_ms": _milliseconds,
    "discovers": _flag,
    "lists": _flag,
    "unknown_types": _names,
    "read_ms": _milliseconds,
    "cost_ms_by_state": _milliseconds_by_state,
}
