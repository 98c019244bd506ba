"""Phases and transitions of components, judgements, and the texts about them for HSM and Kafka."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Final


class Phase(Enum):
    """The state of a component between two transitions, such as healthy or dead."""

    UNKNOWN = "unknown"
    """The component is not tracked."""
    HEALTHY = "healthy"
    """The component is living, and not warned about."""
    WARNED = "warned"
    """The component was warned about, and has neither been heard nor died since."""
    DEAD = "dead"
    """The component has died, and has not been heard from since."""

    @property
    def living(self) -> bool:
        """Whether a component in this phase is tracked and not dead."""
        return self in (Phase.HEALTHY, Phase.WARNED)


class Transition(Enum):
    """A change of a component's state, with the texts by which HSM and Kafka are told of it.

    The texts are part of the protocol (docs/protocol.md, "What the states mean").
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
        """The value of `State` in an update to HSM about this transition."""
        self.flag = flag
        """The value of `Flag` in an update to HSM about this transition."""
        self.message = message
        """The value of `Message`, in `ExtendedInfo`, of an update to HSM about this transition."""
        self.info = info
        """The value of `Info` in a Kafka message about this transition."""

    @property
    def alarming(self) -> bool:
        """Whether the transition is an alarm, caused by silence: `WARNED` or `DIED`."""
        return self in ALARMS

    @property
    def after(self) -> Phase:
        """The phase of a component after the transition."""
        if self is Transition.WARNED:
            return Phase.WARNED
        return Phase.DEAD if self is Transition.DIED else Phase.HEALTHY


ALARMS: Final = frozenset({Transition.WARNED, Transition.DIED})
"""The alarms: the transitions that are caused by silence, not by a heartbeat."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """The statement that a component has made a transition.

    It is committed to the store, then sent to HSM and Kafka. Two judgements are equal if their
    components, transitions and timestamps are equal.
    """

    component: str
    """The component's xname."""
    transition: Transition
    timestamp: str
    """The timestamp in the component's last heartbeat, verbatim."""
    before: Phase = field(default=Phase.UNKNOWN, compare=False)
    """The phase of the component before the transition."""
    why: str = field(default="", compare=False)
    """The reason for the judgement, in a few words for operators."""
    at: float = field(default=0.0, compare=False)
    """The Unix time of the judgement, in seconds; 0 if not known."""
    silent: float | None = field(default=None, compare=False)
    """The silence, in observed seconds, that caused the judgement.

    It is `None` if a heartbeat caused the judgement, or if the silence is not known.
    """

    def made_at(self, at: float) -> "Judgement":
        """Return a copy of this judgement with the Unix time `at` as the time of the judgement.

        If this judgement has a time already, return this judgement itself, not a copy.
        """
        if self.at:
            return self
        # Half the time of `dataclasses.replace`: a mass death makes thousands of these.
        return Judgement(
            self.component,
            self.transition,
            self.timestamp,
            self.before,
            self.why,
            at,
            self.silent,
        )
