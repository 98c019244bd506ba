"""Replicas whose etcd is in trouble, for tests of outages."""

from twisted.internet.task import deferLater
from twisted.logger import LogEvent

from hbtd.replicas.replica import Replica
from hbtd.store.etcd_format import JUDGEMENT
from tests.support.hsm_memory import DIED, STARTED, WARNED, lines
from tests.support.replicas_running import OwnReplicasTestCase, until_all, until_true
from tests.support.running import Hbtd, reactor, until


def about_the_store(events: list[LogEvent]) -> list[str]:
    """Return the warnings and errors that hbtd has logged about its store."""
    logged = lines(events, "warn") + lines(events, "error") + lines(events, "critical")
    return [line for line in logged if "store" in line or "etcd" in line]


def in_touch(hbtd: Hbtd) -> bool:
    """Return whether a replica gets the others' heartbeats."""
    return isinstance(hbtd.service.replica, Replica) and hbtd.service.replica.sync.synchronized


class TroubleTestCase(OwnReplicasTestCase):
    """A test case with heartbeats that must always be answered."""

    async def beat(self, replicas: list[Hbtd], names: str | list[str], seconds: float) -> None:
        """Send heartbeats to the replicas in turn for `seconds`; each must get a 200."""
        end = reactor.seconds() + seconds
        number = 0
        while reactor.seconds() < end:
            for name in names:
                self.assertEqual(await replicas[number % len(replicas)].beat(name), 200)
            number += 1
            await deferLater(reactor, 0.3)

    async def readiness(self, hbtd: Hbtd) -> int:
        """Return the status of a replica's readiness probe."""
        status, _ = await hbtd.client.request("GET", f"{hbtd.url}/hmi/v1/readiness")
        return status

    async def recovered(self, *replicas: Hbtd) -> None:
        """Wait until the replicas are ready and in touch, and one leads."""

        async def well() -> bool:
            return all([await self.readiness(each) == 204 for each in replicas])

        await until_true(well, within=20)
        await until_all(replicas, in_touch, within=20)
        await until(lambda: any(each.service.monitor.leading for each in replicas), within=25)

    async def all_acknowledged(self) -> None:
        """Wait until etcd has no judgement that HSM has yet to acknowledge, nor an alarm."""
        client = self.connect(self.kv_url)

        async def none() -> bool:
            return not (await client.range(JUDGEMENT, JUDGEMENT + b"z")).items

        await until_true(none)

    async def starts_and_dies(self, name: str, hbtd: Hbtd) -> None:
        """Assert that HSM gets the start and the death of an unknown component."""
        self.assertEqual(await hbtd.beat(name), 200)
        await self.is_told(name, STARTED, WARNED, DIED, within=30)
