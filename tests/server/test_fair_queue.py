"""The queue from which clients are taken in turn."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hbtd.server.fair_queue import FairQueue, network_of

HOSTS = ("10.0.0.1", "::ffff:10.0.0.1", "10.0.0.2", "2001:db8::1", "2001:db8::2", "fe80::1%eth0")


class NetworkTests(SynchronousTestCase):
    """What an address counts as."""

    def test_networks(self) -> None:
        """An IPv4 address counts as itself, an IPv6 address as its /64, all else as it is."""
        for host, network in (
            ("10.0.0.1", "10.0.0.1"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
            ("2001:db8:1:2:3:4:5:6", "20010db800010002::/64"),
            ("2001:db8:1:2::", "20010db800010002::/64"),
            ("fe80::1%eth0", "fe80000000000000::/64"),
            ("::1", "0::/64"),
            (None, None),
            ("no:address", "no:address"),
        ):
            self.assertEqual(network_of(host), network)


class FairQueueTests(SynchronousTestCase):
    """In which order items are taken."""

    def test_turns(self) -> None:
        """Networks are taken in turn, within each its addresses, within each its items in order."""
        queue: FairQueue[str] = FairQueue()
        for host, item in (
            ("10.0.0.1", "a1"),
            ("10.0.0.1", "a2"),
            ("10.0.0.1", "a3"),
            ("2001:db8::1", "b1"),
            ("2001:db8::1", "b2"),
            ("2001:db8::2", "c1"),
            (None, "u1"),
        ):
            queue.append(host, item, 0.0)
        taken = [queue.pop()[0] for _ in range(len(queue))]
        self.assertEqual(taken, ["a1", "b1", "u1", "a2", "c1", "a3", "b2"])
        self.assertRaises(IndexError, queue.pop)

    @given(st.lists(st.one_of(st.sampled_from(HOSTS), st.none()), max_size=60))
    def test_shares(self, asked: list[str | None]) -> None:
        """All that is asked for is given once, and no network has two turns while one has none."""
        queue: FairQueue[tuple[str | None, int]] = FairQueue()
        for number, host in enumerate(asked):
            queue.append(host, (host, number), float(number))
        taken: list[tuple[str | None, int]] = []
        while queue:
            waiting = {network_of(host) for host, _ in set(enumerate_hosts(asked)) - set(taken)}
            turns: list[str | None] = []
            for _ in waiting:
                item, since = queue.pop()
                self.assertEqual(since, item[1])
                taken.append(item)
                turns.append(network_of(item[0]))
            self.assertEqual(len(set(turns)), len(waiting))
        self.assertEqual(sorted(number for _, number in taken), list(range(len(asked))))
        for host in set(asked):
            numbers = [number for each, number in taken if each == host]
            self.assertEqual(numbers, sorted(numbers))

    def test_waiting_since(self) -> None:
        """An address waits since its first item that is still there."""
        queue: FairQueue[int] = FairQueue()
        for at, host in enumerate(("10.0.0.1", "10.0.0.2", "10.0.0.1")):
            queue.append(host, at, float(at))
        self.assertEqual(set(queue.waiting_since(1.0)), {"10.0.0.1"})
        self.assertEqual(set(queue.waiting_since(1.5)), {"10.0.0.1", "10.0.0.2"})
        queue.pop()
        self.assertEqual(set(queue.waiting_since(1.5)), {"10.0.0.2"})


def enumerate_hosts(asked: list[str | None]) -> list[tuple[str | None, int]]:
    """Return the items that are asked for."""
    return [(host, number) for number, host in enumerate(asked)]
