"""Stories of components that beat, pause and are forgotten, and what truly happened in them.

Times are multiples of a quarter of a second, so that sums of them are exact.
"""

from collections.abc import Iterator
from math import inf
from typing import NamedTuple

from hypothesis import strategies as st

NAMES = ("x0c0s0b0n0", "x0c0s0b0n1", "x1c0s0b0n0")


class Step(NamedTuple):
    """What happens at a moment: a heartbeat or a sweep, or somebody has a component forgotten."""

    at: float
    """The seconds since the story began."""
    what: str
    """`beat`; `connect`, a heartbeat that is the first on its connection; `sweep`; or `forget`."""
    component: str


class TrueSilence(NamedTuple):
    """A time between two heartbeats, or since the last one."""

    component: str
    began: float
    ended: float
    """The seconds from the beginning of the story until it ended; `inf` if it has not."""

    def alarm(self, limit: float, now: float) -> float | None:
        """Return when an alarm with this limit was due, if it was until `now`; `None` if not."""
        due = self.began + limit
        return due if due <= min(self.ended, now) else None


def _quarters(least: float, most: float) -> st.SearchStrategy[float]:
    return st.integers(round(4 * least), round(4 * most)).map(lambda number: number / 4)


@st.composite
def stories(draw: st.DrawFn) -> list[Step]:
    """Return stories of some minutes, in the order of their steps' times."""
    steps: list[Step] = []
    for name in NAMES[: draw(st.integers(1, len(NAMES)))]:
        period = draw(_quarters(0.5, 12))
        pause = st.one_of(st.just(period), st.just(period), _quarters(0, 8), _quarters(1, 60))
        words = st.sampled_from(("beat", "beat", "beat", "beat", "connect", "sweep", "forget"))
        at = draw(_quarters(0, 20))
        for wait, what in draw(st.lists(st.tuples(pause, words), min_size=2, max_size=30)):
            steps.append(Step(at, what, name))
            at += wait
    return sorted(steps)


def silences(steps: list[Step]) -> Iterator[TrueSilence]:
    """Yield all silences of a story, those that last at its end last."""
    heard: dict[str, float] = {}
    for at, what, name in steps:
        if what in ("beat", "connect"):
            if name in heard:
                yield TrueSilence(name, heard[name], at)
            heard[name] = at
        elif what == "forget":
            heard.pop(name, None)
    for name, at in heard.items():
        yield TrueSilence(name, at, inf)
