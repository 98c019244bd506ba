"""Thresholds of an hbtd with a file, across restarts."""

from pathlib import Path
from typing import Any

from twisted.trial.unittest import TestCase

from hbtd.tracker.cohorts import Limits
from tests.support.hsm_memory import nodes
from tests.support.running import Hbtd, start_hbtd, until

A, B = nodes(2)


class RestartTests(TestCase):
    """An hbtd that is started again."""

    timeout = 120

    def start(self, **params: Any) -> Hbtd:
        """Start hbtd with a file."""
        return start_hbtd(self, kv_url=f"sqlite:{self.path}", tls=False, **params)

    async def test_restart(self) -> None:
        """Thresholds are in force again before what was heard before is judged, or restored."""
        self.path = Path(self.mktemp()).absolute()
        hbtd = self.start(warntime=10, errtime=30)
        rows = [{"Match": A, "Warntime": 60, "Errtime": 90}]
        url = "/hmi/v1/thresholds"
        status, _ = await hbtd.client.request("PUT", f"{hbtd.url}{url}", rows)
        self.assertEqual(status, 200)
        for name in (A, B):
            self.assertEqual(await hbtd.beat(name), 200)
        await hbtd.service.stopService()
        again = self.start(warntime=1, errtime=2, interval=1)
        tracker = again.service.tracker
        await until(lambda: tracker.dead == 1)
        # Not deadlines: its limits were known when it was restored.
        self.assertEqual((tracker.rule(A), tracker.phase(A).living), (Limits(60, 90), True))
        _, shown = await again.client.request("GET", f"{again.url}{url}")
        self.assertEqual(shown, [{**rows[0], "Components": 1}])
