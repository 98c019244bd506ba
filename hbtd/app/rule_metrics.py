"""The metrics of what goes by other rules: HSM's table, thresholds, maintenance."""

from collections.abc import Iterable

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from hbtd.app.metrics import counter, gauge
from hbtd.hsm.reconciler import Reconciler
from hbtd.queries.maintenance import MaintenanceFacts
from hbtd.rules.live_thresholds import LiveThresholds


class TableMetrics(Collector):
    """The metrics of the comparisons of HSM's table of components with hbtd's own records."""

    def __init__(self, reconciler: Reconciler) -> None:
        self._reconciler = reconciler

    def collect(self) -> Iterable[Metric]:
        """Return the metrics with their current values."""
        reconciler = self._reconciler
        last = reconciler.last
        found = GaugeMetricFamily(
            "hbtd_hsm_table_differences",
            "Components that HSM's table has wrong, as of the last comparison, by what is done.",
            labels=["what"],
        )
        for what, number in (
            ("told", 0 if last is None else len(last.told)),
            ("waiting", 0 if last is None else len(last.waiting)),
            ("held", 0 if last is None else len(last.held)),
            ("contested", reconciler.contested),
            ("unsettled", 0 if last is None else len(last.unsettled)),
        ):
            found.add_metric([what], number)
        yield found
        yield gauge(
            "hsm_table_unknown",
            "Components that beat and are not in HSM's table, as of the last comparison.",
            0 if last is None else len(last.unknown),
        )
        yield gauge(
            "hsm_table_absent",
            "Nodes that are enabled, and On or Ready, in HSM's table, and that were never heard.",
            len(reconciler.second_signal.absent),
        )
        yield counter(
            "hsm_table_comparisons", "Comparisons of HSM's table.", reconciler.comparisons
        )
        yield counter("hsm_table_failures", "Comparisons that came to no end.", reconciler.failures)
        yield counter(
            "hsm_table_told", "Times HSM was told again of a component.", reconciler.told_count
        )


class ThresholdMetrics(Collector):
    """The metric of the thresholds, which is there only while there are some."""

    def __init__(self, live: LiveThresholds) -> None:
        self._live = live

    def collect(self) -> Iterable[Metric]:
        """Return the metric with its current value."""
        if rows := len(self._live.current.rows):
            yield gauge(
                "thresholds", "Rows by which some components have times of their own.", rows
            )


class MaintenanceMetrics(Collector):
    """The metrics of maintenance."""

    def __init__(self, facts: MaintenanceFacts) -> None:
        """Make the collector; the caller has to update `facts` before each collection."""
        self._facts = facts

    def collect(self) -> Iterable[Metric]:
        """Return the metrics with the numbers from the last update of the `MaintenanceFacts`."""
        counts = self._facts.counts
        yield gauge("maintenances", "Maintenances that operators have set.", counts.set)
        yield gauge(
            "maintenance_away", "Components that have said that they will be away.", counts.away
        )
        components = GaugeMetricFamily(
            "hbtd_maintenance_components",
            "Tracked components in maintenance, by whether they are silent.",
            labels=["silent"],
        )
        components.add_metric(["no"], counts.components - counts.silent)
        components.add_metric(["yes"], counts.silent)
        yield components
        yield gauge(
            "maintenance_dead",
            "Dead components that are in maintenance, which is no alarm.",
            counts.dead,
        )
