"""What happens in the live demonstration."""

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from hbtd.formats.nodesets import within
from hbtd.simulator.fleet import node_names
from hbtd.simulator.live import KINDS, Mishaps


class MishapTests(SynchronousTestCase):
    """Mishaps that are drawn at random."""

    def test_kinds(self):
        """Every kind happens, to parts of the machine that have nodes, for as long as it may."""
        names = node_names(200)
        mishaps = Mishaps(names, Random(1))
        seen = set()
        for _ in range(500):
            mishap = mishaps.draw()
            seen.add(mishap.kind)
            self.assertTrue(any(within(name, mishap.nodes) for name in names), mishap)
            least, most = mishap.kind.seconds
            self.assertTrue(least <= mishap.seconds <= most)
            self.assertGreater(mishap.after, 0)
        self.assertEqual(seen, set(KINDS))

    def test_seed(self):
        """The same seed draws the same mishaps."""
        first, second = (Mishaps(node_names(100), Random(5)) for _ in range(2))
        drawn = [first.draw() for _ in range(20)]
        self.assertEqual(drawn, [second.draw() for _ in range(20)])
        self.assertNotEqual(drawn, [Mishaps(node_names(100), Random(6)).draw() for _ in range(20)])
