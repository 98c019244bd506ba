"""The connections that a fleet shares, and the outcomes of heartbeats on them."""

from functools import partial
from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from zope.interface import implementer

from hbtd.simulator.fleet import Fleet, node_names
from tests.support.fleet_memory import URL, FleetTestCase


class Echo(Protocol):
    """Answers anything with the same bytes, then closes the connection."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer

    def dataReceived(self, data):
        """Answer."""
        transport: Any = self.transport
        transport.write(self.answer)
        transport.loseConnection()


def echo(answer: bytes) -> Any:
    """Make the factory of a server that sends this answer."""
    make: Any = partial(Echo, answer)
    return Factory.forProtocol(make)


class FailureTests(FleetTestCase):
    """A heartbeat that fails is counted by its reason, and not repeated."""

    def test_shared_connections(self):
        """Nodes share the connections; on each, one request at a time is in flight."""
        self.recorder.hang = True
        fleet = self.fleet(40, connections=4)
        fleet.startService()
        self.advance(0.99)
        self.assertEqual(self.endpoint.attempts, 4)
        self.assertEqual(len(self.recorder.beats), 4)

    def test_keep_alive(self):
        """A connection is reused."""
        self.fleet(10, connections=1).startService()
        self.advance(5)
        self.assertEqual((self.endpoint.attempts, len(self.recorder.beats)), (1, 50))

    def test_server_closes(self):
        """A server that closes after each answer gets a new connection at once."""
        self.recorder.close = True
        fleet = self.fleet(10, connections=1)
        fleet.startService()
        self.advance(2)
        self.assertEqual((fleet.statistics.answered, fleet.statistics.failed), (20, 0))

    def test_status(self):
        """An answer other than 2xx is a failure."""
        self.recorder.status = 503
        fleet = self.fleet(3)
        fleet.startService()
        self.advance(1)
        self.assertEqual(fleet.statistics.failures, {"status 503": 3})
        self.assertEqual((fleet.statistics.sent, fleet.statistics.failed), (3, 3))
        self.assertEqual(len(self.recorder.beats), 3)

    def test_timeout(self):
        """A request without an answer in time ends the connection; the next one works."""
        self.recorder.hang = True
        fleet = self.fleet(1, timeout=1.5)
        fleet.startService()
        self.advance(1)
        self.recorder.hang = False
        self.advance(1)
        self.assertEqual(fleet.statistics.failures, {"timeout": 1, "last one unanswered": 1})
        self.advance(1)
        self.assertEqual((self.endpoint.attempts, fleet.statistics.answered), (2, 1))

    def test_one_at_a_time(self):
        """A node whose last heartbeat has no answer yet sends no other."""
        self.recorder.hang = True
        fleet = self.fleet(1)
        fleet.startService()
        self.advance(4)
        self.assertEqual(fleet.statistics.sent, 1)
        self.assertEqual(fleet.statistics.failures, {"last one unanswered": 3})

    def test_refused(self):
        """While hbtd is away heartbeats fail and attempts are rarer; recovery is soon."""
        self.endpoint.refusing = True
        fleet = self.fleet(10, connections=1)
        fleet.startService()
        self.advance(15)
        self.assertEqual(fleet.statistics.sent, 0)
        reason = "cannot connect: ConnectionRefusedError"
        self.assertTrue(fleet.statistics.failures[reason] >= 30, fleet.statistics.failures)
        self.assertTrue(14 <= self.endpoint.attempts <= 20, self.endpoint.attempts)
        self.endpoint.refusing = False
        self.advance(1.2 + 3)
        self.assertTrue(fleet.statistics.answered >= 10)

    def test_refused_again(self):
        """After an answer, the pauses of the next outage begin short again."""
        fleet = self.fleet(10, connections=1)
        self.endpoint.refusing = True
        fleet.startService()
        self.advance(10)
        self.endpoint.refusing = False
        self.advance(3)
        self.endpoint.refusing = True
        self.endpoint.attempts = 0
        self.endpoint.pumps[-1].serverIO.loseConnection()
        self.advance(1.5)
        self.assertTrue(self.endpoint.attempts >= 4, self.endpoint.attempts)

    def test_waits_for_connection(self):
        """Heartbeats that are due before the first connection is made are sent then."""
        waiting: Any = Deferred()
        connect = self.endpoint.connect

        @implementer(IStreamClientEndpoint)
        class Slow:
            def connect(self, protocolFactory):
                return waiting.addCallback(lambda _: connect(protocolFactory))

        fleet = Fleet(
            self.clock, Slow(), URL, node_names(5), random=Random(1), period=1, connections=1
        )
        fleet.startService()
        self.advance(0.99)
        waiting.callback(None)
        self.advance(0.01)
        self.assertEqual((fleet.statistics.answered, fleet.statistics.failed), (5, 0))

    def test_connection_lost(self):
        """A heartbeat in flight on a connection that is lost fails."""
        self.recorder.hang = True
        fleet = self.fleet(1, period=100, timeout=1000)
        fleet.startService()
        self.advance(100)
        self.recorder.requests[0].channel.loseConnection()
        self.advance(0.1)
        self.assertEqual(fleet.statistics.failures, {"connection lost": 1})

    def test_strange_answers(self):
        """An answer that is not HTTP is a failure."""
        for answer in (
            b"\x00\x07hello\r\n\r\n",
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
            b"HTTP/1.1 twohundred OK\r\n\r\n",
        ):
            self.endpoint.server = echo(answer)
            fleet = self.fleet(1)
            fleet.startService()
            self.advance(1)
            self.assertEqual(fleet.statistics.failures, {"not HTTP": 1}, answer)
            fleet.stopService()

    def test_unasked_answer(self):
        """An answer without a request ends the connection."""
        self.endpoint.server = echo(b"HTTP/1.1 204 Gone\r\n\r\n" * 2)
        fleet = self.fleet(1)
        fleet.startService()
        self.advance(1)
        self.assertEqual((fleet.statistics.answered, self.endpoint.attempts), (1, 2))

    def test_interim_answer(self):
        """An interim answer is ignored."""
        self.endpoint.server = echo(
            b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
        )
        fleet = self.fleet(1)
        fleet.startService()
        self.advance(1)
        self.assertEqual((fleet.statistics.answered, fleet.statistics.failed), (1, 0))
