"""Connections on which no heartbeat was taken lately, and which of them is closed first."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from hbtd.server.fair_queue import network_of
from hbtd.server.strangers import Strangers

HOSTS = ("10.0.0.1", "10.0.0.2", "2001:db8::1", "2001:db8::2", None)
STEPS = st.lists(st.tuples(st.sampled_from(HOSTS), st.integers(0, 9)), max_size=80)


class StrangersTests(SynchronousTestCase):
    """The order in which connections are closed."""

    @given(STEPS)
    def test_model(self, steps: list[tuple[str | None, int]]) -> None:
        """The first of an address, and of the largest network, are those that a list finds."""
        strangers: Strangers[tuple[str | None, int]] = Strangers()
        listed: list[tuple[str | None, int]] = []
        for step in steps:
            host, _ = step
            if step in listed:
                listed.remove(step)
                self.assertTrue(strangers.discard(host, step))
            else:
                self.assertFalse(strangers.discard(host, step))
                listed.append(step)
                strangers.add(host, step)
            self.assertEqual(len(strangers), len(listed))
            self.assertEqual(set(strangers), set(listed))
            for each in HOSTS:
                if each is None or "." in each:
                    first = next((item for item in listed if item[0] == each), None)
                    self.assertEqual(strangers.first_of(each), first)
            networks = [network_of(each) for each, _ in listed]
            chosen = strangers.first_of_largest()
            if chosen is None:
                self.assertEqual(listed, [])
                continue
            network = network_of(chosen[0])
            most = max(networks.count(each) for each in networks)
            self.assertEqual(networks.count(network), most)
            self.assertEqual(chosen, listed[networks.index(network)])

    def test_addresses_of_a_network(self) -> None:
        """In a network of several addresses, the first connection of one of them can be found."""
        strangers: Strangers[str] = Strangers()
        strangers.add("2001:db8::1", "a")
        strangers.add("2001:db8::2", "b")
        self.assertEqual(strangers.first_of("2001:db8::2"), "b")
        self.assertEqual(strangers.first_of("2001:db8::3"), None)
        strangers.discard("2001:db8::2", "b")
        self.assertEqual(strangers.first_of("2001:db8::2"), None)

    def test_nothing_is_kept(self) -> None:
        """Of connections that have gone nothing is kept."""
        strangers: Strangers[int] = Strangers()
        for number in range(100):
            strangers.add(f"10.0.0.{number % 7}", number)
        for number in range(100):
            strangers.discard(f"10.0.0.{number % 7}", number)
        self.assertEqual((len(strangers._groups), len(strangers._by_size)), (0, 0))
