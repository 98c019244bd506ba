"""What replicas that share an etcd know from the log."""

from twisted.internet.task import deferLater

from hbtd.store.past import EVERYTHING
from tests.support.event_stream import EventStream
from tests.support.hsm_memory import DIED, STARTED, WARNED
from tests.support.replicas_running import A, ReplicasTestCase
from tests.support.running import Hbtd, reactor, until
from tests.support.server_process import free_ports


class FollowedLogTests(ReplicasTestCase):
    """Leader and followers agree."""

    def known(self, hbtd: Hbtd) -> tuple[float, bool]:
        """Return since when a component is what it is, and whether HSM was told."""
        component = hbtd.service.tracker.component(A)
        return (0.0, False) if component is None else (component.since, component.told > 0)

    async def test_agree(self) -> None:
        """Both know since when a component is dead and that HSM was told, and tell its events."""
        leader, follower = await self.replicas(2)
        streams = []
        for hbtd in (leader, follower):
            follows = hbtd.service.core.log_follower
            await until(lambda follows=follows: follows.read_to is not None)  # type: ignore[misc]
            streams.append(EventStream())
            hbtd.service.core.event_hub.join(EVERYTHING, None, streams[-1].feed, lambda: None)
        await leader.beat(A)
        await self.is_told(A, STARTED, WARNED, DIED)
        await until(lambda: all(len(each.events) == 3 for each in streams))
        self.assertEqual(streams[0].events, streams[1].events)
        await until(lambda: self.known(leader)[1] and self.known(follower) == self.known(leader))
        later = await self.replica()
        await until(lambda: self.known(later) == self.known(leader), 30)
        self.assertGreater(self.known(leader)[0], 1e9)


class LeaderTests(ReplicasTestCase):
    """Each replica can name the one that judges."""

    async def named(self, hbtd: Hbtd) -> tuple[str | None, bool]:
        """Return the name of the leader, and whether the replica that is asked leads."""
        _, summary = await hbtd.client.request("GET", f"{hbtd.url}/hmi/v1/summary")
        _, internals = await hbtd.client.request("GET", f"{hbtd.url}/hmi/v1/internals")
        self.assertEqual(summary["Leader"], internals["Leader"])
        self.assertEqual(summary["Leading"], internals["Leading"])
        return summary["Leader"], summary["Leading"]

    async def test_named(self) -> None:
        """A follower names the leader, and the next one when that has taken over."""
        one, two, three = [await self.replica(port=port) for port in free_ports(3)]
        await until(lambda: one.service.monitor.leading)
        name = one.service.replica.leader
        assert name is not None
        self.assertTrue(name.endswith(f":{one.service.params.current.port}"), name)
        await until(lambda: two.service.replica.leader == three.service.replica.leader == name)
        said = set()
        for _ in range(50):  # more than two signs of life of each
            said.add(two.service.replica.leader)
            await deferLater(reactor, 0.05)
        self.assertEqual(said, {name})
        self.assertEqual(await self.named(one), (name, True))
        self.assertEqual(await self.named(two), (name, False))
        await one.service.stopService()
        await until(lambda: two.service.monitor.leading or three.service.monitor.leading)
        leads = two if two.service.monitor.leading else three
        follows = three if leads is two else two
        after = leads.service.replica.leader
        self.assertNotIn(after, (None, name))
        await until(lambda: follows.service.replica.leader == after)
        self.assertEqual(await self.named(follows), (after, False))
