"""Classes for questions about past transitions and states, and for the answers."""

from collections.abc import Collection, Sequence
from math import inf
from typing import NamedTuple

from hbtd.tracker.silences import LongSilence
from hbtd.tracker.transitions import Judgement, Phase

TRIMMED = "trimmed"
"""The name of the cursor whose value is the highest number that a deleted log entry had."""


class LogEntry(NamedTuple):
    """A committed judgement in the log of transitions."""

    number: int
    """The entry's number in the log: later entries have higher numbers; there may be gaps."""
    judgement: Judgement
    judge: str
    """The host and port of the replica that made the judgement."""


class Selection(NamedTuple):
    """The components that a question is about, selected by name, by location, or by both."""

    names: Collection[str] | None = None
    """The xnames of the selected components; `None` for all components."""
    under: str = ""
    """The xname of a part of the machine, such as `x1c0`; only components in it are selected.

    The part itself is selected, too. The value is empty if the location does not matter.
    """

    def includes(self, xname: str) -> bool:
        """Return whether the component `xname` is selected."""
        if self.under and not is_under(xname, self.under):
            return False
        return self.names is None or xname in self.names

    @property
    def everything(self) -> bool:
        """Whether all components are selected, since neither `names` nor `under` is given."""
        return self.names is None and not self.under


def is_under(xname: str, under: str) -> bool:
    """Return whether an xname names the component `under`, or a part of that component."""
    if not xname.startswith(under):
        return False
    return len(xname) == len(under) or not xname[len(under)].isdigit()


EVERYTHING = Selection()
"""The selection of all components."""


class Span(NamedTuple):
    """The span of time that a question about log entries covers, and the order of the answer."""

    since: float = -inf
    """Only entries of judgements made at this Unix time or later are selected."""
    until: float = inf
    """Only entries of judgements made before this Unix time are selected."""
    newest_first: bool = False
    """Whether entries are returned newest first, instead of oldest first."""
    after: int | None = None
    """The number of an entry: only entries that come after it in the answer are selected.

    If `newest_first` is true, these have lower numbers, otherwise higher ones. `None` if no entry
    is excluded.
    """


class StateThen(NamedTuple):
    """The state that a component had at a given moment in the past."""

    component: str
    """The component's xname."""
    phase: Phase
    """The component's phase at the given moment."""
    since: float
    """The Unix time of the judgement by which the component entered `phase`; 0 if not known."""
    silent: float | None
    """The component's silence, in observed seconds, when it was warned about or died.

    The silence is `None` if `phase` is neither `WARNED` nor `DEAD`, or if it is not known.
    """


class StatesThen(NamedTuple):
    """The states that components had at a given moment in the past."""

    states: Sequence[StateThen]
    """The states of the components, in the order of the components' names."""
    complete: bool
    """Whether the log still has all entries that were added after the given moment.

    If it is false, components may be missing from the result, or have states of a later moment.
    """


class Noticed(NamedTuple):
    """What a process of hbtd says of the long silences that it has noticed."""

    since: float
    """The Unix time from which on it has noticed them all."""
    missed: float = 0.0
    """The longest period that was no long silence, and so was not kept, in observed seconds."""
    lost: float = -inf
    """The Unix time at which the last silence ended that it could not store; `-inf` if none."""


MOST_PROCESSES = 100
"""The most processes of which a store keeps apart what they said of the silences they noticed."""


def shortened(noticed: Sequence[Noticed], whole_since: float) -> list[Noticed]:
    """Return what has to be kept of what processes have said of silences, the earliest first.

    The table of silences is whole from the Unix time `whole_since` on: processes that ended before
    are left out. Each has ended when the next one began. Of too many, the earliest are joined.
    """
    kept = list(noticed)
    while len(kept) > 1 and kept[1].since <= whole_since:
        del kept[0]
    while len(kept) > MOST_PROCESSES:
        first, second = kept[:2]
        kept[:2] = [Noticed(first.since, max(first.missed, second.missed))]
    return kept


class SilencesThen(NamedTuple):
    """A portion of the long silences that a store has kept."""

    silences: Sequence[LongSilence]
    after: int | None
    """The argument `after` of the call that returns the next portion; `None` if it is the last."""
    whole_since: float | None
    """The Unix time from which on the store has all long silences.

    Those that ended earlier may never have been kept, or were dropped when there were too many. The
    value is `None` if the store has never been given any.
    """
    noticed: Sequence[Noticed] = ()
    """What each process said last that has noticed silences since then, the earliest first.

    `lost` is left out.
    """


def state_then(entry: LogEntry, until: int) -> StateThen | None:
    """Return the state that a component had when the log's last entry had the number `until`.

    `entry` must be the component's last entry with a number up to `until` or, if there is none, the
    component's first later entry. Return `None` if the component was not tracked at that moment.
    """
    judgement = entry.judgement
    if entry.number <= until:
        after = judgement.transition.after
        return StateThen(judgement.component, after, judgement.at, judgement.silent)
    if judgement.before is Phase.UNKNOWN:
        return None
    return StateThen(judgement.component, judgement.before, 0.0, None)
