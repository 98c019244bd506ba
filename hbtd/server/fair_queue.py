"""A queue that serves clients in turn, so that one with many items does not delay the others."""

from collections import OrderedDict, deque
from collections.abc import Iterator
from functools import lru_cache
from ipaddress import ip_address
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")

_SITE_BITS = 64
"""The number of leading bits that the IPv6 addresses of one site share."""


@lru_cache(maxsize=4096)
def network_of(host: str | None) -> str | None:
    """Return the network of an IP address: the group of addresses that one client may have.

    An IPv4 address is a network of its own. The network of an IPv6 address is its /64 prefix. An
    IPv4-mapped IPv6 address, which a dual-stack socket reports for an IPv4 client, counts as the
    IPv4 address. `None`, and a text that is not an IP address, are returned unchanged.
    """
    if host is None or ":" not in host:
        return host
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    mapped = getattr(address, "ipv4_mapped", None)
    if mapped is not None:
        return str(mapped)
    return f"{int(address) >> _SITE_BITS:x}::/{_SITE_BITS}"


class _Entry(NamedTuple, Generic[T]):
    """An item in the queue, and the time at which it was added."""

    since: float
    item: T


class FairQueue(Generic[T]):
    """A queue of items from many clients, in which the clients' networks take turns.

    At each turn of a network, one of its items is taken. Within a network, the IP addresses take
    turns, and the items of one address are taken in the order in which they were added. A network
    is a single IPv4 address or a /64 of IPv6 addresses, since a client that has one address of a
    /64 can usually use all of them.
    """

    def __init__(self) -> None:
        """Make an empty queue."""
        self._networks: OrderedDict[str | None, OrderedDict[str | None, deque[_Entry[T]]]] = (
            OrderedDict()
        )
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def append(self, host: str | None, item: T, now: float) -> None:
        """Add an item of a client to the queue.

        `host` is the client's IP address, or `None` for a client on a Unix socket. `now` is the
        current time in seconds; all calls must take it from the same clock.
        """
        hosts = self._networks.setdefault(network_of(host), OrderedDict())
        hosts.setdefault(host, deque()).append(_Entry(now, item))
        self._length += 1

    def pop(self) -> tuple[T, float]:
        """Remove the item whose turn it is; return the item and the time at which it was added.

        The time is the argument `now` of `append`. Raise `IndexError` if the queue is empty.
        """
        if not self._length:
            raise IndexError("the queue is empty")
        self._length -= 1
        network, hosts = self._networks.popitem(last=False)
        host, entries = hosts.popitem(last=False)
        entry = entries.popleft()
        # Both go to the end, so that the others are taken first.
        if entries:
            hosts[host] = entries
        if hosts:
            self._networks[network] = hosts
        return entry.item, entry.since

    def longest_since(self) -> float | None:
        """Return the time at which the oldest item was added; `None` if the queue is empty.

        The time is the argument `now` of `append`.
        """
        return min(
            (entries[0].since for hosts in self._networks.values() for entries in hosts.values()),
            default=None,
        )

    def waiting_since(self, before: float) -> Iterator[str | None]:
        """Yield the IP addresses whose oldest item was added before the time `before`.

        `before` is on the clock of the argument `now` of `append`. `None` stands for Unix sockets.
        """
        for hosts in self._networks.values():
            for host, entries in hosts.items():
                if entries[0].since < before:
                    yield host
