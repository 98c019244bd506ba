"""Long lists that are handled in portions."""

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from hbtd.runtime.portions import in_portions


class PortionsTests(SynchronousTestCase):
    """The items of a list come in portions."""

    def setUp(self):
        self.clock = Clock()
        self.happened: list[list[int] | str] = []

    async def read(self, items: list[int]) -> None:
        self.clock.callLater(0, self.happened.append, "other work")
        async for portion in in_portions(self.clock, items, 3):
            self.happened.append(portion)
            self.clock.callLater(0, self.happened.append, "other work")

    def test_order(self):
        """The items come in order, behind other work of the reactor; the list is empty then."""
        items = list(range(7))
        reading = Deferred.fromCoroutine(self.read(items))
        self.clock.advance(0)
        self.successResultOf(reading)
        expected = ["other work", [0, 1, 2], "other work", [3, 4, 5], "other work", [6]]
        self.assertEqual(self.happened, [*expected, "other work"])
        self.assertEqual(items, [])

    def test_empty(self):
        """An empty list has no portions, and the reactor is not waited for."""
        self.successResultOf(Deferred.fromCoroutine(self.read([])))
        self.assertEqual(self.happened, [])
