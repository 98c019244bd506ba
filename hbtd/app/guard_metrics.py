"""The metrics of the guard by failure domain."""

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from hbtd.queries.guard import GuardFacts


class GuardMetrics(Collector):
    """The metrics of disruptions and of deaths that wait; only the leader has any."""

    def __init__(self, facts: GuardFacts) -> None:
        self._facts = facts

    def collect(self) -> Iterable[Metric]:
        """Return the metrics with their current values."""
        disrupted = GaugeMetricFamily(
            "hbtd_guard_disrupted", "Failure domains that are disrupted.", labels=["kind"]
        )
        for kind, number in self._facts.disrupted.items():
            disrupted.add_metric([kind.value], number)
        yield disrupted
        yield GaugeMetricFamily(
            "hbtd_guard_held", "Components whose deaths wait.", value=self._facts.held
        )
        began = CounterMetricFamily(
            "hbtd_guard_disruptions", "Disruptions that were stated.", labels=["kind"]
        )
        ended = CounterMetricFamily(
            "hbtd_guard_ended", "Disruptions whose ends were stated.", labels=["kind"]
        )
        for kind, begins, ends in self._facts.stated:
            began.add_metric([kind.value], begins)
            ended.add_metric([kind.value], ends)
        yield began
        yield ended
