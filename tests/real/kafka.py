"""hbtd as a process, with a real Apache Kafka that fails in several ways."""

import functools
import json
import re
import signal
import time
from collections.abc import Callable, Mapping
from itertools import chain, cycle, groupby
from unittest import skipIf

from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from twisted.internet.task import LoopingCall, deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from hbtd.tracker.transitions import Transition
from tests.support.kafka_nodes import HBTD, Nodes, judged
from tests.support.mock_kafka import consume
from tests.support.processes import HbtdProcess, spawn
from tests.support.real_kafka import RealKafka, why_not
from tests.support.relay import Relay
from tests.support.replicas_running import until_true
from tests.support.running import NODE, WebClient, reactor, until
from tests.support.telemetry import by_key, contents, message
from tests.support.telemetry_kills import KilledPublishers

REASON = why_not()


@functools.cache
def shared_kafka() -> RealKafka:
    """Return the broker of all tests, which ends with this process."""
    return RealKafka(partitions=4)


@skipIf(REASON is not None, REASON or "")
class RealKafkaTestCase(TestCase):
    """A test case with a broker, and a topic and an hbtd for each test."""

    timeout = 240

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.kafka = shared_kafka()
        self.addCleanup(self.kafka.thaw)
        if not self.kafka.running:
            await deferToThread(self.kafka.start)

    async def serve(
        self, *options: str, at: str | None = None, connected: bool = True
    ) -> tuple[HbtdProcess, Nodes]:
        """Start an hbtd that publishes, until the test ends; return it and its nodes.

        It is given the address `at`, or that of the broker, and `connected` to Kafka.
        """
        process = spawn(
            self,
            [*HBTD, *options, f"--telemetry_host={at or self.kafka.address}:{self.topic}"],
        )
        nodes = Nodes(WebClient(self), await process.url)
        if connected:
            await until(lambda: "accepts messages" in process.said)
        return process, nodes

    @property
    def topic(self) -> str:
        """The topic of this test."""
        return f"hbtd.{self._testMethodName}"


class LifeTests(RealKafkaTestCase):
    """Messages about a node."""

    async def test_life_of_a_node(self) -> None:
        """Every transition is published, in order, with its exact bytes."""
        process, nodes = await self.serve("--warntime=1", "--errtime=3")
        await nodes.beat(NODE, "one")
        await until(lambda: "might be dead" in process.said)
        await nodes.beat(NODE, 'two: "früh"\n')
        await until(lambda: "declared dead" in process.said)
        await nodes.beat(NODE, "three")
        found = await deferToThread(consume, self.kafka.address, self.topic, 6)
        self.assertEqual(
            contents(found),
            [
                message(NODE, "one", Transition.STARTED),
                message(NODE, "one", Transition.WARNED),
                message(NODE, r"two: \"früh\"\n", Transition.RESTARTED),
                message(NODE, r"two: \"früh\"\n", Transition.WARNED),
                message(NODE, r"two: \"früh\"\n", Transition.DIED),
                message(NODE, "three", Transition.STARTED),
            ],
        )


class TroubleTests(RealKafkaTestCase):
    """After any outage of Kafka it has every transition once and in order."""

    async def survives(
        self, leave: Callable[[], None], back: Callable[[], None], away: float
    ) -> None:
        """Make transitions while the broker fails, is away, and is back; check the messages."""
        process, nodes = await self.serve("--warntime=1", "--errtime=1000")
        turn = 0

        async def beat() -> None:
            nonlocal turn
            turn += 1
            # A new node each time; the others so rarely that they are warned about in between.
            for slot in range(turn % 3, turn, 3):
                await nodes.beat(f"x1c0s{slot}b0n0", str(turn))

        beating = LoopingCall(beat)
        beating.start(0.8)
        self.addCleanup(lambda: beating.stop() if beating.running else None)

        await until(lambda: turn >= 4)
        await deferToThread(leave)
        await deferLater(reactor, away)
        self.assertEqual(changes(process), ["accepts", "accepts no"])
        await deferToThread(back)
        await until(lambda: len(changes(process)) == 3, within=20)
        returned = turn
        await until(lambda: turn >= returned + 3)
        beating.stop()
        metrics = await nodes.silent_and_told()

        found = await deferToThread(consume, self.kafka.address, self.topic)
        self.assertEqual(len(found), metrics["hbtd_kafka_published_total"])
        self.assertEqual(len(found), judged(metrics))
        self.assertGreater(len(found), 50)
        for name, values in by_key(contents(found)).items():
            times = [json.loads(value)["LastHBTimeStamp"] for value in values]
            life = chain([Transition.STARTED], cycle([Transition.WARNED, Transition.RESTARTED]))
            self.assertEqual(
                values,
                [message(name.decode(), *each)[1] for each in zip(times, life, strict=False)],
            )
            self.assertEqual(times, sorted(times, key=int))
        self.assertEqual(changes(process), ["accepts", "accepts no", "accepts"])
        self.assertLess(nodes.longest, 3.0, "Kafka delayed a heartbeat")
        self.assertNotIn("Traceback", process.said)

    async def test_stopped(self) -> None:
        """A broker that is stopped for ten seconds gets every transition once, in order."""
        await self.survives(self.kafka.stop, self.kafka.start, away=10)

    async def test_killed(self) -> None:
        """A broker that is killed and restarted gets every transition once, in order."""
        await self.survives(self.kafka.kill, self.kafka.start, away=2)

    async def test_frozen(self) -> None:
        """A broker that is frozen for twelve seconds gets every transition once, in order."""
        # Longer than a request may take: requests in the broker's sockets are sent again.
        await self.survives(self.kafka.freeze, self.kafka.thaw, away=12)

    async def test_end_without_kafka(self) -> None:
        """With messages for a broker that does not answer, hbtd exits in time and with 0."""
        process, nodes = await self.serve("--sm_timeout=1")
        self.kafka.freeze()
        await nodes.beat(NODE, "now")
        await until(lambda: "Heartbeat started" in process.said)
        began = time.monotonic()
        process.signal(signal.SIGTERM)
        self.assertEqual(await process.ended, 0, process.said)
        self.assertLess(time.monotonic() - began, 15)
        self.assertIn("1 message was not published", process.said)
        self.assertNotIn("Traceback", process.said)


class DeployedAnewTests(RealKafkaTestCase):
    """A Kafka that has other brokers than before, behind the same address."""

    timeout = 240

    async def test_moved(self) -> None:
        """What waits is published to the new brokers, which have other advertised addresses."""
        other = RealKafka(partitions=4)
        self.addCleanup(deferToThread, other.close)
        relay = Relay(self, self.kafka.address)
        process, nodes = await self.serve("--warntime=1000", "--errtime=2000", at=relay.address)
        names = [f"x1c0s{slot}b0n0" for slot in range(40)]
        for name in names[:10]:
            await nodes.beat(name, "before")
        self.assertEqual(len(await deferToThread(consume, self.kafka.address, self.topic, 10)), 10)

        async def acknowledged() -> bool:
            return (await nodes.metrics())["hbtd_kafka_published_total"] == 10

        # What hbtd does not know to be there it would publish again.
        await until_true(acknowledged, within=30)
        await deferToThread(self.kafka.kill)
        await until(lambda: changes(process) == ["accepts", "accepts no"])
        for name in names[10:30]:
            await nodes.beat(name, "meanwhile")
        await deferToThread(other.start)
        relay.move(other.address)
        await until(lambda: len(changes(process)) == 3, within=90)
        for name in names[30:]:
            await nodes.beat(name, "afterwards")
        found = contents(await deferToThread(consume, other.address, self.topic, 30))
        self.assertEqual(sorted(key.decode() for key, _ in found), sorted(names[10:]))
        self.assertLess(nodes.longest, 3.0, "Kafka delayed a heartbeat")
        self.assertNotIn("Traceback", process.said)


class TopicTests(RealKafkaTestCase):
    """A topic that does not exist, and one that takes only small messages."""

    timeout = 180

    async def test_no_topic(self) -> None:
        """While the topic does not exist, that is said, and messages wait until it does."""
        strict = RealKafka(properties={"auto.create.topics.enable": "false"})
        self.addCleanup(deferToThread, strict.close)
        await deferToThread(strict.start)
        process, nodes = await self.serve(at=strict.address, connected=False)
        await nodes.beat(NODE, "early")
        await until(lambda: "accepts no messages" in process.said, 60)
        await deferToThread(create_topic, strict.address, self.topic)
        found = await deferToThread(consume, strict.address, self.topic, 1, 60.0)
        self.assertEqual(contents(found), [message(NODE, "early")])
        self.assertEqual(process.said.count("accepts no messages"), 1, process.said)
        self.assertIn(f"no topic {self.topic}", process.said)

    async def test_too_large(self) -> None:
        """A message that is too large for the topic is said, and those behind it get through."""
        config = {"max.message.bytes": "330"}
        await deferToThread(create_topic, self.kafka.address, self.topic, config)
        process, nodes = await self.serve()
        await nodes.beat("x3c0s0b0n0", "small")
        await nodes.beat("x3c0s1b0n0", "large" * 50)
        await nodes.beat("x3c0s2b0n0", "small")
        await until(lambda: "1 message was refused by Kafka" in process.said, 60)
        await nodes.beat("x3c0s1b0n0", "small")
        found = contents(await deferToThread(consume, self.kafka.address, self.topic, 2))
        self.assertEqual({key for key, _ in found}, {b"x3c0s0b0n0", b"x3c0s2b0n0"})
        metrics = await nodes.metrics()
        self.assertEqual(metrics["hbtd_kafka_refused_total"], 1)
        self.assertEqual(metrics["hbtd_kafka_pending"], 0)


class KillTests(RealKafkaTestCase):
    """hbtd is killed again and again over one SQLite file."""

    timeout = 900

    async def test_killed_a_hundred_times(self) -> None:
        """Kafka has each transition of the log, in order; the repeated ones are counted."""
        story = KilledPublishers(self, ("-m", "hbtd"), self.kafka.address, self.topic)
        for number in range(100):
            if number == 40:
                await deferToThread(self.kafka.kill)
            if number == 60:
                await deferToThread(self.kafka.start)
            off = number % 10 == 7
            await story.live("--use_telemetry=no" if off else "--use_telemetry=yes")
        await story.last()
        await story.check()
        print(f"{story.found} messages, of which {story.repeated} are repeated")
        self.assertLess(story.repeated, story.found / 2)

    async def test_off_and_on(self) -> None:
        """What happens while telemetry is off is published once it is on again."""
        process, nodes = await self.serve()
        await nodes.beat("x3c0s0b0n0", "on")
        await deferToThread(consume, self.kafka.address, self.topic, 1)
        while (await nodes.metrics())["hbtd_kafka_pending"]:
            await deferLater(reactor, 0.05)
        await nodes.patch(Use_telemetry="0")
        await nodes.beat("x3c0s1b0n0", "off")
        await until(lambda: "Heartbeat started: x3c0s1b0n0" in process.said)
        await nodes.patch(Use_telemetry="1")
        await nodes.beat("x3c0s2b0n0", "on")
        found = contents(await deferToThread(consume, self.kafka.address, self.topic, 3))
        self.assertEqual(
            sorted(found),
            [message(f"x3c0s{slot}b0n0", text) for slot, text in enumerate(("on", "off", "on"))],
        )


def create_topic(address: str, topic: str, config: Mapping[str, str] | None = None) -> None:
    """Create a topic of one partition."""
    admin = AdminClient({"bootstrap.servers": address, "log_level": 0})
    made = admin.create_topics([NewTopic(topic, 1, 1, config=dict(config or {}))])
    made[topic].result(20)


def changes(process: HbtdProcess) -> list[str]:
    """Return the changes of Kafka's availability that hbtd has logged.

    An outage has a line for each of its causes.
    """
    said = re.findall(r"Kafka at \S+ (accepts(?: no)?) messages", process.said)
    return [change for change, _ in groupby(said)]
