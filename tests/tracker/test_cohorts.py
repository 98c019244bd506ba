"""Tests of the rules of their own by which some components are judged."""

from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hbtd.tracker.cohorts import ORDINARY, Deadlines, Limits
from hbtd.tracker.components import Unheard
from hbtd.tracker.records import Record
from hbtd.tracker.tracker import Tracker
from hbtd.tracker.transitions import Phase, Transition

_LIMITS = (10.0, 30.0)
_NAMES = [f"x0c0s0b0n{number}" for number in range(6)]


def _short(xname: str) -> Limits:
    return Limits(2.0, 5.0) if xname == _NAMES[0] else ORDINARY


class CohortTests(SynchronousTestCase):
    """Tests of `Tracker` with limits of components' own, spared components and deadlines."""

    def setUp(self) -> None:
        self.tracker = Tracker()

    def beat(self, at: float, *numbers: int) -> None:
        for number in numbers:
            self.tracker.beat(_NAMES[number], at, "", "")

    def sweep(self, at: float, **more: Any) -> list[tuple[int, str]]:
        judgements = self.tracker.sweep(at, *_LIMITS, 500, **more)
        return [(_NAMES.index(each.component), each.transition.name) for each in judgements]

    def test_own_limits(self) -> None:
        """A component with limits of its own is judged by them, all others by the parameters."""
        self.tracker.set_limits(_short)
        self.beat(0.0, 0, 1)
        self.assertEqual(self.sweep(2.0), [(0, "WARNED")])
        self.assertEqual(self.sweep(5.0), [(0, "DIED")])
        self.assertEqual(self.sweep(10.0), [(1, "WARNED")])
        self.assertEqual(self.sweep(30.0), [(1, "DIED")])

    def test_one_own_limit(self) -> None:
        """A limit that a component does not have itself is the parameter's."""
        self.tracker.set_limits(lambda _: Limits(errtime=60.0))
        self.beat(0.0, 0)
        self.assertEqual(self.sweep(10.0), [(0, "WARNED")])
        self.assertEqual(self.sweep(59.0), [])
        self.assertEqual(self.sweep(60.0), [(0, "DIED")])

    def test_own_limits_after_restart(self) -> None:
        """After a restart, a component has as long as its own limits say to be heard again."""
        self.tracker.set_limits(lambda _: Limits(20.0, 100.0))
        self.tracker.restore([Record(_NAMES[0], 500.0, "", "", True)], [], 0.0, *_LIMITS)
        self.assertEqual(self.sweep(19.0), [])
        self.assertEqual(self.sweep(20.0), [(0, "DIED")])

    def test_heartbeating(self) -> None:
        """A component counts as heartbeating as long as its own limit says."""
        self.tracker.set_limits(_short)
        self.beat(0.0, 0, 1)
        beating = [self.tracker.heartbeating(_NAMES[number], 6.0, 30.0) for number in (0, 1)]
        self.assertEqual(beating, [False, True])

    def test_changed_limits(self) -> None:
        """Changed limits apply to the silence from then on, and to all that follows."""
        self.beat(0.0, 0, 1)
        self.tracker.set_limits(_short)
        self.tracker.judge_anew([_NAMES[0]], 9.0, _LIMITS)
        self.assertEqual(self.sweep(10.9), [(1, "WARNED")])
        self.assertEqual(self.sweep(11.0), [(0, "WARNED")])
        self.beat(11.5, 0)
        self.assertEqual(self.tracker.rule(_NAMES[0]), Limits(2.0, 5.0))
        self.assertEqual(self.sweep(13.5), [(0, "WARNED")])
        self.assertEqual(self.sweep(16.5), [(0, "DIED")])

    def test_applied_limits(self) -> None:
        """Limits that have changed are not applied to the spared, nor to deaths held back."""
        self.beat(0.0, 0, 1, 2, 3)
        self.tracker.spare(_NAMES[1:2])
        self.sweep(30.0, held={_NAMES[2]: Deadlines(90.0, 90.0, held=True)})
        self.beat(31.0, 3, 4)
        self.tracker.set_limits(lambda _: Limits(2.0, 5.0))
        self.tracker.apply_limits(_NAMES, 32.0, _LIMITS)
        self.assertEqual(self.sweep(33.9), [])
        self.assertEqual(self.sweep(34.0), [(3, "WARNED"), (4, "WARNED")])
        self.assertEqual(self.sweep(37.0), [(3, "DIED"), (4, "DIED")])
        self.assertEqual(self.sweep(1000.0), [(2, "DIED")])
        self.assertTrue(self.tracker.is_spared(_NAMES[1]))

    def test_limits_of_the_living(self) -> None:
        """The shortest warntime in use is that of a component that lives, or the parameter."""
        self.tracker.set_limits(_short)
        self.assertEqual(self.tracker.own_limits(_NAMES[0]), Limits(2.0, 5.0))
        self.assertEqual(self.tracker.shortest_warntime(10.0), 10.0)
        self.beat(0.0, 0, 1)
        self.assertEqual(self.tracker.shortest_warntime(10.0), 2.0)
        self.assertEqual(self.tracker.shortest_warntime(1.0), 1.0)
        self.tracker.forget(_NAMES[0])
        self.assertEqual(self.tracker.shortest_warntime(10.0), 10.0)

    def test_reasons(self) -> None:
        """The reason for a judgement names a limit of the component's own, if that was reached."""
        self.tracker.set_limits(lambda x: Limits(errtime=5.0) if x == _NAMES[0] else _short(x))
        self.beat(0.0, 0, 1)
        reasons = [each.why for at in (1.0, 5.0) for each in self.tracker.sweep(at, 1.0, 9.0, 9)]
        self.assertEqual(
            reasons,
            ["silent for 1.0 s", "silent for 1.0 s", "silent for 5.0 s; its own limit is 5 s"],
        )

    def test_cohorts_end(self) -> None:
        """A follower, which never sweeps, keeps no cohort whose components have all left it."""
        for at in range(5):
            self.beat(float(at), 0, 1, 2)
            self.tracker.judge_anew(_NAMES[:3], float(at), _LIMITS)
            self.tracker.apply_warning(Record(_NAMES[1], 0.0, "", "", True), at, *_LIMITS)
        self.assertEqual(len(self.tracker._others), 1)
        self.tracker.apply_death(_NAMES[0])
        self.beat(9.0, 1)
        self.tracker.forget(_NAMES[2])
        self.assertEqual(len(self.tracker._others), 0)
        self.tracker.spare(_NAMES[:2])
        self.tracker.judge_anew(_NAMES[:2], 10.0, _LIMITS)
        self.assertEqual(len(self.tracker._others), 1)

    def test_spared(self) -> None:
        """A spared component is neither warned about nor declared dead, however long."""
        self.beat(0.0, 0, 1)
        self.tracker.spare(_NAMES[:1])
        self.assertEqual(self.sweep(1000.0), [(1, "DIED")])
        self.assertEqual(self.tracker.phase(_NAMES[0]), Phase.HEALTHY)
        self.assertFalse(self.tracker.heartbeating(_NAMES[0], 1000.0, 30.0))

    def test_spared_before_it_starts(self) -> None:
        """A component that starts while it is spared is not judged either."""
        self.tracker.spare(_NAMES[:1])
        self.beat(0.0, 0)
        self.assertEqual(self.sweep(1000.0), [])

    def test_spared_dead(self) -> None:
        """A dead component that is spared starts when it is heard, and is not judged then."""
        self.beat(0.0, 0)
        self.sweep(30.0)
        self.tracker.spare(_NAMES[:1])
        judgement = self.tracker.beat(_NAMES[0], 40.0, "", "")
        assert judgement is not None
        self.assertIs(judgement.transition, Transition.STARTED)
        self.assertEqual(self.sweep(1000.0), [])

    def test_spared_and_forgotten(self) -> None:
        """A component that is forgotten while it is spared is spared when it starts again."""
        self.beat(0.0, 0)
        self.tracker.spare(_NAMES[:1])
        self.assertTrue(self.tracker.forget(_NAMES[0]))
        self.assertEqual(len(self.tracker), 0)
        self.beat(1.0, 0)
        self.assertEqual(self.sweep(1000.0), [])

    def test_judged_anew(self) -> None:
        """Whoever is spared no more has the full limits from then on, silent before or not."""
        self.beat(0.0, 0)
        self.tracker.spare(_NAMES[:1])
        self.tracker.judge_anew(_NAMES[:1], 1000.0, _LIMITS)
        self.assertEqual(self.sweep(1009.9), [])
        self.assertEqual(self.sweep(1010.0), [(0, "WARNED")])
        self.assertEqual(self.sweep(1029.9), [])
        self.assertEqual(self.sweep(1030.0), [(0, "DIED")])
        self.assertEqual(len(self.tracker), 1)

    def test_judged_anew_and_heard(self) -> None:
        """Whoever is judged anew is judged as always once it has been heard."""
        self.beat(0.0, 0)
        self.tracker.spare(_NAMES[:1])
        self.tracker.judge_anew(_NAMES[:1], 1000.0, _LIMITS)
        self.beat(1005.0, 0)
        self.assertEqual(self.tracker.rule(_NAMES[0]), ORDINARY)
        self.assertEqual(self.sweep(1014.9), [])
        self.assertEqual(self.sweep(1015.0), [(0, "WARNED")])

    def test_judged_anew_when_warned(self) -> None:
        """Whoever was warned about before it was spared is not again, and can return."""
        self.beat(0.0, 0, 1)
        self.sweep(10.0)
        self.tracker.spare(_NAMES[:2])
        self.tracker.judge_anew(_NAMES[:2], 100.0, _LIMITS)
        self.assertEqual(self.sweep(129.0), [])
        judgement = self.tracker.beat(_NAMES[1], 129.0, "", "")
        assert judgement is not None
        self.assertIs(judgement.transition, Transition.RESTARTED)
        self.assertEqual(self.sweep(130.0), [(0, "DIED")])

    def spare_until_back(self, *numbers: int, after: float = 10.0) -> set[str]:
        """Spare components until they are heard after so long a silence; return who still is."""
        waiting = {_NAMES[number] for number in numbers}

        def is_return(xname: str, at: float, last_heard: float) -> bool:
            return xname in waiting and at - last_heard >= after

        def returned(xname: str) -> bool:
            waiting.discard(xname)
            return False

        self.tracker.set_returns(is_return, returned)
        self.tracker.spare(waiting)
        return waiting

    def test_return(self) -> None:
        """A spared component that is back starts, though it was healthy, and is judged again."""
        self.beat(0.0, 0)
        waiting = self.spare_until_back(0)
        self.assertIsNone(self.tracker.beat(_NAMES[0], 9.9, "", ""))
        self.assertEqual(self.sweep(500.0), [])
        self.assertEqual(waiting, {_NAMES[0]})
        self.assertFalse(self.tracker.beat_again(_NAMES[0], 500.0, "", ""))
        judgement = self.tracker.beat(_NAMES[0], 500.0, "t", "")
        assert judgement is not None
        self.assertEqual(
            (judgement.transition, judgement.before, judgement.timestamp, judgement.why),
            (Transition.STARTED, Phase.HEALTHY, "t", "heartbeat; it is back"),
        )
        self.assertEqual((waiting, self.tracker.is_spared(_NAMES[0])), (set(), False))
        self.assertEqual((len(self.tracker), self.tracker.healthy), (1, 1))
        self.assertEqual(self.sweep(510.0), [(0, "WARNED")])

    def test_return_of_all_kinds(self) -> None:
        """The warned, the dead and those never heard are back with their first heartbeat."""
        self.beat(0.0, 1)
        self.sweep(30.0)
        self.beat(30.0, 0)
        self.sweep(40.0)
        self.spare_until_back(0, 1, 2)
        for number, before in ((0, Phase.WARNED), (1, Phase.DEAD), (2, Phase.UNKNOWN)):
            judgement = self.tracker.beat(_NAMES[number], 41.0, "", "")
            assert judgement is not None
            self.assertEqual((judgement.transition, judgement.before), (Transition.STARTED, before))
        self.assertEqual(self.sweep(51.0), [(0, "WARNED"), (1, "WARNED"), (2, "WARNED")])

    def test_return_to_another_reason(self) -> None:
        """A component that is back starts, and is spared on if there is another reason."""
        self.beat(0.0, 0)
        waiting = set(_NAMES[:1])

        def returned(xname: str) -> bool:
            waiting.discard(xname)
            return True

        self.tracker.set_returns(lambda xname, *_: xname in waiting, returned)
        self.tracker.spare(_NAMES[:1])
        judgement = self.tracker.beat(_NAMES[0], 100.0, "", "")
        self.assertIsNotNone(judgement)
        self.assertIsNone(self.tracker.beat(_NAMES[0], 200.0, "", ""))
        self.assertEqual(self.sweep(1000.0), [])
        self.assertTrue(self.tracker.is_spared(_NAMES[0]))

    def test_return_read_late(self) -> None:
        """A heartbeat that may have waited for long is no return; the next one is."""
        self.beat(0.0, 0)
        waiting = self.spare_until_back(0)
        self.tracker.tick(100.0, reads_late=True)
        self.assertIsNone(self.tracker.beat(_NAMES[0], 100.0, "", ""))
        self.assertEqual((waiting, self.tracker.beats), ({_NAMES[0]}, 2))
        self.tracker.tick(101.0)
        self.assertIsNotNone(self.tracker.beat(_NAMES[0], 101.0, "", ""))

    def test_return_after_restart(self) -> None:
        """A spared component that was silent before a restart of hbtd is back with a heartbeat."""
        self.spare_until_back(0, 1, 2)
        records = [
            Record(name, age, "", "", False)
            for name, age in zip(_NAMES, (19.0, 21.0, 12.0, 21.0), strict=False)
        ]
        self.tracker.restore(records, [], 100.0, *_LIMITS, 12.0)
        back = [self.tracker.beat(name, 101.0, "", "") is not None for name in _NAMES[:4]]
        self.assertEqual(back, [False, True, False, False])

    def test_given_up(self) -> None:
        """Whoever was spared and is given up is dead within a second, unless it is heard."""
        self.beat(0.0, 0, 1, 2, 3)
        self.tracker.spare(_NAMES[:3])
        self.tracker.give_up(_NAMES[:1], 9.3, "; it was away")
        self.tracker.give_up(_NAMES[1:3], 9.8, "; it was away")
        self.assertEqual(self.sweep(9.9), [])
        self.beat(9.9, 2)
        judgements = self.tracker.sweep(10.0, *_LIMITS, 500)
        self.assertEqual(
            [(each.component, each.transition, each.why) for each in judgements],
            [
                (_NAMES[3], Transition.WARNED, "silent for 10.0 s"),
                (_NAMES[0], Transition.DIED, "silent for 10.0 s; it was away"),
                (_NAMES[1], Transition.DIED, "silent for 10.0 s; it was away"),
            ],
        )
        self.assertEqual(self.sweep(20.0), [(2, "WARNED")])

    def test_spared_components(self) -> None:
        """All tracked components that are spared can be listed, living or dead."""
        self.beat(0.0, 0, 1, 2)
        self.sweep(30.0)
        self.beat(30.0, 0, 1)
        self.assertEqual((self.tracker.spared_components(), self.tracker.spares), ([], False))
        self.tracker.spare([_NAMES[0], *_NAMES[2:4]])
        self.assertEqual(self.tracker.spared_components(), [_NAMES[0], _NAMES[2]])
        self.assertTrue(self.tracker.spares)

    def test_held(self) -> None:
        """A death that is held back is declared at its deadline, unless its component is heard."""
        self.beat(0.0, 0, 1)
        self.sweep(10.0)
        held = {_NAMES[0]: Deadlines(90.0, 90.0, held=True), _NAMES[1]: Deadlines(90.0, 90.0, True)}
        self.assertEqual(self.sweep(30.0, held=held), [])
        self.assertEqual(self.tracker.phase(_NAMES[0]), Phase.WARNED)
        self.beat(89.0, 1)
        self.assertEqual(self.sweep(89.9), [])
        (judgement,) = self.tracker.sweep(90.0, *_LIMITS, 500)
        self.assertEqual(
            (judgement.component, judgement.why),
            (_NAMES[0], "silent for 90.0 s; its death was held back by the guard"),
        )

    def test_held_without_a_warning(self) -> None:
        """Whoever was not warned about, and is heard while its death is held, is judged as ever."""
        self.tracker.set_limits(lambda _: Limits(warntime=60.0))
        self.beat(0.0, 0)
        held = {_NAMES[0]: Deadlines(90.0, 90.0, held=True)}
        self.assertEqual(self.sweep(30.0, held=held), [])
        self.assertEqual(self.tracker.phase(_NAMES[0]), Phase.HEALTHY)
        self.beat(40.0, 0)
        self.assertEqual(self.sweep(69.9), [])
        self.assertEqual(self.sweep(70.0), [(0, "DIED")])

    def test_held_once(self) -> None:
        """One silence is held back once: a later deadline does not replace the first."""
        self.beat(0.0, 0)
        self.sweep(30.0, held={_NAMES[0]: Deadlines(90.0, 90.0, held=True)})
        later = {_NAMES[0]: Deadlines(200.0, 200.0, held=True)}
        self.assertEqual(self.sweep(90.0, held=later), [(0, "DIED")])

    def test_held_too_late(self) -> None:
        """A deadline that is over holds nothing back."""
        self.beat(0.0, 0)
        over = {_NAMES[0]: Deadlines(30.0, 30.0, held=True)}
        self.assertEqual(self.sweep(30.0, held=over), [(0, "DIED")])

    def test_released(self) -> None:
        """Deaths that are held back are declared at once when they are released, and no others."""
        self.beat(0.0, 0, 1)
        self.sweep(30.0, held={_NAMES[0]: Deadlines(90.0, 90.0, held=True)})
        self.tracker.spare(_NAMES[2:3])
        self.beat(0.0, 2)
        self.tracker.release(_NAMES[:3], 31.0)
        self.assertEqual(self.sweep(31.0), [(0, "DIED")])

    def test_unheard(self) -> None:
        """A component that may have been heard has Errtime more, whatever its rule."""
        self.tracker.set_limits(_short)
        self.beat(0.0, 0, 1)
        self.tracker.judge_anew(_NAMES[1:2], 0.0, _LIMITS)
        everybody = Unheard(everybody=True)
        self.assertEqual(self.sweep(31.9, unheard=everybody), [])
        self.assertEqual(self.sweep(32.0, unheard=everybody), [(0, "WARNED")])
        self.assertEqual(self.sweep(40.0, unheard=everybody), [(0, "DIED"), (1, "WARNED")])
        self.assertEqual(self.sweep(60.0, unheard=everybody), [(1, "DIED")])

    def test_soon_judged(self) -> None:
        """Components that are close to one of their own limits are found, spared ones are not."""
        self.tracker.set_limits(_short)
        self.beat(0.0, 0, 1, 2, 3)
        self.tracker.spare(_NAMES[2:3])
        self.tracker.judge_anew(_NAMES[3:4], -4.0, _LIMITS)
        everybody = Unheard(everybody=True)
        found = [self.tracker.unheard(at, _LIMITS, 1.0, everybody, 9) for at in (1.0, 5.0, 9.0)]
        self.assertEqual(
            found, [[_NAMES[0]], [_NAMES[0], _NAMES[3]], [_NAMES[n] for n in (1, 0, 3)]]
        )
        self.assertIsNone(self.tracker.unheard(9.0, _LIMITS, 1.0, everybody, 2))

    def test_everywhere(self) -> None:
        """All that is asked of the tracked components includes those with a rule of their own."""
        self.tracker.set_limits(_short)
        self.beat(0.0, 0, 1, 2)
        self.tracker.spare(_NAMES[2:3])
        self.sweep(4.0)
        tracker = self.tracker
        self.assertEqual(
            (len(tracker), tracker.healthy, tracker.warned, tracker.dead), (3, 2, 1, 0)
        )
        self.assertEqual(sorted(tracker.tracked()), _NAMES[:3])
        self.assertEqual(sorted(tracker.living()), _NAMES[:3])
        self.assertEqual(tracker.queues(), ([_NAMES[1], _NAMES[2]], [_NAMES[0]], []))
        self.assertEqual(tracker.silent_components(), _NAMES[:1])
        self.assertEqual(tracker.silence_flags(_NAMES[:3]), (b"\1\0\0", b"\0\0\0"))
        self.assertEqual([each.xname for each in tracker.silent(_NAMES)], _NAMES[:1])
        self.assertTrue(all(xname in tracker for xname in _NAMES[:3]))
        record = tracker.record(_NAMES[0], 4.0)
        assert record is not None
        self.assertTrue(record.warned)
        tracker.keep_only(_NAMES)
        self.assertEqual(sorted(tracker.tracked()), [_NAMES[1], _NAMES[2]])
        self.assertTrue(tracker.forget(_NAMES[2]))
        self.assertEqual(tracker.tracked(), [_NAMES[1]])


@dataclass
class _Slow:
    """A component of the slow, obvious tracker."""

    limits: tuple[float, float]
    last: float
    phase: Phase = Phase.HEALTHY
    spared: bool = False
    deadlines: tuple[float, float] | None = None


@dataclass
class _Model:
    """A slow and obvious tracker, which looks at all components in each sweep."""

    components: dict[str, _Slow] = field(default_factory=dict)
    spared: set[str] = field(default_factory=set)

    def beat(self, xname: str, at: float) -> None:
        limits = (2.0, 5.0) if xname == _NAMES[0] else _LIMITS
        self.components[xname] = _Slow(limits, at, spared=xname in self.spared)

    def spare(self, xname: str) -> None:
        self.spared.add(xname)
        if xname in self.components:
            self.components[xname].spared = True
            self.components[xname].deadlines = None

    def judge_anew(self, xname: str, at: float) -> None:
        self.spared.discard(xname)
        found = self.components.get(xname)
        if found is not None and found.phase is not Phase.DEAD:
            found.spared = False
            found.deadlines = at + found.limits[0], at + found.limits[1]

    def sweep(self, at: float) -> None:
        for each in self.components.values():
            if each.phase is Phase.DEAD or each.spared:
                continue
            warn_at, die_at = each.deadlines or (
                each.last + each.limits[0],
                each.last + each.limits[1],
            )
            if at >= die_at:
                each.phase, each.deadlines = Phase.DEAD, None
            elif at >= warn_at:
                each.phase = Phase.WARNED


_ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["beat", "spare", "anew", "sweep", "forget"]),
        st.sampled_from(_NAMES),
        st.integers(0, 12),
    ),
    max_size=60,
)


class AgainstModelTests(SynchronousTestCase):
    """Tests of the tracker against a slow and obvious one."""

    @settings(max_examples=300, deadline=None)
    @given(_ACTIONS)
    def test_equal(self, actions: list[tuple[str, str, int]]) -> None:
        """Whatever is spared, judged anew and heard, all are in the phases of a slow tracker."""
        tracker, model, at = Tracker(), _Model(), 0.0
        tracker.set_limits(_short)
        for action, xname, seconds in actions:
            at += seconds
            if action == "beat":
                tracker.beat(xname, at, "", "")
                model.beat(xname, at)
            elif action == "spare":
                tracker.spare([xname])
                model.spare(xname)
            elif action == "anew":
                tracker.judge_anew([xname], at, _LIMITS)
                model.judge_anew(xname, at)
            elif action == "forget":
                tracker.forget(xname)
                model.components.pop(xname, None)
            tracker.sweep(at, *_LIMITS, 500)
            model.sweep(at)
            phases = {name: each.phase for name, each in model.components.items()}
            self.assertEqual({name: tracker.phase(name) for name in tracker.tracked()}, phases)
            self.assertEqual(sorted(tracker.tracked()), sorted(phases))
