"""What replicas that share an etcd know from the log."""

from hbtd.store.past import EVERYTHING
from tests.support.event_stream import EventStream
from tests.support.hsm_memory import DIED, STARTED, WARNED
from tests.support.replicas_running import A, ReplicasTestCase
from tests.support.running import Hbtd, until


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
        await until(lambda: self.known(later) == self.known(leader), 10)
        self.assertGreater(self.known(leader)[0], 1e9)
