"""The store in etcd: the contract of all stores, and what replicas need beyond that."""

from collections.abc import Sequence

from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from hbtd.config.params import Params
from hbtd.etcd.client import EtcdClient
from hbtd.etcd.errors import EtcdUnavailable
from hbtd.etcd.messages import Compare, Operation, Put, TxnResult
from hbtd.store.etcd import EtcdStore
from hbtd.store.etcd_blocks import BLOCK, Blocks
from hbtd.store.etcd_format import FORGET, JUDGEMENT, LOCK, PRESENCE, REQUEST
from hbtd.store.etcd_format import STARTED as STARTED_REQUEST
from hbtd.store.etcd_log_format import LOG
from hbtd.store.interface import NotLeading, StoreUnusable
from hbtd.store.past import Noticed
from hbtd.store.settings import Setting
from hbtd.tracker.silences import LongSilence
from tests.support.etcd_memory import MemoryEtcd
from tests.support.etcd_running import EtcdTestCase
from tests.support.hsm_memory import lines
from tests.support.store_contract import (
    DIED,
    RESTARTED,
    STARTED,
    WARNED,
    StoreContract,
    judgement,
    record,
)
from tests.support.store_identities_contract import IdentitiesContract
from tests.support.store_log_contract import LogContract
from tests.support.store_notes_contract import NotesContract
from tests.support.store_past_contract import PastContract
from tests.support.store_records_contract import RecordsContract
from tests.support.store_settings_contract import SettingsContract
from tests.support.store_silences_contract import SilencesContract

WALL = 1_790_000_000.0


class LeadersStore(EtcdStore):
    """A store whose replica leads."""

    def __init__(self, client: EtcdClient) -> None:
        super().__init__(client, lambda: WALL, judge=LogContract.judge)
        self.writer.lock_gained(LOCK)


class EtcdStoreTests(
    StoreContract,
    RecordsContract,
    LogContract,
    PastContract,
    IdentitiesContract,
    NotesContract,
    SilencesContract,
    SettingsContract,
    EtcdTestCase,
):
    """The contract, for the store of the leader."""

    grain = 1.0
    reopens = False

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        """Create the key of the lock."""
        await super().setUp()
        await self.client.put(LOCK, b"")

    def make_store(self) -> EtcdStore:
        """Make a store on the shared etcd."""
        return LeadersStore(self.client)


class SilenceTests(SynchronousTestCase):
    """Long silences."""

    def test_not_in_etcd(self) -> None:
        """They are kept in the memory of the replica that has noticed them, and not in etcd."""
        clock = Clock()
        etcd = MemoryEtcd(clock.seconds)
        store = EtcdStore(etcd.client(clock), lambda: WALL)
        store.writer.lock_gained(LOCK)
        before = etcd.revision
        silences = [LongSilence("x1", WALL, 40.0), LongSilence("x2", WALL, 50.0)]
        self.successResultOf(store.keep_silences(silences, Noticed(WALL)))
        clock.pump([0.01] * 10)
        self.assertEqual(self.successResultOf(store.silences()).silences, silences)
        self.assertEqual((etcd.revision, store.last_number()), (before, 0))


class SettingsTests(EtcdTestCase):
    """Settings that two replicas change in one moment."""

    async def test_changed_elsewhere(self) -> None:
        """What another replica has changed, unknown to this one, is known then, and stays."""
        one, other = (EtcdStore(self.client, lambda: WALL) for _ in range(2))
        await one.open()
        await one.write_settings([Setting("m", name, "1") for name in "abc"])
        await other.open()
        await one.write_settings([Setting("m", "a", "2"), Setting("m", "b", None)])
        self.assertEqual(other.settings.texts("m"), {"a": "1", "b": "1", "c": "1"})
        replaced = await other.replace_settings(
            [
                (Setting("m", name, text), "1")
                for name, text in (("a", None), ("b", "3"), ("c", "3"))
            ]
        )
        self.assertEqual(replaced, [False, False, True])
        self.assertEqual(other.settings.texts("m"), {"a": "2", "c": "3"})
        self.assertEqual(await other.replace_settings([(Setting("m", "a", None), "2")]), [True])
        await one.open()
        self.assertEqual(one.settings.texts("m"), {"c": "3"})


class Counted(EtcdClient):
    """A client that records the operations of its transactions."""

    def __init__(self, client: EtcdClient) -> None:
        self.__dict__.update(client.__dict__)
        self.txns: list[list[Operation]] = []
        self.broken = False

    def txn(
        self, compares: Sequence[Compare], operations: Sequence[Operation]
    ) -> "Deferred[TxnResult]":
        """Record the operations, and carry out the transaction."""
        if self.broken:
            return fail(EtcdUnavailable("broken"))
        self.txns.append(list(operations))
        return super().txn(compares, operations)


class Interrupted(EtcdClient):
    """A client with which another replica requests a start right after `FORGET` is written."""

    def __init__(self, client: EtcdClient) -> None:
        self.__dict__.update(client.__dict__)

    def txn(
        self, compares: Sequence[Compare], operations: Sequence[Operation]
    ) -> "Deferred[TxnResult]":
        """Carry out the transaction, and the other replica's request after it."""
        return Deferred.fromCoroutine(self._txn(compares, operations))

    async def _txn(self, compares: Sequence[Compare], operations: Sequence[Operation]) -> TxnResult:
        result = await super().txn(compares, operations)
        if Put(REQUEST + b"x1", FORGET) in operations:
            await self.put(REQUEST + b"x1", STARTED_REQUEST)
        return result


class SharingTests(EtcdTestCase):
    """The stores of a leader and a follower."""

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        """Open the store of a leader and that of a follower."""
        await super().setUp()
        await self.client.put(LOCK + b"/1", b"")
        self.elapsed = 1000.0
        self.counted = Counted(self.client)
        self.leader = EtcdStore(self.counted, lambda: WALL)
        self.leader.writer.lock_gained(LOCK + b"/1")
        self.follower = EtcdStore(self.counted, lambda: WALL)
        for store in (self.leader, self.follower):
            await store.open()

    async def stored(self) -> dict[bytes, bytes]:
        """Return the keys and values under `hbtd/`, and the records, without the log."""
        items = (await self.client.range(b"hbtd/", b"xz")).items
        return {each.key: each.value for each in items if not each.key.startswith((LOCK, LOG))}

    async def test_commit_of_a_follower(self):
        """A follower writes records and requests to judge starts, but no judgements."""
        judgements = [
            judgement("x1", STARTED),
            judgement("x2", RESTARTED),
            judgement("x3", STARTED),
            judgement("x4", WARNED),
        ]
        records = [record("x1"), record("x2"), record("x5")]
        self.assertIs(await self.follower.commit(judgements, records), False)
        self.assertEqual(sorted(await self.stored()), [REQUEST + b"x1", b"x1", b"x2", b"x5"])
        self.assertEqual((await self.stored())[REQUEST + b"x1"], b"started")
        self.assertEqual(await self.follower.judgements(), [])
        together = [len(each) for each in self.counted.txns]
        self.assertEqual(together, [4])

    async def test_commit_of_the_leader(self):
        """A leader writes judgements, and `commit` says so."""
        self.assertIs(await self.leader.commit([judgement("x1", DIED)]), True)
        self.assertEqual(list(await self.stored()), [JUDGEMENT + b"x1"])
        self.assertEqual(self.leader.mirror.dead(), ["x1"])

    async def test_fenced(self):
        """Fenced transactions have no effect without the key of the lock."""
        await self.leader.commit([judgement("x1", WARNED)], [record("x1", warned=True)])
        before = await self.stored()
        await self.client.delete(LOCK + b"/1")
        store = self.leader
        for attempt in (
            lambda: store.commit([judgement("x1", DIED)]),
            lambda: store.commit([judgement("x2", STARTED)], [record("x2")]),
            lambda: store.delivered([judgement("x1", WARNED)]),
            lambda: store.forget("x1"),
        ):
            with self.assertRaises(NotLeading):
                await attempt()
        self.assertEqual(await self.stored(), before)
        self.assertEqual(await store.judgements(), [judgement("x1", WARNED)])
        self.assertTrue(store.usable())

    async def test_overtaken_by_another_leader(self):
        """A warning that a former leader did not commit in time is in neither key."""
        busy: Deferred[None] = Deferred()

        async def work() -> None:
            await busy

        other = Deferred.fromCoroutine(self.leader.exclusively(work))
        warning = [judgement("x1", WARNED)], [record("x1")._replace(warned=True), record("x2")]
        committing = self.leader.commit(*warning)
        self.leader.writer.lock_lost()
        busy.callback(None)
        await other
        self.assertIs(await committing, False)
        self.assertEqual(list(await self.stored()), [b"x2"])

    async def test_forgotten_and_back(self):
        """A request that another replica writes while a component is forgotten stays."""
        leader = EtcdStore(Interrupted(self.client), lambda: WALL)
        leader.writer.lock_gained(LOCK + b"/1")
        await leader.open()
        await leader.forget("x1")
        self.assertEqual(await self.stored(), {REQUEST + b"x1": b"started"})

    async def test_delivered_by_a_follower(self):
        """A replica that no longer leads marks nothing as delivered."""
        await self.leader.commit([judgement("x1", STARTED)], [record("x1")])
        self.leader.writer.lock_lost()
        with self.assertRaises(NotLeading):
            await self.leader.delivered([judgement("x1", STARTED)])

    async def test_forget_of_a_follower(self):
        """A follower deletes the record, and requests the rest from the leader."""
        await self.leader.commit([judgement("x1", WARNED)], [record("x1", warned=True)])
        await self.follower.forget("x1")
        self.assertEqual(list(await self.stored()), [JUDGEMENT + b"x1", REQUEST + b"x1"])
        await self.leader.forget("x1")
        self.assertEqual(await self.stored(), {})
        self.assertEqual(await self.leader.judgements(), [])

    async def test_remove_requests(self):
        """Requests are removed, except for one that was written since."""
        await self.follower.commit(
            [judgement(f"x{i}", STARTED) for i in range(300)], [record(f"x{i}") for i in range(300)]
        )
        await self.leader.open()
        self.assertEqual(len(self.leader.mirror.requests), 300)
        await self.follower.forget("x7")
        await self.leader.remove_requests([f"x{i}" for i in range(300)] + ["x999"])
        left = [key for key in await self.stored() if key.startswith(REQUEST)]
        self.assertEqual(left, [REQUEST + b"x7"])
        self.assertEqual(self.leader.mirror.requests.keys() - {"x7"}, set())

    async def test_touch(self):
        """Touching writes the presence key alone; its revision is the newest."""
        self.follower.writer.set_presence(lambda: Put(PRESENCE + b"5", b"me"))
        revision = await self.follower.touch()
        found = await self.client.get(PRESENCE + b"5")
        assert found is not None
        self.assertEqual((found.value, found.mod_revision), (b"me", revision))

    async def test_presence(self):
        """Every transaction begins with the presence key, and is no larger than etcd allows."""
        presence = Put(PRESENCE + b"5", b"me")
        for store in (self.leader, self.follower):
            store.writer.set_presence(lambda: presence)
            names = [f"x{i}" for i in range(500)]
            self.counted.txns.clear()
            await store.checkpoint([record(name) for name in names])
            await store.commit(
                [judgement(name, STARTED) for name in names], [record(name) for name in names]
            )
            await store.forget("x3")
            self.assertGreater(len(self.counted.txns), 11)
            for operations in self.counted.txns:
                self.assertEqual(operations[0], presence)
                self.assertLessEqual(len(operations), 128)

    async def with_blocks(self) -> tuple[EtcdStore, Counted]:
        """Open a store that writes blocks."""
        client = Counted(self.client)
        blocks = Blocks(lambda: self.elapsed, Params)
        blocks.allow(True)
        store = EtcdStore(client, lambda: WALL, blocks)
        await store.open()
        store.writer.set_presence(lambda: Put(PRESENCE + b"5", b"me blocks"))
        return store, client

    async def test_blocks(self):
        """The heartbeats of five hundred components are one transaction with two keys."""
        store, client = await self.with_blocks()
        crowd = [record(f"x{i}") for i in range(500)]
        await store.checkpoint(crowd)
        self.assertEqual(len(await store.records()), 500)
        client.txns.clear()
        await store.checkpoint([each._replace(timestamp="u") for each in crowd])
        keys = [[each.key for each in operations] for operations in client.txns]
        self.assertEqual(keys, [[PRESENCE + b"5", BLOCK + b"5/0"]])
        self.assertEqual({each.timestamp for each in await store.records()}, {"t"})
        await store.write_owed_records()
        self.assertEqual({each.timestamp for each in await store.records()}, {"u"})

    async def test_judged_with_blocks(self):
        """After a warning, a start or a forget the next heartbeat is written as a record."""
        store, client = await self.with_blocks()
        store.writer.lock_gained(LOCK + b"/1")
        crowd = [record(f"x{i}") for i in range(4)]
        for _ in range(2):
            await store.checkpoint(crowd)
        await store.commit([judgement("x0", WARNED)], [record("x0", warned=True)])
        await store.commit([judgement("x1", DIED)])
        await store.forget("x2")
        client.txns.clear()
        await store.checkpoint(crowd)
        written = [each.key for operations in client.txns for each in operations]
        self.assertEqual(written[2:], [b"x0", b"x1", b"x2"])

    async def test_blocks_and_trouble(self):
        """What could not be written in the trouble of etcd is written after it."""
        store, client = await self.with_blocks()
        for _ in range(2):
            await store.checkpoint([record("x1")])
        self.elapsed += 60
        client.broken = True
        for call in (store.checkpoint([record("x2")]), store.write_owed_records()):
            with self.assertRaises(StoreUnusable):
                await call
        client.broken = False
        client.txns.clear()
        await store.checkpoint([record("x2")])
        written = [each.key for operations in client.txns for each in operations]
        self.assertEqual(written[2:], [b"x2", b"x1"])

    async def test_large_records(self):
        """Transactions are bounded in bytes as well."""
        records = [record(f"x{i}", status="\u20ac" * 5000) for i in range(250)]
        await self.leader.checkpoint(records)
        self.assertEqual(len(await self.leader.records()), 250)
        sizes = [
            sum(len(each.value) for each in operations if isinstance(each, Put))
            for operations in self.counted.txns
        ]
        self.assertLessEqual(max(sizes), 512 * 1024)
        self.assertEqual(self.leader.writer.transactions, len(sizes))
        self.assertGreaterEqual(self.leader.writer.bytes_written, sum(sizes))

    async def test_skipped(self):
        """Invalid values are skipped and counted, and logged once for each key."""
        for key in (b"x1", b"x2", JUDGEMENT + b"x1"):
            await self.client.put(key, b"nonsense")
        await self.client.put(b"x3", b"{}")
        with capturedLogs() as events:
            for _ in range(2):
                self.assertEqual([each.component for each in await self.leader.records()], ["x3"])
            await self.leader.open()
        self.assertEqual(self.leader.mirror.skipped_count, 5)
        self.assertEqual(len(lines(events, "warn")), 3)
        self.assertEqual(await self.leader.judgements(), [])

    async def test_closed(self):
        """A closed store refuses calls."""
        await self.leader.close()
        with self.assertRaises(StoreUnusable):
            await self.leader.checkpoint([record("x1")])
        self.assertFalse(self.leader.usable())
        self.assertEqual(await self.stored(), {})
