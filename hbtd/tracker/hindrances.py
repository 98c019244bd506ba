"""Hindrances: stretches of time in which hbtd could not hear or judge as usual, and why."""

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Final, NamedTuple

from hbtd.tracker.gaps import Gap, GapKind

_MOST: Final = 20
"""The number of past hindrances of each kind that are kept, beside the gaps.

Clients can cause some kinds, and must not displace the others.
"""


class TroubleKind(Enum):
    """The kinds of hindrances during which the observed clock runs, unlike during gaps."""

    OVERLOAD = "overload"
    """Clients wait before they are heard."""
    TURNED_AWAY = "turned_away"
    """Clients were refused a connection, or gave up waiting, within the last `errtime` seconds."""
    ELSEWHERE = "elsewhere"
    """Heartbeats wait at other replicas before they are read or stored there."""
    STORE = "store"
    """The store can't be used."""
    SLOW_STORE = "slow_store"
    """The store works, but heartbeats are stored later than planned."""


class Hindrance(NamedTuple):
    """A stretch of time in which hbtd could not hear or judge as usual."""

    at: float
    """The Unix time, in seconds, at which the hindrance began."""
    seconds: float
    """The length of the hindrance, so far if it lasts, in seconds of a monotonic clock."""
    kind: GapKind | TroubleKind
    cause: str
    """The cause of the hindrance, in a few words for operators; empty if not known."""
    lasts: bool
    """Whether the hindrance has not ended."""

    @property
    def end(self) -> float:
        """The Unix time, in seconds, of the end; if the hindrance lasts, of the last look at it."""
        return self.at + self.seconds


class Hindrances:
    """The latest hindrances: the gaps of the observed clock, and what the calls of `look` say.

    In one list, `all` returns the latest twenty hindrances of each kind that are over, those that
    last, and the gaps of the observed clock, which the clock keeps itself.
    """

    def __init__(self) -> None:
        """Make a list without hindrances."""
        self._present: dict[TroubleKind, Hindrance] = {}
        self._past: dict[TroubleKind, deque[Hindrance]] = {}
        self._looked_at = 0.0
        self._counts: Counter[TroubleKind] = Counter()
        self._seconds: defaultdict[TroubleKind, float] = defaultdict(float)

    def look(self, causes: Mapping[TroubleKind, str], at: float, now: float) -> None:
        """Record what hinders hbtd at this moment: the cause of each kind that does, in words.

        A hindrance lasts from the first of successive looks that find its kind to the first look
        that does not. `at` is the Unix time, `now` the time of a monotonic clock, in seconds.
        """
        elapsed, self._looked_at = now - self._looked_at, now
        for kind, found in list(self._present.items()):
            self._seconds[kind] += elapsed
            seconds, cause = found.seconds + elapsed, causes.get(kind)
            if cause is None:
                over = found._replace(seconds=seconds, lasts=False)
                self._past.setdefault(kind, deque(maxlen=_MOST)).append(over)
                del self._present[kind]
            else:
                self._present[kind] = found._replace(seconds=seconds, cause=cause)
        for kind, cause in causes.items():
            if kind not in self._present:
                self._counts[kind] += 1
                self._present[kind] = Hindrance(at, 0.0, kind, cause, lasts=True)

    def all(self, gaps: Iterable[Gap] = (), lasting: Gap | None = None) -> list[Hindrance]:
        """Return all hindrances that are kept: first those that last, then those that began last.

        `gaps` are the gaps of the observed clock, the oldest first; `lasting` is the last of them
        if it has not ended, otherwise `None`. A gap and the standstill after it are one hindrance.
        """
        found = [*_from_gaps(gaps, lasting), *self._present.values()]
        for past in self._past.values():
            found += past
        return sorted(found, key=lambda each: (each.lasts, each.at), reverse=True)

    def totals(self) -> Mapping[TroubleKind, tuple[int, float]]:
        """Return, for each kind, the number of hindrances so far and their total length in seconds.

        Gaps are not included.
        """
        return {kind: (self._counts[kind], self._seconds[kind]) for kind in TroubleKind}


def _from_gaps(gaps: Iterable[Gap], lasting: Gap | None) -> list[Hindrance]:
    found: list[Hindrance] = []
    before: Gap | None = None
    for gap in gaps:
        # The clock has not counted between the two.
        follows = before is not None and before.observed == gap.observed
        if before is not None and follows and gap.kind is GapKind.STANDSTILL:
            cause = f"{before.cause} for {before.seconds:.1f} s; then {gap.cause}"
            found[-1] = found[-1]._replace(
                seconds=before.seconds + gap.seconds, cause=cause, lasts=gap is lasting
            )
        else:
            found.append(Hindrance(gap.at, gap.seconds, gap.kind, gap.cause, gap is lasting))
        before = gap
    return found
