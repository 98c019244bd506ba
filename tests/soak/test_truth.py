"""Whether what HSM is told fits what happens."""

from twisted.trial.unittest import SynchronousTestCase

from hbtd.simulator.bulk_update import Update
from tests.soak.truth import ERRTIME, INTERVAL, WARNTIME, SeveralOracle, SingleOracle, Truth

NODE, AGENT = "x1000c0s0b0n0", "x1000c0s0b0n1"


class TruthTests(SynchronousTestCase):
    """One machine, on which all works from the beginning."""

    def setUp(self) -> None:
        """Have a node be heard for ten minutes."""
        self.broken: list[str] = []
        self.oracle = SingleOracle(WARNTIME, ERRTIME, INTERVAL)
        self.truth = Truth(self.oracle, self.broken.append)
        for timeline in (self.oracle.hears, self.oracle.stores, self.oracle.works):
            timeline.set(0.0, True)
        for at in range(0, 600, 10):
            self.truth.answered(NODE, float(at))

    def tell(self, at: float, state: str, flag: str, name: str = NODE) -> None:
        """Have HSM be told."""
        update = Update(b"", at, names=[name], state=state, flag=flag)
        self.truth.told(update)

    def test_false_death(self) -> None:
        """A death of a node that was heard just before is noticed, also after hours of beating."""
        for at in range(600, 20_000, 10):
            self.truth.answered(NODE, float(at))
        self.tell(20_000.0, "Standby", "Alert")
        self.assertIn("silent for", self.broken[0])

    def test_death(self) -> None:
        """A death that is told in time is counted, with the seconds that it took."""
        self.truth.died(NODE, 595.0)
        self.truth.check(600.0)
        self.tell(682.0, "Standby", "Alert")
        self.truth.check(2000.0)
        self.assertEqual(self.broken, [])
        self.assertEqual(self.truth.took, [87.0])

    def test_no_death(self) -> None:
        """A death of which HSM is not told in time is noticed, once."""
        self.truth.died(NODE, 595.0)
        for at in (700.0, 900.0, 1200.0):
            self.truth.check(at)
        self.assertEqual(len(self.broken), 1)
        self.assertIn(f"{NODE} died at 595.0", self.broken[0])

    def test_answered_late(self) -> None:
        """A heartbeat that is answered after its node has died does not revive the node."""
        self.truth.died(NODE, 595.0)
        self.truth.answered(NODE, 596.0)
        self.truth.check(900.0)
        self.assertEqual(len(self.broken), 1)

    def test_late_observer(self) -> None:
        """An observer that was late by a second excuses a second of silence, for a while."""
        self.truth.lagged(600.0, 1.0)
        self.tell(590.0 + WARNTIME - 1.4, "Ready", "Warning")
        self.assertEqual(self.broken, [])
        self.truth.lagged(600.0 + ERRTIME + 2 * INTERVAL, 0.0)
        self.tell(590.0 + WARNTIME - 1.4, "Ready", "Warning")
        self.assertEqual(len(self.broken), 1)

    def test_agent(self) -> None:
        """The death of a node whose agent runs is noticed; a warning is counted."""
        self.truth.booted(AGENT, 100.0, agent=True)
        self.tell(500.0, "Ready", "Warning", AGENT)
        self.assertEqual((self.broken, self.truth.warned_agents), ([], 1))
        self.tell(560.0, "Standby", "Alert", AGENT)
        self.assertEqual(self.broken, [f"{AGENT} is said to be standby/alert, but its agent runs"])

    def test_agent_dies(self) -> None:
        """The death of an agent has to be told, as that of any other node."""
        self.truth.booted(AGENT, 100.0, agent=True)
        self.truth.died(AGENT, 300.0)
        self.tell(300.0 + ERRTIME, "Standby", "Alert", AGENT)
        self.assertEqual(self.broken, [])
        self.truth.booted(AGENT, 500.0, agent=True)
        self.truth.died(AGENT, 550.0)
        self.tell(500.1, "Ready", "OK", AGENT)
        self.truth.check(1500.0)
        self.assertEqual(len(self.broken), 1)

    def test_rest(self) -> None:
        """At rest HSM has to know which nodes live."""
        self.tell(1.0, "Ready", "OK")
        self.truth.check_rest([NODE])
        self.assertEqual(self.broken, [])
        self.truth.died(NODE, 595.0)
        self.truth.check_rest([NODE])
        self.assertEqual(len(self.broken), 1)


class SeveralTests(SynchronousTestCase):
    """Replicas."""

    def test_hours(self) -> None:
        """A false death is noticed after hours in which a node was heard, out of order, too."""
        broken: list[str] = []
        oracle = SeveralOracle(WARNTIME, ERRTIME, INTERVAL)
        truth = Truth(oracle, broken.append)
        oracle.hears.set(0.0, True)
        truth.exists(NODE)
        for at in range(0, 20_000, 10):
            oracle.shared(NODE, float(at - at % 20 * 0.5))
        truth.told(Update(b"", 20_000.0, names=[NODE], state="Standby", flag="Alert"))
        self.assertEqual(len(broken), 1)
