"""Maintenance in a whole hbtd that is restarted in the middle, with an SQLite file."""

from pathlib import Path
from typing import Any

from twisted.trial.unittest import TestCase

from hbtd.tracker.transitions import Transition
from tests.support.hsm_memory import nodes
from tests.support.running import Hbtd, start_hbtd, start_hsm, until

A, B, C = nodes(3)
_WARNTIME, _ERRTIME = 1, 2


class RestartTests(TestCase):
    """An hbtd, an HSM, and an hbtd that is started after it."""

    timeout = 120

    def setUp(self) -> None:
        self.hsm = start_hsm(self)
        self.path = Path(self.mktemp()).resolve()

    async def started(self) -> Hbtd:
        """Start hbtd, and wait until it serves."""
        hbtd = start_hbtd(
            self,
            kv_url=f"sqlite:{self.path}",
            nosm=False,
            sm_url=self.hsm.url,
            sm_sync=0,
            tls=False,
            warntime=_WARNTIME,
            errtime=_ERRTIME,
            interval=1,
        )
        await until(lambda: hbtd.service.monitor.leading)
        return hbtd

    def told(self, name: str) -> list[str]:
        """Return what HSM was told of a component."""
        return [each.message for each in self.hsm.hsm.updates if name in each.names]

    async def ask(self, hbtd: Hbtd, method: str, path: str, body: Any = None) -> Any:
        """Send a request; return the answer."""
        status, answer = await hbtd.client.request(method, f"{hbtd.url}/hmi/v1{path}", body)
        self.assertIn(status, (200, 201, 204), answer)
        return answer

    async def test_restart(self) -> None:
        """Who was in maintenance, or away, is not judged after a restart; then all ends as set."""
        hbtd = await self.started()
        for name in (A, B, C):
            await hbtd.beat(name)
        made = await self.ask(
            hbtd, "POST", "/maintenance", {"XNames": [A, B], "Until": "back", "For": 600}
        )
        await self.ask(hbtd, "POST", f"/heartbeat/{C}/away", {"For": 600})
        await until(lambda: hbtd.service.monitor.heartbeating([A, B, C]) == [False] * 3)
        await hbtd.service.stopService()
        hbtd = await self.started()
        tracker = hbtd.service.tracker
        self.assertEqual([tracker.is_spared(name) for name in (A, B, C)], [True] * 3)
        self.assertEqual((tracker.healthy, tracker.warned, tracker.dead), (3, 0, 0))
        shown = await self.ask(hbtd, "GET", f"/components/{A}")
        self.assertEqual(shown["Maintenance"]["Id"], made["Id"])
        self.assertEqual(shown["Maintenance"]["Until"], made["Until"])
        # Their silence before the restart counts: their first heartbeat is their return.
        await hbtd.beat(A)
        await hbtd.beat(C)
        self.assertEqual([tracker.is_spared(name) for name in (A, B, C)], [False, True, False])
        await until(lambda: not hbtd.service.store.settings.texts("away"))
        await self.ask(hbtd, "PATCH", f"/maintenance/{made['Id']}", {"For": 0.5})
        await until(lambda: Transition.DIED.message in self.told(B))
        self.assertEqual(self.told(B)[1:], [Transition.WARNED.message, Transition.DIED.message])
        self.assertEqual(self.told(A)[:2], [Transition.STARTED.message] * 2)
        await until(lambda: not hbtd.service.store.settings.texts("maintenance"))
