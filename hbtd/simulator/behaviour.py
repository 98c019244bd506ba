"""How the fake HSM misbehaves, and how a JSON document may change that."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final

import orjson


@dataclass
class Behaviour:
    """What the fake HSM does with the next request; change the fields at will, at any time.

    Where several apply to one PATCH, `reset` goes before `garbage`, that before `hang`, and that
    before `fail_status`. None of these four applies anything.
    """

    ready: bool = True
    """Whether the readiness probe gets 200 or 503."""

    fail_status: int | None = None
    """Answer every PATCH with this HTTP status."""

    hang: bool = False
    """Never answer a PATCH that comes while this is set, not even once it is cleared."""

    hang_ready: bool = False
    """Let `hang` hold for the readiness probe, too."""

    reset: bool = False
    """Abort the TCP connection of every PATCH."""

    garbage: bool = False
    """Answer every PATCH with bytes that are not HTTP, then close the connection."""

    refuse: set[str] = field(default_factory=set)
    """A PATCH that names any of these, in any spelling, gets 400 and is not applied."""

    cost_ms: float = 0.0
    """Milliseconds of work for each component of a PATCH."""

    cost_ms_by_state: dict[str, float] = field(default_factory=dict)
    """The same for single target states, such as `{"Standby": 2.0}`; overrides `cost_ms`."""

    def merged(self, changes: Mapping[str, object]) -> "Behaviour":
        """Give a copy with some fields replaced by values read from JSON, each as a whole.

        Raises `ValueError`, its text naming the field, if a field is unknown or its value is of
        the wrong type or out of range.
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
        """Encode all fields as a JSON object that `merged` takes back."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return orjson.dumps({**values, "refuse": sorted(self.refuse)})

    def cost(self, state: str, count: int) -> float:
        """Tell how many seconds of work it is to take `count` components to a state."""
        return self.cost_ms_by_state.get(state, self.cost_ms) * count / 1000


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _status(value: object) -> int | None:
    if value is None:
        return None
    # A boolean is an int to Python, and a status below 200 would leave the client waiting.
    if isinstance(value, bool) or not isinstance(value, int) or not 200 <= value <= 599:
        raise ValueError("null or an HTTP status from 200 to 599")
    return value


def _milliseconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("a number of milliseconds")
    if not (math.isfinite(value) and value >= 0):
        raise ValueError("a number of milliseconds, 0 or more")
    return float(value)


def _names(value: object) -> set[str]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ValueError("a list of names")
    return set(value)


def _milliseconds_by_state(value: object) -> dict[str, float]:
    if not isinstance(value, dict):
        raise ValueError("an object from states to milliseconds")
    return {state: _milliseconds(cost) for state, cost in value.items()}


_READERS: Final[Mapping[str, Callable[[object], object]]] = {
    "ready": _flag,
    "fail_status": _status,
    "hang": _flag,
    "hang_ready": _flag,
    "reset": _flag,
    "garbage": _flag,
    "refuse": _names,
    "cost_ms": _milliseconds,
    "cost_ms_by_state": _milliseconds_by_state,
}
