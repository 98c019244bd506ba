"""Replicas, as processes, that are killed or stopped in the middle of their work."""

import signal

from twisted.internet.task import deferLater

from tests.support.hsm_memory import STARTED
from tests.support.replicas_running import A, B, ReplicasTestCase, until_true
from tests.support.running import reactor

LEASE = 10


class KilledTests(ReplicasTestCase):
    """Processes that are killed or stopped."""

    async def test_follower_killed_after_an_answer(self):
        """A first heartbeat that a follower answered 0.6 s before it was killed is sent to HSM."""
        leader = await self.spawned()
        await until_true(leader.leads)
        follower = await self.spawned()
        self.assertEqual(await follower.beat(A), 200)
        await deferLater(reactor, 0.6)
        follower.process.signal(signal.SIGKILL)
        await self.is_told(A, STARTED)
        self.assertTrue(await leader.leads())

    async def test_leader_stopped(self):
        """When the leader is stopped another leads, and the old one follows when it wakes up.

        Components that started on the next leader while no replica led are judged.
        """
        leader = await self.spawned()
        await until_true(leader.leads)
        other = await self.spawned()
        self.assertEqual(await leader.beat(B), 200)
        await self.is_told(B, STARTED)

        async def settled() -> bool:
            keys = await self.ctl("get", "hbtd/", "hbtd0", "--keys-only")
            return "judgement" not in keys and "request" not in keys

        await until_true(settled)
        leader.process.signal(signal.SIGSTOP)
        self.assertEqual(await other.beat(A), 200)
        stopped = reactor.seconds()
        while not await other.leads():
            self.assertEqual([await other.beat(A), await other.beat(B)], [200, 200])
            self.assertLess(reactor.seconds() - stopped, 3 * LEASE)
            await deferLater(reactor, 0.05)
        await self.is_told(A, STARTED)
        leader.process.signal(signal.SIGCONT)

        async def follows() -> bool:
            self.assertEqual([await other.beat(A), await other.beat(B)], [200, 200])
            return not await leader.leads() and (await leader.get("readiness"))[0] == 204

        await until_true(follows)
        self.assertEqual((self.told(A), self.told(B)), ([STARTED], [STARTED]))
        self.assertTrue(await other.leads())
        for each in (leader, other):
            self.assertNotIn("Traceback", each.process.said)
            self.assertNotIn(" error ", each.process.said)
