"""Transitions of a component, and the words for them in HSM and Kafka."""

from enum import Enum
from typing import NamedTuple


class Transition(Enum):
    """A change of a component's state, with the words that HSM and Kafka are told.

    The words are part of the wire contract (docs/protocol.md, "What the states mean").
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
        """The `State` in HSM."""
        self.flag = flag
        """The `Flag` in HSM."""
        self.message = message
        """The `Message` in the `ExtendedInfo` of an update of HSM."""
        self.info = info
        """The `Info` in a message on Kafka."""

    @property
    def alarming(self) -> bool:
        """Whether this is about silence, not about a heartbeat."""
        return self in (Transition.WARNED, Transition.DIED)


class Judgement(NamedTuple):
    """A transition of a component, as it is committed, sent to HSM and published."""

    component: str
    """The xname."""
    transition: Transition
    timestamp: str
    """The timestamp in the component's last heartbeat, verbatim."""
