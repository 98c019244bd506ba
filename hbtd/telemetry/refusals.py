"""Decides which messages to drop when Kafka can be reached, but refuses messages."""

from collections.abc import Callable, Sequence
from math import inf
from typing import NamedTuple

from kafka.errors import (
    BrokerResponseError,
    DuplicateSequenceNumberError,
    IllegalSaslStateError,
    InvalidProducerEpochError,
    InvalidProducerIdMappingError,
    InvalidRecordError,
    InvalidTimestampError,
    InvalidTopicError,
    MessageSizeTooLargeError,
    OutOfOrderSequenceNumberError,
    PolicyViolationError,
    ProducerFencedError,
    RecordListTooLargeError,
    SaslAuthenticationFailedError,
    UnknownProducerIdError,
    UnsupportedForMessageFormatError,
    UnsupportedSaslMechanismError,
)
from twisted.logger import Logger

from hbtd.formats.counts import counted
from hbtd.store.interface import LogEntry

_FIRST_ASIDE = 8
"""The number of messages refused in a row after which Kafka seems to refuse everything."""

_SAID = 60.0
"""Seconds between two log lines about messages that were refused for the same cause."""

REFUSED = "{messages} refused by Kafka, which accepted others, and lost: {error}"
"""The format of the log line about messages that Kafka refused and hbtd therefore dropped."""

# These are about the producer, not about a message; the next producer may succeed.
_ABOUT_THE_PRODUCER = (
    DuplicateSequenceNumberError,
    IllegalSaslStateError,
    InvalidProducerEpochError,
    InvalidProducerIdMappingError,
    OutOfOrderSequenceNumberError,
    ProducerFencedError,
    SaslAuthenticationFailedError,
    UnknownProducerIdError,
    UnsupportedSaslMechanismError,
)

# Whoever sends the same message again gets the same answer. All other refusals may pass: what may
# be written where is not known to all brokers at once, and a broker may be in trouble.
_FOR_GOOD = (
    InvalidRecordError,
    InvalidTimestampError,
    InvalidTopicError,
    MessageSizeTooLargeError,
    PolicyViolationError,
    RecordListTooLargeError,
    UnsupportedForMessageFormatError,
)


def is_refusal(error: BaseException) -> bool:
    """Return whether `error` is Kafka's answer that it refuses messages.

    After such an answer, sending the same messages again may fail, too.
    """
    return (
        isinstance(error, BrokerResponseError)
        and not error.retriable
        and not isinstance(error, _ABOUT_THE_PRODUCER)
    )


class Doubts:
    """Tells which refusals by Kafka may be temporary, so that messages must not be dropped.

    A refusal because of the message itself is never temporary. Any other refusal may be: for a
    moment, one broker may refuse messages that other brokers accept. Such refusals count as lasting
    only once they have kept coming for a given time.
    """

    def __init__(self, clock: Callable[[], float], patience: float) -> None:
        """Begin without refusals; `clock` returns the seconds of a monotonic clock.

        Refusals for reasons other than the message itself count as lasting once they have kept
        coming for `patience` seconds, with no pause longer than `patience` seconds between them.
        """
        self._clock = clock
        self._patience = patience
        self._began = self._last = -inf

    def may_pass(self, error: BaseException) -> bool:
        """Record the refusal `error`; return whether it may be temporary.

        `is_refusal` must be true for `error`.
        """
        if isinstance(error, _FOR_GOOD):
            return False
        now = self._clock()
        if now - self._last > self._patience:
            self._began = now
        self._last = now
        return now - self._began < self._patience


class Outcome(NamedTuple):
    """The decision, after Kafka has accepted or refused a batch, on what to do with messages."""

    back: Sequence[LogEntry] = ()
    """The messages to send again, before all other messages."""
    dropped: Sequence[LogEntry] = ()
    """The messages to drop: they are not sent again."""
    everything: bool = False
    """Whether Kafka seems to refuse every message; if so, wait longer before the next attempt."""


class Refusals:
    """Finds out which messages of a batch Kafka refuses, when it refuses whole batches.

    A refused batch is halved until a message is refused alone. That message is set aside, and the
    next message is sent. If Kafka accepts the next message, the messages set aside are sent once
    more, and dropped if they are refused again.

    If instead eight messages in a row are refused alone, Kafka seems to refuse every message. Then
    the messages set aside are sent again, before all other messages, in a new round. In each new
    round, twice as many messages as in the round before may be set aside.
    """

    def __init__(self, most: int) -> None:
        """Begin without refusals. A batch has at most `most` messages, or fewer after a refusal."""
        self._most = most
        self.together = most
        """The largest number of messages that the next batch may have."""
        self.aside: list[LogEntry] = []
        """The messages set aside because Kafka has refused each of them alone, oldest first."""
        self.everything = False
        """Whether Kafka has refused all messages sent since it last accepted one."""
        self._doubted: set[LogEntry] = set()
        self._most_aside = _FIRST_ASIDE

    def accepted(self, batch: Sequence[LogEntry]) -> Outcome:
        """Return what to do with the messages set aside, now that Kafka has accepted `batch`.

        Each message that was set aside is sent once more, or is dropped if `batch` has a newer
        message about the same component.
        """
        self.everything = False
        self._most_aside = _FIRST_ASIDE
        self._doubted.difference_update(batch)
        aside, self.aside = self.aside, []
        self.together = 1 if aside else min(2 * self.together, self._most)
        newer = {each.judgement.component for each in batch}
        back = [each for each in aside if each.judgement.component not in newer]
        self._doubted.update(back)
        return Outcome(back, [each for each in aside if each.judgement.component in newer])

    def refused(self, batch: Sequence[LogEntry]) -> Outcome:
        """Return what to do with the messages of `batch`, which Kafka has refused."""
        if len(batch) > 1:
            self.together = len(batch) // 2
            return Outcome(back=batch)
        self.together = 1
        (entry,) = batch
        if entry in self._doubted:
            self._doubted.remove(entry)
            return Outcome(dropped=batch)
        self.aside.append(entry)
        if len(self.aside) < self._most_aside:
            return Outcome()
        return self.give_up()

    def drop(self, number: int) -> None:
        """Drop the messages set aside whose entries in the log are numbered `number` or lower."""
        self.aside = [each for each in self.aside if each.number > number]

    def give_up(self) -> Outcome:
        """End a round in which Kafka has accepted nothing (see `Refusals`).

        Return the decision to send the messages set aside again. In the next round, twice as many
        messages may be set aside.
        """
        self.everything = True
        self._most_aside *= 2
        self._doubted.clear()
        back, self.aside = self.aside, []
        return Outcome(back, everything=True)


class Complaints:
    """Logs that messages were dropped: at once if the cause is new, else at most once a minute."""

    _log = Logger()

    def __init__(self, clock: Callable[[], float], text: str = REFUSED) -> None:
        """Begin with nothing to log; `clock` returns the seconds of a monotonic clock.

        `text` is the format of the log line. Its fields are `messages`, such as "3 messages were",
        and `error`, the cause.
        """
        self._clock = clock
        self._text = text
        self._cause: str | None = None
        self._said_at = 0.0
        self._unsaid = 0

    def add(self, count: int, cause: str) -> None:
        """Log that `count` messages were dropped because of `cause`.

        If the last line was about the same cause, and less than a minute ago, log nothing now; the
        next line will count these messages, too.
        """
        now = self._clock()
        self._unsaid += count
        if cause != self._cause or now - self._said_at >= _SAID:
            messages = counted(self._unsaid, "message was", "messages were")
            self._log.error(self._text, messages=messages, error=cause)
            self._cause, self._said_at, self._unsaid = cause, now, 0
