"""The observed clock: it runs like the monotonic one, except while hbtd is deaf."""

from hypothesis import given, settings
from hypothesis import strategies as st

from hbtd.tracker.observed import TICK
from tests.support.observed_memory import EPSILON, PATIENCE, ClockTestCase

LATE = 0.5
"""The longest time between two ticks, in seconds, that is no gap."""


class BusyTests(ClockTestCase):
    """Deafness of hbtd's own making is left out for a bounded time."""

    def test_bounded(self):
        """Of a long time of work, half of `most_busy` is left out, and no standstill follows."""
        self.begin(most_busy=60.0)
        self.assertClose(self.work(100.0 + TICK), TICK + 70.0)
        self.assertClose(self.listen(1.0), TICK + 71.0)

    def test_short(self):
        """Less than that is left out, with the standstill that follows."""
        self.begin(most_busy=30.0)
        self.assertClose(self.work(4.0 + TICK), TICK)
        self.assertClose(self.listen(4.0), TICK)
        self.assertClose(self.listen(1.0), TICK + 1.0)

    def test_again_and_again(self):
        """In ten times `most_busy`, no more than `most_busy` is left out, however busy hbtd is."""
        self.begin(most_busy=12.0)
        for _ in range(200):
            self.work(0.6)
        self.assertTrue(120 - 12 - 1 <= self.clock.now() <= 120, self.clock.now())

    def test_comes_back(self):
        """What was left out may be left out again ten times as much later."""
        self.begin(most_busy=20.0)
        self.work(100.0)
        before = self.listen(100.0)
        self.assertClose(self.work(2.4 + TICK), before + TICK)
        self.assertClose(self.listen(2.4), before + TICK)

    def test_others_busy(self):
        """Time for which others had the processor, or hbtd was stopped, is left out without end."""
        self.begin(most_busy=1.0)
        self.busy += 0.5
        self.assertClose(self.read_after(1000.0 + TICK), TICK)

    @given(st.lists(st.tuples(st.floats(0.0, 20.0), st.floats(0.0, 1.0)), max_size=40))
    def test_never_more(self, rounds):
        """Work never makes the clock run faster than time, nor slower than the bound allows."""
        self.begin(most_busy=5.0)
        total = 0.0
        for seconds, share in rounds:
            before = self.clock.now()
            self.busy += seconds * share
            self.assertTrue(before <= self.read_after(seconds) <= before + seconds + EPSILON)
            total += seconds
        self.assertTrue(self.clock.now() <= total + EPSILON)


class StandstillTests(ClockTestCase):
    """What one gap between ticks does."""

    def test_begins_at_zero(self):
        """Observed time begins when the clock is made."""
        self.assertEqual(self.clock.now(), 0.0)
        self.assertEqual(self.clock.deaf_seconds, 0.0)

    def test_listening(self):
        """With ticks in time, it runs like the monotonic clock."""
        self.assertClose(self.listen(60.0), 60.0)
        self.assertEqual(self.clock.deaf_seconds, 0.0)

    def test_a_little_late(self):
        """A tick that comes a little late makes no gap."""
        self.assertClose(self.read_after(LATE), LATE)
        self.assertEqual(self.clock.deaf_seconds, 0.0)

    def test_stall(self):
        """A gap is not counted, except for one tick."""
        self.listen(5.0)
        self.assertClose(self.read_after(3600.0), 5.0 + TICK)
        self.assertClose(self.clock.deaf_seconds, 3600.0 - TICK)

    def test_stands_still_as_long(self):
        """After a gap the clock stands still for as long again, and then runs on."""
        self.read_after(4.0 + TICK)
        self.assertClose(self.listen(4.0), TICK)
        self.assertClose(self.listen(5.0), TICK + 5.0)

    def test_stands_still_no_longer_than_patience(self):
        """However long the gap, the clock stands still for no longer than `patience`."""
        self.read_after(86400.0)
        self.assertClose(self.listen(PATIENCE), TICK)
        self.assertClose(self.listen(5.0), TICK + 5.0)

    def test_patience_changes(self):
        """The patience at the end of the gap counts."""
        self.patience = 2.0
        self.read_after(100.0)
        self.patience = 50.0
        self.assertClose(self.listen(3.0), TICK + 1.0)

    def test_no_patience(self):
        """Without patience the clock runs on at once."""
        self.begin(patience=0.0)
        self.read_after(100.0)
        self.assertClose(self.listen(3.0), TICK + 3.0)

    def test_standstill_ends_in_a_tick(self):
        """The rest of a standstill is taken off the tick in which it ends, and no more."""
        self.read_after(1.0 + TICK)
        self.read_after(0.4)
        self.read_after(0.4)
        self.assertClose(self.read_after(0.4), TICK + 0.2)

    def test_stalls_one_after_the_other(self):
        """A second gap within a standstill may prolong it, but is not added to it."""
        self.read_after(5.0 + TICK)
        self.listen(1.0)
        self.read_after(2.0 + TICK)
        self.assertClose(self.listen(4.0), 2 * TICK)
        self.assertClose(self.listen(1.0), 2 * TICK + 1.0)
        self.assertClose(self.clock.deaf_seconds, 7.0)

    def test_readings_are_no_ticks(self):
        """However often the clock is read, only ticks show that hbtd can hear."""
        self.listen(5.0)
        for _ in range(100):
            self.time += TICK
            self.assertLessEqual(self.clock.now(), 5.0 + TICK + EPSILON)
        self.clock.tick()
        self.assertClose(self.clock.now(), 5.0 + TICK)
        self.assertClose(self.clock.deaf_seconds, 10.0 - TICK)

    def test_readings_between_ticks(self):
        """Between ticks the clock runs on, but never ahead of what the next tick counts."""
        self.listen(5.0)
        self.time += TICK / 2
        self.assertClose(self.clock.now(), 5.0 + TICK / 2)
        self.time += LATE - TICK
        self.assertClose(self.clock.now(), 5.0 + TICK)
        self.clock.tick()
        self.assertClose(self.clock.now(), 5.0 + LATE - TICK / 2)

    def test_standstill_ends_between_ticks(self):
        """A standstill may end between two ticks: it is over at the same moment for readings."""
        self.read_after(1.0 + TICK)
        self.read_after(0.48)
        self.read_after(0.48)
        self.time += 0.02
        self.assertClose(self.clock.now(), TICK)
        self.time += 0.05
        self.assertClose(self.clock.now(), TICK + 0.03)
        self.clock.tick()
        self.assertClose(self.clock.now(), TICK + 0.03)


class PropertyTests(ClockTestCase):
    """What holds however time passes."""

    @settings(max_examples=200)
    @given(st.lists(st.floats(0.0, LATE - 0.01), max_size=50))
    def test_without_stalls(self, pauses):
        """Without gaps it is the monotonic clock."""
        self.begin()
        for pause in pauses:
            self.read_after(pause)
        self.assertClose(self.clock.now(), self.time - 1000.0)

    @settings(max_examples=200)
    @given(
        st.lists(st.one_of(st.floats(0.0, 1.0), st.floats(0.0, 1e6)), max_size=50),
        st.floats(0.0, 60.0),
    )
    def test_never_back_never_fast(self, pauses, patience):
        """It never goes back, never runs faster than time, and never jumps far."""
        self.begin(patience)
        before = 0.0
        for pause in pauses:
            now = self.read_after(pause)
            self.assertGreaterEqual(now, before)
            self.assertLessEqual(now - before, min(pause, LATE) + EPSILON)
            before = now

    @settings(max_examples=200)
    @given(st.floats(LATE + 0.1, 1e6), st.floats(0.0, 60.0), st.integers(0, 200))
    def test_gap_ages_by_a_tick(self, stall, patience, ticks):
        """A gap adds one tick to a silence, and a standstill before the silence goes on."""
        self.begin(patience)
        self.listen(1.0)
        self.read_after(stall)
        for _ in range(ticks):
            self.read_after(TICK)
        grace = min(stall - TICK, patience)
        expected = 1.0 + TICK + max(0.0, ticks * TICK - grace)
        self.assertClose(self.clock.now(), expected)

    @settings(max_examples=100)
    @given(st.lists(st.floats(LATE + 0.1, 100.0), min_size=1, max_size=30))
    def test_nothing_but_stalls(self, stalls):
        """A process that is stopped again and again ages every component by a tick each time."""
        self.begin()
        for stall in stalls:
            self.read_after(stall)
        self.assertClose(self.clock.now(), len(stalls) * TICK)
        self.assertClose(self.clock.now() + self.clock.deaf_seconds, sum(stalls))


class LongStallTests(ClockTestCase):
    """The time in which hbtd reads what was sent to it during a long stall."""

    def test_caught_up(self):
        """It begins with the first tick after ten seconds, and lasts for two."""
        self.begin(patience=30.0)
        self.listen(1.0)
        self.read_after(9.9)
        self.assertTrue(self.clock.caught_up_at < self.time)
        self.time += 9.9
        self.assertFalse(self.clock.stalled)
        self.time += 0.1
        self.assertTrue(self.clock.stalled)
        self.clock.tick()
        self.assertFalse(self.clock.stalled)
        self.assertClose(self.clock.caught_up_at, self.time + 2.0)

    def test_short_patience(self):
        """With a short `patience`, it ends well before the standstill does."""
        self.begin(patience=1.5)
        self.listen(1.0)
        before = self.read_after(1.5)
        self.assertClose(self.clock.caught_up_at, self.time + 0.5)
        self.assertClose(self.listen(1.4), before)

    def test_at_first(self):
        """What passes before the first tick is no stall: nothing is heard then."""
        self.begin(patience=30.0)
        self.read_after(1000.0)
        self.assertTrue(self.clock.caught_up_at < self.time)

    def test_deaf_from_the_beginning(self):
        """A stall counts even if the clock has never run."""
        self.begin(patience=30.0)
        self.clock.deafen(0.0)
        self.read_after(TICK)
        self.read_after(20.0)
        self.assertClose(self.clock.caught_up_at, self.time + 2.0)
