"""Records and identities: the data that a store keeps about a component."""

from typing import NamedTuple


class Record(NamedTuple):
    """The stored data of a component: its last heartbeat, and whether it has been warned about."""

    component: str
    """The component's xname."""
    age: float
    """The age of the heartbeat, in observed seconds."""
    timestamp: str
    """The timestamp in the heartbeat, verbatim."""
    status: str
    """The status in the heartbeat, verbatim."""
    warned: bool
    """Whether the component has been warned about since that heartbeat."""


class Identity(NamedTuple):
    """The host name and NID of a component, as the component sent them last."""

    component: str
    """The component's xname."""
    hostname: str
    """The host name, verbatim."""
    nid: str
    """The node ID, verbatim."""


def age_after_restart(record: Record, warntime: float, errtime: float) -> float:
    """Return the age, in observed seconds, that a stored heartbeat is given when hbtd restarts.

    The stored age is reduced where necessary, so that hbtd has `warntime` seconds to hear the
    component again before it judges it. Thus a restart by itself causes no warning, and a component
    that has fallen silent meanwhile is declared dead at most `errtime` seconds after the restart.
    """
    longest = max(errtime - warntime, 0.0) if record.warned else 0.0
    return min(max(record.age, 0.0), longest)
