"""A Kafka that is deployed anew: other brokers behind the address in `telemetry_host`."""

from twisted.internet.threads import deferToThread

from tests.support.publishing import PublisherTestCase
from tests.support.relay import Relay
from tests.support.running import until
from tests.support.telemetry import by_key, contents, numbered, numbered_messages

RENEWAL = 6.0


class DeployedAnewTests(PublisherTestCase):
    """The brokers have other addresses, which only the host of `telemetry_host` knows."""

    async def test_messages_wait(self):
        """What waits is published to the new brokers, all of it, in order."""
        relay = Relay(self, self.broker.address)
        publisher, _ = self.start(relay.address, renewal=RENEWAL)
        self.tell(publisher, numbered(range(100)))
        await until(lambda: publisher.pending_count == 0)
        await deferToThread(self.broker.down)
        await until(lambda: not publisher.connected)
        self.tell(publisher, numbered(range(100, 1000)))
        other = self.make_broker()
        relay.move(other.address)
        found = await self.published(publisher, other, within=30)
        self.assertEqual(by_key(contents(found)), numbered_messages(range(100, 1000)))
        self.assertEqual(publisher.published_count, 1000)
        self.assertEqual(publisher.health(), "Connected and OPEN")

    async def test_nothing_waits(self):
        """The new brokers are found, and `/health` says so, although nothing is to be published."""
        relay = Relay(self, self.broker.address)
        publisher, _ = self.start(relay.address, renewal=RENEWAL)
        await until(lambda: publisher.connected)
        await deferToThread(self.broker.down)
        await until(lambda: not publisher.connected)
        relay.move(self.make_broker().address)
        await until(lambda: publisher.connected, within=30)

    async def test_not_too_early(self):
        """While an outage is short, the same producer goes on: nothing is there twice."""
        relay = Relay(self, self.broker.address)
        publisher, _ = self.start(relay.address)
        await until(lambda: publisher.connected)
        connections = relay.count
        await deferToThread(self.broker.down)
        await until(lambda: not publisher.connected)
        self.tell(publisher, numbered(range(100)))
        await deferToThread(self.broker.up)
        found = await self.published(publisher)
        self.assertEqual(by_key(contents(found)), numbered_messages(range(100)))
        self.assertEqual(relay.count, connections)
