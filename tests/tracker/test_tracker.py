"""The tracker: which components are healthy, warned about or dead, and the judgements between."""

from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from twisted.trial.unittest import SynchronousTestCase

from hbtd.tracker.components import Unheard
from hbtd.tracker.records import Record
from hbtd.tracker.tracker import Tracker, TrackerFull
from hbtd.tracker.transitions import Judgement, Phase, Transition

STARTED, WARNED, RESTARTED, DIED = Transition
NAMES = [f"x1c0s{slot}b0n0" for slot in range(6)]
NO_LIMIT = 1_000_000


class Known(NamedTuple):
    """What the model knows of a component."""

    heard: float
    turn: int
    timestamp: str
    state: str
    source: str | None
    fresh: bool


class Model:
    """The rules once more, as plainly as possible: every sweep looks at every component."""

    def __init__(self) -> None:
        self.components: dict[str, Known] = {}
        self.turn = 0

    def beat(
        self, xname: str, at: float, timestamp: str, source: str | None, fresh: bool
    ) -> Judgement | None:
        """Take a heartbeat."""
        known = self.components.get(xname)
        self.turn += 1
        self.components[xname] = Known(at, self.turn, timestamp, "healthy", source, fresh)
        if known is None or known.state == "dead":
            return Judgement(xname, STARTED, timestamp)
        if known.state == "warned":
            return Judgement(xname, RESTARTED, timestamp)
        return None

    def sweep(
        self,
        at: float,
        warntime: int,
        errtime: int,
        limit: int,
        waiting: set[str | None],
        *,
        fresh: bool,
    ) -> list[Judgement]:
        """Judge all components, the longest silent first."""
        judgements: list[Judgement] = []
        for xname, known in sorted(self.components.items(), key=_order):
            silent = at - known.heard - self._patience(known, errtime, waiting, fresh=fresh)
            if known.state == "dead" or len(judgements) == limit:
                continue
            if silent >= errtime:
                transition, state = DIED, "dead"
            elif silent >= warntime and known.state == "healthy":
                transition, state = WARNED, "warned"
            else:
                continue
            self.components[xname] = known._replace(state=state)
            judgements.append(Judgement(xname, transition, known.timestamp))
        return judgements

    def _patience(
        self, known: Known, errtime: int, waiting: set[str | None], *, fresh: bool
    ) -> int:
        return errtime if known.source in waiting or (fresh and known.fresh) else 0

    def count(self, state: str) -> int:
        """Count the components in a state."""
        return sum(known.state == state for known in self.components.values())


def _order(item: tuple[str, Known]) -> tuple[bool, int]:
    """Return by what components are put in order: those warned about first."""
    _, known = item
    return known.state != "warned", known.turn


class TrackerMachine(RuleBasedStateMachine):
    """Calls a tracker and the model alike, and compares what they return."""

    def __init__(self) -> None:
        super().__init__()
        self.tracker = Tracker()
        self.model = Model()
        self.at = 0.0
        self.beats = 0
        self.warntime = 3
        self.errtime = 6
        self.warned_since_beat: set[str] = set()

    @rule(seconds=st.integers(1, 5))
    def wait(self, seconds):
        """Let time pass."""
        self.at += seconds

    @rule(
        xname=st.sampled_from(NAMES),
        status=st.sampled_from(["up", "down"]),
        source=st.sampled_from([None, "a", "b"]),
        fresh=st.booleans(),
    )
    def beat(self, xname, status, source, fresh):
        """Send a heartbeat."""
        self.beats += 1
        self.at += 2**-20  # no two at once: the order would be open
        judgement = self.tracker.beat(xname, self.at, f"t{self.beats}", status, source, fresh)
        assert judgement == self.model.beat(xname, self.at, f"t{self.beats}", source, fresh)
        self.warned_since_beat.discard(xname)

    @rule(
        limit=st.sampled_from([1, 2, 3, NO_LIMIT]),
        waiting=st.sampled_from([set(), {"a"}, {"a", "b"}, {None}]),
        fresh=st.booleans(),
    )
    def sweep(self, limit, waiting, fresh):
        """Sweep, perhaps not to the end, while some addresses are waiting."""
        times = self.at, self.warntime, self.errtime, limit
        judgements = self.tracker.sweep(*times, Unheard(waiting, fresh))
        assert judgements == self.model.sweep(*times, waiting, fresh=fresh)
        for judgement in judgements:
            xname, transition = judgement.component, judgement.transition
            silent = self.at - self.model.components[xname].heard
            if transition is WARNED:
                assert xname not in self.warned_since_beat
                assert self.warntime <= silent < 2 * self.errtime
                self.warned_since_beat.add(xname)
            else:
                assert transition is DIED
                assert silent >= self.errtime

    @rule(xname=st.sampled_from(NAMES))
    def forget(self, xname):
        """Forget a component, known or not."""
        known = self.model.components.pop(xname, None)
        assert self.tracker.forget(xname) == (known is not None)
        self.warned_since_beat.discard(xname)

    @rule(warntime=st.integers(1, 9), errtime=st.integers(1, 9))
    def change_times(self, warntime, errtime):
        """Change `warntime` and `errtime`, also to values that make no sense together."""
        self.warntime, self.errtime = warntime, errtime

    @invariant()
    def same_answers(self):
        """Compare all that can be read."""
        for xname in NAMES:
            known = self.model.components.get(xname)
            alive = known is not None and known.state != "dead"
            expected = known is not None and alive and self.at - known.heard < self.errtime
            assert self.tracker.heartbeating(xname, self.at, self.errtime) == expected
            assert (xname in self.tracker) == (known is not None)
        counts = (self.tracker.healthy, self.tracker.warned, self.tracker.dead)
        assert counts == tuple(self.model.count(state) for state in ("healthy", "warned", "dead"))
        assert self.tracker.beats == self.beats


class RuleTests(SynchronousTestCase):
    """One component's life, with a warning after 10 s and death after 30."""

    def setUp(self):
        self.tracker = Tracker()

    def beat(self, at: float, xname: str = "x1") -> Transition | None:
        """Take a heartbeat, and return the transition."""
        judgement = self.tracker.beat(xname, at, f"t{at}", "up")
        if judgement is None:
            return None
        self.assertEqual(judgement, Judgement(xname, judgement.transition, f"t{at}"))
        return judgement.transition

    def sweep(self, at: float, limit: int = NO_LIMIT) -> list[Judgement]:
        """Sweep all components."""
        return self.tracker.sweep(at, 10.0, 30.0, limit)

    def test_a_life(self):
        """Started, warned, restarted, warned, died, started: each is judged once."""
        self.assertEqual(self.beat(0), STARTED)
        self.assertIsNone(self.beat(1))
        self.assertEqual(self.sweep(10.9), [])
        self.assertEqual(self.sweep(11), [Judgement("x1", WARNED, "t1")])
        self.assertEqual(self.sweep(12), [])
        self.assertEqual(self.beat(13), RESTARTED)
        self.assertIsNone(self.beat(14))
        self.assertEqual(self.sweep(24), [Judgement("x1", WARNED, "t14")])
        self.assertEqual(self.sweep(43.9), [])
        self.assertEqual(self.sweep(44), [Judgement("x1", DIED, "t14")])
        self.assertEqual(self.sweep(1000), [])
        self.assertEqual(self.beat(1001), STARTED)

    def test_late_sweep(self):
        """A component that is overdue for both has died, and is not warned about as well."""
        self.beat(0)
        self.assertEqual(self.sweep(30), [Judgement("x1", DIED, "t0")])
        self.assertEqual(self.sweep(31), [])

    def test_silence_without_a_sweep(self):
        """A component that is back before the next sweep is not judged."""
        self.beat(0)
        self.assertIsNone(self.beat(100))
        self.assertEqual(self.sweep(100), [])

    def test_back_from_warned_past_errtime(self):
        """A component that is back after a warning has restarted, if it was not declared dead."""
        self.beat(0)
        self.sweep(10)
        self.assertEqual(self.beat(100), RESTARTED)

    def test_warning_time_beyond_death(self):
        """With a `warntime` of at least `errtime`, no component is warned about."""
        for warntime in (30.0, 31.0, 1000.0):
            tracker = Tracker()
            tracker.beat("x1", 0.0, "t", "up")
            self.assertEqual(tracker.sweep(29.9, warntime, 30.0, NO_LIMIT), [])
            self.assertEqual(
                tracker.sweep(30.0, warntime, 30.0, NO_LIMIT), [Judgement("x1", DIED, "t")]
            )

    def test_how_it_came_about(self):
        """A judgement says what the component was before, and why it was judged."""
        told = [self.tracker.beat("x1", 0.0, "t", "up")]
        told += self.sweep(10.5)
        told.append(self.tracker.beat("x1", 11.0, "t", "up"))
        told += self.sweep(21.0) + self.sweep(41.25)
        told.append(self.tracker.beat("x1", 50.0, "t", "up"))
        told += self.sweep(99.0)
        self.assertEqual(
            [(each.before, each.transition, each.why) for each in told if each],
            [
                (Phase.UNKNOWN, STARTED, "heartbeat"),
                (Phase.HEALTHY, WARNED, "silent for 10.5 s"),
                (Phase.WARNED, RESTARTED, "heartbeat"),
                (Phase.HEALTHY, WARNED, "silent for 10.0 s"),
                (Phase.WARNED, DIED, "silent for 30.2 s"),
                (Phase.DEAD, STARTED, "heartbeat"),
                (Phase.HEALTHY, DIED, "silent for 49.0 s"),
            ],
        )

    def test_heartbeating(self):
        """A component is heartbeating until `errtime`, warned about or not; the unknown are not."""
        self.assertFalse(self.tracker.heartbeating("x1", 0, 30))
        self.beat(0)
        self.sweep(10)
        self.assertEqual(self.tracker.warned, 1)
        for at, errtime, expected in [(10, 30, True), (29.9, 30, True), (30, 30, False)]:
            self.assertEqual(self.tracker.heartbeating("x1", at, errtime), expected)

    def test_sort(self):
        """Of restored components, the one that was heard first is first, wherever it came."""
        tracker = Tracker()
        ages = {"x0": 9.0, "x1": 19.0, "x2": 3.0, "x3": 1.0}
        records = [Record(name, age, "t", "OK", True) for name, age in ages.items()]
        tracker.restore(records, (), 100.0, 10.0, 30.0)
        died = tracker.sweep(130.0, 10.0, 30.0, 9)
        self.assertEqual([each.component for each in died], ["x1", "x0", "x2", "x3"])

    def test_forget(self):
        """A forgotten component is unknown in every state: no warning, no death, a fresh start."""
        for swept_at in (1, 10, 30):
            self.tracker = Tracker()
            self.beat(0)
            self.sweep(swept_at)
            self.assertIn("x1", self.tracker)
            self.assertTrue(self.tracker.forget("x1"))
            self.assertNotIn("x1", self.tracker)
            self.assertFalse(self.tracker.forget("x1"))
            self.assertEqual(self.sweep(1000), [])
            self.assertEqual(self.beat(1001), STARTED)

    def test_longest_silent_first(self):
        """A sweep with a limit judges the components first that have been silent longest."""
        for at, xname in enumerate(["a", "b", "c", "d", "a"]):
            self.beat(at, xname)
        self.sweep(12)
        self.assertEqual(
            [self.sweep(32, limit=1)[0] for _ in range(4)],
            [
                Judgement("b", DIED, "t1"),
                Judgement("c", DIED, "t2"),
                Judgement("d", WARNED, "t3"),
                Judgement("a", WARNED, "t4"),
            ],
        )
        self.assertEqual(self.sweep(32, limit=1), [])

    def test_many_statuses(self):
        """Any number of different statuses is kept correctly."""
        for i in range(3000):
            self.beat(i / 1000, xname=f"x{i}")
            self.tracker.beat(f"x{i}", i / 1000, "t", f"status {i}")
        self.assertEqual(self.tracker.healthy, 3000)


class ModelTests(SynchronousTestCase):
    """Any order of events."""

    def test_against_the_model(self):
        """In any order of events, the tracker returns what the model returns."""
        run_state_machine_as_test(
            TrackerMachine,
            settings=settings(
                max_examples=150,
                stateful_step_count=40,
            ),
        )

    @settings(max_examples=150)
    @given(
        st.lists(st.tuples(st.sampled_from(NAMES), st.integers(0, 8)), max_size=30),
        st.integers(1, 20),
        st.integers(1, 20),
        st.integers(0, 30),
        st.integers(1, 4),
    )
    def test_portions(self, beats, warntime, errtime, pause, limit):
        """Sweeping in batches makes the same judgements in the same order as sweeping at once."""
        at_once, in_batches = Tracker(), Tracker()
        at = 0
        for xname, wait in beats:
            at += wait
            for tracker in (at_once, in_batches):
                tracker.beat(xname, at, str(at), "up")
                tracker.sweep(at, warntime, errtime, NO_LIMIT)
        at += pause
        expected = at_once.sweep(at, warntime, errtime, NO_LIMIT)
        made: list[Judgement] = []
        while True:
            portion = in_batches.sweep(at, warntime, errtime, limit)
            made += portion
            if len(portion) < limit:
                break
        self.assertEqual(made, expected)
        self.assertEqual(in_batches.sweep(at, warntime, errtime, NO_LIMIT), [])


class FullTests(SynchronousTestCase):
    """The number of tracked components is limited."""

    def setUp(self):
        self.tracker = Tracker(note_changes=True, most=3)
        for name in ("x1", "x2", "x3"):
            self.tracker.beat(name, 0, "t", "up")

    def refused(self, name: str, at: float) -> None:
        """Send a heartbeat that is refused, which changes nothing."""
        counts = (self.tracker.beats, self.tracker.changed_since(0.0))
        self.assertRaises(TrackerFull, self.tracker.beat, name, at, "t", "up")
        self.assertNotIn(name, self.tracker)
        self.assertEqual((self.tracker.beats, self.tracker.changed_since(0.0)), counts)

    def test_known(self):
        """At the limit, known components are heard, in every state, and new ones are not."""
        self.tracker.sweep(10, 10, 30, 10)
        self.tracker.beat("x1", 11, "t", "up")
        self.tracker.sweep(31, 10, 30, 10)
        self.assertEqual((self.tracker.warned, self.tracker.dead), (1, 2))
        self.refused("x4", 32)
        for name in ("x1", "x2", "x3"):
            self.assertIsNotNone(self.tracker.beat(name, 33, "t", "up"))
        self.refused("x4", 34)

    def test_room_again(self):
        """A component that is forgotten makes room for another."""
        self.tracker.forget("x2")
        self.tracker.beat("x4", 1, "t", "up")
        self.refused("x2", 1)

    def test_restored(self):
        """Stored components beyond the limit are kept; then no new one is taken."""
        records = [Record(f"x{n}", 1.0, "t", "up", False) for n in range(10)]
        tracker = Tracker(most=3)
        tracker.restore(records, ["x100"], 0, 10, 30)
        self.assertEqual((tracker.healthy, tracker.dead), (10, 1))
        self.tracker = tracker
        tracker.beat("x9", 1, "t", "up")
        self.refused("x11", 1)


class UnheardTests(SynchronousTestCase):
    """Components that are judged later because they may have been unheard."""

    def test_warned_late(self):
        """One that is warned about after others, which were heard later, dies before them."""
        tracker = Tracker()
        tracker.beat("x1", 0.0, "t", "OK", "10.0.0.1")
        tracker.beat("x2", 1.0, "t", "OK", "10.0.0.2")
        waiting = Unheard({"10.0.0.1"})
        self.assertEqual(tracker.sweep(11.0, 10, 30, 9, waiting), [Judgement("x2", WARNED, "t")])
        self.assertEqual(tracker.sweep(12.0, 10, 30, 9), [Judgement("x1", WARNED, "t")])
        self.assertEqual(tracker.sweep(30.0, 10, 30, 9), [Judgement("x1", DIED, "t")])
        self.assertEqual(tracker.sweep(31.0, 10, 30, 9), [Judgement("x2", DIED, "t")])


class MemoryTests(SynchronousTestCase):
    """What a start with a million components has no room for."""

    def test_shared_texts(self):
        """A judgement that is read from a store gets the name and timestamp that are there."""
        tracker = Tracker()
        records = [Record(each, 0.0, f"t {each}", "OK", each == NAMES[1]) for each in NAMES[:3]]
        tracker.restore(records, [NAMES[3]], 10.0, 10.0, 20.0)
        share = tracker.share_texts()
        for name in NAMES[:5]:
            for timestamp in (f"t {name}", "another"):
                copies = "".join(list(name)), "".join(list(timestamp))
                shared = share(*copies)
                self.assertEqual(shared, copies)
                if name in NAMES[:3]:
                    self.assertIs(shared[0], next(n for n in tracker.living() if n == name))
                component = tracker.component(name)
                if component is not None and component.timestamp == timestamp:
                    self.assertIs(shared[1], component.timestamp)

    def test_ages(self):
        """Components that count as just heard after a restart share that time."""
        tracker = Tracker()
        records = [Record(each, 3.0, "t", "OK", False) for each in NAMES]
        at = float("12.5")
        tracker.restore(records, [], at, 10.0, 20.0)
        for name in NAMES:
            component = tracker.component(name)
            assert component is not None
            self.assertIs(component.last_heard, at)


class TransitionTests(SynchronousTestCase):
    """Transitions, and the words for them."""

    def test_words(self):
        """The state, flag and messages of every transition are those of the contract."""
        self.assertEqual(
            {t.name: (t.state, t.flag, t.message, t.info) for t in Transition},
            {
                "STARTED": ("Ready", "OK", "Heartbeat started", "Heartbeat started."),
                "WARNED": (
                    "Ready",
                    "Warning",
                    "Heartbeat stopped -- might be dead",
                    "Heartbeat stopped, node may be dead.",
                ),
                "RESTARTED": ("Ready", "OK", "Heartbeat restarted", "Heartbeat re-started."),
                "DIED": (
                    "Standby",
                    "Alert",
                    "Heartbeat stopped -- declared dead",
                    "Heartbeat stopped, node is dead.",
                ),
            },
        )

    def test_alarming(self):
        """Warnings and deaths are alarming; starts and restarts are not."""
        self.assertEqual([t for t in Transition if t.alarming], [WARNED, DIED])
