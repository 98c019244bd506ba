"""hbtd as one service, which builds all parts of hbtd, and starts and stops them in order."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.logger import ILogObserver, Logger
from twisted.python.failure import Failure

from hbtd import __version__
from hbtd.access.peers import host_of
from hbtd.access.service import Access, AccessUnusable
from hbtd.api.app import make_resource
from hbtd.api.authorization import Authorization
from hbtd.api.fastlane import FastLane, MayBeat
from hbtd.api.own_host import read_own_names
from hbtd.api.routes import Role
from hbtd.app.core import Core
from hbtd.app.errors import StartupError
from hbtd.app.hints import file_hint
from hbtd.app.life_cycle import LifeCycle
from hbtd.app.listening import Listening, make_certificate, make_endpoints
from hbtd.app.metrics import (
    ConnectionMetrics,
)
from hbtd.app.stores import StoreFactory, describe_store, make_store, store_hint
from hbtd.app.supervision import Supervision
from hbtd.app.views import Views
from hbtd.config.params import Params
from hbtd.formats.counts import counted
from hbtd.net.revocation import finder
from hbtd.net.served_certificate import ServedCertificate
from hbtd.runtime.host import Host
from hbtd.runtime.log_writer import LogWriter
from hbtd.runtime.logs import LibraryLog
from hbtd.server.factory import ConnectionFactory
from hbtd.server.limits import REASONS, connections_for, limits_of
from hbtd.server.site import LimitedSite
from hbtd.store.interface import StoreUnusable
from hbtd.store.sqlite_file import StoreDamaged
from hbtd.telemetry.background import Background
from hbtd.telemetry.kafka import Kafka
from hbtd.telemetry.sender import Producer

_ETCD_PATIENCE = 5.0
"""Seconds to wait for etcd at start; then hbtd serves without it, with heartbeats in memory."""

_STOP_PATIENCE = 10.0
"""Seconds that each part has to stop, in addition to the parameter `sm_timeout`."""

_log = Logger()


class HbtdService(Service):
    """hbtd as one service: the listening ports, and everything behind them.

    Its public parts are attributes, for embedders and tests.
    """

    def __init__(
        self,
        params: Params,
        reactor: Any,
        log_observer: ILogObserver | None = None,
        connect_kafka: Callable[..., Producer] = Kafka,
        log_writer: LogWriter | None = None,
        supervision: Supervision | None = None,
        passed_sockets: Sequence[int] = (),
        host: Host = Host(),  # noqa: B008  # it has no state
        make_store: StoreFactory = make_store,
        background: Background = Background(),  # noqa: B008  # it has no state
    ) -> None:
        """Build the parts; raise `StartupError` if a file or an endpoint can't be used.

        `reactor` provides `IReactorCore`, `IReactorTime` and `IReactorTCP`. `log_observer`, unless
        it is `None`, replaces twistd's log observer. `log_writer`, if there is one, writes the
        lines of that observer, and counts the lines that were dropped. `connect_kafka` makes a
        client of Kafka. `supervision` tells systemd what hbtd does; `passed_sockets` are the file
        descriptors of the sockets that systemd has passed. `host` has the clocks and the random
        numbers. `make_store` returns the store, and `background` has the functions that make the
        thread in which messages are published on Kafka.
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
        self._host = host
        name = ascii(host.name()).strip("'")  # a header has no other characters
        user_agent = f"hbtd/{__version__} ({name or 'a host without a name'})"
        self._supervision = Supervision(reactor) if supervision is None else supervision
        self._life_cycle = LifeCycle(reactor, self._patience, self._supervision.step)
        self._starting: Deferred[None] = succeed(None)

        core = Core(
            params,
            reactor,
            user_agent,
            connect_kafka,
            lambda: self._listening.accept_queues(),
            host,
            make_store,
            background,
        )
        self.core = core
        """The parts that take heartbeats, judge, store, and tell HSM and Kafka; see `Core`."""
        self.params, self.store, self.tracker = core.params, core.store, core.tracker
        self.monitor, self.notifier, self.publisher = core.monitor, core.notifier, core.publisher
        self.replica = core.replica
        endpoints = make_endpoints(params, reactor, passed_sockets)
        certificate = make_certificate(params)
        self.access = self._make_access(certificate)
        authorization = self._make_authorization()
        self.views = Views(
            reactor,
            core,
            self.access,
            lambda: self._connections,
            self._log_dropped,
            lambda request: authorization.permits(request, Role.READER),
            host,
        )
        """The parts that answer requests: routes, queries, metrics and self-checks; see `Views`."""
        self.routes = self.views.routes
        self._site = self._make_site(authorization)
        self._connections = ConnectionFactory(
            self._site,
            self._make_fast_lane(),
            reactor,
            core.scheduler,
            host.random,
            tls=certificate is not None,
        )
        self.views.registry.register(ConnectionMetrics(self._connections, core.overload))
        if certificate is not None:
            # Clients whose certificates the old authorities have signed must present them again.
            certificate.on_new_authorities(self._connections.close_vouched_for)
            certificate.on_revoked(
                lambda revoked: self._connections.close_certified(finder(revoked))
            )
        self._listening = Listening(params, reactor, endpoints, certificate, self._connections)

    def _make_access(self, certificate: ServedCertificate | None) -> Access:
        try:
            return Access(
                self.params.current,
                self._reactor,
                certificate,
                REASONS,
                self._host.random,
                self.core.credentials,
            )
        except AccessUnusable as error:
            raise StartupError(f"{error}{file_hint(error)}", passing=True) from error

    def _log_dropped(self) -> int:
        return 0 if self._log_writer is None else self._log_writer.dropped_count

    def _make_authorization(self) -> Authorization:
        access = self.access
        return Authorization(
            access.gate,
            access.peers,
            access.refusals,
            read_own_names(self._host.name()),
            open_to_readers=self.params.current.reader_access == "any",
        )

    def _make_site(self, authorization: Authorization) -> LimitedSite:
        resource = make_resource(authorization, self.routes.api, self.routes.root)
        limits = limits_of(self.params.current)
        return LimitedSite(resource, self._reactor, limits, self._note_refusal)

    def _make_fast_lane(self) -> FastLane | None:
        params = self.params.current
        if not params.fast_lane:
            return None
        may_beat_for = None if self.access.gate.nodes_open else self._may_beat_for
        return FastLane(self.monitor, self._host.wall, may_beat_for, params.max_header_bytes)

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
        """The first listening port (`IListeningPort`) while it is bound, `None` otherwise."""
        return self._listening.port

    def reload(self, asked_by: str = "a call of reload()") -> None:
        """Read the files of certificates, keys and tokens again; see `Access.reload`.

        `asked_by` says, for the log, who or what has requested this.
        """
        self._supervision.reload(lambda: self.access.reload(asked_by))

    def fit_connections(self, files: int) -> None:
        """Lower the maximum number of connections to what the open-file limit `files` allows.

        If the maximum is lowered, log a warning. If it is low enough already, do nothing.
        """
        most = connections_for(files)
        if not self._connections.fit(most):
            _log.warn(
                "hbtd accepts {connections} at most, because of the open-file limit;"
                " --max_connections is {wanted}. Raise the limit (LimitNOFILE of the unit, or"
                " ulimit -n), or lower --max_connections.",
                connections=counted(most, "connection"),
                wanted=self.params.current.max_connections,
            )

    def setServiceParent(self, parent: Any) -> None:
        """Join the application `parent`.

        If hbtd was given a log observer, make the application use this observer for its log.
        """
        super().setServiceParent(parent)
        if self._log_observer is not None:
            parent.setComponent(ILogObserver, self._log_observer)

    def privilegedStartService(self) -> None:
        """Bind the ports; raise `StartupError` if that is not possible.

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
        """Start the parts one after another; each may use those that were started before it."""
        start, supervision = self._life_cycle.start, self._supervision
        observed = self.core.observed
        watch = partial(supervision.watch, lambda: observed.ticked_at)
        await start("the reports to systemd", watch, supervision.stopped)
        await start("the log of libraries", self._library_log.start, self._library_log.stop)
        await start("connections to neighbours", lambda: None, self._close_pools)
        await start("the store", self._open_store, self.store.close)
        await start("the replica", self.replica.startService, self.replica.stopService)
        await start("the notifier and the publisher", self._start_telling, self._stop_telling)
        troubles = self.views.troubles
        await start("the look at troubles", troubles.startService, troubles.stopService)
        hindrances = self.views.hindrances
        await start("the look for hindrances", hindrances.startService, hindrances.stopService)
        await start("access control", self.access.startService, self.access.stopService)
        keeper = self.core.silence_keeper
        await start("keeping long silences", keeper.startService, keeper.stop)
        await start("maintenance", lambda: None, self.core.maintenances.stop)
        await start("the monitor", self._start_monitor, self.monitor.stop)
        reconciler = self.core.reconciler
        await start("comparing HSM's table", reconciler.startService, reconciler.stopService)
        second = self.core.second_signal
        await start("the look for absent nodes", second.startService, second.stopService)
        trimming = self.core.trimming
        await start("trimming the log", trimming.startService, trimming.stopService)
        flaps = self.core.flap_watch
        await start("the look at flapping components", flaps.startService, flaps.stopService)
        follower = self.core.log_follower
        await start("following the log", follower.startService, follower.stopService)
        overload = self.core.overload
        await start("the watch for overload", overload.startService, overload.stopService)
        await start(
            "measuring the reactor", self.views.lag.startService, self.views.lag.stopService
        )
        checks = self.views.self_checks
        await start("the self-checks", checks.startService, checks.stopService)
        await start("the listener", self._start_accepting, self._stop_accepting)
        url = self._listening.url
        _log.info("hbtd {version} serves {url}", version=__version__, url=url)
        supervision.serving(lambda: self.views.in_words(url))

    def _start_failed(self, failure: Failure) -> None:
        if not self.running:
            return  # stopped before all parts had started
        self._supervision.failed(failure.getErrorMessage())
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

        In this order: the ports are closed, and requests in progress are answered; judgements are
        committed; judgements are sent to HSM and published on Kafka; this replica stops leading.
        Committing takes at most `sm_timeout` seconds, and sending takes at most `sm_timeout`
        seconds, too.
        """
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        _log.info("hbtd is stopping.")
        self._supervision.stopping()
        self._starting.cancel()
        await self._life_cycle.stop()
        _log.info("hbtd has stopped.")

    async def _close_pools(self) -> None:
        for agent in self.core.agents:
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

    def _start_accepting(self) -> None:
        self._listening.accept()
        # Nobody was heard before, however long the start has taken: silence counts from now on.
        self.monitor.start_observing()

    async def _stop_accepting(self) -> None:
        # From now on nodes may not be heard, so their silence doesn't count.
        self.monitor.stop_observing()
        self.core.event_hub.close()  # these answers would never end
        await self._listening.close()
