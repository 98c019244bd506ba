"""The composition root: builds hbtd out of its parts, starts it and ends it in good order."""

import os
import random
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from treq.client import HTTPClient
from twisted.application.service import Service
from twisted.internet.abstract import FileDescriptor
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint, serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IProtocolFactory, IStreamServerEndpoint
from twisted.internet.task import deferLater
from twisted.logger import ILogObserver, Logger
from twisted.python.failure import Failure
from twisted.web.client import Agent

from hbtd import __version__
from hbtd.access.peers import host_of
from hbtd.access.service import Access, AccessUnusable
from hbtd.api.app import all_routes, make_resource
from hbtd.api.authorization import Authorization
from hbtd.api.fastlane import FastLane, MayBeat
from hbtd.api.health import Health, HealthSources
from hbtd.api.heartbeats import Heartbeats
from hbtd.api.params import Parameters
from hbtd.api.states import States
from hbtd.app.etcd import connect_etcd
from hbtd.app.metrics import ConnectionMetrics, EtcdMetrics, Metrics, registry
from hbtd.config.params import LiveParams, Params
from hbtd.etcd.client import EtcdClient
from hbtd.hsm.client import HSMClient
from hbtd.hsm.fencing import FencedAgent
from hbtd.hsm.notifier import Notifier
from hbtd.monitor import Monitor
from hbtd.net.http_client import BoundedPool, PlainAgent
from hbtd.net.served_certificate import ServedCertificate, serve_files, serve_identity
from hbtd.net.tls import TLSUnusable, client_policy, ephemeral_identity
from hbtd.replicas.replica import Replica
from hbtd.runtime.logs import LibraryLog
from hbtd.runtime.reactor import elapsed_seconds
from hbtd.server.factory import ConnectionFactory
from hbtd.server.limits import REASONS, limits_of
from hbtd.server.site import LimitedSite
from hbtd.server.write_through import TLSFactory
from hbtd.store.etcd import EtcdStore
from hbtd.store.interface import StoreUnusable
from hbtd.store.memory import MemoryStore
from hbtd.store.sqlite import SqliteStore, StoreDamaged
from hbtd.telemetry.kafka import Kafka
from hbtd.telemetry.publisher import KafkaFactory, Publisher
from hbtd.tracker.observed import ObservedClock
from hbtd.tracker.tracker import Tracker

_BACKLOG = 1024
"""Connections that may wait to be accepted: a whole cabinet boots at once."""

_OTHER_FILES = 128
"""Open files that are kept for all that is no connection of a client's."""

_DRAIN = 2.0
"""Seconds that requests in hand get to be finished when hbtd ends."""

_ETCD_PATIENCE = 5.0
"""Seconds for which a start waits for etcd, before heartbeats are taken into memory alone."""

_log = Logger()


class StartupError(Exception):
    """hbtd can't start; the message says in one line why."""


class HbtdService(Service):
    """hbtd as one service: the listener, and everything behind it.

    Its parts are attributes, for whoever embeds it and for tests.
    """

    def __init__(
        self,
        params: Params,
        reactor: Any,
        log_observer: ILogObserver | None = None,
        connect_kafka: KafkaFactory = Kafka,
    ) -> None:
        """Build the parts; raises `StartupError` when a file or an endpoint can't be used.

        `reactor` is Twisted's (`IReactorCore`, `IReactorTime`, `IReactorTCP`), `log_observer`
        what twistd is to log with, if not with its own.
        """
        self._reactor = reactor
        self._log_observer = log_observer
        self.params = LiveParams(params)
        self._pools: list[BoundedPool] = []
        observed = ObservedClock(elapsed_seconds, lambda: self.params.current.warntime)
        user_agent = f"hbtd/{__version__} ({socket.gethostname()})"
        etcd = None
        if params.kv_url.startswith(("http://", "https://")):
            with _naming("--kv_ca, --kv_cert, --kv_key", params.kv_url):
                etcd, pool = connect_etcd(params, reactor, user_agent)
                self._pools.append(pool)
        self.store = _make_store(params.kv_url, reactor, observed, etcd)
        self.tracker = Tracker(note_changes=self.store.durable, most=params.max_components)
        pool = BoundedPool(reactor)
        self._pools.append(pool)
        with _naming("--sm_ca", params.sm_ca):
            agent = PlainAgent(Agent(reactor, client_policy(params.sm_ca), pool=pool))
        self._endpoint, tls = self._make_endpoint(params)
        try:
            self.access = Access(params, reactor, tls, REASONS)
        except AccessUnusable as error:
            raise StartupError(str(error)) from error
        guard = Authorization(self.access.gate, self.access.peers, self.access.refusals)
        self.notifier = Notifier(
            reactor,
            HSMClient(
                HTTPClient(FencedAgent(agent, self._may_tell)), reactor, self.params, user_agent
            ),
            self.params,
            self.store.delivered,
            random.random,
            self._may_tell,
        )
        self.publisher = Publisher(reactor, self.params, connect_kafka)
        self.monitor = Monitor(
            reactor,
            observed,
            self.tracker,
            self.store,
            self.notifier,
            self.publisher,
            self.params,
        )
        self.replica: Replica | None = None
        """What makes this hbtd one of several; `None` with a store of its own."""
        if etcd is not None and isinstance(self.store, EtcdStore):
            name = f"{socket.gethostname()}:{params.port}"
            self.replica = Replica(
                etcd,
                reactor,
                elapsed_seconds,
                observed,
                self.store,
                self.monitor,
                self.params,
                name,
            )
        metrics = [
            Metrics(
                self.tracker,
                observed,
                self.monitor,
                self.notifier,
                self.publisher,
                self.store.usable,
                self.access.refusals.counts,
            ),
            *([EtcdMetrics(self.store)] if isinstance(self.store, EtcdStore) else []),
        ]
        sources = HealthSources(
            self.monitor.ready, self.store.health, self.publisher.health, self.notifier.health
        )
        collectors = registry(*metrics)
        health = Health(sources, collectors)
        groups = (
            Heartbeats(self.monitor, guard),
            States(self.monitor),
            Parameters(self.params, guard),
            health,
        )
        resource = make_resource(
            all_routes(group.routes() for group in groups), health.root_routes()
        )
        self._site = LimitedSite(resource, reactor, limits_of(params), self._note_refusal)
        lane = None
        if params.fast_lane:
            may_beat_of = None if self.access.gate.nodes_open else self._may_beat_of
            lane = FastLane(self.monitor, time.time, may_beat_of, params.max_header_bytes)
        self._connections = ConnectionFactory(self._site, lane, reactor)
        if tls is not None:
            # Whom these no longer vouch for has to show who they are anew.
            tls.on_new_authorities(self._connections.close_vouched_for)
        collectors.register(ConnectionMetrics(self._connections))
        self._listener: IProtocolFactory = (
            self._connections
            if tls is None
            else TLSFactory(tls, False, self._connections, clock=reactor)
        )
        self._library_log = LibraryLog("kafka")
        self._starting: Deferred[None] = succeed(None)
        self.port: Any = None
        """The listening port (`IListeningPort`), while it is bound."""

    def _note_refusal(self, address: Any, reason: str, detail: str) -> None:
        """Take note that somebody at an `IAddress` was refused something."""
        self.access.refusals.note(host_of(address), reason, detail)

    def _may_beat_of(self, transport: Any) -> MayBeat:
        """Have something that tells for which components heartbeats may come from a transport."""
        return self.access.visitor(transport).may_beat

    def _may_tell(self) -> bool:
        """Whether HSM is ours to tell of anything."""
        return self.replica is None or self.replica.election.held

    def _make_endpoint(
        self, params: Params
    ) -> tuple[IStreamServerEndpoint, ServedCertificate | None]:
        """Find out where to listen, and with which certificate, if any."""
        if params.listen:
            with _naming("--listen", params.listen):
                return serverFromString(self._reactor, params.listen), None
        endpoint: IStreamServerEndpoint
        if socket.has_dualstack_ipv6():
            endpoint = TCP6ServerEndpoint(self._reactor, params.port, _BACKLOG, "::")
        else:
            endpoint = TCP4ServerEndpoint(self._reactor, params.port, _BACKLOG)
        if not params.tls:
            return endpoint, None
        if params.tls_cert:
            with _naming("--tls_cert, --tls_key, --tls_client_ca", params.tls_cert):
                return endpoint, serve_files(params.tls_cert, params.tls_key, params.tls_client_ca)
        identity = ephemeral_identity()
        _log.info(
            "No certificate given: serving a self-signed one made just now,"
            " SHA-256 fingerprint {fingerprint}.",
            fingerprint=identity.fingerprint,
        )
        with _naming("--tls_client_ca", params.tls_client_ca):
            return endpoint, serve_identity(identity, params.tls_client_ca)

    def reload(self) -> None:
        """Read certificates, keys and tokens again; what can't be used leaves the old in place."""
        self.access.reload()

    def fit_connections(self, files: int) -> None:
        """Have no more connections than so many open files allow for, and say so."""
        most = max(files - _OTHER_FILES, 1)
        if not self._connections.fit(most):
            _log.warn(
                "No more than {most} connections can be open, for want of files; --max_connections"
                " is {wanted}.",
                most=most,
                wanted=self.params.current.max_connections,
            )

    def setServiceParent(self, parent: Any) -> None:
        """Join an application, and have it log our way."""
        super().setServiceParent(parent)
        if self._log_observer is not None:
            parent.setComponent(ILogObserver, self._log_observer)

    def privilegedStartService(self) -> None:
        """Bind the port; raises `StartupError` when it can't be had."""
        super().privilegedStartService()
        outcome: list[Any] = []
        self._endpoint.listen(self._listener).addBoth(outcome.append)
        if not outcome:
            raise StartupError(f"--listen={self.params.current.listen!r} does not bind at once")
        (port,) = outcome
        if isinstance(port, Failure):
            raise StartupError(f"can't listen: {_why(port)}") from port.value
        self.port = port
        # Whoever connects waits until we know what the store knows.
        if isinstance(port, FileDescriptor):
            port.stopReading()

    def startService(self) -> None:
        """Start everything."""
        if self.port is None:
            self.privilegedStartService()
        super().startService()
        self._library_log.start()
        self._starting = Deferred.fromCoroutine(self._start()).addErrback(self._start_failed)

    async def _start(self) -> None:
        if self.replica is None:
            await self.store.open()
        self.access.startService()
        self.notifier.startService()
        self.publisher.startService()
        if self.replica is not None:
            self.replica.startService()
            await self.replica.ready(_ETCD_PATIENCE)
        await self.monitor.start()
        if isinstance(self.port, FileDescriptor):
            self.port.startReading()
        _log.info("hbtd {version} serves {url}", version=__version__, url=self._url())

    def _url(self) -> str:
        """Write where we listen, for people."""
        assert self.port is not None
        address = self.port.getHost()
        if isinstance(address, IPv4Address | IPv6Address):
            host = f"[{address.host}]" if ":" in address.host else address.host
            scheme = "https" if isinstance(self._listener, TLSFactory) else "http"
            return f"{scheme}://{host}:{address.port}"
        if isinstance(address, UNIXAddress) and address.name is not None:
            return "unix:" + os.fsdecode(address.name)
        return str(address)

    def _start_failed(self, failure: Failure) -> None:
        if not self.running:
            return  # it was told to end before it had begun
        if failure.check(StoreDamaged, StoreUnusable):
            _log.critical("hbtd can't use its store: {error}", error=failure.getErrorMessage())
        else:
            _log.failure("hbtd could not start.", failure)
        self._reactor.stop()

    def stopService(self) -> Deferred[None]:
        """End in good order, in a few seconds more than `sm_timeout` at most.

        No new connections; the requests in hand are finished; what has been judged is told to HSM
        and Kafka.
        """
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        _log.info("hbtd is ending.")
        self._starting.cancel()
        self.monitor.stop_listening()
        await self._stop_listening()
        if self.access.running:
            await self.access.stopService()
        await self.monitor.stop()
        await gatherResults([self.notifier.stopService(), self.publisher.stopService()])
        if self.replica is not None:
            await self.replica.stopService()
        await self.store.close()
        for pool in self._pools:
            await pool.closeCachedConnections()
        self._library_log.stop()
        _log.info("hbtd has ended.")

    async def _stop_listening(self) -> None:
        self._site.closing = True
        port, self.port = self.port, None
        if port is not None:
            await _maybe(port.stopListening())
        deadline = self._reactor.seconds() + _DRAIN
        while self._connections.busy and self._reactor.seconds() < deadline:
            await deferLater(self._reactor, 0.02)
        self._connections.close()


def _make_store(
    kv_url: str, reactor: Any, observed: ObservedClock, etcd: EtcdClient | None
) -> MemoryStore | SqliteStore | EtcdStore:
    """Make the store that a `kv_url` names; it has been checked."""
    if etcd is not None:
        return EtcdStore(etcd, time.time)
    if kv_url == "mem:":
        return MemoryStore()
    return SqliteStore(kv_url.removeprefix("sqlite:"), reactor, observed.now)


@contextmanager
def _naming(option: str, value: str) -> Iterator[None]:
    """Turn what goes wrong with an option's value into a `StartupError` that names both."""
    try:
        yield
    except TLSUnusable as error:
        raise StartupError(f"{option}: {error}") from error
    except Exception as error:  # endpoints are plugins, which raise what they like
        kind = type(error).__name__
        raise StartupError(f"{option}={value!r} can't be used: {kind}: {error}") from error


def _why(failure: Failure) -> str:
    """Say in words why a port could not be had."""
    error = failure.value
    if isinstance(error, CannotListenError):
        return f"port {error.port}: {getattr(error.socketError, 'strerror', error.socketError)}"
    return failure.getErrorMessage()


async def _maybe(result: Deferred[None] | None) -> None:
    """Await what may be a Deferred."""
    if result is not None:
        await result
