"""Builds the self-checks, and the metrics about hbtd's own parts."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from twisted.internet.interfaces import IReactorTime

from hbtd.config.live_params import LiveParams
from hbtd.hsm.told import TimeToTell
from hbtd.monitor import Monitor
from hbtd.queries.self_checks import (
    Check,
    JournalCheck,
    SelfChecks,
    clock_check,
    connections_check,
    cursor_check,
    overdue_check,
    pause,
    queues_check,
)
from hbtd.runtime.distribution import Distribution
from hbtd.runtime.reactor_lag import ReactorLag
from hbtd.server.factory import ConnectionFactory
from hbtd.store.interface import IStore
from hbtd.store.uncommitted import Uncommitted
from hbtd.telemetry.log_reader import KAFKA
from hbtd.tracker.gaps import GapKind
from hbtd.tracker.hindrances import TroubleKind
from hbtd.tracker.observed import ObservedClock
from hbtd.tracker.tracker import Tracker


def make_self_checks(
    clock: IReactorTime,
    elapsed: Callable[[], float],
    observed: ObservedClock,
    tracker: Tracker,
    monitor: Monitor,
    params: LiveParams,
    uncommitted: Uncommitted,
    store: IStore,
    connections: Callable[[], ConnectionFactory],
) -> SelfChecks:
    """Return the service that runs all self-checks.

    `elapsed` returns the seconds of the monotonic clock that `observed` is based on, and
    `connections` returns the factory of the clients' connections.
    """
    turn = pause(clock)

    def judging() -> bool:
        return monitor.running and monitor.leading

    async def check_connections() -> str | None:
        factory = connections()
        return await connections_check(lambda: factory.of_hosts, factory, turn)()

    checks: dict[str, Check] = {
        "clock": clock_check(observed, elapsed, lambda: monitor.running),
        "queues": queues_check(tracker, turn),
        "overdue": overdue_check(tracker, observed, params, judging, turn),
        "journal": JournalCheck(uncommitted, store.usable),
        "cursor": cursor_check(store, KAFKA, judging),
        "connections": check_connections,
    }
    return SelfChecks(clock, checks)


class InsideMetrics(Collector):
    """The metrics of the time to tell HSM, of the reactor's lag, and of self-checks.

    The time to tell HSM is the time from a judgement to HSM's acknowledgement of the judgement.
    """

    def __init__(self, telling: TimeToTell, lag: ReactorLag, self_checks: SelfChecks) -> None:
        self._telling = telling
        self._lag = lag
        self._self_checks = self_checks

    def collect(self) -> Iterable[Metric]:
        """Return the metrics with their current values."""
        told = HistogramMetricFamily(
            "hbtd_hsm_told_seconds",
            "Seconds from a judgement to its acknowledgement by HSM.",
            labels=["transition"],
        )
        for transition, durations in self._telling.durations.items():
            _add(told, [transition.name.lower()], durations)
        yield told
        lag = HistogramMetricFamily(
            "hbtd_reactor_lag_seconds", "Seconds by which the reactor makes calls too late."
        )
        _add(lag, [], self._lag.lags)
        yield lag
        failures = CounterMetricFamily(
            "hbtd_self_check_failures",
            "Runs in which a self-check has found something wrong.",
            labels=["check"],
        )
        for name, count in self._self_checks.failures.items():
            failures.add_metric([name], count)
        yield failures


class HindranceMetrics(Collector):
    """The metrics of what has hindered hbtd in hearing and judging."""

    def __init__(
        self, totals: Callable[[], Mapping[GapKind | TroubleKind, tuple[int, float]]]
    ) -> None:
        """Make the collector.

        `totals` returns, for each kind of hindrances, their number and their total length in
        seconds.
        """
        self._totals = totals

    def collect(self) -> Iterable[Metric]:
        """Return the metrics with their current values."""
        totals = self._totals()
        counts = CounterMetricFamily(
            "hbtd_hindrances",
            "Times that something hindered hbtd in hearing or judging, by kind.",
            labels=["kind"],
        )
        seconds = CounterMetricFamily(
            "hbtd_hindrance_seconds",
            "Seconds in which something hindered hbtd in hearing or judging, by kind.",
            labels=["kind"],
        )
        for kind, (count, length) in totals.items():
            counts.add_metric([kind.value], count)
            seconds.add_metric([kind.value], length)
        yield counts
        yield seconds


def _add(family: HistogramMetricFamily, labels: list[str], durations: Distribution) -> None:
    bounds = [*map(str, durations.bounds), "+Inf"]
    buckets: Any = list(zip(bounds, durations.cumulative(), strict=True))
    family.add_metric(labels, buckets, durations.total)
