"""Events over HTTP, to clients in memory."""

from tests.support.access_memory import TOKEN, AccessTestCase, Credential, Transport
from tests.support.event_stream import EventStream
from tests.support.event_subscriber import EVENTS, Subscriber
from tests.support.http_memory import (
    HEARTBEAT,
    XNAME,
    APITestCase,
    Connection,
    SlowReader,
    encode_request,
    head,
    parse_responses,
)
from tests.support.issuer import bearer


class EventsTests(APITestCase):
    """Clients that read events."""

    def beat(self, *names: str) -> None:
        """Let components start, and wait until that is committed."""
        for name in names:
            self.request("POST", "/hmi/v1/heartbeat", {**HEARTBEAT, "Component": name})
        self.reactor.pump([0.05] * 10)

    def subscribe(self, path: str = EVENTS, **headers: str) -> Subscriber:
        """Let a client read events."""
        self.reactor.pump([0.05] * 4)
        return Subscriber(self.connect(), path, **headers)

    def test_stream(self) -> None:
        """A client gets events as they are committed, in an answer without an end."""
        client = self.subscribe()
        self.assertIn(b"HTTP/1.1 200 OK", client.head)
        for field in (
            b"Content-Type: text/event-stream",
            b"Cache-Control: no-cache",
            b"X-Accel-Buffering: no",
            b"Transfer-Encoding: chunked",
        ):
            self.assertIn(field, client.head)
        self.beat(XNAME, "x1000c0s1")
        self.assertEqual(client.read(), [1, 2])
        self.assertEqual(client.stream.retry, 3000)
        self.assertIn(f'"XName":"{XNAME}","From":"unknown"', client.stream.events[0].data)

    def test_resumed(self) -> None:
        """The header says after which number; it counts more than the parameter."""
        self.beat("x1", "x2", "x3")
        self.assertEqual(self.subscribe(f"{EVENTS}?after=1").read(), [2, 3])
        self.assertEqual(self.subscribe(f"{EVENTS}?after=1", Last_Event_ID="2").read(), [3])
        self.assertEqual(self.subscribe(f"{EVENTS}?after=0&under=x2").read(), [2])
        self.assertEqual(self.subscribe(f"{EVENTS}?after=0&names=x[1,3]").read(), [1, 3])

    def test_bad_input(self) -> None:
        """Numbers, names and parameters that can't be used are answered with 400."""
        for query in (
            "after=x",
            "after=-1",
            "after=",
            f"after={2**53}",
            f"after={'9' * 5000}",
            "after=%D9%A1",
            "names=x[0-999999999]",
            "under=nobody",
            "since=1",
        ):
            self.assertEqual(self.request("GET", f"{EVENTS}?{query}").status, 400, query)
        for value in ("x", "1 2", "-1", "9" * 17):
            answer = self.request("GET", EVENTS, headers={"Last-Event-ID": value})
            self.assertEqual(answer.status, 400, value)
        connection = self.connect()
        connection.send(head(f"GET {EVENTS}", "Last-Event-ID: 1?").replace(b"?", b"\xff"))
        self.assertIn(b" 400 ", connection.received())
        self.assertEqual(len(self.service.core.event_hub.readers), 0)

    def test_too_many(self) -> None:
        """Further readers than allowed get a 503 with Retry-After, until one leaves."""
        self.begin(max_event_readers=1)
        first = self.subscribe()
        answer = self.request("GET", EVENTS)
        self.assertEqual((answer.status, answer.headers["retry-after"]), (503, "10"))
        self.assertIn(b"1 read events already", answer.body)
        first.connection.hang_up()
        self.assertEqual(len(self.service.core.event_hub.readers), 0)
        self.assertIn(b" 200 ", self.subscribe().head)

    def test_many_of_one_address(self) -> None:
        """One address gets half of the places that others leave, again once one of its own left."""
        self.begin(max_event_readers=6)
        readers = [self.subscribe() for _ in range(3)]
        answer = self.request("GET", EVENTS)
        self.assertEqual(answer.status, 503)
        self.assertIn(b"3 at this address read events already", answer.body)
        readers[0].connection.hang_up()
        self.assertIn(b" 200 ", self.subscribe().head)
        self.assertEqual(len(self.service.core.event_hub.readers), 3)

    def test_head(self) -> None:
        """HEAD is answered at once, with the same type; nobody reads then."""
        connection = self.connect()
        connection.send(encode_request("HEAD", EVENTS))
        (answer,) = parse_responses(connection.received(), ["HEAD"])
        self.assertEqual((answer.status, answer.content_type), (200, "text/event-stream"))
        self.assertEqual(len(self.service.core.event_hub.readers), 0)

    def test_old_client(self) -> None:
        """A client of HTTP/1.0 gets the events without chunks."""
        self.reactor.pump([0.05] * 4)
        connection = self.connect()
        connection.send(b"GET /hmi/v1/events HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        self.beat("x1")
        head, _, body = connection.received().partition(b"\r\n\r\n")
        self.assertIn(b"Connection: close", head)
        self.assertNotIn(b"chunked", head)
        stream = EventStream()
        stream.feed(body)
        self.assertEqual([each.number for each in stream.events], [1])

    def test_stays_open(self) -> None:
        """However long nothing happens, the connection stays open; comments keep it so."""
        self.begin(idle_timeout=60)
        client = self.subscribe()
        self.reactor.pump([1.0] * 200)
        client.read()
        self.assertFalse(client.connection.closed)
        self.assertGreaterEqual(client.stream.comments, 12)

    def test_never_reads(self) -> None:
        """A client that reads nothing holds little memory, and is cut off."""
        self.reactor.pump([0.05] * 4)
        transport = SlowReader()
        slow = Connection(self.factory, transport)
        self.addCleanup(slow.hang_up)
        slow.send(encode_request("GET", EVENTS))
        for start in range(0, 1500, 300):
            self.beat(*(f"x{start + i}" for i in range(300)))
        self.assertLess(len(transport.value()), 128 * 1024)
        self.reactor.pump([1.0] * 70)
        self.assertTrue(slow.closed)

    async def test_stopped(self) -> None:
        """When hbtd stops, the answer ends at once, as a whole, and the connection is closed."""
        client = self.subscribe()
        stopped = self.service.stopService()
        self.reactor.pump([0.05] * 10)
        client.read()
        self.assertTrue(client.body.endswith(b"0\r\n\r\n"))
        self.assertTrue(client.connection.closed)
        client.connection.hang_up()
        self.reactor.pump([0.2] * 20)
        await stopped


class RevokedTests(AccessTestCase):
    """Clients whose credentials permitted them to read events, and do so no longer."""

    def check(self, line: str) -> None:
        """Check that a stream ends once its token's line in the file is `line`; others go on."""
        service = self.start(operator_access="token:{folder}/tokens", reader_access="operators")
        revoked, other = (
            Credential(headers=bearer(token)) for token in (TOKEN, "another-token-of-operators")
        )
        clients = []
        for credential in (revoked, other):
            connection = Connection(self.reactor.tcpServers[0][1], Transport(credential))
            self.addCleanup(connection.hang_up)
            clients.append(Subscriber(connection, **credential.headers))
        self.reactor.pump([1.0] * 60)
        self.assertEqual([each.connection.closed for each in clients], [False, False])
        (self.folder / "tokens").write_text(f"another-token-of-operators\n{line}\n")
        self.reactor.pump([1.0] * 60)
        self.assertEqual([each.connection.closed for each in clients], [True, False])
        clients[0].read()
        self.assertTrue(clients[0].body.endswith(b"0\r\n\r\n"))
        self.assertEqual(self.outcome(service, other, "GET", "/v1/summary"), 200)
        self.assertEqual(self.outcome(service, revoked, "GET", EVENTS), 401)

    def test_revoked(self) -> None:
        """A stream ends within a minute after its token was removed from the file."""
        self.check("")

    def test_expired(self) -> None:
        """A stream ends within a minute after its token has expired."""
        self.check(f"{TOKEN} expires=2020-01-01")
