"""Publishers on a thread of their own, with librdkafka's mock broker and a store in memory."""

from collections.abc import Callable, Sequence
from random import random

from twisted.internet.defer import gatherResults
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from hbtd.config.live_params import LiveParams
from hbtd.config.params import Params
from hbtd.runtime.logs import LibraryLog
from hbtd.store.memory import MemoryStore
from hbtd.telemetry.publisher import Publisher
from hbtd.telemetry.sender import RENEWAL, KafkaFactory
from hbtd.tracker.transitions import Judgement
from tests.support.mock_kafka import Message, MockBroker, consume
from tests.support.running import mock_kafka, reactor, until
from tests.support.telemetry import Pulse, SleepWatch, publisher_threads, said_by_publishers

TOPIC = "hbtd-published"


class PublisherTestCase(TestCase):
    """Holds a broker and publishers; checks that the reactor is never blocked."""

    timeout = 120

    def setUp(self) -> None:
        self.said = said_by_publishers(self)
        self.publishers: list[Publisher] = []
        self.stores: dict[Publisher, MemoryStore] = {}
        self.longest_tell = 0.0
        library_log = LibraryLog("kafka")
        library_log.start()
        self.addCleanup(library_log.stop)
        self.broker = self.make_broker()
        self.pulse = Pulse(self)

    async def tearDown(self) -> None:  # type: ignore[override]  # trial waits for it
        await gatherResults(publisher.stopService() for publisher in self.publishers)
        await until(lambda: not publisher_threads())
        # Where Kafka's client blocks, it does for a second and more; a busy machine, for less.
        self.assertLess(self.pulse.longest_gap, 0.9, "the reactor was blocked")
        self.assertLess(self.longest_tell, 0.9, "tell was blocked")

    def make_broker(self, partitions: int = 4) -> MockBroker:
        """Start a broker with a topic, until the test ends."""
        broker = MockBroker()
        self.addCleanup(broker.close)
        broker.create_topic(TOPIC, partitions)
        return broker

    def start(
        self,
        address: str | None = None,
        connect: KafkaFactory = mock_kafka,
        sm_timeout: int = 1,
        store: MemoryStore | None = None,
        renewal: float = RENEWAL,
        undelivered: Sequence[Judgement] = (),
        may_send: Callable[[], bool] = lambda: True,
    ) -> tuple[Publisher, LiveParams]:
        """Start a publisher, until the test ends; for the broker, unless an address is given."""
        host = f"{address or self.broker.address}:{TOPIC}"
        params = LiveParams(Params(kv_url="mem:", telemetry_host=host, sm_timeout=sm_timeout))
        store = store or MemoryStore()
        publisher = Publisher(reactor, store, params, connect, random, may_send, renewal=renewal)
        self.begin(publisher, store, undelivered)
        return publisher, params

    def begin(
        self, publisher: Publisher, store: MemoryStore, undelivered: Sequence[Judgement] = ()
    ) -> None:
        """Start a publisher with a store, and let it lead."""
        self.stores[publisher] = store
        self.publishers.append(publisher)
        store.open()
        publisher.startService()
        publisher.lead(undelivered, store.last_number())

    async def start_connected(self, sm_timeout: int = 1) -> tuple[Publisher, LiveParams]:
        """Start a publisher, and wait until it is connected to the broker."""
        publisher, params = self.start(sm_timeout=sm_timeout)
        await until(lambda: publisher.connected)
        return publisher, params

    def tell(self, publisher: Publisher, judgements: list[Judgement]) -> None:
        """Have judgements published, and measure for how long the call blocks."""
        self.stores[publisher].commit(judgements)
        watch = SleepWatch()
        publisher.tell(judgements)
        self.longest_tell = max(self.longest_tell, watch.lap())

    async def published(
        self, publisher: Publisher, broker: MockBroker | None = None, within: float = 40.0
    ) -> list[Message]:
        """Wait until all is published; return what an independent client then consumes."""
        await until(lambda: publisher.pending_count == 0, within)
        return await deferToThread(consume, (broker or self.broker).address, TOPIC)

    def takes(self, broker: MockBroker | None = None) -> str:
        """Return what is logged when a broker accepts messages."""
        return f"Kafka at {(broker or self.broker).address} accepts messages."

    def assert_said(self, *lines: str) -> None:
        """Check that the lines logged so far begin with these."""
        self.assertEqual(
            [said[: len(line)] for said, line in zip(self.said, lines, strict=False)], list(lines)
        )
        self.assertEqual(len(self.said), len(lines), self.said)

    @property
    def gone(self) -> str:
        """What is logged when the broker does not accept messages."""
        return (
            f"Kafka at {self.broker.address} accepts no messages; messages wait until Kafka accepts"
            " them: "
        )
