"""Three replicas with 2,000 nodes: the leader is killed, the next is stopped, the third exits.

`HBTD_FAULT_SEED` sets the seed of the random numbers.
"""

import os
import signal
import socket
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from random import Random
from typing import Any

from twisted.internet.defer import ensureDeferred
from twisted.internet.task import LoopingCall, deferLater
from twisted.internet.threads import deferToThread

from hbtd.simulator.bulk_update import Update
from hbtd.simulator.fleet import Fleet, node_names
from tests.support.balancer import Balancer
from tests.support.hsm_memory import DIED, KINDS, RESTARTED, STARTED, WARNED
from tests.support.replicas_running import WARNTIME as WARNTIME_OF_SPAWNED
from tests.support.replicas_running import A, B, C, OwnReplicasTestCase, Spawned, until_true
from tests.support.running import reactor, until

SEED = int(os.environ.get("HBTD_FAULT_SEED", "1"))

NODES = 2000
DOOMED = 20
WARNTIME, ERRTIME, INTERVAL = 5, 10, 1
PERIOD = 2.0
LEASE = 10
LATE = 3.0
"""Seconds that a judgement may take to reach HSM on a busy machine."""


class TakeoverTests(OwnReplicasTestCase):
    """Whichever replica leads, HSM gets correct transitions in order."""

    timeout = 300

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        """Start etcd and an HSM whose updates are recorded in order."""
        etcd = await self.start()
        self.heard: dict[str, list[tuple[float, Any]]] = {}
        self.begin(etcd.address, on_update=self.note)
        self.hsm.behaviour.cost_ms = 0.5
        self.etcd = etcd
        self.balancer = Balancer()

    def note(self, update: Update) -> None:
        """Record an update for each of its components."""
        for name in update.names:
            self.heard.setdefault(name, []).append((reactor.seconds(), KINDS[update.message]))

    def last(self, name: str) -> Any:
        """Return the last transition of a node that HSM got, or `None`."""
        return self.heard[name][-1][1] if name in self.heard else None

    async def join(self) -> Spawned:
        """Start another replica."""
        replica = await self.spawned(
            f"--warntime={WARNTIME}", f"--errtime={ERRTIME}", f"--interval={INTERVAL}"
        )
        self.balancer.ports.append(self.port_of(replica))
        return replica

    @staticmethod
    def port_of(replica: Spawned) -> int:
        """Return the port of a replica."""
        return int(replica.url.rpartition(":")[2])

    async def taken_over(self, others: list[Spawned]) -> tuple[Spawned, float]:
        """Wait until one of these leads; return it and the seconds that took."""
        began = reactor.seconds()
        while reactor.seconds() - began < 2 * LEASE + LATE:
            for each in others:
                if await each.leads():
                    return each, reactor.seconds() - began
            await deferLater(reactor, 0.1)
        raise AssertionError(f"no replica leads after {2 * LEASE + LATE} s")

    async def dead(self, names: list[str], since: float, takeover: float) -> float:
        """Assert that nodes are declared dead in time; return the seconds since `since`."""
        within = ERRTIME + takeover + LEASE + LATE
        await until(lambda: all(self.last(each) is DIED for each in names), within)
        return float(reactor.seconds()) - since

    async def test_takeovers(self):
        """A leader is killed, one is stopped, one exits: HSM gets nothing false or outdated."""
        replicas = [await self.join() for _ in range(3)]
        names = node_names(NODES)
        fleet = Fleet(
            reactor, self.balancer, "http://hbtd", names,
            random=Random(SEED), period=PERIOD, timeout=2.0, connections=24,
        )  # fmt: skip
        fleet.startService()
        self.addCleanup(fleet.stopService)
        await until(lambda: len(self.heard) == NODES, within=30)
        figures: list[str] = []
        first_doomed, second_doomed = names[:DOOMED], names[DOOMED : 2 * DOOMED]

        leader, _ = await self.taken_over(replicas)
        await deferLater(reactor, 2 * INTERVAL)
        fleet.kill(first_doomed)
        self.balancer.ports.remove(self.port_of(leader))
        leader.process.signal(signal.SIGKILL)
        began = reactor.seconds()
        replicas.remove(leader)
        leader, took = await self.taken_over(replicas)
        died = await self.dead(first_doomed, began, took)
        figures.append(
            f"killed: {took:.1f} s until another led, {died:.1f} s until deaths were told"
        )

        replicas.append(await self.join())
        await deferLater(reactor, 2 * PERIOD)
        fleet.kill(second_doomed)
        self.balancer.ports.remove(self.port_of(leader))
        leader.process.signal(signal.SIGSTOP)
        began = reactor.seconds()
        stale = leader
        others = [each for each in replicas if each is not stale]
        fleet.revive(first_doomed)
        leader, took = await self.taken_over(others)
        died = await self.dead(second_doomed, began, took)
        figures.append(
            f"stopped: {took:.1f} s until another led, {died:.1f} s until deaths were told"
        )
        await until(lambda: all(self.last(each) is STARTED for each in first_doomed), LATE)

        before = {name: len(told) for name, told in self.heard.items()}
        stale.process.signal(signal.SIGCONT)

        async def follows() -> bool:
            return not await stale.leads() and (await stale.get("readiness"))[0] == 204

        await until_true(follows, within=LEASE)
        self.balancer.ports.append(self.port_of(stale))
        await deferLater(reactor, ERRTIME + LATE)
        news = [name for name, told in self.heard.items() if len(told) != before[name]]
        figures.append(f"woke up: {len(news)} nodes of whom more was told")
        self.assertEqual(news, [], [self.heard[name][-2:] for name in news[:3]])

        self.balancer.ports.remove(self.port_of(leader))
        leader.process.signal(signal.SIGTERM)
        replicas.remove(leader)
        _, took = await self.taken_over(replicas)
        figures.append(f"ended: {took:.1f} s until another led")
        fleet.revive(second_doomed)
        await until(lambda: all(self.last(each) is STARTED for each in second_doomed), LATE)
        await deferLater(reactor, WARNTIME + LATE)

        faults = list(self.faults(set(first_doomed + second_doomed)))
        repeats = Counter(
            what.name
            for told in self.heard.values()
            for (_, what), (_, next_one) in pairwise(told)
            if what is next_one
        )
        print(f"\nseed {SEED}: {'; '.join(figures)}; repeats {dict(repeats)}; {len(faults)} faults")
        print(f"heartbeats: {fleet.statistics.answered}, {dict(fleet.statistics.failures)}")
        self.assertEqual(faults, [])
        for each in replicas:
            self.assertNotIn("Traceback", each.process.said)
            self.assertNotIn(" error ", each.process.said)
        await deferToThread(self.etcd.etcdctl, "endpoint", "health")

    def faults(self, doomed: set[str]) -> Iterator[str]:
        """Return what HSM should not have got, in words."""
        for name, told in self.heard.items():
            kinds = [what for _, what in told]
            distinct = [kinds[0], *(other for one, other in pairwise(kinds) if one is not other)]
            if name not in doomed and distinct != [STARTED]:
                yield f"{name} kept beating, and HSM was told {distinct}"
            without = [each for each in distinct if each is not WARNED]
            if name in doomed and without != [STARTED, DIED, STARTED]:
                yield f"{name} died and came back, and HSM was told {distinct}"
            for one, other in pairwise(kinds):
                if one is DIED and other in (WARNED, RESTARTED):
                    yield f"{name}: {other.name} after its death"


class LateTests(OwnReplicasTestCase):
    """Heartbeats that a replica reads late, because it was stopped."""

    timeout = 120

    async def test_read_late(self):
        """What was sent to a stopped replica revives nobody who was declared dead meanwhile."""
        self.begin((await self.start()).address)
        stopped, other = await self.spawned(), await self.spawned()
        await until_true(stopped.leads)
        for name in (A, B, C):
            self.assertEqual(await stopped.beat(name), 200)
            await self.is_told(name, STARTED)
        await deferLater(reactor, 0.5)  # so that the updates are stored as sent
        beating = LoopingCall(lambda: ensureDeferred(other.beat(B)))
        beating.start(0.5)
        self.addCleanup(lambda: beating.stop() if beating.running else None)
        stopped.process.signal(signal.SIGSTOP)
        # The kernel takes the connection, and keeps what is sent until the replica reads it.
        port = int(stopped.url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), 5) as last_words:
            for name in (A, C):
                last_words.sendall(heartbeat_request(name))
            await until_true(other.leads, within=30)
            await self.is_told(A, STARTED, WARNED, DIED, within=30)
            stopped.process.signal(signal.SIGCONT)
            await deferToThread(last_words.recv, 4096)

        async def follows() -> bool:
            return not await stopped.leads() and (await stopped.get("readiness"))[0] == 204

        await until_true(follows, within=LEASE)
        await deferLater(reactor, 2 * LATE)
        self.assertEqual(self.told(A), [STARTED, WARNED, DIED])
        # Who lives is heard by the replica that was stopped as soon as it has caught up.
        self.assertEqual(await stopped.beat(C), 200)
        await self.is_told(C, STARTED, WARNED, DIED, STARTED)
        beating.stop()
        for _ in range(2 * WARNTIME_OF_SPAWNED):
            self.assertEqual(await stopped.beat(B), 200)
            await deferLater(reactor, 0.5)
        self.assertEqual(self.told(B), [STARTED])


def heartbeat_request(name: str) -> bytes:
    """Return the bytes of a request with a heartbeat."""
    body = b'{"Status": "OK", "Timestamp": "t"}'
    head = f"POST /hmi/v1/heartbeat/{name} HTTP/1.1\r\nHost: hbtd\r\nContent-Length: {len(body)}"
    return f"{head}\r\nContent-Type: application/json\r\n\r\n".encode() + body


class AloneTests(OwnReplicasTestCase):
    """A single replica."""

    timeout = 240

    async def test_stopped(self):
        """After being stopped for long, it soon declares the nodes that died meanwhile dead."""
        self.begin((await self.start()).address)
        alone = await self.spawned()
        await until_true(alone.leads)
        for name in (A, B):
            self.assertEqual(await alone.beat(name), 200)
            await self.is_told(name, STARTED)
        await deferLater(reactor, 0.5)  # so that the updates are stored as sent
        alone.process.signal(signal.SIGSTOP)
        await deferLater(reactor, 40)
        alone.process.signal(signal.SIGCONT)
        woke = reactor.seconds()
        while DIED not in self.told(A):
            self.assertEqual(await alone.beat(B), 200)
            await deferLater(reactor, 0.3)
            # It acquires the lock at once; observed time stands still for up to `warntime`.
            self.assertLess(reactor.seconds() - woke, 20)
        print(f"\nstopped for 40 s: {reactor.seconds() - woke:.1f} s until a death was told")
        self.assertEqual(self.told(B), [STARTED])
