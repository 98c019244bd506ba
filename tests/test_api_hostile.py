"""Clients that send what nobody means, to see what it costs the others."""

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from hbtd.api.connections import Connections
from hbtd.api.fastlane import FastLane, Sender, Taken
from hbtd.api.rounds import Rounds
from tests.http_memory import HEARTBEAT, APITestCase, encode_request, parse_responses

BEAT = encode_request("POST", "/v1/heartbeat", HEARTBEAT)
ENDLESS = b"GET /v1/liveness HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"1" * 5000 + b"\r\n\r\n"


class EndlessTests(APITestCase):
    """Numbers that no machine has bits for."""

    def test_length(self) -> None:
        """A length of thousands of digits is refused, and nobody else has to wait for that."""
        for before in (b"", BEAT, BEAT * 40, encode_request("GET", "/v1/liveness") * 250):
            connection = self.connect()
            connection.send(before + ENDLESS)
            answers = parse_responses(connection.received())
            self.assertEqual(answers[-1].status, 400)
            others = self.connect()
            others.send(BEAT * 100)
            self.assertEqual(len(parse_responses(others.received())), 100)
        self.assertEqual(self.flushLoggedErrors(), [])


class CountingLane(FastLane):
    """A lane that counts how often it is asked."""

    asked = 0

    def take(self, data: bytes, sender: Sender) -> Taken:
        """Count, and do as usual."""
        self.asked += 1
        return super().take(data, sender)


class DribbleTests(APITestCase):
    """Heartbeats that come byte by byte."""

    def test_looks(self) -> None:
        """A heartbeat that comes in a thousand pieces is looked at a few times, and then taken."""
        lane = CountingLane(self.service.monitor, self.reactor.seconds)
        self.factory = Connections(self.service._site, lane, self.reactor)
        for padding in ({}, {"X-Padding": "p" * 3000}):
            heartbeat = encode_request(
                "POST", "/v1/heartbeat", {**HEARTBEAT, "Other": "o" * 2000}, padding
            )
            before = lane.asked
            connection = self.connect()
            for i in range(len(heartbeat)):
                connection.send(heartbeat[i : i + 1])
            (answer,) = parse_responses(connection.received())
            self.assertEqual(answer.status, 200)
            self.assertLess(lane.asked - before, 20)


def _then(begun: list[int], number: int) -> Callable[[None], None]:
    return lambda _: begun.append(number)


class RoundsTests(SynchronousTestCase):
    """Requests take turns."""

    def test_many(self) -> None:
        """Of many requests some begin at once, the others in the next rounds, in their order."""
        clock = Clock()
        rounds = Rounds(clock)
        begun: list[int] = []
        for number in range(1000):
            turn = rounds.enter()
            if turn is None:
                begun.append(number)
            else:
                turn.addCallback(_then(begun, number))
        self.assertEqual(len(begun), 200)
        clock.advance(0)
        self.assertEqual(begun, list(range(1000)))

    def test_long(self) -> None:
        """While requests take long, each round has one of them, and nobody else is kept waiting."""
        clock = Clock()
        rounds = Rounds(clock)
        began: list[float] = []

        def begin(_: Any = None) -> None:
            began.append(clock.seconds())
            clock.rightNow += 0.1  # so long it takes

        turns: list[Deferred[None]] = []
        for _ in range(5):
            turn = rounds.enter()
            if turn is None:
                begin()
            else:
                turns.append(turn.addCallback(begin))
        self.assertEqual(len(began), 1)
        gone = turns.pop(1)
        gone.addErrback(lambda _: None)
        gone.cancel()
        clock.advance(0)
        # Between any two the reactor has gone round.
        self.assertEqual(len(began), 4)
        self.assertEqual([turn.called for turn in turns], [True] * 3)
