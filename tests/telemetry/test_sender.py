"""Tests of the sender alone, with a producer in memory whose answers are given."""

from collections.abc import Callable, Sequence
from threading import Condition
from time import monotonic
from typing import Any

from kafka.errors import InvalidRecordError, KafkaError, KafkaTimeoutError, UnknownProducerIdError
from twisted.trial.unittest import SynchronousTestCase

from hbtd.config.value_types import TelemetryAddress
from hbtd.store.interface import LogEntry
from hbtd.telemetry.backlog import Backlog
from hbtd.telemetry.contact import Contact
from hbtd.telemetry.sender import Sender
from hbtd.tracker.transitions import Judgement, Transition

Answers = Callable[[Sequence[str]], Sequence[Exception | None]]
"""A function from the timestamps of messages that were sent together to what becomes of each."""


class Impatient(Condition):
    """A condition on which nobody waits."""

    def wait(self, timeout: float | None = None) -> bool:
        """Return at once."""
        return False

    def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
        """Return at once."""
        return predicate()


class Batch:
    """Messages that are sent together, and all answered when the first is waited for."""

    def __init__(self, answer: Answers, batches: list[list[str]]) -> None:
        self._answer, self._batches = answer, batches
        self.sent: list[str] = []
        self.answered: Sequence[Exception | None] | None = None

    def look(self) -> Sequence[Exception | None]:
        """Return what becomes of the messages."""
        if self.answered is None:
            self._batches.append(self.sent)
            self.answered = self._answer(self.sent)
        return self.answered


class Future:
    """A future that is done once one of its batch is waited for."""

    def __init__(self, batch: Batch, place: int) -> None:
        self._batch, self._place = batch, place

    @property
    def is_done(self) -> bool:
        """Whether the batch is answered."""
        return self._batch.answered is not None

    @property
    def exception(self) -> Exception | None:
        """Why the message failed, `None` if it was accepted."""
        return self._batch.look()[self._place]

    def get(self, timeout: float) -> None:
        """Wait for the answer; raise the exception of a message that failed, as kafka-python."""
        if self.exception is not None:
            raise self.exception

    def succeeded(self) -> bool:
        """Return whether the message was accepted."""
        return self.is_done and self.exception is None

    def failed(self) -> bool:
        """Return whether it was not."""
        return self.is_done and self.exception is not None


class Producer:
    """A producer that gets one batch after another."""

    connected = True

    def __init__(self, answer: Answers, batches: list[list[str]]) -> None:
        self._answer, self._batches = answer, batches
        self._batch = Batch(answer, batches)

    def send(self, key: bytes, value: bytes) -> Future:
        """Send a message."""
        if self._batch.answered is not None:
            self._batch = Batch(self._answer, self._batches)
        sent = self._batch.sent
        sent.append(value.partition(b'LastHBTimeStamp":"')[2].partition(b'"')[0].decode())
        return Future(self._batch, len(sent) - 1)

    def abandon(self) -> None:
        """Do nothing: all is answered."""


class Unconnected:
    """A producer that has lost its connection, and its only future."""

    connected = False
    is_done = False

    def __init__(self, waited: Callable[[], None]) -> None:
        self._waited = waited

    def send(self, key: bytes, value: bytes) -> "Unconnected":
        """Send a message, in vain."""
        return self

    def get(self, timeout: float) -> None:
        """Wait in vain."""
        self._waited()
        raise KafkaTimeoutError

    def succeeded(self) -> bool:
        """Return false."""
        return False

    def abandon(self) -> None:
        """Do nothing."""


class SenderTests(SynchronousTestCase):
    """What is sent again after a failure."""

    def setUp(self):
        self.backlog = Backlog(Impatient)
        self.batches: list[list[str]] = []
        self.connected = 0
        self.lost: list[Unconnected] = []
        self.backlog.send_to(TelemetryAddress("kafka", 9092, "topic"))

    def send(self, answer, *messages):
        """Send messages, pairs of a component and a timestamp, until none waits."""
        self.backlog.put(
            [
                LogEntry(number, Judgement(name, Transition.STARTED, timestamp), "judge")
                for number, (name, timestamp) in enumerate(messages, 1)
            ],
            more=False,
        )
        self.backlog.stop(monotonic() + 10)
        self.sender = Sender(
            self.backlog,
            Contact(monotonic),
            lambda address: self.connect(answer),
            lambda: 0.5,
            lambda: None,
            lambda: True,
            monotonic,
        )
        self.sender.run()
        self.assertEqual(self.backlog.pending, 0)

    def connect(self, answer):
        """Connect to Kafka."""
        self.connected += 1
        if self.lost:
            return self.lost.pop()
        return Producer(answer, self.batches)

    def test_order(self):
        """A component's next message is sent once Kafka has accepted the one before."""

        def answer(sent):
            lost = UnknownProducerIdError() if len(self.batches) == 1 else None
            return [lost if each == "a1" else None for each in sent]

        self.send(answer, ("x0", "a1"), ("x1", "b1"), ("x0", "a2"))
        self.assertEqual(self.batches, [["a1", "b1"], ["a1"], ["a2"]])

    def test_invalid(self):
        """A message that is invalid is given up, also if others of its batch hide the reason."""

        def answer(sent):
            if "bad" not in sent:
                return [None] * len(sent)
            return [InvalidRecordError() if each == "bad" else KafkaError() for each in sent]

        self.send(answer, ("x0", "a"), ("x1", "bad"), ("x2", "c"), ("x3", "d"))
        self.assertEqual(self.backlog.refused_count, 1)
        self.assertEqual(self.backlog.published_count, 3)

    def test_alone(self):
        """As long as Kafka gets nothing but a message that it refuses, it counts as unavailable."""
        self.backlog.put([LogEntry(1, Judgement("x0", Transition.STARTED, "a"), "judge")], False)
        everything = []
        for _ in range(3):
            self.assertEqual(len(self.backlog.take()), 1)
            everything.append(self.backlog.refuse(self.backlog.order)[1])
        self.assertEqual(everything, [True, True, True])
        self.assertTrue(self.backlog.refuses_everything)

    def test_renewed(self):
        """With other credentials the next batch goes to a new producer, and none is repeated."""

        def answer(sent):
            if len(self.batches) == 1:
                self.sender.renew()
                more = LogEntry(2, Judgement("x1", Transition.STARTED, "b1"), "judge")
                self.backlog.put([more], more=False)
            return [None] * len(sent)

        self.send(answer, ("x0", "a1"))
        self.assertEqual(self.batches, [["a1"], ["b1"]])
        self.assertEqual(self.connected, 2)

    def test_renewed_without_connection(self):
        """A batch on its way to a Kafka that is lost goes to a new producer at once."""
        began = monotonic()
        self.lost = [Unconnected(lambda: self.sender.renew())]
        self.send(lambda sent: [None] * len(sent), ("x0", "a1"))
        self.assertEqual(self.batches, [["a1"]])
        self.assertLess(monotonic() - began, 8)
