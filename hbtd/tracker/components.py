"""The data of tracked components, and the search for those whose heartbeats are overdue."""

import sys
from collections import OrderedDict
from collections.abc import Set
from itertools import islice
from math import ceil
from operator import le
from typing import Final, NamedTuple

NOT_HEARD: Final = -1.0
"""The value of `Component.mean` before the first period between two heartbeats has begun."""

NO_PERIOD: Final = 0.0
"""The value of `Component.mean` while the first period has begun, but not ended."""

LONG_TIMES: Final = 2.0
"""The number of mean periods above which a silence is long; see `hbtd.tracker.silences`."""

_TENTHS: Final = tuple(i / 10 for i in range(3601))


def rounded_up(seconds: float) -> float:
    """Return `seconds`, up to 360 s rounded up to the next 0.1 s.

    Numbers that many components share take no memory.
    """
    tenths = ceil(seconds * 10)
    return _TENTHS[tenths] if tenths < len(_TENTHS) else seconds


def identity_of(hostname: str, nid: str) -> str:
    """Return one text that consists of a host name and a node ID (NID).

    It takes half the memory of two texts.
    """
    return f"{hostname}\n{nid}"


class Component:
    """The data of a tracked component: its last heartbeat, latest transition, and periods."""

    __slots__ = (
        "deviation",
        "floor",
        "fresh",
        "identity",
        "last_heard",
        "longest",
        "mean",
        "notable",
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
        """The source of the last heartbeat: the sender's IP address, if this replica took it.

        If another replica took the heartbeat, it is the name of that replica; `None` if not known.
        """
        self.fresh = fresh
        """Whether the last heartbeat was the first on its connection."""
        self.identity = ""
        """The host name and the NID in the last heartbeat that had them; see `identity_of`."""
        self.since = 0.0
        """The Unix time of the judgement on the latest transition; 0 if not known yet."""
        self.told = 0.0
        """The Unix time at which HSM acknowledged the latest transition; 0 if not known."""
        self.mean = NOT_HEARD
        """The mean period of the heartbeats, in observed seconds, weighted towards the latest ones.

        `Tracker.beat_again` says which periods are counted. The value is 0 or less (`NO_PERIOD`,
        `NOT_HEARD`) while no period is known, because at most one heartbeat has been taken since
        the component or hbtd started.
        """
        self.deviation = 0.0
        """The mean deviation of periods from `mean`, in observed seconds, weighted like `mean`."""
        self.longest = 0.0
        """The longest period between two heartbeats since the component or hbtd started.

        It is in observed seconds. Values up to 360 s are rounded up to the next 0.1 s.
        """
        self.floor = 0.0
        """The longest period since the component or hbtd started that was not kept, or 0.

        All longer ones were kept as long silences (`hbtd.tracker.silences`). The value is rounded
        like `longest`, and not above it.
        """
        self.notable = 0.0
        """The period, in observed seconds, above which one is longer than any before, or too long.

        It is the least of `floor` and twice the mean period: a period that is not longer changes
        neither `longest` nor `floor`, and is no long silence. So a heartbeat needs one comparison.
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

        Later, `since` is set to the Unix time of the transition, which is read from the log of
        transitions, and `told` to the Unix time at which HSM acknowledged the transition.
        """
        self.since = self.told = 0.0

    def note_period(self, period: float) -> None:
        """Update `mean`, `deviation` and `longest`, because a heartbeat has ended a period.

        `period` is the time since the previous heartbeat, in observed seconds. It is ignored in the
        first call for a component, and in the first call after `forget_periods`: then this
        heartbeat only begins the first period.
        """
        if self.mean is NOT_HEARD:
            self.mean = NO_PERIOD
            return
        if period > self.longest:
            self.longest = rounded_up(period)
        if self.mean is NO_PERIOD:
            self.mean = period or sys.float_info.min
        else:
            # Jacobson's estimates, as TCP makes them of round trips.
            error = period - self.mean
            self.mean += error / 8
            self.deviation += (abs(error) - self.deviation) / 4
        # Mostly it is the same object as `floor`, which takes no memory.
        twice = LONG_TIMES * self.mean
        self.notable = twice if twice < self.floor else self.floor

    def note_longest(self, period: float) -> None:
        """Set `longest` to `period`, in observed seconds, unless it has a longer one."""
        if period > self.longest:
            self.longest = rounded_up(period)

    def raise_floor(self, period: float) -> None:
        """Set `floor` to `period`, in observed seconds, unless it has a longer one."""
        if period > self.floor:
            self.floor = rounded_up(period)
            self.notable = min(self.floor, LONG_TIMES * self.mean)

    def forget_periods(self) -> None:
        """Discard all data on periods; the next heartbeat begins a new first period."""
        self.mean, self.deviation, self.longest = NOT_HEARD, 0.0, 0.0
        self.floor = self.notable = 0.0


class Unheard(NamedTuple):
    """The set of components whose heartbeats may have arrived without having been read yet.

    A component is in the set if at least one of the four fields includes it.
    """

    sources: Set[str | None] = frozenset()
    """The sources of heartbeats (IP addresses, names of replicas) whose components are in the set.

    A component is in the set if the source of its last heartbeat, `Component.source`, is in
    `sources`.
    """
    fresh: bool = False
    """Whether components whose last heartbeat was the first on its connection are in the set."""
    components: Set[str] = frozenset()
    """The xnames of components that are in the set, whatever the source of their heartbeats is."""
    everybody: bool = False
    """Whether all components are in the set."""

    def includes(self, xname: str, component: Component) -> bool:
        """Return whether the component `component`, whose name is `xname`, is in this set."""
        return (
            self.everybody
            or component.source in self.sources
            or (self.fresh and component.fresh)
            or xname in self.components
        )


def sort_queue(queue: OrderedDict[str, Component]) -> None:
    """Sort a queue in place by the times of its components' last heartbeats, the earliest first."""
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
    fixed: bool = False,
) -> list[tuple[str, Component, float]]:
    """Return up to `most` components of a queue that have been silent for `limit` seconds or more.

    The result has, for each of these components, a tuple of its xname, the component, and its
    silence at the time `at`. For a component in `unheard`, the silence is reduced by `patience`
    before it is compared with `limit`. All times and durations are in observed seconds.

    If `fixed` is true, `limit` is an observed time, the same for all components of the queue, and
    `at` takes the place of their silence.
    """
    overdue: list[tuple[str, Component, float]] = []
    if fixed and at < limit:
        return overdue
    for xname, component in queue.items():
        silent = at if fixed else at - component.last_heard
        if silent < limit or len(overdue) >= most:
            break
        if unheard.includes(xname, component):
            silent -= patience
            if silent < limit:
                continue
        overdue.append((xname, component, silent))
    return overdue


def find_unheard(
    queue: OrderedDict[str, Component],
    at: float,
    silent: float,
    unheard: Unheard,
    most: int,
    fixed: bool = False,
) -> list[str] | None:
    """Return the xnames of long-silent components that are in both `queue` and `unheard`.

    A component is long-silent if it has been silent for `silent` observed seconds or more at `at`,
    the current observed time; if `fixed` is true, `silent` is an observed time, and all components
    of the queue are long-silent from then on. Return `None` if there are more than `most` such
    components.
    """
    found: list[str] = []
    for xname, component in queue.items():
        if (at if fixed else at - component.last_heard) < silent:
            break
        if unheard.includes(xname, component):
            if len(found) >= most:
                return None
            found.append(xname)
    return found
