"""A request whose time is over when it could be sent is not sent."""

from treq.client import HTTPClient
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent, HTTPConnectionPool, RequestGenerationFailed

from hbtd.hsm.fencing import Fenced, FencedAgent
from tests.support.running import reactor, start_hsm

BODY = {"ComponentIDs": ["x1"], "State": "Ready", "Flag": "OK"}


class GuardTests(TestCase):
    """The guarded agent, with a real server."""

    timeout = 20

    def setUp(self):
        """Have an HSM, and a client that may be told that it is too late."""
        self.running = start_hsm(self)
        self.asked = 0
        self.may = True
        pool = HTTPConnectionPool(reactor)
        self.addCleanup(pool.closeCachedConnections)
        self.client = HTTPClient(FencedAgent(Agent(reactor, pool=pool), self.may_send))
        self.url = f"{self.running.url}/State/Components/BulkStateData"

    def may_send(self) -> bool:
        """Count that it was asked."""
        self.asked += 1
        return self.may

    async def test_in_time(self):
        """What may be sent is sent as ever."""
        response = await self.client.patch(self.url, json=BODY, timeout=10)
        await response.content()
        self.assertEqual(response.code, 204)
        self.assertEqual(self.asked, 1)

    async def test_too_late(self):
        """What may not be sent when the connection is there does not arrive as a whole request."""
        sending = self.client.patch(self.url, json=BODY, timeout=10)
        self.may = False
        with self.assertRaises(RequestGenerationFailed) as raised:
            await sending
        (reason,) = raised.exception.reasons
        self.assertIsInstance(reason.value, Fenced)
        self.assertEqual(self.running.hsm.updates, [])

    async def test_without_a_body(self):
        """What has no body says nothing, and may always be sent."""
        self.may = False
        response = await self.client.get(f"{self.running.url}/service/ready", timeout=10)
        await response.content()
        self.assertEqual((response.code, self.asked), (200, 0))
