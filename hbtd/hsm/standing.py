"""What HSM knows of a component: whether it was told of the latest transition, and if not, why."""

from enum import Enum
from typing import NamedTuple


class Told(Enum):
    """Whether HSM was told of the latest transition of a component."""

    TOLD = "told"
    """HSM has acknowledged it."""
    WAITING = "waiting"
    """It is to be sent, or has been sent and is not acknowledged yet."""
    SET_ASIDE = "set aside"
    """Updates about the component fail; they are sent again from time to time."""
    IN_DOUBT = "in doubt"
    """HSM has acknowledged it, but may still carry out an older update that was given up."""
    CONTESTED = "contested"
    """HSM has acknowledged it several times; its table says something else all the same."""
    UNKNOWN = "unknown"
    """This replica does not know: the component is not tracked, or another replica tells HSM."""


class Standing(NamedTuple):
    """Whether HSM was told of the latest transition of a component, when, and if not, why."""

    told: Told
    """Whether HSM was told of its latest transition."""
    at: float = 0.0
    """When HSM has acknowledged that: the Unix time, 0 if it has not, or if that is not known."""
    reason: str | None = None
    """Why HSM was not told, in a sentence; `None` if it was."""
