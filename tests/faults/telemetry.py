"""Two replicas on etcd that tell Kafka, whose leader is killed again and again."""

import random
import signal

from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from hbtd.store.etcd import EtcdStore
from hbtd.telemetry import messages
from hbtd.telemetry.log_reader import KAFKA
from tests.support.fault_story import KILLS
from tests.support.hsm_memory import nodes
from tests.support.mock_kafka import MockBroker, consume
from tests.support.processes import spawn
from tests.support.replicas_running import ReplicasTestCase, Spawned, until_true
from tests.support.running import reactor
from tests.support.telemetry import by_key, contents

LEADERS = max(KILLS // 4, 1)
"""The number of leaders that are killed; each is replaced after ten seconds at the earliest."""

NODES = nodes(12)
TOPIC = "hbtd-killed-leaders"


class KilledLeadersTests(ReplicasTestCase):
    """The log is in etcd; Kafka is librdkafka's mock broker."""

    timeout = 3600

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        """Start a broker, too."""
        await super().setUp()
        self.broker = MockBroker()
        self.addCleanup(self.broker.close)
        self.broker.create_topic(TOPIC, 3)
        self.random = random.Random(14)
        self.beats = 0

    async def start(self) -> Spawned:
        """Start a replica."""
        process = spawn(
            self,
            [
                *("-m", "tests.support.mock_kafka_hbtd", f"--kv_url={self.kv_url}", "--tls=no"),
                *("--port=0", "--nosm", "--warntime=2", "--errtime=4", "--interval=1"),
                f"--telemetry_host={self.broker.address}:{TOPIC}",
            ],
        )
        return Spawned(process, await process.url, self.web)

    async def beat(self, replicas: list[Spawned]) -> None:
        """Let some nodes beat, at any replica."""
        for name in self.random.sample(NODES, 4):
            self.beats += 1
            status = await self.random.choice(replicas).beat(name, f"t{self.beats}")
            self.assertEqual(status, 200)
        await deferLater(reactor, self.random.uniform(0.0, 0.5))

    async def leader(self, replicas: list[Spawned]) -> Spawned:
        """Return the one that leads, once one does; nodes beat meanwhile."""
        end = reactor.seconds() + 30
        while reactor.seconds() < end:
            for each in replicas:
                if await each.leads():
                    return each
            await self.beat(replicas)
        raise self.failureException("nobody leads within 30 s")

    async def test_killed_again_and_again(self) -> None:
        """Kafka has each transition of the log, in order; the repeated ones are counted."""
        replicas = [await self.start(), await self.start()]
        for number in range(LEADERS):
            leader = await self.leader(replicas)
            if number % 10 == 4:
                await deferToThread(self.broker.down)
            if number % 10 == 6:
                await deferToThread(self.broker.up)
            end = reactor.seconds() + self.random.uniform(0.0, 3.0)
            while reactor.seconds() < end:
                await self.beat(replicas)
            leader.process.signal(signal.SIGKILL)
            self.assertEqual(await leader.process.ended, -signal.SIGKILL, leader.process.said)
            replicas.remove(leader)
            replicas.append(await self.start())
        await deferToThread(self.broker.up)
        leader = await self.leader(replicas)
        await self.beat(replicas)

        async def all_told() -> bool:
            # Nobody beats any more: all that were heard have died, and Kafka knows.
            living = await leader.metric('components{state="healthy"}')
            living += await leader.metric('components{state="warned"}')
            return not living and not await leader.metric("kafka_pending")

        await until_true(all_told, 60)
        for each in replicas:
            each.process.signal(signal.SIGTERM)
            self.assertEqual(await each.process.ended, 0, each.process.said)
        await self.check()

    async def check(self) -> None:
        """Compare what Kafka has with the log in etcd."""
        store = EtcdStore(self.client, reactor.seconds, judge="test:0")
        await store.open()
        log = await store.log(0, 10**6)
        self.assertEqual(await store.cursor(KAFKA), log[-1].number)
        found = contents(await deferToThread(consume, self.broker.address, TOPIC))
        expected = by_key(
            (messages.key(each.judgement), messages.value(each.judgement)) for each in log
        )
        self.assertEqual(by_key(dict.fromkeys(found)), expected)
        repeated = len(found) - len(log)
        print(f"{LEADERS} leaders killed, {len(found)} messages, of which {repeated} are repeated")
        self.assertLess(repeated, len(found) / 2)
