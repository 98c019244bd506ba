"""Types that say whether HSM was told of a component's latest transition and, if not, why."""

from enum import Enum
from typing import NamedTuple


class Told(Enum):
    """Whether HSM was told of the latest transition of a component."""

    TOLD = "told"
    """HSM has acknowledged the transition."""
    WAITING = "waiting"
    """The transition is to be sent to HSM, or was sent and is not acknowledged yet."""
    SET_ASIDE = "set aside"
    """Updates to HSM with this component alone fail; they are retried after growing pauses."""
    IN_DOUBT = "in doubt"
    """HSM has acknowledged the transition, but an older, abandoned update may yet undo it."""
    CONTESTED = "contested"
    """HSM has acknowledged the transition several times, but its table still differs."""
    UNKNOWN = "unknown"
    """This replica does not know: the component is not tracked, or another replica tells HSM."""


class Standing(NamedTuple):
    """Whether and when HSM was told of the latest transition of a component, or why not."""

    told: Told
    """Whether HSM was told of the component's latest transition."""
    at: float = 0.0
    """The Unix time of HSM's acknowledgement; 0 if there is none, or if the time is not known."""
    reason: str | None = None
    """The reason, in words, if `told` is not `Told.TOLD`; otherwise `None`."""
