"""The Kafka publisher with librdkafka's broker: nothing blocks, and nothing is lost."""

import gc
import signal
import time
import warnings
from random import random
from threading import Event

from kafka.errors import TopicAuthorizationFailedError
from twisted.internet.defer import gatherResults
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from hbtd.config.live_params import LiveParams
from hbtd.config.params import Params
from hbtd.config.value_types import TelemetryAddress
from hbtd.runtime.logs import LibraryLog
from hbtd.telemetry.kafka import Kafka
from hbtd.telemetry.publisher import MAX_WAITING, KafkaFactory, Publisher
from hbtd.tracker.transitions import Judgement, Transition
from tests.support.mock_kafka import Message, MockBroker, consume
from tests.support.processes import spawn
from tests.support.running import NODE, WebClient, heartbeat, mock_kafka, reactor, until
from tests.support.telemetry import (
    Pulse,
    by_key,
    contents,
    message,
    numbered,
    numbered_messages,
    publisher_threads,
    said_by_publishers,
)

TOPIC = "hbtd-published"
DEAD = "127.0.0.1:1"
SERVED = ("--kv_url=mem:", "--port=0", "--nosm")


class PublisherTestCase(TestCase):
    """A broker, publishers, and a reactor that none of them ever holds up."""

    timeout = 60

    def setUp(self) -> None:
        self.said = said_by_publishers(self)
        self.publishers: list[Publisher] = []
        self.longest_tell = 0.0
        library_log = LibraryLog("kafka")
        library_log.start()
        self.addCleanup(library_log.stop)
        self.broker = self.make_broker()
        self.pulse = Pulse(self)

    async def tearDown(self) -> None:  # type: ignore[override]  # trial waits for it
        await gatherResults(publisher.stopService() for publisher in self.publishers)
        await until(lambda: not publisher_threads())
        # Kafka's client blocks for a second and more where it does.
        self.assertLess(self.pulse.longest_gap, 0.5, "the reactor was held up")
        self.assertLess(self.longest_tell, 0.2, "tell was held up")

    def make_broker(self, partitions: int = 4) -> MockBroker:
        """Start a broker with a topic, until the test ends."""
        broker = MockBroker()
        self.addCleanup(broker.close)
        broker.create_topic(TOPIC, partitions)
        return broker

    def start(
        self, address: str | None = None, connect: KafkaFactory = mock_kafka, sm_timeout: int = 1
    ) -> tuple[Publisher, LiveParams]:
        """Start a publisher, until the test ends; for the broker, if nothing else is said."""
        host = f"{address or self.broker.address}:{TOPIC}"
        params = LiveParams(Params(kv_url="mem:", telemetry_host=host, sm_timeout=sm_timeout))
        publisher = Publisher(reactor, params, connect, random)
        publisher.startService()
        self.publishers.append(publisher)
        return publisher, params

    async def start_connected(self, sm_timeout: int = 1) -> tuple[Publisher, LiveParams]:
        """Start a publisher and wait until it has reached the broker."""
        publisher, params = self.start(sm_timeout=sm_timeout)
        await until(lambda: publisher.connected)
        return publisher, params

    def tell(self, publisher: Publisher, judgements: list[Judgement]) -> None:
        """Have judgements published, and take the time."""
        began = time.monotonic()
        publisher.tell(judgements)
        self.longest_tell = max(self.longest_tell, time.monotonic() - began)

    async def published(
        self, publisher: Publisher, broker: MockBroker | None = None, within: float = 15.0
    ) -> list[Message]:
        """Wait until all is published; gives what an independent client then finds."""
        await until(lambda: publisher.pending_count == 0, within)
        return await deferToThread(consume, (broker or self.broker).address, TOPIC)

    def takes(self, broker: MockBroker | None = None) -> str:
        """Say what is logged when a broker takes messages."""
        return f"Kafka at {(broker or self.broker).address} takes messages."

    def assert_said(self, *lines: str) -> None:
        """Fail unless these are the lines logged so far; they may go on differently."""
        self.assertEqual(
            [said[: len(line)] for said, line in zip(self.said, lines, strict=False)], list(lines)
        )
        self.assertEqual(len(self.said), len(lines), self.said)

    @property
    def gone(self) -> str:
        """What is logged when the broker does not take messages."""
        return f"Kafka at {self.broker.address} takes no messages now, they wait: "


class PublishTests(PublisherTestCase):
    """What is told is published."""

    async def test_bytes_and_order(self):
        """In a topic of one partition all messages are in order, each with its exact bytes."""
        broker = self.make_broker(partitions=1)
        publisher, _ = self.start(broker.address)
        for number, transition in enumerate(Transition):
            self.tell(publisher, [Judgement(f"x0c0s{number}b0n0", transition, "früh")])
        self.assertEqual(
            contents(await self.published(publisher, broker)),
            [
                message(f"x0c0s{number}b0n0", "früh", transition)
                for number, transition in enumerate(Transition)
            ],
        )

    async def test_partitions(self):
        """Over several partitions each component's messages stay in one, and in order."""
        publisher, _ = await self.start_connected()
        for first in range(0, 3000, 100):
            self.tell(publisher, numbered(range(first, first + 100)))
        found = await self.published(publisher)
        self.assertEqual(by_key(contents(found)), numbered_messages(range(3000)))
        self.assertEqual(len({each.partition for each in found}), 4)
        self.assertEqual(len({(each.key, each.partition) for each in found}), 64)
        self.assertEqual((publisher.published_count, publisher.dropped_count), (3000, 0))
        self.assertEqual(publisher.health(), "Connected and OPEN")
        self.assert_said(self.takes())

    async def test_slow_broker(self):
        """A slow broker gets everything and does not count as gone."""
        publisher, _ = await self.start_connected()
        await deferToThread(self.broker.delay, 0.3)
        self.tell(publisher, numbered(range(1000)))
        await until(lambda: publisher.pending_count == 0)
        await deferToThread(self.broker.delay, 0)
        found = await self.published(publisher)
        self.assertEqual(by_key(contents(found)), numbered_messages(range(1000)))
        self.assert_said(self.takes())


class AbsenceTests(PublisherTestCase):
    """While Kafka is away messages wait, at no cost; each change of that is said once."""

    async def test_absent_at_start(self):
        """What is told before Kafka first appears is all published then, in order."""
        await deferToThread(self.broker.down)
        publisher, _ = self.start()
        for number in range(500):
            self.tell(publisher, numbered([number]))
        self.assertEqual(publisher.health(), "Not Connected")
        await until(lambda: self.said)
        for number in range(500, 1000):
            self.tell(publisher, numbered([number]))
        self.assertEqual((publisher.pending_count, publisher.published_count), (1000, 0))
        self.assertEqual(publisher.health(), "Not Connected")
        await deferToThread(self.broker.up)
        found = await self.published(publisher)
        self.assertEqual(by_key(contents(found)), numbered_messages(range(1000)))
        self.assertEqual((publisher.published_count, publisher.dropped_count), (1000, 0))
        self.assert_said(self.gone, self.takes())

    async def test_gone_in_mid_stream(self):
        """A broker that goes with messages in flight and returns gets them all, in order."""
        publisher, _ = await self.start_connected()
        await deferToThread(self.broker.delay, 0.3)
        self.tell(publisher, numbered(range(2000)))
        await until(lambda: 0 < publisher.published_count < 2000)
        await deferToThread(self.broker.down)
        await deferToThread(self.broker.delay, 0)
        await until(lambda: not publisher.connected)
        self.assertEqual(publisher.health(), "Connected and CLOSED")
        self.tell(publisher, numbered(range(2000, 3000)))

        began = time.process_time()
        await deferLater(reactor, 2)
        self.assertLess(time.process_time() - began, 0.6, "waiting took much of a core")

        await deferToThread(self.broker.up)
        found = contents(await self.published(publisher))
        # This broker keeps what is sent again, as what it has not acknowledged is, in order.
        self.assertEqual(by_key(dict.fromkeys(found)), numbered_messages(range(3000)))
        self.assertEqual(
            {key: values[-1] for key, values in by_key(found).items()},
            {key: values[-1] for key, values in numbered_messages(range(3000)).items()},
        )
        self.assertEqual((publisher.published_count, publisher.dropped_count), (3000, 0))
        self.assertEqual(publisher.health(), "Connected and OPEN")
        self.assert_said(self.takes(), self.gone, self.takes())

    async def test_gone_while_idle(self):
        """That Kafka goes and returns is noticed while there is nothing to publish."""
        publisher, _ = await self.start_connected()
        await deferToThread(self.broker.down)
        await until(lambda: publisher.health() == "Connected and CLOSED")
        await deferToThread(self.broker.up)
        await until(lambda: publisher.health() == "Connected and OPEN")
        self.assert_said(self.takes(), self.gone, self.takes())

    async def test_frozen(self):
        """A broker that answers nothing for seconds counts as gone, and gets each message once."""
        publisher, _ = await self.start_connected()
        await deferToThread(self.broker.delay, 60)
        self.tell(publisher, numbered(range(1000)))
        await until(lambda: not publisher.connected)
        await deferToThread(self.broker.delay, 0)
        found = await self.published(publisher)
        self.assertEqual(by_key(contents(found)), numbered_messages(range(1000)))
        self.assert_said(self.takes(), self.gone, self.takes())

    async def test_too_many(self):
        """Of more than 100,000 messages that wait, the oldest are dropped and counted."""
        broker = self.make_broker(partitions=16)  # it keeps five megabytes of each
        await deferToThread(broker.down)
        publisher, _ = self.start(broker.address)
        for first in range(0, MAX_WAITING + 5000, 35_000):
            self.tell(publisher, numbered(range(first, first + 35_000)))
            await deferLater(reactor, 0)
        self.assertEqual((publisher.pending_count, publisher.dropped_count), (MAX_WAITING, 5000))
        await deferToThread(broker.up)
        found = await self.published(publisher, broker, within=40)
        expected = numbered_messages(range(5000, MAX_WAITING + 5000))
        self.assertEqual(len(found), MAX_WAITING)
        self.assertTrue(by_key(contents(found)) == expected, "not the youngest, in order")
        self.assertEqual((publisher.published_count, publisher.dropped_count), (MAX_WAITING, 5000))


class ParametersTests(PublisherTestCase):
    """Parameters take effect at once."""

    async def test_moved(self):
        """With another Telemetry_host, all that waits goes there, in order."""
        publisher, params = await self.start_connected()
        await deferToThread(self.broker.down)
        self.tell(publisher, numbered(range(2000)))
        await until(lambda: not publisher.connected)
        other = self.make_broker()
        params.patch({"Telemetry_host": f"{other.address}:{TOPIC}"})
        self.assertEqual(publisher.health(), "Not Connected")
        found = await self.published(publisher, other)
        self.assertEqual(by_key(contents(found)), numbered_messages(range(2000)))
        self.assertEqual((publisher.published_count, publisher.dropped_count), (2000, 0))
        self.assertEqual(publisher.health(), "Connected and OPEN")
        self.assert_said(self.takes(), self.gone, self.takes(other))

    async def test_switched_off_and_on(self):
        """Without Use_telemetry what waits is dropped, and counted; later messages do not wait."""
        await deferToThread(self.broker.down)
        publisher, params = self.start()
        self.tell(publisher, numbered(range(100)))
        params.patch({"Use_telemetry": "0"})
        self.assertEqual(publisher.health(), "Not Connected")
        await until(lambda: publisher.dropped_count == 100)
        self.tell(publisher, numbered(range(100, 200)))
        self.assertEqual((publisher.pending_count, publisher.dropped_count), (0, 100))
        await deferToThread(self.broker.up)
        params.patch({"Use_telemetry": "1"})
        self.tell(publisher, numbered(range(200, 300)))
        found = await self.published(publisher)
        self.assertEqual(by_key(contents(found)), numbered_messages(range(200, 300)))
        self.assert_said("Nothing is published", self.takes())

    async def test_switched_off_while_connecting(self):
        """A connection that is made only after Use_telemetry went off changes and says nothing."""
        connecting, proceed, parted = Event(), Event(), Event()

        class Slow(Kafka):
            def abandon(self) -> None:
                super().abandon()
                parted.set()

        def connect(address: TelemetryAddress) -> Kafka:
            connecting.set()
            proceed.wait(10)
            return Slow(address, api_version=(2, 3))

        publisher, params = self.start(connect=connect)
        await until(connecting.is_set)
        params.patch({"Use_telemetry": "0"})
        proceed.set()
        await until(parted.is_set)
        self.assertEqual(publisher.health(), "Not Connected")
        self.assert_said("Nothing is published")


class StopTests(PublisherTestCase):
    """A publisher that stops gives Kafka a last chance, for `Sm_timeout` seconds at most."""

    async def stop(self, *publishers: Publisher) -> float:
        """Stop publishers; gives how long that took."""
        began = time.monotonic()
        await gatherResults(publisher.stopService() for publisher in publishers)
        return time.monotonic() - began

    async def test_flushed(self):
        """What waits is published before the publisher has stopped."""
        publisher, _ = self.start(sm_timeout=20)
        self.tell(publisher, numbered(range(5000)))
        self.assertLess(await self.stop(publisher), 15)
        self.assertEqual((publisher.published_count, publisher.pending_count), (5000, 0))
        found = await self.published(publisher)
        self.assertEqual(by_key(contents(found)), numbered_messages(range(5000)))

    async def test_last_chance(self):
        """A broker that returns while the publisher stops gets what waits."""
        publisher, _ = await self.start_connected(sm_timeout=20)
        await deferToThread(self.broker.down)
        self.tell(publisher, numbered(range(100)))
        await until(lambda: not publisher.connected)
        stopped = publisher.stopService()
        await deferToThread(self.broker.up)
        await stopped
        self.assertEqual((publisher.published_count, publisher.pending_count), (100, 0))

    async def test_nobody_there(self):
        """A dead port or one that never answers costs little time, and no sockets that stay."""
        # What kafka-python leaves open only the garbage collector closes, some time.
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        silent = reactor.listenTCP(0, Factory.forProtocol(Protocol), interface="127.0.0.1")
        self.addCleanup(silent.stopListening)
        publishers = [
            self.start(address, connect=Kafka)[0]
            for address in (DEAD, f"127.0.0.1:{silent.getHost().port}")
        ]
        for publisher in publishers:
            self.tell(publisher, numbered(range(1000)))
        began = time.process_time()
        await deferLater(reactor, 2)
        self.assertLess(time.process_time() - began, 0.6, "waiting took much of a core")
        self.assertLess(await self.stop(*publishers), 2.5)
        self.assertEqual([publisher.health() for publisher in publishers], ["Not Connected"] * 2)
        await until(lambda: not publisher_threads())
        with warnings.catch_warnings(record=True) as left_open:
            warnings.simplefilter("always", ResourceWarning)
            gc.collect()
        self.assertEqual([str(warning.message) for warning in left_open], [])

    async def test_answers_no_more(self):
        """A broker that freezes in mid-stream is left in time, and what it lacks is counted."""
        publisher, _ = await self.start_connected()
        await deferToThread(self.broker.delay, 60)
        self.tell(publisher, numbered(range(1000)))
        self.assertLess(await self.stop(publisher), 2.5)
        self.assert_said(self.takes(), "1000 messages were not published.")

    async def test_refused(self):
        """A Kafka that refuses at once is tried a few times more, not all the time."""
        attempts = []

        def connect(address: TelemetryAddress) -> Kafka:
            attempts.append(address)
            raise TopicAuthorizationFailedError(address.topic)

        publisher, _ = self.start(connect=connect)
        self.tell(publisher, numbered(range(10)))
        await until(lambda: self.said)
        await self.stop(publisher)
        self.assertLess(len(attempts), 10)
        self.assert_said(self.gone, "10 messages were not published.")

    async def test_process(self):
        """A process with messages for a dead Kafka serves, and ends in time, in good order."""
        process = spawn(
            self,
            ["-m", "hbtd", *SERVED, "--sm_timeout=1", f"--telemetry_host={DEAD}:{TOPIC}"],
        )
        url = await process.url
        client = WebClient(self)
        status, _ = await client.request("POST", f"{url}/hmi/v1/heartbeat", heartbeat())
        self.assertEqual(status, 200)
        await until(lambda: f"Heartbeat started: {NODE}" in process.said)
        _, health = await client.request("GET", f"{url}/hmi/v1/health")
        self.assertEqual(health["MsgBus"], "Not Connected")
        began = time.monotonic()
        process.signal(signal.SIGTERM)
        self.assertEqual(await process.ended, 0, process.said)
        self.assertLess(time.monotonic() - began, 5)
        self.assertNotIn("Traceback", process.said)
