"""What the summary says of HSM."""

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from hbtd.hsm.standing import Standing, Told
from hbtd.queries.components import Facts
from hbtd.queries.machine import Machine
from hbtd.queries.summary import HSMQueue, Summary
from hbtd.tracker.observed import ObservedClock
from hbtd.tracker.tracker import Tracker

CHASSIS = [f"x1000c7s{slot}b0n0" for slot in range(4)]
TOLD = 1.8e9 - 60.0


class ToldTests(SynchronousTestCase):
    """Whether HSM was told of a silent chassis."""

    def setUp(self) -> None:
        """Have a dead chassis."""
        self.tracker = Tracker()
        self.tracker.restore([], CHASSIS, 0.0, 10.0, 30.0)

    def text(self, *, waiting: int, leading: bool, told: int = 0) -> str:
        """Return the line about the chassis; of `told` nodes HSM's acknowledgement is known."""
        for xname in CHASSIS[:told]:
            component = self.tracker.component(xname)
            assert component is not None
            component.told = TOLD
        observed = ObservedClock(Clock().seconds, lambda: 10.0)
        facts = Facts(self.tracker, observed, lambda: 1.8e9, lambda xname: Standing(Told.UNKNOWN))
        summary = Summary(
            self.tracker,
            Machine(self.tracker),
            facts,
            lambda: 1.8e9,
            lambda: HSMQueue(True, True, waiting, 0),
            lambda: leading,
            lambda: "hbtd-1:28500",
            "hbtd-2:28500",
        )
        answer: Any = self.successResultOf(
            Deferred.fromCoroutine(summary.summarise(lambda: succeed(None)))
        )
        (group,) = answer["Groups"]
        self.assertEqual(answer["Leader"], "hbtd-1:28500")
        return str(group["Text"]).removeprefix("x1000c7 4/4 silent, ")

    def test_waiting(self) -> None:
        """What waits for HSM was not told."""
        self.assertEqual(self.text(waiting=4, leading=True), "HSM not told")
        self.assertEqual(self.text(waiting=1, leading=True, told=3), "HSM not told of 1")

    def test_told(self) -> None:
        """All were told, the last one at that time."""
        self.assertEqual(self.text(waiting=0, leading=True, told=4), "HSM told 07:59:00")

    def test_time_unknown(self) -> None:
        """If nothing waits, HSM was told, though an earlier release did not note when."""
        self.assertEqual(self.text(waiting=0, leading=True), "HSM told")
        self.assertEqual(
            self.text(waiting=0, leading=True, told=1), "HSM told, of 3 not known when"
        )

    def test_follower(self) -> None:
        """A follower knows only what the store says."""
        self.assertEqual(self.text(waiting=0, leading=False), "not known here whether HSM was told")
        self.assertEqual(
            self.text(waiting=0, leading=False, told=3), "not known here whether HSM was told of 1"
        )
