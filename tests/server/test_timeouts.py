"""Who says nothing, or says it slowly, is not waited for."""

from typing import Any

from twisted.internet.testing import StringTransport

from hbtd.config.params import Params
from tests.support.http_memory import (
    BEAT,
    APITestCase,
    Connection,
    Response,
    chunked,
    encode_request,
    head,
    parse_responses,
)

IDLE_TIMEOUT, REQUEST_TIMEOUT = 100, Params().request_timeout

GET = head("GET /v1/params")
WRONG = encode_request("POST", "/v1/hbstates", b"x")
CHUNKED = head("POST /v1/heartbeat", "Transfer-Encoding: chunked") + chunked(b"x" * 500, 50)
LARGE = encode_request("POST", "/v1/hbstates", b"x" * 500)


class TimeoutTests(APITestCase):
    """Connections' time."""

    def begin(self, **options: Any) -> None:
        """Start a service with a short idle timeout."""
        super().begin(**{"idle_timeout": IDLE_TIMEOUT, **options})

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
        for data in (BEAT, GET, BEAT + GET + BEAT, GET + BEAT + GET, b"\r\n" + BEAT, WRONG + BEAT):
            connection = self.connect()
            connection.send(data)
            self.assert_closed_after(connection, IDLE_TIMEOUT)

    def test_new(self) -> None:
        """A connection on which nothing was achieved is closed soon, whatever was tried."""
        for data in (b"", WRONG, WRONG + WRONG):
            connection = self.connect()
            connection.send(data)
            self.pass_time(REQUEST_TIMEOUT / 2)
            connection.send(data)
            self.assert_closed_after(connection, REQUEST_TIMEOUT / 2)

    def test_age(self) -> None:
        """A connection of a certain age is closed with its next answer, which says so."""
        self.begin(max_connection_age=1000, idle_timeout=IDLE_TIMEOUT)
        for request in (BEAT, GET):
            connection = self.connect()
            answers: list[Response] = []
            while not connection.closed:
                connection.send(request)
                answers += parse_responses(connection.received())
                self.pass_time(10)
            self.assertTrue(79 <= len(answers) <= 102, len(answers))
            said = [each.headers.get("connection") for each in answers]
            self.assertEqual(said, [None] * (len(answers) - 1) + ["close"])

    def test_not_idle(self) -> None:
        """A connection on which something happens now and then is kept."""
        for data in (BEAT, GET):
            connection = self.connect()
            for _ in range(10):
                connection.send(data)
                self.pass_time(IDLE_TIMEOUT - 2)
            self.assertEqual(len(parse_responses(connection.received())), 10)
            self.assertFalse(connection.closed)

    def test_ages_differ(self) -> None:
        """Connections that were made together are not closed together."""
        self.begin(max_connection_age=1000, idle_timeout=IDLE_TIMEOUT)
        connections = [self.connect() for _ in range(20)]
        ages: dict[Connection, int] = {}
        for age in range(0, 1010, 10):
            for connection in set(connections) - set(ages):
                connection.send(BEAT)
                if connection.closed:
                    ages[connection] = age
            self.pass_time(10)
        self.assertEqual(len(ages), 20)
        self.assertGreater(len(set(ages.values())), 5)
        self.assertGreaterEqual(min(ages.values()), 790)

    def test_age_in_a_full_house(self) -> None:
        """No connection is closed for its age while its client could not connect again."""
        self.begin(max_connection_age=100, idle_timeout=IDLE_TIMEOUT, max_connections=1)
        connection = self.connect()
        for _ in range(30):
            connection.send(BEAT)
            self.pass_time(10)
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
