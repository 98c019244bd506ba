"""Faults from a seed."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.soak.schedule import (
    ETCD_FREEZE,
    ETCD_STOP,
    FREEZE,
    HSM,
    HSM_TROUBLES,
    KILL,
    REPLICAS,
    SQLITE,
    STEADY_AFTER,
    TERMINATE,
    plan,
)

seeds = st.integers(0, 10**6)
lengths = st.floats(30, 10_000)


class PlanTests(SynchronousTestCase):
    """Which faults there are, and when."""

    @given(seed=seeds, seconds=lengths)
    def test_within(self, seed: int, seconds: float) -> None:
        """Faults are in order, begin when the machines have settled, and end within the time."""
        faults = plan(seed, seconds)
        self.assertEqual(faults, sorted(faults))
        for fault in faults:
            self.assertGreater(fault.at, min(60.0, seconds / 10))
            self.assertGreaterEqual(fault.seconds, 0)
            self.assertLessEqual(fault.at + fault.seconds, seconds)

    @given(seed=seeds)
    def test_repeated(self, seed: int) -> None:
        """The same seed has the same faults, another one has others."""
        self.assertEqual(plan(seed, 3600), plan(seed, 3600))
        self.assertNotEqual(plan(seed, 3600), plan(seed + 1, 3600))

    @given(seed=seeds)
    def test_steady(self, seed: int) -> None:
        """The last replica, and the hbtd on SQLite, are not ended after the first quarter."""
        for fault in plan(seed, 7200):
            if fault.kind in (KILL, TERMINATE) and fault.at > STEADY_AFTER * 7200:
                self.assertEqual(fault.site, REPLICAS)
                self.assertIn(fault.number, (0, 1))

    @given(seed=seeds)
    def test_targets(self, seed: int) -> None:
        """Each fault is about a process, or a trouble, that there is."""
        for fault in plan(seed, 7200):
            if fault.kind in (KILL, TERMINATE, FREEZE):
                self.assertIn(fault.number, range(3 if fault.site == REPLICAS else 1))
            elif fault.kind == HSM:
                self.assertIn(fault.number, range(len(HSM_TROUBLES)))

    def test_all_kinds(self) -> None:
        """In two hours each machine has faults of all its kinds, etcd's only where there is one."""
        kinds = {
            site: {fault.kind for fault in plan(7, 7200) if fault.site == site}
            for site in (REPLICAS, SQLITE)
        }
        self.assertEqual(kinds[REPLICAS] - kinds[SQLITE], {ETCD_FREEZE, ETCD_STOP})
        self.assertEqual(kinds[SQLITE] - kinds[REPLICAS], set())
        self.assertEqual(len(kinds[SQLITE]), 8)
