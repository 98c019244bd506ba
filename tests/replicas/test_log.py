"""The log of transitions, on replicas that share one etcd."""

from collections.abc import AsyncIterator
from typing import Any

from hbtd.etcd.client import EtcdClient
from hbtd.etcd.messages import KeyValue, Page
from hbtd.replicas.replica import Replica
from hbtd.store.etcd_log_format import CURSOR, LOG, log_key
from hbtd.store.interface import LogEntry
from tests.support.hsm_memory import DIED, STARTED, WARNED
from tests.support.replicas_running import A, B, ReplicasTestCase, until_all
from tests.support.running import Hbtd, until


class Recorder(EtcdClient):
    """A client that records what is read in pages."""

    def __init__(self, client: EtcdClient) -> None:
        self.__dict__.update(client.__dict__)
        self.read: list[KeyValue] = []

    async def pages(self, start: bytes, end: bytes, **options: Any) -> AsyncIterator[Page]:
        """Read page by page."""
        async for page in super().pages(start, end, **options):
            self.read += page.items
            yield page


def last_number(hbtd: Hbtd) -> int:
    """Return the last number of the log that a replica knows."""
    return hbtd.service.store.last_number()


class LogTests(ReplicasTestCase):
    """What the leader judges is logged; all replicas see the same log."""

    async def logged(self, hbtd: Hbtd) -> list[LogEntry]:
        """Return the log as a replica reads it."""
        return list(await hbtd.service.store.log(0, 1000))

    async def test_shared(self):
        """Leader and follower read the same entries, with the same numbers."""
        leader, follower = await self.replicas(2)
        await follower.beat(A)
        await leader.beat(B)
        await self.is_told(A, STARTED, WARNED, DIED)
        await until(lambda: len(self.told(B)) == 3)
        entries = await self.logged(leader)
        self.assertEqual([each.number for each in entries], list(range(1, 7)))
        for name in (A, B):
            made = [e.judgement for e in entries if e.judgement.component == name]
            self.assertEqual([each.transition for each in made], [STARTED, WARNED, DIED])
        self.assertEqual(await self.logged(follower), entries)
        await until_all([leader, follower], lambda each: last_number(each) == 6)

    async def test_next_leader(self):
        """The next leader's entries follow those of the one before, and are as many."""
        leader, other = await self.replicas(2)
        await leader.beat(A)
        await self.is_told(A, STARTED)
        await leader.service.stopService()
        await self.is_told(A, STARTED, WARNED, DIED)
        entries = await self.logged(other)
        self.assertEqual([each.number for each in entries], [1, 2, 3])
        kinds = [each.judgement.transition for each in entries]
        self.assertEqual(kinds, [STARTED, WARNED, DIED])

    async def test_load(self):
        """A replica that starts reads nothing of the log but its last number, and goes on there."""
        for number in (3, 480, 500):
            await self.client.put(log_key(number), b"a value that nobody reads")
        (hbtd,) = await self.replicas(1)
        self.assertEqual(last_number(hbtd), 500)
        await hbtd.beat(A)
        await self.is_told(A, STARTED)
        self.assertEqual([each.number for each in await hbtd.service.store.log(500, 9)], [501])
        replica: Any = hbtd.service.replica
        assert isinstance(replica, Replica)
        recorder = replica.sync._client = Recorder(replica.sync._client)
        replica.sync.reload()
        await until(lambda: replica.sync.synchronized)
        read = {each.key for each in recorder.read}
        self.assertIn(A.encode(), read)
        self.assertEqual([key for key in read if key.startswith(LOG)], [])

    async def test_cursor_of_a_lost_log(self):
        """Where a cursor has been, no entry is numbered again, whatever became of the log."""
        await self.client.put(CURSOR + b"kafka", b"70")
        (hbtd,) = await self.replicas(1)
        await hbtd.beat(A)
        await self.is_told(A, STARTED)
        self.assertEqual([each.number for each in await self.logged(hbtd)], [71])

    async def test_trimmed(self):
        """What the leader has trimmed is gone for all; followers, and judging, go on."""
        leader, follower = await self.replicas(2)
        await follower.beat(A)
        await self.is_told(A, STARTED, WARNED, DIED)
        self.assertEqual(await leader.service.store.trim(1e12, 0, 10**15), 2)
        self.assertEqual([each.number for each in await self.logged(follower)], [3])
        await follower.beat(A)
        await self.is_told(A, STARTED, WARNED, DIED, STARTED)
        entries = await self.logged(follower)
        self.assertEqual([each.number for each in entries], [3, 4])
        self.assertEqual([e.judgement.transition for e in entries], [DIED, STARTED])
        await until_all([leader, follower], lambda each: last_number(each) == 4)
