"""Records: what a store keeps of a living component."""

from typing import NamedTuple


class Record(NamedTuple):
    """The last heartbeat of a component, as it is stored."""

    component: str
    """The xname."""
    age: float
    """The age of the heartbeat, in observed seconds."""
    timestamp: str
    """The timestamp in the heartbeat, verbatim."""
    status: str
    """The status in the heartbeat, verbatim."""
    warned: bool
    """Whether the component has been warned about since."""


def age_after_restart(record: Record, warntime: float, errtime: float) -> float:
    """Return the age of a component's heartbeat after hbtd was restarted, in observed seconds.

    It is the stored age, but limited so that no component is judged before it has had `warntime`
    seconds to be heard again. So a restart by itself causes no warning, and a component that died
    meanwhile is declared dead no later than `errtime` seconds after the restart.
    """
    longest = max(errtime - warntime, 0.0) if record.warned else 0.0
    return min(max(record.age, 0.0), longest)
