"""Quarantine: which components HSM rejects, and that no others have to wait for them."""

from itertools import pairwise
from random import Random

from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from hbtd.hsm.batch_size import BatchSize
from hbtd.hsm.outbox import Outbox
from hbtd.hsm.quarantine import IN_A_ROW, Quarantine
from hbtd.simulator.behaviour import Behaviour
from hbtd.tracker.transitions import Judgement, Transition
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

A, B, C, D = nodes(4)


class QuarantineTests(SynchronousTestCase):
    """Which batches are chosen after rejections."""

    def setUp(self) -> None:
        self.outbox = Outbox()
        self.quarantine = Quarantine(self.outbox)

    def put(self, transition: Transition, *names: str) -> list[Judgement]:
        """Put judgements into the outbox."""
        judgements = judge(transition, *names)
        for judgement in judgements:
            self.outbox.put(judgement)
        return judgements

    def batch(self) -> list[str]:
        """Return the components of the next batch."""
        batch = self.quarantine.next_batch({each: BatchSize() for each in Transition})
        return [judgement.component for judgement in batch]

    def accept(self, judgements: list[Judgement]) -> None:
        """Have HSM accept judgements."""
        for judgement in judgements:
            self.outbox.discard(judgement)
        self.quarantine.accepted(judgements)

    def set_aside(self, name: str) -> None:
        """Have a component rejected and set aside."""
        self.quarantine.rejected(self.put(DIED, name), "no")
        self.assertEqual(len(self.quarantine.convict()), 1)

    def test_suspect_does_not_ride_along(self) -> None:
        """A suspect is not part of the batches of others."""
        a, b, c = self.put(DIED, A, B, C)
        self.quarantine.rejected([b], "no")
        self.assertEqual(self.batch(), [A, C])
        self.accept([a, c])
        self.assertEqual(self.batch(), [B])

    def test_only_suspects(self) -> None:
        """While only suspects wait, there is nothing to send."""
        self.quarantine.rejected(self.put(DIED, A), "no")
        self.assertEqual(self.batch(), [])

    def test_culprit_does_not_ride_along(self) -> None:
        """A new judgement on a culprit is sent alone, whether it waits first or last."""
        self.set_aside(B)
        self.put(DIED, A, B, C)
        self.assertEqual(self.batch(), [A, C])
        self.put(DIED, A, C)
        self.assertEqual(self.batch(), [B])

    def test_new_judgement_on_a_suspect(self) -> None:
        """A new judgement on a suspect is not under suspicion."""
        _, b = self.put(DIED, A, B)
        self.quarantine.rejected([b], "no")
        self.put(DIED, B)
        self.assertEqual(self.batch(), [A, B])

    def test_halves(self) -> None:
        """A rejected batch is sent again in halves, without what has been replaced since."""
        batch = self.put(DIED, A, B, C, D)
        self.assertEqual(self.quarantine.rejected(batch, "no"), [])
        self.put(STARTED, B)
        self.assertEqual(self.batch(), [A])
        self.assertEqual(self.batch(), [C, D])
        self.assertEqual(self.batch(), [B])

    def test_culprit(self) -> None:
        """A component rejected alone twice, with a success in between, is a culprit."""
        a, b = self.put(DIED, A, B)
        self.assertEqual(self.quarantine.rejected([a], "once"), [])
        self.assertEqual(self.quarantine.rejected([a], "twice"), [])
        self.accept([b])
        self.assertEqual(self.quarantine.rejected([a], "thrice"), [(a, "thrice")])
        self.assertEqual(self.quarantine.set_aside, {A: a})
        self.assertNotIn(a, self.outbox)

    def test_culprit_again(self) -> None:
        """A culprit that is rejected again is set aside at once, and not reported again."""
        self.set_aside(A)
        (again,) = self.put(WARNED, A)
        self.assertEqual(self.quarantine.rejected([again], "no"), [])
        self.assertEqual(self.quarantine.set_aside, {A: again})
        self.assertEqual(len(self.outbox), 0)

    def test_rejects_everything(self) -> None:
        """After too many rejections in a row everything counts as rejected, until a success."""
        (first, *others) = self.put(DIED, *nodes(IN_A_ROW + 2))
        for judgement in others:
            self.assertFalse(self.quarantine.rejects_everything)
            self.quarantine.rejected([judgement], "no")
        self.assertTrue(self.quarantine.rejects_everything)
        self.accept([first])
        self.assertFalse(self.quarantine.rejects_everything)

    def test_acquit(self) -> None:
        """Former suspects are sent last."""
        a, *_ = self.put(DIED, A, B, C)
        self.quarantine.rejected([a], "no")
        self.quarantine.acquit()
        self.assertEqual(self.batch(), [B, C, A])


class RejectionTests(StartedTestCase):
    """HSM rejects some components: only these have to wait."""

    def reject(self, *culprits: str) -> None:
        """Have HSM reject these, and no others."""
        self.hsm.behaviour.refuse = set(culprits)

    def test_culprits(self):
        """Culprits anywhere are found in few attempts and set aside; all others are sent."""
        random = Random(7)
        everybody = nodes(700)
        for count in range(6):
            for _ in range(6):
                self.begin()
                culprits = random.sample(everybody, count)
                self.reject(*culprits)
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
                # An update for each halving of each culprit's batch, twice, and the batches.
                self.assertLessEqual(len(self.hsm.updates), 2 * 9 * count + 12)

    def test_adjacent(self):
        """Adjacent culprits are found, too."""
        everybody = nodes(100)
        for first in (0, 40, 95):
            self.begin()
            self.reject(*everybody[first : first + 5])
            self.tell(STARTED, *everybody)
            self.advance(1)
            self.assertEqual(self.notifier.set_aside_count, 5)
            self.assertEqual(len(self.hsm.components), 95)

    def test_alone(self):
        """A single culprit is not tried again while nothing changes."""
        self.reject("x0c0s0b0n0")
        self.tell(STARTED, "x0c0s0b0n0")
        self.advance(200)
        self.assertEqual(len(self.hsm.updates), 1)
        self.assertTrue(self.notifier.hsm_ready)

    def test_new_judgement(self):
        """A new judgement on a culprit is sent alone; a further rejection is not logged."""
        culprit, *others = nodes(20)
        self.reject(culprit)
        self.tell(STARTED, culprit, *others)
        self.hsm.updates.clear()
        with capturedLogs() as events:
            self.tell(WARNED, culprit, *others)
            self.advance(1)
        self.assertEqual(sorted(self.sent()), sorted([(WARNED, others), (WARNED, [culprit])]))
        self.assertEqual(lines(events, "error"), [])
        self.assertEqual(self.notifier.rejected_count, 1)
        self.assertEqual(self.notifier.set_aside_count, 1)
        self.reject()
        self.tell(DIED, culprit)
        self.advance(1)
        self.assertEqual(self.hsm.components[culprit].state, "Standby")
        self.assertEqual(self.notifier.set_aside_count, 0)

    def test_after_an_outage(self):
        """Culprits are tried again after an outage of HSM."""
        culprit, *others = nodes(20)
        self.reject(culprit)
        self.tell(DIED, culprit, *others)
        self.hsm.behaviour.ready = False
        self.advance(10)
        self.reject()
        self.hsm.behaviour.ready = True
        self.advance(10)
        self.assertEqual(self.hsm.components[culprit].state, "Standby")
        self.assertEqual(self.notifier.set_aside_count, 0)
        self.assertEqual(self.notifier.delivered_count, 20)

    def test_newest_judgement(self):
        """Only the newest judgement on a culprit is tried again."""
        (culprit,) = nodes(1)
        self.reject(culprit)
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
        """A whole cabinet of culprits neither delays others nor causes endless retries."""
        everybody = nodes(400)
        culprits = everybody[100:164]
        self.reject(*culprits)
        self.tell(STARTED, *everybody)
        self.advance(120)
        self.assertEqual(set(self.hsm.components), set(everybody) - set(culprits))
        self.assertEqual(self.notifier.set_aside_count, 64)
        self.hsm.updates.clear()
        with capturedLogs() as events:
            for name in everybody[:60]:
                self.tell(WARNED, name)
                self.advance(0.3)
                self.assertEqual(self.hsm.components[name].flag, "Warning", "delayed")
                self.advance(0.7)
        self.assertEqual(lines(events, "warn"), [])
        self.assertEqual(len(self.hsm.updates), 60)

    def test_everything_rejected(self):
        """An HSM that rejects everything makes few culprits, each logged.

        All components are sent when it accepts updates again.
        """
        self.hsm.behaviour.fail_status = 400
        everybody = nodes(1000)
        with capturedLogs() as events:
            self.tell(DIED, *everybody)
            self.advance(1)
            self.assertLessEqual(len(self.hsm.updates), 33)
            self.assertFalse(self.notifier.hsm_ready)
            self.advance(320)  # beyond the time after which culprits get another try
            loud = lines(events, "error")
            self.assertLessEqual(len(loud), 40)
        self.assertLessEqual(self.notifier.set_aside_count, 40)
        self.hsm.behaviour.fail_status = None
        self.advance(30)
        self.assertEqual(len(self.hsm.components), 1000)
        self.assertEqual(self.notifier.set_aside_count, 0)
        self.assertEqual(self.notifier.pending_count, 0)

    def test_new_judgement_beside_a_culprit(self):
        """A new judgement on a component of a rejected batch replaces the one in it."""
        culprit, *others = nodes(8)
        self.reject(culprit)
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

    def test_new_judgement_in_an_outage(self):
        """A new judgement on a culprit replaces the rejected one, also after an outage of HSM."""
        (culprit,) = nodes(1)
        self.reject(culprit)
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
        """The search for culprits continues after failures of HSM."""
        random = Random(3)
        everybody = nodes(300)
        culprits = random.sample(everybody, 3)
        self.reject(*culprits)
        self.hsm.behaviour.cost_ms = 1
        self.tell(DIED, *everybody)
        for _ in range(20):
            self.hsm.behaviour.fail_status = random.choice([None, None, 500, 503])
            self.advance(random.choice([0.02, 0.05, 0.2, 1.0]))
        self.hsm.behaviour.fail_status = None
        self.advance(60)
        self.assertEqual(set(self.hsm.components), set(everybody) - set(culprits))
        self.assertEqual(self.notifier.rejected_count, 3)

    def test_batches_around_culprits(self):
        """No component is sent twice because another was rejected."""
        everybody = nodes(500)
        self.reject(everybody[77])
        self.tell(DIED, *everybody)
        self.advance(1)
        applied = [name for update in self.hsm.updates if update.applied for name in update.names]
        self.assertCountEqual(applied, set(everybody) - {everybody[77]})
        self.assertEqual({kind(update) for update in self.hsm.updates}, {DIED})
        for one, other in pairwise(self.hsm.updates):
            self.assertNotEqual(one.names, other.names)
