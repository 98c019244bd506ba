"""Transitions of a component, judgements, and the words for them in HSM and Kafka."""

from enum import Enum
from typing import NamedTuple


class Transition(Enum):
    """A change of a component's state, with the words that are sent to HSM and Kafka.

    The words are part of the protocol (docs/protocol.md, "What the states mean").
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
        """The `State` in an update to HSM."""
        self.flag = flag
        """The `Flag` in an update to HSM."""
        self.message = message
        """The `Message` in the `ExtendedInfo` of an update to HSM."""
        self.info = info
        """The `Info` in a message on Kafka."""

    @property
    def alarming(self) -> bool:
        """Whether the transition is an alarm: caused by silence, not by a heartbeat."""
        return self in (Transition.WARNED, Transition.DIED)


class Judgement(NamedTuple):
    """The statement that a component has made a transition, as it is committed and sent."""

    component: str
    """The xname."""
    transition: Transition
    timestamp: str
    """The timestamp in the component's last heartbeat, verbatim."""
