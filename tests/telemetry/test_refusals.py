"""Messages that Kafka refuses: which are found, which are dropped, and what is said of it."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from kafka.errors import (
    KafkaConnectionError,
    MessageSizeTooLargeError,
    NotEnoughReplicasError,
    OutOfOrderSequenceNumberError,
    SaslAuthenticationFailedError,
    TopicAuthorizationFailedError,
)
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from hbtd.store.interface import LogEntry
from hbtd.telemetry.refusals import Complaints, Doubts, Outcome, Refusals, is_refusal
from tests.support.telemetry import NAMES, entries

MOST = 50


class RefusalsTests(SynchronousTestCase):
    """The rules."""

    def test_which(self):
        """What is about a message or the topic is a refusal; an outage is none."""
        for error in (MessageSizeTooLargeError(), TopicAuthorizationFailedError("t")):
            self.assertTrue(is_refusal(error))
        for error in (
            *(KafkaConnectionError(), NotEnoughReplicasError(), OutOfOrderSequenceNumberError()),
            *(OSError(), ValueError(), SaslAuthenticationFailedError("wrong password")),
        ):
            self.assertFalse(is_refusal(error))

    @settings(max_examples=200)
    @given(st.integers(1, 300), st.sets(st.integers(0, 299), max_size=60))
    def test_found(self, count, bad):
        """All that is accepted is sent, in the order of each component; only the bad are lost."""
        refusals = Refusals(MOST)
        waiting = entries(range(count))
        sent: list[LogEntry] = []
        lost: list[LogEntry] = []
        while waiting or refusals.aside:
            if not waiting:
                waiting = list(refusals.give_up().back)
                if not any(int(each.judgement.timestamp) not in bad for each in waiting):
                    break
            batch, waiting = waiting[: refusals.together], waiting[refusals.together :]
            if any(int(each.judgement.timestamp) in bad for each in batch):
                outcome = refusals.refused(batch)
            else:
                sent += batch
                outcome = refusals.accepted(batch)
            waiting = [*outcome.back, *waiting]
            lost += outcome.dropped
        everybody = sent + lost + waiting
        self.assertEqual(set(everybody), set(entries(range(count))))
        self.assertEqual(len(everybody), count)
        self.assertEqual({int(each.judgement.timestamp) for each in sent}, {*range(count)} - bad)
        for name in NAMES:
            numbers = [
                int(each.judgement.timestamp) for each in sent if each.judgement.component == name
            ]
            self.assertEqual(numbers, sorted(numbers))

    def test_everything(self):
        """When everything is refused nothing is lost, and each round looks further."""
        refusals = Refusals(MOST)
        waiting = entries(range(100))
        tried = []
        for _ in range(4):
            count = 0
            everything = False
            while not everything:
                batch, waiting = waiting[: refusals.together], waiting[refusals.together :]
                back, dropped, everything = refusals.refused(batch)
                self.assertEqual(list(dropped), [])
                waiting = [*back, *waiting]
                count += 1
                self.assertEqual(len(waiting) + len(refusals.aside), 100)
            self.assertTrue(refusals.everything)
            tried.append(count)
        self.assertEqual(waiting, entries(range(100)))
        self.assertEqual(tried[1:], [16, 32, 64])

    def test_again(self):
        """When Kafka accepts again what was set aside is tried again, and is not lost."""
        refusals = Refusals(1)
        first, second, third = entries(range(3))
        for each in (first, second):
            self.assertEqual(refusals.refused([each]), Outcome())
        self.assertEqual(refusals.accepted([third]), Outcome([first, second], []))
        self.assertEqual(refusals.refused([first]), Outcome(dropped=[first]))
        self.assertEqual(refusals.accepted([second]), Outcome([], []))

    def test_overtaken(self):
        """A message that a newer one of the same component has overtaken is not sent any more."""
        refusals = Refusals(1)
        old, other = entries(range(2))
        new = old._replace(number=9, judgement=replace(old.judgement, timestamp="later"))
        for each in (old, other):
            refusals.refused([each])
        self.assertEqual(refusals.accepted([new]), Outcome([other], [old]))


class DoubtsTests(SynchronousTestCase):
    """Which refusals may pass."""

    def test_lasting(self):
        """What is about a message never passes; anything else may, until it has lasted."""
        clock = Clock()
        doubts = Doubts(clock.seconds, 60.0)
        denied = TopicAuthorizationFailedError("t")

        def may_pass(after):
            clock.advance(after)
            return doubts.may_pass(denied)

        self.assertFalse(doubts.may_pass(MessageSizeTooLargeError()))
        self.assertEqual([may_pass(each) for each in (0, 30, 29, 1, 59)], [True] * 3 + [False] * 2)
        self.assertEqual([may_pass(each) for each in (61, 59, 1)], [True, True, False])


class ComplaintsTests(SynchronousTestCase):
    """What is logged."""

    def test_rate(self):
        """A cause is logged at once, then once a minute, with all that were dropped since."""
        now = 0.0
        complaints = Complaints(lambda: now)
        with capturedLogs() as said:
            for second in range(130):
                now = float(second)
                complaints.add(1, "too large")
            complaints.add(1, "not permitted")
        self.assertEqual(
            [formatEvent(each) for each in said],
            [
                "1 message was refused by Kafka, which accepted others, and lost: too large",
                "60 messages were refused by Kafka, which accepted others, and lost: too large",
                "60 messages were refused by Kafka, which accepted others, and lost: too large",
                "10 messages were refused by Kafka, which accepted others, and lost: not permitted",
            ],
        )
        self.assertEqual({each["log_level"] for each in said}, {LogLevel.error})
