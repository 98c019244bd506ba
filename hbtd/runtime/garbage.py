"""Garbage collection: what has come to stay is taken out of its sight."""

import gc
from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

from hbtd.runtime.periodic import PeriodicService

_INTERVAL = 10.0
"""Seconds between two looks at how much has come to stay."""

_FEW = 1000
"""Fewer objects than these, more or less, make no difference."""


class Freezer(PeriodicService):
    """Freezes all objects (`gc.freeze`) each time that those that stay have grown by a quarter.

    A full collection looks at every object that is not frozen, a tenth of a second for 100,000
    components, and nothing else runs meanwhile. What is frozen by chance, too, and is in a cycle of
    references, is never freed: so this must not happen often, and however many components come, it
    happens a few dozen times.
    """

    def __init__(
        self,
        clock: IReactorTime,
        staying: Callable[[], int],
        freeze: Callable[[], object] = gc.freeze,
    ) -> None:
        """Make a service that is not started; `staying` counts what has come to stay."""
        super().__init__(clock, _INTERVAL, self._look, "the look at what stays", now=False)
        self._staying = staying
        self._freeze = freeze
        self._frozen = 0

    def startService(self) -> None:
        """Begin to look; what is there now counts as frozen."""
        self._frozen = self._staying()
        super().startService()

    def _look(self) -> None:
        staying = self._staying()
        if staying > self._frozen * 1.25 + _FEW:
            self._frozen = staying
            self._freeze()
