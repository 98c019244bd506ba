"""What has come to stay is frozen, and seldom."""

import gc

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from hbtd.runtime.garbage import Freezer


class FreezerTests(SynchronousTestCase):
    """A freezer with a clock of its own."""

    def setUp(self) -> None:
        """Start with ten thousand objects that stay."""
        self.clock = Clock()
        self.staying = 10_000
        self.frozen: list[int] = []
        self.freezer = Freezer(
            self.clock, lambda: self.staying, lambda: self.frozen.append(self.staying)
        )
        self.freezer.startService()
        self.addCleanup(self.freezer.stopService)

    def look(self, staying: int) -> None:
        """Let so many stay, and the freezer look."""
        self.staying = staying
        self.clock.advance(10.0)

    def test_growth(self) -> None:
        """All is frozen once there is a quarter more than was frozen last."""
        for staying in (10_000, 12_000, 13_600, 13_700, 17_000, 19_000):
            self.look(staying)
        self.assertEqual(self.frozen, [13_600, 19_000])

    def test_coming_and_going(self) -> None:
        """Who comes and goes, over and over, has nothing frozen again."""
        for _ in range(5):
            self.look(40_000)
            self.look(10_000)
        self.assertEqual(self.frozen, [40_000])

    def test_a_million(self) -> None:
        """A million that come one after another have it frozen a few dozen times."""
        for staying in range(0, 1_000_000, 1000):
            self.look(staying)
        self.assertLess(len(self.frozen), 36)

    def test_collector(self) -> None:
        """Without another function it is Python's collector that freezes."""
        self.addCleanup(gc.unfreeze)
        before = gc.get_freeze_count()
        freezer = Freezer(self.clock, lambda: self.staying)
        freezer.startService()
        self.staying = 50_000
        self.clock.advance(10.0)
        freezer.stopService()
        self.assertGreater(gc.get_freeze_count(), before)
