"""The oracle of the simulated worlds, its promises, and the faults that it has to notice."""

import json
import re
import shutil
import tempfile
from pathlib import Path
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from tests.simulation import mutants, oracle, telemetry_oracle
from tests.simulation.changes import SETTLED
from tests.simulation.oracle import Oracle, Promise, Timeline, Violation
from tests.simulation.replica_oracle import COMPARED, SHARED, MixedOracle, ReplicaOracle
from tests.simulation.rules import Rule
from tests.simulation.telemetry_oracle import MOST_TRIED, TelemetryOracle
from tests.simulation.troubles import NOTICED
from tests.support.processes import CHECKOUT


class GuaranteeTests(SynchronousTestCase):
    """What users are told is what the oracle checks."""

    def setUp(self):
        self.text = (CHECKOUT / "docs" / "guarantees.md").read_text()

    def test_promises(self):
        """Each promise has a section of its own, and no other has."""
        sections = re.findall("(?m)^## (.*)$", self.text)
        promises = [each.value for each in Promise]
        self.assertEqual(sorted(sections), sorted([*promises, "Beside the original hbtd"]))

    def test_numbers(self):
        """The numbers are the oracle's."""
        for said in (
            f"a tick of its clock | {oracle.SLACK} |",
            f"has yet to reach the leader | {ReplicaOracle.slack} |",
            f"commits, probes and retries | {oracle.LATE:g} |",
            f"`Warntime` + {ReplicaOracle.settle:g} |",
            f"for up to {oracle.CALM:g} s;",
            f"for another {SHARED:g} s:",
            f"could write its store, for another {oracle.STORED:g} s",
            f"more than {telemetry_oracle.CONNECTIONS} times in a minute",
            f"sends nothing later than {telemetry_oracle.LATE:g} s after that",
            f"may take {ReplicaOracle.relock:g} s",
            f"has worked for {SETTLED:g} s since its answer",
            f"written {oracle.CONTESTED} times or more",
            f"within {COMPARED:g} s in which all works, a replica among it",
            f"After {oracle.CONTESTED} words of originals or more",
            f"all works again {NOTICED:g} s after the network has done so",
            f"for {oracle.RESUMED:g} s one of a component that died since",
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

    def test_table(self):
        """A mutant's outcome replaces its older one in the table, and leaves those of others."""
        table = Path(self.mktemp())
        one, other = mutants.mutants(["lease_too_long", "no_standstill"])
        mutants.write_row(table, mutants.row(one, mutants.Outcome(None, 40, 99, ""), 1))
        mutants.write_row(table, mutants.row(other, mutants.Outcome(7, 7, 30, "x0 | is dead"), 1))
        mutants.write_row(table, mutants.row(one, mutants.Outcome(22, 3, 9, "x1 is lost"), 20))
        rows = [line for line in table.read_text().splitlines() if line.startswith("| `")]
        self.assertEqual(
            [row.split(" | ", 1)[1] for row in rows],
            [
                f"{one.world} | 22 | 20 to 22 | x1 is lost |",
                f"{other.world} | 7 | 1 to 7 | x0 / is dead |",
            ],
        )
        self.assertNotIn("no_standstill,", table.read_text())
        self.assertIn("woken_revives", table.read_text().partition("Not run yet: ")[2])

    def test_first(self):
        """A patch may say which seed to begin with."""
        one, other = mutants.mutants(["no_standstill", "piece_lost"])
        self.assertEqual((one.world, one.first), ("single", 1))
        self.assertEqual((other.world, other.first), ("single", 20001))

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

    def test_false_after_a_long_life(self):
        """However long a component has beaten without news of it, no alarm about it is true."""
        for heartbeats in (50, 120, 500):
            for word in (("Ready", "Warning"), ("Standby", "Alert")):
                self.setUp()
                for number in range(heartbeats):
                    self.oracle.answered("x", 2.0 * number)
                with self.assertRaises(Violation, msg=(heartbeats, word)):
                    self.oracle.told("x", *word, 2.0 * heartbeats)

    def test_old_silence(self):
        """A silence that was never told excuses no alarm once news of it would have arrived."""
        for second in (46, 48, 50):
            self.oracle.answered("x0", second)
        self.oracle.told("x0", "Ready", "Warning", 50)
        for word in (("Ready", "Warning"), ("Standby", "Alert")):
            self.setUp()
            for second in (56, *range(58, 80, 2)):
                self.oracle.answered("x0", second)
            self.assertRaises(Violation, self.oracle.told, "x0", *word, 80)

    def test_late_answer(self):
        """A heartbeat whose answer took long may have been heard as soon as it was sent."""
        for sent in (43.0, 41.0):
            self.setUp()
            self.oracle.answered("x0", 43.0, sent)
            self.assertRaises(Violation, self.oracle.told, "x0", "Ready", "Warning", 45.1)
        self.setUp()
        self.oracle.answered("x0", 43.0, 40.5)
        self.oracle.told("x0", "Ready", "Warning", 45.1)
        self.assertAlmostEqual(self.oracle.silence_since("x0", 40.5, 45.1), 4.6)

    def test_refused(self):
        """What HSM has refused for some time may be told as much later, and no more."""
        self.oracle.died("x0", 39)
        self.oracle.refused("x0", 20)
        self.oracle.check_deaths(39 + 25 + 25)
        self.assertRaises(Violation, self.oracle.check_deaths, 39 + 25 + 25.1)

    def test_came_late(self):
        """A warning may follow a death that came late, as long as hbtd doubts what HSM knows."""
        for seconds, fails in ((29, False), (31, True)):
            self.setUp()
            self.oracle.died("x0", 39)
            self.oracle.told("x0", "Standby", "Alert", 60, 52)
            if fails:
                self.assertRaises(
                    Violation, self.oracle.told, "x0", "Ready", "Warning", 60 + seconds
                )
            else:
                self.oracle.told("x0", "Ready", "Warning", 60 + seconds)

    def test_other_words(self):
        """HSM is told three words alone."""
        for word in (("Standby", "OK"), ("Off", "OK"), ("Ready", "Alert")):
            self.assertRaises(Violation, self.oracle.told, "x0", *word, 40)

    def test_true_death(self):
        """Who has been silent for long enough is."""
        self.oracle.told("x0", "Ready", "Warning", 45)
        self.oracle.told("x0", "Standby", "Alert", 52)

    def test_may_repeat(self):
        """What a process tells as it starts, or after a silence, is no repetition."""
        for second in (41, 43, 45, 47, 49, 51, 53):
            self.oracle.answered("x0", second)
        self.assertFalse(self.oracle.may_repeat("x0", 54))
        self.oracle.answered("x0", 66)
        self.assertTrue(self.oracle.may_repeat("x0", 67))
        self.oracle.told("x0", "Ready", "OK", 67)
        self.oracle.told("x0", "Standby", "Alert", 78.5)
        self.assertFalse(self.oracle.may_repeat("x0", 90))
        self.setUp()
        for second in (*range(41, 68, 2), 67.5):
            self.oracle.answered("x0", second)
        self.oracle.hears.set(68, False)
        self.oracle.hears.set(69, True)
        self.assertTrue(self.oracle.may_repeat("x0", 69.9))
        self.assertFalse(self.oracle.may_repeat("x0", 70.1))

    def test_outdated(self):
        """What a network has delayed for longer than hbtd doubts it may be HSM's last word."""
        self.oracle.told("x0", "Ready", "OK", 41)
        for arrived, fails in ((80, False), (60, True)):
            self.oracle.answered("x0", 42)
            self.oracle.told("x0", "Ready", "Warning", arrived, 36)
            if fails:
                self.assertRaises(Violation, self.oracle.check_rest, {"x0": True})
            else:
                self.oracle.check_rest({"x0": True})

    def test_sent_again(self):
        """What was true when it was sent first may arrive later."""
        self.oracle.answered("x0", 53)
        self.oracle.told("x0", "Ready", "OK", 54)
        self.assertRaises(Violation, self.oracle.told, "x0", "Standby", "Alert", 60)
        self.assertRaises(Violation, self.oracle.told, "x0", "Standby", "Alert", 60, 58)
        self.oracle.told("x0", "Standby", "Alert", 60, 52)

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
        self.oracle.check_deaths(519)
        self.assertRaises(Violation, self.oracle.check_deaths, 521)

    def test_pause(self):
        """A pause that ended less than Warntime before a death, or after it, puts that off."""
        for began, fails in ((34, True), (36, False), (50, False)):
            self.setUp()
            self.oracle.hears.set(began - 1, False)
            self.oracle.hears.set(began, True)
            self.oracle.died("x0", 40)
            if fails:
                self.assertRaises(Violation, self.oracle.check_deaths, 67)
            else:
                self.oracle.check_deaths(69)
                self.assertRaises(Violation, self.oracle.check_deaths, 71)

    def test_rest(self):
        """HSM's last word has to be the truth."""
        self.assertRaises(Violation, self.oracle.check_rest, {"x0": True})
        self.oracle.told("x0", "Ready", "OK", 40)
        self.oracle.check_rest({"x0": True})
        self.assertRaises(Violation, self.oracle.check_rest, {"x0": False})

    def test_rules(self):
        """All replicas go by the same rule at rest, and each value is one that may be in force."""
        old, new = Rule(5, 12, 1), Rule(8, 12, 2)
        self.oracle.check_rules({"a": old, "b": old})
        self.assertRaises(Violation, self.oracle.check_rules, {"a": new})
        self.oracle.rules.may(new, 40)
        self.oracle.check_rules({"a": Rule(8, 12, 1)})
        self.assertRaises(Violation, self.oracle.check_rules, {"a": old, "b": new})
        self.oracle.rules.only([new], 50)
        self.assertRaises(Violation, self.oracle.check_rules, {"a": old, "b": old})

    def test_killed(self):
        """What was heard while the store could not be written is lost by a kill."""
        self.oracle.stores.set(0, True)
        self.oracle.told("x0", "Ready", "OK", 20)
        self.oracle.stores.set(35, False)
        self.oracle.stores.set(39, True)
        self.oracle.lost(40)
        self.oracle.told("x0", "Ready", "Warning", 40)
        self.assertRaises(Violation, self.oracle.told, "x0", "Standby", "Alert", 40)

    def test_killed_after_telling(self):
        """Who was told to HSM is known to the next process, whatever a kill has lost."""
        self.oracle.answered("x1", 40)
        self.oracle.died("x1", 40.2)
        self.oracle.lost(40.2)
        self.oracle.check_deaths(500)
        self.setUp()
        self.oracle.answered("x1", 40)
        self.oracle.told("x1", "Ready", "OK", 40.1)
        self.oracle.died("x1", 40.2)
        self.oracle.lost(40.2)
        self.assertRaises(Violation, self.oracle.check_rest, {"x1": False})
        self.assertRaises(Violation, self.oracle.check_deaths, 500)

    def test_back_from_death(self):
        """A death is true from when the component was heard last, and no return is after that."""
        self.oracle.died("x0", 40.9)
        self.oracle.told("x0", "Standby", "Alert", 51.5)
        self.assertRaises(Violation, self.oracle.told, "x0", "Ready", "OK", 60)

    def test_lost(self):
        """Nothing need be told of a component of which nothing is known any more."""
        self.oracle.told("x0", "Ready", "OK", 40)
        self.oracle.died("x0", 40)
        self.oracle.lost_all()
        self.oracle.check_deaths(500)
        self.oracle.check_rest({"x0": False})
        self.assertRaises(Violation, self.oracle.told, "x0", "Standby", "Alert", 500)

    def test_late(self):
        """Who was killed is told back for a while, when its host has sent a heartbeat again."""
        self.oracle.died("x0", 40)
        self.oracle.told("x0", "Standby", "Alert", 60)
        self.assertRaises(Violation, self.oracle.told, "x0", "Ready", "OK", 70)
        self.oracle.late("x0", 80)
        self.oracle.told("x0", "Ready", "OK", 81)
        self.oracle.told("x0", "Standby", "Alert", 95)
        self.oracle.check_deaths(96)
        self.assertRaises(Violation, self.oracle.told, "x0", "Ready", "OK", 96)

    def test_on_its_way(self):
        """A warning may be sent again as its component comes back, if what was heard is lost."""
        self.oracle.told("x0", "Ready", "Warning", 45)
        self.oracle.hears.set(45, False)
        self.oracle.lost(60, seconds=60)
        self.oracle.hears.set(80, True)
        self.oracle.answered("x0", 80)
        self.assertRaises(Violation, self.oracle.told, "x0", "Standby", "Alert", 80.1)
        self.oracle.told("x0", "Ready", "Warning", 80.1)
        self.assertRaises(Violation, self.oracle.told, "x0", "Ready", "Warning", 80.6)

    def test_judged_and_lost(self):
        """So may a death that was judged before what was heard was lost, but no earlier one."""
        for lost, fails in ((50, True), (52, False)):
            self.setUp()
            self.oracle.hears.set(lost, False)
            self.oracle.lost(lost, seconds=60)
            self.oracle.hears.set(80, True)
            self.oracle.answered("x0", 80)
            told = "x0", "Standby", "Alert"
            if fails:
                self.assertRaises(Violation, self.oracle.told, *told, 80.1)
                continue
            # A rule by which it was not dead may be in force, too; the other one is enough.
            self.oracle.rules.may(Rule(5, 30, 1), 45)
            self.assertRaises(Violation, self.oracle.told, *told, 80.6)
            self.oracle.told(*told, 80.1)
            self.oracle.told("x0", "Ready", "OK", 80.2)
            self.assertRaises(Violation, self.oracle.told, *told, 80.3)

    def test_unheard(self):
        """Nothing is said of a component of which no heartbeat was answered."""
        for word in (("Ready", "OK"), ("Ready", "Warning"), ("Standby", "Alert")):
            self.assertRaises(Violation, self.oracle.told, "x1", *word, 40)


def share(oracle: ReplicaOracle) -> None:
    """Have replicas share the heartbeats of a component, the last one at second 39."""
    oracle.hears.set(0, True)
    oracle.works.set(0, True)
    oracle.beaten("x0")
    for second in range(1, 40, 2):
        oracle.shared("x0", second)


class ReplicaOracleTests(SynchronousTestCase):
    """The oracle of replicas knows what they share only a little later."""

    def setUp(self):
        self.oracle = ReplicaOracle(10, 20, 1)
        share(self.oracle)

    def test_alarms(self):
        """An alarm is judged by all heartbeats before it that were shared, also after it."""
        self.oracle.told("x0", "Ready", "Warning", 47)
        self.oracle.check_deaths(47 + SHARED)
        self.oracle.check_deaths(60)
        self.setUp()
        self.oracle.shared("x0", 41)
        self.oracle.told("x0", "Ready", "Warning", 47.6)
        self.oracle.shared("x0", 46)
        self.oracle.check_deaths(47.6)
        self.assertRaises(Violation, self.oracle.check_deaths, 48 + SHARED)


class MixedOracleTests(SynchronousTestCase):
    """The oracle of a fleet with originals tells hbtd's words from theirs."""

    def setUp(self):
        self.oracle = MixedOracle(5, 12, 1)
        share(self.oracle)

    def test_words(self):
        """An original may say of who beats that it is dead; hbtd may not, and has to deny it."""
        self.oracle.original_told("x0", "Standby", "Alert", 40)
        self.assertRaises(Violation, self.oracle.check_rest, {"x0": True})
        self.oracle.told("x0", "Ready", "OK", 40)
        self.oracle.check_rest({"x0": True})
        self.oracle.told("x0", "Standby", "Alert", 40)
        self.assertRaises(Violation, self.oracle.check_deaths, 50)

    def test_lost_word(self):
        """A death that an original has judged, and not told, has to be told once all has worked."""
        self.oracle.died("x0", 40)
        self.oracle.check_deaths(64)
        self.assertRaises(Violation, self.oracle.check_deaths, 66)
        self.oracle.original_judged("x0", 60, buries=False)
        self.oracle.check_deaths(124)
        self.assertRaises(Violation, self.oracle.check_deaths, 126)

    def test_buried(self):
        """Nothing need be told of whom an original has declared dead while nobody else ran."""
        self.oracle.died("x0", 40)
        self.oracle.original_judged("x0", 60, buries=True)
        self.oracle.check_deaths(500)

    def test_contested(self):
        """After three words of originals a component's last word may be theirs, two are not."""
        for _ in range(2):
            self.oracle.original_told("x0", "Ready", "Warning", 50)
        self.oracle.died("x0", 50)
        self.assertRaises(Violation, self.oracle.check_rest, {"x0": True})
        self.assertRaises(Violation, self.oracle.check_deaths, 500)
        self.oracle.original_told("x0", "Ready", "Warning", 51)
        self.oracle.check_rest({"x0": True})
        self.oracle.check_deaths(500)


class TelemetryOracleTests(SynchronousTestCase):
    """The oracle of Kafka notices what is missing, and what is out of order."""

    SAID = {
        "started": ("Ready", "OK", "Heartbeat started."),
        "warned": ("Ready", "Warning", "Heartbeat stopped, node may be dead."),
        "restarted": ("Ready", "OK", "Heartbeat re-started."),
        "died": ("Standby", "Alert", "Heartbeat stopped, node is dead."),
    }

    def setUp(self):
        self.hsm = Oracle(5, 12, 1)
        self.hsm.hears.set(0, True)
        self.oracle = TelemetryOracle(self.hsm, 5, 12)
        for number, second in enumerate((1, 20, 40), 1):
            self.oracle.beats("x0", number, second)
            self.hsm.answered("x0", second)

    def publish(self, word, beat, late=False, now=60):
        """Publish a judgement."""
        state, flag, info = self.SAID[word]
        message = {"ID": "x0", "NewState": state, "NewFlag": flag, "Info": info}
        text = json.dumps({**message, "LastHBTimeStamp": f"t{beat}"})
        self.oracle.appended("x0", text, late, now)

    def refuse(self, beat):
        """Refuse the message of a start for ever."""
        state, flag, info = self.SAID["started"]
        message = {"ID": "x0", "NewState": state, "NewFlag": flag, "Info": info}
        self.oracle.refused("x0", json.dumps({**message, "LastHBTimeStamp": f"t{beat}"}))

    def test_repeated(self):
        """Messages may be repeated from an earlier one on."""
        for word, beat in 2 * (("started", 1), ("warned", 1), ("restarted", 2)):
            self.publish(word, beat)
        self.oracle.check_rest({"x0": True})

    def test_named_late(self):
        """A restart may name the heartbeat before the warning if replicas share a topic."""
        self.publish("started", 1)
        self.publish("warned", 1)
        self.assertRaises(Violation, self.publish, "restarted", 1)
        self.oracle = TelemetryOracle(self.hsm, 5, 12, ignorant=True)
        for number, second in enumerate((1, 20, 40), 1):
            self.oracle.beats("x0", number, second)
        for word, beat in (("started", 1), ("warned", 1), ("restarted", 1), ("restarted", 1)):
            self.publish(word, beat)
        self.oracle.check_rest({"x0": True})

    def test_skipped(self):
        """None of those that are repeated may be left out."""
        for word, beat in (("started", 1), ("warned", 1), ("restarted", 2), ("started", 1)):
            self.publish(word, beat)
        self.assertRaises(Violation, self.publish, "restarted", 2)

    def test_overtaken(self):
        """An older message must not come first after a newer one, unless it is late."""
        self.publish("started", 1)
        self.publish("restarted", 2)
        self.publish("warned", 1, late=True)
        self.assertRaises(Violation, self.publish, "died", 1)

    def test_late(self):
        """Who should have ceased to send may have done so for two seconds, and no longer."""
        self.oracle.is_late("host", 2.0)
        self.assertRaises(Violation, self.oracle.is_late, "host", 2.1)

    def test_lost_with_etcd(self):
        """The last change may be lost with etcd's data, but not if another one came after that."""
        self.publish("started", 1)
        self.publish("warned", 1)
        self.assertRaises(Violation, self.oracle.check_rest, {"x0": True})
        self.oracle.lost_data()
        self.oracle.check_rest({"x0": True})
        self.publish("restarted", 2)
        self.publish("warned", 2)
        self.assertRaises(Violation, self.oracle.check_rest, {"x0": True})

    def test_missing(self):
        """A change must not be missing, nor what HSM was told."""
        self.publish("started", 1)
        self.publish("restarted", 2)
        self.assertRaises(Violation, self.oracle.check_rest, {"x0": True})
        self.publish("warned", 1, late=True)
        self.oracle.check_rest({"x0": True})
        self.oracle.told("x0", "Standby", "Alert", True)
        self.assertRaises(Violation, self.oracle.check_rest, {"x0": True})

    def test_untried(self):
        """Behind many that Kafka refuses others may wait, until it accepts one."""
        self.publish("started", 1)
        for beat in range(4, MOST_TRIED + 5):
            self.assertRaises(Violation, self.oracle.check_rest, {"x0": False})
            self.assertEqual(self.oracle.most_waiting, beat - 4)
            self.oracle.beats("x0", beat, 60)
            self.refuse(beat)
        self.oracle.check_rest({"x0": False})
        self.assertGreater(self.oracle.most_waiting, 1000)
        self.publish("started", 4)
        self.assertRaises(Violation, self.oracle.check_rest, {"x0": False})

    def test_untrue(self):
        """Who beats is not said to be dead, and nobody has a heartbeat that was not sent."""
        self.publish("started", 1)
        self.assertRaises(Violation, self.publish, "restarted", 4)
        self.assertRaises(Violation, self.publish, "died", 2, now=25)

    def test_connections(self):
        """Connections to Kafka are limited, but for those that each end with a new refusal."""
        for number in range(100):
            self.oracle.connects("host", 1, number)
        for number in range(200):
            self.oracle.connects("host", 1, 200 + number / 10)
            self.refuse(1)
        with self.assertRaises(Violation):
            for number in range(101):
                self.oracle.connects("host", 1, 300 + number / 2)


class TimelineTests(SynchronousTestCase):
    """How long something was the case."""

    def test_within(self):
        """Only the time in which it was the case counts."""
        line = Timeline()
        line.set(10, True)
        line.set(20, False)
        line.set(30, True)
        self.assertEqual(line.within(0, 40), 20)
        self.assertEqual(line.within(-20, 40), 20)
        self.assertEqual(line.within(15, 32), 7)
        self.assertEqual(line.within(21, 29), 0)

    def test_throughout(self):
        """Sums of times are not exact, and what was always the case was so."""
        random = Random(1)
        for _ in range(300):
            line, now = Timeline(), 0.0
            for number in range(40):
                now += random.uniform(0.0, 20.0)
                line.set(now, number % 2 == 1)
            end = now + random.uniform(60.0, 100.0)
            self.assertTrue(line.throughout(now + random.uniform(0.0, 40.0), end))
            self.assertFalse(line.throughout(now - 0.001, end))
