"""The fields of a heartbeat's body, which both lanes read in the same way (docs/protocol.md)."""

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, Final

from hbtd.formats import xnames
from hbtd.formats.go_integers import parse_integer
from hbtd.formats.go_json import pick

ALL_FIELDS: Final = ("Component", "Hostname", "NID", "Status", "Timestamp")
"""The fields of a heartbeat whose body names the component."""

NAMED_FIELDS: Final = ("Status", "Timestamp")
"""The fields of a heartbeat whose path names the component."""

INVALID_NAME: Final = "Invalid Component Name"

_get_all: Final[Callable[[Any], tuple[Any, Any, Any, Any, Any]]] = itemgetter(*ALL_FIELDS)
_get_named: Final[Callable[[Any], Sequence[Any]]] = itemgetter(*NAMED_FIELDS)


def read_all(heartbeat: object) -> tuple[str, str, str, str, str] | None:
    """Return `ALL_FIELDS` in a decoded body: component, host name, NID, status and timestamp.

    Return `None` if the body is not a JSON object, if one of `ALL_FIELDS` is not a string or is
    empty, or if the NID is not the text of an integer. The component is returned as it was sent,
    even if it is not an xname.
    """
    try:
        values = _get_all(heartbeat)
    except (KeyError, TypeError):
        values = tuple(_pick(heartbeat, ALL_FIELDS))  # type: ignore[assignment]  # it has as many
    component, hostname, nid, status, timestamp = values
    if (
        type(component) is type(hostname) is type(nid) is type(status) is type(timestamp) is str
        and (component and hostname and nid and status and timestamp)
        # Nearly all NIDs are plain decimals, which are recognized faster than integers are parsed.
        and (
            (nid.isdecimal() and nid.isascii() and len(nid) < 19 and nid[0] != "0")
            or _is_integer(nid)
        )
    ):
        return values
    return None


def read_named(heartbeat: object) -> tuple[str, str] | None:
    """Return the status and the timestamp in a decoded body.

    Return `None` if the body is not a JSON object, or if the status or the timestamp is not a
    string or is empty.
    """
    try:
        values = _get_named(heartbeat)
    except (KeyError, TypeError):
        values = _pick(heartbeat, NAMED_FIELDS)
    status, timestamp = values
    if type(status) is type(timestamp) is str and status and timestamp:
        return status, timestamp
    return None


def find_fault(heartbeat: object, names: Sequence[str]) -> str:
    """Return what is wrong with a decoded body, from which the fields `names` could not be read.

    Of several faults, return the first in the order of docs/protocol.md.
    """
    if not isinstance(heartbeat, dict):
        return "Invalid JSON data type"
    values = dict(zip(names, pick(heartbeat, names), strict=True))
    for name, value in values.items():
        if value is not None and not isinstance(value, str):
            return f"Invalid data type in {name} field"
    for name, value in values.items():
        if not value:
            return f"Missing {name} field"
    valid_name = xnames.parse(str(values["Component"])) is not None
    return "Invalid NID" if valid_name else INVALID_NAME


def _pick(heartbeat: object, names: Sequence[str]) -> Sequence[object]:
    """Return the values of some fields, matched case-insensitively; `None` for a missing one."""
    return pick(heartbeat, names) if isinstance(heartbeat, dict) else [None] * len(names)


def _is_integer(text: str) -> bool:
    """Return whether a text is a signed 64-bit integer in Go's syntax."""
    try:
        parse_integer(text, bits=64, signed=True)
    except ValueError:
        return False
    return True
