"""Memory that large bodies share."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hbtd.server.limits import Room

SIZE = 1000
STEPS = st.lists(st.tuples(st.sampled_from(["a", "b", "c", None]), st.integers(-300, 300)))


class RoomTests(SynchronousTestCase):
    """Who may have how much."""

    @given(STEPS)
    def test_shares(self, steps: list[tuple[str | None, int]]) -> None:
        """Nobody has more than half of what the others leave, and nothing is lost."""
        room, taken = Room(SIZE), Counter[str | None]()
        for host, count in steps:
            if count < 0:
                count = min(-count, taken[host])
                room.give_back(count, host)
                taken[host] -= count
                continue
            left = SIZE - sum(taken.values()) + taken[host]
            fits = taken[host] + count <= left / 2
            self.assertEqual(room.take(count, host), fits)
            taken[host] += count * fits
            self.assertEqual(room.taken, sum(taken.values()))
        for host in list(taken):
            room.give_back(taken[host], host)
        self.assertEqual((room.taken, len(room._of_host)), (0, 0))

    def test_somebody_else(self) -> None:
        """Whatever one address takes, another gets half as much."""
        room = Room(SIZE)
        self.assertFalse(room.take(501, "a"))
        self.assertTrue(room.take(500, "a"))
        self.assertFalse(room.take(1, "a"))
        self.assertTrue(room.take(250, "b"))
