"""Who changes its state too often within an hour is marked."""

import sys
from bisect import insort

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hbtd.tracker.flapping import HOUR, Flapping

NODE, OTHER = "x0c0s0b0n0", "x0c0s0b0n1"
WALL = 1_800_000_000

stories = st.lists(
    st.tuples(st.integers(0, HOUR // 2), st.integers(0, HOUR // 3), st.booleans()), max_size=60
)
"""Seconds that pass, seconds for which a change was on its way, and whether there was one."""


class FlappingTests(SynchronousTestCase):
    """The rule, with the time in the hands of a test."""

    def setUp(self) -> None:
        """Begin without changes."""
        self.flapping = Flapping()

    def change(self, times: int, at: float, most: int = 4) -> list[bool]:
        """Note changes in successive seconds; return whether each of them marks."""
        return [self.flapping.note(NODE, at + i, at + i, most) for i in range(times)]

    def look(self, now: float, most: int = 4) -> list[str]:
        """Return whose marks end."""
        return self.flapping.look(now, most, 1000)

    def test_begins(self) -> None:
        """The change that is one too many marks a component, once; others stay unmarked."""
        self.flapping.note(OTHER, WALL, WALL, 4)
        self.assertEqual(self.change(7, WALL), [False] * 4 + [True] + [False] * 2)
        self.assertIn(NODE, self.flapping)
        self.assertNotIn(OTHER, self.flapping)
        self.assertEqual(self.flapping.marked(), [NODE])

    def test_ends(self) -> None:
        """The mark ends when no more than half as many changes lie within an hour."""
        self.change(5, WALL)
        for now in (WALL + HOUR, WALL + HOUR + 1):
            self.assertEqual(self.look(now), [])
        self.assertEqual(self.flapping.changes(NODE, WALL + HOUR + 2), 2)
        self.assertEqual(self.look(WALL + HOUR + 2), [NODE])
        self.assertNotIn(NODE, self.flapping)
        self.assertEqual(self.look(WALL + HOUR + 2), [])

    def test_rarely_enough(self) -> None:
        """Who changes no more often than allowed in any hour is never marked."""
        for number in range(100):
            at = WALL + number * HOUR / 4
            self.assertFalse(self.flapping.note(NODE, at, at, 4))
            self.assertEqual(self.look(at), [])

    @given(stories, st.integers(1, 6))
    def test_as_counted(self, story: list[tuple[int, int, bool]], most: int) -> None:
        """Marks are as a count of all changes has them, in whatever order these arrive."""
        flapping, now = Flapping(), float(WALL)
        times: list[float] = []
        marked = False
        for seconds, late, changes in story:
            now += seconds
            if changes:
                insort(times, now - late)
                begins = flapping.note(NODE, now - late, now, most)
                many = sum(now - HOUR < at for at in times) > most
                self.assertEqual(begins, many and not marked)
                marked = marked or many
            ended = flapping.look(now, most, 10)
            few = sum(now - HOUR < at for at in times) <= most // 2
            self.assertEqual(ended, [NODE] if marked and few else [])
            marked = marked and not few
            self.assertEqual(NODE in flapping, marked)

    @given(st.lists(st.floats(-2 * HOUR, HOUR), max_size=12), st.randoms())
    def test_any_order(self, ages: list[float], random: object) -> None:
        """The order in which changes are noted, as from the log after a start, does not matter."""
        shuffled = list(ages)
        random.shuffle(shuffled)  # type: ignore[attr-defined]
        found = []
        for each in (ages, shuffled):
            flapping = Flapping()
            for age in each:
                flapping.note(NODE, WALL - age, WALL, 4)
            later = [flapping.changes(NODE, WALL + HOUR * i / 8) for i in range(9)]
            found.append((NODE in flapping, later))
        self.assertEqual(*found)

    @given(stories)
    def test_memory(self, story: list[tuple[int, int, bool]]) -> None:
        """Who has not changed within an hour takes no memory, and changes are few bytes each."""
        flapping, now = Flapping(), float(WALL)
        for seconds, late, changes in story:
            now += seconds
            if changes:
                flapping.note(NODE, now - late, now, 3)
                self.assertLessEqual(
                    sys.getsizeof(flapping._changes.get(NODE, b"")), sys.getsizeof(b"") + 4 * 4
                )
            flapping.look(now, 3, 10)
        flapping.look(now + HOUR + 61, 3, 10)
        self.assertEqual((flapping.remembered, flapping.marked()), (0, []))

    def test_clock_set_back(self) -> None:
        """After the clock was set back nothing is held for long, and later changes count."""
        self.change(5, WALL)
        now = WALL - 86400
        self.assertEqual(self.look(now), [NODE])
        self.assertEqual(self.flapping.remembered, 0)
        self.assertEqual(self.change(5, now), [False] * 4 + [True])

    def test_clock_ahead(self) -> None:
        """A change that another replica's clock has in the future counts as one of now."""
        for _ in range(5):
            self.flapping.note(NODE, WALL + 5000, WALL, 4)
        self.assertIn(NODE, self.flapping)
        self.assertEqual(self.look(WALL + HOUR), [NODE])

    def test_in_portions(self) -> None:
        """A look takes bounded time, and all have their turns in the next ones."""
        for number in range(10):
            for second in range(3):
                self.flapping.note(f"x{number}", WALL + second, WALL + second, 2)
        self.assertEqual(len(self.flapping.look(WALL + HOUR + 2, 2, 4)), 4)
        self.assertEqual(len(self.flapping.look(WALL + HOUR + 2, 2, 4)), 4)
        self.assertEqual((len(self.flapping.marked()), self.flapping.remembered), (2, 2))
        self.flapping.note("x9", WALL + HOUR, WALL + HOUR, 2)
        # x8 is behind x9 once that was looked at and stays.
        self.flapping.note("x9", WALL + HOUR, WALL + HOUR, 2)
        self.assertEqual(self.flapping.look(WALL + HOUR + 2, 2, 1), ["x8"])

    def test_cleared(self) -> None:
        """Marks can be made anew, as with another limit."""
        self.change(5, WALL)
        self.flapping.clear()
        self.assertEqual((self.flapping.marked(), self.flapping.remembered), ([], 0))
