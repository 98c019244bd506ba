"""Who was silent when, in a world with a guard: its own log of who beat, and what HSM was told."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from itertools import pairwise
from math import inf
from typing import NamedTuple

from tests.simulation.oracle import Timeline

DEAD = "standby/alert"
WARNED = "ready/warning"
WELL = "ready/ok"

_ANSWERED = 4.0
"""Seconds within which a node whose lost heartbeats come late is heard by others, if it beats."""


class Silence(NamedTuple):
    """The time between two heartbeats of a node that were heard."""

    name: str
    since: float
    """When it was heard last."""
    until: float
    """When it was heard again; infinity if it was not."""


class Word(NamedTuple):
    """What HSM was told of a node."""

    at: float
    word: str


class Silences:
    """The log of a world: who was heard when, what HSM was told, and when hbtd was disturbed."""

    def __init__(self, hears: Timeline) -> None:
        """Begin; `hears` says when hbtd could hear nodes, so that their silence counts."""
        self.hears = hears
        self.names: list[str] = []
        """The nodes that were ever heard."""
        self.disturbances: list[float] = []
        """When hbtd was started, stopped or killed, or was cut off from what it needs."""
        self.vague: set[tuple[str, float]] = set()
        """Silences before which one more heartbeat may have been heard, whose answer was lost."""
        self._late: dict[str, list[float]] = {}
        self._heard: dict[str, list[float]] = {}
        self._words: dict[str, list[Word]] = {}

    # What happens

    def note_heard(self, name: str, at: float) -> None:
        """Note that a node's heartbeat was answered."""
        if name not in self._heard:
            self.names.append(name)
        self._heard.setdefault(name, []).append(at)

    def note_told(self, name: str, word: str, at: float) -> None:
        """Note what HSM is told of a node."""
        self._words.setdefault(name, []).append(Word(at, word))

    def note_disturbed(self, at: float) -> None:
        """Note that hbtd does not run as it did."""
        self.disturbances.append(at)

    def note_unanswered(self, name: str) -> None:
        """Note that a node falls silent that waits for the answer to a heartbeat."""
        self.vague.add((name, self.last(name, inf)))

    def note_late(self, name: str, at: float) -> None:
        """Note that a heartbeat may be heard that was lost, and that its sender's host repeats."""
        self._late.setdefault(name, []).append(at)

    # What has happened

    def last(self, name: str, at: float) -> float:
        """Return when a node was heard last, up to a time; minus infinity if it was not."""
        heard = self._heard.get(name, [])
        number = bisect_right(heard, at)
        return heard[number - 1] if number else -inf

    def following(self, name: str, at: float) -> float:
        """Return when a node was heard first after a time; infinity if it was not."""
        heard = self._heard.get(name, [])
        number = bisect_right(heard, at)
        return heard[number] if number < len(heard) else inf

    def back(self, name: str, at: float) -> float:
        """Return when a node may have been heard first after a time; infinity if it was not."""
        late = self._late.get(name, [])
        number = bisect_right(late, at)
        return min(self.following(name, at), late[number] if number < len(late) else inf)

    def is_vague(self, silence: Silence) -> bool:
        """Return whether it is not clear when a silence began."""
        late = self._late.get(silence.name, [])
        return (silence.name, silence.since) in self.vague or any(
            silence.since < each < silence.until - _ANSWERED for each in late
        )

    def words(self, name: str, begin: float = 0.0, end: float = inf) -> list[Word]:
        """Return what HSM was told of a node between two times."""
        words = self._words.get(name, [])
        return words[bisect_left(words, begin, key=_at) : bisect_right(words, end, key=_at)]

    def word(self, name: str, at: float) -> str:
        """Return what HSM knew of a node at a time."""
        words = self.words(name, 0.0, at)
        return words[-1].word if words else ""

    def dead(self, name: str, at: float) -> bool:
        """Return whether HSM knew at a time that a node was dead, which was not heard again."""
        return self.word(name, at) == DEAD and self.last(name, at) < self.words(name, 0, at)[-1].at

    def silence(self, name: str, at: float) -> float:
        """Return for how long a node had been silent at a time, while hbtd could hear it."""
        since = self.last(name, at)
        return inf if since == -inf else self.hears.within(since, at)

    def due(self, since: float, seconds: float) -> float:
        """Return when somebody has been silent for some seconds in which hbtd could hear it."""
        at = since + seconds
        for _ in range(100):
            lacks = seconds - self.hears.within(since, at)
            if lacks < 1e-6:
                return at
            at += lacks
        return inf

    def disturbed(self, begin: float, end: float, settle: float) -> bool:
        """Return whether hbtd was disturbed between two times, or up to `settle` seconds before."""
        number = bisect_left(self.disturbances, begin - settle)
        return number < len(self.disturbances) and self.disturbances[number] <= end

    def all(self, seconds: float, end: float) -> Iterator[Silence]:
        """Return all silences that lasted for some seconds in which hbtd could hear the node."""
        for name, heard in self._heard.items():
            for since, until in pairwise([*heard, inf]):
                if self.hears.within(since, min(until, end)) >= seconds:
                    yield Silence(name, since, until)

    def together(self, silences: Iterable[Silence], errtime: float) -> list[list[Silence]]:
        """Return silences in the order in which they began, cut where none began for `errtime`."""
        clusters: list[list[Silence]] = []
        for each in sorted(silences, key=lambda silence: (silence.since, silence.name)):
            if not clusters or each.since - clusters[-1][-1].since > errtime:
                clusters.append([])
            clusters[-1].append(each)
        return clusters


def _at(word: Word) -> float:
    return word.at
