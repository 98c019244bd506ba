"""Internals: a description of hbtd's own parts, for operators who want to see inside."""

import platform
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from heapq import nlargest
from itertools import islice
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred

from hbtd import __version__
from hbtd.config.live_params import LiveParams
from hbtd.formats.times import format_time
from hbtd.hsm.notifier import Notifier
from hbtd.hsm.reconciler import Reconciler
from hbtd.monitor import Monitor
from hbtd.queries.guard import GuardFacts
from hbtd.queries.hindrances import show
from hbtd.queries.reconciliation import describe
from hbtd.queries.self_checks import SelfChecks
from hbtd.runtime.distribution import Distribution
from hbtd.runtime.reactor_lag import ReactorLag
from hbtd.server.factory import ConnectionFactory
from hbtd.server.overload import Overload
from hbtd.server.states import State
from hbtd.store.checkpointer import Checkpointer
from hbtd.store.interface import IStore
from hbtd.store.uncommitted import Uncommitted
from hbtd.telemetry.publisher import Publisher
from hbtd.tracker.hindrances import Hindrance
from hbtd.tracker.observed import ObservedClock
from hbtd.tracker.tracker import Tracker

MOST_ADDRESSES = 50
"""The largest number of client addresses that are listed.

If there are more addresses, those with the most connections are listed.
"""

MOST_SET_ASIDE = 100
"""The largest number of components listed as set aside; the field `Number` counts all of them."""

_PORTION = 2000
"""The most connections, or addresses, that are counted before others have their turns."""

_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]*@")

Turn = Callable[[], Deferred[None]]
"""A function that returns a Deferred, which fires when other work has had its turn."""


class Parts(NamedTuple):
    """The parts of hbtd that `Internals` describes, and functions that return further values."""

    wall: Callable[[], float]
    """A function that returns the Unix time in seconds."""
    seconds: Callable[[], float]
    """A function that returns the time of a monotonic clock, in seconds."""
    name: str
    """The name of this replica: its host and port."""
    leader: Callable[[], str | None]
    """A function that returns the leader's name; `None` if this replica does not know it."""
    store_kind: str
    """A phrase that says where the store keeps its data, such as `in etcd at http://etcd:2379`."""
    params: LiveParams
    observed: ObservedClock
    tracker: Tracker
    monitor: Monitor
    notifier: Notifier
    reconciler: Reconciler
    publisher: Publisher
    store: IStore
    entries: Callable[[], int] | None
    """A function that returns the number of entries in the log of transitions.

    `None` instead of a function if the store does not count the entries.
    """
    uncommitted: Uncommitted
    checkpointer: Checkpointer
    connections: Callable[[], ConnectionFactory]
    overload: Overload
    lag: ReactorLag
    self_checks: SelfChecks
    log_dropped: Callable[[], int]
    hindrances: Callable[[], Sequence[Hindrance]]
    """A function that returns what has hindered hbtd, in the order of `Hindrances.all`."""
    guard: GuardFacts


class Internals:
    """Describes the parts of hbtd as a JSON object."""

    def __init__(self, parts: Parts) -> None:
        """Make an object that describes `parts`; the uptime of hbtd is counted from this call."""
        self._parts = parts
        self._began, self._began_at = parts.seconds(), parts.wall()

    async def describe(self, turn: Turn) -> dict[str, Any]:
        """Return the description as a JSON object; await `turn` after each portion of the work."""
        parts = self._parts
        uptime = parts.seconds() - self._began
        return {
            "At": format_time(parts.wall()),
            "Version": __version__,
            "Python": platform.python_version(),
            "StartedAt": format_time(self._began_at),
            "Uptime": round(uptime, 3),
            "Replica": parts.name,
            "Leader": parts.leader(),
            "Leading": bool(parts.monitor.leading),
            "Options": without_credentials(parts.params.current.rendered()),
            "Observed": self._observed(),
            "Hindrances": [show(each) for each in parts.hindrances()],
            "Components": self._components(),
            "Queues": self._queues(),
            "Sweep": self._sweep(),
            "Guard": await parts.guard.describe(turn),
            "Reactor": {"Lag": described(parts.lag.lags)},
            "HSM": {**self._hsm(), "Table": await describe(parts.reconciler, turn)},
            "Store": self._store(),
            "Kafka": self._kafka(),
            "SelfChecks": self._self_checks(),
            "Connections": await describe_connections(parts.connections(), turn),
        }

    def _observed(self) -> dict[str, Any]:
        observed = self._parts.observed
        return {
            "Seconds": round(observed.now(), 3),
            "DeafSeconds": round(observed.deaf_seconds, 3),
        }

    def _components(self) -> dict[str, Any]:
        tracker, params = self._parts.tracker, self._parts.params.current
        return {
            "Healthy": tracker.healthy,
            "Warned": tracker.warned,
            "Dead": tracker.dead,
            "Most": params.max_components,
            "Heartbeats": tracker.beats,
        }

    def _queues(self) -> dict[str, int]:
        parts = self._parts
        return {
            "Uncommitted": len(parts.uncommitted),
            "HSM": parts.notifier.pending_count,
            "Kafka": parts.publisher.pending_count,
            "Accept": parts.overload.longest_queue,
        }

    def _sweep(self) -> dict[str, Any]:
        monitor = self._parts.monitor
        return {
            "Seconds": round(monitor.sweep_seconds, 6),
            "Interval": self._parts.params.current.interval,
            "Judged": {each.name.lower(): count for each, count in monitor.judged.items()},
        }

    def _hsm(self) -> dict[str, Any]:
        notifier = self._parts.notifier
        aside = islice(notifier.set_aside(), MOST_SET_ASIDE)
        now, at = self._parts.seconds(), self._parts.wall()
        durations = notifier.time_to_tell.durations
        return {
            "Ready": notifier.hsm_ready,
            "Says": notifier.health(),
            "Trouble": notifier.trouble(),
            "Waiting": notifier.pending_count,
            "Delivered": notifier.delivered_count,
            "Failed": notifier.failed_count,
            "Refused": notifier.rejected_count,
            "BatchSizes": {each.name.lower(): n for each, n in notifier.batch_sizes.items()},
            "Told": {each.name.lower(): described(durations[each]) for each in durations},
            "SetAside": {
                "Number": notifier.set_aside_count,
                "Components": [
                    {
                        "XName": culprit.judgement.component,
                        "Transition": culprit.judgement.transition.name.lower(),
                        "Since": format_time(at - (now - culprit.since)),
                        "Why": culprit.said,
                    }
                    for culprit in aside
                ],
            },
        }

    def _store(self) -> dict[str, Any]:
        parts = self._parts
        return {
            "Kind": parts.store_kind,
            "Usable": bool(parts.store.usable()),
            "Says": parts.store.health(),
            "LastNumber": parts.store.last_number(),
            "Entries": None if parts.entries is None else parts.entries(),
            "BehindSeconds": round(parts.checkpointer.behind, 3),
        }

    def _kafka(self) -> dict[str, Any]:
        publisher = self._parts.publisher
        return {
            "Connected": bool(publisher.connected),
            "Says": publisher.health(),
            "Trouble": publisher.reason,
            "Waiting": publisher.pending_count,
            "Published": publisher.published_count,
            "Dropped": publisher.dropped_count,
            "Refused": publisher.refused_count,
        }

    def _self_checks(self) -> dict[str, Any]:
        checks = self._parts.self_checks
        return {
            "Runs": checks.runs,
            "Failed": [{"Check": name, "Says": says} for name, says in checks.failed.items()],
            "Failures": dict(checks.failures),
            "LogLinesDropped": self._parts.log_dropped(),
        }


async def describe_connections(connections: ConnectionFactory, turn: Turn) -> dict[str, Any]:
    """Return the numbers of connections by lane, by state, and by client address.

    Only the addresses with the most connections are included. `turn` is awaited between portions of
    the work.
    """
    lanes = {"fast": 0, "ordinary": 0}
    states: Counter[State] = Counter()
    present = list(connections)
    for start in range(0, len(present), _PORTION):
        for each in present[start : start + _PORTION]:
            lanes["fast" if each.in_fast_lane else "ordinary"] += 1
            states[each.state] += 1
        await turn()
    hosts = list(connections.of_hosts.items())
    first: list[tuple[int, str]] = []
    for start in range(0, len(hosts), _PORTION):
        portion = ((count, host) for host, count in hosts[start : start + _PORTION])
        first = nlargest(MOST_ADDRESSES, (*first, *portion))
        await turn()
    return {
        "Open": len(present),
        "Most": connections.limits.connections,
        "ByLane": lanes,
        "ByState": {state.name.lower(): count for state, count in states.items()},
        "Addresses": len(hosts),
        "ByAddress": [{"Address": host, "Open": count} for count, host in first],
        "IdleClosed": connections.idle_closed,
    }


def described(durations: Distribution) -> dict[str, Any]:
    """Return the number, the mean and the maximum of `durations`, as the API shows them.

    Also return, for each bound of `durations`, how many durations do not exceed the bound. All
    durations are in seconds.
    """
    count = durations.count
    within: Iterable[tuple[float, int]] = zip(
        durations.bounds, durations.cumulative(), strict=False
    )
    return {
        "Count": count,
        "Mean": round(durations.total / count, 6) if count else None,
        "Longest": round(durations.longest, 6) if count else None,
        "Within": {f"{bound:g}": number for bound, number in within if count},
    }


def without_credentials(options: Mapping[str, str]) -> dict[str, str]:
    """Return options with the user names and passwords in URLs replaced by `***`."""
    return {name: _CREDENTIALS.sub("***@", value) for name, value in options.items()}
