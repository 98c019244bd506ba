"""Watches of an etcd that fails, or of something that is not etcd."""

from collections.abc import Sequence

import orjson
from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread

from hbtd.etcd import watch as watch_module
from hbtd.net.tls import ServerOptions
from tests.support.certificates import make_identity
from tests.support.etcd_running import (
    FakeGateway,
    OwnEtcdTestCase,
    Watching,
    WatchTestCase,
    needs_etcd,
)
from tests.support.etcd_server import EtcdCluster
from tests.support.running import reactor, until


class TroubleTests(WatchTestCase, OwnEtcdTestCase):
    """A watch ends when its etcd stops or hangs."""

    async def test_ended(self) -> None:
        """When etcd stops or is killed, its watches end at once."""
        etcd = await self.start()
        client = self.connect(etcd.address)
        for end in (etcd.stop, etcd.kill):
            revision = await client.put(b"key", b"")
            watching = self.watch(client, revision)
            await until(lambda w=watching: w.events)  # type: ignore[misc]  # not inferred
            began = reactor.seconds()
            await deferToThread(end)
            await self.unavailable(watching.ended)
            self.assertLess(reactor.seconds() - began, 3)
            await deferToThread(etcd.start)
        watching = self.watch(client, revision)
        await until(lambda: watching.events)

    async def test_frozen(self) -> None:
        """When etcd hangs, its watches end after `silence`; the next one is on another endpoint."""
        hung, other = await self.start(), await self.start()
        client = self.connect(hung.address, other.address)
        watching = self.watch(client, await client.put(b"hung", b""), silence=0.5)
        await until(lambda: watching.events)
        await deferToThread(hung.freeze)
        began = reactor.seconds()
        error = await self.unavailable(watching.ended)
        self.assertTrue(error.timed_out)
        self.assertLess(reactor.seconds() - began, 2)
        watching = self.watch(client, await client.put(b"other", b""))
        await until(lambda: watching.keys == [b"other"])

    async def test_frozen_before(self) -> None:
        """So does a watch that begins while etcd hangs."""
        hung, other = await self.start(), await self.start()
        client = self.connect(hung.address, other.address)
        await client.put(b"hung", b"")
        await deferToThread(hung.freeze)
        error = await self.unavailable(self.watch(client, 1, silence=0.5).ended)
        self.assertTrue(error.timed_out)
        watching = self.watch(client, await client.put(b"other", b""))
        await until(lambda: watching.keys == [b"other"])

    async def test_progress(self) -> None:
        """Without changes, etcd reports from time to time that the watch is complete."""
        options = ["--experimental-watch-progress-notify-interval=200ms"]
        client = self.connect((await self.start(options=options)).address)
        watching = self.watch(client, 1, (b"quiet", b""), (b"silent", b""), silence=5)
        revision = await client.put(b"elsewhere", b"")
        await until(lambda: revision in watching.progress)
        self.assertEqual(watching.watch.revision, revision)
        self.assertEqual(watching.progress, sorted(set(watching.progress)))
        self.assertEqual(watching.events, [])


@needs_etcd
class ClusterTests(WatchTestCase):
    """Watches of clusters."""

    async def test_no_leader(self) -> None:
        """A member that is cut off from the other members ends its watches."""
        cluster = EtcdCluster()
        self.addCleanup(deferToThread, cluster.close)
        await deferToThread(cluster.start)
        first, *others = cluster.members
        client = self.connect(first.address)
        watching = self.watch(client, await client.put(b"key", b""))
        await until(lambda: watching.events)
        for member in others:
            await deferToThread(member.freeze)
        error = await self.unavailable(watching.ended)
        self.assertIn("no leader", str(error))


def event(key: str, revision: int, **more: object) -> bytes:
    """Return a message of etcd's with one event."""
    result = {
        "header": {"revision": str(revision)},
        "watch_id": "1",
        "events": [{"kv": {"key": key, "mod_revision": str(revision)}}],
        **more,
    }
    return orjson.dumps({"result": result}) + b"\n"


class GarbageTests(WatchTestCase):
    """Something that is not etcd answers, or a message is incomplete."""

    def fake(
        self, content: bytes, *, ends: bool = True, clock: IReactorTime = reactor
    ) -> tuple[FakeGateway, Watching]:
        """Watch a fake gateway; return both."""
        fake = FakeGateway(content, ends=ends)
        return fake, self.watch(self.connect(fake.listen(self), clock=clock), 1)

    async def test_request(self) -> None:
        """A watch requests its ranges from its revision on, with large messages split."""
        fake, watching = self.fake(b"")
        await self.unavailable(watching.ended)
        self.assertEqual(
            orjson.loads(fake.bodies[0]),
            {
                "create_request": {
                    "watch_id": "1",
                    "key": "AA==",
                    "range_end": "AA==",
                    "start_revision": "1",
                    "progress_notify": True,
                    "fragment": True,
                }
            },
        )

    async def test_garbage(self) -> None:
        """Any message that is not etcd's ends the watch with `EtcdUnavailable`."""
        lines: Sequence[bytes] = (
            b"<html>\n",
            b"{}\n",
            b"[]\n",
            b'{"result": 5}\n',
            b'{"result": {"header": {}, "events": [{}]}}\n',
            b'{"result": {"header": {}, "events": {"a": 1}}}\n',
            b"\xff\n",
            b'{"error": {"grpc_code": 14, "message": "error reading from server: EOF"}}',
            b'{"result": {"hea',
            b"",
        )
        for line in lines:
            fake, watching = self.fake(event("YQ==", 5) + line, ends=line in lines[-3:])
            await self.unavailable(watching.ended)
            self.assertEqual(watching.keys, [b"a"])
            await until(lambda f=fake: f.ends or f.gone)  # type: ignore[misc]  # not inferred

    async def test_too_long(self) -> None:
        """A message that is too long ends the watch before it fills the memory."""
        self.patch(watch_module, "MAX_MESSAGE", 1000)
        fake, watching = self.fake(event("YQ==", 5) + b"x" * 1001, ends=False)
        self.assertIn("more than 1000 bytes", str(await self.unavailable(watching.ended)))
        self.assertEqual(watching.keys, [b"a"])
        await until(lambda: fake.gone)

    async def test_pieces(self) -> None:
        """Messages may arrive in any pieces, with empty lines between them."""
        fake, watching = self.fake(b"", ends=False)
        content = event("YQ==", 5) + b"\n\n" + event("Yg==", 6) + event("Yw==", 7)
        await until(lambda: fake.requests)
        for position in range(len(content)):
            fake.requests[0].write(content[position : position + 1])
        await until(lambda: len(watching.events) == 3)
        self.assertEqual(watching.keys, [b"a", b"b", b"c"])

    async def test_others(self) -> None:
        """Messages about another watch are ignored."""
        content = event("YQ==", 5, watch_id="7") + event("Yg==", 6)
        _, watching = self.fake(content, ends=False)
        await until(lambda: watching.events)
        self.assertEqual(watching.keys, [b"b"])

    async def test_cancelled(self) -> None:
        """A watch that is cancelled closes its connection and leaves no timer behind."""
        clock = Clock()
        fake, watching = self.fake(event("YQ==", 5), ends=False, clock=clock)
        await until(lambda: watching.events)
        watching.ended.cancel()
        with self.assertRaises(CancelledError):
            await watching.ended
        await until(lambda: fake.gone)
        self.assertEqual(clock.getDelayedCalls(), [])

    async def test_hangs(self) -> None:
        """A watch that is ended closes its connection even if etcd hangs, over TLS."""
        fake = FakeGateway(event("YQ==", 5), ends=False, hangs=True)
        address = fake.listen(self, ServerOptions(make_identity("localhost")))
        watching = self.watch(self.connect(address), 1, silence=0.5)
        self.assertTrue((await self.unavailable(watching.ended)).timed_out)
        await until(lambda: fake.gone)
