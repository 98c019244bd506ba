"""The contract of producers: the simulated one, and the real one with librdkafka's mock broker."""

from collections.abc import Callable
from random import Random
from typing import Any

from kafka.errors import IllegalStateError, KafkaError, KafkaTimeoutError
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from hbtd.config.value_types import TelemetryAddress
from hbtd.telemetry.sender import Producer
from tests.simulation.clock import WorldClock
from tests.simulation.kafka import KAFKA, Broker
from tests.simulation.network import Network
from tests.simulation.process import Process
from tests.simulation.producer import SimulatedProducer
from tests.simulation.threads import SimulatedThread
from tests.support.mock_kafka import MockBroker, consume
from tests.support.running import mock_kafka

Connect = Callable[[], Producer]


class ProducerContract:
    """What hbtd relies on; subclasses say how a broker is made, and in which thread a test runs."""

    assertEqual: Any
    assertRaises: Any

    def blocking(self, story: Callable[[Any, Connect], None]) -> Any:
        """Call a function with a broker, and with what connects to it, where it may block."""
        raise NotImplementedError

    def contents(self) -> list[bytes]:
        """Return the values of the messages of the topic, which has one partition."""
        raise NotImplementedError

    def test_order(self):
        """Messages with one key are appended in order, and each is acknowledged."""

        def story(broker, connect):
            producer = connect()
            futures = [producer.send(b"x0", b"%d" % number) for number in range(200)]
            for future in futures:
                future.get(timeout=20)
            self.assertEqual([future.succeeded() for future in futures], 200 * [True])
            self.assertEqual(self.contents(), [b"%d" % number for number in range(200)])
            producer.abandon()

        return self.blocking(story)

    def test_unreachable(self):
        """Without a broker no connection can be made."""

        def story(broker, connect):
            broker.down()
            self.assertRaises(KafkaError, connect)

        return self.blocking(story)

    def test_outage(self):
        """What is sent while the broker is away waits, and is appended in order once it is back."""

        def story(broker, connect):
            producer = connect()
            producer.send(b"x0", b"a").get(timeout=20)
            broker.down()
            values = [b"%0300d" % number for number in range(200)]
            futures = [producer.send(b"x0", value) for value in values]
            self.assertRaises(KafkaTimeoutError, futures[1].get, timeout=0.5)
            self.assertEqual((futures[0].is_done, producer.connected), (False, False))
            self.put_up(broker)
            for future in futures:
                future.get(timeout=20)
            self.assertEqual(self.contents(), [b"a", *values])
            producer.abandon()

        return self.blocking(story)

    def test_abandoned(self):
        """The messages of a producer that is given up fail, and are never appended."""

        def story(broker, connect):
            producer = connect()
            producer.send(b"x0", b"a").get(timeout=20)
            broker.down()
            future = producer.send(b"x0", b"b")
            producer.abandon()
            self.assertEqual(type(future.exception), IllegalStateError)
            self.put_up(broker)
            producer = connect()
            producer.send(b"x0", b"c").get(timeout=20)
            self.assertEqual(self.contents(), [b"a", b"c"])
            producer.abandon()

        return self.blocking(story)

    def put_up(self, broker: Any) -> None:
        """Have a broker accept connections again."""
        raise NotImplementedError


class MockBrokerTests(ProducerContract, TestCase):
    """The real producer."""

    timeout = 120

    def blocking(self, story):
        """Run a story in a thread."""
        broker = MockBroker()
        self.addCleanup(broker.close)
        broker.create_topic("contract", 1)
        self.address = broker.address
        host, _, port = broker.address.partition(":")
        address = TelemetryAddress(host, int(port), "contract")
        return deferToThread(story, broker, lambda: mock_kafka(address))

    def contents(self):
        """Return what an independent client reads."""
        return [each.value for each in consume(self.address, "contract")]

    def put_up(self, broker):
        """Have the broker accept connections again."""
        broker.up()


class SimulatedTests(ProducerContract, TestCase):
    """The simulated producer."""

    def test_answers_lost(self):
        """What was appended without an answer is not appended again, and the order is kept.

        The mock broker does not know repeated batches again; `make test-real` has a real one.
        """

        def story(broker, connect):
            producer = connect()
            broker.resets = 0.7
            futures = [producer.send(b"x0", b"%d" % number) for number in range(200)]
            for future in futures:
                future.get(timeout=50)
            self.assertEqual(self.contents(), [b"%d" % number for number in range(200)])

        return self.blocking(story)

    def test_requests_lost(self):
        """What did not arrive is sent again, in order, when the request has timed out."""

        def story(broker, connect):
            producer = connect()
            mend = self.network.cut("10.0.0.1", KAFKA)
            self.clock.after(12.0, mend)
            futures = [producer.send(b"x0", b"%d" % number) for number in range(200)]
            for future in futures:
                future.get(timeout=50)
            self.assertEqual(self.contents(), [b"%d" % number for number in range(200)])

        return self.blocking(story)

    def blocking(self, story):
        """Run a story in a world."""
        clock, random = WorldClock(), Random(1)
        failures: list[Any] = []
        process = Process(clock, lambda: 0.0, failures.append)
        self.broker = Broker(random, 1)
        self.clock, self.network = clock, Network(clock, random)
        done: list[bool] = []

        def connect():
            return SimulatedProducer(self.broker, self.network, process, "10.0.0.1", 60)

        def work():
            story(self.broker, connect)
            done.append(True)

        SimulatedThread(process, random, work).start()
        clock.run(100.0)
        process.kill()
        for failure in failures:
            failure.raiseException()
        self.assertEqual(done, [True])

    def contents(self):
        """Return what the partition has."""
        return [message.value for message in self.broker.partitions[0]]

    def put_up(self, broker):
        """Have the broker accept connections again."""
        broker.up = True
