"""Which rules the oracle takes to be in force, and what it makes of them."""

from twisted.trial.unittest import SynchronousTestCase

from tests.simulation.oracle import Oracle, Violation
from tests.simulation.rules import Rule, Rules

_OLD, _NEW = Rule(5, 12, 1), Rule(8, 20, 2)


class RulesTests(SynchronousTestCase):
    """Rules that replace one another."""

    def rules(self, begin, end):
        """Return the rules between two times."""
        return {period.rule for period in self.known.between(begin, end)}

    def test_between(self):
        """While a change is under way both rules may be in force, later one of them."""
        self.known = Rules(_OLD)
        self.known.may(_NEW, 10)
        self.known.only([_NEW], 20)
        self.assertEqual(self.rules(0, 9), {_OLD})
        self.assertEqual(self.rules(11, 19), {_OLD, _NEW})
        self.assertEqual(self.rules(21, 30), {_NEW})
        self.assertEqual(self.known.possible, [_NEW])


class ChangedRulesTests(SynchronousTestCase):
    """The oracle goes by the rules of the time."""

    def setUp(self):
        self.oracle = Oracle(*_OLD)
        self.oracle.hears.set(0, True)
        self.oracle.works.set(0, True)
        for second in range(1, 40, 2):
            self.oracle.answered("x0", second)

    def test_new_rule(self):
        """A silence that the old rule asks for is too short for the new one."""
        self.oracle.rules.only([_NEW], 39)
        self.assertRaises(Violation, self.oracle.told, "x0", "Standby", "Alert", 39 + 13)
        self.oracle.told("x0", "Standby", "Alert", 39 + 20)

    def test_judged_before(self):
        """What was judged by the old rule may be told later."""
        self.oracle.rules.only([_NEW], 39 + 12)
        self.oracle.told("x0", "Standby", "Alert", 39 + 13)

    def test_not_yet_silent(self):
        """An old rule explains nothing that came when it was over already."""
        self.oracle.rules.only([_NEW], 39 + 5)
        self.assertRaises(Violation, self.oracle.told, "x0", "Standby", "Alert", 39 + 13)

    def test_bound(self):
        """A death has to be told by the longest rule that was in force since, and soon after."""
        self.oracle.died("x0", 40)
        self.oracle.rules.only([_NEW], 45)
        bound = 20 + 2 * 2 + 12
        self.oracle.check_deaths(40 + bound - 1)
        self.assertRaises(Violation, self.oracle.check_deaths, 40 + bound + 1)

    def test_shorter_rule(self):
        """A rule that no longer holds does not excuse a later silence."""
        self.oracle.rules.only([_NEW], 20)
        self.oracle.rules.only([_OLD], 30)
        self.oracle.died("x0", 40)
        self.assertRaises(Violation, self.oracle.check_deaths, 40 + 12 + 1 + 12 + 1)
