"""Builds the core of hbtd: the parts that take heartbeats, judge, store, and tell HSM and Kafka."""

from collections.abc import Callable, Sequence
from typing import Any

from twisted.logger import Logger

from hbtd.api.events import encode_event, encode_flapping, encode_missed
from hbtd.app.errors import StartupError, naming_files
from hbtd.app.etcd import connect_etcd
from hbtd.app.hsm import connect_hsm
from hbtd.app.stores import StoreFactory
from hbtd.app.unread import UnreadHeartbeats
from hbtd.config.live_params import LiveParams
from hbtd.config.params import Params
from hbtd.etcd.client import EtcdClient
from hbtd.guard.groups import Groups, GroupsUnusable, read_groups
from hbtd.guarding.live_guard import LiveGuard
from hbtd.guarding.sharing import Sharing
from hbtd.hsm.client import HSMClient
from hbtd.hsm.notifier import Notifier
from hbtd.hsm.reconciler import Reconciler
from hbtd.hsm.second_signal import SecondSignal
from hbtd.monitor import Monitor
from hbtd.net.client_credentials import ClientCredentials, RenewedAgent
from hbtd.queries.event_hub import EventHub
from hbtd.queries.flapping import FlapWatch
from hbtd.replicas.alone import Alone
from hbtd.replicas.hearing import SILENCE
from hbtd.replicas.leadership import Leadership
from hbtd.replicas.remote_changes import RemoteChanges
from hbtd.replicas.replica import Replica
from hbtd.rules.live_thresholds import LiveThresholds
from hbtd.rules.maintenances import Maintenances
from hbtd.runtime.host import Host
from hbtd.server.overload import AcceptQueue, Overload
from hbtd.server.scheduler import Scheduler
from hbtd.store.acknowledgements import Acknowledgements
from hbtd.store.checkpointer import Checkpointer
from hbtd.store.condition import StoreCondition
from hbtd.store.etcd import EtcdStore
from hbtd.store.journal import Journal
from hbtd.store.log_follower import LogFollower
from hbtd.store.silences import SilenceKeeper
from hbtd.store.trimming import Trimming
from hbtd.store.uncommitted import Uncommitted
from hbtd.telemetry.background import Background
from hbtd.telemetry.log_reader import KAFKA
from hbtd.telemetry.publisher import Publisher
from hbtd.telemetry.security import KafkaSecurity, securely
from hbtd.telemetry.sender import Producer
from hbtd.tracker.observed import ObservedClock
from hbtd.tracker.starting import Starting, StartRule
from hbtd.tracker.tracker import Tracker

_log = Logger()

_MOST_NAMED = 20
"""The most groups that a log line names."""


class Core:
    """The parts of hbtd behind its API, such as the monitor, the store and the client of HSM.

    The parts are attributes. `Core` only builds them; `HbtdService` starts and stops them.
    """

    def __init__(
        self,
        params: Params,
        reactor: Any,
        user_agent: str,
        connect_kafka: Callable[..., Producer],
        accept_queues: Callable[[], Sequence[AcceptQueue]],
        host: Host,
        make_store: StoreFactory,
        background: Background,
    ) -> None:
        """Build the parts; raise `StartupError` if a file that an option names can't be used.

        `user_agent` is sent to etcd and HSM; `connect_kafka` makes a client of Kafka.
        `accept_queues` returns the queue of waiting connections of each listening socket. `host`
        has the clocks and the random numbers. `make_store` returns the store, and `background` has
        the functions that make the thread in which messages are published on Kafka.
        """
        self._reactor = reactor
        self._host = host
        self._user_agent = user_agent
        self.agents: list[RenewedAgent] = []
        """The HTTP clients of etcd and HSM."""
        self.credentials: list[ClientCredentials] = []
        """The credentials for etcd, HSM and Kafka; their files are read again when they change."""
        self.params = LiveParams(params)
        self.name = f"{host.name()}:{params.port}"
        """The name of this replica: its host and port."""
        leadership = Leadership(host.elapsed)
        self.observed = ObservedClock(
            host.elapsed,
            lambda: self.params.current.warntime,
            host.processor,
            lambda: self.params.current.errtime,
            host.wall,
        )
        etcd = self._connect_etcd()
        hsm = self._connect_hsm(leadership)
        self.store = make_store(
            self.params,
            reactor,
            self.observed,
            etcd,
            self.name,
            host,
            lambda xname: self.tracker.own_limits(xname),
        )
        self.tracker = Tracker(
            note_changes=self.store.durable,
            most=params.max_components,
            starting=Starting(self._start_rule),
        )
        self.thresholds = LiveThresholds(
            reactor, self.observed.now, self.tracker, self.store, self.params
        )
        self.maintenances = Maintenances(
            reactor,
            host.elapsed,
            host.wall,
            self.observed,
            self.tracker,
            self.store,
            self.params,
            lambda: self.monitor.leading and leadership.held(),
            host.random,
        )
        self.uncommitted = Uncommitted()
        acknowledgements = Acknowledgements(host.wall, self.tracker, self.store)
        self.notifier = Notifier(
            reactor,
            hsm,
            self.params,
            acknowledgements.note,
            host.random,
            leadership.held,
            host.wall,
            acknowledgements.told,
            self.uncommitted.was_heard,
        )
        self.second_signal = SecondSignal(
            reactor,
            host.wall,
            self.observed.now,
            self.params,
            self.tracker,
            lambda: self.monitor.leading and leadership.held(),
        )
        self.reconciler = Reconciler(
            reactor,
            host.wall,
            self.observed.now,
            hsm,
            self.params,
            self.tracker,
            self.uncommitted,
            self.store,
            self.notifier,
            lambda: self.monitor.leading and leadership.held(),
            self.second_signal,
        )
        self.event_hub = EventHub(reactor, self.store, encode_event, encode_missed)
        self.flap_watch = FlapWatch(
            reactor,
            host.wall,
            self.store,
            self.tracker,
            self.params,
            lambda: self.monitor.leading,
            lambda mark: self.event_hub.announce(
                encode_flapping(mark), lambda selection: selection.includes(mark.component)
            ),
        )
        self.log_follower = LogFollower(
            reactor,
            host.wall,
            self.observed,
            self.store,
            self.tracker,
            host.random,
            [self.event_hub, self.flap_watch],
        )
        self.publisher = self._make_publisher(connect_kafka, leadership, background)
        self.scheduler = Scheduler(reactor, lambda: self.params.current.errtime)
        self.overload = Overload(reactor, host.wall, accept_queues, self.scheduler)
        tellers = (self.notifier.tell, self.publisher.tell, self.log_follower.tell)
        condition = StoreCondition(self.store, reactor.seconds)
        self.checkpointer = Checkpointer(
            reactor,
            self.observed,
            self.tracker,
            self.store,
            self.params,
            self.uncommitted,
            condition,
            lambda: self.replica.synchronized,
        )
        self.silence_keeper = SilenceKeeper(
            reactor, host.wall, self.observed, self.tracker.silences, self.store, condition
        )
        journal = Journal(
            reactor,
            host.wall,
            self.store,
            self.uncommitted,
            condition,
            self.checkpointer,
            tellers,
            host.random,
            self.notifier.judged,
        )
        self.unread = UnreadHeartbeats(
            reactor,
            self.scheduler,
            self.overload,
            self.tracker,
            self.observed,
            self.params,
            self.checkpointer,
            self.store.usable,
            lambda: self.replica.waiting_elsewhere,
        )
        self.groups = self._read_groups()
        """The operator's own failure domains."""
        self.sharing = Sharing(self.store, host.elapsed, host.wall)
        """What replicas share of the guard."""
        self.guard = LiveGuard(
            reactor,
            host.wall,
            self.observed,
            self.tracker,
            self.params,
            self.sharing,
            self.groups,
            SILENCE if self.store.shared else 0.0,
        )
        self.monitor = Monitor(
            reactor,
            self.observed,
            self.tracker,
            self.store,
            journal,
            self.checkpointer,
            self.notifier,
            self.publisher,
            self.params,
            self.unread.unheard,
            self.thresholds.settle,
            self.guard,
        )
        self.replica = self._make_replica(etcd, leadership)

        self.trimming = Trimming(
            reactor, host.wall, self.store, self.params, lambda: self.monitor.leading, [KAFKA]
        )

    def _start_rule(self, xname: str) -> StartRule:
        """Return the rule by which a dead component is started; a threshold may shorten it."""
        params = self.params.current
        own = self.tracker.own_limits(xname)
        return StartRule(params.start_beats, own.over(params.warntime, params.errtime)[0])

    def _read_groups(self) -> Groups:
        path = self.params.current.groups
        if not path:
            return Groups()
        try:
            groups = read_groups(path)
        except GroupsUnusable as error:
            # The file may be repaired, or be there later.
            raise StartupError(f"--groups: {error}", passing=True) from error
        if groups.too_small:
            _log.warn(
                "These groups of {path} are never disrupted, as they have fewer than three"
                " components ({number} groups): {names}.",
                path=path,
                number=len(groups.too_small),
                names=", ".join(groups.too_small[:_MOST_NAMED]),
            )
        return groups

    def _connect_etcd(self) -> EtcdClient | None:
        params = self.params.current
        if not params.kv_url.startswith(("http://", "https://")):
            return None
        names = ("kv_ca", "kv_cert", "kv_key", "kv_login")
        with naming_files({f"--{name}": getattr(params, name) for name in names}):
            client, agent = connect_etcd(params, self._reactor, self._user_agent)
        # A watch lasts for ever, unlike other requests.
        agent.credentials.on_change(lambda: self.replica.reconnect())
        self._add(agent)
        return client

    def _connect_hsm(self, leadership: Leadership) -> HSMClient:
        names = ("sm_ca", "sm_cert", "sm_key", "sm_token")
        with naming_files({f"--{name}": getattr(self.params.current, name) for name in names}):
            client, agent = connect_hsm(
                self.params, self._reactor, self._user_agent, leadership.held, self._host.wall
            )
        self._add(agent)
        return client

    def _add(self, agent: RenewedAgent) -> None:
        self.agents.append(agent)
        self.credentials.append(agent.credentials)

    def _make_publisher(
        self,
        connect: Callable[..., Producer],
        leadership: Leadership,
        background: Background,
    ) -> Publisher:
        params = self.params.current
        names = ("telemetry_ca", "telemetry_cert", "telemetry_key", "telemetry_login")
        with naming_files({f"--{name}": getattr(params, name) for name in names}):
            security = KafkaSecurity(params)
        self.credentials.append(security.credentials)
        publisher = Publisher(
            self._reactor,
            self.store,
            self.params,
            securely(connect, security, lambda: self._reactor.callFromThread(security.look_again)),
            self._host.random,
            leadership.held,
            background,
        )
        security.on_change(publisher.renew)
        return publisher

    def _make_replica(self, etcd: EtcdClient | None, leadership: Leadership) -> Replica | Alone:
        if etcd is None or not isinstance(self.store, EtcdStore):
            return Alone(leadership, self.name)
        changes = RemoteChanges(
            self.observed,
            self.tracker,
            self.checkpointer,
            self.notifier,
            self.params,
            self.monitor,
            self.log_follower.notify,
        )
        return Replica(
            etcd,
            self._reactor,
            self._host.elapsed,
            self.observed,
            leadership,
            self.store,
            self.monitor,
            changes,
            self.params,
            self.name,
            self._host.random,
            self.unread.waiting,
        )
