"""Abandoned updates: what HSM may still do, and how that is corrected."""

from hbtd.simulator.hsm_table import ComponentState
from tests.support.hsm_memory import DIED, STARTED, WARNED, StartedTestCase, nodes

A, B, C = nodes(3)


class InDoubtTests(StartedTestCase):
    """An abandoned update takes effect late, after newer ones."""

    def begin(self, **params: object) -> None:
        """Begin with a short timeout and many retries."""
        super().begin(sm_timeout=2, sm_retries=5, **params)

    def abandon(self, *names: str) -> None:
        """Have an update on deaths time out."""
        self.hsm.behaviour.hang = True
        self.tell(DIED, *names)
        self.advance(2.1)
        self.hsm.behaviour.hang = False

    def finish_late(self, *names: str) -> None:
        """Have HSM finish the abandoned update."""
        for name in names:
            self.hsm.components[name] = ComponentState("Standby", "Alert", "late")

    def test_overtaken(self) -> None:
        """What was sent after an abandoned update is sent again when that must have finished."""
        self.abandon(A, B)
        self.tell(STARTED, A)
        self.advance(3)
        self.assertEqual(self.hsm.components[A].state, "Ready")
        self.finish_late(A, B)
        self.advance(15)
        self.assertEqual(self.hsm.components[A].state, "Ready")
        self.assertEqual(self.hsm.components[B].state, "Standby")

    def test_repeated_and_overtaken(self) -> None:
        """So is what was sent after the abandoned update was repeated, and accepted."""
        self.abandon(A)
        self.advance(3)
        self.assertEqual(self.hsm.components[A].state, "Standby")
        self.tell(STARTED, A)
        self.advance(0.2)
        self.assertEqual(self.hsm.components[A].state, "Ready")
        self.finish_late(A)
        self.advance(15)
        self.assertEqual(self.hsm.components[A].state, "Ready")

    def test_marked_when_certain(self) -> None:
        """What an abandoned update may undo is marked as delivered once it was sent again."""
        self.abandon(A, B)
        self.tell(STARTED, A)
        self.advance(3)
        self.assertEqual([each.component for each in self.acknowledged], [B])
        self.advance(15)
        self.assertEqual([each.component for each in self.acknowledged], [B, A])

    def test_ends_in_flight(self) -> None:
        """What is in flight when HSM must have finished is sent again: it may have come first."""
        self.abandon(A)
        self.advance(7)
        self.hsm.behaviour.cost_ms = 1900.0  # until after the next look back, every five seconds
        self.tell(STARTED, A)
        self.advance(10)
        self.assertEqual(self.sent()[-2:], [(STARTED, [A])] * 2)
        self.assertEqual([each.transition for each in self.acknowledged], [DIED, STARTED])

    def test_once(self) -> None:
        """It is sent again only once, and only for components with a different judgement since."""
        self.abandon(A, B)
        self.tell(STARTED, A)
        self.advance(60)
        told = [update.names for update in self.hsm.updates if update.state == "Ready"]
        self.assertEqual(told, [[A], [A]])

    def test_newer_judgement(self) -> None:
        """Only the latest judgement is sent again."""
        self.abandon(A)
        self.tell(STARTED, A)
        self.advance(2)
        self.tell(WARNED, A)
        self.advance(2)
        self.finish_late(A)
        self.advance(15)
        self.assertEqual(self.hsm.components[A].flag, "Warning")
        self.assertEqual(self.hsm.updates[-1].names, [A])

    def test_withdrawn(self) -> None:
        """An alarm about a component that was forgotten meanwhile is not sent again."""
        self.hsm.behaviour.hang = True
        self.tell(STARTED, A)
        self.advance(2.1)
        self.hsm.behaviour.hang = False
        self.tell(DIED, A)
        self.advance(2)
        self.notifier.withdraw(A)
        self.advance(60)
        told = [update.state for update in self.hsm.updates]
        self.assertEqual(told.count("Standby"), 1)

    def test_pending_judgement(self) -> None:
        """A newer judgement that waits is sent instead."""
        self.abandon(A)
        self.tell(STARTED, A)
        self.advance(2)
        self.hsm.behaviour.ready = False
        self.advance(6)
        self.tell(WARNED, A)
        self.advance(20)
        self.hsm.behaviour.ready = True
        self.advance(20)
        self.assertEqual(self.hsm.components[A].flag, "Warning")
        since = [update.flag for update in self.hsm.updates[2:]]
        self.assertEqual(set(since), {"Warning"})

    def test_no_doubt(self) -> None:
        """An update that HSM answers with an error is not in doubt."""
        self.hsm.behaviour.fail_status = 500
        self.tell(DIED, A)
        self.advance(0.1)
        self.hsm.behaviour.fail_status = None
        self.tell(STARTED, A)
        self.advance(60)
        self.assertEqual(sum(update.state == "Ready" for update in self.hsm.updates), 1)

    def test_several_abandoned(self) -> None:
        """Of updates with different transitions that were abandoned, any may be the last."""
        self.hsm.behaviour.hang = True
        self.tell(WARNED, A)
        self.advance(2.1)
        self.tell(DIED, A)
        self.advance(4)
        self.hsm.behaviour.hang = False
        self.advance(4)
        self.assertEqual(self.hsm.components[A].state, "Standby")
        self.hsm.components[A] = ComponentState("Ready", "Warning", "late")
        self.advance(15)
        self.assertEqual(self.hsm.components[A].state, "Standby")

    def test_set_aside_meanwhile(self) -> None:
        """What is sent again is nothing older than what is set aside."""
        self.abandon(A, B)
        self.tell(STARTED, A)
        self.advance(3)
        self.hsm.behaviour.faulty = {A: "500"}
        self.tell(WARNED, A)
        self.tell(WARNED, C)
        self.advance(3)
        self.assertEqual(self.notifier.set_aside_count, 1)
        self.hsm.updates.clear()
        self.advance(20)
        self.hsm.behaviour.faulty = {}
        self.advance(20)
        since = [update.flag for update in self.hsm.updates if update.names == [A]]
        self.assertEqual(set(since), {"Warning"})
        self.assertEqual(self.hsm.components[A].flag, "Warning")
        self.assertEqual(self.notifier.set_aside_count, 0)
