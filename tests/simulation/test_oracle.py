"""The oracle of the simulated worlds, its promises, and the faults that it has to notice."""

import re
import shutil
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.simulation import mutants, oracle
from tests.simulation.oracle import Oracle, Promise, ReplicaOracle, Timeline, Violation
from tests.simulation.replicated import SHARED
from tests.support.processes import CHECKOUT


class GuaranteeTests(SynchronousTestCase):
    """What users are told is what the oracle checks."""

    def setUp(self):
        self.text = (CHECKOUT / "docs" / "guarantees.md").read_text()

    def test_promises(self):
        """Each promise has a section of its own, and no other has."""
        sections = re.findall("(?m)^## (.*)$", self.text)
        self.assertEqual(sorted(sections), sorted(each.value for each in Promise))

    def test_numbers(self):
        """The numbers are the oracle's."""
        for said in (
            f"a tick of its clock | {oracle.SLACK} |",
            f"has yet to reach the leader | {ReplicaOracle.slack} |",
            f"commits, probes and retries | {oracle.LATE:g} |",
            f"`Warntime` + {ReplicaOracle.settle:g} |",
            f"for up to {oracle.CALM:g} s;",
            f"for another {SHARED:g} s:",
            f"not killed in the {oracle.STORED:g} s after it",
            f"may take {ReplicaOracle.relock:g} s",
        ):
            self.assertIn(" ".join(said.split()), " ".join(self.text.split()))


class MutantTests(SynchronousTestCase):
    """The faults that the simulation has to notice."""

    def test_apply(self):
        """Each patch can still be applied, and says what it does."""
        with tempfile.TemporaryDirectory() as folder:
            for mutant in mutants.mutants([]):
                target = Path(folder) / mutant.path.stem
                target.mkdir()
                shutil.copytree(CHECKOUT / "hbtd", target / "hbtd")
                mutants.apply(mutant.path, target)

    def test_unknown(self):
        """A name that no mutant has is an error, and does not pass for one that was found."""
        (known,) = mutants.mutants(["no_standstill"])
        self.assertEqual(known.path.stem, "no_standstill")
        self.assertRaises(ValueError, mutants.mutants, ["no_standstill", "no_standstil"])


class OracleTests(SynchronousTestCase):
    """The oracle notices each lie, and each silence."""

    def setUp(self):
        self.oracle = Oracle(5, 12, 1)
        self.oracle.hears.set(0, True)
        self.oracle.works.set(0, True)
        for second in range(1, 40, 2):
            self.oracle.answered("x0", second)

    def test_false_death(self):
        """Who beats is not dead."""
        self.assertRaises(Violation, self.oracle.told, "x0", "Standby", "Alert", 40)
        self.assertRaises(Violation, self.oracle.told, "x0", "Ready", "Warning", 40)

    def test_true_death(self):
        """Who has been silent for long enough is."""
        self.oracle.told("x0", "Ready", "Warning", 45)
        self.oracle.told("x0", "Standby", "Alert", 52)

    def test_deaf(self):
        """Silence counts only while hbtd could hear."""
        self.oracle.hears.set(40, False)
        self.oracle.hears.set(50, True)
        self.assertRaises(Violation, self.oracle.told, "x0", "Standby", "Alert", 60)
        self.oracle.told("x0", "Standby", "Alert", 62)

    def test_silence(self):
        """A death has to be told, in the time in which that was possible."""
        self.oracle.died("x0", 40)
        self.oracle.works.set(45, False)
        self.oracle.check_deaths(500)
        self.oracle.works.set(500, True)
        self.assertRaises(Violation, self.oracle.check_deaths, 540)

    def test_rest(self):
        """HSM's last word has to be the truth."""
        self.assertRaises(Violation, self.oracle.check_rest, {"x0": True})
        self.oracle.told("x0", "Ready", "OK", 40)
        self.oracle.check_rest({"x0": True})
        self.assertRaises(Violation, self.oracle.check_rest, {"x0": False})

    def test_lost(self):
        """Nothing need be told of a component of which nothing is known any more."""
        self.oracle.told("x0", "Ready", "OK", 40)
        self.oracle.died("x0", 40)
        self.oracle.lost_all()
        self.oracle.check_deaths(500)
        self.oracle.check_rest({"x0": False})

    def test_unheard(self):
        """Nothing is said of a component of which no heartbeat was answered."""
        self.assertRaises(Violation, self.oracle.told, "x1", "Ready", "OK", 40)


class TimelineTests(SynchronousTestCase):
    """How long something was the case."""

    def test_within(self):
        """Only the time in which it was the case counts."""
        line = Timeline()
        line.set(10, True)
        line.set(20, False)
        line.set(30, True)
        self.assertEqual(line.within(0, 40), 20)
        self.assertEqual(line.within(15, 32), 7)
        self.assertEqual(line.within(21, 29), 0)
