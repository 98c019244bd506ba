"""How long the process of a test itself has stood still, in which HSM and nodes may live."""

from twisted.internet.task import LoopingCall
from twisted.trial.unittest import TestCase

from tests.support.running import reactor

_TICK = 0.1
_LONG = 0.5
"""Seconds from one tick to the next from which on the process has stood still, as for hbtd."""


class OwnStalls:
    """Looks for stalls until the test ends."""

    def __init__(self, test: TestCase) -> None:
        self.seconds = 0.0
        """The length of all stalls so far."""
        self._last = reactor.seconds()
        ticking = LoopingCall(self._look)
        ticking.start(_TICK)
        test.addCleanup(ticking.stop)

    def _look(self) -> None:
        before, self._last = self._last, reactor.seconds()
        if self._last - before > _LONG:
            self.seconds += self._last - before
