"""What the notifier says about one component: whether HSM was told, and if not, why."""

from hbtd.hsm.standing import Standing, Told
from hbtd.simulator.behaviour import Behaviour
from tests.support.hsm_memory import DIED, STARTED, WARNED, StartedTestCase, judge, nodes

A, B, C = nodes(3)


class StandingTests(StartedTestCase):
    """A component in each standing."""

    def begin(self, **params: object) -> None:
        """Begin with an HSM that is ready; note when it has acknowledged something."""
        super().begin(**params)
        self.times: dict[str, float] = {}
        self.notifier._told = lambda xname: self.times.get(xname, 0.0)

    def test_told(self) -> None:
        """HSM was told of what is not to be sent; when, if that is known."""
        self.assertEqual(self.notifier.standing(A), Standing(Told.TOLD, 0.0, None))
        self.tell(STARTED, A)
        self.advance(1)
        self.times[A] = 1.8e9
        self.assertEqual(self.notifier.standing(A), Standing(Told.TOLD, 1.8e9, None))

    def test_nosm(self) -> None:
        """With nosm a judgement waits, because of that."""
        self.change(nosm=True)
        self.tell(DIED, A)
        self.advance(1)
        standing = self.notifier.standing(A)
        self.assertIs(standing.told, Told.WAITING)
        self.assertIn("nosm", standing.reason or "")
        self.assertIs(self.notifier.standing(B).told, Told.TOLD)

    def test_in_flight(self) -> None:
        """While HSM has not answered, the judgement waits."""
        self.hsm.behaviour = Behaviour(faulty={A: "hang"})
        self.tell(DIED, A)
        self.advance(0.5)
        standing = self.notifier.standing(A)
        self.assertEqual(
            standing,
            Standing(Told.WAITING, 0.0, "it is about to be sent, or HSM has not answered yet"),
        )

    def test_outage(self) -> None:
        """In an outage, the reason says since when HSM fails, and how."""
        self.hsm.behaviour = Behaviour(faulty=dict.fromkeys((A, B, C), "500"))
        self.tell(DIED, A, B, C)
        self.advance(60)
        standing = self.notifier.standing(A)
        self.assertIs(standing.told, Told.WAITING)
        self.assertRegex(standing.reason or "", "HSM fails since .*500")

    def test_set_aside(self) -> None:
        """One that HSM does not accept is set aside; the reason is what HSM said."""
        self.hsm.behaviour = Behaviour(faulty={A: "400"})
        self.tell(DIED, A, B, C)
        self.advance(10)
        standing = self.notifier.standing(A)
        self.assertIs(standing.told, Told.SET_ASIDE)
        self.assertIn("400", standing.reason or "")
        self.assertIs(self.notifier.standing(B).told, Told.TOLD)

    def test_in_doubt(self) -> None:
        """After a start, HSM may still carry out what the process before has sent."""
        self.notifier.resume(judge(WARNED, A), [A])
        self.tell(STARTED, A)
        self.advance(1)
        self.assertIs(self.notifier.standing(A).told, Told.IN_DOUBT)
        self.advance(60)
        self.assertIs(self.notifier.standing(A).told, Told.TOLD)

    def test_another_replica(self) -> None:
        """One that does not lead only knows what the store says."""
        self.notifier._may_send = lambda: False
        self.assertIs(self.notifier.standing(A).told, Told.UNKNOWN)
        self.times[A] = 5.0
        self.assertEqual(self.notifier.standing(A), Standing(Told.TOLD, 5.0, None))
