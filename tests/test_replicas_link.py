"""How a replica keeps in touch with the others, and when it does not count time."""

from functools import partial
from typing import Any

from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from hbtd.replicas.link import SILENCE, Link
from hbtd.store.etcd_format import LIFE, PRESENCE
from tests.hsm_memory import DIED, STARTED, WARNED
from tests.replicas_running import A, OwnReplicasTestCase, ReplicasTestCase, until_all
from tests.running import Hbtd, reactor, until


def link(hbtd: Hbtd) -> Link:
    """Give a replica's link."""
    assert hbtd.service.replica is not None
    return hbtd.service.replica.link


def observed(hbtd: Hbtd) -> Any:
    """Give a replica's observed clock."""
    return hbtd.service.monitor._observed


def joined_anew(lease: int, hbtd: Hbtd) -> bool:
    """Tell whether a replica is in touch by another lease than this one."""
    return link(hbtd).up and link(hbtd)._lease not in (0, lease)


class PresenceTests(ReplicasTestCase):
    """Signs of life."""

    async def test_silent_replica(self):
        """While another replica is silent no time counts; when it is gone for good, it does."""
        (one,) = await self.replicas(1)
        await until(lambda: not observed(one)._deaf)
        lease = await self.client.grant(60)
        await self.client.put(LIFE + b"12345", b"1", lease)
        await self.client.put(PRESENCE + b"12345", b"silent", lease)
        began = reactor.seconds()
        await one.beat(A)
        await until(lambda: observed(one)._deaf, within=SILENCE + 2)
        self.assertGreater(reactor.seconds() - began, SILENCE - 0.2)
        told = list(self.told(A))
        standing = observed(one).now()
        await deferLater(reactor, 2.0)
        self.assertEqual(observed(one).now(), standing)
        self.assertEqual(self.told(A), told)
        await self.client.revoke(lease)
        await until(lambda: not observed(one)._deaf)
        await self.is_told(A, STARTED, WARNED, DIED)

    async def test_regular(self):
        """With nothing else to write it shows that it lives, often enough for others to hear."""
        one, other = await self.replicas(2)
        seen = Seen(other, link(one)._number)
        began = reactor.seconds()
        while reactor.seconds() - began < 4:
            seen.look()
            await deferLater(reactor, 0.05)
        self.assertGreaterEqual(len(seen.times), 3)
        self.assertLess(seen.longest(), 1.8)
        self.assertEqual(observed(one)._deaf, False)

    async def test_good_bye(self):
        """Who ends leaves nothing behind that others would wait for."""
        one, other = await self.replicas(2)
        await other.service.stopService()
        for prefix in (LIFE, PRESENCE):
            page = await self.client.range(prefix, prefix + b"~")
            numbers = [item.key for item in page.items]
            self.assertEqual(numbers, [prefix + link(one)._number])


class Seen:
    """When a replica has seen signs of life of another one."""

    def __init__(self, hbtd: Hbtd, number: bytes) -> None:
        self._present = link(hbtd)._following.present
        self._number = int(number)
        self.times: list[float] = []

    def look(self) -> None:
        """Note a new one."""
        at = self._present[self._number]
        if not self.times or self.times[-1] != at:
            self.times.append(at)

    def longest(self) -> float:
        """Give the longest time between two."""
        return max(
            later - sooner for sooner, later in zip(self.times, self.times[1:], strict=False)
        )


class LostTests(OwnReplicasTestCase):
    """A link that breaks."""

    async def test_frozen_etcd(self):
        """An etcd that hangs is noticed; the time since its last word is made up for."""
        etcd = await self.start()
        self.begin(etcd.address)
        (one,) = await self.replicas(1, warntime=4, errtime=6)
        await one.beat(A)
        await self.is_told(A, STARTED)
        await deferToThread(etcd.freeze)
        began = reactor.seconds()
        before = observed(one).now()
        await until(lambda: not link(one).up, within=SILENCE + 1)
        await until(lambda: observed(one)._deaf, within=1)
        counted = observed(one).now() - before
        self.assertLess(counted, SILENCE + 0.5)
        await deferLater(reactor, 3)
        await deferToThread(etcd.thaw)
        await until(lambda: link(one).up, within=10)
        back = reactor.seconds()
        self.assertGreater(back - began, 5.5)
        self.assertEqual(self.told(A), [STARTED])
        await until(lambda: observed(one).now() > before + counted, within=10)
        self.assertGreater(reactor.seconds() - back, counted - 0.5)
        await self.is_told(A, STARTED, WARNED, DIED, within=30)

    async def test_lease_gone(self):
        """A replica whose lease has ended joins anew, and nobody is warned about."""
        etcd = await self.start()
        self.begin(etcd.address)
        one, other = await self.replicas(2, warntime=5, errtime=9)
        client = self.connect(etcd.address)
        for each in (one, other):
            lease = link(each)._lease
            await client.revoke(lease)
            await until_all([each], partial(joined_anew, lease))
            self.assertIsNotNone(await client.get(LIFE + link(each)._number))
        await other.beat(A)
        await self.is_told(A, STARTED)
