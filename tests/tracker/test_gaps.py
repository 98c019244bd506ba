"""What the observed clock tells of the time that it has not counted."""

from math import inf

from hypothesis import given
from hypothesis import strategies as st

from hbtd.tracker.gaps import GapKind
from hbtd.tracker.observed import TICK
from tests.support.observed_memory import EPSILON, ClockTestCase


class GapsTests(ClockTestCase):
    """The list of gaps."""

    def assertGaps(self, *expected: tuple[float, float, GapKind, str]) -> None:
        """Check beginnings, lengths, kinds and causes."""
        found = [(round(gap.at - 1e9, 3), round(gap.seconds, 3)) for gap in self.clock.gaps()]
        self.assertEqual(found, [(1000.0 + at, seconds) for at, seconds, _, _ in expected])
        what = [(gap.kind, gap.cause) for gap in self.clock.gaps()]
        self.assertEqual(what, [(kind, cause) for _, _, kind, cause in expected])

    def test_none(self) -> None:
        """While ticks are in time, there are none."""
        self.listen(5.0)
        self.assertGaps()

    def test_stall(self) -> None:
        """A stop of the process is a gap, and the standstill after it another one."""
        self.listen(5.0)
        self.read_after(4.0)
        self.listen(10.0)
        again = "components may have to connect again"
        self.assertGaps(
            (5.1, 3.9, GapKind.STALL, "hbtd did not run"),
            (9.0, 3.9, GapKind.STANDSTILL, again),
        )

    def test_busy(self) -> None:
        """If hbtd was busy meanwhile, the gap says so."""
        self.listen(1.0)
        self.work(4.0)
        self.assertEqual(self.clock.gaps()[0].cause, "hbtd was busy")

    def test_deafen(self) -> None:
        """Deafness among replicas is one gap until it ends, with its cause."""
        self.listen(1.0)
        self.clock.deafen(0.0, "etcd was silent")
        self.listen(2.0)
        self.assertGaps((1.0, 2.0, GapKind.DEAFEN, "etcd was silent"))
        self.clock.hear(patiently=False)
        self.listen(1.0)
        self.clock.deafen(0.0, "again")
        self.listen(1.0)
        self.assertEqual([gap.cause for gap in self.clock.gaps()], ["etcd was silent", "again"])

    def test_last_hundred(self) -> None:
        """Only the last hundred are kept."""
        for _ in range(70):
            self.read_after(1.0)
            self.listen(3.0)
        self.assertEqual(len(self.clock.gaps()), 100)
        self.assertGreater(self.clock.gaps()[0].at, 1e9 + 1000.0 + 40.0)


class SecondsAgoTests(ClockTestCase):
    """How long ago an observed time was."""

    def test_through_gaps(self) -> None:
        """Time that was not counted is part of it, also while the clock stands still."""
        self.listen(5.0)
        at = self.clock.now()
        self.assertClose(self.clock.seconds_ago(at), 0.0)
        self.time += 7.0
        self.assertClose(self.clock.seconds_ago(at), 7.0)
        self.clock.tick()
        self.assertClose(self.clock.seconds_ago(at), 7.0)
        self.listen(3.0)
        self.assertClose(self.clock.seconds_ago(at), 10.0)
        self.clock.deafen(0.0)
        self.listen(2.0)
        self.assertClose(self.clock.seconds_ago(at), 12.0)

    def test_after_a_gap(self) -> None:
        """A time after a gap is as long ago as it seems."""
        self.read_after(3.0)
        self.assertClose(self.clock.seconds_ago(self.clock.now()), 0.0)
        self.listen(5.0)
        at = self.clock.now()
        self.listen(2.0)
        self.assertClose(self.clock.seconds_ago(at), 2.0)

    def test_end_within_a_tick(self) -> None:
        """What was counted after a standstill, in its last tick, is as long ago as it seems."""
        self.listen(5.0)
        self.read_after(4.05)  # after which it stands still for 3.95 s
        self.listen(4.0)
        self.assertClose(self.clock.seconds_ago(self.clock.now() - 0.03), 0.03)
        self.assertClose(self.clock.seconds_ago(self.clock.now() - 0.06), 7.96)

    def test_shown(self) -> None:
        """What the clock has shown some seconds ago is found through gaps, and before them all."""
        self.listen(5.0)
        self.read_after(4.0)
        self.listen(10.0)
        now = self.clock.now()
        for ago, before in ((0.0, 0.0), (2.0, 2.0), (8.0, 6.1), (13.5, 6.1), (15.0, 7.2)):
            self.assertClose(self.clock.shown(ago), now - before)
        self.assertClose(self.clock.shown(100.0), now - 92.2)
        self.assertClose(self.clock.seconds_ago(self.clock.shown(15.0)), 15.0)
        self.time += 3.0
        self.assertClose(self.clock.seconds_ago(self.clock.shown(18.0)), 18.0)

    def test_never(self) -> None:
        """A heartbeat whose time is not known was infinitely long ago."""
        self.assertEqual(self.clock.seconds_ago(-inf), inf)

    @given(st.lists(st.tuples(st.sampled_from("tsdh"), st.floats(0.0, 20.0)), max_size=40))
    def test_any(self, events: list[tuple[str, float]]) -> None:
        """It is exact for times at which the clock ran, whatever stops it later."""
        self.begin()
        self.listen(1.0)
        moments = [(self.clock.now(), self.time)]
        for what, seconds in events:
            if what == "t":
                self.listen(seconds)
                if self.read_after(TICK) - moments[-1][0] > TICK + EPSILON:
                    before = self.clock.now()
                    if self.read_after(TICK) > before + TICK - EPSILON:
                        moments.append((self.clock.now(), self.time))
            elif what == "s":
                self.read_after(seconds)
            elif what == "d":
                self.clock.deafen(0.0)
            else:
                self.clock.hear(patiently=True)
            if len(self.clock.gaps()) < 100:
                for observed, time in moments:
                    # A gap may have begun within the tick after that moment.
                    ago = self.clock.seconds_ago(observed - EPSILON)
                    self.assertApproximates(ago, self.time - time, 2 * EPSILON)
