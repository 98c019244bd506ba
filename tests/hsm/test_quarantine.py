"""Quarantine: which components HSM rejects, and that no others have to wait for them."""

from itertools import pairwise
from operator import sub
from random import Random
from typing import Any

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


SIZES = {each: BatchSize() for each in Transition}


class QuarantineTests(SynchronousTestCase):
    """Which batches are chosen after failures."""

    def setUp(self) -> None:
        self.outbox = Outbox()
        self.quarantine = Quarantine(self.outbox, lambda: 0.5)
        self.now = 1000.0

    def put(self, transition: Transition, *names: str) -> list[Judgement]:
        """Put judgements into the outbox."""
        judgements = judge(transition, *names)
        for judgement in judgements:
            self.outbox.put(judgement)
        return judgements

    def batch(self) -> list[str]:
        """Return the components of the next batch for the first connection."""
        return [judgement.component for judgement in self.quarantine.next_batch(SIZES)]

    def suspects(self) -> list[Judgement]:
        """Return the next batch for the second connection."""
        return self.quarantine.next_suspects(SIZES, self.now)

    def failed(self, batch: list[Judgement], **how: Any) -> list[Judgement]:
        """Have a batch fail; return the culprits."""
        return [each.judgement for each in self.quarantine.failed(batch, "no", self.now, **how)]

    def accept(self, judgements: list[Judgement]) -> list[Judgement]:
        """Have HSM accept judgements; return those that had been set aside."""
        for judgement in judgements:
            self.outbox.discard(judgement)
        return [each.judgement for each in self.quarantine.accepted(judgements)]

    def set_aside(self, name: str) -> Judgement:
        """Have a component fail alone, while another is accepted, and so set aside."""
        culprit, other = self.put(DIED, name, "x9c7s7b0n0")
        self.failed([culprit])
        self.accept([other])
        self.assertEqual(self.failed(self.suspects()), [culprit])
        return culprit

    def test_withdrawn_while_tried(self) -> None:
        """A component whose judgement is withdrawn on the way, and not sent, is told the next."""
        self.failed(self.put(DIED, A, B))
        (tried,) = self.suspects()
        self.outbox.withdraw_alarm(tried.component)
        self.quarantine.forget(tried.component)
        # There was no connection, so the outcome is not reported.
        (other,) = self.suspects()
        self.accept([other])
        self.assertEqual(self.suspects(), [])
        self.put(WARNED, tried.component)
        self.assertEqual(self.batch(), [tried.component])

    def test_many_forgotten(self) -> None:
        """However many suspects were forgotten since, the next one is found."""
        everybody = nodes(3000)
        for name in everybody:
            self.failed(self.put(DIED, name))
        for name in everybody[:-1]:
            self.outbox.withdraw_alarm(name)
            self.quarantine.forget(name)
        self.assertEqual([each.component for each in self.suspects()], everybody[-1:])

    def test_suspects_do_not_ride_along(self) -> None:
        """Suspects are not part of the batches of others, whatever is judged since."""
        a, b, c = self.put(DIED, A, B, C)
        self.failed([a, b])
        self.put(DIED, A)
        self.assertEqual(self.batch(), [C])
        self.accept([c])
        self.assertEqual(self.batch(), [])

    def test_halves(self) -> None:
        """A batch that failed is sent again in halves, the older ones first."""
        batch = self.put(DIED, *nodes(5))
        self.assertEqual(self.failed(batch), [])
        self.assertEqual(self.suspects(), batch[:2])
        self.failed(batch[:2])
        self.assertEqual(self.suspects(), batch[2:])
        self.accept(batch[2:])
        self.assertEqual(self.suspects(), batch[:1])
        self.accept(batch[:1])
        self.assertEqual(self.suspects(), batch[1:2])

    def test_halves_have_the_newest(self) -> None:
        """Suspects are sent with their newest judgements, those of one transition at a time."""
        self.failed(self.put(DIED, A, B, C, D))
        (b,) = self.put(STARTED, B)
        (a,) = self.suspects()
        self.assertEqual((a.component, a.transition), (A, DIED))
        self.accept([a])
        self.assertEqual(self.suspects(), [b])

    def test_withdrawn_suspects(self) -> None:
        """What was withdrawn is not sent; a new judgement on it is under no suspicion."""
        _, b = self.put(DIED, A, B)
        self.failed(judge(DIED, A, B))
        self.outbox.withdraw_alarm(A)
        self.quarantine.forget(A)
        self.put(STARTED, A)
        self.assertEqual(self.batch(), [A])
        self.assertEqual(self.suspects(), [b])

    def test_withdrawn_in_flight(self) -> None:
        """A component that is withdrawn while it is tried goes back only afterwards."""
        (a,) = self.put(DIED, A)
        self.failed([a])
        self.assertEqual(self.suspects(), [a])
        self.outbox.withdraw_alarm(A)
        self.quarantine.forget(A)
        self.put(STARTED, A)
        self.assertEqual(self.batch(), [])
        self.accept([a])
        self.assertEqual(self.batch(), [A])

    def test_culprit(self) -> None:
        """What fails alone although another was accepted since its first failure is a culprit."""
        a, b = self.put(DIED, A, B)
        self.assertEqual(self.failed([a]), [])
        self.assertEqual(self.failed(self.suspects()), [])
        self.accept([b])
        self.assertEqual(self.failed(self.suspects()), [a])
        self.assertEqual(set(self.quarantine.set_aside), {A})
        self.assertIn(a, self.outbox)

    def test_success_before(self) -> None:
        """A success before the first failure says nothing: HSM may have failed since."""
        a, b = self.put(DIED, A, B)
        self.accept([b])
        for _ in range(10):
            self.assertEqual(self.failed([a]), [])
            self.assertEqual(self.suspects(), [a])

    def test_rejected_alone(self) -> None:
        """What HSM rejects alone is believed to be wrong only if nothing else waits."""
        a, b = self.put(DIED, A, B)
        self.assertEqual(self.failed([a], rejected=True), [])
        self.assertEqual(self.failed([b], rejected=False), [])
        self.assertEqual(self.failed([b], rejected=True), [a, b])

    def test_pauses(self) -> None:
        """What is set aside is due after 5, 10, 20, ... 300 s, a little less at random."""
        culprit = self.set_aside(A)
        self.assertEqual(self.suspects(), [])
        due = []
        for _ in range(9):
            due.append((self.quarantine.next_due() or 0.0) - self.now)
            self.now += due[-1] - 0.001
            self.assertEqual(self.suspects(), [])
            self.now += 0.002
            self.assertEqual(self.suspects(), [culprit])
            self.assertEqual(self.failed([culprit]), [], "reported twice")
        for wait, whole in zip(due, (5, 10, 20, 40, 80, 160, 300, 300, 300), strict=True):
            self.assertAlmostEqual(wait, whole * 0.9, delta=0.01)

    def test_new_judgement_on_a_culprit(self) -> None:
        """A new judgement on a culprit is due at once, but not before others that are due."""
        self.set_aside(A)
        self.now += 1
        self.set_aside(B)
        (b,) = self.put(WARNED, B)
        self.assertEqual(self.suspects(), [b])
        self.now += 60
        self.failed([b])
        self.put(DIED, B)
        self.assertEqual([each.component for each in self.suspects()], [A])

    def test_new_judgement_in_flight(self) -> None:
        """A judgement that comes while an earlier one is sent is due as soon as that fails."""
        a = self.set_aside(A)
        self.now += 5
        self.assertEqual(self.suspects(), [a])
        (newer,) = self.put(STARTED, A)
        self.quarantine.next_due()
        self.failed([a])
        self.assertEqual(self.suspects(), [newer])

    def test_many_set_aside(self) -> None:
        """Thousands of components that are set aside have their turns in order, once each."""
        names = nodes(3000)
        for name in names:
            self.set_aside(name)
        self.now += 400
        for _ in range(3):
            for name in names:
                (tried,) = self.suspects()
                self.assertEqual(tried.component, name)
                self.failed([tried])
            self.assertEqual(self.suspects(), [])
            self.now += 400

    def test_one_is_accepted_again(self) -> None:
        """When one is accepted that was set aside, the others are due, too."""
        b = self.set_aside(B)
        for _ in range(3):
            self.now += 20
            self.failed(self.suspects())
        a = self.set_aside(A)
        self.now += 5
        self.assertEqual(self.suspects(), [a])
        self.assertEqual(self.accept([a]), [a])
        self.assertEqual(self.suspects(), [b])

    def test_reconsider(self) -> None:
        """When HSM has come back, everything that is set aside is due at once."""
        culprit = self.set_aside(A)
        for _ in range(5):
            self.now += 300
            self.failed(self.suspects())
        self.quarantine.reconsider()
        self.assertEqual(self.suspects(), [culprit])
        self.failed([culprit])
        self.assertAlmostEqual((self.quarantine.next_due() or 0.0) - self.now, 4.5)

    def test_asked_to_wait(self) -> None:
        """Suspects, and what is set aside, are not due before HSM wants to be asked again."""
        a, b, c = self.put(DIED, A, B, C)
        self.failed([a, b], pause=20.0)
        self.accept([c])
        self.now += 19.9
        self.assertEqual(self.suspects(), [])
        self.now += 0.2
        self.assertEqual(self.suspects(), [a])
        self.failed([a], pause=30.0)
        self.accept([b])
        self.now += 29.9
        self.assertEqual(self.suspects(), [])

    def test_unreported(self) -> None:
        """A batch whose outcome is not reported is sent again."""
        a, b = self.put(DIED, A, B)
        self.failed([a, b])
        self.assertEqual(self.suspects(), [a])
        self.assertEqual(self.suspects(), [a])

    def test_everything_fails(self) -> None:
        """After every 32 failures in a row it is time to ask whether HSM is to blame."""
        (first, *others) = self.put(DIED, *nodes(2 * IN_A_ROW + 1))
        asked = []
        for judgement in others:
            self.failed([judgement])
            asked.append(self.quarantine.everything_fails)
        self.assertEqual([i + 1 for i, each in enumerate(asked) if each], [32, 64])
        self.accept([first])
        self.assertFalse(self.quarantine.everything_fails)

    def test_joined(self) -> None:
        """When HSM comes back after that, what failed only meanwhile is sent together again."""
        old = self.put(DIED, "x9c0s0b0n0", "x9c0s0b0n1")
        self.failed(old)
        (first, *others) = self.put(DIED, *nodes(IN_A_ROW + 1))
        self.accept([first])
        for judgement in others:
            self.failed([judgement])
        (last,) = self.put(DIED, "x9c0s1b0n0")
        self.accept([last])
        self.assertEqual(self.suspects(), old[:1])
        self.accept(old[:1])
        self.assertEqual(self.suspects(), old[1:])
        self.accept(old[1:])
        self.assertEqual(self.suspects(), others)

    def test_clear(self) -> None:
        """When all failures are forgotten, nothing is held back."""
        self.set_aside(A)
        self.failed(self.put(DIED, B, C))
        self.quarantine.clear()
        self.assertEqual(self.batch(), [A, B, C])
        self.assertEqual(self.suspects(), [])
        self.assertEqual(len(self.quarantine.set_aside), 0)


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
        """A single culprit is tried again after growing pauses."""
        self.reject("x0c0s0b0n0")
        self.tell(STARTED, "x0c0s0b0n0")
        self.advance(200)
        times = [update.received - self.hsm.updates[0].received for update in self.hsm.updates]
        for pause, whole in zip(map(sub, times[1:], times), (5, 10, 20, 40, 80), strict=True):
            self.assertAlmostEqual(pause, whole * 0.975, delta=0.01)
        self.assertTrue(self.notifier.hsm_ready)

    def test_new_judgement(self):
        """A new judgement on a culprit is sent alone; a further rejection is not logged."""
        culprit, *others = nodes(20)
        self.reject(culprit)
        self.tell(STARTED, culprit, *others)
        self.advance(1)
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
        others = [update for update in self.hsm.updates if update.names[0] not in culprits]
        self.assertEqual(len(others), 60)

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
