"""The composition root: builds hbtd out of its parts, and starts and stops them in order."""

import random
import socket
import time
from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry
from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.logger import ILogObserver, Logger
from twisted.python.failure import Failure

from hbtd import __version__
from hbtd.access.peers import host_of
from hbtd.access.service import Access, AccessUnusable
from hbtd.api.app import make_resource
from hbtd.api.authorization import Authorization
from hbtd.api.events import Events, encode_event, encode_missed
from hbtd.api.fastlane import FastLane, MayBeat
from hbtd.api.health import HealthSources
from hbtd.api.history import History
from hbtd.api.internals import InternalsHandler
from hbtd.api.own_host import read_own_names
from hbtd.app.errors import StartupError, naming, naming_files
from hbtd.app.etcd import connect_etcd
from hbtd.app.hints import file_hint
from hbtd.app.hsm import connect_hsm
from hbtd.app.inside import InsideMetrics, make_self_checks
from hbtd.app.life_cycle import LifeCycle
from hbtd.app.listening import Listening, make_certificate, make_endpoints
from hbtd.app.metrics import (
    CertificateMetrics,
    ConnectionMetrics,
    EtcdMetrics,
    EventMetrics,
    HistoryMetrics,
    MachineMetrics,
    Metrics,
    make_registry,
)
from hbtd.app.queries import make_queries
from hbtd.app.routes import Routes, make_routes
from hbtd.app.stores import describe_store, make_store, store_hint
from hbtd.app.troubles import Troubles
from hbtd.app.unread import UnreadHeartbeats
from hbtd.config.live_params import LiveParams
from hbtd.config.params import Params
from hbtd.etcd.client import EtcdClient
from hbtd.formats.counts import counted
from hbtd.hsm.client import HSMClient
from hbtd.hsm.notifier import Notifier
from hbtd.monitor import Monitor
from hbtd.net.client_credentials import RenewedAgent
from hbtd.net.served_certificate import ServedCertificate
from hbtd.queries.event_hub import EventHub
from hbtd.queries.internals import Internals, Parts
from hbtd.queries.machine import Machine
from hbtd.queries.summary import MachineCounts
from hbtd.replicas.alone import Alone
from hbtd.replicas.leadership import Leadership
from hbtd.replicas.remote_changes import RemoteChanges
from hbtd.replicas.replica import Replica
from hbtd.runtime.log_writer import LogWriter
from hbtd.runtime.logs import LibraryLog
from hbtd.runtime.reactor import elapsed_seconds
from hbtd.runtime.reactor_lag import ReactorLag
from hbtd.server.factory import ConnectionFactory
from hbtd.server.limits import REASONS, limits_of
from hbtd.server.overload import Overload
from hbtd.server.scheduler import Scheduler
from hbtd.server.site import LimitedSite
from hbtd.store.acknowledgements import Acknowledgements
from hbtd.store.checkpointer import Checkpointer
from hbtd.store.condition import StoreCondition
from hbtd.store.etcd import EtcdStore
from hbtd.store.interface import StoreUnusable
from hbtd.store.journal import Journal
from hbtd.store.log_follower import LogFollower
from hbtd.store.sqlite_file import StoreDamaged
from hbtd.store.trimming import Trimming
from hbtd.store.uncommitted import Uncommitted
from hbtd.telemetry.kafka import Kafka
from hbtd.telemetry.log_reader import KAFKA
from hbtd.telemetry.publisher import Publisher
from hbtd.telemetry.sender import KafkaFactory
from hbtd.tracker.observed import ObservedClock
from hbtd.tracker.tracker import Tracker

_OTHER_FILES = 128
"""Open files that are reserved for everything but clients' connections."""

_ETCD_PATIENCE = 5.0
"""Seconds to wait for etcd at start; then hbtd serves without it, with heartbeats in memory."""

_STOP_PATIENCE = 10.0
"""Seconds that each part has to stop, in addition to the parameter `sm_timeout`."""

_log = Logger()


class HbtdService(Service):
    """hbtd as one service: the listener, and everything behind it.

    Its public parts are attributes, for embedders and tests.
    """

    def __init__(
        self,
        params: Params,
        reactor: Any,
        log_observer: ILogObserver | None = None,
        connect_kafka: KafkaFactory = Kafka,
        log_writer: LogWriter | None = None,
    ) -> None:
        """Build the parts; raise `StartupError` if a file or an endpoint can't be used.

        `reactor` provides `IReactorCore`, `IReactorTime` and `IReactorTCP`. `log_observer`, unless
        it is `None`, replaces twistd's log observer; `log_writer` is what it writes with, if
        anything. `connect_kafka` makes a client of Kafka.
        """
        _log.info(
            "hbtd {version} starts. Its records are kept {where}.",
            version=__version__,
            where=describe_store(params.kv_url),
        )
        self._reactor = reactor
        self._log_observer = log_observer
        self._log_writer = log_writer
        self._library_log = LibraryLog("kafka")
        host = ascii(socket.gethostname()).strip("'")  # a header has no other characters
        self._user_agent = f"hbtd/{__version__} ({host or 'a host without a name'})"
        self._agents: list[RenewedAgent] = []
        self._life_cycle = LifeCycle(reactor, self._patience)
        self._starting: Deferred[None] = succeed(None)

        self.params = LiveParams(params)
        leadership = Leadership(elapsed_seconds)
        observed = ObservedClock(
            elapsed_seconds,
            lambda: self.params.current.warntime,
            time.thread_time,
            lambda: self.params.current.errtime,
            time.time,
        )
        etcd = self._connect_etcd()
        hsm = self._connect_hsm(leadership)
        endpoints = make_endpoints(params, reactor)
        certificate = make_certificate(params)
        self.access = self._make_access(certificate)
        self._name = f"{socket.gethostname()}:{params.port}"
        self.store = make_store(self.params, reactor, observed, etcd, self._name)
        self.tracker = Tracker(note_changes=self.store.durable, most=params.max_components)
        acknowledgements = Acknowledgements(time.time, self.tracker, self.store)
        self.notifier = Notifier(
            reactor,
            hsm,
            self.params,
            acknowledgements.note,
            random.random,
            leadership.held,
            told=acknowledgements.told,
        )
        self.event_hub = EventHub(reactor, self.store, encode_event, encode_missed)
        self.log_follower = LogFollower(
            reactor,
            time.time,
            observed,
            self.store,
            self.tracker,
            random.random,
            [self.event_hub],
        )
        self.publisher = Publisher(
            reactor, self.store, self.params, connect_kafka, random.random, leadership.held
        )
        self._scheduler = Scheduler(reactor, lambda: self.params.current.errtime)
        self._overload = Overload(
            reactor, time.time, lambda: self._listening.accept_queues(), self._scheduler
        )
        tellers = (self.notifier.tell, self.publisher.tell, self.log_follower.tell)
        uncommitted, condition = Uncommitted(), StoreCondition(self.store, reactor.seconds)
        checkpointer = Checkpointer(
            reactor, observed, self.tracker, self.store, self.params, uncommitted, condition
        )
        journal = Journal(
            reactor,
            time.time,
            self.store,
            uncommitted,
            condition,
            checkpointer,
            tellers,
            random.random,
        )
        self._unread = UnreadHeartbeats(
            reactor,
            self._scheduler,
            self._overload,
            self.tracker,
            observed,
            self.params,
            checkpointer,
            self.store.usable,
            lambda: self.replica.waiting_elsewhere,
        )
        self.monitor = Monitor(
            reactor,
            observed,
            self.tracker,
            self.store,
            journal,
            checkpointer,
            self.notifier,
            self.publisher,
            self.params,
            self._unread.unheard,
        )
        self.replica = self._make_replica(etcd, leadership, observed, checkpointer)

        self._trimming = Trimming(
            reactor, time.time, self.store, self.params, lambda: self.monitor.leading, [KAFKA]
        )

        self._troubles = self._make_troubles()
        self._machine = Machine(self.tracker)
        counts = MachineCounts(self._machine)
        self._lag = ReactorLag(reactor)
        self.self_checks = make_self_checks(
            reactor,
            observed,
            self.tracker,
            self.monitor,
            self.params,
            uncommitted,
            self.store,
            lambda: self._connections,
        )
        """The checks of what always holds, unless hbtd has a bug."""
        self.internals = self._make_internals(observed, uncommitted, checkpointer)
        """What hbtd knows about its own parts."""
        registry = self._make_registry(observed, checkpointer)
        registry.register(MachineMetrics(counts))
        self.routes = self._make_routes(registry, observed, counts)
        """All routes of the API, with the callers who may use them, and the handlers."""
        self._site = self._make_site()
        self._connections = ConnectionFactory(
            self._site,
            self._make_fast_lane(),
            reactor,
            self._scheduler,
            random.random,
            tls=certificate is not None,
        )
        registry.register(ConnectionMetrics(self._connections, self._overload))
        if certificate is not None:
            # Clients whose certificates the old authorities have signed must present them again.
            certificate.on_new_authorities(self._connections.close_vouched_for)
        self._listening = Listening(params, reactor, endpoints, certificate, self._connections)

    def _connect_etcd(self) -> EtcdClient | None:
        params = self.params.current
        if not params.kv_url.startswith(("http://", "https://")):
            return None
        names = ("kv_ca", "kv_cert", "kv_key")
        with naming_files({f"--{name}": getattr(params, name) for name in names}):
            client, agent = connect_etcd(params, self._reactor, self._user_agent)
        # A watch lasts for ever, unlike other requests.
        agent.credentials.on_change(lambda: self.replica.reconnect())
        self._agents.append(agent)
        return client

    def _connect_hsm(self, leadership: Leadership) -> HSMClient:
        with naming("--sm_ca", self.params.current.sm_ca):
            client, agent = connect_hsm(
                self.params, self._reactor, self._user_agent, leadership.held
            )
        self._agents.append(agent)
        return client

    def _make_access(self, certificate: ServedCertificate | None) -> Access:
        try:
            return Access(
                self.params.current,
                self._reactor,
                certificate,
                REASONS,
                random.random,
                [agent.credentials for agent in self._agents],
            )
        except AccessUnusable as error:
            raise StartupError(f"{error}{file_hint(error)}", passing=True) from error

    def _make_replica(
        self,
        etcd: EtcdClient | None,
        leadership: Leadership,
        observed: ObservedClock,
        checkpointer: Checkpointer,
    ) -> Replica | Alone:
        if etcd is None or not isinstance(self.store, EtcdStore):
            return Alone(leadership)
        changes = RemoteChanges(
            observed,
            self.tracker,
            checkpointer,
            self.notifier,
            self.params,
            self.monitor,
            self.log_follower.notify,
        )
        return Replica(
            etcd,
            self._reactor,
            elapsed_seconds,
            observed,
            leadership,
            self.store,
            self.monitor,
            changes,
            self.params,
            self._name,
            random.random,
            self._unread.waiting,
        )

    def _make_registry(
        self, observed: ObservedClock, checkpointer: Checkpointer
    ) -> CollectorRegistry:
        registry = make_registry(
            Metrics(
                self.tracker,
                observed,
                self.monitor,
                self.notifier,
                self.publisher,
                self.store.usable,
                self.access.refusals.counts,
                self._log_dropped,
                lambda: self.params.current.telemetry_address is not None,
            ),
            CertificateMetrics(self.access.presented),
        )
        registry.register(HistoryMetrics(self.store.last_number, self._count_entries))
        registry.register(EventMetrics(self.event_hub))
        registry.register(InsideMetrics(self.notifier.time_to_tell, self._lag, self.self_checks))
        if isinstance(self.store, EtcdStore) and isinstance(self.replica, Replica):
            registry.register(EtcdMetrics(self.store, checkpointer, self.replica.space))
        return registry

    @property
    def _count_entries(self) -> Callable[[], int] | None:
        """What counts the entries of the log; `None` if the store does not."""
        return None if isinstance(self.store, EtcdStore) else self.store.entries

    def _log_dropped(self) -> int:
        return 0 if self._log_writer is None else self._log_writer.dropped_count

    def _make_internals(
        self, observed: ObservedClock, uncommitted: Uncommitted, checkpointer: Checkpointer
    ) -> Internals:
        return Internals(
            Parts(
                time.time,
                self._reactor.seconds,
                self._name,
                lambda: self._name if self.monitor.leading else None,
                describe_store(self.params.current.kv_url),
                self.params,
                observed,
                self.tracker,
                self.monitor,
                self.notifier,
                self.publisher,
                self.store,
                self._count_entries,
                uncommitted,
                checkpointer,
                lambda: self._connections,
                self._overload,
                self._lag,
                self.self_checks,
                self._log_dropped,
            )
        )

    def _make_troubles(self) -> Troubles:
        store = self.store
        return Troubles(
            self._reactor,
            time.time,
            {
                "KvStoreReason": lambda: None if store.usable() else store.health(),
                "MsgBusReason": lambda: self.publisher.reason,
            },
        )

    def _reasons(self) -> dict[str, str]:
        texts = self._troubles.texts()
        hsm = self.notifier.trouble()
        return texts if hsm is None else {**texts, "HsmStatusReason": hsm}

    def _make_routes(
        self, registry: CollectorRegistry, observed: ObservedClock, counts: MachineCounts
    ) -> Routes:
        sources = HealthSources(
            self.monitor.store_ready,
            self.store.health,
            self.publisher.health,
            self.notifier.health,
            self._overload.health,
            self._reasons,
            counts.update,
        )
        queries = make_queries(
            self.tracker,
            self.monitor,
            self.notifier,
            self.store,
            self._machine,
            observed,
            time.time,
            self._name,
        )
        events = Events(self.tracker, self.event_hub, self.params.current.max_event_readers)
        history = History(self.tracker, self.store, time.time)
        internals = InternalsHandler(self.internals.describe)
        groups = (queries, events, history, internals)
        return make_routes(self.monitor, self.params, sources, registry, groups)

    def _make_site(self) -> LimitedSite:
        access = self.access
        own_names = read_own_names(socket.gethostname())
        authorization = Authorization(
            access.gate,
            access.peers,
            access.refusals,
            own_names,
            open_to_readers=self.params.current.reader_access == "any",
        )
        resource = make_resource(authorization, self.routes.api, self.routes.root)
        limits = limits_of(self.params.current)
        return LimitedSite(resource, self._reactor, limits, self._note_refusal)

    def _make_fast_lane(self) -> FastLane | None:
        params = self.params.current
        if not params.fast_lane:
            return None
        may_beat_for = None if self.access.gate.nodes_open else self._may_beat_for
        return FastLane(self.monitor, time.time, may_beat_for, params.max_header_bytes)

    def _note_refusal(self, address: Any, reason: str, detail: str) -> None:
        """Count and log the refusal of a request or connection of the client at an `IAddress`."""
        self.access.refusals.note(host_of(address), reason, detail)

    def _may_beat_for(self, transport: Any) -> MayBeat:
        """Return the function that decides which heartbeats may be sent on a connection."""
        return self.access.session(transport).may_beat

    def _patience(self) -> float:
        """Return how many seconds each part may take to stop."""
        return self.params.current.sm_timeout + _STOP_PATIENCE

    @property
    def port(self) -> Any:
        """The listening port (`IListeningPort`) while it is bound, `None` otherwise."""
        return self._listening.port

    def reload(self, asked_by: str = "a call of reload()") -> None:
        """Read the files of certificates, keys and tokens again; see `Access.reload`.

        `asked_by` names, for the log, what has asked for it.
        """
        self.access.reload(asked_by)

    def fit_connections(self, files: int) -> None:
        """Lower the limit of connections to what the open-file limit `files` allows.

        Log a warning if this changes the limit of connections.
        """
        most = max(files - _OTHER_FILES, 1)
        if not self._connections.fit(most):
            _log.warn(
                "Limited to {connections} by the open-file limit;"
                " --max_connections is {wanted}. Raise the limit (LimitNOFILE of the unit, or"
                " ulimit -n), or lower --max_connections.",
                connections=counted(most, "connection"),
                wanted=self.params.current.max_connections,
            )

    def setServiceParent(self, parent: Any) -> None:
        """Join the application `parent`, and make it log through hbtd's log observer, if any."""
        super().setServiceParent(parent)
        if self._log_observer is not None:
            parent.setComponent(ILogObserver, self._log_observer)

    def privilegedStartService(self) -> None:
        """Bind the port; raise `StartupError` if that is not possible.

        Connections are accepted later, when all other parts have been started.
        """
        super().privilegedStartService()
        self._life_cycle.add("the port", self._listening.close)
        self._listening.bind()

    def startService(self) -> None:
        """Start the parts; if one fails to start, stop the reactor."""
        if self.port is None:
            self.privilegedStartService()
        super().startService()
        self._starting = Deferred.fromCoroutine(self._start()).addErrback(self._start_failed)

    async def _start(self) -> None:
        """Start the parts one after another; each may use those before it until it has stopped."""
        start = self._life_cycle.start
        await start("the log of libraries", self._library_log.start, self._library_log.stop)
        await start("connections to neighbours", lambda: None, self._close_pools)
        await start("the store", self._open_store, self.store.close)
        await start("the replica", self.replica.startService, self.replica.stopService)
        await start("the notifier and the publisher", self._start_telling, self._stop_telling)
        troubles = self._troubles
        await start("the look at troubles", troubles.startService, troubles.stopService)
        await start("access control", self.access.startService, self.access.stopService)
        await start("the monitor", self._start_monitor, self.monitor.stop)
        trimming = self._trimming
        await start("trimming the log", trimming.startService, trimming.stopService)
        follower = self.log_follower
        await start("following the log", follower.startService, follower.stopService)
        overload = self._overload
        await start("the watch for overload", overload.startService, overload.stopService)
        await start("measuring the reactor", self._lag.startService, self._lag.stopService)
        checks = self.self_checks
        await start("the self-checks", checks.startService, checks.stopService)
        await start("the listener", self._listening.accept, self._stop_accepting)
        _log.info("hbtd {version} serves {url}", version=__version__, url=self._listening.url)

    def _start_failed(self, failure: Failure) -> None:
        if not self.running:
            return  # stopped before all parts had started
        if failure.check(StoreDamaged, StoreUnusable):
            _log.critical(
                "hbtd can't use its store, and stops: {error}{hint}",
                error=failure.getErrorMessage(),
                hint=store_hint(self.params.current.kv_url),
            )
        else:
            _log.failure("hbtd could not start because of an unexpected error, and stops.", failure)
        self._reactor.stop()

    def stopService(self) -> Deferred[None]:
        """Stop the parts, the last one first; return a Deferred that fires when all have stopped.

        In this order: the port is closed, and requests in progress are answered; judgements are
        committed; they are sent to HSM and published on Kafka; this replica gives up the lead.
        Committing takes at most `sm_timeout` seconds, and so does sending.
        """
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        _log.info("hbtd is stopping.")
        self._starting.cancel()
        await self._life_cycle.stop()
        _log.info("hbtd has stopped.")

    async def _close_pools(self) -> None:
        for agent in self._agents:
            await agent.closeCachedConnections()

    async def _open_store(self) -> None:
        if not self.store.shared:  # the replica opens a shared one, as soon as etcd is reachable
            await self.store.open()

    def _start_telling(self) -> None:
        self.notifier.startService()
        self.publisher.startService()

    async def _stop_telling(self) -> None:
        await gatherResults([self.notifier.stopService(), self.publisher.stopService()])

    async def _start_monitor(self) -> None:
        await self.replica.wait_until_synchronized(_ETCD_PATIENCE)
        await self.monitor.start()

    async def _stop_accepting(self) -> None:
        # From now on nodes may not be heard, so their silence doesn't count.
        self.monitor.stop_observing()
        self.event_hub.close()  # these answers would never end
        await self._listening.close()
