"""Dead components are started after enough heartbeats in time."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hbtd.tracker.records import Record
from hbtd.tracker.starting import Progress, Starting, StartRule
from hbtd.tracker.tracker import Tracker
from hbtd.tracker.transitions import Judgement, Phase, Transition

STARTED, WARNED, RESTARTED, DIED = Transition
W, E = 10.0, 30.0
NODE = "x0c0s0b0n0"


def record(at: float, heard: float, timestamp: str = "r") -> Record:
    """Return the record of a heartbeat that another replica took at `heard`, as of `at`."""
    return Record(NODE, at - heard, timestamp, "Up", False)


class CountTests(SynchronousTestCase):
    """The count by itself."""

    @given(
        st.integers(1, 6),
        st.lists(st.floats(0.0, 2 * W, width=16), max_size=40),
    )
    def test_counts_runs(self, needed: int, gaps: list[float]) -> None:
        """It is complete with each heartbeat that ends a run of so many, none late."""
        starting, at, run = Starting(lambda _: StartRule(needed, W)), 0.0, 0
        for gap in gaps:
            at += gap
            run = run + 1 if gap < W else 1
            self.assertEqual(starting.count(NODE, at, None), run >= needed)
            expected = None if needed == 1 else Progress(min(run, needed), needed)
            self.assertEqual(starting.progress(NODE, at), expected)
            if run >= needed:
                starting.drop(NODE)
                run = 0

    @given(
        st.lists(st.tuples(st.floats(0.0, 2 * W), st.integers(0, 20)), max_size=60),
    )
    def test_memory(self, beats: list[tuple[float, int]]) -> None:
        """Components that were not heard for Warntime take no memory once another is heard."""
        starting, at = Starting(lambda _: StartRule(100, W)), 0.0
        heard: dict[int, float] = {}
        for gap, number in beats:
            at += gap
            starting.count(f"x{number}", at, None)
            heard[number] = at
            self.assertEqual(len(starting), sum(at - each < W for each in heard.values()))

    def test_one_heartbeat(self) -> None:
        """Where one heartbeat is enough nothing is remembered, nor shown."""
        starting = Starting(lambda _: StartRule(1, W))
        self.assertTrue(starting.count(NODE, 0.0, None))
        self.assertEqual((len(starting), starting.progress(NODE, 0.0)), (0, None))
        self.assertEqual(starting.started(NODE), "heartbeat")

    def test_changed_rule(self) -> None:
        """A rule that is changed meanwhile holds for the heartbeats that were counted before."""
        rule = [StartRule(5, W)]
        starting = Starting(lambda _: rule[0])
        for at in (0.0, 1.0, 2.0):
            self.assertFalse(starting.count(NODE, at, None))
        rule[0] = StartRule(4, W)
        self.assertEqual(starting.progress(NODE, 2.0), Progress(3, 4))
        self.assertTrue(starting.count(NODE, 3.0, None))

    def test_another_replica(self) -> None:
        """Of one other replica a heartbeat counts once, although it may be written twice."""
        starting = Starting(lambda _: StartRule(4, W))
        for at, source, counted in (
            *((5.0, "replica 1", 1), (5.2, "replica 1", 1), (5.3, "replica 2", 2)),
            *((5.4, "replica 1", 3),),
        ):
            starting.count(NODE, at, source, elsewhere=True)
            self.assertEqual(starting.progress(NODE, 6.0), Progress(counted, 4))

    def test_arrives_late(self) -> None:
        """A heartbeat that arrives after a later one counts; one of a run before does not."""
        starting = Starting(lambda _: StartRule(3, W))
        starting.count(NODE, 20.0, None)
        self.assertFalse(starting.count(NODE, 9.0, "replica 1", elsewhere=True))
        self.assertEqual(starting.progress(NODE, 20.0), Progress(1, 3))
        self.assertFalse(starting.count(NODE, 18.0, "replica 1", elsewhere=True))
        self.assertEqual(starting.progress(NODE, 29.0), Progress(2, 3))
        self.assertEqual(starting.progress(NODE, 30.0), Progress(0, 3))

    def test_gap_behind_others(self) -> None:
        """A gap begins a count anew also while others were heard later, and counted before."""
        starting = Starting(lambda _: StartRule(2, W))
        starting.count("x0c0s0b0n1", 8.0, None)
        starting.count(NODE, 0.0, "replica 1", elsewhere=True)
        self.assertFalse(starting.count(NODE, W, None))
        self.assertTrue(starting.count(NODE, 2 * W - 0.1, None))

    def test_rule_of_each(self) -> None:
        """Each component has the rule of its own."""
        rules = {NODE: StartRule(2, W), "x1": StartRule(3, 2 * W)}
        starting = Starting(rules.__getitem__)
        for name in rules:
            starting.count(name, 0.0, None)
        self.assertFalse(starting.count(NODE, W, None))
        self.assertFalse(starting.count("x1", W, None))
        self.assertTrue(starting.count("x1", 2 * W, None))


class TrackerTests(SynchronousTestCase):
    """The tracker goes by the count."""

    def setUp(self) -> None:
        """Begin with a component that has died at 30 s."""
        self.beats = 3
        self.tracker = Tracker(
            note_changes=True, starting=Starting(lambda _: StartRule(self.beats, W))
        )
        self.beat(0.0)
        self.tracker.sweep(W, W, E, 10)
        self.tracker.sweep(E, W, E, 10)
        self.tracker.take_changed([NODE], 0.0)

    def beat(self, at: float, timestamp: str = "t") -> Judgement | None:
        """Let the component send a heartbeat."""
        return self.tracker.beat(NODE, at, timestamp, "OK")

    def test_started(self) -> None:
        """A dead component is started by the last of so many heartbeats, which it names."""
        self.assertIsNone(self.beat(40.0, "t1"))
        self.assertIsNone(self.beat(43.0, "t2"))
        self.assertEqual(self.tracker.phase(NODE), Phase.DEAD)
        self.assertFalse(self.tracker.heartbeating(NODE, 43.0, E))
        judgement = self.beat(46.0, "t3")
        self.assertEqual(judgement, Judgement(NODE, STARTED, "t3"))
        assert judgement is not None
        self.assertEqual((judgement.before, judgement.why), (Phase.DEAD, "3 heartbeats in time"))
        self.assertEqual(self.tracker.beats, 4)

    def test_gap(self) -> None:
        """After Warntime without a heartbeat the count begins anew."""
        self.beat(40.0)
        self.beat(43.0)
        self.assertIsNone(self.beat(53.0))
        self.assertEqual(self.tracker.starting(NODE, 53.0), Progress(1, 3))
        self.assertIsNone(self.beat(56.0))
        self.assertIsNotNone(self.beat(59.0))

    def test_not_delayed(self) -> None:
        """Those who are not tracked, or were forgotten, start, and the warned restart, at once."""
        untracked = self.tracker.beat("x0c0s0b0n1", 40.0, "t", "OK")
        self.assertEqual(untracked, Judgement("x0c0s0b0n1", STARTED, "t"))
        self.tracker.sweep(50.0, W, E, 10)
        warned = self.tracker.beat("x0c0s0b0n1", 50.0, "t", "OK")
        self.assertEqual(warned, Judgement("x0c0s0b0n1", RESTARTED, "t"))
        self.beat(50.0)
        self.tracker.forget(NODE)
        self.assertEqual(self.beat(51.0), Judgement(NODE, STARTED, "t"))

    def test_counts_from_death(self) -> None:
        """What was counted before does not count after the next death, or after forgetting."""
        for at in (40.0, 41.0, 42.0):
            self.beat(at)
        self.tracker.sweep(42.0 + 1, 0.5, 0.8, 10)
        self.assertEqual(self.tracker.phase(NODE), Phase.DEAD)
        self.assertEqual(self.tracker.starting(NODE, 43.0), Progress(0, 3))
        self.beat(43.0)
        self.tracker.forget(NODE)
        self.tracker.apply_death(NODE)
        self.assertEqual(self.tracker.starting(NODE, 43.0), Progress(0, 3))

    def test_shown_while_it_is_counted(self) -> None:
        """A dead component that is heard has the time and the words of its last heartbeat."""
        self.beat(40.0, "t1")
        component = self.tracker.component(NODE)
        assert component is not None
        self.assertEqual((component.last_heard, component.timestamp), (40.0, "t1"))
        self.assertIsNone(self.tracker.record(NODE, 40.0))

    def test_shared(self) -> None:
        """A heartbeat that does not start its component is a change, for other replicas."""
        self.tracker.tick(5.0)
        self.beat(40.0, "t1")
        taken = self.tracker.take_changed(self.tracker.changed(), 0.0)
        self.assertEqual(taken, {NODE: 5.0})
        self.assertEqual(self.tracker.records(taken, 41.0), [])
        expected = [Record(NODE, 1.0, "t1", "OK", False)]
        self.assertEqual(self.tracker.starting_records(taken, 41.0), expected)

    def test_heard_elsewhere(self) -> None:
        """Heartbeats that other replicas took count; only whoever leads starts by the last."""
        apply = self.tracker.apply_starting
        self.assertFalse(apply(record(41.0, 40.0), 41.0, "replica 1", starts=True))
        component = self.tracker.component(NODE)
        assert component is not None
        heard = (component.last_heard, component.timestamp, component.source)
        self.assertEqual(heard, (40.0, "r", "replica 1"))
        self.assertIsNone(self.beat(43.0))
        self.assertFalse(apply(record(46.0, 45.9), 46.0, "replica 1", starts=False))
        self.assertEqual(self.tracker.starting(NODE, 46.0), Progress(3, 3))
        self.assertEqual(self.tracker.phase(NODE), Phase.DEAD)
        self.assertTrue(apply(record(47.0, 46.9), 47.0, "replica 1", starts=True))
        self.assertIsNotNone(self.beat(48.0))

    def test_heard_elsewhere_of_others(self) -> None:
        """What another replica counts of a component that is not dead here changes nothing."""
        self.tracker.beat("x1", 40.0, "t", "OK")
        for name in ("x1", "x2"):
            each = Record(name, 0.0, "r", "Up", False)
            self.assertFalse(self.tracker.apply_starting(each, 41.0, "replica 1", starts=True))
        self.assertEqual(len(self.tracker), 2)
        component = self.tracker.component("x1")
        assert component is not None
        self.assertEqual((component.last_heard, component.timestamp), (40.0, "t"))

    def test_original(self) -> None:
        """A record of the component, as an original or the leader writes it, starts it at once."""
        self.beat(40.0)
        self.assertEqual(
            self.tracker.apply_beat(NODE, 41.0, "o", "OK"), Judgement(NODE, STARTED, "o")
        )

    def test_reads_late(self) -> None:
        """A heartbeat that may be old does not count."""
        self.tracker.tick(1.0, reads_late=True)
        self.beat(40.0)
        self.assertEqual(self.tracker.starting(NODE, 40.0), Progress(0, 3))

    def test_restored(self) -> None:
        """The count outlives reading all of a shared store again, as long as it says dead."""
        self.beat(40.0)
        self.tracker.keep_only([])
        self.tracker.restore([], [NODE], 41.0, W, E)
        self.assertEqual(self.tracker.starting(NODE, 41.0), Progress(1, 3))
        self.tracker.keep_only([])
        self.tracker.restore([Record(NODE, 0.0, "t", "OK", False)], [], 42.0, W, E)
        self.tracker.apply_death(NODE)
        self.assertEqual(self.tracker.starting(NODE, 42.0), Progress(0, 3))

    @given(
        st.integers(1, 4),
        st.lists(st.floats(0.5, 3 * W, width=16), min_size=1, max_size=40),
    )
    def test_lives_at_last(self, beats: int, gaps: list[float]) -> None:
        """Whatever came before, so many heartbeats in time start a component, and fewer none."""
        self.setUp()
        self.beats, at, run = beats, E, 0
        for gap in [*gaps, *[1.0] * beats]:
            at += gap
            self.tracker.sweep(at, W, E, 10)
            dead = self.tracker.phase(NODE) is Phase.DEAD
            run = run + 1 if gap < W else 1
            started = self.beat(at)
            self.assertEqual(
                started is not None and started.transition is STARTED, dead and run >= beats
            )
            if not dead:
                run = 0
        self.assertEqual(self.tracker.phase(NODE), Phase.HEALTHY)
