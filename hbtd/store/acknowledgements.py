"""The times at which HSM has acknowledged judgements."""

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred

from hbtd.store.interface import IStore
from hbtd.tracker.tracker import Tracker
from hbtd.tracker.transitions import Judgement


class Acknowledgements:
    """Tells the tracker and the store which judgements HSM has acknowledged, and when."""

    def __init__(self, wall: Callable[[], float], tracker: Tracker, store: IStore) -> None:
        """Make an object that passes acknowledgements on to `tracker` and `store`.

        `wall` returns the present Unix time in seconds.
        """
        self._wall = wall
        self._tracker = tracker
        self._store = store

    def note(self, judgements: Sequence[Judgement]) -> Deferred[None]:
        """Record in the tracker and in the store that HSM has acknowledged judgements just now.

        The Deferred fails with `StoreUnusable` if the store can't record the acknowledgement.
        """
        at = self._wall()
        for judgement in judgements:
            self._tracker.note_told(judgement.component, judgement.transition.after, at)
        return self._store.delivered(judgements, at)

    def told(self, xname: str) -> float:
        """Return the Unix time at which HSM acknowledged the latest transition of a component.

        Return 0 if HSM has not acknowledged that transition, or if the time is not known.
        """
        component = self._tracker.component(xname)
        return 0.0 if component is None else component.told
