"""The Kafka publisher with librdkafka's mock broker: nothing blocks, and nothing is lost."""

import gc
import signal
import time
import warnings
from collections.abc import Callable
from random import random
from threading import Event, Thread
from typing import Any

import orjson
from kafka.errors import (
    MessageSizeTooLargeError,
    PolicyViolationError,
    TopicAuthorizationFailedError,
)
from twisted.internet.defer import Deferred, fail, gatherResults
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from hbtd.config.live_params import LiveParams
from hbtd.config.params import Params
from hbtd.config.value_types import TelemetryAddress
from hbtd.store.interface import StoreUnusable
from hbtd.store.memory import MemoryStore
from hbtd.store.trimming import MAX_WAITING
from hbtd.telemetry.background import Background
from hbtd.telemetry.kafka import Kafka, KafkaUnreachable
from hbtd.telemetry.log_reader import KAFKA
from hbtd.telemetry.publisher import Publisher
from hbtd.tracker.transitions import Judgement, Transition
from tests.support.processes import spawn
from tests.support.publishing import TOPIC, PublisherTestCase
from tests.support.running import NODE, WebClient, heartbeat, mock_kafka, reactor, until
from tests.support.telemetry import (
    NAMES,
    by_key,
    contents,
    message,
    numbered,
    numbered_messages,
    publisher_threads,
)

DEAD = "127.0.0.1:1"
SERVED = ("--kv_url=mem:", "--port=0", "--nosm")


class PublishTests(PublisherTestCase):
    """Publishing to a broker that is available."""

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
        """With several partitions, each component's messages are in one of them, in order."""
        publisher, _ = await self.start_connected()
        for first in range(0, 3000, 100):
            self.tell(publisher, numbered(range(first, first + 100)))
        found = await self.published(publisher)
        self.assertEqual(by_key(contents(found)), numbered_messages(range(3000)))
        self.assertEqual(len({each.partition for each in found}), 4)
        self.assertEqual(len({(each.key, each.partition) for each in found}), len(NAMES))
        self.assertEqual((publisher.published_count, publisher.dropped_count), (3000, 0))
        self.assertEqual(publisher.health(), "Connected and OPEN")
        self.assert_said(self.takes())

    async def test_slow_broker(self):
        """A slow broker gets all messages, and does not count as unavailable."""
        publisher, _ = await self.start_connected()
        await deferToThread(self.broker.delay, 0.3)
        self.tell(publisher, numbered(range(1000)))
        await until(lambda: publisher.pending_count == 0)
        await deferToThread(self.broker.delay, 0)
        found = await self.published(publisher)
        self.assertEqual(by_key(contents(found)), numbered_messages(range(1000)))
        self.assert_said(self.takes())


class OutageTests(PublisherTestCase):
    """Outages of Kafka: messages wait, without using the CPU, and each change is logged once."""

    async def test_unavailable_at_start(self):
        """Messages that wait for Kafka from the start are all published, in order."""
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
        self.assertRegex(publisher.reason or "", r"^Kafka at \S+:\d+: (?!no connection yet)")
        await deferToThread(self.broker.up)
        found = await self.published(publisher)
        self.assertEqual(by_key(contents(found)), numbered_messages(range(1000)))
        self.assertEqual((publisher.published_count, publisher.dropped_count), (1000, 0))
        self.assert_said(self.gone, self.takes())

    async def test_messages_in_flight(self):
        """A broker that fails with messages in flight gets them all afterwards, in order."""
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
        self.assertLess(time.process_time() - began, 1.0, "waiting took much of a core")

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

    async def test_idle(self):
        """Outages are noticed while there is nothing to publish."""
        publisher, _ = await self.start_connected()
        self.assertIsNone(publisher.reason)
        await deferToThread(self.broker.down)
        await until(lambda: publisher.health() == "Connected and CLOSED")
        self.assertIn("the connection is lost", publisher.reason)
        await deferToThread(self.broker.up)
        await until(lambda: publisher.health() == "Connected and OPEN")
        self.assert_said(self.takes(), self.gone, self.takes())

    async def test_hanging(self):
        """A broker that hangs counts as unavailable, and gets each message once."""
        publisher, _ = await self.start_connected()
        await deferToThread(self.broker.delay, 60)
        self.tell(publisher, numbered(range(1000)))
        await until(lambda: not publisher.connected)
        await deferToThread(self.broker.delay, 0)
        found = await self.published(publisher)
        self.assertEqual(by_key(contents(found)), numbered_messages(range(1000)))
        self.assert_said(self.takes(), self.gone, self.takes())

    async def test_too_many(self):
        """When more than 100,000 messages wait, the oldest are dropped and counted."""
        broker = self.make_broker(partitions=16)  # it keeps five megabytes of each
        await deferToThread(broker.down)
        publisher, _ = self.start(broker.address)
        for first in range(0, MAX_WAITING + 5000, 35_000):
            self.tell(publisher, numbered(range(first, first + 35_000)))
            await deferLater(reactor, 0)
        self.assertEqual((publisher.pending_count, publisher.dropped_count), (MAX_WAITING, 5000))
        await deferToThread(broker.up)
        found = await self.published(publisher, broker, within=100)
        expected = numbered_messages(range(5000, MAX_WAITING + 5000))
        self.assertEqual(len(found), MAX_WAITING)
        self.assertTrue(by_key(contents(found)) == expected, "not the youngest, in order")
        self.assertEqual((publisher.published_count, publisher.dropped_count), (MAX_WAITING, 5000))


class _Answer:
    """The future of a message that a `PickyKafka` has answered already."""

    is_done = True

    def __init__(self, exception: Exception | None) -> None:
        self.exception = exception

    def failed(self) -> bool:
        """Return whether the message was refused."""
        return self.exception is not None

    def succeeded(self) -> bool:
        """Return whether it was accepted."""
        return self.exception is None


class PickyKafka:
    """A Kafka that can be reached, and refuses each batch with messages that it does not like."""

    connected = True

    def __init__(self, refuses: Callable[[int], bool], error: Exception) -> None:
        self.refuses = refuses
        self.error = error
        self.accepted: list[int] = []
        self.connections = 0
        self._refusing = False

    def connect(self, address: TelemetryAddress) -> Any:
        """Accept a connection."""
        self.connections += 1
        self._refusing = False
        return self

    def send(self, key: bytes, value: bytes) -> _Answer:
        """Take a message; the first that is refused in a connection takes the rest with it."""
        number = int(orjson.loads(value)["LastHBTimeStamp"])
        self._refusing = self._refusing or self.refuses(number)
        if self._refusing:
            return _Answer(self.error)
        self.accepted.append(number)
        return _Answer(None)

    def abandon(self) -> None:
        """Take note that the connection is closed."""


class UnreachableTests(PublisherTestCase):
    """What is said of a Kafka to which no connection can be made."""

    async def test_reasons(self):
        """The reason is the one of the system, not kafka-python's, which has none."""
        silent = reactor.listenTCP(0, Factory.forProtocol(Protocol), interface="127.0.0.1")
        self.addCleanup(silent.stopListening)
        for address, said in (
            (DEAD, "no broker answers there (connection refused)"),
            (
                f"127.0.0.1:{silent.getHost().port}",
                "a server accepts connections there, but does not answer like Kafka without TLS",
            ),
            ("nowhere.invalid:9092", "its name can't be looked up ("),
        ):
            host, _, port = address.rpartition(":")
            with self.assertRaises(KafkaUnreachable) as raised:
                await deferToThread(
                    Kafka, TelemetryAddress(host, int(port), "t"), bootstrap_timeout_ms=300
                )
            self.assertEqual(str(raised.exception)[: len(said)], said)


class RefusalTests(PublisherTestCase):
    """A Kafka that can be reached and refuses messages."""

    async def test_some(self):
        """Messages that are refused are dropped and counted; those behind them get through."""
        bad = {0, 3, 4, 700, *range(800, 812)}
        picky = PickyKafka(bad.__contains__, MessageSizeTooLargeError())
        publisher, _ = self.start(connect=picky.connect)
        self.tell(publisher, numbered(range(1000)))
        await until(lambda: publisher.pending_count == 0, 60)
        in_order = sorted(picky.accepted, key=lambda number: number % len(NAMES))
        good = [each for each in range(1000) if each not in bad]
        self.assertEqual(in_order, sorted(good, key=lambda number: number % len(NAMES)))
        counts = publisher.published_count, publisher.refused_count, publisher.dropped_count
        self.assertEqual(counts, (1000 - len(bad), len(bad), 0))
        self.assertTrue(publisher.connected)
        dropped = [line for line in self.said if "accepted others, and lost" in line]
        self.assertEqual(len(dropped), 1, self.said)
        self.assertIn("MessageSizeTooLarge", dropped[0])

    async def test_all(self):
        """If all are refused they wait; that is said once, and so is the end."""
        refuses = True
        picky = PickyKafka(lambda number: refuses, PolicyViolationError())
        publisher, _ = self.start(connect=picky.connect)
        self.tell(publisher, numbered(range(1000)))
        await until(lambda: len(self.said) == 2)
        self.assertIn("all messages are refused", self.said[1])
        self.assertFalse(publisher.connected)
        before = picky.connections
        await deferLater(reactor, 3)
        self.assertLess(picky.connections - before, 10)
        self.assertEqual(len(self.said), 2, self.said)
        self.assertFalse(publisher.connected)
        self.assertEqual((publisher.pending_count, publisher.refused_count), (1000, 0))
        refuses = False
        await until(lambda: publisher.pending_count == 0)
        self.assertEqual(publisher.refused_count, 0)
        in_order = sorted(picky.accepted, key=lambda number: number % len(NAMES))
        self.assertEqual(in_order, sorted(range(1000), key=lambda number: number % len(NAMES)))
        self.assertEqual(len(self.said), 3, self.said)
        self.assertIn("accepts messages", self.said[2])

    async def test_some_for_a_while(self):
        """Messages that a broker refuses for a while, for no fault of theirs, are not given up."""
        refuses = True
        picky = PickyKafka(
            lambda number: refuses and number % len(NAMES) == 1,
            TopicAuthorizationFailedError(TOPIC),
        )
        publisher, _ = self.start(connect=picky.connect)
        self.tell(publisher, numbered(range(100)))
        await deferLater(reactor, 4)  # in which all of them would be given up
        self.assertEqual(publisher.refused_count, 0)
        refuses = False
        await until(lambda: publisher.pending_count == 0)
        self.assertEqual((publisher.published_count, publisher.refused_count), (100, 0))
        self.assertEqual(set(picky.accepted), set(range(100)))

    async def test_some_that_last(self):
        """Messages that are refused for no fault of theirs, without end, hold up others no more."""
        picky = PickyKafka((1).__eq__, TopicAuthorizationFailedError(TOPIC))
        publisher, _ = self.start(connect=picky.connect, renewal=1.0)
        self.tell(publisher, numbered(range(100)))
        await until(lambda: publisher.pending_count == 0, 60)
        self.assertEqual((publisher.published_count, publisher.refused_count), (99, 1))

    async def test_last(self):
        """A message that is refused, and has none behind it, waits for the next one."""
        picky = PickyKafka((0).__eq__, MessageSizeTooLargeError())
        publisher, _ = self.start(connect=picky.connect)
        self.tell(publisher, numbered([0]))
        await until(lambda: publisher._backlog.refuses_everything)
        self.assertEqual((publisher.pending_count, publisher.refused_count), (1, 0))
        self.tell(publisher, numbered([1]))
        await until(lambda: publisher.pending_count == 0)
        self.assertEqual((picky.accepted, publisher.refused_count), ([1], 1))


class NoThreadTests(PublisherTestCase):
    """A process that can't have another thread for a while."""

    def unlucky(self, times: int) -> Callable[[Callable[[], None]], Thread]:
        """Return a factory of threads, the first of which can't be started."""

        class Unlucky(Thread):
            def start(self) -> None:
                raise RuntimeError("can't start new thread")

        def make(run: Callable[[], None]) -> Thread:
            nonlocal times
            times -= 1
            kind = Thread if times < 0 else Unlucky
            return kind(target=run, name="hbtd-telemetry", daemon=True)

        return make

    async def test_changed(self):
        """A change of Telemetry_host is made all the same; the thread follows when it can."""
        params = LiveParams(Params(kv_url="mem:", sm_timeout=1))
        store = MemoryStore()
        publisher = Publisher(
            reactor, store, params, mock_kafka, random, background=Background(self.unlucky(2))
        )
        self.begin(publisher, store)
        self.said.clear()
        params.patch({"Telemetry_host": f"{self.broker.address}:{TOPIC}"})
        self.assertEqual(publisher.health(), "Not Connected")
        self.tell(publisher, numbered(range(10)))
        params.patch({"Telemetry_host": f"{self.broker.address}:{TOPIC}"})  # as it is
        params.patch({"Warntime": "7"})
        self.assertEqual(len(await self.published(publisher)), 10)
        self.assert_said(self.gone + "KafkaError: no thread can be started", self.takes())

    async def test_stopped(self):
        """A publisher without a thread stops at once, and says what it has not published."""
        host = f"{self.broker.address}:{TOPIC}"
        params = LiveParams(Params(kv_url="mem:", telemetry_host=host, sm_timeout=30))
        store = MemoryStore()
        publisher = Publisher(
            reactor, store, params, mock_kafka, random, background=Background(self.unlucky(1000))
        )
        self.begin(publisher, store)
        self.tell(publisher, numbered(range(10)))
        params.patch({"Use_telemetry": "0"})
        params.patch({"Use_telemetry": "1"})
        await publisher.stopService()
        self.assertIn(
            "10 messages were not published to Kafka before hbtd stopped; they are lost.", self.said
        )
        self.assertEqual(publisher_threads(), [])


class ParametersTests(PublisherTestCase):
    """Parameters take effect at once."""

    async def test_moved(self):
        """With another Telemetry_host, all that waits is published there, in order."""
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

    async def test_moved_during_an_outage(self):
        """An outage of the new Kafka is logged even after one of the old Kafka, and at once."""

        def connect(address: TelemetryAddress) -> Kafka:
            raise TopicAuthorizationFailedError(address.topic)

        publisher, params = self.start(connect=connect)
        await until(lambda: self.said)
        params.patch({"Telemetry_host": f"{DEAD}:{TOPIC}"})
        await until(lambda: len(self.said) > 1, within=1)
        self.assert_said(self.gone, f"Kafka at {DEAD} accepts no messages")
        self.assertEqual(publisher.health(), "Not Connected")

    async def test_switched_off_and_on(self):
        """Without Use_telemetry nothing is published; afterwards, all that is in the log."""
        publisher, params = await self.start_connected()
        self.tell(publisher, numbered(range(100)))
        await until(lambda: publisher.pending_count == 0)
        await deferToThread(self.broker.down)
        await until(lambda: not publisher.connected)
        self.tell(publisher, numbered(range(100, 200)))
        await until(lambda: publisher._backlog.in_hand)
        params.patch({"Use_telemetry": "0"})
        self.assertEqual(publisher.health(), "Not Connected")
        self.assertEqual(publisher.reason, "use_telemetry is off")
        self.tell(publisher, numbered(range(200, 300)))
        self.assertEqual((publisher.pending_count, publisher.dropped_count), (200, 0))
        await deferToThread(self.broker.up)
        params.patch({"Use_telemetry": "1"})
        self.tell(publisher, numbered(range(300, 400)))
        found = contents(await self.published(publisher))
        # What was on its way when it was switched off may be there twice.
        self.assertEqual(by_key(dict.fromkeys(found)), numbered_messages(range(400)))
        self.assertEqual(publisher.dropped_count, 0)
        self.assert_said(
            self.takes(), self.gone, "No messages are published to Kafka", self.takes()
        )

    async def test_switched_on_for_the_first_time(self):
        """A Kafka that a store knows nothing of is told what follows, not what has been."""
        publisher, params = self.start_off()
        self.tell(publisher, numbered(range(100)))
        params.patch({"Telemetry_host": f"{self.broker.address}:{TOPIC}"})
        self.tell(publisher, numbered(range(100, 200)))
        found = await self.published(publisher)
        self.assertEqual(by_key(contents(found)), numbered_messages(range(100, 200)))

    async def test_pending_while_off(self):
        """While telemetry is off, what will be published is counted, at most 100,000 messages."""
        publisher, params = await self.start_connected()
        self.tell(publisher, numbered(range(10)))
        await until(lambda: publisher.pending_count == 0)
        params.patch({"Use_telemetry": "0"})
        self.assertEqual(publisher.pending_count, 0)
        self.tell(publisher, numbered(range(10, 30)))
        self.assertEqual(publisher.pending_count, 20)
        store = self.stores[publisher]
        other = Publisher(reactor, store, LiveParams(Params(kv_url="mem:")), mock_kafka, random)
        self.begin(other, store)
        self.assertEqual(other.pending_count, 20)
        other.follow()
        self.assertEqual(other.pending_count, 0)
        store.commit(numbered(range(30, 200_000)))
        self.assertEqual(publisher.pending_count, 100_000)
        params.patch({"Use_telemetry": "1"})
        self.assertEqual(publisher.pending_count, 100_000)

    async def test_pending_of_a_store_that_fails(self):
        """If the store fails when it is asked, what waits is counted from the next change on."""

        class Failing(MemoryStore):
            usable_now = False

            def cursor(self, reader: str) -> Deferred[int | None]:
                if self.usable_now:
                    return super().cursor(reader)
                return fail(StoreUnusable("gone"))

        store = Failing()
        store.move_cursor(KAFKA, 0)
        publisher = Publisher(reactor, store, LiveParams(Params(kv_url="mem:")), mock_kafka, random)
        self.begin(publisher, store)
        self.tell(publisher, numbered(range(3)))
        self.assertEqual(publisher.pending_count, 0)
        store.usable_now = True
        self.tell(publisher, numbered(range(3, 5)))
        self.assertEqual(publisher.pending_count, 5)

    def start_off(self) -> tuple[Publisher, LiveParams]:
        """Start a publisher that has no address yet."""
        params = LiveParams(Params(kv_url="mem:", sm_timeout=1))
        store = MemoryStore()
        publisher = Publisher(reactor, store, params, mock_kafka, random)
        self.begin(publisher, store)
        return publisher, params

    async def test_switched_off_while_connecting(self):
        """A connection completed after Use_telemetry was switched off has no effect."""
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
        self.assert_said("No messages are published to Kafka")


class LeadTests(PublisherTestCase):
    """Two publishers with one store, one of which leads."""

    async def test_next_leader(self):
        """The next leader goes on from the cursor; the last one drops even what is on its way."""
        store = MemoryStore()
        one, _ = self.start(store=store)
        await until(lambda: one.connected)
        self.tell(one, numbered(range(100)))
        await until(lambda: one.pending_count == 0)
        await deferToThread(self.broker.down)
        await until(lambda: not one.connected)
        self.tell(one, numbered(range(100, 1000)))
        await until(lambda: one._backlog.in_hand)
        one.follow()
        self.assertEqual(one.pending_count, 0)
        two, _ = self.start(store=store)
        self.tell(two, numbered(range(1000, 1100)))
        one.tell()
        await until(lambda: two.pending_count > 0)
        # The thread of the one that followed parts with its producer before Kafka is back.
        await until(lambda: len(publisher_threads()) <= 2)
        await deferToThread(self.broker.up)
        found = await self.published(two)
        self.assertEqual(by_key(dict.fromkeys(contents(found))), numbered_messages(range(1100)))
        await until(lambda: one.connected)
        self.assertEqual((one.published_count, one.pending_count), (100, 0))

    async def test_fenced(self):
        """A replica whose time as the leader is over sends nothing, although it has yet to notice.

        So does one that was suspended, and wakes up with messages that the next leader has sent.
        """
        leads = True
        publisher, _ = self.start(may_send=lambda: leads)
        await until(lambda: publisher.connected)
        self.tell(publisher, numbered(range(10)))
        await until(lambda: publisher.pending_count == 0)
        leads = False
        self.tell(publisher, numbered(range(10, 20)))
        await deferLater(reactor, 1)
        self.assertEqual((publisher.published_count, publisher.pending_count), (10, 10))
        leads = True
        found = contents(await self.published(publisher))
        self.assertEqual(by_key(found), numbered_messages(range(20)))

    async def test_fenced_in_hand(self):
        """The messages that it has given to its client are not sent when Kafka is back."""
        leads = True
        publisher, _ = self.start(may_send=lambda: leads)
        await until(lambda: publisher.connected)
        await deferToThread(self.broker.down)
        await until(lambda: not publisher.connected)
        self.tell(publisher, numbered(range(10)))
        await until(lambda: publisher._backlog.in_hand)
        leads = False
        await until(lambda: len(publisher_threads()) == 1)  # it has parted with its producer
        await deferToThread(self.broker.up)
        await until(lambda: publisher.connected)
        await deferLater(reactor, 0.5)
        self.assertEqual((publisher.published_count, publisher.pending_count), (0, 10))

    async def test_leads_again(self):
        """A publisher that leads again publishes what has been committed meanwhile."""
        publisher, _ = await self.start_connected()
        self.tell(publisher, numbered(range(10)))
        await until(lambda: publisher.pending_count == 0)
        publisher.follow()
        self.tell(publisher, numbered(range(10, 20)))
        publisher.lead(numbered(range(10, 20)), 20)
        self.tell(publisher, numbered(range(20, 30)))
        found = dict.fromkeys(contents(await self.published(publisher)))
        self.assertEqual(by_key(found), numbered_messages(range(30)))

    async def test_undelivered(self):
        """A Kafka that a store knows nothing of is told first what HSM has yet to be told."""
        store = MemoryStore()
        store.commit(numbered(range(10)))
        other, _ = self.start(store=store, undelivered=numbered(range(5, 10)))
        self.tell(other, numbered(range(10, 20)))
        found = await self.published(other)
        self.assertEqual(by_key(contents(found)), numbered_messages(range(5, 20)))


class StopTests(PublisherTestCase):
    """Stopping: what waits is published, within `Sm_timeout` seconds."""

    async def stop(self, *publishers: Publisher) -> float:
        """Stop publishers; return how long that took."""
        began = time.monotonic()
        await gatherResults(publisher.stopService() for publisher in publishers)
        return time.monotonic() - began

    async def test_flushed(self):
        """What waits is published before the publisher stops."""
        publisher, _ = self.start(sm_timeout=20)
        self.tell(publisher, numbered(range(5000)))
        self.assertLess(await self.stop(publisher), 15)
        self.assertEqual((publisher.published_count, publisher.pending_count), (5000, 0))
        self.assertEqual(await self.stores[publisher].cursor(KAFKA), 5000)
        found = await self.published(publisher)
        self.assertEqual(by_key(contents(found)), numbered_messages(range(5000)))

    async def test_last_chance(self):
        """A broker that recovers while the publisher stops gets what waits."""
        publisher, _ = await self.start_connected(sm_timeout=20)
        await deferToThread(self.broker.down)
        self.tell(publisher, numbered(range(100)))
        await until(lambda: not publisher.connected)
        stopped = publisher.stopService()
        await deferToThread(self.broker.up)
        await stopped
        self.assertEqual((publisher.published_count, publisher.pending_count), (100, 0))

    async def test_unreachable(self):
        """A closed or a silent port costs little CPU time, and no sockets are left open."""
        # Sockets that kafka-python leaves open are closed by the garbage collector only.
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
        self.assertLess(time.process_time() - began, 1.0, "waiting took much of a core")
        self.assertLess(await self.stop(*publishers), 6)
        self.assertEqual([publisher.health() for publisher in publishers], ["Not Connected"] * 2)
        await until(lambda: not publisher_threads())
        with warnings.catch_warnings(record=True) as left_open:
            warnings.simplefilter("always", ResourceWarning)
            gc.collect()
        self.assertEqual([str(warning.message) for warning in left_open], [])

    async def test_hanging_broker(self):
        """A publisher whose broker hangs stops in time, and logs what was not published."""
        publisher, _ = await self.start_connected()
        await deferToThread(self.broker.delay, 60)
        self.tell(publisher, numbered(range(1000)))
        self.assertLess(await self.stop(publisher), 6)
        self.assert_said(
            self.takes(),
            "1000 messages were not published to Kafka before hbtd stopped; they are lost.",
        )

    async def test_from_before(self):
        """Messages that are in no log, from before the store knew of Kafka, are said to be lost."""

        class Durable(MemoryStore):
            durable = True

        for logged, unlogged, said in (
            (
                2,
                0,
                "2 messages were not published to Kafka before hbtd stopped; they are published"
                " after the next start.",
            ),
            (0, 1, "1 message was not published to Kafka before hbtd stopped; it is lost."),
            (
                1,
                2,
                "3 messages were not published to Kafka before hbtd stopped; 2 of them are lost,"
                " from before hbtd noted how far Kafka has been told; the others are published"
                " after the next start.",
            ),
        ):
            self.said.clear()
            publisher, _ = self.start(
                DEAD, store=Durable(), undelivered=numbered(range(unlogged)), connect=Kafka
            )
            self.tell(publisher, numbered(range(10, 10 + logged)))
            await self.stop(publisher)
            self.assertIn(said, self.said)

    async def test_refused(self):
        """While stopping, a Kafka that fails at once is retried a few times only."""
        attempts = []

        def connect(address: TelemetryAddress) -> Kafka:
            attempts.append(address)
            raise TopicAuthorizationFailedError(address.topic)

        publisher, _ = self.start(connect=connect)
        self.tell(publisher, numbered(range(10)))
        await until(lambda: self.said)
        await self.stop(publisher)
        self.assertLess(len(attempts), 10)
        self.assert_said(
            self.gone, "10 messages were not published to Kafka before hbtd stopped; they are lost."
        )

    async def test_process(self):
        """A process with messages for a Kafka that is down serves requests, and stops in time."""
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
        self.assertLess(time.monotonic() - began, 15)
        self.assertNotIn("Traceback", process.said)
