"""Metrics for Prometheus: read off the parts when they are asked for, so that they cost nothing."""

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from hbtd.hsm.notifier import Notifier
from hbtd.monitor import Monitor
from hbtd.server.factory import ConnectionFactory
from hbtd.store.etcd import EtcdStore
from hbtd.telemetry.publisher import Publisher
from hbtd.tracker.observed import ObservedClock
from hbtd.tracker.tracker import Tracker


class Metrics(Collector):
    """hbtd's own metrics."""

    def __init__(
        self,
        tracker: Tracker,
        observed: ObservedClock,
        monitor: Monitor,
        notifier: Notifier,
        publisher: Publisher,
        store_usable: Callable[[], bool],
        refused: Mapping[str, int],
    ) -> None:
        self._tracker = tracker
        self._observed = observed
        self._monitor = monitor
        self._notifier = notifier
        self._publisher = publisher
        self._store_usable = store_usable
        self._refused = refused

    def collect(self) -> Iterable[Metric]:
        """Read the numbers as they are now."""
        tracker, notifier, publisher = self._tracker, self._notifier, self._publisher
        yield _counter("heartbeats", "Heartbeats taken.", tracker.beats)
        components = GaugeMetricFamily("hbtd_components", "Components tracked.", labels=["state"])
        for state, count in (
            ("healthy", tracker.healthy),
            ("warned", tracker.warned),
            ("dead", tracker.dead),
        ):
            components.add_metric([state], count)
        yield components
        transitions = CounterMetricFamily(
            "hbtd_transitions", "Judgements made.", labels=["transition"]
        )
        for transition, count in self._monitor.judged.items():
            transitions.add_metric([transition.name.lower()], count)
        yield transitions
        yield _gauge("leading", "Whether this replica judges.", self._monitor.leading)
        yield _gauge("sweep_seconds", "Duration of the last sweep.", self._monitor.sweep_seconds)
        yield _counter(
            "deaf_seconds", "Seconds in which hbtd could not hear.", self._observed.deaf_seconds
        )
        yield _gauge("store_usable", "Whether the store can be used.", self._store_usable())
        yield _gauge("hsm_ready", "Whether HSM is ready.", notifier.hsm_ready)
        yield _gauge("hsm_pending", "Components HSM has yet to hear of.", notifier.pending_count)
        yield _gauge(
            "hsm_set_aside", "Components HSM refuses to hear of.", notifier.set_aside_count
        )
        yield _counter("hsm_delivered", "Judgements HSM has heard.", notifier.delivered_count)
        yield _counter("hsm_refused", "Times HSM refused a component.", notifier.rejected_count)
        yield _counter(
            "hsm_failed", "PATCHes that failed for HSM's reasons.", notifier.failed_count
        )
        yield _gauge("kafka_connected", "Whether Kafka takes messages.", publisher.connected)
        yield _gauge(
            "kafka_pending", "Messages that Kafka has yet to take.", publisher.pending_count
        )
        yield _counter("kafka_published", "Messages Kafka has taken.", publisher.published_count)
        yield _counter("kafka_dropped", "Messages that were dropped.", publisher.dropped_count)
        refusals = CounterMetricFamily(
            "hbtd_refused", "Requests and connections refused.", labels=["reason"]
        )
        for reason, count in self._refused.items():
            refusals.add_metric([reason], count)
        yield refusals


class ConnectionMetrics(Collector):
    """The metrics of clients' connections."""

    def __init__(self, connections: ConnectionFactory) -> None:
        self._connections = connections

    def collect(self) -> Iterable[Metric]:
        """Read the numbers as they are now."""
        connections = self._connections
        yield _gauge("connections", "Connections of clients.", len(connections))
        yield _counter("idle_closed", "Connections closed for silence.", connections.idle_closed)


class EtcdMetrics(Collector):
    """The metrics of a store on etcd."""

    def __init__(self, store: EtcdStore) -> None:
        self._store = store

    def collect(self) -> Iterable[Metric]:
        """Read the numbers as they are now."""
        writer, mirror = self._store.writer, self._store.mirror
        yield _counter("store_transactions", "Transactions of etcd's.", writer.transactions)
        yield _counter("store_bytes", "Bytes of keys and values in these.", writer.bytes_written)
        yield _counter("store_skipped", "Values in etcd left alone.", mirror.skipped_count)
        yield _gauge("store_requests", "Requests to the leader.", len(mirror.requests))


def make_registry(*collectors: Collector) -> CollectorRegistry:
    """Put hbtd's metrics and those of its process into a registry of their own."""
    made = CollectorRegistry()
    for collector in collectors:
        made.register(collector)
    ProcessCollector(registry=made)
    PlatformCollector(registry=made)
    GCCollector(registry=made)
    return made


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"hbtd_{name}", text, value=value)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"hbtd_{name}", text, value=float(value))
