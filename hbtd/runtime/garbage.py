"""Garbage collection: long-lived objects are excluded, so that collections take little time."""

import gc
from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

from hbtd.runtime.periodic import PeriodicService

_INTERVAL = 10.0
"""Seconds between two checks of the number of components."""

_FEW = 1000
"""The number of components by which growth must exceed a quarter."""


class Freezer(PeriodicService):
    """A service that calls `gc.freeze` each time the number of components has grown by a quarter.

    To be exact: by a quarter of the number at the last call, plus 1000.

    A full collection looks at every object that is not frozen. For 100,000 components that takes a
    tenth of a second, during which nothing else runs. `gc.freeze` freezes all objects, even those
    that are about to become garbage; if they are in a cycle of references, they are never freed.
    Therefore `gc.freeze` is called only when the number of components has grown by a quarter: a few
    dozen times, even for a million components.
    """

    def __init__(
        self,
        clock: IReactorTime,
        staying: Callable[[], int],
        freeze: Callable[[], object] = gc.freeze,
    ) -> None:
        """Make a service that is not started; `staying` returns how many components are tracked."""
        super().__init__(clock, _INTERVAL, self._look, "freezing long-lived objects", now=False)
        self._staying = staying
        self._freeze = freeze
        self._frozen = 0

    def startService(self) -> None:
        """Begin to check the number of components every ten seconds.

        Growth is measured from the number at the time of this call.
        """
        self._frozen = self._staying()
        super().startService()

    def _look(self) -> None:
        staying = self._staying()
        if staying > self._frozen * 1.25 + _FEW:
            self._frozen = staying
            self._freeze()
