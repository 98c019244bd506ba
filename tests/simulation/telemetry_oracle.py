"""The oracle of Kafka: what may be published, what must, and in which order.

Like the oracle of HSM it shares no code with hbtd. Each heartbeat of a node has a number of its own
as its timestamp, and each message has the timestamp of the last heartbeat before. So messages about
a component have an order that is known without hbtd.
"""

import json
import sys
from typing import NamedTuple

from tests.simulation.oracle import Oracle, Promise, Violation

_WORDS = {
    ("Ready", "OK", "Heartbeat started."): "started",
    ("Ready", "OK", "Heartbeat re-started."): "restarted",
    ("Ready", "Warning", "Heartbeat stopped, node may be dead."): "warned",
    ("Standby", "Alert", "Heartbeat stopped, node is dead."): "died",
}

_RANKS = {"started": 0, "restarted": 0, "warned": 1, "died": 2}

_RESTARTED_LATE = 3
"""The rank of a restart that names the heartbeat before the warning.

A leader may know that another replica has taken a heartbeat before it knows its timestamp.
"""

_FOLLOWERS = {
    "": ("started",),
    "started": ("warned",),
    "restarted": ("warned",),
    "warned": ("restarted", "died"),
    "died": ("started",),
}
"""What may be judged after what."""

CONNECTIONS = 100
"""The most connections to Kafka that a process makes in a minute, if Kafka refuses nothing new."""

LATE = 2.0
"""Seconds for which a producer may send on, once it ought to be given up."""

MOST_TRIED = 32
"""How many messages hbtd has tried for certain before a world ends, if Kafka refuses every one.

Each costs a connection, so it takes its time: others wait that Kafka has not seen.
"""

_MINUTE = 60.0

_HSM = {"ready/ok": ("started", "restarted"), "ready/warning": ("warned",)}


class Word(NamedTuple):
    """A judgement, in the order in which a component's judgements are made."""

    beat: int
    rank: int
    word: str

    def __str__(self) -> str:
        return f"{self.word} after t{self.beat}"


class _Topic:
    """What is known of a component."""

    def __init__(self) -> None:
        self.beats: list[float] = []
        """When each heartbeat was sent."""
        self.words: set[Word] = set()
        """What was published."""
        self.refused: set[Word] = set()
        """What Kafka refuses for ever."""
        self.last: Word | None = None
        """What was published last, by a producer that was not given up."""
        self.loose = 0
        """How many judgements may be missing, as etcd has lost them."""
        self.told: list[str] = []
        """What HSM was told, while nothing was late."""


class TelemetryOracle:
    """Checks each message that is appended to the topic, and at rest that none is missing."""

    def __init__(
        self, oracle: Oracle, warntime: float, errtime: float, ignorant: bool = False
    ) -> None:
        """Begin with an empty topic; `oracle` knows what hbtd could hear.

        `ignorant` says whether there are replicas: one that could not read etcd when it started
        takes whoever beats for a component that starts, and a leader may not know the timestamp of
        a heartbeat that another replica has taken.
        """
        self._ignorant = ignorant
        self._oracle = oracle
        self._limits = {"warned": warntime, "died": errtime}
        self._topics: dict[str, _Topic] = {}
        self._connected: dict[tuple[str, int], list[float]] = {}
        self.stuck = 0
        """How many messages Kafka refuses for ever, and has accepted no other since."""

    def _get(self, name: str) -> _Topic:
        return self._topics.setdefault(name, _Topic())

    def beats(self, name: str, number: int, now: float) -> None:
        """Note that a component sends its heartbeat of a number; the first one is 1."""
        beats = self._get(name).beats
        assert number == len(beats) + 1
        beats.append(now)

    def lost_data(self) -> None:
        """Note that the log of judgements has been lost, and with it what was not published."""
        for topic in self._topics.values():
            topic.loose += 1
            topic.last = None

    def connects(self, host: str, process: int, now: float) -> None:
        """Record that a process has connected to Kafka; raise `Violation` if it does so too often.

        A message that Kafka refuses for the first time ends a connection, so many such messages
        need many connections. These are not counted.
        """
        times = self._connected.setdefault((host, process), [])
        times.append(now)
        if len(times) > CONNECTIONS:
            del times[0]
            if now - times[0] < _MINUTE:
                raise Violation(
                    Promise.BOUNDED, f"{host} connects to Kafka {CONNECTIONS} times in a minute"
                )

    def sends(self, host: str, leads: bool) -> None:
        """Note that a replica gives a message to its producer; it must lead then."""
        if not leads:
            raise Violation(Promise.ONE_JUDGE, f"{host} gives Kafka a message, but does not lead")

    def is_late(self, host: str, seconds: float) -> None:
        """Note that a message was appended late.

        It was sent by `host` at least `seconds` after its producer ought to have been given up.
        """
        if seconds > LATE:
            raise Violation(
                Promise.PUBLISHED_ORDER,
                f"{host} sends Kafka messages {seconds:.1f} s after it should have ceased to",
            )

    def refused(self, name: str, text: str) -> None:
        """Record that Kafka refuses a message for ever."""
        self.stuck += 1
        self._get(name).refused.add(self._parse(name, text))
        self._connected.clear()

    def appended(self, name: str, text: str, late: bool, now: float) -> None:
        """Note that a message was appended; raise `Violation` if that was wrong.

        It is late if it was sent by a producer that was given up, or is of a replica that does not
        lead any more.
        """
        word = self._parse(name, text)
        topic = self._get(name)
        if word not in topic.words:
            self._check_truth(name, word, now)
        if not late:
            self.stuck = 0
            self._check_order(name, word)
            topic.last = word
        topic.words.add(word)

    def _parse(self, name: str, text: str) -> Word:
        message = json.loads(text)
        said = message["NewState"], message["NewFlag"], message["Info"]
        stamp = message["LastHBTimeStamp"]
        if message["ID"] != name or said not in _WORDS or not stamp.startswith("t"):
            raise Violation(Promise.PUBLISHED_TRUTH, f"{name} has the message {text}")
        beat, word = int(stamp[1:]), _WORDS[said]
        if not 1 <= beat <= len(self._get(name).beats):
            raise Violation(Promise.PUBLISHED_TRUTH, f"{name} never sent {stamp}: {text}")
        parsed = Word(beat, _RANKS[word], word)
        known = self._get(name).words | self._get(name).refused
        warned = Word(beat, _RANKS["warned"], "warned")
        if self._ignorant and word == "restarted" and parsed not in known and warned in known:
            return parsed._replace(rank=_RESTARTED_LATE)
        return parsed

    def _check_truth(self, name: str, word: Word, now: float) -> None:
        limit = self._limits.get(word.word)
        if limit is None:
            return
        silence = self._oracle.silence_since(name, self._get(name).beats[word.beat - 1], now)
        if silence < limit - self._oracle.slack:
            raise Violation(
                Promise.PUBLISHED_TRUTH,
                f"Kafka is told that {name} {word}, but it was silent for {silence:.3f} s at most,"
                f" of {limit:g} s",
            )

    def _check_order(self, name: str, word: Word) -> None:
        topic, last = self._get(name), self._get(name).last
        if last is None:
            return
        if word <= last:
            if word not in topic.words:
                raise Violation(
                    Promise.PUBLISHED_ORDER, f"Kafka has {name} {word} only behind {last}"
                )
            return
        skipped = [each for each in topic.words if last < each < word]
        if skipped:
            raise Violation(
                Promise.PUBLISHED_ORDER,
                f"Kafka has {name} {word} right behind {last}, and not {min(skipped)} between",
            )

    def told(self, name: str, state: str, flag: str, calm: bool) -> None:
        """Note that HSM is told something; `calm` says whether nothing can be late."""
        if calm:
            self._get(name).told.append(f"{state}/{flag}".lower())

    @property
    def most_waiting(self) -> int:
        """How many messages may wait at rest."""
        return self.stuck if self.stuck <= MOST_TRIED else sys.maxsize

    def check_rest(self, alive: dict[str, bool]) -> None:
        """Raise `Violation` unless all was published, and the last word is the truth.

        If Kafka has refused too many in a row, nobody knows what still waits behind these.
        """
        if self.stuck > MOST_TRIED:
            return
        for name, lives in alive.items():
            topic = self._get(name)
            words = sorted(topic.words | topic.refused)
            self._check_complete(name, topic, words)
            if not self._oracle.was_heard(name):
                continue
            if topic.loose and topic.last is None:
                continue  # its last change may have been lost with etcd's data
            wanted = ("started", "restarted") if lives else ("died",)
            last = None if not words else words[-1]
            if last is None or last.word not in wanted:
                raise Violation(
                    Promise.PUBLISHED, f"{name} at rest is {last or 'unknown'} on Kafka"
                )
            if last not in topic.refused and topic.last not in (None, last):
                raise Violation(
                    Promise.PUBLISHED_ORDER, f"Kafka's last word about {name} is {topic.last}"
                )

    def _check_complete(self, name: str, topic: _Topic, words: list[Word]) -> None:
        before, missing = "", 0
        for word in words:
            known = word.word == "started" and self._ignorant
            if word.word not in _FOLLOWERS[before] and not known:
                missing += 1
                if missing > topic.loose:
                    raise Violation(
                        Promise.PUBLISHED,
                        f"Kafka was told that {name} {word}, but before only that it"
                        f" {before or 'was not heard'}",
                    )
            before = word.word
        if topic.loose:
            return
        place = 0
        for told in topic.told:
            wanted = _HSM.get(told, ("died",))
            later = (i for i in range(place, len(words)) if words[i].word in wanted)
            found = next(later, None)
            if found is None:
                raise Violation(
                    Promise.PUBLISHED, f"HSM was told that {name} is {told}, and Kafka was not"
                )
            place = found
