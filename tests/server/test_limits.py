"""What one client takes is bounded, and so is what all of them take together."""

import re
from collections.abc import Iterable
from json import JSONEncoder

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs, eventAsText

from tests.support.http_memory import (
    BEAT,
    HEARTBEAT,
    XNAME,
    APITestCase,
    Connection,
    chunked,
    encode_request,
    head,
    parse_responses,
)

GET = head("GET /v1/params")
DOCUMENT = head("GET /v1/openapi.json")
KIB64 = 64 * 1024
CHUNKED_QUERY = head("POST /v1/hbstates", "Transfer-Encoding: chunked")
ORDINARY = head("POST /v1/heartbeat", "Transfer-Encoding: chunked") + chunked(
    BEAT.partition(b"\r\n\r\n")[2]
)
"""A heartbeat that is not one for the fast lane."""


class LimitsTestCase(APITestCase):
    """Can tell what was refused."""

    def metric(self, name: str) -> float:
        """Give the value of a metric of hbtd's."""
        exposed = self.request("GET", "/metrics").body.decode()
        found = re.search(rf"^hbtd_{re.escape(name)} (\S+)$", exposed, re.MULTILINE)
        assert found, name
        return float(found[1])

    def refused(self, reason: str) -> float:
        """Tell how often something was refused for a reason."""
        return self.metric(f'refused_total{{reason="{reason}"}}')

    def connect_from(self, host: str) -> Connection | None:
        """Connect from an IPv4 address; gives `None` if that is not let in."""
        return self.connect_at(IPv4Address("TCP", host, 40000))

    def connect_at(self, address: object) -> Connection | None:
        """Connect from an address; gives `None` if that is not let in."""
        connection = Connection(self.factory, StringTransport(peerAddress=address))
        self.addCleanup(connection.hang_up)
        return None if connection.closed else connection


class ConnectionsTests(LimitsTestCase):
    """So many connections may be open."""

    def node_from(self, host: str) -> Connection | None:
        """Connect from an IPv4 address, and send a heartbeat; gives `None` if that fails."""
        connection = self.connect_from(host)
        if connection is not None:
            connection.send(BEAT)
            self.assertEqual(len(parse_responses(connection.received())), 1)
        return connection

    def test_in_all(self) -> None:
        """One too many is closed at once and counted; one that ends makes room for another."""
        self.begin(max_connections=3)
        first, *others = [self.node_from(f"10.0.0.{i}") for i in range(3)]
        assert first
        self.assertNotIn(None, others)
        self.assertIsNone(self.connect_from("10.0.0.9"))
        self.assertIsNone(self.connect_at(UNIXAddress(None)))
        first.hang_up()
        self.assertEqual(self.refused("connections"), 2)
        self.assertEqual(self.metric("connections"), 3)
        self.assertIsNotNone(self.node_from("10.0.0.9"))

    def test_full_house(self) -> None:
        """A new one is let in; of the address with most, the one idle for longest is closed."""
        self.begin(max_connections=6)
        node = self.node_from("10.0.0.1")
        visitor = self.connect_from("10.0.0.2")
        idle = [self.connect_from("10.0.0.3") for _ in range(4)]
        assert node
        assert visitor
        assert idle[0]
        assert idle[1]
        idle[0].send(GET)  # is not idle any more
        with capturedLogs() as events:
            newcomer = self.node_from("10.0.0.4")
        assert newcomer
        self.assertEqual([each.closed for each in (node, visitor, newcomer)], [False] * 3)
        self.assertEqual([each and each.closed for each in idle], [False, True, False, False])
        self.assertIn("closed to make room", eventAsText(events[0]))
        self.assertIn("10.0.0.3", eventAsText(events[0]))
        # It may have been a node's, about to beat.
        self.assertEqual(self.factory.scheduler.waiting_long(), {"10.0.0.3"})
        # Those that beat are never closed for others.
        for number in range(4):
            self.assertIsNotNone(self.node_from(f"10.0.1.{number}"))
        self.assertIsNone(self.connect_from("10.0.2.1"))
        self.assertFalse(node.closed)

    def test_silent_node(self) -> None:
        """A node that has been silent for `Errtime` counts as a stranger, until it beats again."""
        self.begin(max_connections=2, errtime=10)
        first, second = self.node_from("10.0.0.1"), self.node_from("10.0.0.2")
        assert first
        assert second
        self.reactor.pump([1.0] * 8)
        second.send(BEAT)
        self.assertIsNone(self.connect_from("10.0.0.3"))
        self.reactor.pump([1.0] * 4)
        self.assertIsNotNone(self.node_from("10.0.0.3"))
        self.assertEqual((first.closed, second.closed), (True, False))

    def test_steady_node(self) -> None:
        """A connection on which heartbeats are taken in either lane is never closed for others."""
        self.begin(max_connections=1, errtime=10)
        for request in (BEAT, ORDINARY):
            node = self.node_from("10.0.0.1")
            assert node
            for _ in range(10):
                node.send(request)
                self.reactor.pump([1.0] * 5)
                self.assertIsNone(self.connect_from("10.0.0.2"))
            node.hang_up()

    def test_not_heard(self) -> None:
        """The address of a connection that is turned away counts as waiting, for `Errtime`."""
        self.begin(max_connections=1, errtime=10)
        self.node_from("10.0.0.1")
        self.assertIsNone(self.connect_from("10.0.0.2"))
        waiting = self.factory.scheduler.waiting_long
        self.assertEqual(waiting(), {"10.0.0.2"})
        self.reactor.pump([1.0] * 9)
        self.assertEqual(waiting(), {"10.0.0.2"})
        self.reactor.pump([1.0] * 2)
        self.assertEqual(waiting(), set())

    def test_of_one_address(self) -> None:
        """Of one address there may be fewer, and others do not notice."""
        self.begin(max_connections_per_peer=2)
        first, second = self.node_from("10.0.0.1"), self.node_from("10.0.0.1")
        assert first
        assert second
        self.assertIsNone(self.connect_from("10.0.0.1"))
        self.assertIsNotNone(self.connect_from("10.0.0.2"))
        self.assertIsNotNone(self.connect_at(IPv6Address("TCP", "::1", 40000)))
        self.assertEqual(self.refused("peer_connections"), 1)
        first.hang_up()
        third = self.connect_from("10.0.0.1")
        assert third
        # One that does not beat makes room for the next of its address.
        self.assertIsNotNone(self.node_from("10.0.0.1"))
        self.assertEqual((second.closed, third.closed), (False, True))
        self.assertIsNone(self.connect_from("10.0.0.1"))

    def test_no_address(self) -> None:
        """Those on a Unix socket have no address, so that none of them is one too many."""
        self.begin(max_connections_per_peer=1)
        for _ in range(5):
            self.assertIsNotNone(self.connect_at(UNIXAddress(None)))

    def test_no_limit(self) -> None:
        """Without a limit for one address there is only that for all."""
        self.begin(max_connections_per_peer=0, max_connections=50)
        found = [self.node_from("10.0.0.1") for _ in range(60)]
        self.assertEqual(found.count(None), 10)

    def test_addresses_are_forgotten(self) -> None:
        """Of addresses that have left nothing is kept."""
        for i in range(100):
            connection = self.connect_from(f"10.0.0.{i}")
            assert connection
            connection.hang_up()
        self.assertEqual(len(self.factory._of_host), 0)

    def test_open_files(self) -> None:
        """Where fewer files may be open, there are fewer connections, and the log says so."""
        self.begin(max_connections=1000)
        with capturedLogs() as events:
            self.service.fit_connections(100_000)
        self.assertEqual(events, [])
        with capturedLogs() as events:
            self.service.fit_connections(130)
        said = eventAsText(events[0])
        self.assertIn("hbtd accepts 2 connections at most", said)
        self.assertIn("Raise the limit (LimitNOFILE of the unit, or ulimit -n), or lower", said)
        found = [self.node_from(f"10.0.0.{number}") for number in range(3)]
        self.assertEqual(found.count(None), 1)

    def test_open_files_of_one_address(self) -> None:
        """Where few files may be open, one address leaves a quarter of connections to others."""
        self.begin(max_connections=1000, max_connections_per_peer=400)
        self.service.fit_connections(128 + 700)
        self.assertEqual(self.factory.limits.connections_per_peer, 400)
        self.service.fit_connections(128 + 20)
        found = [self.node_from("10.0.0.1") for _ in range(50)]
        self.assertEqual(found.count(None), 35)
        self.assertIsNotNone(self.node_from("10.0.0.2"))

    def test_said_once(self) -> None:
        """Whoever tries again and again gets one line in the log."""
        self.begin(max_connections=1)
        kept = self.node_from("10.0.0.1")
        assert kept
        with capturedLogs() as events:
            for _ in range(1000):
                self.assertIsNone(self.connect_from("10.0.0.2"))
        (event,) = events
        self.assertEqual(
            eventAsText(event, includeTimestamp=False, includeSystem=False),
            "Refused a request or connection from 10.0.0.2: There is 1 connection already",
        )


class SizesTests(LimitsTestCase):
    """Heads and bodies may have so many bytes."""

    def test_heads(self) -> None:
        """A head may be as large as the option says, whichever lane it is for."""
        for limit in (1024, 16_384, 100_000):
            self.begin(max_header_bytes=limit)
            for method, path, body in (
                ("POST", "/v1/heartbeat", HEARTBEAT),
                ("GET", "/v1/params", b""),
            ):
                bare = encode_request(method, path, body, {"X": ""})
                lines = bare.partition(b"\r\n\r\n")[0].replace(b"\r\n", b"")
                for excess, status in ((0, 200), (1, 431)):
                    padding = "x" * (limit - len(lines) + excess)
                    connection = self.connect()
                    connection.send(encode_request(method, path, body, {"X": padding}))
                    (answer,) = parse_responses(connection.received())
                    self.assertEqual(answer.status, status, (limit, method))
                    self.assertEqual(connection.closed, status == 431)
            self.assertEqual(self.refused("large_head"), 2)

    def test_endless_heads(self) -> None:
        """Heads without end are not kept, be they of one line, of many, or of a heartbeat."""
        piece = b"x" * 4096
        for start, more in (
            (b"", piece),
            (b"GET /v1/params HTTP/1.1\r\nX: ", piece),
            (b"GET /v1/params HTTP/1.1\r\n", (b"X: %b\r\n" % (b"y" * 200)) * 20),
            (b"POST /v1/heartbeat HTTP/1.1\r\nX: ", piece),
        ):
            connection = self.connect()
            connection.send(start, *[more] * 1024)
            (answer,) = parse_responses(connection.received())
            self.assertEqual((answer.status, connection.closed), (431, True), start)
        self.assertEqual(self.refused("large_head"), 4)

    def test_bodies(self) -> None:
        """A body may be as large as the option says; a heartbeat's limit stays."""
        self.begin(max_body_bytes=2**20)
        body = b'{"XNames":[]}'.ljust(2**20)
        self.assertEqual(self.request("POST", "/v1/hbstates", body).status, 200)
        answer = self.request("POST", "/v1/hbstates", body + b" ")
        detail = f"Request body is larger than {2**20} bytes"
        self.assert_problem(answer, 413, detail, "/hmi/v1/hbstates")
        answer = self.request("POST", "/v1/heartbeat", b" " * (KIB64 + 1))
        self.assertEqual((answer.status, self.refused("large_body")), (413, 2))

    def test_small_chunks(self) -> None:
        """A body in thousands of chunks of a byte is refused before it ends, and answered once."""
        for size, ending in ((2**20, b""), (5000, b"0\r\n\r\n")):
            self.begin()
            connection = self.connect()
            connection.send(CHUNKED_QUERY, b"1\r\n \r\n" * size + ending)
            (answer,) = parse_responses(connection.received())
            detail = "Request body has too many small chunks"
            self.assert_problem(answer, 413, detail, "/")
            self.assertTrue(connection.closed)
            self.assertEqual(self.refused("large_body"), 1)

    def test_chunk_for_each_name(self) -> None:
        """A body whose chunks have a name each, as Python's JSON encoder yields them, is read."""
        names = [f"x{i // 64}c0s{i % 64}b0n0" for i in range(20_000)]
        pieces = [piece.encode() for piece in JSONEncoder().iterencode({"XNames": names})]
        connection = self.connect()
        connection.send(
            CHUNKED_QUERY, *(b"%x\r\n%b\r\n" % (len(p), p) for p in pieces), b"0\r\n\r\n"
        )
        (answer,) = parse_responses(connection.received())
        self.assertEqual(answer.status, 200)

    def test_early_refusal_is_counted(self) -> None:
        """A client that sends more than four times a body's limit is refused and counted once."""
        self.begin(max_body_bytes=KIB64)
        connection = self.connect()
        connection.send(head("POST /v1/hbstates", "Content-Length: 1000000000"))
        connection.send(*[b" " * KIB64] * 20)
        (answer,) = parse_responses(connection.received())
        self.assertEqual((answer.status, connection.closed), (413, True))
        self.assertEqual(self.refused("large_body"), 1)

    def test_bodies_together(self) -> None:
        """Large bodies of one address have half of the memory at most; heartbeats need none."""
        size = 2**17
        self.begin(max_body_bytes=size)
        start = head("POST /v1/hbstates", f"Content-Length: {size}") + b" " * (size - 1)
        holding = [self.connect() for _ in range(32)]
        for connection in holding:
            connection.send(start)
        answer = self.request("POST", "/v1/hbstates", b'{"XNames":[]}'.ljust(size))
        detail = "Too many large requests at once"
        self.assert_problem(answer, 503, detail, "/hmi/v1/hbstates")
        self.assertEqual(answer.headers["retry-after"], "10")
        self.assertEqual(self.refused("memory"), 1)
        other = self.connect_from("10.0.0.9")
        assert other
        other.send(encode_request("POST", "/v1/hbstates", b'{"XNames":[]}'.ljust(size)))
        self.assertEqual(parse_responses(other.received())[0].status, 200)
        for request in (("POST", "/v1/heartbeat", HEARTBEAT), ("GET", "/v1/params", b"")):
            self.assertEqual(self.request(*request).status, 200)
        self.assertEqual(self.request("POST", "/v1/hbstates", b"{}".ljust(KIB64)).status, 200)
        holding[0].hang_up()
        answer = self.request("POST", "/v1/hbstates", b'{"XNames":[]}'.ljust(size))
        self.assertEqual(answer.status, 200)
        for connection in holding[1:]:
            connection.send(b"x")
            self.assertEqual(parse_responses(connection.received())[0].status, 400)
        self.assertEqual(self.factory.site.room.taken, 0)


class Narrow(StringTransport):
    """A connection whose client reads when it is told to, and not before."""

    def __init__(self) -> None:
        super().__init__(peerAddress=IPv4Address("TCP", "10.0.0.1", 40000))
        self.aborted = False

    def write(self, data: bytes) -> None:
        """Take what is written, and say so when it is much."""
        before = len(self.value())
        super().write(data)
        if before < KIB64 <= len(self.value()) and self.producer is not None:
            self.producer.pauseProducing()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """Do as `write`."""
        self.write(b"".join(data))

    def read(self) -> bytes:
        """Have the client read all that there is."""
        data: bytes = self.value()
        self.clear()
        if self.producer is not None and not self.disconnecting:
            self.producer.resumeProducing()
        return data

    def resumeProducing(self) -> None:
        """Resume, unless it is closing: a real transport does nothing then, this one objects."""
        if not self.disconnecting:
            super().resumeProducing()

    def abortConnection(self) -> None:
        """End it by force."""
        self.aborted = True


class UnreadTests(LimitsTestCase):
    """Clients that do not read their answers."""

    def setUp(self) -> None:
        super().setUp()
        self.transport = Narrow()
        self.connection = Connection(self.factory, self.transport)
        self.addCleanup(self.connection.hang_up)

    def pass_time(self, seconds: float) -> None:
        """Let time pass, a second at a time."""
        self.reactor.pump([1.0] * int(seconds))

    def read_some(self) -> bytes:
        """Have the client read what there is, which is never much."""
        self.assertLess(len(self.transport.value()), 3 * KIB64)
        piece = self.transport.read()
        self.connection._go_round()
        return piece

    def ask_much(self) -> None:
        """Ask for what is answered with megabytes."""
        names = [XNAME] * 100_000
        self.connection.send(encode_request("POST", "/v1/hbstates", {"XNames": names}))

    def test_nothing_more(self) -> None:
        """What is pipelined behind an answer that was not read is not answered, nor forgotten."""
        for request, count in ((DOCUMENT, 50), (GET, 500), (BEAT, 2000)):
            self.connection.send(request * count)
            pieces = []
            while piece := self.read_some():
                pieces.append(piece)
            self.assertEqual(len(parse_responses(b"".join(pieces))), count)

    def test_no_more_is_read(self) -> None:
        """Of who sends on and on and reads nothing no more is read, until it reads."""
        for request in (DOCUMENT, DOCUMENT + BEAT, GET, BEAT):
            self.setUp()
            sent = 0
            while self.transport.producerState == "producing":
                self.connection.send(request * 20)
                sent += len(request) * 20
                self.assertLess(sent, 2**20)
            while self.read_some():
                pass
            self.assertEqual(self.transport.producerState, "producing")

    def test_cut_off(self) -> None:
        """Who does not read for as long as one may be idle is cut off, and counted."""
        for ask in (self.ask_much, lambda: self.connection.send(DOCUMENT * 100)):
            self.setUp()
            ask()
            self.pass_time(58)
            self.assertFalse(self.transport.aborted)
            self.pass_time(4)
            self.assertTrue(self.transport.aborted)
            self.assertEqual(self.refused("unread"), 1)

    def test_slow_reader(self) -> None:
        """Who reads now and then gets all of it."""
        self.ask_much()
        received = b""
        while True:
            self.pass_time(50)
            piece = self.transport.read()
            self.connection._go_round()
            if not piece:
                break
            received += piece
        (answer,) = parse_responses(received)
        self.assertEqual(len(answer.json()["HBStates"]), 100_000)
        self.assertFalse(self.transport.aborted or self.connection.closed)
        self.pass_time(self.factory.limits.idle_timeout + 2)
        self.assertTrue(self.connection.closed)

    def test_finished_sending(self) -> None:
        """Who has finished sending, and reads now and then, gets all of it before the end."""
        for request, count in ((DOCUMENT, 50), (GET, 500), (BEAT, 2000)):
            self.setUp()
            self.connection.send(request * count)
            self.assertTrue(self.connection.finish())
            pieces = []
            while piece := self.read_some():
                pieces.append(piece)
            self.assertEqual(len(parse_responses(b"".join(pieces))), count)
            self.assertTrue(self.connection.closed)

    def test_memory(self) -> None:
        """A large answer takes of the memory for large bodies until it was written."""
        self.ask_much()
        room = self.factory.site.room
        self.assertGreater(room.taken, 2**20)
        while self.transport.read():
            self.connection._go_round()
        self.assertEqual(room.taken, 0)
        self.ask_much()
        self.assertGreater(room.taken, 2**20)
        self.connection.hang_up()
        self.assertEqual(room.taken, 0)

    def test_no_memory(self) -> None:
        """An answer that there is no memory for is not given; others are."""
        room = self.factory.site.room
        self.assertTrue(room.take((self.factory.limits.large_bytes - 2**20) // 2, "127.0.0.1"))
        body = {"XNames": [XNAME] * 100_000}
        answer = self.request("POST", "/v1/hbstates", body)
        self.assert_problem(answer, 503, "Too many large requests at once", "/hmi/v1/hbstates")
        self.assertEqual(self.request("GET", "/v1/openapi.json").status, 200)


class TimesTests(LimitsTestCase):
    """Requests and silences may last so long."""

    def test_options(self) -> None:
        """Options say how long; who is slow is counted, and so is who is idle."""
        self.begin(request_timeout=5, idle_timeout=7)
        slow, idle = self.connect(), self.connect()
        slow.send(BEAT[:20])
        idle.send(BEAT)
        self.reactor.pump([1.0] * 4)
        self.assertFalse(slow.closed or idle.closed)
        self.reactor.pump([1.0] * 2)
        self.assertTrue(slow.closed)
        self.assertFalse(idle.closed)
        self.reactor.pump([1.0] * 2)
        self.assertTrue(idle.closed)
        self.assertEqual((self.refused("slow"), self.metric("idle_closed_total")), (1, 1))


class ReasonsTests(LimitsTestCase):
    """Why something is refused."""

    def test_counted_from_the_start(self) -> None:
        """Each reason is counted from zero, so that its first refusal is an increase."""
        for reason in (
            *("connections", "peer_connections", "slow", "unread"),
            *("large_head", "large_body", "memory", "tls"),
        ):
            self.assertEqual(self.refused(reason), 0, reason)
