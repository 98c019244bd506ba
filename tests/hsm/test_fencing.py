"""Fencing: a request is not sent if that is not allowed any more once it could be."""

from treq.client import HTTPClient
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent, HTTPConnectionPool, RequestGenerationFailed

from hbtd.hsm.fencing import Fenced, FencedAgent
from tests.support.running import reactor, start_hsm

BODY = {"ComponentIDs": ["x1"], "State": "Ready", "Flag": "OK"}


class FencedAgentTests(TestCase):
    """A fenced agent, with a real server."""

    timeout = 120

    def setUp(self):
        """Start an HSM, and make a client for it."""
        self.running = start_hsm(self)
        self.asked = 0
        self.may = True
        pool = HTTPConnectionPool(reactor)
        self.addCleanup(pool.closeCachedConnections)
        self.client = HTTPClient(FencedAgent(Agent(reactor, pool=pool), self.may_send))
        self.url = f"{self.running.url}/State/Components/BulkStateData"

    def may_send(self) -> bool:
        """Count the calls; return whether requests may be sent."""
        self.asked += 1
        return self.may

    async def test_in_time(self):
        """A request that may be sent is sent."""
        response = await self.client.patch(self.url, json=BODY, timeout=10)
        await response.content()
        self.assertEqual(response.code, 204)
        self.assertEqual(self.asked, 1)

    async def test_fenced(self):
        """A request that may not be sent once it is connected does not arrive completely."""
        sending = self.client.patch(self.url, json=BODY, timeout=10)
        self.may = False
        with self.assertRaises(RequestGenerationFailed) as raised:
            await sending
        (reason,) = raised.exception.reasons
        self.assertIsInstance(reason.value, Fenced)
        self.assertEqual(self.running.hsm.updates, [])

    async def test_without_a_body(self):
        """A request without a body is always sent."""
        self.may = False
        response = await self.client.get(f"{self.running.url}/service/ready", timeout=10)
        await response.content()
        self.assertEqual((response.code, self.asked), (200, 0))
