"""Calls of etcd that fails, or of something that is not etcd."""

from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.server import Site

from hbtd.etcd import gateway
from hbtd.etcd.client import EtcdClient
from hbtd.etcd.errors import (
    RESOURCE_EXHAUSTED,
    Compacted,
    EtcdRefused,
    EtcdUnavailable,
    error_in,
)
from hbtd.etcd.messages import Put
from hbtd.net.tls import client_policy, load_identity
from tests.support.certificates import make_identity, write_identity
from tests.support.etcd_running import (
    ClientTestCase,
    FakeGateway,
    HandyClient,
    OwnEtcdTestCase,
    needs_etcd,
)
from tests.support.etcd_server import EtcdCluster, ServerTLS
from tests.support.running import reactor, until
from tests.support.server_process import free_ports


class ServerTests(OwnEtcdTestCase):
    """etcd stops, hangs, or refuses."""

    async def test_away(self) -> None:
        """Calls fail at once while etcd does not run, and succeed when it runs again."""
        etcd = await self.start()
        client = self.connect(etcd.address)
        await client.put(b"key", b"value")
        for end in (etcd.stop, etcd.kill):
            await deferToThread(end)
            error = await self.unavailable(client.get(b"key"))
            self.assertIn("refused", str(error))
            self.assertFalse(error.timed_out)
            await deferToThread(etcd.start)
            found = await client.get(b"key")
            assert found is not None
            self.assertEqual(found.value, b"value")

    async def test_frozen(self) -> None:
        """A call of an etcd that hangs fails in time, and the next one goes to another endpoint."""
        hung, other = await self.start(), await self.start()
        client = self.connect(hung.address, other.address, timeout=0.4)
        await client.put(b"where", b"hung")
        await deferToThread(hung.freeze)
        began = reactor.seconds()
        error = await self.unavailable(client.get(b"where"))
        self.assertTrue(error.timed_out)
        self.assertLess(reactor.seconds() - began, 2)
        self.assertIn(hung.address, str(error))
        self.assertIsNone(await client.get(b"where"))
        await deferToThread(hung.thaw)
        self.assertIsNone(await client.get(b"where"))

    async def test_lock_unavailable(self) -> None:
        """Waiting for a lock of an etcd that hangs fails with `EtcdUnavailable`."""
        etcd = await self.start()
        client = self.connect(etcd.address, timeout=0.2)
        lease = await client.grant(60)
        await deferToThread(etcd.freeze)
        await self.unavailable(client.lock(b"lock", lease, wait=0.2))

    async def test_failover(self) -> None:
        """Endpoints that refuse connections are passed over within the call, and remembered."""
        etcd = await self.start()
        nobody = [f"http://127.0.0.1:{port}" for port in free_ports(2)]
        client = self.connect(*nobody, etcd.address)
        await client.put(b"key", b"")
        self.assertIsNotNone(await client.get(b"key"))
        error = await self.unavailable(self.connect(*nobody).get(b"key"))
        self.assertIn(nobody[-1], str(error))

    async def test_full(self) -> None:
        """An etcd whose database is full refuses writes with the reason, and can still be read."""
        etcd = await self.start(quota=512 * 1024)
        client = self.connect(etcd.address)
        with self.assertRaises(EtcdRefused) as raised:
            for number in range(100):
                await client.txn((), [Put(b"key%d" % number, bytes(32 * 1024))])
        self.assertEqual(raised.exception.code, RESOURCE_EXHAUSTED)
        self.assertEqual(str(raised.exception), "etcdserver: mvcc: database space exceeded")
        self.assertIsNotNone(await client.get(b"key0"))
        self.assertIn("NOSPACE", "".join((await client.status()).errors))

    async def test_too_large(self) -> None:
        """A request that is larger than etcd allows is refused."""
        client = self.connect((await self.start()).address)
        with self.assertRaises(EtcdRefused) as raised:
            await client.put(b"key", bytes(1_700_000))
        self.assertIn("too large", str(raised.exception))


@needs_etcd
class ClusterTests(ClientTestCase):
    """A cluster loses members."""

    async def test_members_lost(self) -> None:
        """A cluster goes on without its leader, and is unavailable without most of its members."""
        cluster = EtcdCluster()
        self.addCleanup(deferToThread, cluster.close)
        await deferToThread(cluster.start)
        client = self.connect(*cluster.addresses, timeout=3)
        leader = (await client.status()).leader
        members = {
            (await self.connect(member.address).status()).member: member
            for member in cluster.members
        }
        await client.put(b"key", b"before")

        await deferToThread(members.pop(leader).kill)
        await self.insist(client, b"after")
        self.assertNotEqual((await client.status()).leader, leader)

        minority, majority = members.values()
        await deferToThread(majority.kill)
        alone = self.connect(minority.address, timeout=3)
        await self.leaderless(alone)
        began = reactor.seconds()
        for call in (alone.put(b"key", b"lost"), alone.get(b"key"), alone.grant(10)):
            error = await self.unavailable(call)
            self.assertIn("no leader", str(error))
        self.assertLess(reactor.seconds() - began, 3)

        await deferToThread(majority.start)
        await self.insist(alone, b"again")
        found = await alone.get(b"key")
        assert found is not None
        self.assertEqual(found.value, b"again")

    async def leaderless(self, client: HandyClient) -> None:
        """Wait until the client's member has noticed that there is no leader."""
        deadline = reactor.seconds() + 30
        while True:
            try:
                await client.status()
            except EtcdUnavailable:
                return
            self.assertLess(reactor.seconds(), deadline)

    async def insist(self, client: EtcdClient, value: bytes) -> None:
        """Put the key again and again until that succeeds."""
        deadline = reactor.seconds() + 30
        while True:
            try:
                await client.put(b"key", value)
            except EtcdUnavailable:
                self.assertLess(reactor.seconds(), deadline)
                await deferLater(reactor, 0.02)
            else:
                return


class TLSTests(OwnEtcdTestCase):
    """Client and server verify each other's certificates."""

    async def test_certificates(self) -> None:
        """A wrong or missing certificate on either side makes calls fail with the reason."""
        folder = Path(self.mktemp()).resolve()
        authority, stranger = make_identity("authority"), make_identity("stranger")
        ca, _ = write_identity(authority, folder / "ca")
        cert, key = write_identity(make_identity("localhost", authority), folder / "server")
        other_ca, _ = write_identity(stranger, folder / "stranger")
        other_cert, other_key = write_identity(make_identity("me", stranger), folder / "other")
        etcd = await self.start(tls=ServerTLS(cert, key, ca))

        policy = client_policy(str(ca), load_identity(str(cert), str(key)))
        good = self.connect(etcd.address, policy=policy)
        await good.put(b"key", b"value")
        lease = await good.grant(60)
        await good.lock(b"lock", lease, wait=5)
        self.assertIn("value", await deferToThread(etcd.etcdctl, "get", "key"))

        mistaken = client_policy(str(other_ca), load_identity(str(cert), str(key)))
        wrong = self.connect(etcd.address, policy=mistaken)
        error = await self.unavailable(wrong.get(b"key"))
        self.assertRegex(
            str(error),
            f"^{etcd.address} can't be reached: TLS fails, see --kv_ca and --kv_cert: "
            ".*certificate verify failed",
        )
        unknown = client_policy(str(ca), load_identity(str(other_cert), str(other_key)))
        wrong = self.connect(etcd.address, policy=unknown)
        self.assertIn("certificate", str(await self.unavailable(wrong.get(b"key"))))
        without = self.connect(etcd.address, policy=client_policy(str(ca)))
        self.assertIn("certificate", str(await self.unavailable(without.get(b"key"))))

        plain = self.connect(etcd.address.replace("https", "http"))
        await self.unavailable(plain.get(b"key"))


class GarbageTests(ClientTestCase):
    """Something that is not etcd answers."""

    def calls(self, client: EtcdClient) -> list[Deferred[Any]]:
        """Make one call of each kind; return their results."""
        return [
            client.put(b"key", b""),
            client.get(b"key"),
            client.range(b"a", b"b"),
            client.txn((), ()),
            client.grant(10),
            client.renew(5),
            client.revoke(5),
            client.lock(b"lock", 5, wait=5),
        ]

    async def test_garbage(self) -> None:
        """Any answer that is not etcd's makes the call fail with `EtcdUnavailable`."""
        for content, status in (
            (b"", 200),
            (b"<html>\nWelcome to nginx!\n</html>", 200),
            (b"[]", 200),
            (b"5", 200),
            (b'"error"', 200),
            (b"{}", 200),
            (b'{"header": 5}', 200),
            (b'{"header": {"revision": "many"}, "ID": [], "result": "none", "key": 7}', 200),
            (b'{"error": {"grpc_code": 14, "message": "stream\\nbroken"}}', 200),
            (b"\xff\xfe\x00", 200),
            (b"moved", 301),
            (b"Not Found", 404),
            (b'{"error": "what?"}', 400),
            (b"<html>Bad Gateway</html>", 502),
            (b'{"error": "etcdserver: no leader", "code": 14, "message": "no leader"}', 503),
            (b'{"error": "context canceled", "code": 2, "message": "context canceled"}', 500),
        ):
            client = self.connect(FakeGateway(content, status).listen(self))
            for call in self.calls(client):
                await self.unavailable(call)

    async def test_wrong_items(self) -> None:
        """So does an answer with incomplete items."""
        for item in (b"{}", b"5", b'{"key": "YQ==", "create_revision": "x"}', b'{"key": "YQ"}'):
            content = b'{"header": {"revision": "5"}, "kvs": [' + item + b"]}"
            await self.unavailable(self.connect(FakeGateway(content).listen(self)).get(b"key"))

    async def test_too_long(self) -> None:
        """An answer that is too long is not read to its end, and the connection is closed."""
        self.patch(gateway, "MAX_ANSWER", 1000)
        fake = FakeGateway(b"x" * 1001, ends=False)
        error = await self.unavailable(self.connect(fake.listen(self)).get(b"key"))
        self.assertIn("more than 1000 bytes", str(error))
        await until(lambda: fake.gone)

    async def test_endless(self) -> None:
        """An answer that does not end times out, and its connection is closed."""
        clock = Clock()
        fake = FakeGateway(b"{", ends=False)
        client = self.connect(fake.listen(self), clock=clock, timeout=5)
        call = client.get(b"key")
        await until(lambda: fake.requests)
        clock.advance(4.9)
        self.assertNoResult(call)
        clock.advance(0.2)
        self.assertTrue((await self.unavailable(call)).timed_out)
        await until(lambda: fake.gone)
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_no_endpoints(self) -> None:
        """A client can't be made without endpoints."""
        with self.assertRaises(ValueError):
            self.connect()

    async def test_ipv6(self) -> None:
        """Endpoints may be IPv6 addresses."""
        port = reactor.listenTCP(0, Site(FakeGateway(b'{"header": {}}')), interface="::1")
        self.addCleanup(port.stopListening)
        await self.connect(f"http://[::1]:{port.getHost().port}/").put(b"key", b"")

    async def test_user_agent(self) -> None:
        """Requests have a user agent, and demand a member with a leader."""
        fake = FakeGateway(b'{"header": {}}')
        await self.connect(fake.listen(self)).put(b"key", b"")
        headers = fake.requests[0].requestHeaders
        self.assertEqual(headers.getRawHeaders("user-agent"), ["hbtd-test"])
        self.assertEqual(headers.getRawHeaders("grpc-metadata-hasleader"), ["true"])


class ErrorTests(SynchronousTestCase):
    """Errors are read from answers, and classified by their code and text."""

    def test_shapes(self) -> None:
        """Errors are read in the shape of any version of etcd."""
        for said in (
            {"error": "too bad", "code": 9, "message": "too bad"},
            {"code": 9, "message": "too bad", "details": []},
            {"error": {"grpc_code": 9, "http_code": 400, "message": "too bad"}},
            {"error": {"code": 9, "message": "too\nbad", "details": []}},
        ):
            error = error_in(said)
            assert isinstance(error, EtcdRefused)
            self.assertEqual((error.code, error.message), (9, "too bad"))
        nothing: Any
        for nothing in ({}, {"error": "text"}, {"error": {}}, {"code": "9"}, [], None):
            self.assertIsNone(error_in(nothing))

    def test_kinds(self) -> None:
        """Errors about the condition of etcd are no refusals."""
        for code, message, kind in (
            (14, "etcdserver: no leader", EtcdUnavailable),
            (14, "etcdserver: request timed out", EtcdUnavailable),
            (4, "context deadline exceeded", EtcdUnavailable),
            (13, "stream terminated", EtcdUnavailable),
            (2, "etcdserver: request timed out", EtcdUnavailable),
            (8, "etcdserver: too many requests", EtcdUnavailable),
            (8, "etcdserver: mvcc: database space exceeded", EtcdRefused),
            (2, "etcdserver: mvcc: database space exceeded", EtcdRefused),
            (2, "mutex: session is expired", EtcdRefused),
            (2, "etcdserver: requested lease not found", EtcdRefused),
            (7, "etcdserver: permission denied", EtcdRefused),
            (11, "etcdserver: mvcc: required revision is a future revision", EtcdRefused),
            (11, "etcdserver: mvcc: required revision has been compacted", Compacted),
        ):
            self.assertIsInstance(error_in({"code": code, "message": message}), kind, message)
