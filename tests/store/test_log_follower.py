"""What the log of transitions tells after a start."""

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from hbtd.store.log_follower import LogFollower
from hbtd.store.memory import MemoryStore
from hbtd.tracker.observed import ObservedClock
from hbtd.tracker.tracker import Tracker
from hbtd.tracker.transitions import Judgement, Phase, Transition

DEAD = "x1000c0s0b0n0"
WALL = 1.8e9


class StartTests(SynchronousTestCase):
    """A component that died before the start."""

    def test_last_heard(self) -> None:
        """It was heard when the log says, although hbtd could not hear at first, nor later."""
        clock, store, tracker = Clock(), MemoryStore(), Tracker()
        observed = ObservedClock(clock.seconds, lambda: 10.0)
        died = Judgement(DEAD, Transition.DIED, "t", Phase.WARNED, "", WALL - 100.0, 30.0)
        self.successResultOf(store.open())
        self.successResultOf(store.commit([died]))
        tracker.restore([], [DEAD], 0.0, 10.0, 30.0)
        follower = LogFollower(
            clock, lambda: WALL + clock.seconds(), observed, store, tracker, lambda: 0.0
        )

        def listen(ticks: int) -> None:
            for _ in range(ticks):
                clock.advance(0.1)
                observed.tick()

        def heard() -> float:
            component = tracker.component(DEAD)
            assert component is not None
            return WALL + clock.seconds() - observed.seconds_ago(component.last_heard)

        observed.deafen(0.0, "etcd has yet to be read")
        listen(50)
        observed.hear(patiently=False)
        listen(50)
        follower.startService()
        listen(2)
        self.assertAlmostEqual(heard(), WALL - 130.0, delta=0.2)
        observed.deafen(0.0, "etcd was silent")
        listen(100)
        self.assertAlmostEqual(heard(), WALL - 130.0, delta=0.2)
        follower.stopService()
