"""The connections without recent heartbeats, from which one is chosen to be closed.

hbtd closes one of them to make room for a new connection, if a limit of connections is reached.
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import Generic, TypeVar

from hbtd.server.fair_queue import network_of

T = TypeVar("T")


class Strangers(Generic[T]):
    """A collection of connections, grouped by IP address and by network, in the order of addition.

    Networks are those that `network_of` returns. The time that a method takes does not depend on
    how many connections and networks there are; only iteration takes longer.
    """

    def __init__(self) -> None:
        """Make an empty collection."""
        # Of each address, and of each network that is not a single address.
        self._groups: defaultdict[str | None, dict[T, None]] = defaultdict(dict)
        # The networks by the number of their connections, and the largest number.
        self._by_size: defaultdict[int, dict[str | None, None]] = defaultdict(dict)
        self._largest = 0
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[T]:
        for networks in self._by_size.values():
            for network in networks:
                yield from self._groups[network]

    def add(self, host: str | None, connection: T) -> None:
        """Add a connection from the IP address `host`; `None` stands for a Unix socket."""
        network = network_of(host)
        self._groups[network][connection] = None
        if host != network:
            self._groups[host][connection] = None
        self._length += 1
        self._resized(network, -1)

    def discard(self, host: str | None, connection: T) -> bool:
        """Remove a connection; return whether it was in the collection."""
        network = network_of(host)
        if connection not in self._groups.get(network, ()):
            return False
        self._remove(network, connection)
        if host != network:
            self._remove(host, connection)
        self._length -= 1
        self._resized(network, 1)
        return True

    def first_of(self, host: str | None) -> T | None:
        """Return the earliest added connection from an IP address; `None` if there is none."""
        return next(iter(self._groups.get(host, ())), None)

    def first_of_largest(self) -> T | None:
        """Return the earliest added connection from the network that has the most connections.

        Return `None` if the collection is empty.
        """
        if not self._length:
            return None
        return self.first_of(next(iter(self._by_size[self._largest])))

    def _remove(self, name: str | None, connection: T) -> None:
        group = self._groups[name]
        del group[connection]
        if not group:
            del self._groups[name]

    def _resized(self, network: str | None, change_back: int) -> None:
        """Update the order of the networks by size, after one has gained or lost a connection.

        `change_back` is the size of `network` before, minus its size now: -1 or 1.
        """
        after = len(self._groups.get(network, ()))
        before = after + change_back
        if before:
            del self._by_size[before][network]
            if not self._by_size[before]:
                del self._by_size[before]
        if after:
            self._by_size[after][network] = None
        if after > self._largest or (before == self._largest and before not in self._by_size):
            self._largest = after
