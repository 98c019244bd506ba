"""What outlives a process of a living component."""

from typing import NamedTuple


class Record(NamedTuple):
    """A component's last heartbeat, as it is stored."""

    component: str
    """The xname."""
    age: float
    """How many observed seconds ago it was heard."""
    timestamp: str
    """What the sender gave as the time, verbatim."""
    status: str
    """What the sender gave as its status."""
    warned: bool
    """Whether it has been warned about since."""


def age_after_restart(record: Record, warntime: float, errtime: float) -> float:
    """Give the age with which a component comes back after a restart of ours.

    That which it had, but never so much that it would be judged before everybody who beats at all
    has had `warntime` seconds to be heard again. So a restart alone warns about nobody, and who
    died meanwhile is declared dead no later than `errtime` seconds after it.
    """
    longest = max(errtime - warntime, 0.0) if record.warned else 0.0
    return min(max(record.age, 0.0), longest)
