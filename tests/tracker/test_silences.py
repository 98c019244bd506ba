"""Long silences: which are kept, and what they say about other limits."""

from itertools import islice
from math import inf

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hbtd.tracker.components import Component
from hbtd.tracker.records import Record
from hbtd.tracker.silences import Limits, LongSilence, Silences, Tally
from hbtd.tracker.tracker import Tracker
from tests.support.beat_stories import Step, silences, stories

A, B = "x1000c0s0b0n0", "x1000c0s0b0n1"
WARNTIME, ERRTIME = 10.0, 30.0


def play(tracker: Tracker, steps: list[Step]) -> None:
    """Let a tracker hear a story."""
    for at, what, name in steps:
        if what == "sweep":
            tracker.sweep(at, WARNTIME, ERRTIME, 9)
        elif what == "forget":
            tracker.forget(name)
        else:
            tracker.beat(name, at, "t", "OK", None, what == "connect")


class Kept(SynchronousTestCase):
    """Has a tracker, and looks at the silences that it notices."""

    def setUp(self):
        self.tracker = Tracker()

    def beat(self, *times: float, xname: str = A, fresh: bool = False) -> None:
        """Let a component beat at these times."""
        for at in times:
            self.tracker.beat(xname, at, "t", "OK", None, fresh)

    def taken(self) -> list[LongSilence]:
        """Return the silences that wait, and let none wait."""
        return self.tracker.silences.take(1000)

    def component(self, xname: str = A) -> Component:
        """Return the data of a component."""
        found = self.tracker.component(xname)
        assert found is not None
        return found


class KeptTests(Kept):
    """Which silences are kept."""

    def test_longer_than_twice_the_mean(self) -> None:
        """A period is kept if it is longer than twice the mean before it, and no shorter one is."""
        self.beat(0.0, 3.0, 6.0, 12.0, 14.0, 17.0, 23.25)
        self.assertEqual(self.taken(), [LongSilence(A, 23.25, 6.25)])
        self.assertEqual(self.taken(), [])

    def test_each(self) -> None:
        """Each long silence is kept: also those between two looks at the mean period."""
        self.beat(*range(0, 36, 3), 37.0, 44.0, 45.0, 46.0, 53.0, 54.0)
        self.assertEqual([each.ended for each in self.taken()], [44.0, 53.0])

    def test_again(self) -> None:
        """One is kept that is shorter than an earlier period: the mean period was longer then."""
        self.beat(*range(0, 100, 10))
        self.beat(*range(100, 400), fresh=True)
        self.beat(405.0)
        self.assertEqual(self.taken(), [LongSilence(A, 405.0, 6.0)])

    def test_no_shorter_than_a_limit(self) -> None:
        """A second of silence is not long, however fast the heartbeats are: limits are longer."""
        self.beat(0.0, 0.1, 0.2, 1.2, 1.3, 2.5)
        self.assertEqual([each.ended for each in self.taken()], [2.5])

    def test_after_a_warning(self) -> None:
        """The silence of a component that comes back after a warning is kept."""
        self.beat(0.0, 3.0)
        self.tracker.sweep(15.0, WARNTIME, ERRTIME, 9)
        self.beat(19.0)
        self.assertEqual(self.taken(), [LongSilence(A, 19.0, 16.0)])

    def test_after_death(self) -> None:
        """A death and return is a silence that has ended; it is kept once."""
        self.beat(0.0, 3.0)
        self.tracker.sweep(60.0, WARNTIME, ERRTIME, 9)
        self.beat(60.25, 63.25)
        self.assertEqual(self.taken(), [LongSilence(A, 60.25, 57.25)])

    def test_after_death_with_long_periods(self) -> None:
        """A death and return is kept however long the component's periods are."""
        self.beat(*range(0, 100, 20))
        self.taken()
        self.tracker.sweep(115.0, WARNTIME, ERRTIME, 9)
        self.beat(115.25)
        self.assertEqual(self.taken(), [LongSilence(A, 115.25, 35.25)])

    def test_in_maintenance(self) -> None:
        """A silence that ends while it is not judged, or with a return, is none that is kept."""
        for returns, phase in ((False, "healthy"), (True, "healthy"), (True, "warned")):
            self.tracker = Tracker()
            self.beat(0.0, 3.0, 6.0)
            if phase == "warned":
                self.tracker.sweep(20.0, WARNTIME, ERRTIME, 9)
            self.tracker.set_returns(lambda *_, back=returns: back, lambda _: False)
            self.tracker.spare([A])
            self.beat(100.0, 103.0, 106.0)
            self.assertEqual(self.taken(), [], (returns, phase))
            self.tracker.judge_anew([A], 106.0, (WARNTIME, ERRTIME))
            self.beat(109.0, 209.0)
            self.assertEqual(self.taken(), [LongSilence(A, 209.0, 100.0)])

    def test_forgotten(self) -> None:
        """The silence of a component that was forgotten has no end."""
        self.beat(0.0, 3.0)
        self.tracker.forget(A)
        self.beat(60.0, 63.0)
        self.assertEqual(self.taken(), [])

    def test_unknown(self) -> None:
        """The silence of a dead component that was heard nobody knows when is not kept."""
        self.tracker.restore([], [A], 0.0, WARNTIME, ERRTIME)
        self.beat(5.0)
        self.assertEqual(self.taken(), [])

    def test_mean_unknown(self) -> None:
        """Until a component's mean period is known, that which others had first lately counts."""
        for number in range(30):
            self.beat(number, number + 2.0, xname=f"x0c0s{number}b0n0")
        self.taken()
        self.tracker.restore([Record(A, 0.0, "t", "OK", False)], [], 40.0, WARNTIME, ERRTIME)
        self.tracker.restore([Record(B, 0.0, "t", "OK", False)], [], 40.0, WARNTIME, ERRTIME)
        self.beat(45.0, 50.0)
        self.beat(43.0, 46.0, xname=B)
        self.assertEqual(self.taken(), [LongSilence(A, 45.0, 5.0), LongSilence(A, 50.0, 5.0)])

    @given(stories())
    def test_none_is_missed(self, steps: list[Step]) -> None:
        """In any story, each period of more than twice the mean known then is kept, as it was."""
        tracker = Tracker()
        wanted: set[LongSilence] = set()
        heard: dict[str, float] = {}
        for step in steps:
            component = tracker.component(step.component)
            if step.what in ("beat", "connect"):
                if component is not None and component.mean > 0.0 and step.component in heard:
                    period = step.at - heard[step.component]
                    if period > max(2 * component.mean, 1.0):
                        wanted.add(LongSilence(step.component, step.at, period))
                heard[step.component] = step.at
            elif step.what == "forget":
                heard.pop(step.component, None)
            play(tracker, [step])
        kept = tracker.silences.take(1000)
        self.assertLessEqual(wanted, set(kept))
        self.assertEqual(len(kept), len(set(kept)))
        truth = {(each.component, each.ended, each.ended - each.began) for each in silences(steps)}
        self.assertLessEqual(set(map(tuple, kept)), truth)


class MissedTests(Kept):
    """What is known of the periods that were not kept."""

    def test_floor(self) -> None:
        """A component's floor is its longest period that was not kept, rounded up to tenths."""
        self.beat(0.0, 3.0, 6.01, 9.0, 16.0, 20.0)
        self.assertEqual(self.component().floor, 4.0)
        self.beat(25.01)
        self.assertEqual(self.component().floor, 5.1)
        self.assertEqual(self.component().longest, 7.0)
        self.assertEqual(self.tracker.silences.longest_missed, 5.1)

    def test_notable(self) -> None:
        """A period is looked at if it is longer than any that was not kept, or a long silence."""
        self.beat(0.0, 3.0, 6.0, 10.0)
        self.assertEqual((self.component().floor, self.component().notable), (4.0, 4.0))
        self.beat(15.0, 29.0, 30.0, fresh=True)
        self.assertEqual(self.component().floor, 5.0)
        self.beat(*(30.0 + number / 10 for number in range(1, 50)), fresh=True)
        self.assertEqual(self.component().floor, 5.0)
        self.assertEqual(self.component().notable, 2 * self.component().mean)
        self.assertLess(self.component().mean, 1.0)

    def test_begun_anew(self) -> None:
        """What a component's floor was before it died or was forgotten is known, and until when."""
        self.beat(0.0, 3.0, 8.0)
        self.tracker.sweep(50.0, WARNTIME, ERRTIME, 9)
        self.beat(50.0, 52.0)
        self.assertEqual(self.component().floor, 2.0)
        missed = self.tracker.silences.missed_since
        self.assertEqual((missed(0.0), missed(8.0), missed(8.25)), (5.0, 5.0, 0.0))
        self.tracker.forget(A)
        self.assertEqual((missed(8.25), missed(52.25)), (2.0, 0.0))

    def test_out_of_order(self) -> None:
        """What ended earlier, but is known later, takes nothing away."""
        self.beat(0.0, 3.0, xname=B)
        self.beat(0.0, 2.0, 3.0, 4.0)
        missed = self.tracker.silences.missed_since
        self.tracker.forget(A)
        self.assertEqual((missed(4.0), missed(4.25)), (2.0, 0.0))
        self.tracker.forget(B)
        self.assertGreaterEqual(missed(4.0), 2.0)
        self.assertEqual((missed(3.0), missed(4.25)), (3.0, 0.0))

    def test_after_a_start_of_hbtd(self) -> None:
        """So is the time until the first heartbeat after hbtd's start, which is no period."""
        self.tracker.restore([Record(A, 0.0, "t", "OK", False)], [], 0.0, WARNTIME, ERRTIME)
        self.beat(6.0, 7.0)
        self.assertEqual(self.component().floor, 1.0)
        self.assertEqual(self.tracker.silences.missed_since(6.0), 6.0)
        self.assertEqual(self.tracker.silences.longest_missed, 6.0)

    def test_replaced(self) -> None:
        """So it is if another replica's record takes the place of what was known."""
        self.beat(0.0, 3.0, 8.0)
        self.tracker.apply_gap(Record(A, 0.0, "t", "OK", True), 9.0)
        self.assertEqual(self.tracker.silences.missed_since(8.0), 5.0)
        self.beat(12.0, 16.0)
        self.beat(16.0, 21.0, xname=B)
        self.tracker.keep_only([B])
        self.assertEqual(self.tracker.silences.missed_since(9.0), 4.0)

    @given(stories(), st.integers(1, 70))
    def test_enough(self, steps: list[Step], limit: int) -> None:
        """With a limit above what was missed, the silences kept are all there were."""
        tracker = Tracker()
        play(tracker, steps)
        ended = [each for each in silences(steps) if each.ended < inf]
        kept = tracker.silences.take(1000)
        floors = {name: component.floor for name, component in _tracked(tracker)}
        for since in (-inf, 30.0):
            missed = tracker.silences.missed_since(since)
            for name in {each.component for each in steps}:
                true = sum(
                    each.component == name
                    and each.ended - each.began >= limit
                    and each.ended >= since
                    for each in ended
                )
                found = sum(
                    each.component == name and each.seconds >= limit and each.ended >= since
                    for each in kept
                )
                if limit > max(missed, floors.get(name, 0.0)):
                    self.assertEqual(found, true)
                self.assertLessEqual(found, true)


def _tracked(tracker: Tracker) -> list[tuple[str, Component]]:
    found = [(name, tracker.component(name)) for name in tracker.tracked()]
    return [(name, component) for name, component in found if component is not None]


class WaitingTests(SynchronousTestCase):
    """The silences that wait to be put into a table."""

    def setUp(self):
        self.silences = Silences(3)
        for number in range(5):
            component = Component(f"x{number}", -40.0, "t", "OK")
            self.silences.end(component, float(number))

    def names(self, most: int = 9) -> str:
        """Take silences, and return the digits of their components' names."""
        return "".join(each.component[1:] for each in self.silences.take(most))

    def test_bound(self) -> None:
        """The oldest are lost if too many wait, and it is known until when."""
        self.assertEqual(len(self.silences), 3)
        self.assertEqual(self.silences.take_lost(), 1.0)
        self.assertIsNone(self.silences.take_lost())
        self.assertEqual(self.names(), "234")
        self.assertEqual(self.names(), "")

    def test_put_back(self) -> None:
        """What could not be put there waits again, before all others, unless there are too many."""
        self.silences.put_back(self.silences.take(1))
        self.assertEqual(self.names(1), "2")
        taken = self.silences.take(2)
        for number in range(5, 7):
            self.silences.end(Component(f"x{number}", 0.0, "t", "OK"), float(number))
        self.silences.take_lost()
        self.silences.put_back(taken)
        self.assertEqual(self.silences.take_lost(), 3.0)
        self.assertEqual(self.names(1), "4")
        self.assertEqual(self.names(), "56")

    def test_last_lost(self) -> None:
        """Of those that are lost, the last one to end counts, whatever is lost after it."""
        taken = self.silences.take(1)
        for number in range(5, 7):
            self.silences.end(Component(f"x{number}", 0.0, "t", "OK"), float(number))
        self.silences.put_back(taken)
        self.assertEqual(self.silences.take_lost(), 3.0)


class TallyTests(SynchronousTestCase):
    """How many alarms there would have been."""

    def test_alarms(self) -> None:
        """A silence as long as a limit causes an alarm; one as long as the other causes two."""
        tally = Tally(Limits(10, 30))
        tally.add_ended([LongSilence(A, 100.0, 9.75), LongSilence(A, 200.0, 10.0)])
        tally.add_ended([LongSilence(B, 300.0, 30.0)])
        tally.add_open(B, 30.0, 380.0, 400.0)
        tally.add_open(B, 29.75, 380.0, 400.0)
        self.assertEqual(tally.warnings.components, {A: 1, B: 3})
        self.assertEqual((tally.warnings.number, tally.warnings.back), (4, 2))
        self.assertEqual(tally.deaths.components, {B: 2})
        self.assertEqual((tally.deaths.number, tally.deaths.back), (2, 1))

    def test_since(self) -> None:
        """An alarm counts if it would have been due since then, not if only the return was."""
        for since, expected in ((110.0, (1, 1)), (110.25, (0, 1)), (130.25, (0, 0))):
            for lasts in (False, True):
                tally = Tally(Limits(10, 30, since))
                if lasts:
                    tally.add_open(A, 40.0, 110.0, 130.0)
                else:
                    tally.add_ended([LongSilence(A, 140.0, 40.0)])
                self.assertEqual((tally.warnings.number, tally.deaths.number), expected)

    def test_no_warnings(self) -> None:
        """Nobody is warned about if death is declared as soon."""
        tally = Tally(Limits(30, 30))
        tally.add_ended([LongSilence(A, 140.0, 40.0)])
        tally.add_open(A, 40.0, 290.0, 290.0)
        self.assertEqual((tally.warnings.number, tally.deaths.number), (0, 2))
        self.assertEqual((Limits(5, 30).least, Limits(30, 5).least), (5, 5))

    @given(stories(), st.integers(1, 40), st.integers(1, 40), st.integers(0, 100), st.floats(0, 9))
    def test_brute_force(
        self, steps: list[Step], warntime: int, errtime: int, since: int, later: float
    ) -> None:
        """They are those that somebody would have counted who had looked at every moment."""
        now = max((step.at for step in steps), default=0.0) + round(later)
        tally = Tally(Limits(warntime, errtime, since))
        warnings = deaths = back = 0
        for each in silences(steps):
            name, began, ended = each
            if ended < inf:
                tally.add_ended([LongSilence(name, ended, ended - began)])
            else:
                tally.add_open(name, now - began, began + warntime, began + errtime)
            died = each.alarm(errtime, now)
            warned = each.alarm(warntime, now) if warntime < errtime else None
            warnings += warned is not None and warned >= since
            deaths += died is not None and died >= since
            back += warned is not None and warned >= since and each.ended < inf
        self.assertEqual((tally.warnings.number, tally.warnings.back), (warnings, back))
        self.assertEqual(tally.deaths.number, deaths)
        self.assertEqual(sum(islice(tally.deaths.components.values(), 9)), deaths)
