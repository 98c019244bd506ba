"""The fast lane by itself: what it takes, how much at once, and with whose permission."""

from typing import Any

import orjson
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from hbtd.api.fastlane import FastLane, MayBeat, Sender
from hbtd.server.factory import ConnectionFactory
from hbtd.server.lane import Verdict
from hbtd.server.site import LimitedSite
from tests.support.http_memory import (
    BEAT,
    HEARTBEAT,
    XNAME,
    APITestCase,
    SlowReader,
    encode_request,
    head,
    parse_responses,
)

GET = head("GET /v1/liveness")


def beat_of(number: int, authorization: str = "") -> bytes:
    """Return a heartbeat of one of many components as a request."""
    fields = {"Authorization": authorization} if authorization else {}
    heartbeat = {**HEARTBEAT, "Component": f"x0c0s{number}b0n0"}
    return encode_request("POST", "/v1/heartbeat", heartbeat, fields)


class TakingTests(APITestCase):
    """The heartbeats that are taken off the front of a stream."""

    def setUp(self) -> None:
        """Make a lane for the service's monitor."""
        super().setUp()
        self.lane = FastLane(self.service.monitor, Clock().seconds)

    def test_portions(self) -> None:
        """Many heartbeats at once are taken in portions of whole heartbeats."""
        stream = b"".join(map(beat_of, range(100)))
        taken: list[int] = []
        while stream:
            beats, end, verdict, _ = self.lane.take(stream, Sender(None, None))
            first = sum(taken)
            self.assertEqual(stream[:end], b"".join(map(beat_of, range(first, first + beats))))
            taken.append(beats)
            stream = stream[end:]
            self.assertIs(verdict, Verdict.TURN if stream else Verdict.DRY)
        self.assertEqual(sum(taken), 100)
        self.assertLess(max(taken), 50)
        self.assertEqual(self.service.tracker.healthy, 100)

    def test_verdicts(self) -> None:
        """The verdict says why no more was taken."""
        last = BEAT.replace(b"Host:", b"Connection: close\r\nHost:")
        for rest, verdict in (
            (b"", Verdict.DRY),
            (BEAT[:1], Verdict.BEGINNING),
            (BEAT[:-1], Verdict.ARRIVING),
            (GET, Verdict.OTHER),
            (GET[:1], Verdict.OTHER),
            (b"\r\n", Verdict.OTHER),
        ):
            taken = self.lane.take(BEAT * 2 + rest, Sender(None, None))
            self.assertEqual(taken[:3], (2, 2 * len(BEAT), verdict))
        taken = self.lane.take(BEAT + last + BEAT, Sender(None, None))
        self.assertEqual(taken[:3], (2, len(BEAT + last), Verdict.LAST))

    def test_date(self) -> None:
        """Answers carry the current date."""
        clock = Clock()
        lane = FastLane(self.service.monitor, clock.seconds)
        for date in (b"Thu, 01 Jan 1970 00:00:00 GMT", b"Thu, 01 Jan 1970 00:00:01 GMT"):
            answers = parse_responses(lane.answers(2, last=True))
            dates = [answer.headers["date"].encode() for answer in answers]
            self.assertEqual(dates, [date, date])
            clock.advance(1)

    def test_memory_is_bounded(self) -> None:
        """A bounded number of heads is remembered, and none with credentials."""
        self.lane.take(beat_of(1, "Bearer secret"), Sender(None, None))
        self.assertEqual(self.lane._heads, {})
        for i in range(21_000):
            self.lane.take(BEAT.replace(b"Host:", b"X: %d\r\nHost:" % i), Sender(None, None))
        self.assertLessEqual(len(self.lane._heads), 20_000)
        self.assertEqual(self.service.tracker.beats, 21_001)

    def test_long_texts(self) -> None:
        """Long timestamps and statuses are cut off as in the ordinary lane."""
        heartbeat = {**HEARTBEAT, "Status": "s" * 1000, "Timestamp": "t" * 1000}
        for _ in range(2):
            self.lane.take(encode_request("POST", "/v1/heartbeat", heartbeat), Sender(None, None))
            component = self.service.tracker._healthy[XNAME]
            self.assertEqual((component.status, component.timestamp), ("s" * 256, "t" * 256))


class PermissionTests(APITestCase):
    """Heartbeats that need permission."""

    def test_permission(self) -> None:
        """A heartbeat without permission is left to the ordinary lane, and has no effect."""
        asked: list[tuple[Any, bytes | None, str]] = []

        def may_beat_for(transport: Any) -> MayBeat:
            def may_beat(authorization: bytes | None, xname: str) -> bool:
                asked.append((transport, authorization, xname))
                return authorization == b"Bearer good"

            return may_beat

        lane = FastLane(self.service.monitor, Clock().seconds, may_beat_for)
        transport = StringTransport()
        sender = lane.sender(transport, None)
        named = head(
            f"POST /v1/heartbeat/{XNAME.upper()}",
            "Authorization: Bearer good",
            f"Content-Length: {len(orjson.dumps(HEARTBEAT))}",
        ) + orjson.dumps(HEARTBEAT)
        for request, verdict in (
            (BEAT, Verdict.OTHER),
            (beat_of(1, "Bearer bad"), Verdict.OTHER),
            (beat_of(1, "Bearer good"), Verdict.DRY),
            (named, Verdict.DRY),
            (named, Verdict.DRY),
        ):
            self.assertIs(lane.take(request, sender)[2], verdict)
        self.assertEqual(
            asked,
            [
                (transport, None, XNAME),
                (transport, b"Bearer bad", "x0c0s1b0n0"),
                (transport, b"Bearer good", "x0c0s1b0n0"),
                *[(transport, b"Bearer good", XNAME)] * 2,
            ],
        )
        self.assertEqual(self.service.tracker.beats, 3)


class TurnTests(APITestCase):
    """Connections with many heartbeats, which take turns."""

    def open(self, transport: StringTransport) -> Any:
        """Open a connection without advancing the reactor."""
        protocol = self.factory.buildProtocol(None)
        protocol.makeConnection(transport)
        return protocol

    def test_turns(self) -> None:
        """Many heartbeats are answered in order over several rounds; reading pauses meanwhile."""
        transport = StringTransport()
        protocol = self.open(transport)
        protocol.dataReceived(b"".join(map(beat_of, range(1000))) + GET + BEAT)
        at_once = len(parse_responses(transport.value()))
        self.assertLess(at_once, 50)
        self.assertEqual(transport.producerState, "paused")
        other = StringTransport()
        self.open(other).dataReceived(BEAT)
        self.assertEqual(len(parse_responses(other.value())), 1)
        self.reactor.advance(0)
        answers = parse_responses(transport.value())
        self.assertEqual([each.status for each in answers], [200] * 1000 + [204, 200])
        self.assertEqual(transport.producerState, "producing")

    def test_one_turn_a_round(self) -> None:
        """A connection gets one turn in each round of the reactor."""
        transport = StringTransport()
        self.open(transport).dataReceived(BEAT * 1000)
        counts = []
        while self._due():
            counts.append(len(parse_responses(transport.value())))
            transport.clear()
            for call in self._due():
                give_turns = call.func
                call.cancel()
                give_turns()
        self.assertLess(max(counts), 50)

    def _due(self) -> list[Any]:
        """Return the calls of the reactor's next round."""
        now = self.reactor.seconds()
        return [call for call in self.reactor.getDelayedCalls() if call.getTime() <= now]

    def test_more_while_waiting(self) -> None:
        """Requests that arrive while a connection waits for its turn are answered in order."""
        transport = StringTransport()
        protocol = self.open(transport)
        protocol.dataReceived(BEAT * 100)
        protocol.dataReceived(GET + BEAT[:10])
        self.reactor.advance(0)
        protocol.dataReceived(BEAT[10:])
        answers = parse_responses(transport.value())
        self.assertEqual([each.status for each in answers], [200] * 100 + [204, 200])

    def test_gone_while_waiting(self) -> None:
        """A connection that is lost before its turn is dropped without an error."""
        protocol = self.open(StringTransport())
        protocol.dataReceived(BEAT * 100)
        beats = self.service.tracker.beats
        protocol.connectionLost()
        self.reactor.advance(0)
        self.assertEqual(self.service.tracker.beats, beats)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_nobody_reads(self) -> None:
        """Few answers are buffered for a client that reads none, and all arrive once it reads."""
        transport = SlowReader()
        protocol = self.open(transport)
        for _ in range(20):
            protocol.dataReceived(BEAT * 300)
            for _ in range(30):
                self.reactor.advance(0)
        self.assertLess(len(transport.value()), 100 * 1024)
        count = 0
        for _ in range(1000):
            count += len(parse_responses(transport.value()))
            transport.clear()
            if transport.producer is not None:
                transport.producer.resumeProducing()
            self.reactor.advance(0)
        self.assertEqual(count, 20 * 300)

    def test_mixed(self) -> None:
        """A connection that alternates between the lanes gets all answers in order."""
        transport = StringTransport()
        protocol = self.open(transport)
        for _ in range(50):
            protocol.dataReceived(BEAT + GET + BEAT * 3 + GET + GET)
            self.reactor.advance(0)
        answers = parse_responses(transport.value())
        self.assertEqual(
            [each.status for each in answers], [200, 204, 200, 200, 200, 204, 204] * 50
        )
        self.assertIs(transport.producer, protocol)


class OffTests(APITestCase):
    """A service without a fast lane."""

    fast_lane = False

    def test_nothing_is_taken(self) -> None:
        """With `--fast_lane=no` every request goes to the site, also incomplete ones."""
        site: LimitedSite = self.factory.site
        connection = self.connect()
        connection.send(BEAT[:-1])
        self.assertEqual(len(site.open_requests), 1)
        connection.send(BEAT[-1:])
        self.assertEqual(len(parse_responses(connection.received())), 1)
        self.assertIsInstance(self.factory, ConnectionFactory)
        self.assertIsNone(self.factory.lane)
