"""A world in which replicas of hbtd share their etcd with an original hbtd.

The original is the stand-in that the tests of faults use, with its clients and its server in a
simulated process. One host runs it, or hbtd in its place. Clocks are right, etcd loses no data, and
nobody changes parameters: what happens then is not promised. HSM knows all nodes from the start,
as by a discovery, and others leave its table alone: an original's words are in it already.
"""

from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

import orjson
from treq.client import HTTPClient
from twisted.internet.defer import Deferred
from twisted.web.client import Agent, readBody
from twisted.web.http_headers import Headers
from twisted.web.server import Site

from hbtd.app.etcd import connect_etcd
from hbtd.app.stores import StoreFactory
from hbtd.etcd.errors import EtcdRefused, EtcdUnavailable
from hbtd.net.http_client import WholeBody
from hbtd.simulator.bulk_update import Update
from hbtd.simulator.hsm_table import ComponentState
from hbtd.tracker.transitions import Transition
from tests.simulation.nodes import Node
from tests.simulation.process import Process, ProcessReactor
from tests.simulation.replica_oracle import MixedOracle
from tests.simulation.replicated import HOSTS, ReplicatedWorld
from tests.simulation.server import EPOCH, PORT, Server
from tests.support.original_hbtd import OriginalHbtd
from tests.support.original_http import OriginalAPI

_USER_AGENT = "original"

_START_AGAIN = 1.0
"""Seconds after which a start of the original that etcd has prevented is tried again."""

_SM_TIMEOUT = 10.0


class MixedServer(Server):
    """A host that runs the original hbtd or, in its place, this one."""

    wants_original = True
    """Whether the next process is one of the original."""
    runs_original = True
    """Whether the process is one of the original, or the last one was if there is none."""
    on_judged: Callable[[str, Transition], object] = staticmethod(lambda name, what: None)
    """Called with each component that the original is about to tell HSM of."""
    _numbers = 0

    def _begin(self, process: Process, reactor: ProcessReactor) -> None:
        self.runs_original = self.wants_original
        if not self.runs_original:
            super()._begin(process, reactor)
            return
        self.service = None
        self._numbers += 1
        client, etcd_agent = connect_etcd(self.params, reactor, _USER_AGENT)
        # treq's own way to send a body takes turns of the reactor that runs this, not the world's.
        http = HTTPClient(Agent(reactor), data_to_body_producer=WholeBody)
        hbtd = OriginalHbtd(
            client,
            reactor,
            lambda: EPOCH + process.now() + self.wall_offset,
            partial(self._tell, http, reactor),
            self._numbers,
            warntime=self.params.warntime,
            errtime=self.params.errtime,
            interval=self.params.interval,
        )
        hbtd.on_judged = self.on_judged
        resource = OriginalAPI(hbtd).resource()
        site = Site(resource, reactor=reactor)
        site.noisy = False
        self._remains.append((client, etcd_agent, http, hbtd, site))

        async def start() -> None:
            try:
                await hbtd.start()
            except (EtcdUnavailable, EtcdRefused):
                reactor.callLater(_START_AGAIN, begin)
            else:
                reactor.listenTCP(PORT, site)

        def begin() -> None:
            Deferred.fromCoroutine(start()).addErrback(self._fail)

        process.timer(begin)

    def _tell(
        self, http: HTTPClient, reactor: ProcessReactor, what: Transition, names: list[str]
    ) -> None:
        """Tell HSM, once: the original drops what it can't send."""
        fields = {
            "ComponentIDs": names,
            "State": what.state,
            "Flag": what.flag,
            "ExtendedInfo": {"Message": what.message},
        }
        told: Deferred[Any] = http.patch(
            f"{self.params.sm_url}/State/Components/BulkStateData",
            data=orjson.dumps(fields),
            headers=Headers({"Content-Type": ["application/json"], "User-Agent": [_USER_AGENT]}),
        )
        told.addTimeout(_SM_TIMEOUT, reactor)
        told.addCallback(lambda answer: readBody(answer.original))
        told.addErrback(lambda failure: None)

    def end(self, done: Callable[[], object]) -> None:
        """Send SIGTERM, by which the original ends at once."""
        if self.runs_original and self.running:
            self.kill()
        super().end(done)

    def replace(self) -> None:
        """Replace the original by hbtd, or hbtd by the original."""

        def ended() -> None:
            if not self.alive:
                self.wants_original = not self.runs_original
                self._truth.note(
                    "fleet", f"{self.name} is {'an original' if self.wants_original else 'hbtd'}"
                )
                self.start()

        self.end(ended)


class MixedWorld(ReplicatedWorld):
    """Two replicas of hbtd, and a host that runs an original, or a third replica."""

    options = " REPLICAS=3 ORIGINAL=yes"
    tampered = 0.0
    compared = True
    stalls_last = 0.0
    oracle: MixedOracle
    make_oracle = MixedOracle
    mixed: MixedServer

    def __init__(self, seed: int, kafka: bool = False, with_faults: bool = True) -> None:
        """Make the world; it has no Kafka, whatever `kafka` says."""
        super().__init__(seed, kafka=False, with_faults=with_faults)
        self._fleet = Random(f"fleet {seed}")
        for node in self.nodes:
            node.may_fail = lambda host: host == self.mixed.host
            self.hsm.components[node.name] = ComponentState("Off", "OK")
        if with_faults:
            self._schedule_fleet()

    def hazard(self, name: str, share: float) -> None:
        """Return `None`: the original does not know of these."""

    def server(self, name: str, host: str, kv_url: str, make_store: StoreFactory) -> Server:
        """Return a host; the last one is that of the original."""
        if host != HOSTS[-1]:
            return super().server(name, host, kv_url, make_store)
        self.mixed = self.make_server(MixedServer, name, host, kv_url, make_store)
        self.mixed.on_judged = self._judged
        return self.mixed

    # The fleet

    def start_servers(self) -> None:
        """Start the original, and the replicas at once or later: they take over from it."""
        self.mixed.start()
        for server in self.servers[:-1]:
            self.clock.at(self._fleet.choice((0.0, self._fleet.uniform(10, 60))), server.start)

    def _schedule_fleet(self) -> None:
        time = 40.0
        while (time := time + self._fleet.expovariate(1 / 40)) < self.seconds - 20:
            self.clock.at(time, self._fleet.choice((self.mixed.replace, self._switch_back)))

    def _switch_back(self) -> None:
        """Start a fresh original, stop the replicas, and start them again later."""
        self.truth.note("fleet", "goes back to the original for a while")
        if not self.mixed.runs_original:
            self.mixed.replace()
        elif self.mixed.running:
            self.mixed.end(self.mixed.start)
        stays = self._fleet.uniform(10, 50)
        for server in self.servers[:-1]:
            self.clock.after(5.0, partial(server.end, lambda: None))
            self.clock.after(5.0 + stays, server.start)

    # What the oracle is told

    def _hbtd_shares(self) -> bool:
        return any(
            self._shares[server.host]
            for server in self.servers
            if server is not self.mixed or not self.mixed.runs_original
        )

    def note_state(self) -> None:
        """Tell the oracle what works: an original alone is not hbtd."""
        super().note_state()
        if not self._hbtd_shares():
            self.oracle.works.set(self.clock.now, False)

    def node_answered(self, node: Node, host: str) -> None:
        """Tell the oracle of a heartbeat; one that an original has answered is in etcd."""
        if host != self.mixed.host or not self.mixed.runs_original:
            super().node_answered(node, host)
            return
        self.truth.note("heard", node.name, story=False)
        self.oracle.beaten(node.name)
        self.oracle.shared(node.name, self.clock.now, node.answered_sent)

    def _judged(self, name: str, what: Transition) -> None:
        self.truth.note("original", f"judges {name} {what.state}/{what.flag}")
        buries = what is Transition.DIED and not self._hbtd_shares()
        self.oracle.original_judged(name, self.clock.now, buries=buries)

    def told(self, update: Update) -> None:
        """Tell the oracle what HSM is told; an original's words are its own."""
        if update.user_agent != _USER_AGENT:
            super().told(update)
            return
        for name in update.names:
            self.truth.note("others", f"original tells {name} {update.state}/{update.flag}")
            self.oracle.original_told(name, update.state, update.flag, self.clock.now)
            self.tampering.written[name] += 1

    def _sent(self, source: str, target: str, data: bytes) -> None:
        if source != self.mixed.host or not self.mixed.runs_original:
            super()._sent(source, target, data)

    # What goes wrong

    def faults(self) -> list[tuple[float, Callable[[], None]]]:
        """Return kinds of faults with their weights."""
        return [each for each in super().faults() if each[1] != self._lose_data]
