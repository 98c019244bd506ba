"""Replicas that tell Kafka: the next leader goes on where the last one stopped."""

import signal

from twisted.internet.threads import deferToThread

from hbtd.telemetry import messages
from hbtd.telemetry.log_reader import KAFKA
from tests.support.hsm_memory import DIED, nodes
from tests.support.mock_kafka import MockBroker, consume
from tests.support.processes import spawn
from tests.support.replicas_running import ReplicasTestCase, Spawned, until_true
from tests.support.running import Hbtd, until
from tests.support.telemetry import by_key, contents

NODES = nodes(20)
TOPIC = "hbtd-replicas"


class TelemetryTests(ReplicasTestCase):
    """Two replicas on etcd, and the mock broker."""

    timeout = 240

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        """Start a broker, too."""
        await super().setUp()
        self.broker = MockBroker()
        self.addCleanup(self.broker.close)
        self.broker.create_topic(TOPIC, 3)
        self.telemetry = {"use_telemetry": True, "telemetry_host": f"{self.broker.address}:{TOPIC}"}
        self.patient = {**self.telemetry, "warntime": 1000, "errtime": 2000}

    async def check(self, leader: Hbtd) -> int:
        """Check that Kafka has the whole log, in order; return how many messages are repeated."""
        store = leader.service.store

        async def all_published() -> bool:
            # One that has just begun to lead does not know yet what waits.
            return await store.cursor(KAFKA) == store.last_number()

        await until_true(all_published, 60)
        log = await store.log(0, 10_000)
        found = contents(await deferToThread(consume, self.broker.address, TOPIC))
        expected = by_key(
            (messages.key(each.judgement), messages.value(each.judgement)) for each in log
        )
        self.assertEqual(by_key(dict.fromkeys(found)), expected)
        return len(found) - len(log)

    async def test_handed_over(self) -> None:
        """What waits for Kafka when the leader stops in order is published by the next one."""
        one, two = await self.replicas(2, sm_timeout=1, **self.patient)
        publisher = one.service.publisher
        for number, name in enumerate(NODES[:10]):
            await one.beat(name, f"a{number}")
        await until(lambda: publisher.published_count == 10)
        self.assertEqual(two.service.publisher.pending_count, 0)
        await deferToThread(self.broker.down)
        await until(lambda: not publisher.connected)
        for number, name in enumerate(NODES[10:]):
            await one.beat(name, f"b{number}")
        await until(lambda: publisher.pending_count == 10)
        await one.service.stopService()
        await until(lambda: two.service.monitor.leading, 60)
        await deferToThread(self.broker.up)
        await two.beat(NODES[0], "c")
        self.assertEqual(await self.check(two), 0)

    async def test_killed(self) -> None:
        """When the leader is killed, the next one publishes all that Kafka may have missed."""
        host = f"--telemetry_host={self.telemetry['telemetry_host']}"
        options = ["--tls=no", "--port=0", "--nosm", "--warntime=2", "--errtime=4", host]
        process = spawn(
            self,
            ["-m", "tests.support.mock_kafka_hbtd", f"--kv_url={self.kv_url}", *options],
        )
        one = Spawned(process, await process.url, self.web)
        await until_true(one.leads)
        two = await self.replica(**self.telemetry)
        for number, name in enumerate(NODES):
            self.assertEqual(await one.beat(name, f"a{number}"), 200)
        process.signal(signal.SIGKILL)
        await until(lambda: two.service.monitor.leading, 60)
        for number, name in enumerate(NODES[:5]):
            await two.beat(name, f"b{number}")
        tracker = two.service.tracker

        async def all_dead_in_the_log() -> bool:
            log = await two.service.store.log(0, 10_000)
            deaths = [each for each in log if each.judgement.transition is DIED]
            # Components whose start had not been committed are not known to the next leader.
            alive = tracker.healthy or tracker.warned
            return tracker.dead >= 5 and not alive and len(deaths) == tracker.dead

        await until_true(all_dead_in_the_log, 60)
        repeated = await self.check(two)
        self.assertLessEqual(repeated, len(NODES))

    async def test_lost_the_lead(self) -> None:
        """A leader that another one replaces drops what it has in memory; the other publishes."""
        one, two = await self.replicas(2, **self.patient)
        await until(lambda: one.service.publisher.connected)
        await deferToThread(self.broker.down)
        await until(lambda: not one.service.publisher.connected)
        for number, name in enumerate(NODES):
            await one.beat(name, f"a{number}")
        await until(lambda: one.service.publisher.pending_count == 20)
        one.service.monitor.become_follower()
        self.assertEqual(one.service.publisher.pending_count, 0)
        # As this replica has the lock still, it may lead again, and repeat something.
        await one.service.stopService()
        await until(lambda: two.service.monitor.leading, 60)
        await deferToThread(self.broker.up)
        await self.check(two)
