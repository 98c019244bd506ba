"""Replicas that tell each other of heartbeats in blocks."""

import contextlib
import signal
from operator import eq
from typing import Any

from twisted.internet.task import deferLater

from hbtd.replicas.replica import Replica
from hbtd.store.etcd import EtcdStore
from hbtd.store.etcd_blocks import BLOCK
from hbtd.store.etcd_format import LIFE, PRESENCE, read_record
from hbtd.tracker.records import Record
from hbtd.tracker.transitions import Transition
from tests.support.etcd_running import HandyClient
from tests.support.hsm_memory import DIED, STARTED, WARNED, nodes
from tests.support.replicas_running import (
    ERRTIME,
    A,
    B,
    C,
    ReplicasTestCase,
    until_all,
    until_true,
)
from tests.support.running import Hbtd, reactor, until

LEASE = 10
PROMISED = 1.5
"""Seconds within which a follower's heartbeat is in the leader's tracker (docs/performance.md)."""


def store(hbtd: Hbtd) -> EtcdStore:
    """Return the store of a replica."""
    assert isinstance(hbtd.service.store, EtcdStore)
    return hbtd.service.store


def in_blocks(hbtd: Hbtd) -> bool:
    """Return whether a replica writes blocks."""
    return store(hbtd).blocks.allowed


def as_records(hbtd: Hbtd) -> bool:
    """Return whether a replica writes records only."""
    return not in_blocks(hbtd)


def judged(hbtd: Hbtd, name: str) -> tuple[Transition, str] | None:
    """Return the transition and the timestamp of the stored judgement about a component."""
    found = store(hbtd).mirror.judgement(name)
    return found and (found.judgement.transition, found.judgement.timestamp)


class BlocksTestCase(ReplicasTestCase):
    """A test case that looks at records."""

    async def record(self, name: str) -> Record | None:
        """Return the record of a component in etcd, with its age."""
        found = await self.client.get(name.encode())
        return found and read_record(found.key, found.value, reactor.seconds()).record

    async def changes(self, name: str) -> int:
        """Return in which revision the record of a component was written last."""
        found = await self.client.get(name.encode())
        return found.mod_revision if found else 0

    async def pair(self, **params: Any) -> list[Hbtd]:
        """Start a leader and a follower, and wait until they write blocks."""
        replicas = await self.replicas(2, **params)
        await until_all(replicas, in_blocks)
        return replicas

    async def beat_for(self, seconds: float, replicas: list[Hbtd], *names: str) -> int:
        """Let components beat at replicas in turn; return the number of heartbeats of each."""
        end = reactor.seconds() + seconds
        count = 0
        while reactor.seconds() < end:
            for name in names:
                hbtd = replicas[count % len(replicas)]
                self.assertEqual(await hbtd.beat(name, f"{name} {count}"), 200)
            count += 1
            await deferLater(reactor, 0.4)
        return count

    async def owe(self, hbtd: Hbtd, name: str) -> str:
        """Let a component beat until only a block tells of its last heartbeat.

        Return that heartbeat's timestamp. The moment at which a component's record is due, every
        half `errtime`, may come with any heartbeat, but not with two in a row.
        """
        owed = store(hbtd).blocks._owed
        for number in range(3):
            word = f"{name} {number}"

            def owes(word: str = word) -> bool:
                record = owed.get(name)
                return record is not None and record.timestamp == word

            self.assertEqual(await hbtd.beat(name, word), 200)
            with contextlib.suppress(AssertionError):
                await until(owes, 3)
                return word
        raise self.failureException(f"each heartbeat of {name} was written as a record")


class PromisesTests(BlocksTestCase):
    """Nobody who beats is told dead, and every death is told in time."""

    async def test_at_a_follower(self) -> None:
        """Who beats at a follower lives; who no longer does is told in time."""
        leader, follower = await self.pair()
        await self.beat_for(1.0, [follower], A)
        before = store(leader).mirror.skipped_count
        written = await self.changes(A)
        await self.beat_for(ERRTIME + 3, [follower], A)
        self.assertEqual(self.told(A), [STARTED])
        self.assertGreater(await self.changes(A), written)
        silent = reactor.seconds()
        await self.is_told(A, STARTED, WARNED)
        await self.is_told(A, STARTED, WARNED, DIED, within=ERRTIME)
        took = reactor.seconds() - silent
        self.assertGreater(took, ERRTIME - 0.5)
        self.assertLess(took, ERRTIME + 1 + PROMISED)
        self.assertIsNone(await self.record(A))
        self.assertEqual(store(leader).mirror.skipped_count, before)

    async def test_last_word(self) -> None:
        """A judgement about silence has the last timestamp that was sent, at whichever replica."""
        leader, follower = await self.pair(errtime=600)
        for name, at in ((A, [follower]), (B, [leader]), (C, [leader, follower])):
            count = await self.beat_for(2.0, at, name)
            await self.is_told(name, STARTED, WARNED)
            self.assertEqual(judged(leader, name), (WARNED, f"{name} {count - 1}"))
            found = await self.record(name)
            assert found is not None
            self.assertEqual((found.timestamp, found.warned), (f"{name} {count - 1}", True))

    async def test_few_records(self) -> None:
        """While components beat, their records are written every half `errtime` only."""
        replicas = await self.pair(warntime=20, errtime=6000)
        crowd = nodes(10)
        await self.beat_for(1.5, replicas, *crowd)
        before = [await self.changes(name) for name in crowd]
        await self.beat_for(3.0, replicas, *crowd)
        after = [await self.changes(name) for name in crowd]
        # One of them may have had its turn.
        self.assertGreaterEqual(sum(map(eq, before, after)), 8)
        page = await self.client.range(BLOCK, BLOCK + b"~")
        self.assertGreaterEqual(len(page.items), 2)

    async def test_in_the_tracker_in_time(self) -> None:
        """A heartbeat that a follower takes is in the leader's tracker within the time promised."""
        leader, follower = await self.pair(warntime=20, errtime=60)
        await self.beat_for(1.0, [follower], A)
        tracker, clock = leader.service.tracker, leader.service.monitor._observed
        for _ in range(5):
            await deferLater(reactor, 1.0)
            heard = clock.now()
            await follower.beat(A)

            def known(since: float = heard - 0.2) -> bool:
                record = tracker.record(A, clock.now())
                return record is not None and clock.now() - record.age >= since

            await until(known, within=PROMISED)

    async def test_leader_killed_between_blocks(self) -> None:
        """Another leader warns about nobody who beats, and tells who died with the old one."""
        settings = ("--warntime=4", "--errtime=8")
        leader = await self.spawned(*settings)
        await until_true(leader.leads)
        follower = await self.replica(warntime=4, errtime=8)
        await until(lambda: in_blocks(follower))
        for _ in range(5):
            for name in (A, B):
                self.assertEqual(await leader.beat(name), 200)
            self.assertEqual(await follower.beat(C), 200)
            await deferLater(reactor, 0.4)
        self.assertEqual([await leader.beat(A), await leader.beat(B)], [200, 200])
        leader.process.signal(signal.SIGKILL)
        killed = reactor.seconds()
        while len(self.told(B)) < 3:
            await self.beat_for(0.4, [follower], A, C)
            self.assertLess(reactor.seconds() - killed, LEASE + 8 + 20)
        for name in (A, C):
            self.assertEqual(self.told(name), [STARTED])
        self.assertEqual(self.told(B), [STARTED, WARNED, DIED])

    async def test_forgotten(self) -> None:
        """A component that was forgotten stays so, although a block about it is on its way."""
        leader, follower = await self.pair()
        await self.beat_for(1.5, [follower], A)
        await self.is_told(A, STARTED)
        await follower.beat(A)
        leader.service.monitor.forget(A)
        await deferLater(reactor, ERRTIME + 2)
        self.assertEqual(self.told(A), [STARTED])
        self.assertIsNone(await self.record(A))

    async def test_record_deleted(self) -> None:
        """A component whose record was deleted by hand is tracked again with its next heartbeat."""
        leader, follower = await self.pair(warntime=20, errtime=60)
        await self.beat_for(1.5, [follower], A)
        await self.client.delete(A.encode())
        await until(lambda: A not in leader.service.tracker)
        await follower.beat(A)
        await until(lambda: A in leader.service.tracker, within=PROMISED)
        await until_true(lambda: self.record(A))


class OthersTests(BlocksTestCase):
    """Replicas that don't read blocks: earlier ones of ours, and originals."""

    async def appear(self, client: HandyClient, presence: bytes | None) -> int:
        """Join as a replica with this sign of life, or as an original; return the lease."""
        lease = await client.grant(60)
        await client.put(LIFE + b"4711", b"1", lease)
        if presence is not None:
            await client.put(PRESENCE + b"4711", presence, lease)
        return lease

    async def check(self, presence: bytes | None) -> None:
        """Let somebody appear who reads records only, and go."""
        replicas = await self.pair(warntime=20, errtime=60)
        # Nothing is due but for who appears.
        await self.beat_for(1.0, replicas, A)
        last = await self.owe(replicas[1], B)
        lease = await self.appear(self.client, presence)
        await until_all(replicas, as_records, within=8)

        async def last_word(name: str, word: str) -> bool:
            found = await self.record(name)
            return found is not None and found.timestamp == word

        await until_true(lambda: last_word(B, last), within=8)
        for number in range(3):
            await replicas[number % 2].beat(A, str(number))
            await until_true(lambda number=number: last_word(A, str(number)), within=PROMISED)
        await self.client.revoke(lease)
        await until_all(replicas, in_blocks, within=8)
        await self.beat_for(1.0, replicas, A)
        self.assertEqual(self.told(A), [STARTED])

    async def test_original(self) -> None:
        """As soon as an original hbtd appears, records are put right, and written as ever."""
        await self.check(None)

    async def test_earlier(self) -> None:
        """So it is when an earlier replica of ours appears, whose sign of life has no mark."""
        await self.check(b"old:28500 waiting")

    async def test_last_one_stops(self) -> None:
        """Replicas that stop leave no records that are behind, for an original to come."""
        leader, follower = await self.pair(warntime=20, errtime=60)
        owed = {A: await self.owe(leader, A), B: await self.owe(follower, B)}
        for each, name in ((follower, B), (leader, A)):
            await each.service.stopService()
            found = await self.record(name)
            assert found is not None
            self.assertEqual(found.timestamp, owed[name])
            self.assertLess(found.age, 5)
        page = await self.client.range(BLOCK, BLOCK + b"~")
        self.assertEqual(page.items, [])

    async def test_out_of_touch(self) -> None:
        """A replica that does not see who is there writes records."""
        (one,) = await self.replicas(1)
        await until(lambda: in_blocks(one))
        replica = one.service.replica
        assert isinstance(replica, Replica)
        replica.sync._position.fall_behind()
        replica._progressed()
        self.assertFalse(in_blocks(one))

    async def test_foreign_blocks(self) -> None:
        """Blocks that are invalid, or that no replica has written, change nothing."""
        (one,) = await self.replicas(1)
        await self.beat_for(0.8, [one], A)
        await self.is_told(A, STARTED)
        await self.client.put(BLOCK + b"1/0", b"nonsense")
        for _ in range(ERRTIME + 3):
            await self.client.put(BLOCK + b"1/0", b'{"Heard":{"%s":0}}' % A.encode())
            await deferLater(reactor, 0.9)
        self.assertEqual(self.told(A), [STARTED, WARNED, DIED])
