"""What can happen to a component's heartbeat, and what the world is told of it."""

from enum import Enum
from typing import NamedTuple


class Transition(Enum):
    """A change in a component's heartbeat, with what HSM and Kafka call it.

    The words are fixed by the wire contract (docs/protocol.md, "What the states mean").
    """

    STARTED = ("Ready", "OK", "Heartbeat started", "Heartbeat started.")
    WARNED = (
        "Ready",
        "Warning",
        "Heartbeat stopped -- might be dead",
        "Heartbeat stopped, node may be dead.",
    )
    RESTARTED = ("Ready", "OK", "Heartbeat restarted", "Heartbeat re-started.")
    DIED = (
        "Standby",
        "Alert",
        "Heartbeat stopped -- declared dead",
        "Heartbeat stopped, node is dead.",
    )

    def __init__(self, state: str, flag: str, message: str, info: str) -> None:
        self.state = state
        """HSM's State."""
        self.flag = flag
        """HSM's Flag."""
        self.message = message
        """The message in HSM's ExtendedInfo."""
        self.info = info
        """The same in the words used on Kafka."""

    @property
    def alarming(self) -> bool:
        """Whether this tells of silence, not of life."""
        return self in (Transition.WARNED, Transition.DIED)


class Judgement(NamedTuple):
    """A component's transition, as it is committed, sent to HSM and published."""

    component: str
    """The xname."""
    transition: Transition
    timestamp: str
    """What the component's last heartbeat gave as its time, verbatim."""
