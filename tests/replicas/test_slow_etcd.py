"""An etcd that takes long for each transaction, or loses answers, beside replicas."""

import itertools
from collections.abc import Iterator
from functools import partial

from twisted.trial.unittest import SynchronousTestCase

from hbtd.tracker.transitions import Transition
from tests.support.hsm_memory import DIED, STARTED, WARNED, nodes
from tests.support.mixed_memory import ERRTIME, INTERVAL, WARNTIME, World

PERIOD = 2.0
"""Seconds between two heartbeats of a node."""


class SlowEtcdTests(SynchronousTestCase):
    """Heartbeats that a follower takes reach the leader late."""

    def setUp(self) -> None:
        """Let nodes beat at a follower."""
        self.world = World()
        self.addCleanup(self.world.close)
        self.leader = self.world.ours()
        self.world.advance(4)
        self.follower = self.world.ours()
        self.world.advance(4)
        self.assertTrue(self.leader.monitor.leading)
        self.living, self.dying = nodes(1000)[:-3], nodes(1000)[-3:]
        self.beat(20, *self.living, *self.dying)

    def beat(self, seconds: float, *names: str) -> None:
        """Let nodes beat at the follower for so long."""
        turns = round(PERIOD / 0.1)
        for turn in range(round(seconds / 0.1)):
            for name in names[turn % turns :: turns]:
                self.follower.beat(name)
            self.world.advance(0.1)

    def told(self, *names: str) -> set[tuple[Transition, ...]]:
        """Return what HSM was told of these nodes."""
        return {tuple(self.world.kinds(name)) for name in names}

    def test_both_promises(self) -> None:
        """Nobody who beats is warned about; who dies is told, at most `Errtime` later than ever."""
        self.world.etcd.latency = 0.4
        self.beat(20, *self.living, *self.dying)
        died = self.world.now
        self.assertTrue(self.leader.replica.waiting_elsewhere)
        self.beat(2 * ERRTIME + WARNTIME + INTERVAL + 5, *self.living)
        self.assertEqual(self.told(*self.living), {(STARTED,)})
        self.assertEqual({each[-1] for each in self.told(*self.dying)}, {DIED})
        last = max(self.world.told[name][-1].at for name in self.dying)
        self.assertLess(last - died, 2 * ERRTIME + INTERVAL + 5)

    def test_fast_again(self) -> None:
        """Once etcd is fast again, who dies is told as early as ever."""
        self.world.etcd.latency = 0.4
        self.beat(20, *self.living, *self.dying)
        self.world.etcd.latency = 0.002
        self.beat(10, *self.living, *self.dying)
        died = self.world.now
        self.beat(ERRTIME + INTERVAL + 2, *self.living)
        self.assertEqual(self.told(*self.living), {(STARTED,)})
        self.assertEqual(self.leader.replica.waiting_elsewhere, {})
        self.assertEqual(self.told(*self.dying), {(STARTED, WARNED, DIED)})
        self.assertLess(self.world.told[self.dying[0]][-1].at - died, ERRTIME + INTERVAL + 2)


class LossyEtcdTests(SynchronousTestCase):
    """An answer of etcd is lost although the request has taken effect."""

    def is_number(self, count: Iterator[int], number: int, path: str) -> bool:
        """Count a request; return whether it has a number."""
        return next(count) == number

    def test_any_answer_at_a_start(self) -> None:
        """Whichever it is, the replica leads in the end, and tells HSM who lives and who dies."""
        living, dying = nodes(2)
        for lost in range(20):
            world = World()
            count = itertools.count()
            world.etcd.loses = partial(self.is_number, count, lost)
            replica = world.ours()
            world.advance(15)
            for _ in range(4):
                replica.beat(living)
                replica.beat(dying)
                world.advance(PERIOD)
            for _ in range(round((ERRTIME + INTERVAL + 5) / PERIOD)):
                replica.beat(living)
                world.advance(PERIOD)
            told = [world.kinds(name) for name in (living, dying)]
            world.close()
            self.assertEqual(told, [[STARTED], [STARTED, WARNED, DIED]], f"answer {lost} was lost")
