"""What the tracker knows of a component besides its state: names, and the periods of heartbeats."""

from math import isfinite

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hbtd.tracker.components import Component
from hbtd.tracker.records import Identity, Record
from hbtd.tracker.tracker import Tracker

A = "x1000c0s0b0n0"


class Facts(SynchronousTestCase):
    """What the tests stand on: a tracker."""

    def setUp(self) -> None:
        """Begin without components."""
        self.tracker = Tracker(note_changes=True)

    def beat(self, *at: float, hostname: str = "nid000001", nid: str = "1") -> None:
        """Let the component beat at some times."""
        for each in at:
            self.tracker.beat(A, each, "t", "OK", None, False, hostname, nid)

    @property
    def component(self) -> Component:
        """The component."""
        component = self.tracker.component(A)
        assert component is not None
        return component


class NameTests(Facts):
    """Host names and NIDs."""

    def names(self) -> tuple[str, str]:
        """Return the host name and the NID of the component."""
        return self.component.hostname, self.component.nid

    def test_last_sent(self) -> None:
        """They are those that were last sent; a heartbeat without any leaves them."""
        self.beat(0.0)
        self.assertEqual(self.names(), ("nid000001", "1"))
        self.beat(3.0, 6.0, 9.0, 12.0, 15.0, hostname="new\nname")
        self.assertEqual(self.names(), ("new\nname", "1"))
        self.beat(18.0, 30.0, hostname="new\nname", nid="2")
        self.beat(45.0, hostname="", nid="")
        self.assertEqual(self.names(), ("new\nname", "2"))

    def test_none(self) -> None:
        """A component that has sent none has none, and nothing to be stored."""
        self.beat(0.0, 1.0, hostname="", nid="")
        self.assertEqual(self.names(), ("", ""))
        self.assertIsNone(self.tracker.identity(A))
        self.assertEqual(self.tracker.take_renamed(9), [])

    def test_long(self) -> None:
        """They are cut off, and then noted as changed only once."""
        self.beat(0.0, hostname="h" * 300, nid="0" * 300)
        self.assertEqual(self.names(), ("h" * 256, "0" * 256))
        self.assertEqual(len(self.tracker.take_renamed(9)), 1)
        self.beat(15.0, hostname="h" * 300, nid="0" * 300)
        self.assertEqual(self.tracker.take_renamed(9), [])

    def test_through_death(self) -> None:
        """They are kept when the component dies, and when it starts without sending any."""
        self.beat(0.0)
        self.tracker.sweep(100.0, 10.0, 30.0, 9)
        self.assertEqual(self.names(), ("nid000001", "1"))
        self.beat(101.0, hostname="", nid="")
        self.assertEqual(self.names(), ("nid000001", "1"))

    def test_applied(self) -> None:
        """What other replicas tell of heartbeats changes no names, and what they store does."""
        self.beat(0.0)
        self.tracker.take_renamed(9)
        self.tracker.apply_beat(A, 1.0, "t", "OK", "replica 2")
        self.tracker.apply_heard(A, 2.0, "replica 2")
        self.tracker.apply_gap(Record(A, 0.0, "t", "OK", True), 3.0)
        self.assertEqual(self.names(), ("nid000001", "1"))
        self.tracker.apply_identity(Identity(A, "elsewhere", "9"))
        self.assertEqual(self.names(), ("elsewhere", "9"))
        self.assertEqual(self.tracker.take_renamed(9), [])
        self.tracker.apply_identity(Identity("x1", "nobody", "9"))
        self.assertNotIn("x1", self.tracker)

    def test_newer_here(self) -> None:
        """Names that were sent here are not replaced by stored ones until they are stored."""
        self.beat(0.0)
        self.tracker.apply_identity(Identity(A, "old", "9"))
        self.assertEqual(self.names(), ("nid000001", "1"))
        taken = self.tracker.take_renamed(9)
        self.assertEqual(taken, [Identity(A, "nid000001", "1")])
        self.tracker.put_back_renamed(taken)
        self.tracker.apply_identity(Identity(A, "old", "9"))
        self.assertEqual(self.tracker.take_renamed(9), taken)

    def test_forgotten(self) -> None:
        """Names of a forgotten component are not stored, not even if that failed before."""
        self.beat(0.0)
        taken = self.tracker.take_renamed(9)
        self.tracker.forget(A)
        self.tracker.put_back_renamed(taken)
        self.assertEqual(self.tracker.take_renamed(9), [])
        self.beat(1.0)
        self.tracker.forget(A)
        self.tracker.apply_beat(A, 2.0, "t", "OK", "replica 2")
        self.tracker.apply_identity(Identity(A, "elsewhere", "9"))
        self.assertEqual(self.names(), ("elsewhere", "9"))
        self.assertEqual(self.tracker.take_renamed(9), [])

    def test_all(self) -> None:
        """All names can be noted for storing again, and be taken in portions."""
        self.beat(0.0)
        for number in range(3):
            self.tracker.beat(f"x{number}", 0.0, "t", "OK", None, False, "h", "7")
        self.tracker.take_renamed(9)
        self.tracker.apply_death("x2")
        self.tracker.mark_all_renamed()
        self.assertEqual([len(self.tracker.take_renamed(3)) for _ in range(3)], [3, 1, 0])


class PhaseTests(Facts):
    """Since when a component is in its phase, and when HSM was told of that."""

    def assertUnknown(self) -> None:
        """Check that neither is known, and let both become known."""
        self.assertEqual((self.component.since, self.component.told), (0.0, 0.0))
        phase = self.tracker.phase(A)
        self.tracker.note_judged(A, phase, 1000.0, None)
        self.tracker.note_told(A, phase, 1001.0)
        self.assertEqual((self.component.since, self.component.told), (1000.0, 1001.0))

    def test_judged_here(self) -> None:
        """In a new phase neither is known until the log tells it."""
        self.beat(0.0)
        self.assertUnknown()
        self.beat(1.0)
        self.assertEqual(self.component.since, 1000.0)
        self.tracker.sweep(11.5, 10.0, 30.0, 9)
        self.assertUnknown()
        self.beat(12.0)
        self.assertUnknown()
        self.tracker.sweep(100.0, 10.0, 30.0, 9)
        self.assertUnknown()
        self.beat(101.0)
        self.assertUnknown()

    def test_judged_elsewhere(self) -> None:
        """So it is if another replica judges; what it repeats changes nothing."""
        record = Record(A, 11.0, "t", "OK", True)
        self.beat(0.0)
        self.assertUnknown()
        self.tracker.apply_warning(record, 11.0, 10.0, 30.0)
        self.assertUnknown()
        self.tracker.apply_gap(record, 12.0)
        self.assertEqual(self.component.since, 1000.0)
        self.tracker.apply_death(A)
        self.assertUnknown()
        self.tracker.apply_death(A)
        self.assertEqual(self.component.since, 1000.0)
        self.tracker.apply_warning(record, 40.0, 10.0, 30.0)
        self.assertUnknown()
        self.beat(41.0)
        self.tracker.note_judged(A, self.tracker.phase(A), 1000.0, None)
        self.tracker.apply_gap(record, 50.0)
        self.assertUnknown()


class PeriodTests(Facts):
    """The mean period, the deviation from it, and the longest period."""

    def test_regular(self) -> None:
        """Of regular heartbeats the mean is the period, without a deviation."""
        self.beat(5.0)
        self.assertLessEqual(self.component.mean, 0.0)
        self.beat(8.0, 11.0, 14.0)
        self.assertEqual((self.component.mean, self.component.deviation), (3.0, 0.0))
        self.assertEqual(self.component.longest, 3.0)

    def test_estimates(self) -> None:
        """The latest periods weigh an eighth in the mean, and a quarter in the deviation."""
        self.beat(0.0, 4.0, 16.0)
        self.assertEqual((self.component.mean, self.component.deviation), (5.0, 2.0))
        self.beat(30.0)
        self.assertEqual((self.component.mean, self.component.deviation), (6.125, 3.75))
        self.assertEqual(self.component.longest, 14.0)

    def test_sampled(self) -> None:
        """One period in 15 seconds counts for the estimates, and each for the longest."""
        self.beat(0.0, 3.0, 6.0, 14.0)
        self.assertEqual((self.component.mean, self.component.deviation), (3.0, 0.0))
        self.assertEqual(self.component.longest, 8.0)
        self.beat(16.0, 17.0, 18.0)
        self.assertEqual((self.component.mean, self.component.deviation), (2.875, 0.25))

    def test_new_connection(self) -> None:
        """The names and the period of a heartbeat on a new connection count."""
        self.beat(0.0, 3.0)
        self.tracker.beat(A, 10.0, "t", "OK", None, True, "new", "2")
        self.assertEqual((self.component.hostname, self.component.mean), ("new", 3.5))

    def test_names_after_a_warning(self) -> None:
        """A component that comes back after a warning has the names that it sends then."""
        self.beat(0.0, 1.0)
        self.tracker.sweep(11.5, 10.0, 30.0, 9)
        self.beat(11.9, hostname="new")
        self.assertEqual(self.component.hostname, "new")

    def test_longest(self) -> None:
        """The longest period is rounded up to tenths, up to six minutes."""
        self.beat(0.0, 1.01, 2.0)
        self.assertEqual(self.component.longest, 1.1)
        self.beat(1002.015)
        self.assertEqual(self.component.longest, 1000.015)
        for period, longest in ((359.95, 360.0), (360.05, 360.05)):
            self.setUp()
            self.beat(0.0, 1.0, 1.0 + period)
            self.assertAlmostEqual(self.component.longest, longest)

    def test_started(self) -> None:
        """They begin anew when the component starts, without the time of its death."""
        self.beat(0.0, 3.0)
        self.tracker.sweep(100.0, 10.0, 30.0, 9)
        self.beat(101.0)
        self.assertLessEqual(self.component.mean, 0.0)
        self.assertEqual(self.component.longest, 0.0)
        self.beat(105.0)
        self.assertEqual((self.component.mean, self.component.longest), (4.0, 4.0))

    def test_restarted(self) -> None:
        """A silence that ended with a warning counts."""
        self.beat(0.0, 3.0)
        self.tracker.sweep(15.0, 10.0, 30.0, 9)
        self.beat(19.0)
        self.assertEqual(self.component.longest, 16.0)

    def test_restored(self) -> None:
        """The time between a stored heartbeat and the first one after hbtd's start is no period."""
        self.tracker.restore([Record(A, 2.0, "t", "OK", False)], ["x1"], 100.0, 10.0, 30.0)
        self.beat(105.0)
        self.tracker.beat("x1", 105.0, "t", "OK")
        self.assertLessEqual(self.component.mean, 0.0)
        self.beat(108.0)
        self.assertEqual((self.component.mean, self.component.longest), (3.0, 3.0))
        dead = self.tracker.component("x1")
        assert dead is not None
        self.assertTrue(isfinite(dead.mean))

    @given(st.lists(st.floats(0.0, 500.0), min_size=2, max_size=30))
    def test_bounds(self, periods: list[float]) -> None:
        """The mean lies between the shortest and the longest period, and nothing is negative."""
        self.setUp()
        at = 0.0
        self.beat(at)
        for period in periods:
            at += period
            self.beat(at)
        component = self.component
        slack = 1e-6
        self.assertGreaterEqual(component.mean, min(periods) - slack)
        self.assertLessEqual(component.mean, max(periods) + slack)
        self.assertGreaterEqual(component.deviation, 0.0)
        self.assertGreaterEqual(component.longest, max(periods) - slack)
        self.assertLessEqual(component.longest, max(periods) + 0.1 + slack)
