"""Builds the routes of the API, and the queries, metrics and self-checks behind them."""

from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.registry import Collector
from twisted.web.server import Request

from hbtd.access.service import Access
from hbtd.api.events import Events
from hbtd.api.guard import GuardHandlers, encode_statement
from hbtd.api.health import HealthSources
from hbtd.api.history import History
from hbtd.api.internals import InternalsHandler
from hbtd.api.maintenance import MaintenanceHandlers, encode_notice
from hbtd.api.picture import Picture
from hbtd.api.reconciliation import Reconciliation
from hbtd.api.thresholds import ThresholdsHandler
from hbtd.api.whatif import WhatIfHandler
from hbtd.app.core import Core
from hbtd.app.guard_metrics import GuardMetrics
from hbtd.app.hindrances import HindranceWatch, causes_of
from hbtd.app.inside import HindranceMetrics, InsideMetrics, make_self_checks
from hbtd.app.metrics import (
    CertificateMetrics,
    EtcdMetrics,
    EventMetrics,
    FlapMetrics,
    HistoryMetrics,
    MachineMetrics,
    Metrics,
    make_registry,
)
from hbtd.app.queries import make_queries
from hbtd.app.routes import Routes, make_routes
from hbtd.app.rule_metrics import MaintenanceMetrics, TableMetrics, ThresholdMetrics
from hbtd.app.stores import describe_store
from hbtd.app.troubles import Troubles
from hbtd.queries.guard import GuardFacts, concerns
from hbtd.queries.hindrances import recent
from hbtd.queries.internals import Internals, Parts
from hbtd.queries.machine import Machine, Turn
from hbtd.queries.maintenance import MaintenanceFacts
from hbtd.queries.summary import MachineCounts
from hbtd.queries.whatif import WhatIf
from hbtd.replicas.replica import Replica
from hbtd.runtime.host import Host
from hbtd.runtime.reactor_lag import ReactorLag
from hbtd.server.factory import ConnectionFactory
from hbtd.store.etcd import EtcdStore

_PARTS = {"KvStoreReason": "the store", "MsgBusReason": "Kafka", "HsmStatusReason": "HSM"}
"""What does not work, by the names of the reasons."""


class Views:
    """Builds the routes, queries and metrics of hbtd, and its self-checks.

    `troubles`, `hindrances`, `lag` and `self_checks` are services, which `HbtdService` starts and
    stops.
    """

    def __init__(
        self,
        reactor: Any,
        core: Core,
        access: Access,
        connections: Callable[[], ConnectionFactory],
        log_dropped: Callable[[], int],
        may_read: Callable[[Request], bool],
        host: Host,
    ) -> None:
        """Build the routes, queries, metrics and self-checks, which read the parts of `core`.

        `connections` returns the factory of the clients' connections, which is made later than this
        object. `log_dropped` returns how many lines of the log were dropped. `may_read` returns
        whether the sender of a request may still read events. `host` has the clocks.
        """
        self._reactor = reactor
        self._host = host
        self._core = core
        self._access = access
        self._connections = connections
        self._log_dropped = log_dropped
        self._may_read = may_read
        self.troubles = self._make_troubles()
        """The service that knows which parts of hbtd do not work, why, and since when."""
        self.hindrances = HindranceWatch(reactor, host.wall, core.observed, causes_of(core))
        """The service that knows what hinders hbtd in hearing and judging, and what has."""
        self.lag = ReactorLag(reactor)
        """The service that measures the lag of the reactor."""
        self.self_checks = make_self_checks(
            reactor,
            host.elapsed,
            core.observed,
            core.tracker,
            core.monitor,
            core.params,
            core.uncommitted,
            core.store,
            connections,
        )
        """The service that runs the self-checks."""
        self.guard = GuardFacts(
            core.guard,
            core.sharing,
            core.tracker,
            core.observed,
            core.params,
            lambda: core.replica.leader,
        )
        """The object that describes what the guard knows."""
        core.sharing.on_statement(
            lambda each: core.event_hub.announce(encode_statement(each), concerns(each))
        )
        self.internals = self._make_internals()
        """The object that describes hbtd's own parts, for `GET /internals`."""
        machine = Machine(core.tracker)
        counts = MachineCounts(machine)
        self._maintenance = MaintenanceFacts(
            core.maintenances, core.tracker, core.observed.now, core.params
        )
        core.maintenances.on_notice(
            lambda entry, what: core.event_hub.announce(
                encode_notice(what, self._maintenance.row(entry)), lambda _: True
            )
        )
        self.registry = self._make_registry(counts)
        """The registry of all metrics."""
        self.routes = self._make_routes(machine, counts)
        """All routes of the API; each says who may use it, and which handler answers."""

    def _make_registry(self, counts: MachineCounts) -> CollectorRegistry:
        core = self._core
        collectors: list[Collector] = [
            Metrics(
                core.tracker,
                core.observed,
                core.monitor,
                core.notifier,
                core.publisher,
                core.store.usable,
                self._access.refusals.counts,
                self._log_dropped,
                lambda: core.params.current.telemetry_address is not None,
            ),
            CertificateMetrics(
                self._access.presented, self._access.next_update, self._access.unusable
            ),
            HistoryMetrics(core.store.last_number, self._count_entries),
            EventMetrics(core.event_hub),
            FlapMetrics(core.flap_watch.marked),
            MachineMetrics(counts),
            MaintenanceMetrics(self._maintenance),
            TableMetrics(core.reconciler),
            ThresholdMetrics(core.thresholds),
            GuardMetrics(self.guard),
            InsideMetrics(core.notifier.time_to_tell, self.lag, self.self_checks),
            HindranceMetrics(self.hindrances.totals),
        ]
        if isinstance(core.store, EtcdStore) and isinstance(core.replica, Replica):
            collectors.append(EtcdMetrics(core.store, core.checkpointer, core.replica.space))
        return make_registry(*collectors)

    @property
    def _count_entries(self) -> Callable[[], int] | None:
        """The function that counts the entries of the log; `None` if the store does not count."""
        store = self._core.store
        return None if isinstance(store, EtcdStore) else store.entries

    def _make_internals(self) -> Internals:
        core = self._core
        return Internals(
            Parts(
                self._host.wall,
                self._reactor.seconds,
                core.name,
                lambda: core.replica.leader,
                describe_store(core.params.current.kv_url),
                core.params,
                core.observed,
                core.tracker,
                core.monitor,
                core.notifier,
                core.reconciler,
                core.publisher,
                core.store,
                self._count_entries,
                core.uncommitted,
                core.checkpointer,
                self._connections,
                core.overload,
                self.lag,
                self.self_checks,
                self._log_dropped,
                self.hindrances.all,
                self.guard,
            )
        )

    def in_words(self, url: str) -> str:
        """Return a line about hbtd's state, for `systemctl status`.

        The line says that hbtd serves at `url`, how many components are in which state, and which
        neighbours or parts of hbtd do not work.
        """
        tracker = self._core.tracker
        counts = (
            f"{tracker.healthy:,} heartbeating, {tracker.warned:,} warned, {tracker.dead:,} dead"
        )
        # What the options leave out is no trouble.
        params = self._core.params.current
        chosen = {
            "HsmStatusReason": params.nosm,
            "MsgBusReason": params.telemetry_address is None,
        }
        troubles = [
            f"{_PARTS[name]}: {text}"
            for name, text in self._reasons().items()
            if not chosen.get(name)
        ]
        return "; ".join([f"Serving {url}: {counts}", *troubles])

    def _make_troubles(self) -> Troubles:
        core = self._core
        return Troubles(
            self._reactor,
            self._host.wall,
            {
                "KvStoreReason": lambda: None if core.store.usable() else core.store.health(),
                "MsgBusReason": lambda: core.publisher.reason,
            },
        )

    def _reasons(self) -> dict[str, str]:
        texts = self.troubles.texts()
        hsm = self._core.notifier.trouble() or self._core.reconciler.trouble()
        return texts if hsm is None else {**texts, "HsmStatusReason": hsm}

    def _health_reasons(self) -> dict[str, str]:
        reasons, disrupted = self._reasons(), self.guard.trouble()
        return reasons if disrupted is None else {**reasons, "Guard": disrupted}

    def _make_routes(self, machine: Machine, counts: MachineCounts) -> Routes:
        core, maintenance = self._core, self._maintenance

        async def count(turn: Turn) -> None:
            await counts.update(turn)
            await maintenance.update(turn)

        sources = HealthSources(
            core.monitor.store_ready,
            core.store.health,
            core.publisher.health,
            core.notifier.health,
            core.overload.health,
            self._health_reasons,
            count,
            lambda: len(core.tracker),
            lambda: recent(self.hindrances.all(), self._host.wall()),
            core.second_signal.health,
        )
        queries = make_queries(
            core.tracker,
            core.monitor,
            core.notifier,
            core.reconciler,
            core.store,
            core.uncommitted,
            machine,
            core.observed,
            self._host.wall,
            core.name,
            lambda: core.replica.leader,
            self.hindrances.all,
            maintenance,
            core.flap_watch,
            lambda xname: core.thresholds.current.name_of(xname),
            self.guard,
        )
        most = core.params.current.max_event_readers
        events = Events(core.tracker, core.event_hub, most, self._may_read)
        history = History(core.tracker, core.store, self._host.wall)
        internals = InternalsHandler(self.internals.describe)
        last_number = core.store.last_number
        picture = Picture(
            machine, lambda: len(core.tracker), last_number, self._host.wall, maintenance.marks
        )
        reconciliation = Reconciliation(core.reconciler, lambda: core.replica.leader)
        wall = self._host.wall
        whatif = WhatIf(core.tracker, core.observed, wall, core.store, core.silence_keeper)
        guard = GuardHandlers(core.guard, self.guard)
        groups = (
            queries,
            events,
            history,
            internals,
            picture,
            reconciliation,
            WhatIfHandler(whatif, lambda: core.params.current, wall),
            ThresholdsHandler(core.thresholds, core.params, core.tracker),
            guard,
            MaintenanceHandlers(core.maintenances, maintenance, core.tracker),
        )
        return make_routes(
            core.monitor, core.params, sources, self.registry, groups, core.thresholds.times
        )
