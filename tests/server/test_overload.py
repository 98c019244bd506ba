"""An overload is noticed, said once, and over when nobody has waited for a while."""

import socket
from typing import Any

from twisted.internet.protocol import ServerFactory
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, eventAsText
from twisted.trial.unittest import SynchronousTestCase, TestCase

from hbtd.server.overload import AcceptQueue, Overload, accept_queue
from hbtd.server.scheduler import Scheduler
from hbtd.tracker.components import Unheard
from tests.support.running import reactor, start_hbtd, until


class Silent:
    """A connection that waits."""

    host: str | None = "10.0.0.1"
    proven = False

    def give_up(self) -> None:
        """Do nothing."""

    def take_turn(self) -> None:
        """Do nothing."""


class OverloadTests(SynchronousTestCase):
    """The watch for overload."""

    def setUp(self) -> None:
        """Watch one accept queue, and a scheduler whose rounds don't go on."""
        self.clock = Clock()
        self.rounds = Scheduler(Clock())
        self.rounds._clock.seconds = self.clock.seconds  # type: ignore[method-assign]  # one time
        self.queue = AcceptQueue(0, 1024)
        self.overload = Overload(
            self.clock, lambda: 1e9 + self.clock.seconds(), lambda: [self.queue], self.rounds
        )
        self.overload.startService()
        self.addCleanup(self.overload.stopService)

    def said(self, seconds: float) -> list[str]:
        """Let time pass; return the lines that were logged meanwhile."""
        with capturedLogs() as events:
            self.clock.pump([0.25] * int(seconds * 4))
        return [eventAsText(event, includeTimestamp=False, includeSystem=False) for event in events]

    def test_queue(self) -> None:
        """A full accept queue is an overload, until it was not full for five seconds."""
        self.assertEqual(self.said(10), [])
        self.queue = AcceptQueue(1024, 1024)
        (line,) = self.said(10)
        self.assertIn("1024 connections wait to be accepted", line)
        self.assertTrue(self.overload.queue_full and self.overload.overloaded)
        self.assertEqual(
            self.overload.health(),
            "Overloaded since 2001-09-09T01:46:50+00:00: "
            "1024 connections wait to be accepted; the queue is full",
        )
        self.queue = AcceptQueue(3, 1024)
        self.assertEqual(self.said(4), [])
        self.assertTrue(self.overload.queue_full and self.overload.overloaded)
        self.assertEqual(self.said(2), ["hbtd is no longer overloaded; the overload lasted 15 s."])
        self.assertFalse(self.overload.queue_full or self.overload.overloaded)
        self.assertEqual(self.overload.health(), None)
        self.assertEqual(self.overload.longest_queue, 3)

    def test_turns(self) -> None:
        """So is a connection that has waited long for its turn, though others can connect."""
        self.rounds.wait(Silent())
        (line,) = self.said(1)
        self.assertIn("has waited for its turn for 0.8 s", line)
        self.assertFalse(self.overload.queue_full)
        self.assertGreaterEqual(self.overload.longest_wait, 0.75)
        self.rounds._give_turns()
        self.assertEqual(len(self.said(6)), 1)
        self.assertEqual(self.overload.longest_wait, 0.0)

    def test_busy(self) -> None:
        """Queues that are not full, and short waits, are none."""
        self.queue = AcceptQueue(1023, 1024)
        for _ in range(10):
            self.rounds.wait(Silent())
            self.assertEqual(self.said(0.5), [])
            self.rounds._give_turns()


class QueueTests(TestCase):
    """The accept queue of a real socket."""

    def test_length(self) -> None:
        """The kernel says how many wait to be accepted, and how many may."""
        for interface in ("127.0.0.1", "::1"):
            port: Any = reactor.listenTCP(0, ServerFactory(), 3, interface)
            self.addCleanup(port.stopListening)
            port.stopReading()
            self.assertEqual(accept_queue(port), AcceptQueue(0, 3))
            for length in range(1, 5):
                client = socket.create_connection((interface, port.getHost().port), timeout=5)
                self.addCleanup(client.close)
                self.assertEqual(accept_queue(port), AcceptQueue(length, 3))
            found = accept_queue(port)
            assert found
            self.assertTrue(found.full)

    def test_others(self) -> None:
        """What is no TCP port has no such queue."""
        self.assertEqual(accept_queue(object()), None)


class ServiceTests(TestCase):
    """The whole service, when nobody can connect to it."""

    timeout = 120

    async def test_said(self) -> None:
        """Health and metrics say so, and those that connect for each heartbeat count as unheard."""
        hbtd = start_hbtd(self, listen="tcp:0:interface=127.0.0.1:backlog=1", tls=False)
        port = hbtd.service.port
        self.assertEqual(hbtd.service.core.unread.unheard(), Unheard())
        await until(lambda: hbtd.service.core.overload.running)
        port.stopReading()
        for _ in range(2):
            client = socket.create_connection(("127.0.0.1", port.getHost().port), timeout=5)
            self.addCleanup(client.close)
        await until(lambda: hbtd.service.core.overload.overloaded)
        self.assertEqual(hbtd.service.core.unread.unheard(), Unheard({None}, True))
        port.startReading()
        _, health = await hbtd.client.request("GET", f"{hbtd.url}/hmi/v1/health")
        self.assertIn("2 connections wait to be accepted", health["Overload"])
        response = await hbtd.client.treq.get(f"{hbtd.url}/metrics", timeout=20, reactor=reactor)
        self.assertIn("hbtd_overloaded 1.0", (await response.content()).decode())
