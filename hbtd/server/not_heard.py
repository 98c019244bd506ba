"""The addresses of clients that may have had a heartbeat to send, but were not heard."""

from collections import OrderedDict

from hbtd.server.fair_queue import network_of

_MOST_OF_NETWORK = 10_000
"""The most addresses of one network that are remembered."""

_MOST_NETWORKS = 50_000
"""The most networks of which addresses are remembered."""


class NotHeard:
    """The IP addresses of clients that were refused, or that gave up waiting.

    For each address, the latest time at which this happened is kept.

    At most 10,000 addresses of each network are kept, so that a client with many addresses does not
    displace the addresses of other networks.
    """

    def __init__(self) -> None:
        """Make an empty collection of addresses."""
        self._times: OrderedDict[str | None, OrderedDict[str | None, float]] = OrderedDict()

    def note(self, host: str | None, now: float) -> None:
        """Record that a client at an IP address was not heard at the time `now`.

        `host` is the address, or `None` for a client on a Unix socket. `now` is in seconds of a
        monotonic clock, which must be the same for all calls.
        """
        network = network_of(host)
        times = self._times.setdefault(network, OrderedDict())
        self._times.move_to_end(network)
        times[host] = now
        times.move_to_end(host)
        if len(times) > _MOST_OF_NETWORK:
            times.popitem(last=False)
        if len(self._times) > _MOST_NETWORKS:
            self._times.popitem(last=False)

    def since(self, since: float) -> set[str | None]:
        """Return the addresses last recorded after the time `since`; forget all others."""
        self._forget(since)
        return {host for times in self._times.values() for host in times}

    def count(self, since: float) -> int:
        """Return the number of addresses that `since` returns, without making a set of them."""
        self._forget(since)
        return sum(map(len, self._times.values()))

    def _forget(self, since: float) -> None:
        for network, times in list(self._times.items()):
            while times and next(iter(times.values())) <= since:
                times.popitem(last=False)
            if not times:
                del self._times[network]
