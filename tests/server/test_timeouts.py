"""Who says nothing, or says it slowly, is not waited for."""

from twisted.internet.testing import StringTransport

from hbtd.config.params import Params
from tests.support.http_memory import (
    BEAT,
    APITestCase,
    Connection,
    chunked,
    encode_request,
    head,
    parse_responses,
)

IDLE_TIMEOUT, REQUEST_TIMEOUT = Params().idle_timeout, Params().request_timeout

GET = head("GET /v1/params")
CHUNKED = head("POST /v1/heartbeat", "Transfer-Encoding: chunked") + chunked(b"x" * 500, 50)
LARGE = encode_request("POST", "/v1/hbstates", b"x" * 500)


class TimeoutTests(APITestCase):
    """Connections' time."""

    def pass_time(self, seconds: float) -> None:
        """Let time pass, a second at a time."""
        self.reactor.pump([1.0] * int(seconds))

    def assert_closed_after(self, connection: Connection, seconds: float) -> None:
        """Check that a connection is closed after so many seconds, or up to two more."""
        self.pass_time(seconds - 1)
        self.assertFalse(connection.closed)
        self.pass_time(3)
        self.assertTrue(connection.closed)

    def test_idle(self) -> None:
        """A connection on which nothing happens is closed, whatever happened before."""
        for data in (b"", BEAT, GET, BEAT + GET + BEAT, GET + BEAT + GET, b"\r\n" + BEAT):
            connection = self.connect()
            connection.send(data)
            self.assert_closed_after(connection, IDLE_TIMEOUT)

    def test_not_idle(self) -> None:
        """A connection on which something happens now and then is kept."""
        for data in (BEAT, GET):
            connection = self.connect()
            for _ in range(10):
                self.pass_time(IDLE_TIMEOUT - 2)
                connection.send(data)
            self.assertEqual(len(parse_responses(connection.received())), 10)
            self.assertFalse(connection.closed)

    def test_half_a_request(self) -> None:
        """A request that has begun has to come to its end soon."""
        for request in (BEAT, GET, CHUNKED, LARGE):
            for kept in (1, 20, len(request) - 1):
                for before in (b"", BEAT, GET, GET + BEAT):
                    connection = self.connect()
                    connection.send(before + request[:kept])
                    self.assert_closed_after(connection, REQUEST_TIMEOUT)

    def test_slow_sender(self) -> None:
        """A byte a second is not enough to be waited for."""
        for request in (BEAT, GET + GET, CHUNKED, LARGE):
            connection = self.connect()
            for i in range(60):
                connection.send(request[i : i + 1])
                self.pass_time(1)
            self.assertTrue(connection.closed)
            self.assertEqual(connection.received(), b"")

    def test_others(self) -> None:
        """Those who wait cost the others nothing."""
        slow = [self.connect() for _ in range(100)]
        quick = self.connect()
        for i in range(int(REQUEST_TIMEOUT) + 2):
            for connection in slow:
                connection.send(BEAT[i : i + 1])
            quick.send(BEAT)
            self.pass_time(1)
        self.assertTrue(all(connection.closed for connection in slow))
        self.assertEqual(len(parse_responses(quick.received())), int(REQUEST_TIMEOUT) + 2)
        self.assertFalse(quick.closed)

    def test_stall(self) -> None:
        """When hbtd itself was stopped for a while, that is nobody's silence."""
        connection = self.connect()
        connection.send(BEAT[:20])
        self.reactor.advance(3600.0)
        connection.send(BEAT[20:])
        self.assertEqual(len(parse_responses(connection.received())), 1)

    def test_by_force(self) -> None:
        """Who does not hang up when told to is cut off."""
        transport = StringTransport()
        transport.abortConnection = lambda: aborted.append(True)  # type: ignore[method-assign]  # to see it
        aborted: list[bool] = []
        protocol = self.factory.buildProtocol(None)
        protocol.makeConnection(transport)
        protocol.dataReceived(head("GET /v1/params", "Connection: close"))
        self.assertTrue(transport.disconnecting)
        self.pass_time(10)
        self.assertEqual(aborted, [])
        self.pass_time(10)
        self.assertEqual(aborted, [True])
        self.pass_time(100)
        self.assertEqual(aborted, [True])

    def test_no_timer_without_connections(self) -> None:
        """Without connections there is nothing to look after."""
        connection = self.connect()
        self.assertEqual(len(self.factory), 1)
        connection.hang_up()
        self.assertEqual(len(self.factory), 0)
        self.assertFalse(self.factory._ticking.running)
