"""The page of a replica that follows, with a real etcd."""

import signal

from tests.support.browser import Browser
from tests.support.page_case import BeatsTestCase, wait_for
from tests.support.replicas_running import A, B, ReplicasTestCase, Spawned, until_true


class FollowerTests(BeatsTestCase, ReplicasTestCase):
    """Whoever looks at a follower sees the same machine."""

    async def test_follower(self) -> None:
        """A follower's page is live, has what the leader judged, and goes on without it."""
        leader = await self.spawned()
        await until_true(leader.leads)
        follower = await self.spawned()
        self.url = follower.url

        def beat(replica: Spawned, *names: str) -> None:
            for name in names:
                wait_for(replica.beat(name))

        def story(page: Browser) -> None:
            page.until_live()
            beat(leader, A, B)
            page.until(lambda: sum(page.counts()) == 2, "both are there")
            page.until(lambda: page.counts() == (0, 0, 2), "both are dead")
            page.until(lambda: "HSM told" in page.text("#silent"), "and HSM was told")
            page.click_on(A)
            page.until(lambda: "Dead: silent for" in page.text("#why"), "why")
            died = page.run("return window.hbtd.machine.changes.at(-1).at") + 1
            beat(follower, A)
            page.until(lambda: page.counts() == (1, 0, 1), "one is back")
            leader.process.signal(signal.SIGKILL)
            wait_for(until_true(follower.leads, 40))
            page.until(lambda: page.counts() == (0, 0, 2), "the follower judges")
            page.run("window.hbtd.strip.go(given[0])", died)
            page.until(lambda: "dead\nsince" in page.text("#why"), "why it was dead")
            page.run("window.hbtd.strip.go(null)")
            page.until_live()
            # A page that is opened later has the past as well.
            page.open(self.url + "/")
            page.until_live()
            page.until(lambda: "2 started in x0c0" in page.text("#changes"), "the past")
            self.assertEqual(page.complaints(), [])

        await self.look(story)
