"""Synchronization with the other replicas, and when the observed clock stands still."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock, deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase

from hbtd.etcd.errors import EtcdUnavailable
from hbtd.replicas.applier import Moment
from hbtd.replicas.hearing import SILENCE, Hearing
from hbtd.replicas.replica import Replica
from hbtd.replicas.sign_of_life import Waiting
from hbtd.replicas.sync import Sync
from hbtd.store.etcd import EtcdStore
from hbtd.store.etcd_format import LIFE, PRESENCE
from hbtd.tracker.observed import TICK, ObservedClock
from tests.support.certificates import make_identity, write_identity
from tests.support.hsm_memory import DIED, STARTED, WARNED
from tests.support.replicas_running import (
    ERRTIME,
    A,
    B,
    C,
    D,
    OwnReplicasTestCase,
    ReplicasTestCase,
    until_all,
)
from tests.support.running import Hbtd, reactor, until


def sync(hbtd: Hbtd) -> Sync:
    """Return the synchronization of a replica."""
    assert isinstance(hbtd.service.replica, Replica)
    return hbtd.service.replica.sync


def is_synchronized(hbtd: Hbtd) -> bool:
    """Return whether a replica is synchronized."""
    return sync(hbtd).synchronized


def observed(hbtd: Hbtd) -> Any:
    """Return the observed clock of a replica."""
    return hbtd.service.monitor._observed


def joined_anew(lease: int, hbtd: Hbtd) -> bool:
    """Return whether a replica is up with another lease than this one."""
    return sync(hbtd).synchronized and sync(hbtd)._lease not in (0, lease)


class PresenceTests(ReplicasTestCase):
    """Replicas write their presence, and wait for that of others."""

    async def test_silent_replica(self):
        """No time counts while another living replica is silent; once that is gone, it does."""
        (one,) = await self.replicas(1)
        await until(lambda: not observed(one)._deaf)
        lease = await self.client.grant(60)
        await self.client.put(LIFE + b"12345", b"1", lease)
        await self.client.put(PRESENCE + b"12345", b"silent", lease)
        began = reactor.seconds()
        await one.beat(A)
        await until(lambda: observed(one)._deaf, within=SILENCE + 10)
        self.assertGreater(reactor.seconds() - began, SILENCE - 0.2)
        told = list(self.told(A))
        standing = observed(one).now()
        await deferLater(reactor, 1.2)  # a sweep later
        self.assertEqual(observed(one).now(), standing)
        self.assertEqual(self.told(A), told)
        await self.client.revoke(lease)
        await until(lambda: not observed(one)._deaf)
        await self.is_told(A, STARTED, WARNED, DIED)

    async def test_regular(self):
        """A replica without anything else to write writes its presence often enough."""
        one, other = await self.replicas(2)
        seen = Seen(other, sync(one)._number)
        began = reactor.seconds()
        while reactor.seconds() - began < 4:
            seen.look()
            await deferLater(reactor, 0.05)
        self.assertGreaterEqual(len(seen.times), 2)
        self.assertLess(seen.longest(), SILENCE)
        self.assertEqual(observed(one)._deaf, False)

    async def test_good_bye(self):
        """A replica that stops leaves no key behind for which others would wait."""
        one, other = await self.replicas(2)
        await other.service.stopService()
        for prefix in (LIFE, PRESENCE):
            page = await self.client.range(prefix, prefix + b"~")
            numbers = [item.key for item in page.items]
            self.assertEqual(numbers, [prefix + sync(one)._number])


class ReconnectTests(ReplicasTestCase):
    """Watches are made anew, because other certificates are to be used."""

    async def test_nobody_dies(self):
        """A replica that reconnects misses nothing: who beats stays alive, who is silent dies."""
        leader, follower = await self.replicas(2)
        self.assertEqual(await leader.beat(A), 200)
        self.assertEqual(await follower.beat(B), 200)
        await self.is_told(A, STARTED)
        await self.is_told(B, STARTED)
        began = reactor.seconds()
        while reactor.seconds() - began < ERRTIME + 2:
            for each in (leader, follower):
                before = sync(each)._watch
                each.service.replica.reconnect()
                await until(partial(is_synchronized, each), within=SILENCE)
                self.assertIsNot(sync(each)._watch, before)
            self.assertEqual(await follower.beat(A), 200)
            await deferLater(reactor, 0.5)
        self.assertEqual(self.told(A), [STARTED])
        await self.is_told(B, STARTED, WARNED, DIED, within=3 * ERRTIME)

    async def test_other_authorities(self):
        """A new bundle in `--kv_ca` makes a replica reconnect; an unchanged one does not."""
        folder = Path(self.mktemp()).resolve()
        bundle, _ = write_identity(make_identity("one"), folder)
        one = await self.replica(kv_ca=str(bundle))
        await until(partial(is_synchronized, one))
        before = sync(one)._watch
        one.service.reload()
        self.assertIs(sync(one)._watch, before)
        write_identity(make_identity("two"), folder)
        one.service.reload()
        await until(partial(is_synchronized, one))
        self.assertIsNot(sync(one)._watch, before)


class SlowPresence:
    """A stand-in for the applier: which replicas there are, and when each last wrote."""

    number = 1

    def __init__(self, moment: Callable[[], Moment]) -> None:
        self.moment = moment
        self.present: dict[int, Moment] = {}


class WaitingTests(ReplicasTestCase):
    """Clients of a replica have to wait before they are heard."""

    async def beaten(self, *beats: tuple[str, Hbtd, str]) -> None:
        """Let components start, and beat at these replicas from these addresses."""
        for name, hbtd, _ in beats:
            self.assertEqual(await hbtd.beat(name), 200)
        for name, _, _ in beats:
            await self.is_told(name, STARTED)
        for name, hbtd, address in beats:
            at = observed(hbtd).now()
            self.assertTrue(hbtd.service.tracker.beat_again(name, at, "t", "OK", address))

    async def test_addresses(self) -> None:
        """Those that last beat from there are judged later, wherever that was; others as ever."""
        leader, follower = await self.replicas(2)
        await self.beaten(
            (A, leader, "10.9.9.1"),
            (B, follower, "10.9.9.1"),
            (C, leader, "10.9.9.2"),
            (D, follower, "10.9.9.2"),
        )
        follower.service.core.scheduler.not_heard("10.9.9.1")
        for name in (C, D):
            await self.is_told(name, STARTED, WARNED)
        self.assertEqual((self.told(A), self.told(B)), ([STARTED], [STARTED]))
        await until(lambda: not leader.service.replica.waiting_elsewhere, ERRTIME + 3)
        for name in (C, D):
            await self.is_told(name, STARTED, WARNED, DIED)
        for name in (A, B):
            await self.is_told(name, STARTED, DIED)

    async def test_third_replica(self) -> None:
        """So are those that last beat at a third replica."""
        # Its name takes two signs of life, 1 s each, to the leader.
        leader, other, follower = await self.replicas(3, warntime=4, errtime=6)
        await self.beaten((A, other, "10.9.9.1"), (B, other, "10.9.9.2"))
        follower.service.core.scheduler.not_heard("10.9.9.1")
        await self.is_told(B, STARTED, WARNED)
        self.assertEqual(self.told(A), [STARTED])
        self.assertEqual(follower.service.core.unread.waiting().components, set())
        # What stands in signs of life does not keep itself alive.
        await until(lambda: not leader.service.replica.waiting_elsewhere, 6 + 5)
        await self.is_told(A, STARTED, DIED)

    async def test_leader(self) -> None:
        """While clients of the leader wait, those that last beat elsewhere are judged as ever."""
        leader, follower = await self.replicas(2)
        self.assertEqual(await follower.beat(B), 200)
        await self.is_told(B, STARTED)
        leader.service.core.scheduler.not_heard("10.9.9.9")
        await self.is_told(B, STARTED, WARNED, within=ERRTIME - 0.5)

    async def test_fallen_silent(self) -> None:
        """Those that nobody waits with are named when they are due, not before."""
        (one,) = await self.replicas(1, warntime=SILENCE + 2, errtime=600)
        await self.beaten((A, one, "10.9.9.1"))
        one.service.core.scheduler.not_heard("10.9.9.1")
        waiting = one.service.core.unread.waiting
        self.assertEqual(waiting(), Waiting(frozenset({"10.9.9.1"})))
        await until(lambda: waiting().components == {A}, SILENCE + 2)


class SlowPresenceTests(SynchronousTestCase):
    """Presence that is late again and again."""

    def test_owes_no_more_than_it_counted(self):
        """After an hour with a slow etcd the observed clock counts again within seconds."""
        clock = Clock()
        clock.advance(100)
        observed_clock = ObservedClock(clock.seconds, lambda: 10.0)
        present: dict[int, Moment] = {}

        def moment() -> Moment:
            return Moment(clock.seconds(), observed_clock.now())

        hearing = Hearing(observed_clock, moment, present)

        def go_on(seconds: float, period: int) -> None:
            for tick in range(round(seconds / TICK)):
                clock.advance(TICK)
                hearing.hear()
                observed_clock.tick()
                for number in range(3):
                    if (tick + number * period // 3) % period == 0:
                        present[number] = moment()
                if tick % 3 == 0:
                    hearing.check(synchronized=True)

        go_on(3600, period=36)
        before = observed_clock.now()
        go_on(2 * SILENCE, period=6)
        self.assertGreater(observed_clock.now(), before + 1)


class UnreachableClient:
    """A client whose calls fail, and are noted with their time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.calls: list[float] = []

    def grant(self, ttl: int) -> Deferred[int]:
        """Fail."""
        self.calls.append(self._clock.seconds())
        return fail(EtcdUnavailable("no etcd"))


class RetryTests(SynchronousTestCase):
    """Attempts while etcd can't be reached."""

    def test_pauses(self) -> None:
        """Pauses between attempts grow to a second and a bit; a stop ends them."""
        clock = Clock()
        client: Any = UnreachableClient(clock)
        observed_clock = ObservedClock(clock.seconds, lambda: 10.0)
        applier: Any = SlowPresence(lambda: Moment(clock.seconds(), observed_clock.now()))
        store = EtcdStore(client, clock.seconds)
        nothing: Any = None
        one = Sync(
            client,
            clock,
            observed_clock,
            store,
            applier,
            "one",
            lambda: 1.0,
            Waiting,
            bool,
            nothing,
            nothing,
        )
        one.startService()
        clock.pump([0.01] * 1000)
        pauses = [later - at for at, later in pairwise(client.calls)]
        self.assertApproximates(pauses[0], 0.6, 0.02)
        self.assertApproximates(pauses[-1], 1.2, 0.02)
        self.assertEqual(store.health(), "etcd: no etcd")
        self.successResultOf(one.stopService())
        self.assertEqual(clock.getDelayedCalls(), [])


class Seen:
    """The times at which a replica has seen writes of another one."""

    def __init__(self, hbtd: Hbtd, number: bytes) -> None:
        self._present = sync(hbtd)._applier.present
        self._number = int(number)
        self.times: list[float] = []

    def look(self) -> None:
        """Note a new write."""
        at = self._present[self._number].elapsed
        if not self.times or self.times[-1] != at:
            self.times.append(at)

    def longest(self) -> float:
        """Return the longest time between two writes, in seconds."""
        return max(
            later - sooner for sooner, later in zip(self.times, self.times[1:], strict=False)
        )


class LostTests(OwnReplicasTestCase):
    """The synchronization breaks."""

    async def test_frozen_etcd(self):
        """An etcd that hangs is noticed, and the time since its last message does not count."""
        etcd = await self.start()
        self.begin(etcd.address)
        (one,) = await self.replicas(1, warntime=4, errtime=8)
        await one.beat(A)
        await self.is_told(A, STARTED)
        await deferToThread(etcd.freeze)
        began = reactor.seconds()
        before = observed(one).now()
        await until(lambda: not sync(one).synchronized, within=SILENCE + 10)
        await until(lambda: observed(one)._deaf, within=10)
        counted = observed(one).now() - before
        self.assertLess(counted, SILENCE + 2)
        await deferLater(reactor, 1)
        await deferToThread(etcd.thaw)
        await until(lambda: sync(one).synchronized, within=10)
        back = reactor.seconds()
        self.assertGreater(back - began, 4, "A was not silent for long enough")
        self.assertEqual(self.told(A), [STARTED])
        await until(lambda: observed(one).now() > before + counted, within=10)
        self.assertGreater(reactor.seconds() - back, counted - 0.5)
        await self.is_told(A, STARTED, WARNED, within=30)

    async def test_lease_gone(self):
        """A replica whose lease has ended gets a new one, and no component is warned about."""
        etcd = await self.start()
        self.begin(etcd.address)
        one, other = await self.replicas(2, warntime=5, errtime=9)
        client = self.connect(etcd.address)
        for each in (one, other):
            lease = sync(each)._lease
            await client.revoke(lease)
            await until_all([each], partial(joined_anew, lease))
            self.assertIsNotNone(await client.get(LIFE + sync(each)._number))
        await other.beat(A)
        await self.is_told(A, STARTED)
