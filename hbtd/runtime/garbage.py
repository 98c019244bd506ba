"""Garbage collection: hides long-lived objects from it, so that collections stay short."""

import gc
from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

from hbtd.runtime.periodic import PeriodicService

_INTERVAL = 10.0
"""Seconds between two looks at how much has come to stay."""

_FEW = 1000
"""Fewer objects than these, more or less, make no difference."""


class Freezer(PeriodicService):
    """Calls `gc.freeze` each time that the number of tracked components has grown by a quarter.

    A full collection looks at every object that is not frozen, which takes a tenth of a second for
    100,000 components, and nothing else runs meanwhile. `gc.freeze` freezes all objects, also those
    that are about to become garbage: of these, objects in a cycle of references are never freed. So
    it must not be called often, and is called a few dozen times, however many components there are.
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
        """Begin the periodic checks; the components that are tracked now count as frozen."""
        self._frozen = self._staying()
        super().startService()

    def _look(self) -> None:
        staying = self._staying()
        if staying > self._frozen * 1.25 + _FEW:
            self._frozen = staying
            self._freeze()
