"""Whether something grows without bound: the rule by which a soak judges its samples."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Final, NamedTuple

SHORTEST: Final = 600.0
"""Seconds of samples below which growth is not judged."""

_FEWEST: Final = 20
"""Samples below which growth is not judged."""


class Bound(NamedTuple):
    """How much something may grow in the second half of a run: the larger one of the two."""

    share: float
    """As a part of its median there."""

    least: float
    """In its own unit."""


BOUNDS: Final[Mapping[str, Bound]] = {
    "rss_mb": Bound(0.05, 4.0),
    "fds": Bound(0.2, 16.0),
    "connections": Bound(0.2, 16.0),
    "threads": Bound(0.2, 2.0),
    "db_mb": Bound(0.1, 2.0),
    "in_use_mb": Bound(0.1, 1.0),
    "wal_mb": Bound(0.1, 128.0),
    "keys": Bound(0.1, 100.0),
    "file_mb": Bound(0.1, 1.0),
    "pending": Bound(0.0, 100.0),
}
"""The bound of each measure that may not grow, by the last part of its column's name.

etcd's write-ahead log consists of files of 64 MB, which are there in full from the beginning; five
of them are kept. Logs, and counters, are not among these: they grow by what happens.
"""


class Verdict(NamedTuple):
    """How much a measure grew."""

    column: str
    growth: float
    """By how much it grew over the time that was judged, in its own unit."""
    allowed: float
    seconds: float
    """The length of that time."""
    median: float

    @property
    def unbounded(self) -> bool:
        """Whether it grew more than it may."""
        return self.growth > self.allowed


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return the median of the slopes between all pairs of points with different times.

    That is the estimate of Theil and Sen, which a quarter of wild points hardly changes. It is 0 if
    there are no such pairs.
    """
    slopes = [
        (later - value) / (after - time)
        for number, (time, value) in enumerate(points)
        for after, later in points[number + 1 :]
        if after != time
    ]
    return median(slopes) if slopes else 0.0


def judge(
    column: str,
    points: Sequence[tuple[float, float]],
    bound: Bound,
    born: float = 0.0,
) -> Verdict | None:
    """Judge the second half of a measure's samples, which are pairs of seconds and a value.

    What was sampled before `born`, when the present process began, does not count; nor does the
    first half of what was sampled since then or since the beginning, in which caches fill. Return
    `None` if there are too few samples to judge.
    """
    lived = [point for point in points if point[0] >= born]
    if not lived:
        return None
    middle = (lived[0][0] + lived[-1][0]) / 2
    late = [point for point in lived if point[0] >= middle]
    seconds = late[-1][0] - late[0][0]
    if len(late) < _FEWEST or seconds < SHORTEST:
        return None
    usual = median(value for _, value in late)
    allowed = max(bound.share * usual, bound.least)
    return Verdict(column, slope(late) * seconds, allowed, seconds, usual)


def verdicts(
    rows: Sequence[Mapping[str, str]], bounds: Mapping[str, Bound] = BOUNDS
) -> list[Verdict]:
    """Judge all columns of the samples that have a bound, and enough samples.

    `rows` are those of the CSV file. A column `NAME.MEASURE` belongs to the process whose number is
    in the column `NAME.pid`, if there is one: a process that began late is judged by its own life.
    """
    found = []
    for column in rows[0] if rows else ():
        name, _, measure = column.rpartition(".")
        if measure not in bounds:
            continue
        points = [(float(row["seconds"]), float(row[column])) for row in rows if row[column]]
        verdict = judge(column, points, bounds[measure], _born(rows, f"{name}.pid"))
        if verdict is not None:
            found.append(verdict)
    return found


def _born(rows: Sequence[Mapping[str, str]], column: str) -> float:
    """Return when the process began that was the last one in a column of process numbers."""
    born, pid = 0.0, None
    for row in rows:
        now = row.get(column, "")
        if now and now != pid:
            born, pid = float(row["seconds"]), now
    return born
