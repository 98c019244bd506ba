"""The fast lane by itself: what it takes, in which portions, and who it lets through."""

from typing import Any

import orjson
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from hbtd.api.fastlane import FastLane, MayBeat, Sender
from hbtd.server.factory import ConnectionFactory
from hbtd.server.lane import Verdict
from hbtd.server.site import LimitedSite
from tests.server.test_scheduler import SlowReader
from tests.support.http_memory import (
    BEAT,
    HEARTBEAT,
    XNAME,
    APITestCase,
    encode_request,
    head,
    parse_responses,
)

GET = head("GET /v1/liveness")


def beat_of(number: int, authorization: str = "") -> bytes:
    """Write a heartbeat of one of many components."""
    fields = {"Authorization": authorization} if authorization else {}
    heartbeat = {**HEARTBEAT, "Component": f"x0c0s{number}b0n0"}
    return encode_request("POST", "/v1/heartbeat", heartbeat, fields)


class TakingTests(APITestCase):
    """What is taken off the front of a stream."""

    def setUp(self) -> None:
        """Make a lane of our own."""
        super().setUp()
        self.lane = FastLane(self.service.monitor, Clock().seconds)

    def test_portions(self) -> None:
        """What comes in one go is taken in portions, each ending with a whole heartbeat."""
        stream = b"".join(map(beat_of, range(100)))
        taken: list[int] = []
        while stream:
            beats, end, verdict, _ = self.lane.take(stream, Sender(None))
            first = sum(taken)
            self.assertEqual(stream[:end], b"".join(map(beat_of, range(first, first + beats))))
            taken.append(beats)
            stream = stream[end:]
            self.assertIs(verdict, Verdict.TURN if stream else Verdict.DRY)
        self.assertEqual(sum(taken), 100)
        self.assertLess(max(taken), 50)
        self.assertEqual(self.service.tracker.healthy, 100)

    def test_verdicts(self) -> None:
        """What is left over is told apart."""
        last = BEAT.replace(b"Host:", b"Connection: close\r\nHost:")
        for rest, verdict in (
            (b"", Verdict.DRY),
            (BEAT[:1], Verdict.BEGINNING),
            (BEAT[:-1], Verdict.ARRIVING),
            (GET, Verdict.OTHER),
            (GET[:1], Verdict.OTHER),
            (b"\r\n", Verdict.OTHER),
        ):
            taken = self.lane.take(BEAT * 2 + rest, Sender(None))
            self.assertEqual(taken[:3], (2, 2 * len(BEAT), verdict))
        taken = self.lane.take(BEAT + last + BEAT, Sender(None))
        self.assertEqual(taken[:3], (2, len(BEAT + last), Verdict.LAST))

    def test_date(self) -> None:
        """Answers carry the date of the second in which they are given."""
        clock = Clock()
        lane = FastLane(self.service.monitor, clock.seconds)
        for date in (b"Thu, 01 Jan 1970 00:00:00 GMT", b"Thu, 01 Jan 1970 00:00:01 GMT"):
            answers = parse_responses(lane.answers(2, last=True))
            dates = [answer.headers["date"].encode() for answer in answers]
            self.assertEqual(dates, [date, date])
            clock.advance(1)

    def test_memory_is_bounded(self) -> None:
        """However many heads there are, few are remembered, and none that has a secret."""
        self.lane.take(beat_of(1, "Bearer secret"), Sender(None))
        self.assertEqual(self.lane._heads, {})
        for i in range(21_000):
            self.lane.take(BEAT.replace(b"Host:", b"X: %d\r\nHost:" % i), Sender(None))
        self.assertLessEqual(len(self.lane._heads), 20_000)
        self.assertEqual(self.service.tracker.beats, 21_001)

    def test_long_texts(self) -> None:
        """Of time and status as much is kept as in the ordinary lane."""
        heartbeat = {**HEARTBEAT, "Status": "s" * 1000, "Timestamp": "t" * 1000}
        for _ in range(2):
            self.lane.take(encode_request("POST", "/v1/heartbeat", heartbeat), Sender(None))
            component = self.service.tracker._healthy[XNAME]
            self.assertEqual((component.status, component.timestamp), ("s" * 256, "t" * 256))


class GateTests(APITestCase):
    """Who may speak for whom."""

    def test_gate(self) -> None:
        """What the gate refuses is left to the ordinary lane, and has no effect."""
        asked: list[tuple[Any, bytes | None, str]] = []

        def gate(transport: Any) -> MayBeat:
            def may_beat(authorization: bytes | None, xname: str) -> bool:
                asked.append((transport, authorization, xname))
                return authorization == b"Bearer good"

            return may_beat

        lane = FastLane(self.service.monitor, Clock().seconds, gate)
        transport = StringTransport()
        sender = lane.sender(transport)
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
            self.assertIs(lane.take(request, sender).verdict, verdict)
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
    """One connection's heartbeats don't keep the others waiting."""

    def open(self, transport: StringTransport) -> Any:
        """Open a connection whose reactor only goes round when told to."""
        protocol = self.factory.buildProtocol(None)
        protocol.makeConnection(transport)
        return protocol

    def test_turns(self) -> None:
        """Many at once are answered in order over several rounds; meanwhile nothing is read."""
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
        """A connection gets one turn in a round of the reactor, however long it goes on."""
        transport = StringTransport()
        self.open(transport).dataReceived(BEAT * 1000)
        counts = []
        while self._due():
            counts.append(len(parse_responses(transport.value())))
            transport.clear()
            (call,) = self._due()
            give_turns = call.func
            call.cancel()
            give_turns()
        self.assertLess(max(counts), 50)

    def _due(self) -> list[Any]:
        """Give what the reactor would call in its next round."""
        now = self.reactor.seconds()
        return [call for call in self.reactor.getDelayedCalls() if call.getTime() <= now]

    def test_more_while_waiting(self) -> None:
        """What arrives while a connection waits for its turn comes after what was there."""
        transport = StringTransport()
        protocol = self.open(transport)
        protocol.dataReceived(BEAT * 100)
        protocol.dataReceived(GET + BEAT[:10])
        self.reactor.advance(0)
        protocol.dataReceived(BEAT[10:])
        answers = parse_responses(transport.value())
        self.assertEqual([each.status for each in answers], [200] * 100 + [204, 200])

    def test_gone_while_waiting(self) -> None:
        """A connection that is lost before its turn is forgotten."""
        protocol = self.open(StringTransport())
        protocol.dataReceived(BEAT * 100)
        beats = self.service.tracker.beats
        protocol.connectionLost()
        self.reactor.advance(0)
        self.assertEqual(self.service.tracker.beats, beats)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_nobody_reads(self) -> None:
        """Answers are not piled up for a client that doesn't read them."""
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
        """A connection goes back and forth between the lanes without losing anything."""
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
    """Without a fast lane."""

    fast_lane = False

    def test_nothing_is_taken(self) -> None:
        """With `--fast_lane=no` every request goes to the site."""
        site: LimitedSite = self.factory.site
        connection = self.connect()
        connection.send(BEAT[:-1])
        self.assertEqual(len(site.open_requests), 1)
        connection.send(BEAT[-1:])
        self.assertEqual(len(parse_responses(connection.received())), 1)
        self.assertIsInstance(self.factory, ConnectionFactory)
        self.assertIsNone(self.factory.lane)
