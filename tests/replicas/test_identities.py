"""What components call themselves is known at all replicas, and after restarts."""

from collections.abc import Sequence
from functools import partial

from twisted.internet.defer import Deferred, gatherResults

from hbtd.etcd.client import EtcdClient
from hbtd.etcd.messages import Compare, Operation, TxnResult
from hbtd.store.etcd import EtcdStore
from hbtd.store.etcd_identities import IDENTITY, identity_key
from hbtd.tracker.records import Identity
from tests.support.etcd_running import EtcdTestCase
from tests.support.replicas_running import A, B, ReplicasTestCase
from tests.support.running import Hbtd, until


def has_name(hbtd: Hbtd, xname: str, hostname: str) -> bool:
    """Return whether a replica knows this host name of a component."""
    identity = hbtd.service.tracker.identity(xname)
    return identity is not None and identity.hostname == hostname


class SharingTests(ReplicasTestCase):
    """Replicas on one etcd."""

    async def sends(self, hbtd: Hbtd, xname: str, hostname: str) -> None:
        """Send a heartbeat with a host name."""
        body = {
            "Component": xname,
            "Hostname": hostname,
            "NID": "1",
            "Status": "OK",
            "Timestamp": "t",
        }
        url = f"{hbtd.url}/hmi/v1/heartbeat"
        self.assertEqual((await hbtd.client.request("POST", url, body))[0], 200)

    async def test_shared(self) -> None:
        """A replica knows the names that others were sent, also one that starts later."""
        first, second = await self.replicas(2)
        await self.sends(first, A, "nid000001")
        await self.sends(second, B, "nid000002")
        for hbtd in (first, second):
            for xname, name in ((A, "nid000001"), (B, "nid000002")):
                await until(partial(has_name, hbtd, xname, name), within=25)
        third = await self.replica()
        await until(lambda: has_name(third, A, "nid000001") and has_name(third, B, "nid000002"))


class Overtaken(EtcdClient):
    """A client that lets another one write just before some of its transactions."""

    def __init__(self, client: EtcdClient) -> None:
        self.__dict__.update(client.__dict__)
        self.others: list[EtcdStore] = []
        self.tried = 0

    def txn(
        self, compares: Sequence[Compare], operations: Sequence[Operation]
    ) -> Deferred[TxnResult]:
        """Let another store write first, if one is left; then carry out the transaction."""
        self.tried += 1
        send = super().txn
        if not self.others:
            return send(compares, operations)
        other = self.others.pop()
        done = other.identify([Identity(f"x1000c0s0b0n{len(self.others) + 1}", "other", "2")])
        return done.addCallback(lambda _: send(compares, operations))


class StoreTests(EtcdTestCase):
    """Stores on one etcd."""

    def store(self, client: EtcdClient) -> EtcdStore:
        """Return a store of a follower."""
        store = EtcdStore(client, lambda: 1e9)
        self.addCleanup(store.close)
        return store

    async def test_neighbours_elsewhere(self) -> None:
        """Names of neighbours that another replica writes at the same moment are kept."""
        client = Overtaken(self.client)
        client.others = [self.store(self.client) for _ in range(2)]
        one = self.store(client)
        mine = Identity("x1000c0s0b0n0", "mine", "1")
        await one.identify([mine])
        others = [Identity(f"x1000c0s0b0n{n}", "other", "2") for n in (1, 2)]
        self.assertEqual(list(await one.identities()), [mine, *others])
        self.assertEqual(client.tried, 3)

    async def test_unchanged(self) -> None:
        """What is in etcd already is not written again."""
        client = Overtaken(self.client)
        store = self.store(client)
        some = [Identity(f"x{n}c0s0b0n0", "h", str(n)) for n in range(40)]
        await store.identify(some)
        written = client.tried
        self.assertGreater(written, 1)
        await gatherResults([store.identify(some), store.identify(some[:5])])
        self.assertEqual(client.tried, written)
        await store.identify([some[0]._replace(nid="new")])
        self.assertEqual(client.tried, written + 1)

    async def test_too_large(self) -> None:
        """What does not fit into a key is left out, and all else is stored."""
        store = self.store(self.client)
        long = [Identity(f"x1c0s0b0n{n}", "h" * 250, "1" * 250) for n in range(200)]
        await store.identify(long[:50])
        await store.identify([*long[50:], Identity("x2c0s0b0n0", "h", "1")])
        self.assertEqual(len(await store.identities()), 51)
        await store.forget(long[0].component)
        self.assertEqual(len(await store.identities()), 50)

    async def test_invalid(self) -> None:
        """A value that is none counts as empty, and is replaced."""
        await self.client.put(identity_key("x1c0s0b0n0"), b"nonsense")
        await self.client.put(IDENTITY + b"zzz", b'{"x1":1}')
        store = self.store(self.client)
        self.assertEqual(list(await store.identities()), [])
        await store.identify([Identity("x1c0s0b0n0", "h", "1")])
        self.assertEqual(list(await store.identities()), [Identity("x1c0s0b0n0", "h", "1")])
