"""What tests with a real etcd have in common."""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple
from unittest import skipIf

from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThread
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent
from twisted.web.http import Request
from twisted.web.iweb import IPolicyForHTTPS
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from hbtd.etcd.client import EtcdClient
from hbtd.etcd.errors import EtcdUnavailable
from hbtd.etcd.messages import Delete, Event, revision_of
from hbtd.etcd.watch import Watch
from hbtd.net.http_client import BoundedPool
from hbtd.net.own_secrets import Login, SecretFile
from hbtd.net.tls import ServerOptions, client_policy
from tests.support.etcd_gateway import EtcdGateway
from tests.support.etcd_server import EtcdServer, why_not
from tests.support.etcd_state import EtcdState
from tests.support.etcd_users import EtcdUsers
from tests.support.running import reactor

EVERYTHING = (b"\0", b"\0")
"""The range of all keys."""

_REASON = why_not()
needs_etcd = skipIf(_REASON is not None, _REASON or "")


@functools.cache
def shared_etcd() -> EtcdServer:
    """Return the etcd of all tests of this process, which may fill but not stop it."""
    return EtcdServer()


class Status(NamedTuple):
    """The status of a member of a cluster."""

    member: int
    leader: int
    """The number of the member that leads, 0 if none is known."""

    revision: int
    errors: list[str]
    """The alarms of etcd, such as the one that its database is full."""


def _read_status(said: Mapping[str, Any]) -> Status:
    return Status(
        int(said["header"]["member_id"]),
        int(said.get("leader", 0)),
        revision_of(said),
        [str(error) for error in said.get("errors", ())],
    )


class HandyClient(EtcdClient):
    """A client with more calls, which only tests need."""

    async def delete(self, start: bytes, end: bytes = b"") -> None:
        """Delete a key, or with `end` the keys up to but excluding that."""
        await self.txn((), [Delete(start, end)])

    def status(self) -> Deferred[Status]:
        """Return the status of a member of the cluster."""
        return self._gateway.call("/maintenance/status", {}, _read_status)


class ClientTestCase(TestCase):
    """A test case that makes clients, and closes their connections."""

    timeout = 120
    client: HandyClient
    address: str
    """The base URL of the etcd."""

    def connect(
        self,
        *endpoints: str,
        timeout: float = 10.0,
        clock: IReactorTime = reactor,
        policy: IPolicyForHTTPS | None = None,
        login: SecretFile[Login] | None = None,
    ) -> HandyClient:
        """Make a client of these endpoints."""
        pool = BoundedPool(reactor)
        pool.retryAutomatically = False
        self.addCleanup(pool.closeCachedConnections)
        agent = Agent(reactor, policy or client_policy("insecure"), pool=pool)
        return HandyClient(HTTPClient(agent), clock, endpoints, timeout, "hbtd-test", login)

    async def keys(self) -> list[bytes]:
        """Return all keys."""
        return [item.key for item in (await self.client.range(*EVERYTHING)).items]

    async def unavailable(self, call: Deferred[Any]) -> EtcdUnavailable:
        """Return the `EtcdUnavailable` with which a call must fail."""
        with self.assertRaises(EtcdUnavailable) as raised:
            await call
        error: EtcdUnavailable = raised.exception
        self.assertEqual(len(str(error).splitlines()), 1)
        self.assertNotIn("0x", str(error))
        return error


@needs_etcd
class EtcdTestCase(ClientTestCase):
    """A test case with a client of the shared etcd, which is empty."""

    async def setUp(self):  # type: ignore[override]  # trial waits for it
        """Start etcd unless it runs, and empty it."""
        self.etcd = shared_etcd()
        if not self.etcd.running:
            await deferToThread(self.etcd.start)
        self.address = self.etcd.address
        self.client = self.connect(self.address)
        await self.client.delete(*EVERYTHING)

    async def ctl(self, *arguments: str) -> str:
        """Run etcdctl; return its output."""
        return await deferToThread(self.etcd.etcdctl, *arguments)


@needs_etcd
class OwnEtcdTestCase(ClientTestCase):
    """A test case for tests that stop or damage their etcd."""

    async def start(self, **options: Any) -> EtcdServer:
        """Start an etcd, which is stopped when the test ends."""
        etcd = EtcdServer(**options)
        self.addCleanup(deferToThread, etcd.close)
        await deferToThread(etcd.start)
        return etcd


class MemoryEtcdTestCase(ClientTestCase):
    """A test case with a client of an etcd in memory, whose gateway listens on loopback."""

    loses = False
    """Whether answers are lost."""

    async def setUp(self):  # type: ignore[override]  # trial waits for it
        """Start the etcd."""
        self.state = EtcdState(reactor.seconds)
        self.users = EtcdUsers()
        gateway = EtcdGateway(self.state, reactor, loses=lambda: self.loses, users=self.users)
        port = reactor.listenTCP(0, Site(gateway), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        expiry = LoopingCall(self.state.advance)
        expiry.clock = reactor
        expiry.start(0.1)
        self.addCleanup(expiry.stop)
        self.address = f"http://127.0.0.1:{port.getHost().port}"
        self.client = self.connect(self.address)


class Watching:
    """A watch that records what it reports."""

    def __init__(
        self,
        client: EtcdClient,
        start_revision: int,
        *ranges: tuple[bytes, bytes],
        silence: float = 20.0,
    ) -> None:
        self.calls: list[tuple[list[Event], int]] = []
        self.progress: list[int] = []
        self.watch: Watch = client.watch(
            ranges or [EVERYTHING],
            start_revision,
            lambda events, revision: self.calls.append((events, revision)),
            silence=silence,
            on_progress=self.progress.append,
        )
        self.ended = self.watch.ended

    @property
    def events(self) -> list[Event]:
        """All events reported so far."""
        return [event for events, _ in self.calls for event in events]

    @property
    def keys(self) -> list[bytes]:
        """Their keys."""
        return [event.key for event in self.events]


class WatchTestCase(ClientTestCase):
    """A test case that ends its watches."""

    def watch(self, client: EtcdClient, start: int, *ranges: Any, **options: Any) -> Watching:
        """Begin a watch, which is ended with the test."""
        watching = Watching(client, start, *ranges, **options)

        async def end() -> None:
            if not watching.ended.called:
                watching.ended.cancel()
                with self.assertRaises(CancelledError):
                    await watching.ended

        self.addCleanup(end)
        return watching


class FakeGateway(Resource):
    """Answers any request with fixed bytes; the answer may never end."""

    isLeaf = True

    def __init__(
        self, content: bytes, status: int = 200, *, ends: bool = True, hangs: bool = False
    ) -> None:
        super().__init__()
        self.content = content
        self.status = status
        self.ends = ends
        self.hangs = hangs
        """Whether only the end of a connection is noticed, but not, over TLS, what announces it."""
        self.requests: list[Request] = []
        self.bodies: list[bytes] = []
        self.gone = 0

    def render_POST(self, request: Request) -> Any:
        """Answer with the fixed bytes."""
        self.requests.append(request)
        assert request.content is not None
        self.bodies.append(request.content.read())
        request.setResponseCode(self.status)
        if self.ends:
            return self.content

        def gone(_: object) -> None:
            self.gone += 1

        request.notifyFinish().addBoth(gone)
        request.write(self.content)
        if self.hangs:
            channel: Any = request.channel
            channel.transport.dataReceived = lambda data: None
        return NOT_DONE_YET

    def listen(self, test: TestCase, tls: ServerOptions | None = None) -> str:
        """Listen until the test ends; return the base URL."""
        site: Any = Site(self)
        if tls:
            site = TLSMemoryBIOFactory(tls, False, site)
            site.noisy = False
        port = reactor.listenTCP(0, site, interface="127.0.0.1")
        test.addCleanup(port.stopListening)
        return f"{'https' if tls else 'http'}://127.0.0.1:{port.getHost().port}"
