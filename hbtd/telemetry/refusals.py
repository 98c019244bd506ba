"""Decides which messages to drop when Kafka refuses messages although it can be reached."""

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
"""The format of the log line about messages that were dropped because Kafka refused them."""

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
    """Return whether an error means that Kafka refused messages, so that a retry may fail, too."""
    return (
        isinstance(error, BrokerResponseError)
        and not error.retriable
        and not isinstance(error, _ABOUT_THE_PRODUCER)
    )


class Doubts:
    """Tells which refusals may be temporary: at first, those that are not about a message.

    For a moment, one broker may refuse messages that other brokers accept. Such messages must not
    be dropped.
    """

    def __init__(self, clock: Callable[[], float], patience: float) -> None:
        """Begin without refusals; `clock` returns the seconds of a monotonic clock.

        Refusals that are not about a message count as lasting when they have kept coming for
        `patience` seconds, with no pause longer than that between them.
        """
        self._clock = clock
        self._patience = patience
        self._began = self._last = -inf

    def may_pass(self, error: BaseException) -> bool:
        """Return whether a refusal, for which `is_refusal` returns true, is possibly temporary."""
        if isinstance(error, _FOR_GOOD):
            return False
        now = self._clock()
        if now - self._last > self._patience:
            self._began = now
        self._last = now
        return now - self._began < self._patience


class Outcome(NamedTuple):
    """The decision on what to do with messages, after Kafka has accepted or refused a batch."""

    back: Sequence[LogEntry] = ()
    """The messages to send again before all others."""
    dropped: Sequence[LogEntry] = ()
    """The messages that are not sent again."""
    everything: bool = False
    """Whether Kafka seems to refuse everything, so that the next attempt should be later."""


class Refusals:
    """Finds the messages that Kafka refuses among those that it accepts.

    Kafka refuses whole batches. So a refused batch is halved until a message is refused alone. That
    message is set aside, and the next one is sent. If Kafka accepts the next one, the messages set
    aside are sent once more, and dropped if they are refused again. If instead Kafka refuses many
    in a row, Kafka itself seems to be to blame: the messages set aside are sent again before all
    others, and twice as many may be set aside in the next round.
    """

    def __init__(self, most: int) -> None:
        """Begin without refusals; a batch has `most` messages at most, fewer after refusals."""
        self._most = most
        self.together = most
        """The most messages that the next batch may have."""
        self.aside: list[LogEntry] = []
        """The messages set aside, oldest first."""
        self.everything = False
        """Whether Kafka has refused all messages sent since it last accepted one."""
        self._doubted: set[LogEntry] = set()
        self._most_aside = _FIRST_ASIDE

    def accepted(self, batch: Sequence[LogEntry]) -> Outcome:
        """Return what to do with the messages set aside, now that Kafka has accepted `batch`.

        Each message that was set aside is sent once more, or is dropped if `batch` has a newer
        message of the same component.
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
        """End a round in which Kafka accepted nothing; return what to do with messages set aside.

        These messages are sent again, and twice as many may be set aside in the next round.
        """
        self.everything = True
        self._most_aside *= 2
        self._doubted.clear()
        back, self.aside = self.aside, []
        return Outcome(back, everything=True)


class Complaints:
    """Logs that messages were dropped: at once for a new cause, else at most once a minute."""

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
        """Log that `count` messages were dropped for `cause`, or count them for the next line."""
        now = self._clock()
        self._unsaid += count
        if cause != self._cause or now - self._said_at >= _SAID:
            messages = counted(self._unsaid, "message was", "messages were")
            self._log.error(self._text, messages=messages, error=cause)
            self._cause, self._said_at, self._unsaid = cause, now, 0
