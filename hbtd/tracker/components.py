"""Tracked components, the queues of the living, and the search for overdue ones."""

import sys
from collections import OrderedDict
from collections.abc import Set
from itertools import islice
from math import ceil
from operator import le
from typing import Final, NamedTuple

NOT_HEARD: Final = -1.0
"""The value of `Component.mean` until the next heartbeat, which does not end a period."""

NO_PERIOD: Final = 0.0
"""The value of `Component.mean` until the next heartbeat, which ends the first period."""

_TENTHS: Final = tuple(i / 10 for i in range(3601))


def identity_of(hostname: str, nid: str) -> str:
    """Return a host name and a NID as one text, which takes half the memory of two."""
    return f"{hostname}\n{nid}"


class Component:
    """The data of a tracked component: its last heartbeat, latest transition, and period."""

    __slots__ = (
        "deviation",
        "fresh",
        "identity",
        "last_heard",
        "longest",
        "mean",
        "since",
        "source",
        "status",
        "timestamp",
        "told",
        "xname",
    )

    def __init__(
        self,
        xname: str,
        last_heard: float,
        timestamp: str,
        status: str,
        source: str | None = None,
        fresh: bool = False,
    ) -> None:
        self.xname = xname
        """The component's name, in normal form."""
        self.last_heard = last_heard
        """The observed time of the last heartbeat, in seconds; `-inf` if it is not known."""
        self.timestamp = timestamp
        """The timestamp in the last heartbeat, verbatim."""
        self.status = status
        """The status in the last heartbeat, verbatim."""
        self.source = source
        """The IP address that sent the last heartbeat, or the replica that took it, if known."""
        self.fresh = fresh
        """Whether the last heartbeat was the first on its connection."""
        self.identity = ""
        """The host name and the NID in the last heartbeat that had them; see `identity_of`."""
        self.since = 0.0
        """The Unix time at which the latest transition was judged; 0 if not known yet."""
        self.told = 0.0
        """The Unix time at which HSM acknowledged the latest transition; 0 if not, or not known."""
        self.mean = NOT_HEARD
        """The mean period of the heartbeats, in observed seconds, weighted towards the latest ones.

        Not all periods are taken: see `Tracker.beat_again`. It is 0 or less (`NO_PERIOD`,
        `NOT_HEARD`) while it is not known: the component has sent only one heartbeat since it, or
        hbtd, started.
        """
        self.deviation = 0.0
        """The mean deviation from `mean`, in observed seconds, weighted in the same way."""
        self.longest = 0.0
        """The longest period, in observed seconds, since the component or hbtd started.

        It is rounded up to tenths.
        """

    @property
    def hostname(self) -> str:
        """The host name in the last heartbeat that had one, verbatim; empty if none had."""
        return self.identity.rpartition("\n")[0]

    @property
    def nid(self) -> str:
        """The node ID in the last heartbeat that had one, verbatim; empty if none had."""
        return self.identity.rpartition("\n")[2]

    def enter_phase(self) -> None:
        """Set `since` and `told` to 0, because the component has entered another phase.

        Both are set to Unix times later: `since` to that of the transition, from the log, and
        `told` to that at which HSM has acknowledged the judgement.
        """
        self.since = self.told = 0.0

    def note_period(self, period: float) -> None:
        """Note a heartbeat that came `period` observed seconds after the previous one.

        In the first call for a component, and in the first one after `forget_periods`, `period` is
        ignored: the next period is counted from this heartbeat.
        """
        if self.mean is NOT_HEARD:
            self.mean = NO_PERIOD
            return
        if period > self.longest:
            self.note_longest(period)
        if self.mean is NO_PERIOD:
            self.mean = period or sys.float_info.min
            return
        # Jacobson's estimates, as TCP makes them of round trips.
        error = period - self.mean
        self.mean += error / 8
        self.deviation += (abs(error) - self.deviation) / 4

    def note_longest(self, period: float) -> None:
        """Note a period, in observed seconds, that is longer than all earlier ones."""
        tenths = ceil(period * 10)
        # Numbers that many components share take no memory.
        self.longest = _TENTHS[tenths] if tenths < len(_TENTHS) else period

    def forget_periods(self) -> None:
        """Discard all data on periods; the next period is counted from the next heartbeat."""
        self.mean, self.deviation, self.longest = NOT_HEARD, 0.0, 0.0


class Unheard(NamedTuple):
    """A set of components: those that may have sent heartbeats which have not been read yet."""

    sources: Set[str | None] = frozenset()
    """IP addresses and replicas: the set has all components last heard from one of these."""
    fresh: bool = False
    """Whether the set has all components whose last heartbeat was the first on its connection."""
    components: Set[str] = frozenset()
    """The xnames of further components in the set, whatever they were last heard from."""
    everybody: bool = False
    """Whether the set has all components."""

    def includes(self, xname: str, component: Component) -> bool:
        """Return whether a component is in this set; `xname` is its name."""
        return (
            self.everybody
            or component.source in self.sources
            or (self.fresh and component.fresh)
            or xname in self.components
        )


def sort_queue(queue: OrderedDict[str, Component]) -> None:
    """Sort the components of a queue by the times of their last heartbeats, if need be."""
    times = [component.last_heard for component in queue.values()]
    if all(map(le, times, islice(times, 1, None))):
        return
    in_order = sorted(queue.items(), key=lambda item: item[1].last_heard)
    queue.clear()
    queue.update(in_order)


def find_overdue(
    queue: OrderedDict[str, Component],
    at: float,
    limit: float,
    patience: float,
    unheard: Unheard,
    most: int,
) -> list[tuple[str, Component, float]]:
    """Return up to `most` components of a queue that have been silent for `limit` seconds or more.

    Each is a tuple of the xname, the component, and the seconds of its silence at the time `at`.
    The silence of a component in `unheard` counts as `patience` seconds shorter. All times and
    durations are in observed seconds.
    """
    overdue: list[tuple[str, Component, float]] = []
    for xname, component in queue.items():
        silent = at - component.last_heard
        if silent < limit or len(overdue) >= most:
            break
        if unheard.includes(xname, component):
            silent -= patience
            if silent < limit:
                continue
        overdue.append((xname, component, silent))
    return overdue


def find_unheard(
    queue: OrderedDict[str, Component], at: float, silent: float, unheard: Unheard, most: int
) -> list[str] | None:
    """Return the components in both `queue` and `unheard` that are silent for at least `silent`.

    The result is a list of their xnames, or `None` if there are more than `most`. `silent` is in
    observed seconds, and `at` is the present observed time.
    """
    found: list[str] = []
    for xname, component in queue.items():
        if at - component.last_heard < silent:
            break
        if unheard.includes(xname, component):
            if len(found) >= most:
                return None
            found.append(xname)
    return found
