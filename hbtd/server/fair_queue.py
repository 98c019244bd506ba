"""A queue from which clients are taken in turn, whoever asks most."""

from collections import OrderedDict, deque
from collections.abc import Iterator
from functools import lru_cache
from ipaddress import ip_address
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")

_SITE_BITS = 64
"""Bits of an IPv6 address that name a site; its owner has all addresses that begin with them."""


@lru_cache(maxsize=4096)
def network_of(host: str | None) -> str | None:
    """Return the network that an IP address counts as: itself, or its /64 if it is an IPv6 address.

    An IPv4 address that a dual-stack socket reports is an IPv4 address. `None`, and what is no
    IP address, is returned unchanged.
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
    """An item in the queue."""

    since: float
    item: T


class FairQueue(Generic[T]):
    """A queue that gives networks equal shares, in each network addresses, and keeps their order.

    Items of one address are taken in the order in which they were added. A network is an IPv4
    address or the /64 of an IPv6 address: whoever has one address of a /64 has all of them.
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
        """Add an item of a client at the IP address `host`, `None` for one on a Unix socket.

        `now` is the time, in seconds of any clock, since when the item waits.
        """
        hosts = self._networks.setdefault(network_of(host), OrderedDict())
        hosts.setdefault(host, deque()).append(_Entry(now, item))
        self._length += 1

    def pop(self) -> T:
        """Remove and return the item whose turn it is; raise `IndexError` if the queue is empty."""
        if not self._length:
            raise IndexError("the queue is empty")
        self._length -= 1
        network, hosts = self._networks.popitem(last=False)
        host, entries = hosts.popitem(last=False)
        item = entries.popleft().item
        # Both go to the end, so that the others are taken first.
        if entries:
            hosts[host] = entries
        if hosts:
            self._networks[network] = hosts
        return item

    def longest_since(self) -> float | None:
        """Return the time at which the oldest item was added; `None` if the queue is empty."""
        return min(
            (entries[0].since for hosts in self._networks.values() for entries in hosts.values()),
            default=None,
        )

    def waiting_since(self, before: float) -> Iterator[str | None]:
        """Yield the addresses of which an item was added before the time `before`."""
        for hosts in self._networks.values():
            for host, entries in hosts.items():
                if entries[0].since < before:
                    yield host
