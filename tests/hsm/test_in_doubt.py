"""What HSM may still do after hbtd has given up, and that nothing of it stays wrong."""

from hbtd.simulator.fake_hsm import ComponentState
from tests.support.hsm_memory import DIED, STARTED, WARNED, StartedTestCase, judge, nodes

A, B, C = nodes(3)


class DoubtsTests(StartedTestCase):
    """An update that was given up is done late, after what was told since."""

    def begin(self, **params: object) -> None:
        """Retry quickly: it is the late update that matters."""
        super().begin(sm_timeout=2, sm_retries=5, **params)

    def give_up(self, *names: str) -> None:
        """Have an update on deaths time out."""
        self.hsm.behaviour.hang = True
        self.tell(DIED, *names)
        self.advance(2.1)
        self.hsm.behaviour.hang = False

    def do_late(self, *names: str) -> None:
        """Have HSM come to the end of that update."""
        for name in names:
            self.hsm.components[name] = ComponentState("Standby", "Alert", "late")

    def test_overtaken(self) -> None:
        """What was told after an abandoned update is told again when that must be over."""
        self.give_up(A, B)
        self.tell(STARTED, A)
        self.advance(3)
        self.assertEqual(self.hsm.components[A].state, "Ready")
        self.do_late(A, B)
        self.advance(15)
        self.assertEqual(self.hsm.components[A].state, "Ready")
        self.assertEqual(self.hsm.components[B].state, "Standby")

    def test_once(self) -> None:
        """It is told once more and no oftener, and only of who was told something else."""
        self.give_up(A, B)
        self.tell(STARTED, A)
        self.advance(60)
        told = [update.names for update in self.hsm.updates if update.state == "Ready"]
        self.assertEqual(told, [[A], [A]])

    def test_news_in_between(self) -> None:
        """Only the latest is told again."""
        self.give_up(A)
        self.tell(STARTED, A)
        self.advance(2)
        self.tell(WARNED, A)
        self.advance(2)
        self.do_late(A)
        self.advance(15)
        self.assertEqual(self.hsm.components[A].flag, "Warning")
        self.assertEqual(self.hsm.updates[-1].names, [A])

    def test_pending_news(self) -> None:
        """What is yet to be told is told, not what was before it."""
        self.give_up(A)
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
        """An update that HSM refuses or fails, and says so, leaves no doubt."""
        self.hsm.behaviour.fail_status = 500
        self.tell(DIED, A)
        self.advance(0.1)
        self.hsm.behaviour.fail_status = None
        self.tell(STARTED, A)
        self.advance(60)
        self.assertEqual(sum(update.state == "Ready" for update in self.hsm.updates), 1)


class AwakeTests(StartedTestCase):
    """The notifier never falls asleep with something to say."""

    def test_withdrawn_while_it_backs_off(self) -> None:
        """After a failure whose cause is withdrawn, the next news is told."""
        self.hsm.behaviour.fail_status = 500
        self.tell(DIED, A)
        self.advance(0.1)
        self.notifier.withdraw(A)
        self.advance(30)
        self.hsm.behaviour.fail_status = None
        self.tell(DIED, B)
        self.advance(30)
        self.assertIn(B, self.hsm.components)

    def test_refused_after_a_failure(self) -> None:
        """After a failure and a refusal the next news is told."""
        self.hsm.behaviour.fail_status = 500
        self.tell(DIED, A)
        self.advance(0.1)
        self.hsm.behaviour.fail_status = None
        self.hsm.behaviour.refuse = {A}
        self.advance(30)
        self.tell(DIED, B)
        self.advance(1)
        self.assertEqual(self.acknowledged, judge(DIED, B))
