"""What is asked about the past, and what the log of transitions answers."""

from collections.abc import Collection, Sequence
from math import inf
from typing import NamedTuple

from hbtd.tracker.transitions import Judgement, Phase

TRIMMED = "trimmed"
"""The name of the cursor that has the highest number of an entry that was trimmed, if any was."""


class LogEntry(NamedTuple):
    """A committed judgement in the log of transitions."""

    number: int
    """The entry's place in the log: later entries have higher numbers; there may be gaps."""
    judgement: Judgement
    judge: str
    """The replica that judged: its host and port."""


class Selection(NamedTuple):
    """Which components a question is about: by name, by what they are part of, or by both."""

    names: Collection[str] | None = None
    """The components, by xname; `None` for all."""
    under: str = ""
    """An xname: only this component and those that are part of it, `x1c0` and `x1c0s2b0`."""

    def includes(self, xname: str) -> bool:
        """Return whether a component is selected."""
        if self.under and not is_under(xname, self.under):
            return False
        return self.names is None or xname in self.names

    @property
    def everything(self) -> bool:
        """Whether all components are selected."""
        return self.names is None and not self.under


def is_under(xname: str, under: str) -> bool:
    """Return whether an xname is that of the component `under`, or of a part of it."""
    if not xname.startswith(under):
        return False
    return len(xname) == len(under) or not xname[len(under)].isdigit()


EVERYTHING = Selection()
"""The selection of all components."""


class Span(NamedTuple):
    """A span of time: which entries of the log a question is about, and in which order."""

    since: float = -inf
    """The Unix time from which on they were judged."""
    until: float = inf
    """The Unix time before which they were judged."""
    newest_first: bool = False
    """Whether the latest entries come first."""
    after: int | None = None
    """The number of an entry: only those that follow it in this order; `None` for all."""


class StateThen(NamedTuple):
    """What a component was at a moment in the past."""

    component: str
    """The xname."""
    phase: Phase
    """What it was."""
    since: float
    """When that was judged: the Unix time, 0 if not known."""
    silent: float | None
    """For how many seconds it had been silent when that was judged; `None` if not known."""


class StatesThen(NamedTuple):
    """The answer to the question what components were at a moment in the past."""

    states: Sequence[StateThen]
    """One for each component, in the order of their names."""
    complete: bool
    """Whether the log reaches back to that moment: nothing from after it was trimmed."""


def state_then(entry: LogEntry, until: int) -> StateThen | None:
    """Return what the component of an entry was when `until` was the last number in the log.

    `entry` must be the last one of the component up to that number or, if there is none, the first
    one after it. Return `None` if the component was not tracked.
    """
    judgement = entry.judgement
    if entry.number <= until:
        after = judgement.transition.after
        return StateThen(judgement.component, after, judgement.at, judgement.silent)
    if judgement.before is Phase.UNKNOWN:
        return None
    return StateThen(judgement.component, judgement.before, 0.0, None)
