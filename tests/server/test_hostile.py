"""Clients that send what nobody means, to see what it costs the others."""

from collections import Counter
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from hbtd.api.fastlane import FastLane, Sender
from hbtd.server.factory import ConnectionFactory
from hbtd.server.lane import Taken
from hbtd.server.scheduler import Scheduler
from tests.support.http_memory import HEARTBEAT, APITestCase, encode_request, parse_responses

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
        self.factory = ConnectionFactory(self.service._site, lane, self.reactor)
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


class LateTests(APITestCase):
    """Heads that go wrong after they have begun well."""

    def test_line(self) -> None:
        """A line that no head may have is refused when the next one comes, not when time is up."""
        for line in (b"Bad Header\r\n", b" folded\r\n", b"Content-Length: 1 1\r\n"):
            connection = self.connect()
            connection.send(b"POST /v1/heartbeat HTTP/1.1\r\nHost: a\r\n", line[:5])
            self.assertEqual(connection.received(), b"")
            connection.send(line[5:], b"X: y\r\n")
            self.assertTrue(connection.received().startswith(b"HTTP/1.1 400 "), line)


class RoundsTests(SynchronousTestCase):
    """Requests share the reactor with all else."""

    def test_many(self) -> None:
        """Of many requests some are looked at, the others in the next rounds."""
        clock = Clock()
        rounds = Scheduler(clock)
        for _ in range(3):
            self.assertFalse(rounds.over)
            self.assertEqual([rounds.enter() for _ in range(300)], [True] * 200 + [False] * 100)
            self.assertTrue(rounds.over)
            clock.advance(0)

    def test_long(self) -> None:
        """While requests take long, each round has one of them, and nobody else is kept waiting."""
        clock = Clock()
        rounds = Scheduler(clock)
        for _ in range(3):
            self.assertTrue(rounds.enter())
            clock.rightNow += 0.1  # so long it takes
            self.assertTrue(rounds.over)
            self.assertFalse(rounds.enter())
            clock.advance(0)

    def test_order(self) -> None:
        """Turns come in the order of waiting; who waits again does so behind all others."""
        clock = Clock()
        rounds = Scheduler(clock)
        turns: list[int] = []

        class Busy:
            host: str | None = "10.0.0.1"
            proven = False

            def __init__(self, number: int) -> None:
                self.number = number

            def give_up(self) -> None:
                pass

            def take_turn(self) -> None:
                turns.append(self.number)
                if turns.count(self.number) < 3:
                    rounds.wait(self)

        for number in range(100):
            rounds.wait(Busy(number))
        clock.advance(0)
        self.assertEqual(turns, [*range(100)] * 3)


class Patient:
    """A connection that waits for its turn, and takes it."""

    def __init__(self, rounds: Scheduler, host: str | None, taken: list[Any], **known: Any) -> None:
        self.host, self.proven = host, known.get("proven", False)
        self._rounds, self._taken, self._again = rounds, taken, known.get("again", 0)

    def give_up(self) -> None:
        """Do nothing."""

    def take_turn(self) -> None:
        """Take it, and queue again if more is to be done."""
        if not self._rounds.enter():
            self._rounds.wait(self)
            return
        self._taken.append(self)
        if self._again:
            self._again -= 1
            self._rounds.wait(self)


class TurnsTests(SynchronousTestCase):
    """Who gets the turns of a round."""

    def setUp(self) -> None:
        """Make a scheduler."""
        self.clock = Clock()
        self.rounds = Scheduler(self.clock, lambda: 10.0)
        self.taken: list[Any] = []

    def wait(self, host: str | None, **known: Any) -> Patient:
        """Queue a connection."""
        waiting = Patient(self.rounds, host, self.taken, **known)
        self.rounds.wait(waiting)
        return waiting

    def test_proven_have_half(self) -> None:
        """A gateway that beats keeps half of the turns, however many addresses others have."""
        for number in range(1000):
            self.wait(f"10.0.{number % 250}.1", again=1000)
        for _ in range(200):
            self.wait("10.1.0.1", proven=True, again=1000)
        for _ in range(3):
            self.taken.clear()
            self.rounds._give_turns()
            self.assertEqual(sum(each.proven for each in self.taken), 100)
            self.assertEqual(len(self.taken), 200)

    def test_rest(self) -> None:
        """What one kind leaves is for the other."""
        for proven in (True, False):
            self.taken.clear()
            for _ in range(300):
                self.wait("10.0.0.1", proven=proven)
            self.rounds._give_turns()
            self.assertEqual(len(self.taken), 200)
            self.clock.advance(0)
            self.assertEqual(len(self.taken), 300)

    def test_long_turns(self) -> None:
        """While turns take long, a round has few, and everybody gets one in the end."""

        class Long(Patient):
            def take_turn(self) -> None:
                super().take_turn()
                clock.rightNow += 0.006

        clock = self.clock
        for number in range(20):
            self.rounds.wait(Long(self.rounds, f"10.0.0.{number}", self.taken))
        rounds = 0
        while len(self.taken) < 20:
            before = len(self.taken)
            self.rounds._give_turns()
            self.assertTrue(1 <= len(self.taken) - before <= 5)
            rounds += 1
        self.assertLess(rounds, 8)

    def test_waiting(self) -> None:
        """An address waits if a connection of it has had no turn for half a second."""
        self.rounds.enter()
        self.wait("10.0.0.1")
        self.wait("10.0.0.2", proven=True)
        self.clock.rightNow += 0.4
        self.assertEqual(self.rounds.waiting_long(), set())
        self.wait("10.0.0.3")
        self.clock.rightNow += 0.2
        self.assertEqual(self.rounds.waiting_long(), {"10.0.0.1", "10.0.0.2"})
        self.clock.advance(0)
        self.assertEqual(self.rounds.waiting_long(), set())

    def test_not_heard(self) -> None:
        """Of a network so many addresses that were not heard are remembered, the last ones."""
        self.rounds.not_heard("10.0.0.1")
        for number in range(10_010):
            self.rounds.not_heard(f"2001:db8::{number:x}")
        waiting = self.rounds.waiting_long()
        self.assertEqual((len(waiting), self.rounds.not_heard_count()), (10_001, 10_001))
        self.assertNotIn("2001:db8::9", waiting)
        self.assertIn("2001:db8::a", waiting)
        # Whoever has many addresses displaces none of others.
        self.assertIn("10.0.0.1", waiting)
        self.clock.rightNow += 10
        self.assertEqual(
            (self.rounds.not_heard_count(), len(self.rounds._not_heard._times)), (0, 0)
        )
        self.assertEqual(self.rounds.waiting_long(), set())

    def test_failure(self) -> None:
        """A turn that fails costs nobody else his turn."""

        class Failing(Patient):
            def take_turn(self) -> None:
                raise ValueError("in a test")

        self.rounds.wait(Failing(self.rounds, "10.0.0.1", self.taken))
        other = self.wait("10.0.0.2")
        self.clock.advance(0)
        self.assertEqual(self.taken, [other])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)


class PiecesTests(APITestCase):
    """Requests that take long to read."""

    def test_crumbs(self) -> None:
        """Of bodies that cost much to read, a round has a few pieces; all are read in the end."""
        head = b"POST /v1/hbstates HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        connections = [self.connect() for _ in range(300)]
        for connection in connections:
            connection._protocol.dataReceived(head)
        states = [connection.transport.producerState for connection in connections]
        self.assertEqual(Counter(states), {"producing": 200, "paused": 100})
        self.reactor.pump([0, 0, 0, 0])
        for connection in connections:
            self.assertEqual(connection.transport.producerState, "producing")
            connection.send(b"2\r\n{}\r\n", b"0\r\n\r\n")
            (answer,) = parse_responses(connection.received())
            self.assertEqual(answer.json(), {"HBStates": []})

    def test_nobody_is_left_out(self) -> None:
        """Who waits has a turn, also while others use up every round."""
        connection = self.connect()
        connection._protocol.dataReceived(b"GET // HTTP/1.1\r\n\r\n" * 1000)
        for _ in range(5):
            self.assertEqual(len(parse_responses(connection.received())), 200)
            while self.factory.scheduler.enter():
                pass
            self.factory.scheduler._give_turns()

    def test_refusals(self) -> None:
        """Requests that are refused as soon as they are seen take turns like all others."""
        for request in (b"GET // HTTP/1.1\r\n\r\n", b"GET /%2f HTTP/1.1\r\n\r\n"):
            connection = self.connect()
            connection._protocol.dataReceived(request * 1000)
            self.assertEqual(len(parse_responses(connection.received())), 200)
            self.reactor.pump([0] * 10)
            self.assertEqual(len(parse_responses(connection.received())), 800)
