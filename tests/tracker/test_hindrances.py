"""What hinders hbtd, in one list."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hbtd.tracker.gaps import GapKind
from hbtd.tracker.hindrances import Hindrance, Hindrances, TroubleKind
from tests.support.observed_memory import ClockTestCase

WALL = 1.8e9

OVERLOAD, STORE, SLOW = TroubleKind.OVERLOAD, TroubleKind.STORE, TroubleKind.SLOW_STORE


class TroubleTests(SynchronousTestCase):
    """Troubles, which are looked for."""

    def setUp(self) -> None:
        self.hindrances = Hindrances()
        self.now = 100.0

    def look(self, **causes: str) -> None:
        """Look a second later, and find these troubles."""
        self.now += 1.0
        found = {TroubleKind(kind): cause for kind, cause in causes.items()}
        self.hindrances.look(found, WALL + self.now, self.now)

    def test_life(self) -> None:
        """A trouble lasts from the look that finds it to the one that does not; the last cause."""
        self.look()
        self.assertEqual(self.hindrances.all(), [])
        self.look(store="the disk is full")
        self.look(store="the disk does not answer")
        lasting = Hindrance(WALL + 102, 1.0, STORE, "the disk does not answer", lasts=True)
        self.assertEqual(self.hindrances.all(), [lasting])
        self.look()
        over = Hindrance(WALL + 102, 2.0, STORE, "the disk does not answer", lasts=False)
        self.assertEqual(self.hindrances.all(), [over])
        self.assertEqual(over.end, WALL + 104)
        self.look(store="again")
        self.assertEqual(
            self.hindrances.all(), [Hindrance(WALL + 105, 0.0, STORE, "again", lasts=True), over]
        )

    def test_order(self) -> None:
        """Those that last come first, then those that began last."""
        self.look(store="a")
        self.look(store="a", overload="b")
        self.look(store="a", slow_store="c")
        self.look(store="a")
        kinds = [each.kind for each in self.hindrances.all()]
        self.assertEqual(kinds, [STORE, SLOW, OVERLOAD])

    def test_bounded(self) -> None:
        """A trouble that comes and goes displaces no other kind."""
        self.look(store="a")
        for _ in range(100):
            self.look(overload="b")
            self.look()
        kinds = [each.kind for each in self.hindrances.all()]
        self.assertEqual(kinds, [OVERLOAD] * 20 + [STORE])

    def test_step(self) -> None:
        """A wall clock that is set back makes no trouble end before it has begun."""
        self.hindrances.look({STORE: "a"}, WALL, 0.0)
        self.hindrances.look({}, WALL - 3600, 5.0)
        (found,) = self.hindrances.all()
        self.assertEqual((found.at, found.end), (WALL, WALL + 5.0))

    @given(st.lists(st.tuples(st.booleans(), st.floats(0.0, 100.0)), max_size=50))
    def test_totals(self, looks: list[tuple[bool, float]]) -> None:
        """The totals are those of the list, as long as it is complete."""
        self.setUp()
        for found, seconds in looks:
            self.now += seconds
            self.hindrances.look({STORE: "a"} if found else {}, self.now, self.now)
        listed = self.hindrances.all()
        count, seconds = self.hindrances.totals()[STORE]
        if count < 20:
            self.assertEqual(count, len(listed))
            self.assertAlmostEqual(seconds, sum(each.seconds for each in listed))
        self.assertEqual(self.hindrances.totals()[OVERLOAD], (0, 0.0))


class GapTests(ClockTestCase):
    """The gaps of the observed clock, in the same list."""

    def found(self) -> list[tuple[float, float, str, bool]]:
        """Return beginning, length and cause of each hindrance, and whether it lasts."""
        listed = Hindrances().all(self.clock.gaps(), self.clock.lasting_gap)
        return [
            (round(each.at - 1e9 - 1000.0, 1), round(each.seconds, 1), each.cause, each.lasts)
            for each in listed
        ]

    def test_standstill(self) -> None:
        """A gap and the standstill after it are one, which lasts until the clock counts again."""
        self.listen(5.0)
        self.read_after(4.0)
        self.assertEqual(self.found(), [(5.1, 3.9, "hbtd did not run", False)])
        self.listen(2.0)
        said = "hbtd did not run for 3.9 s; then components may have to connect again"
        self.assertEqual(self.found(), [(5.1, 5.9, said, True)])
        self.listen(8.0)
        self.assertEqual(self.found(), [(5.1, 7.8, said, False)])

    def test_two(self) -> None:
        """Each gap is one of its own, the last first, also if they follow one another."""
        self.listen(1.0)
        self.clock.deafen(0.0, "etcd was silent")
        self.listen(4.0)
        self.assertEqual(self.found(), [(1.0, 4.0, "etcd was silent", True)])
        self.clock.hear(patiently=True)
        self.listen(2.0)
        self.read_after(3.0)
        self.listen(9.0)
        again = "then components may have to connect again"
        self.assertEqual(
            [(cause, lasts) for _, _, cause, lasts in self.found()],
            [
                (f"hbtd did not run for 2.9 s; {again}", False),
                (f"etcd was silent for 4.0 s; {again}", False),
            ],
        )

    def test_alone(self) -> None:
        """A standstill that follows no gap is a hindrance of its own."""
        self.listen(1.0)
        self.read_after(2.0)
        self.listen(5.0)
        self.clock.deafen(3.0, "etcd was silent")
        self.clock.hear(patiently=False)
        self.listen(5.0)
        listed = Hindrances().all(self.clock.gaps(), self.clock.lasting_gap)
        self.assertEqual(
            [(each.kind, round(each.seconds, 1)) for each in listed],
            [(GapKind.STANDSTILL, 3.0), (GapKind.STALL, 3.8)],
        )

    def test_start(self) -> None:
        """What passes before the first tick is the start of hbtd."""
        self.read_after(3.0)
        self.listen(10.0)
        (found,) = Hindrances().all(self.clock.gaps())
        self.assertIs(found.kind, GapKind.START)
        self.assertRegex(found.cause, "^hbtd started for 2.9 s; then ")

    def test_totals(self) -> None:
        """Gaps are counted by kind, with their seconds."""
        self.listen(1.0)
        for _ in range(70):
            self.read_after(1.0)
            self.listen(3.0)
        self.clock.deafen(0.0)
        self.listen(2.0)
        totals = {
            kind.value: (count, round(seconds, 1))
            for kind, (count, seconds) in self.clock.gap_totals().items()
        }
        self.assertEqual(
            totals,
            {"start": (0, 0), "stall": (70, 63.0), "standstill": (70, 63.0), "deafen": (1, 2.0)},
        )
