"""The bodies of responses, portion by portion."""

from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import ResponseDone
from twisted.web.iweb import IResponse

from hbtd.net.bodies import ResponseTooLarge, take_body

LIMIT = 1_000_000
DONE = Failure(ResponseDone())


class _Response:
    """A response whose body the test delivers."""

    def __init__(self) -> None:
        self.transport = StringTransport()

    def deliverBody(self, protocol: Any) -> None:
        self.body = protocol
        protocol.makeConnection(self.transport)


class TakeBodyTests(SynchronousTestCase):
    """A body that arrives in large pieces."""

    def setUp(self):
        self.clock = Clock()
        self.taken: list[bytes] = []
        self.response = _Response()
        response = cast("IResponse", self.response)
        self.done: Deferred[None] = take_body(response, self.taken.append, LIMIT, self.clock)

    def test_portions(self):
        """The reactor does other work before each 16 KiB, and no more is read meanwhile."""
        data = bytes(range(256)) * 256
        # As chunks of a chunked body arrive, all at once.
        for start in range(0, len(data), 8192):
            self.response.body.dataReceived(data[start : start + 8192])
        for number in range(4):
            self.assertEqual(len(self.taken), number)
            self.assertEqual(self.response.transport.producerState, "paused")
            # A clock makes no rounds: it would go on until nothing is due.
            call = self.clock.calls.pop()
            call.func()
        self.assertEqual(self.response.transport.producerState, "producing")
        self.assertEqual([len(each) for each in self.taken], [16384] * 4)
        self.assertEqual(b"".join(self.taken), data)

    def test_end(self):
        """The Deferred fires when all that has arrived before the end was passed on."""
        self.response.body.dataReceived(b"x" * 40_000)
        self.response.body.dataReceived(b"y" * 10)
        self.response.body.connectionLost(DONE)
        self.assertNoResult(self.done)
        self.clock.pump([0] * 3)
        self.successResultOf(self.done)
        self.assertEqual(b"".join(self.taken), b"x" * 40_000 + b"y" * 10)

    def test_lost(self):
        """A connection that is lost is an error, after what has arrived."""
        self.response.body.dataReceived(b"x" * 20_000)
        self.response.body.connectionLost(Failure(ConnectionLost()))
        self.clock.advance(0)
        self.failureResultOf(self.done, ConnectionLost)

    def test_too_large(self):
        """A body that is too large is an error, and its connection is closed."""
        self.response.body.dataReceived(b"x" * LIMIT)
        self.response.body.dataReceived(b"x")
        self.failureResultOf(self.done, ResponseTooLarge)
        self.assertEqual(self.response.transport.producerState, "stopped")
        taken = len(self.taken)
        self.clock.pump([0] * 3)
        self.assertEqual(len(self.taken), taken)

    def test_cancelled(self):
        """Nothing is passed on after the Deferred was cancelled."""
        self.response.body.dataReceived(b"x" * 40_000)
        self.clock.calls.pop().func()
        self.done.cancel()
        self.clock.pump([0] * 3)
        self.assertEqual(len(self.taken), 1)
        self.assertEqual(self.response.transport.producerState, "stopped")
        self.failureResultOf(self.done)
