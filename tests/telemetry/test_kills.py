"""hbtd is killed while it publishes: Kafka gets all that the log has."""

import signal

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.support.mock_kafka import MockBroker
from tests.support.telemetry_kills import KilledPublishers

PROGRAM = ("-m", "tests.support.mock_kafka_hbtd")


class KillTests(TestCase):
    """Processes over one SQLite file and the mock broker."""

    timeout = 240

    async def test_killed(self):
        """After some kills, also while Kafka is away, it has every transition in order."""
        broker = MockBroker()
        self.addCleanup(broker.close)
        broker.create_topic("killed", 3)
        story = KilledPublishers(self, PROGRAM, broker.address, "killed")
        await story.live(seconds=1.0)
        await story.live()
        await deferToThread(broker.down)
        await story.live(seconds=1.0)
        stopped = await story.live("--sm_timeout=1", seconds=2.0, end_by=signal.SIGTERM)
        self.assertRegex(
            stopped.said,
            r"\d+ messages? (was|were) not published to Kafka before hbtd stopped;"
            r" (it is|they are) published",
        )
        await story.live("--use_telemetry=no", seconds=0.5)
        await deferToThread(broker.up)
        await story.live()
        await story.last()
        await story.check()
