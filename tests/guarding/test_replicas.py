"""The guard among replicas: followers know, the next leader goes on, and nothing is said twice."""

from twisted.trial.unittest import SynchronousTestCase

from hbtd.tracker.cohorts import Deadlines
from tests.support.guarded_memory import names
from tests.support.hsm_memory import DIED, RESTARTED, WARNED
from tests.support.mixed_memory import ERRTIME, INTERVAL, Ours, World

C0, C0S0, C0S1 = "x1000c0s[0-1]b0n[0-3]", "x1000c0s0b0n[0-3]", "x1000c0s1b0n[0-3]"
MACHINE = "x1000c[0-1]s[0-1]b0n[0-3]"
HOLD = 3 * ERRTIME
"""How long deaths wait at most."""


class ReplicaTests(SynchronousTestCase):
    """Three replicas, on which nodes beat in turn, and a chassis that falls silent."""

    def setUp(self) -> None:
        self.world = World("hold")
        self.addCleanup(self.world.close)
        self.replicas = [self.world.ours() for _ in range(3)]
        self._turn = 0
        self.world.advance(10.0)
        self.beat_for(30.0)

    def beat_for(self, seconds: float, silent: str = "") -> None:
        """Let time pass while all beat but some, each time at another replica that serves."""
        quiet = set(names(silent))
        for second in range(round(seconds)):
            if second % 2 == 0:
                serving = [each for each in self.replicas if each.serves]
                self._turn += 1
                for number, name in enumerate(names(MACHINE)):
                    if name not in quiet and serving:
                        serving[(number + self._turn) % len(serving)].beat(name)
            self.world.advance(1.0)

    @property
    def leader(self) -> Ours:
        """The replica that leads."""
        (leader,) = (each for each in self.replicas if each.serves and each.monitor.leading)
        return leader

    @property
    def followers(self) -> list[Ours]:
        """The others."""
        return [each for each in self.replicas if each.serves and not each.monitor.leading]

    def said(self, replica: Ours) -> list[tuple[str, str | None]]:
        """Return the statements that a replica has passed on."""
        return [(each.domain, each.ended and each.ended.value) for each in replica.said]

    def dead(self) -> set[str]:
        """Return the nodes of which HSM was told that they died."""
        return {name for name in names(MACHINE) if DIED in self.world.kinds(name)}

    def held(self, replica: Ours) -> set[str]:
        """Return the nodes whose deaths a replica holds back."""
        return {
            each.xname
            for rule, components in replica.tracker.judged()
            if isinstance(rule, Deadlines) and rule.held
            for each in components
        }

    def test_followers_know(self) -> None:
        """Every replica passes on each statement once, and can say who is held and why."""
        self.beat_for(ERRTIME + 6, silent=C0)
        self.assertEqual(self.held(self.leader), {*names(C0)})
        for each in self.replicas:
            self.assertEqual(self.said(each), [("x1000c0", None)])
            found = each.facts.explain("x1000c0s0b0n0")
            assert found is not None
            self.assertEqual(found.domain, "x1000c0")
            assert found.until is not None
            left = found.until - self.world.wall()
            self.assertTrue(HOLD - 8 < left <= HOLD, left)
            self.assertIsNone(each.facts.explain("x1000c1s0b0n0"))
            self.assertRegex(each.facts.trouble() or "", "^chassis x1000c0 is disrupted: 8 members")
        for each in self.followers:
            self.assertEqual(self.held(each), set())
            self.assertEqual((each.facts.held, each.guard.stated.total()), (0, 0))
        self.assertEqual(self.leader.guard.stated.total(), 1)
        self.beat_for(6.0)
        for each in self.replicas:
            self.assertEqual(self.said(each), [("x1000c0", None), ("x1000c0", "back")])
            self.assertIsNone(each.facts.explain("x1000c0s0b0n0"))
            self.assertIsNone(each.facts.trouble())
        self.assertEqual(self.dead(), set())

    def change_leader(self) -> None:
        """Kill the leader in the middle of a hold."""
        self.leader.kill()
        self.beat_for(20.0, silent=C0)
        self.assertEqual(len(self.followers), 1)

    def test_leader_killed(self) -> None:
        """The next leader goes on with the hold: who returns in it was never dead, others are told.

        They are told at most `hold` and a sweep after the death was due, but for the time in which
        nobody heard the nodes.
        """
        self.beat_for(ERRTIME + 4, silent=C0)
        self.change_leader()
        self.assertEqual(self.held(self.leader), {*names(C0)})
        self.beat_for(6.0, silent=C0S1)
        self.assertEqual(self.dead(), set())
        self.assertIn(RESTARTED, self.world.kinds("x1000c0s0b0n0"))
        # 30 seconds of the hold have passed.
        self.beat_for(HOLD - 30.0 + INTERVAL + 10.0, silent=C0S1)
        self.assertEqual(self.dead(), {*names(C0S1)})
        for each in self.replicas:
            if each.serves:
                self.assertEqual(self.said(each), [("x1000c0", None), ("x1000c0", "over")])
        self.assertEqual(self.world.kinds("x1000c0s1b0n0").count(WARNED), 1)

    def test_again(self) -> None:
        """What falls silent later is no part of it for the next leader, though that has not heard.

        Its clock stood still from the death of the leader on, but it knows who was silent before.
        """
        first, second = "x1000c0s0b0n[0-2],x1000c0s1b0n[0-1]", "x1000c0s0b0n3,x1000c0s1b0n[2-3]"
        self.beat_for(ERRTIME + 4, silent=first)
        self.beat_for(8.0, silent=C0)
        self.change_leader()
        self.assertGreater(self.leader.guard.steady_since, 50.0)
        self.assertEqual(self.said(self.leader), [("x1000c0", None), ("x1000c0", None)])
        self.beat_for(HOLD - 22.0 + INTERVAL, silent=C0)
        self.assertEqual(self.dead(), {*names(first)})
        self.assertEqual(self.held(self.leader), {*names(second)})

    def test_wrong_clocks(self) -> None:
        """Whatever the wall clocks of the replicas say, the hold is as long."""
        numbers = (1000, 1001, 1002)
        self.world.skews = dict(zip(numbers, (0.0, -7200.0, 7200.0), strict=True))
        self.beat_for(ERRTIME + 4, silent=C0)
        self.change_leader()
        self.assertEqual(self.held(self.leader), {*names(C0)})
        self.beat_for(HOLD - 40.0, silent=C0)
        self.assertEqual(self.dead(), set())
        self.beat_for(10.0 + INTERVAL + 12.0, silent=C0)
        self.assertEqual(self.dead(), {*names(C0)})

    def test_twice(self) -> None:
        """With two changes of the leader, nothing is held longer, and nothing is said twice."""
        self.beat_for(ERRTIME + 4, silent=C0)
        first = self.leader
        self.change_leader()
        self.replicas.append(self.world.ours())
        self.beat_for(4.0, silent=C0)
        second = self.leader
        second.stop()
        self.beat_for(HOLD + 12.0, silent=C0)
        self.assertEqual(self.dead(), {*names(C0)})
        self.assertNotIn(self.leader, (first, second))
        lasting = next(each for each in self.replicas[:3] if each.serves)
        self.assertEqual(self.said(lasting), [("x1000c0", None), ("x1000c0", "over")])

    def test_released_by_the_leader(self) -> None:
        """What is released stays released when the leader is killed before its next sweep."""
        self.beat_for(ERRTIME + 4, silent=C0)
        self.leader.guard.release("x1000c0")
        self.world.advance(0.2)
        self.change_leader()
        self.assertEqual(self.held(self.leader), set())
        self.beat_for(INTERVAL, silent=C0)
        self.assertEqual(self.dead(), {*names(C0)})
        lasting = self.leader
        self.assertEqual(self.said(lasting), [("x1000c0", None), ("x1000c0", "released")])

    def test_silent_with_the_leader(self) -> None:
        """A chassis that falls silent as the leader is killed is held by the next one."""
        self.beat_for(4.0, silent=C0)
        self.leader.kill()
        self.beat_for(ERRTIME + 25.0, silent=C0)
        self.assertEqual(self.held(self.leader), {*names(C0)})
        self.assertEqual(self.dead(), set())
