"""The types of questions about past transitions and states, and of their answers."""

from collections.abc import Collection, Sequence
from math import inf
from typing import NamedTuple

from hbtd.tracker.transitions import Judgement, Phase

TRIMMED = "trimmed"
"""The name of the cursor that has the highest number among the entries trimmed so far."""


class LogEntry(NamedTuple):
    """A committed judgement in the log of transitions."""

    number: int
    """The entry's number in the log: later entries have higher numbers; there may be gaps."""
    judgement: Judgement
    judge: str
    """The host and port of the replica that made the judgement."""


class Selection(NamedTuple):
    """The components that a question is about, selected by name, part of the machine, or both."""

    names: Collection[str] | None = None
    """The xnames of the selected components; `None` for all components."""
    under: str = ""
    """An xname, such as `x1c0`: only this component and its parts are selected; empty for all."""

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
    """Return whether an xname names the component `under`, or a part of that component."""
    if not xname.startswith(under):
        return False
    return len(xname) == len(under) or not xname[len(under)].isdigit()


EVERYTHING = Selection()
"""The selection of all components."""


class Span(NamedTuple):
    """A span of time whose log entries a question is about, and the order of the answer."""

    since: float = -inf
    """Only entries judged at this Unix time or later are selected."""
    until: float = inf
    """Only entries judged before this Unix time are selected."""
    newest_first: bool = False
    """Whether entries are returned newest first, instead of oldest first."""
    after: int | None = None
    """Only entries after the one with this number, in the answer's order; `None` for all."""


class StateThen(NamedTuple):
    """The state of a component at a moment in the past."""

    component: str
    """The component's xname."""
    phase: Phase
    """The component's phase at that moment."""
    since: float
    """The Unix time of the judgement by which the component entered the phase; 0 if not known."""
    silent: float | None
    """The component's silence at that judgement, in observed seconds; `None` if not known."""


class StatesThen(NamedTuple):
    """The states of components at a moment in the past."""

    states: Sequence[StateThen]
    """The state of each component, in the order of the components' names."""
    complete: bool
    """Whether the log still has all entries that were added after that moment."""


def state_then(entry: LogEntry, until: int) -> StateThen | None:
    """Return the state of a component when `until` was the number of the last entry in the log.

    `entry` must be the component's last entry with a number up to `until` or, if there is none, the
    component's first later entry. Return `None` if the component was not tracked then.
    """
    judgement = entry.judgement
    if entry.number <= until:
        after = judgement.transition.after
        return StateThen(judgement.component, after, judgement.at, judgement.silent)
    if judgement.before is Phase.UNKNOWN:
        return None
    return StateThen(judgement.component, judgement.before, 0.0, None)
