"""The time from a judgement to HSM's acknowledgement of it."""

from collections.abc import Callable, Sequence

from hbtd.runtime.distribution import Distribution
from hbtd.tracker.transitions import Judgement, Transition

_BOUNDS = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0)


class TimeToTell:
    """Measures the time from each judgement to HSM's acknowledgement of it."""

    def __init__(self, wall: Callable[[], float]) -> None:
        """Make an object without measurements; `wall` returns the Unix time in seconds."""
        self._wall = wall
        # Judgements that HSM has acknowledged once, and is told again all the same: by component
        # the latest, until HSM acknowledges that or a later one.
        self._repeats: dict[str, Judgement] = {}
        self.durations = {each: Distribution(_BOUNDS) for each in Transition}
        """The distributions of the times from judgement to acknowledgement, by transition.

        The times are in seconds of the wall clock.
        """

    def acknowledged(self, batch: Sequence[Judgement]) -> None:
        """Measure the times from the judgements in a batch to HSM's acknowledgement, which is now.

        Judgements whose time is not known, and those passed to `repeated`, are not measured.
        """
        now = self._wall()
        for judgement in batch:
            repeat = self._repeats.pop(judgement.component, None)
            if judgement != repeat and judgement.at:
                self.durations[judgement.transition].add(now - judgement.at)

    def repeated(self, judgement: Judgement) -> None:
        """Exclude the next acknowledgement of a judgement from the measurements.

        Call this for a judgement that HSM has acknowledged before.
        """
        self._repeats[judgement.component] = judgement

    def drop_repeat(self, xname: str) -> None:
        """Undo the call of `repeated` for a component whose judgement will not be sent again."""
        self._repeats.pop(xname, None)

    def drop_repeats(self) -> None:
        """Undo all calls of `repeated`, because their judgements will not be sent again."""
        self._repeats.clear()
