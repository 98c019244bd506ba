"""Thresholds on several replicas: set on any, in force on all, kept when the leader is gone."""

from typing import Any

from hbtd.rules.thresholds import MOST_BYTES
from hbtd.tracker.cohorts import Limits
from tests.support.hsm_memory import DIED, STARTED, WARNED
from tests.support.replicas_running import A, B, C, ReplicasTestCase, until_all
from tests.support.running import Hbtd, until

ROWS = [{"Match": A, "Warntime": 60, "Errtime": 90}, {"Match": "NodeBMC", "Errtime": 30}]
LIMITS = Limits(60, 90)


class ThresholdsTests(ReplicasTestCase):
    """Replicas on one etcd."""

    async def put(self, hbtd: Hbtd, rows: Any) -> None:
        """Set thresholds on a replica."""
        status, answer = await hbtd.client.request("PUT", f"{hbtd.url}/hmi/v1/thresholds", rows)
        self.assertEqual((status, len(answer)), (200, len(rows)))

    async def rows(self, hbtd: Hbtd) -> list[Any]:
        """Return what a replica says that is in force."""
        _, answer = await hbtd.client.request("GET", f"{hbtd.url}/hmi/v1/thresholds")
        return [{k: v for k, v in row.items() if k != "Components"} for row in answer]

    async def test_set_on_a_follower(self) -> None:
        """What a follower was told holds on the leader, which judges by it."""
        leader, follower = await self.replicas(2)
        for name in (A, B):
            self.assertEqual(await follower.beat(name), 200)
        await until_all((leader, follower), lambda each: B in each.service.tracker)
        await self.put(follower, ROWS)
        self.assertEqual(follower.service.tracker.own_limits(A), LIMITS)
        await until(lambda: leader.service.tracker.own_limits(A) == LIMITS)
        await self.is_told(B, STARTED, WARNED, DIED)
        self.assertEqual(self.told(A), [STARTED])
        self.assertEqual(await self.rows(leader), ROWS)
        await self.put(leader, [])
        await until(lambda: follower.service.tracker.own_limits(A) == Limits())
        await self.is_told(A, STARTED, WARNED, DIED)

    async def test_leader_goes(self) -> None:
        """They hold on the next leader, and on a replica that joins, before it judges anybody."""
        leader, follower = await self.replicas(2)
        await self.put(leader, ROWS)
        for name in (A, C):
            self.assertEqual(await leader.beat(name), 200)
        await until(lambda: follower.service.tracker.own_limits(A) == LIMITS)
        await leader.service.stopService()
        await until(lambda: follower.service.monitor.leading)
        third = await self.replica()
        self.assertEqual(third.service.tracker.rule(A), LIMITS)
        await self.is_told(C, STARTED, WARNED, DIED)
        await follower.service.stopService()
        await until(lambda: third.service.monitor.leading)
        self.assertEqual(await self.rows(third), ROWS)
        self.assertEqual(self.told(A), [STARTED])

    async def test_largest(self) -> None:
        """The longest table that is allowed fits into etcd."""
        (hbtd,) = await self.replicas(1)
        rows = []
        for cabinet in range(1000, 1015):
            names = ",".join(f"x{cabinet}c{c}s{s}b0n0" for c in range(8) for s in range(512))
            rows.append({"Match": names[:65_000].rpartition(",")[0]})
        await self.put(hbtd, rows)
        found = await self.client.get(b"hbtd/setting/thresholds/all")
        assert found is not None
        self.assertGreater(len(found.value), 0.95 * MOST_BYTES)
