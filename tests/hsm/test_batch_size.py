"""How much HSM is told at a time, and what becomes of those whom it refuses."""

from itertools import pairwise
from random import Random

from twisted.logger import capturedLogs

from hbtd.simulator.behaviour import Behaviour
from tests.support.hsm_memory import (
    DIED,
    STARTED,
    WARNED,
    StartedTestCase,
    judge,
    kind,
    lines,
    nodes,
)

REAL_COSTS = {"Standby": 2.0, "Ready": 0.5}
"""Milliseconds for a component, as measured on the real HSM."""


class SizeTests(StartedTestCase):
    """Updates are sized by how fast HSM is."""

    def assert_gentle(self) -> None:
        """See that no update was much larger than the largest before it."""
        largest = 100
        for update in self.hsm.updates:
            self.assertLessEqual(len(update.names), largest * 1.5 + 1)
            largest = max(largest, len(update.names))

    def durations(self) -> list[float]:
        """Give how long HSM took for each update; all must have been answered."""
        return [(update.answered or 1e9) - update.received for update in self.hsm.updates]

    def test_mass_death(self):
        """10,000 deaths take a real HSM hardly longer than it needs, and no update times out."""
        self.hsm.behaviour.cost_ms_by_state = REAL_COSTS
        everybody = nodes(10_000)
        self.tell(DIED, *everybody)
        took = self.advance_until(lambda: self.notifier.pending_count == 0, within=60)
        self.assertLessEqual(took, 1.25 * 20)
        self.assertEqual(len(self.hsm.components), 10_000)
        self.assertEqual(sum(len(update.names) for update in self.hsm.updates), 10_000)
        self.assertLess(max(self.durations()), 10)
        self.assert_gentle()

    def test_target(self):
        """In time an update takes HSM about a quarter of `sm_timeout`, whatever its speed."""
        for timeout, cost in ((10, 2.0), (10, 0.6), (10, 40.0), (4, 2.0), (30, 5.0)):
            self.begin(sm_timeout=timeout)
            self.hsm.behaviour.cost_ms = cost
            self.tell(DIED, *nodes(30_000))
            self.advance(20 * timeout)
            slowest = max(self.durations()[-8:-1] or [0])
            self.assertLess(slowest, timeout / 4 * 1.05, (timeout, cost))
            self.assertGreater(slowest, timeout / 4 * 0.6, (timeout, cost))
            self.assert_gentle()

    def test_boot_storm(self):
        """An HSM that takes no time gets few updates, growing gently and not without bound."""
        self.tell(STARTED, *nodes(20_000))
        self.advance(1)
        self.assertEqual(self.notifier.pending_count, 0)
        self.assertLess(len(self.hsm.updates), 16)
        self.assertLessEqual(max(len(update.names) for update in self.hsm.updates), 5000)
        self.assert_gentle()

    def test_becomes_slow(self):
        """When HSM becomes slow, updates become smaller and soon are in time again."""
        self.tell(STARTED, *nodes(5000))
        self.advance(1)
        self.hsm.updates.clear()
        self.hsm.behaviour.cost_ms = 10
        self.tell(STARTED, *nodes(5000))
        self.advance(200)
        self.assertEqual(self.notifier.pending_count, 0)
        # What was begun goes on in HSM, and the next updates have to wait for it.
        late = [took for took in self.durations() if took > 2.6]
        self.assertLessEqual(len(late), 6, late)

    def test_timeout(self):
        """An update that times out is repeated with half as many."""
        self.tell(WARNED, *nodes(3000))
        self.advance(1)
        size = max(len(update.names) for update in self.hsm.updates)
        self.assertGreater(size, 500)
        self.hsm.updates.clear()
        self.hsm.behaviour.hang = True
        self.tell(WARNED, *nodes(3000))
        self.advance(26)
        first, second, third = (len(update.names) for update in self.hsm.updates)
        self.assertEqual((first, second, third), (first, first // 2, first // 4))
        self.hsm.behaviour.hang = False
        self.advance(60)
        self.assertEqual(self.notifier.pending_count, 0)

    def test_kinds_apart(self):
        """That one kind of update is slow does not make the others small."""
        self.hsm.behaviour.cost_ms_by_state = {"Standby": 60.0}
        self.tell(DIED, *nodes(200))
        self.advance(60)
        self.hsm.updates.clear()
        self.tell(STARTED, *nodes(100))
        self.assertEqual(len(self.hsm.updates), 1)

    def test_small_updates_teach_nothing(self):
        """Many updates of a single component do not make the next large one larger."""
        for name in nodes(200):
            self.tell(STARTED, name)
            self.advance(0.01)
        self.hsm.updates.clear()
        self.tell(STARTED, *nodes(1000))
        self.assertLessEqual(len(self.hsm.updates[0].names), 151)


class RefusalTests(StartedTestCase):
    """HSM refuses some components: they alone have to wait."""

    def refuse(self, *culprits: str) -> None:
        """Let HSM refuse these, and nobody else."""
        self.hsm.behaviour.refuse = set(culprits)

    def test_culprits(self):
        """Wherever they are, few attempts find them; they are set aside, all others are told."""
        random = Random(7)
        everybody = nodes(700)
        for count in range(6):
            for _ in range(6):
                self.begin()
                culprits = random.sample(everybody, count)
                self.refuse(*culprits)
                with capturedLogs() as events:
                    self.tell(DIED, *everybody)
                    self.advance(1)
                self.assertEqual(set(self.hsm.components), set(everybody) - set(culprits))
                self.assertEqual(self.notifier.set_aside_count, count)
                self.assertEqual(self.notifier.rejected_count, count)
                self.assertEqual(self.notifier.pending_count, 0)
                errors = lines(events, "error")
                self.assertEqual(len(errors), count)
                for culprit in culprits:
                    self.assertEqual(sum(f" {culprit} " in line for line in errors), 1)
                # An update for each halving of each culprit's chunk, twice, and the chunks.
                self.assertLessEqual(len(self.hsm.updates), 2 * 9 * count + 12)

    def test_neighbours(self):
        """The same when they stand side by side."""
        everybody = nodes(100)
        for first in (0, 40, 95):
            self.begin()
            self.refuse(*everybody[first : first + 5])
            self.tell(STARTED, *everybody)
            self.advance(1)
            self.assertEqual(self.notifier.set_aside_count, 5)
            self.assertEqual(len(self.hsm.components), 95)

    def test_alone(self):
        """A single culprit is not tried again while HSM and it remain as they are."""
        self.refuse("x0c0s0b0n0")
        self.tell(STARTED, "x0c0s0b0n0")
        self.advance(200)
        self.assertEqual(len(self.hsm.updates), 1)
        self.assertTrue(self.notifier.hsm_ready)

    def test_news(self):
        """News of one set aside is tried, alone, and logged no more."""
        culprit, *others = nodes(20)
        self.refuse(culprit)
        self.tell(STARTED, culprit, *others)
        self.hsm.updates.clear()
        with capturedLogs() as events:
            self.tell(WARNED, culprit, *others)
            self.advance(1)
        self.assertEqual(sorted(self.sent()), sorted([(WARNED, others), (WARNED, [culprit])]))
        self.assertEqual(lines(events, "error"), [])
        self.assertEqual(self.notifier.rejected_count, 1)
        self.assertEqual(self.notifier.set_aside_count, 1)
        self.refuse()
        self.tell(DIED, culprit)
        self.advance(1)
        self.assertEqual(self.hsm.components[culprit].state, "Standby")
        self.assertEqual(self.notifier.set_aside_count, 0)

    def test_hsm_comes_back(self):
        """Those set aside are tried again when HSM has been away."""
        culprit, *others = nodes(20)
        self.refuse(culprit)
        self.tell(DIED, culprit, *others)
        self.hsm.behaviour.ready = False
        self.advance(10)
        self.refuse()
        self.hsm.behaviour.ready = True
        self.advance(10)
        self.assertEqual(self.hsm.components[culprit].state, "Standby")
        self.assertEqual(self.notifier.set_aside_count, 0)
        self.assertEqual(self.notifier.delivered_count, 20)

    def test_newest_of_a_culprit(self):
        """What is tried again is the newest that was to be said."""
        (culprit,) = nodes(1)
        self.refuse(culprit)
        for what in (STARTED, WARNED, DIED):
            self.tell(what, culprit)
            self.advance(1)
        self.hsm.behaviour.ready = False
        self.advance(10)
        self.hsm.behaviour = Behaviour()
        self.hsm.updates.clear()
        self.advance(10)
        self.assertEqual(self.sent(), [(DIED, [culprit])])
        self.assertEqual(self.acknowledged, judge(DIED, culprit))

    def test_many_culprits(self):
        """Even a whole cabinet of them holds nobody else up, and keeps nothing busy for ever."""
        everybody = nodes(400)
        culprits = everybody[100:164]
        self.refuse(*culprits)
        self.tell(STARTED, *everybody)
        self.advance(120)
        self.assertEqual(set(self.hsm.components), set(everybody) - set(culprits))
        self.assertEqual(self.notifier.set_aside_count, 64)
        self.hsm.updates.clear()
        with capturedLogs() as events:
            for name in everybody[:60]:
                self.tell(WARNED, name)
                self.advance(0.3)
                self.assertEqual(self.hsm.components[name].flag, "Warning", "held up")
                self.advance(0.7)
        self.assertEqual(lines(events, "warn"), [])
        self.assertEqual(len(self.hsm.updates), 60)

    def test_everybody(self):
        """An HSM that refuses everything does not object to names: few are set aside, and loudly.

        All are told when it thinks better of it.
        """
        self.hsm.behaviour.fail_status = 400
        everybody = nodes(1000)
        with capturedLogs() as events:
            self.tell(DIED, *everybody)
            self.advance(1)
            self.assertLessEqual(len(self.hsm.updates), 33)
            self.assertFalse(self.notifier.hsm_ready)
            self.advance(600)
            loud = lines(events, "error")
            self.assertLessEqual(len(loud), 40)
        self.assertLessEqual(self.notifier.set_aside_count, 40)
        self.hsm.behaviour.fail_status = None
        self.advance(30)
        self.assertEqual(len(self.hsm.components), 1000)
        self.assertEqual(self.notifier.set_aside_count, 0)
        self.assertEqual(self.notifier.pending_count, 0)

    def test_news_beside_a_culprit(self):
        """News of one that was refused along with a culprit is told instead of what was refused."""
        culprit, *others = nodes(8)
        self.refuse(culprit)
        self.hsm.behaviour.cost_ms = 100
        self.tell(STARTED, *others, culprit)
        self.tell(DIED, *others)
        self.hsm.updates.clear()
        self.advance(10)
        died = [
            name for update in self.hsm.updates if kind(update) is DIED for name in update.names
        ]
        started = [names for what, names in self.sent() if what is STARTED]
        self.assertCountEqual(died, others)
        self.assertEqual({name for names in started for name in names}, {culprit})

    def test_news_while_hsm_is_away(self):
        """News of one set aside replaces what it was refused for, also when HSM comes back."""
        (culprit,) = nodes(1)
        self.refuse(culprit)
        self.tell(STARTED, culprit)
        self.hsm.behaviour = Behaviour(ready=False)
        self.advance(10)
        self.tell(DIED, culprit)
        self.hsm.updates.clear()
        self.hsm.behaviour.ready = True
        self.advance(10)
        self.assertEqual(self.sent(), [(DIED, [culprit])])
        self.assertEqual(self.notifier.set_aside_count, 0)

    def test_failures_in_between(self):
        """The search goes on where HSM fails in the middle of it."""
        random = Random(3)
        everybody = nodes(300)
        culprits = random.sample(everybody, 3)
        self.refuse(*culprits)
        self.hsm.behaviour.cost_ms = 1
        self.tell(DIED, *everybody)
        for _ in range(20):
            self.hsm.behaviour.fail_status = random.choice([None, None, 500, 503])
            self.advance(random.choice([0.02, 0.05, 0.2, 1.0]))
        self.hsm.behaviour.fail_status = None
        self.advance(60)
        self.assertEqual(set(self.hsm.components), set(everybody) - set(culprits))
        self.assertEqual(self.notifier.rejected_count, 3)

    def test_chunks_around_culprits(self):
        """No component is told twice, because another was refused."""
        everybody = nodes(500)
        self.refuse(everybody[77])
        self.tell(DIED, *everybody)
        self.advance(1)
        applied = [name for update in self.hsm.updates if update.applied for name in update.names]
        self.assertCountEqual(applied, set(everybody) - {everybody[77]})
        self.assertEqual({kind(update) for update in self.hsm.updates}, {DIED})
        for one, other in pairwise(self.hsm.updates):
            self.assertNotEqual(one.names, other.names)
