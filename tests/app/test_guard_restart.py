"""The guard in a whole hbtd that is restarted in the middle of a hold, with an SQLite file."""

from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from hbtd.tracker.transitions import Transition
from tests.support.guarded_memory import names
from tests.support.running import Hbtd, start_hbtd, start_hsm, until

NODES = names("x1000c0s0b0n[0-3]")
_HOLD = 10


class GuardRestartTests(TestCase):
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
            warntime=1,
            errtime=2,
            interval=1,
            guard="hold",
            guard_hold=str(_HOLD),
        )
        await until(lambda: hbtd.service.monitor.leading)
        return hbtd

    def told_dead(self) -> list[str]:
        """Return the nodes of which HSM was told that they died."""
        died = [each for each in self.hsm.hsm.updates if each.message == Transition.DIED.message]
        return sorted(name for each in died for name in each.names)

    async def guard(self, hbtd: Hbtd) -> Any:
        """Return what `GET /guard` answers."""
        status, answer = await hbtd.client.request("GET", f"{hbtd.url}/hmi/v1/guard", None)
        self.assertEqual(status, 200)
        return answer

    async def test_restart(self) -> None:
        """The hold goes on after a restart: who is back was never dead, who is not is told."""
        hbtd = await self.started()
        for _ in range(5):
            for name in NODES:
                await hbtd.beat(name)
            await deferLater(reactor, 0.2)
        await until(lambda: len(hbtd.service.core.guard.rules.held) == len(NODES))
        held = await self.guard(hbtd)
        self.assertEqual(held["Disruptions"][0]["Domain"], "x1000c0s0")
        await until(lambda: hbtd.service.store.settings.texts("guard"))
        await hbtd.service.stopService()
        self.assertEqual(self.told_dead(), [])
        hbtd = await self.started()
        await until(lambda: len(hbtd.service.core.guard.rules.held) == len(NODES))
        again = await self.guard(hbtd)
        self.assertEqual(again["Statements"], held["Statements"])
        until_then = again["Disruptions"][0]["Until"]
        self.assertLess(abs(seconds(until_then) - seconds(held["Disruptions"][0]["Until"])), 2.0)
        await until(lambda: hbtd.service.tracker.warned == len(NODES))
        await hbtd.beat(NODES[0])

        def all_told() -> bool:
            return self.told_dead() == NODES[1:]

        for _ in range(60):
            if all_told():
                break
            await hbtd.beat(NODES[0])
            await deferLater(reactor, 0.3)
        self.assertEqual(self.told_dead(), NODES[1:])
        ended = (await self.guard(hbtd))["Statements"]
        self.assertEqual([each["Number"] for each in ended], [2, 1])
        self.assertEqual(ended[0]["Reason"], "over")


def seconds(time: str) -> float:
    """Return the seconds of the hour of a time as the API shows it."""
    _, minutes, rest = time.split(":")
    return 60 * int(minutes) + float(rest.rstrip("Z"))
