"""The tracker with several replicas: it applies what others have heard and judged."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hbtd.tracker.records import Record
from hbtd.tracker.tracker import Tracker
from hbtd.tracker.transitions import Judgement, Transition

STARTED, WARNED, RESTARTED, DIED = Transition
NAMES = ["x0", "x1", "x2", "x3"]
W, E = 10.0, 30.0


def record(name: str, age: float = 0.0, *, warned: bool = False) -> Record:
    """Return a record."""
    return Record(name, age, "t", "OK", warned)


class TakingUpTests(SynchronousTestCase):
    """Single events."""

    def setUp(self):
        """Begin with two healthy components, of which x1 was heard here last."""
        self.tracker = Tracker(note_changes=True)
        self.tracker.apply_beat("x0", 0.0, "t", "OK")
        self.tracker.beat("x1", 1.0, "t", "OK")

    def sweep(self, at: float) -> list[Judgement]:
        """Judge."""
        return self.tracker.sweep(at, W, E, 100)

    def test_heard(self):
        """A heartbeat that another replica took counts, but is not stored again, nor counted."""
        self.assertEqual(set(self.tracker.changed_since(0.0)), {"x1"})
        self.assertEqual(self.tracker.beats, 1)
        self.assertIsNone(self.tracker.apply_beat("x0", 5.0, "t2", "OK"))
        self.assertEqual(
            self.tracker.apply_beat("x2", 5.0, "t" * 300, "OK"), Judgement("x2", STARTED, "t" * 256)
        )
        self.assertEqual(self.sweep(14.9), [Judgement("x1", WARNED, "t")])
        self.assertEqual(
            self.tracker.apply_beat("x1", 15.0, "u", "OK"), Judgement("x1", RESTARTED, "u")
        )

    def test_read_late(self):
        """A heartbeat that may be old does not revive anybody; a healthy component is heard."""
        self.tracker.beat("x2", 1.0, "t", "OK")
        self.tracker.apply_death("x0")
        self.tracker.apply_warning(record("x1", 1.0, warned=True), 2.0, W, E)
        self.tracker.tick(2.0, reads_late=True)
        for name in ("x0", "x1", "x2"):
            self.assertIsNone(self.tracker.beat(name, 3.0, "late", "OK"))
        self.assertEqual(self.tracker.beat("x3", 3.0, "t", "OK"), Judgement("x3", STARTED, "t"))
        self.assertEqual(set(self.tracker.changed_since(0.0)), {"x2", "x3"})
        self.assertEqual(self.sweep(12.5), [])
        self.tracker.tick(12.6)
        self.assertEqual(self.tracker.beat("x0", 12.7, "u", "OK"), Judgement("x0", STARTED, "u"))
        self.assertEqual(self.tracker.beat("x1", 12.8, "u", "OK"), Judgement("x1", RESTARTED, "u"))

    def test_apply_warning(self):
        """A component that another replica warned about is not warned about again, but dies."""
        self.tracker.apply_warning(record("x0", 12.0, warned=True), 12.0, W, E)
        self.assertEqual((self.tracker.healthy, self.tracker.warned), (1, 1))
        self.assertEqual(self.sweep(29.9), [Judgement("x1", WARNED, "t")])
        self.assertEqual(self.sweep(30.0), [Judgement("x0", DIED, "t")])

    def test_apply_warning_names_the_last_heartbeat(self):
        """A death names no earlier heartbeat than the warning of another replica before it."""
        for timestamp in ("t8", "t9"):
            told = Record("x0", 12.0, timestamp, "Up", True)
            self.tracker.apply_warning(told, 12.0, W, E)
            self.assertEqual(self.tracker.record("x0", 12.0), told)
        self.assertEqual(self.sweep(30.0)[0], Judgement("x0", DIED, "t9"))

    def test_apply_warning_of_the_unknown(self):
        """A warning about an unknown or dead component revives it, as old as after a restart."""
        self.tracker.apply_death("x0")
        for name, age in (("x0", 100.0), ("x2", 12.0), ("x3", -5.0)):
            self.tracker.apply_warning(record(name, age, warned=True), 50.0, W, E)
            self.assertTrue(self.tracker.heartbeating(name, 50.0, E))
        self.assertEqual((self.tracker.warned, self.tracker.dead), (3, 0))
        silent = {each: self.tracker.record(each, 50.0) for each in ("x0", "x2", "x3")}
        ages = {name: found.age for name, found in silent.items() if found is not None}
        self.assertEqual(ages, {"x0": 20.0, "x2": 12.0, "x3": 0.0})
        self.tracker.apply_warning(record("x2", 1.0, warned=True), 51.0, W, E)
        self.assertEqual(self.tracker.record("x2", 51.0), silent["x2"]._replace(age=13.0))  # type: ignore[union-attr]  # it is known

    def test_apply_gap(self):
        """A warning after a gap begins the silence of a component anew, whatever its state was."""
        self.tracker.apply_death("x2")
        for name in ("x0", "x1", "x2", "x3"):
            self.tracker.apply_gap(record(name, 25.0, warned=True), 20.0)
        self.assertEqual((self.tracker.healthy, self.tracker.warned, self.tracker.dead), (0, 4, 0))
        self.assertEqual(self.tracker.changed_since(0.0), {})
        self.assertEqual(self.sweep(49.9), [])
        self.assertEqual({each.transition for each in self.sweep(50.0)}, {DIED})

    def test_died(self):
        """A component declared dead by another replica is dead, and starts when it is heard."""
        self.tracker.apply_death("x1")
        self.tracker.apply_death("x9")
        self.assertEqual(self.tracker.dead, 2)
        self.assertEqual(self.tracker.changed_since(0.0), {})
        self.assertEqual(self.sweep(1000.0), [Judgement("x0", DIED, "t")])
        self.assertEqual(
            self.tracker.apply_beat("x1", 2.0, "t", "OK"), Judgement("x1", STARTED, "t")
        )

    def test_keep_only(self):
        """Only healthy components among those to keep are left; the others can be restored."""
        self.tracker.beat("x2", 2.0, "t", "OK")
        self.sweep(11.5)  # warns about x0 and x1
        self.tracker.keep_only({"x1", "x2", "x3"})
        self.assertEqual(list(self.tracker.living()), ["x2"])
        self.assertEqual(set(self.tracker.changed_since(0.0)), {"x2"})
        self.tracker.restore([record("x0", 5.0), record("x2", 9.0)], ["x1", "x2"], 20.0, W, E)
        self.assertEqual(self.tracker.dead, 1)
        self.assertEqual(self.sweep(20.0), [Judgement("x2", WARNED, "t")])

    def test_sort_queues(self):
        """The longest silent components come first, in whatever order their events were applied."""
        self.tracker.apply_warning(record("x1", 12.0, warned=True), 12.0, W, E)
        self.tracker.apply_warning(record("x0", 12.0, warned=True), 12.0, W, E)
        self.tracker.sort_queues()
        self.assertEqual([each.component for each in self.sweep(31.0)], ["x0", "x1"])


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(
            ["beat", "heard", "warned", "gap", "died", "forget", "restore", "over", "sweep"]
        ),
        st.sampled_from(NAMES),
        st.floats(0, 15),
    ),
    max_size=40,
)


class AnyStoryTests(SynchronousTestCase):
    """Events in any order."""

    @given(OPERATIONS)
    def test_consistent(self, operations):
        """Each component is in one state, and once sorted, all overdue components are found."""
        tracker = Tracker(note_changes=True)
        at = 0.0
        for what, name, wait in operations:
            at += wait
            if what == "beat":
                tracker.beat(name, at, "t", "OK")
            elif what == "heard":
                tracker.apply_beat(name, at, "t", "OK")
            elif what == "warned":
                tracker.apply_warning(record(name, wait, warned=True), at, W, E)
            elif what == "gap":
                tracker.apply_gap(record(name, warned=True), at)
            elif what == "died":
                tracker.apply_death(name)
            elif what == "forget":
                tracker.forget(name)
            elif what == "restore":
                tracker.restore([record(name, wait)], NAMES[:1], at, W, E)
            elif what == "over":
                tracker.keep_only([name])
            else:
                tracker.sort_queues()
                tracker.sweep(at, W, E, 100)
                for each in NAMES:
                    found = tracker.record(each, at)
                    if found is not None:
                        self.assertLess(found.age, E)
                        self.assertTrue(found.warned or found.age < W)
            living = list(tracker.living())
            self.assertEqual(len(living), len(set(living)))
            self.assertEqual(len(living), tracker.healthy + tracker.warned)
            known = [each for each in NAMES if each in tracker]
            self.assertEqual(len(known), len(living) + tracker.dead)
            self.assertLessEqual(set(tracker.changed_since(0.0)), set(NAMES))


class BlocksTests(SynchronousTestCase):
    """Heartbeats of which other replicas tell only how old they are."""

    def setUp(self) -> None:
        """Begin with a healthy component, a warned and a dead one."""
        self.tracker = Tracker()
        for name, at in (("x0", 20.0), ("x1", 5.0), ("x2", -20.0)):
            self.tracker.apply_beat(name, at, "t", "OK", "replica 1")
        self.tracker.sort_queues()
        made = self.tracker.sweep(20.0, W, E, 100)
        self.assertEqual(made, [Judgement("x2", DIED, "t"), Judgement("x1", WARNED, "t")])

    def silent_since(self, name: str) -> float:
        """Return when a living component was last heard."""
        found = self.tracker.record(name, 100.0)
        assert found is not None
        return 100.0 - found.age

    def test_newer(self) -> None:
        """A newer heartbeat counts from when it was taken; what was sent before remains."""
        self.assertIsNone(self.tracker.apply_heard("x0", 23.5, "replica 2"))
        self.assertEqual(self.tracker.record("x0", 24.0), Record("x0", 0.5, "t", "OK", False))

    def test_older(self) -> None:
        """A heartbeat that is older than the last one known changes nothing."""
        for at in (20.0, 19.0, -100.0):
            self.assertIsNone(self.tracker.apply_heard("x0", at, "replica 2", ("u", "BAD")))
        self.assertEqual(self.tracker.record("x0", 20.0), Record("x0", 0.0, "t", "OK", False))
        self.assertIsNone(self.tracker.apply_heard("x1", 5.0, "replica 2"))
        self.assertEqual((self.tracker.healthy, self.tracker.warned, self.tracker.dead), (1, 1, 1))

    def test_seems_older(self) -> None:
        """What a replica sends later is newer, although this one's observed clock has stood."""
        self.tracker.restore([record("x3")], (), 20.0, W, E)
        for name, source in (("x0", "replica 1"), ("x3", "replica 2")):
            self.assertIsNone(self.tracker.apply_heard(name, 19.5, source, ("u" * 300, "Up")))
            newest = Record(name, 0.0, "u" * 256, "Up", False)
            self.assertEqual(self.tracker.record(name, 20.0), newest)

    def test_back_after_a_warning(self) -> None:
        """A newer heartbeat of a component that was warned about has restarted it."""
        self.assertEqual(
            self.tracker.apply_heard("x1", 19.5, "replica 2"), Judgement("x1", RESTARTED, "t")
        )
        self.assertEqual(self.silent_since("x1"), 19.5)

    def test_not_alive(self) -> None:
        """Dead and forgotten components stay so, unless a record comes with the heartbeat."""
        self.tracker.forget("x0")
        for name in ("x0", "x2", "x3"):
            self.assertIsNone(self.tracker.apply_heard(name, 25.0, "replica 2"))
            self.assertIsNone(self.tracker.record(name, 25.0))
        for name in ("x0", "x2", "x3"):
            started = self.tracker.apply_heard(name, 25.0, "replica 2", ("u", "OK"))
            self.assertEqual(started, Judgement(name, STARTED, "u"))
            self.assertEqual(self.silent_since(name), 25.0)

    def test_what_was_sent(self) -> None:
        """What was sent is put right by the replica from which the component was last heard."""
        sent = Record("x0", 0.0, "u" * 300, "Up", False)
        self.assertTrue(self.tracker.apply_sent(sent, "replica 2"))
        self.assertEqual(self.tracker.record("x0", 20.0), Record("x0", 0.0, "t", "OK", False))
        self.assertTrue(self.tracker.apply_sent(sent, "replica 1"))
        self.assertEqual(self.tracker.record("x0", 20.0), Record("x0", 0.0, "u" * 256, "Up", False))
        self.assertFalse(self.tracker.apply_sent(record("x2"), "replica 1"))
        self.assertFalse(self.tracker.apply_sent(record("x3"), "replica 1"))

    def test_what_was_sent_before_this_replica_started(self) -> None:
        """What was sent is put right for a component that was not heard since the start."""
        self.tracker.restore([record("x3")], (), 20.0, W, E)
        self.assertTrue(self.tracker.apply_sent(Record("x3", 0.0, "u", "Up", False), "replica 9"))
        self.assertEqual(self.tracker.record("x3", 20.0), Record("x3", 0.0, "u", "Up", False))

    @given(st.lists(st.tuples(st.sampled_from(NAMES), st.floats(0, 3), st.floats(0, 2.5))))
    def test_judged_no_later(self, story: list[tuple[str, float, float]]) -> None:
        """By ages, nobody is judged before `errtime` of silence, nor later than by arrivals."""
        tracker = Tracker()
        now = 0.0
        last: dict[str, tuple[float, float]] = {}
        for name in NAMES:
            tracker.apply_beat(name, 0.0, "t", "OK")
            last[name] = (0.0, 0.0)

        def sweep() -> None:
            judged = {each.component for each in tracker.sweep(now, E, E, 100)}
            for name in judged:
                heard, _ = last.pop(name)
                self.assertGreaterEqual(now - heard, E - 1e-6)
            for _, arrived in last.values():
                self.assertLess(now - arrived, E)

        for name, pause, age in story:
            now += pause
            sweep()
            if name in last:
                heard = max(last[name][0], now - age)
                last[name] = (heard, now if heard == now - age else last[name][1])
                tracker.apply_heard(name, now - age, "replica 1")
        for _ in range(40):
            now += 1
            sweep()
        self.assertEqual(last, {})
