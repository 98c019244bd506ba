"""What follows from a difference between HSM's table and the tracker."""

import gc
import sys
from collections.abc import Mapping
from unittest import skipIf

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hbtd.hsm.difference import (
    MOST_DEATHS,
    Difference,
    Differences,
    Look,
    agrees,
    confirmed,
    decide,
)
from hbtd.hsm.tellings import Tellings
from hbtd.tracker.transitions import Phase

HEALTHY, WARNED, DEAD = Phase.HEALTHY, Phase.WARNED, Phase.DEAD
NOW = 1_800_000_000.0

PHASES = st.sampled_from((HEALTHY, WARNED, DEAD))
NAMES = st.sampled_from([f"x0c0s0b0n{number}" for number in range(6)])


def differ(name: str, phase: Phase, said: str = "On/OK") -> Difference:
    """Return a difference."""
    return Difference(name, phase, 0.0, said)


class AgreeTests(SynchronousTestCase):
    """Which states in HSM's table are right."""

    def test_words(self):
        """The words that HSM is told are right for the phase of which it is told, in any case."""
        for phase, state, flag in (
            (HEALTHY, "Ready", "OK"),
            (WARNED, "ready", "warning"),
            (DEAD, "STANDBY", "ALERT"),
        ):
            for other in (HEALTHY, WARNED, DEAD):
                self.assertEqual(agrees(other, state, flag), other is phase)
        self.assertFalse(agrees(HEALTHY, "On", "OK"))

    def test_off(self):
        """`Off` is right for the silent, whatever its flag, and wrong for who beats."""
        for flag in ("OK", "Alert"):
            self.assertTrue(agrees(DEAD, "Off", flag))
            self.assertTrue(agrees(WARNED, "Off", flag))
            self.assertFalse(agrees(HEALTHY, "Off", flag))


class LookTests(SynchronousTestCase):
    """One reading of HSM's table."""

    def setUp(self):
        self.phases: Mapping[str, Phase] = {"x0c0s0b0n0": HEALTHY, "x0c0s0b0n1": DEAD}
        self.look = Look(lambda name: self.phases.get(name, Phase.UNKNOWN), lambda _: 7.0)

    def test_differences(self):
        """A tracked component with another state is a difference; others don't matter."""
        self.look.add("x0c0s0b0n0", "Standby", "Alert")
        self.look.add("x0c0s0b0n1", "Standby", "Alert")
        self.look.add("x0c0s0b0n2", "Standby", "Alert")
        found = Difference("x0c0s0b0n0", HEALTHY, 7.0, "Standby/Alert")
        self.assertEqual(list(self.look.differences), [found])
        self.assertEqual(self.look.rows, 3)

    def test_odd(self):
        """What HSM says is kept short, and without control characters."""
        self.look.add("x0c0s0b0n0", "On\n" * 1000, "\x1b[2J")
        said = self.look.differences.of(["x0c0s0b0n0"])[0].said
        self.assertTrue(said.isprintable())
        self.assertLess(len(said), 100)

    def test_spelling(self):
        """HSM may spell a name in another way."""
        self.look.add("X0c0s0b0n001", "Ready", "OK")
        self.assertEqual(self.look.differences.components(), ["x0c0s0b0n1"])
        self.assertEqual(self.look.missing(self.phases), ["x0c0s0b0n0"])


class DifferencesTests(SynchronousTestCase):
    """Many differences, kept in columns."""

    def test_kept(self):
        """They are what was added, in that order, one for each component."""
        some = [differ(f"x{number}", DEAD, f"On/{number}") for number in range(5)]
        kept = Differences(some)
        kept.update(Differences([differ("x9", HEALTHY), differ("x1", WARNED)]))
        some = [some[0], differ("x1", WARNED), *some[2:], differ("x9", HEALTHY)]
        self.assertEqual((list(kept), len(kept)), (some, 6))
        self.assertEqual(kept.components(2), ["x0", "x1"])
        self.assertEqual(kept.of(["x3", "x7"]), [some[3]])
        self.assertEqual((kept.pop("x3"), kept.pop("x3")), (some[3], None))
        self.assertEqual(list(kept), [*some[:3], *some[4:]])

    @skipIf(sys.version_info >= (3, 14), "all dictionaries are tracked")
    def test_garbage_collector(self):
        """The garbage collector leaves them out, however many there are."""
        many = Differences(differ(f"x{number}", DEAD) for number in range(10_000))
        self.assertEqual([each for each in vars(many).values() if gc.is_tracked(each)], [])


class ConfirmedTests(SynchronousTestCase):
    """What two looks have shown alike."""

    def test_both(self):
        """A difference counts if both looks show it of a component that has not changed."""
        first = Differences([differ("x0", DEAD), differ("x1", HEALTHY)])
        second = [differ("x0", DEAD, "Ready/OK"), differ("x1", WARNED), differ("x2", DEAD)]
        self.assertEqual(confirmed(first, second), [differ("x0", DEAD, "Ready/OK")])


class DecideTests(SynchronousTestCase):
    """What is done about differences."""

    def decide(
        self, *differences: Difference, approved: bool = False, unsettled: str = ""
    ) -> list[list[str]]:
        """Return the components in each list of the decision."""
        decision = decide(
            differences,
            settled=lambda name: name != unsettled,
            tellings=self.tellings,
            now=NOW,
            approved=approved,
        )
        return [[each.component for each in group] for group in decision]

    def setUp(self):
        self.tellings = Tellings()

    def test_told(self):
        """HSM is told of the silent at once, and of the living once they were heard."""
        said = self.decide(differ("x0", DEAD), differ("x1", WARNED), differ("x2", HEALTHY))
        self.assertEqual(said, [["x1"], ["x0"], ["x2"], [], [], []])

    def test_unsettled(self):
        """Nothing is told of a component of which HSM is being told something."""
        for phase in (HEALTHY, WARNED, DEAD):
            self.assertEqual(
                self.decide(differ("x0", phase), unsettled="x0"), [[], [], [], [], [], ["x0"]]
            )

    def test_contested(self):
        """After three tellings a component is left alone."""
        for phase in (HEALTHY, WARNED, DEAD):
            for _ in range(3):
                self.tellings.add("x0", phase, 5.0, NOW)
            self.assertEqual(
                self.decide(Difference("x0", phase, 5.0, "On/OK")), [[], [], [], [], ["x0"], []]
            )

    def test_many_deaths(self):
        """More than a hundred deaths are told only if somebody asks for it; the rest is told."""
        self.assertEqual(MOST_DEATHS, 100)
        dead = [differ(f"x{number}", DEAD) for number in range(MOST_DEATHS)]
        _, told, _, held, _, _ = self.decide(*dead)
        self.assertEqual((len(told), len(held)), (MOST_DEATHS, 0))
        dead.append(differ("x999", DEAD))
        warnings, told, _, held, _, _ = self.decide(*dead, differ("y", WARNED))
        self.assertEqual((warnings, told, len(held)), (["y"], [], MOST_DEATHS + 1))
        _, told, _, held, _, _ = self.decide(*dead, approved=True)
        self.assertEqual((len(told), len(held)), (MOST_DEATHS + 1, 0))

    @given(st.dictionaries(NAMES, PHASES), st.sets(NAMES), st.lists(NAMES, max_size=12))
    def test_rules(
        self, phases: dict[str, Phase], unsettled: set[str], tellings: list[str]
    ) -> None:
        """Each difference is in one list; only what is settled and allowed is told."""
        counts = Tellings()
        for name in tellings:
            counts.add(name, phases.get(name, DEAD), 0.0, NOW)
        differences = [differ(*each) for each in phases.items()]
        decision = decide(
            differences,
            settled=lambda name: name not in unsettled,
            tellings=counts,
            now=NOW,
            approved=True,
        )
        self.assertCountEqual([each for group in decision for each in group], differences)
        for each in (*decision.warnings, *decision.deaths, *decision.listen):
            self.assertNotIn(each.component, unsettled)
            self.assertLess(tellings.count(each.component), 3)
        self.assertTrue(all(each.phase is HEALTHY for each in decision.listen))
        self.assertTrue(all(each.phase is WARNED for each in decision.warnings))
        self.assertTrue(all(each.phase is DEAD for each in decision.deaths))
