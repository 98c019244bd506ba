"""Starting: counts the heartbeats of dead components until each has sent enough of them in time."""

from collections import OrderedDict
from collections.abc import Callable
from math import inf
from typing import NamedTuple

_SAME = 0.5
"""Observed seconds within which two heartbeats from one other replica may be the same heartbeat.

The other replica writes a heartbeat again if it does not know whether etcd has written it.
"""


class StartRule(NamedTuple):
    """The rule by which dead components are started."""

    beats: int = 1
    """The number of heartbeats in time after which a dead component is started; 1 or more."""
    within: float = inf
    """The observed seconds that must not have passed since the heartbeat before: `warntime`."""


class Progress(NamedTuple):
    """The number of heartbeats in time that a dead component has sent, and how many it needs."""

    counted: int
    needed: int


class _Count(NamedTuple):
    beats: int
    at: float
    source: str | None


class Starting:
    """Counts, for each dead component, the heartbeats in time that it has sent since it died.

    A heartbeat is in time if less than `StartRule.within` observed seconds have passed since the
    heartbeat before; otherwise the count begins anew. Only components that were heard in that time
    take memory. Counts are not stored: after a restart of hbtd they begin anew.

    Times (`at`) are observed seconds. They may be earlier than in the call before, since heartbeats
    that other replicas took arrive late.
    """

    def __init__(self, rule: Callable[[str], StartRule] = lambda _: StartRule()) -> None:
        """Make an object without counts.

        `rule` takes an xname, and returns the rule that applies to that component at present.
        """
        self._rule = rule
        # In the order of the calls that have counted their last heartbeats.
        self._counts: OrderedDict[str, _Count] = OrderedDict()

    def __len__(self) -> int:
        """Return how many components take memory."""
        return len(self._counts)

    def count(self, xname: str, at: float, source: str | None, *, elsewhere: bool = False) -> bool:
        """Count a heartbeat of a dead component; return whether the component is to be started.

        `at` is the time of the heartbeat and `source` its source, as of `Component.source`;
        `elsewhere` says whether another replica took it.
        """
        needed, within = self._rule(xname)
        if needed <= 1:
            return True
        while self._counts:
            oldest, old = next(iter(self._counts.items()))
            if at - old.at < self._rule(oldest).within:
                break
            del self._counts[oldest]
        last = self._counts.get(xname)
        if last is None or at - last.at >= within:
            last = _Count(0, at, None)
        elif last.at - at >= within:
            return False  # it is older than what was counted anew since
        elif elsewhere and source == last.source and at - last.at < _SAME:
            return last.beats >= needed
        beats = min(last.beats + 1, needed)
        self._counts[xname] = _Count(beats, max(at, last.at), source)
        self._counts.move_to_end(xname)
        return beats >= needed

    def progress(self, xname: str, at: float) -> Progress | None:
        """Return how far a dead component is at `at`; `None` if one heartbeat is enough."""
        needed, within = self._rule(xname)
        if needed <= 1:
            return None
        last = self._counts.get(xname)
        counted = 0 if last is None or at - last.at >= within else last.beats
        return Progress(counted, needed)

    def started(self, xname: str) -> str:
        """Drop the count of a component that is started; return why it is, for its judgement."""
        needed, last = self._rule(xname).beats, self._counts.pop(xname, None)
        # The last heartbeat of all may have been counted by another replica.
        if needed > 1 and last is not None and last.beats >= needed - 1:
            return f"{needed} heartbeats in time"
        return "heartbeat"

    def drop(self, xname: str) -> None:
        """Drop the count of a component, which is no longer dead, or no longer tracked."""
        self._counts.pop(xname, None)
