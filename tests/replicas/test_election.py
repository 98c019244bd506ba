"""The election: the replica that holds the lock leads, and never two at a time."""

from twisted.internet.threads import deferToThread

from hbtd.etcd.client import EtcdClient
from hbtd.replicas.election import LEASE, MARGIN, Election
from hbtd.replicas.leadership import Leadership
from hbtd.store.etcd_format import LOCK
from tests.support.etcd_running import EtcdTestCase, OwnEtcdTestCase
from tests.support.running import reactor, until


class Candidate:
    """Runs for leader, on a clock that can be put forward, and notes the calls of the election."""

    def __init__(self, client: EtcdClient) -> None:
        self.ahead = 0.0
        self.keys: list[bytes] = []
        self.lost = 0
        self.leadership = Leadership(self._elapsed)
        self.election = Election(
            client,
            reactor,
            self._elapsed,
            self.leadership,
            lambda: 0.5,
            self.keys.append,
            self._deposed,
        )

    def _elapsed(self) -> float:
        return float(reactor.seconds()) + self.ahead

    def _deposed(self) -> None:
        assert not self.leadership.held()
        self.lost += 1

    @property
    def held(self) -> bool:
        """Whether it leads."""
        return self.leadership.held()

    async def stop(self) -> None:
        """Stop running for leader."""
        if self.election.running:
            await self.election.stopService()


class LeadershipTests(EtcdTestCase):
    """With a working etcd."""

    def stand(self) -> Candidate:
        """Start another candidate."""
        candidate = Candidate(self.connect(self.etcd.address, timeout=3.0))
        candidate.election.startService()
        self.addCleanup(candidate.stop)
        return candidate

    async def test_one_of_two(self):
        """One of two leads; when it stops, the other leads at once."""
        one = self.stand()
        await until(lambda: one.held)
        other = self.stand()
        (key,) = one.keys
        self.assertTrue(key.startswith(LOCK))
        self.assertIsNotNone(await self.client.get(key))
        self.assertFalse(other.held)
        began = reactor.seconds()
        await one.stop()
        self.assertEqual((one.held, one.lost), (False, 1))
        await until(lambda: other.held, within=6)
        self.assertLess(reactor.seconds() - began, 6)
        self.assertIsNone(await self.client.get(key))
        self.assertEqual(one.lost, 1)

    async def test_stopped_while_waiting(self):
        """A candidate that stops while it waits for the lock is not in the way of others."""
        one, other = self.stand(), self.stand()
        await until(lambda: one.held or other.held)
        waiting, holding = (other, one) if one.held else (one, other)
        await waiting.stop()
        await holding.stop()
        self.assertEqual((waiting.lost, holding.lost), (0, 1))
        third = self.stand()
        await until(lambda: third.held, within=6)

    async def test_slept(self):
        """A leader whose process was stopped for long leads no more, and then runs again."""
        one = self.stand()
        await until(lambda: one.held)
        one.ahead += LEASE - MARGIN + 0.1
        self.assertFalse(one.held)
        self.assertEqual(one.lost, 0)
        await until(lambda: one.lost == 1)
        await until(lambda: one.held)
        self.assertEqual(len(one.keys), 2)
        self.assertEqual(one.lost, 1)

    async def test_lease_gone(self):
        """When its lease is gone it is deposed, once, with the next renewal."""
        one = self.stand()
        await until(lambda: one.held)
        found = await self.client.get(one.keys[0])
        assert found is not None
        await self.client.revoke(found.lease)
        await until(lambda: one.lost == 1)
        await until(lambda: one.held)
        self.assertEqual((one.lost, len(one.keys)), (1, 2))

    async def test_kept(self):
        """The leadership lasts for as long as the lease is renewed."""
        one = self.stand()
        await until(lambda: one.held)
        found = await self.client.get(one.keys[0])
        assert found is not None
        term = one.election._term
        assert term is not None
        until_then = term.valid_until
        await until(lambda: term.valid_until > until_then + 1.5)
        self.assertLessEqual(term.valid_until, reactor.seconds() + LEASE - MARGIN)


class TroubleTests(OwnEtcdTestCase):
    """With an etcd that becomes unreachable."""

    async def test_away(self):
        """Without etcd, the leadership lasts as long as the lease is sure to, and no longer.

        It leads again once etcd is back and the old lease has expired.
        """
        etcd = await self.start()
        one = Candidate(self.connect(etcd.address, timeout=1.0))
        one.election.startService()
        self.addCleanup(one.stop)
        await until(lambda: one.held)
        await deferToThread(etcd.kill)
        term = one.election._term
        assert term is not None
        self.assertTrue(one.held)
        one.ahead += term.valid_until - reactor.seconds() - 0.3
        self.assertTrue(one.held)
        await until(lambda: not one.held, within=0.5)
        await until(lambda: one.lost == 1)
        await deferToThread(etcd.start)
        # Which would happen by itself, but only ten seconds from now.
        await self.connect(etcd.address).revoke(term.lease)
        await until(lambda: one.held, within=20)
        self.assertEqual(one.lost, 1)
