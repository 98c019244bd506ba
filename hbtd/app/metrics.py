"""Metrics for Prometheus; their values are read from hbtd's parts when metrics are requested."""

from collections.abc import Callable, Iterable, Mapping, Sized
from datetime import datetime

from cryptography.x509 import Certificate
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from hbtd.hsm.notifier import Notifier
from hbtd.monitor import Monitor
from hbtd.queries.event_hub import EventHub
from hbtd.queries.summary import MachineCounts
from hbtd.replicas.space import Space
from hbtd.server.factory import ConnectionFactory
from hbtd.server.overload import Overload
from hbtd.store.checkpointer import Checkpointer
from hbtd.store.etcd import EtcdStore
from hbtd.telemetry.publisher import Publisher
from hbtd.tracker.observed import ObservedClock
from hbtd.tracker.tracker import Tracker


class Metrics(Collector):
    """The metrics of heartbeats, judgements, neighbours and refusals."""

    def __init__(
        self,
        tracker: Tracker,
        observed: ObservedClock,
        monitor: Monitor,
        notifier: Notifier,
        publisher: Publisher,
        store_usable: Callable[[], bool],
        refused: Mapping[str, int],
        log_dropped: Callable[[], int],
        telemetry: Callable[[], bool],
    ) -> None:
        self._tracker = tracker
        self._observed = observed
        self._monitor = monitor
        self._notifier = notifier
        self._publisher = publisher
        self._store_usable = store_usable
        self._refused = refused
        self._log_dropped = log_dropped
        self._telemetry = telemetry

    def collect(self) -> Iterable[Metric]:
        """Return the metrics with their current values."""
        tracker, notifier, publisher = self._tracker, self._notifier, self._publisher
        yield counter("heartbeats", "Heartbeats taken.", tracker.beats)
        components = GaugeMetricFamily("hbtd_components", "Components tracked.", labels=["state"])
        for state, count in (
            ("healthy", tracker.healthy),
            ("warned", tracker.warned),
            ("dead", tracker.dead),
        ):
            components.add_metric([state], count)
        yield components
        transitions = CounterMetricFamily(
            "hbtd_transitions", "Judgements, by transition.", labels=["transition"]
        )
        for transition, count in self._monitor.judged.items():
            transitions.add_metric([transition.name.lower()], count)
        yield transitions
        yield gauge(
            "leading", "Whether this replica leads: it judges and tells HSM.", self._monitor.leading
        )
        yield gauge(
            "sweep_seconds", "Duration of the last sweep in seconds.", self._monitor.sweep_seconds
        )
        yield counter(
            "deaf_seconds",
            "Seconds in which hbtd could not hear components.",
            self._observed.deaf_seconds,
        )
        yield gauge("store_usable", "Whether the store can be used.", self._store_usable())
        yield gauge("hsm_ready", "Whether HSM is ready for updates.", notifier.hsm_ready)
        yield gauge(
            "hsm_pending",
            "Components with a judgement that HSM has not acknowledged.",
            notifier.pending_count,
        )
        yield gauge(
            "hsm_set_aside",
            "Components set aside because their updates fail at HSM.",
            notifier.set_aside_count,
        )
        yield counter(
            "hsm_delivered", "Judgements that HSM has acknowledged.", notifier.delivered_count
        )
        yield counter(
            "hsm_refused",
            "Times a component was set aside because its updates failed.",
            notifier.rejected_count,
        )
        yield counter(
            "hsm_failed",
            "Updates that failed for reasons of HSM or the network.",
            notifier.failed_count,
        )
        yield gauge(
            "kafka_enabled", "Whether messages are to be published on Kafka.", self._telemetry()
        )
        yield gauge("kafka_connected", "Whether Kafka accepts messages.", publisher.connected)
        yield gauge(
            "kafka_pending", "Messages that Kafka has not acknowledged.", publisher.pending_count
        )
        yield counter(
            "kafka_published", "Messages that Kafka has acknowledged.", publisher.published_count
        )
        yield counter(
            "kafka_dropped",
            "Messages dropped because more than 100,000 waited.",
            publisher.dropped_count,
        )
        yield counter(
            "kafka_refused",
            "Messages dropped because Kafka refused them and accepted others.",
            publisher.refused_count,
        )
        refusals = CounterMetricFamily(
            "hbtd_refused", "Requests and connections refused.", labels=["reason"]
        )
        for reason, count in self._refused.items():
            refusals.add_metric([reason], count)
        yield refusals
        yield counter(
            "log_dropped",
            "Lines of the log that were dropped because they were not taken in time.",
            self._log_dropped(),
        )


class ConnectionMetrics(Collector):
    """The metrics of clients' connections."""

    def __init__(self, connections: ConnectionFactory, overload: Overload) -> None:
        self._connections = connections
        self._overload = overload

    def collect(self) -> Iterable[Metric]:
        """Return the metrics with their current values."""
        connections = self._connections
        yield gauge("connections", "Open connections of clients.", len(connections))
        yield counter("idle_closed", "Connections closed after a timeout.", connections.idle_closed)
        overload = self._overload
        yield gauge(
            "overloaded", "Whether clients wait before they are heard.", overload.overloaded
        )
        yield gauge("accept_queue", "Connections that wait to be accepted.", overload.longest_queue)
        yield gauge(
            "longest_wait_seconds",
            "Seconds for which a connection has waited for its turn.",
            overload.longest_wait,
        )


class CertificateMetrics(Collector):
    """The metrics of the expiry of certificates and revocation lists, and of unusable files."""

    def __init__(
        self,
        presented: Callable[[], Iterable[tuple[str, Certificate]]],
        next_update: Callable[[], datetime | None],
        unusable: Callable[[], int],
    ) -> None:
        """Make the collector.

        `presented` returns the certificates that hbtd presents: for each of them a pair of a name,
        which is the value of the label `certificate`, and the certificate. `next_update` returns
        when the first of the certificate revocation lists expires, or `None` if there is no list.
        `unusable` returns how many certificates, revocation lists, keys and secrets have files that
        can't be used.
        """
        self._presented = presented
        self._next_update = next_update
        self._unusable = unusable

    def collect(self) -> Iterable[Metric]:
        """Return the metrics with their current values."""
        expiry = GaugeMetricFamily(
            "hbtd_certificate_expiry_timestamp_seconds",
            "When a certificate that hbtd presents expires, in seconds since the epoch.",
            labels=["certificate"],
        )
        for name, certificate in self._presented():
            expiry.add_metric([name], certificate.not_valid_after_utc.timestamp())
        yield expiry
        lists = GaugeMetricFamily(
            "hbtd_revocation_list_expiry_timestamp_seconds",
            "When the first revocation list has to be renewed, in seconds since the epoch.",
        )
        next_update = self._next_update()
        if next_update is not None:
            lists.add_metric([], next_update.timestamp())
        yield lists
        yield gauge(
            "files_unusable",
            "Certificates, revocation lists, keys and secrets whose changed files can't be used.",
            self._unusable(),
        )


class MachineMetrics(Collector):
    """The metrics of cabinets, and of silent parts of the machine."""

    def __init__(self, counts: MachineCounts) -> None:
        """Make the collector; the caller has to update `counts` before each collection."""
        self._counts = counts

    def collect(self) -> Iterable[Metric]:
        """Return the metrics with the numbers from the last update of the `MachineCounts`."""
        components = GaugeMetricFamily(
            "hbtd_cabinet_components",
            "Components tracked, by cabinet; beyond 256 cabinets, the rest is cabinet other.",
            labels=["cabinet", "state"],
        )
        for cabinet, counts in self._counts.cabinets.items():
            for state, count in counts.items():
                components.add_metric([cabinet, state], count)
        yield components
        silent = GaugeMetricFamily(
            "hbtd_silent_groups",
            "Cabinets, chassis and slots with two components or more, all of them warned or dead,"
            " and none of these in maintenance.",
            labels=["type"],
        )
        for kind, count in self._counts.silent_groups.items():
            silent.add_metric([kind], count)
        yield silent


class EventMetrics(Collector):
    """The metrics of the clients that read `/events`."""

    def __init__(self, hub: EventHub) -> None:
        self._hub = hub

    def collect(self) -> Iterable[Metric]:
        """Return the metrics with their current values."""
        yield gauge("event_readers", "Clients that read /events.", len(self._hub.readers))
        yield counter(
            "event_readers_dropped",
            "Clients of /events that were dropped because they did not read.",
            self._hub.dropped_count,
        )


class FlapMetrics(Collector):
    """The metric of the components that are marked as flapping."""

    def __init__(self, marked: Callable[[], Sized]) -> None:
        """Make the collector; `marked` returns the tracked components that are marked."""
        self._marked = marked

    def collect(self) -> Iterable[Metric]:
        """Return the metric with its current value."""
        yield gauge("flapping", "Components marked as flapping.", len(self._marked()))


class HistoryMetrics(Collector):
    """The metrics of the log of transitions."""

    def __init__(self, last_number: Callable[[], int], entries: Callable[[], int] | None) -> None:
        """Make a collector of these metrics.

        `last_number` returns the number of the last entry of the log. `entries` returns how many
        entries the log has; `entries` is `None` if the store does not count entries.
        """
        self._last_number = last_number
        self._entries = entries

    def collect(self) -> Iterable[Metric]:
        """Return the metrics with their current values."""
        yield gauge(
            "history_last_number",
            "Number of the last state change in the log.",
            self._last_number(),
        )
        if self._entries is not None:
            yield gauge("history_entries", "State changes in the log.", self._entries())


class EtcdMetrics(Collector):
    """The metrics of a store in etcd."""

    def __init__(self, store: EtcdStore, checkpointer: Checkpointer, space: Space) -> None:
        self._store = store
        self._checkpointer = checkpointer
        self._space = space

    def collect(self) -> Iterable[Metric]:
        """Return the metrics with their current values."""
        writer, mirror = self._store.writer, self._store.mirror
        yield counter("store_transactions", "Transactions written to etcd.", writer.transactions)
        yield counter(
            "store_bytes", "Bytes of keys and values in these transactions.", writer.bytes_written
        )
        yield counter(
            "store_skipped", "Invalid values in etcd that were skipped.", mirror.skipped_count
        )
        yield gauge(
            "store_requests",
            "Requests to the leader that are not granted yet.",
            len(mirror.requests),
        )
        yield gauge(
            "store_behind_seconds",
            "Seconds since the last complete checkpoint began; what was heard before is stored.",
            self._checkpointer.behind,
        )
        yield gauge(
            "store_blocks",
            "Whether heartbeats are written in blocks, since all replicas read them.",
            self._store.blocks.allowed,
        )
        size = self._space.size
        if size is not None:
            yield gauge("store_size_bytes", "Size of etcd's database.", size.size)
            yield gauge("store_in_use_bytes", "Part of etcd's database in use.", size.in_use)
            if size.quota:
                yield gauge("store_quota_bytes", "Limit of etcd's database.", size.quota)


def make_registry(*collectors: Collector) -> CollectorRegistry:
    """Return a registry with `collectors` and the standard metrics of a Python process."""
    made = CollectorRegistry()
    for collector in collectors:
        made.register(collector)
    ProcessCollector(registry=made)
    PlatformCollector(registry=made)
    GCCollector(registry=made)
    return made


def counter(name: str, text: str, value: float) -> Metric:
    """Return a counter with one value; `hbtd_` is put before its name."""
    return CounterMetricFamily(f"hbtd_{name}", text, value=value)


def gauge(name: str, text: str, value: float) -> Metric:
    """Return a gauge with one value; `hbtd_` is put before its name."""
    return GaugeMetricFamily(f"hbtd_{name}", text, value=float(value))
