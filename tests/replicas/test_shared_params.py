"""Parameters that replicas share in etcd."""

from collections.abc import Sequence

import orjson
from twisted.internet.defer import Deferred

from hbtd.config.live_params import LiveParams
from hbtd.config.params import Params
from hbtd.etcd.client import EtcdClient
from hbtd.etcd.messages import Compare, Operation, TxnResult
from hbtd.replicas.shared_params import SharedParams
from hbtd.store.etcd import EtcdStore
from hbtd.store.etcd_format import PARAMS
from tests.support.etcd_running import EtcdTestCase
from tests.support.running import until


class Held(EtcdClient):
    """A client whose transactions happen at once, and are answered when the test says so."""

    def __init__(self, client: EtcdClient) -> None:
        self.__dict__.update(client.__dict__)
        self.answer: Deferred[None] = Deferred()

    def txn(
        self, compares: Sequence[Compare], operations: Sequence[Operation]
    ) -> "Deferred[TxnResult]":
        """Carry it out, and hold back the result."""
        return super().txn(compares, operations).addCallback(self._hold)

    async def _held(self, result: TxnResult) -> TxnResult:
        await self.answer
        return result

    def _hold(self, result: TxnResult) -> "Deferred[TxnResult]":
        return Deferred.fromCoroutine(self._held(result))


class SharedParamsTests(EtcdTestCase):
    """The parameters of one replica, with an etcd that others write to."""

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        """Begin with defaults."""
        await super().setUp()
        self.live = LiveParams(Params(kv_url="mem:"))
        self.shared = SharedParams(self.client, EtcdStore(self.client, lambda: 0.0), self.live)

    async def stored(self) -> dict[str, str]:
        """Return the parameters in etcd."""
        found = await self.client.get(PARAMS)
        values: dict[str, str] = orjson.loads(found.value) if found is not None else {}
        return values

    async def put(self, **values: str) -> None:
        """Write like another replica, and apply it."""
        value = orjson.dumps({**self.live.current.rendered(), **values})
        self.shared.apply(value, await self.client.put(PARAMS, value))

    async def is_stored(self, **values: str) -> None:
        """Wait until etcd has these values."""
        await until(lambda: not self.shared._unwritten)
        stored = await self.stored()
        self.assertEqual({name: stored[name] for name in values}, values)

    async def has_written(self, shared: SharedParams) -> None:
        """Wait until a replica has written its changes."""
        await until(lambda: not shared._writing)

    async def test_changed_here(self):
        """A change takes effect at once, and is written."""
        self.live.patch({"Warntime": "33"})
        await self.is_stored(Warntime="33", Errtime="30")
        self.assertEqual(await self.stored(), self.live.current.rendered())

    async def test_changed_elsewhere(self):
        """A change by another replica is adopted, and not written again."""
        await self.put(Warntime="33")
        self.assertEqual(self.live.current.warntime, 33)
        self.assertEqual(self.shared._unwritten, {})

    async def test_on_top(self):
        """A change is written on top of one by another replica that has not arrived yet."""
        await self.put(Warntime="33")
        await self.client.put(
            PARAMS, orjson.dumps({**self.live.current.rendered(), "Interval": "9"})
        )
        self.live.patch({"Errtime": "77"})
        await self.is_stored(Warntime="33", Errtime="77", Interval="9")
        self.assertEqual(self.live.current.interval, 9)

    async def test_overtaken(self):
        """A change written on top takes effect, even if it arrives before the own answer."""
        held = Held(self.client)
        live = LiveParams(Params(kv_url="mem:"))
        shared = SharedParams(held, EtcdStore(held, lambda: 0.0), live)
        live.patch({"Warntime": "33", "Errtime": "77"})
        while (ours := await self.client.get(PARAMS)) is None:
            pass
        value = orjson.dumps({**orjson.loads(ours.value), "Warntime": "44"})
        revision = await self.client.put(PARAMS, value)
        shared.apply(ours.value, ours.mod_revision)
        shared.apply(value, revision)
        held.answer.callback(None)
        await self.has_written(shared)
        self.assertEqual((live.current.warntime, live.current.errtime), (44, 77))
        self.assertEqual((await self.stored())["Warntime"], "44")

    async def test_old(self):
        """An older revision than the last one changes nothing."""
        value = orjson.dumps({"Warntime": "11"})
        revision = await self.client.put(PARAMS, value)
        await self.put(Warntime="33")
        self.shared.apply(value, revision)
        self.assertEqual(self.live.current.warntime, 33)
        self.shared.reset()
        self.shared.apply(value, revision)
        self.assertEqual(self.live.current.warntime, 11)

    async def test_unwritten_prevails(self):
        """A change that could not be written yet is not undone by others."""
        self.shared.publish_all()
        self.shared.apply(orjson.dumps({"Warntime": "11"}), 5)
        self.assertEqual(self.live.current.warntime, Params(kv_url="mem:").warntime)

    async def test_publish(self):
        """All parameters are written, except those that each replica has of its own."""
        await self.put(Warntime="33")
        self.live.adopt({"Warntime": "44"})
        self.shared.publish_all()
        self.assertNotIn("Port", self.shared._unwritten)
        self.shared.write()
        await self.is_stored(Warntime="44")

    async def test_restored(self):
        """After etcd has lost its data, the parameters are written again."""
        await self.put(Warntime="33")
        await self.client.delete(PARAMS)
        self.shared.reset()
        self.shared.restore()
        self.shared.write()
        await self.has_written(self.shared)
        self.assertEqual(await self.stored(), self.live.current.rendered())

    async def test_restored_by_two(self):
        """A change through one replica outlives etcd's data, whichever replica writes first.

        The other may not have heard of it before the data was lost.
        """
        for other_first in (True, False):
            other_live = LiveParams(Params(kv_url="mem:"))
            other = SharedParams(self.client, EtcdStore(self.client, lambda: 0.0), other_live)
            self.live.patch({"Sm_retries": "7"})
            await self.is_stored(Sm_retries="7")
            await self.client.delete(PARAMS)
            both = [other, self.shared] if other_first else [self.shared, other]
            for each in both:
                each.reset()
                each.restore()
            for each in both:
                each.write()
                await self.has_written(each)
            await self.is_stored(Sm_retries="7")
            self.live.patch({"Sm_retries": "3"})
            await self.is_stored(Sm_retries="3")

    async def test_restored_what_counts(self):
        """A change that another replica has replaced since is not written again."""
        self.live.patch({"Warntime": "33"})
        await self.is_stored(Warntime="33")
        await self.put(Warntime="44")
        self.shared.reset()
        self.shared.restore()
        self.assertEqual(self.shared._unwritten, {})

    async def test_deleted(self):
        """When they are deleted in etcd they stay here, and can be written again."""
        await self.put(Warntime="33")
        await self.client.delete(PARAMS)
        self.shared.apply(None, (await self.client.put(b"other", b"")) - 1)
        self.assertEqual(self.live.current.warntime, 33)
        self.live.patch({"Errtime": "55"})
        await self.is_stored(Warntime="33", Errtime="55")
