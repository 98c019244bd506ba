"""The limits of what clients may use (connections, memory, time), and reasons of refusals."""

from collections.abc import Callable
from typing import Any, NamedTuple

from hbtd.config.params import Params

MAX_FIELDS = 100
"""The most header fields in a request; each takes memory, and twisted.web would allow 500."""

MAX_HEARTBEAT_BODY = 64 * 1024
"""Largest body of a heartbeat, in bytes."""

_LARGE_AT_ONCE = 64
"""How many bodies of the largest size, of requests and answers, may be in memory at once."""

CONNECTIONS = "connections"
PEER_CONNECTIONS = "peer_connections"
SLOW = "slow"
UNREAD = "unread"
LARGE_HEAD = "large_head"
LARGE_BODY = "large_body"
MEMORY = "memory"
TLS = "tls"

REASONS = (CONNECTIONS, PEER_CONNECTIONS, SLOW, UNREAD, LARGE_HEAD, LARGE_BODY, MEMORY, TLS)
"""The reasons for which the server refuses, as labels of the metric `hbtd_refused`."""

Note = Callable[[Any, str, str], None]
"""A function that counts and logs a refusal.

Its arguments are the client's `IAddress`, one of `REASONS`, and a sentence with the details.
"""


class Limits(NamedTuple):
    """How much clients may use."""

    connections: int
    """Connections that may be open at once."""
    connections_per_peer: int
    """The most connections from one IP address that may be open at once; 0: no limit."""
    header_bytes: int
    """Largest head of a request, in bytes."""
    body_bytes: int
    """Largest body of a request, in bytes."""
    request_timeout: float
    """Seconds that a request may take to arrive, and a TLS handshake to complete."""
    idle_timeout: float
    """Seconds that a connection may be idle, or that a client may take to read an answer."""

    @property
    def large_bytes(self) -> int:
        """Bytes that all large bodies, of requests and of answers, may have together."""
        return _LARGE_AT_ONCE * self.body_bytes


def limits_of(params: Params) -> Limits:
    """Return the limits that hbtd's parameters set."""
    return Limits(
        connections=params.max_connections,
        connections_per_peer=params.max_connections_per_peer,
        header_bytes=params.max_header_bytes,
        body_bytes=params.max_body_bytes,
        request_timeout=params.request_timeout,
        idle_timeout=params.idle_timeout,
    )


class Room:
    """A budget of memory, in bytes, that large bodies of requests and answers share."""

    def __init__(self, size: int) -> None:
        """Make a budget of `size` bytes."""
        self._size = size
        self.taken = 0
        """Bytes that are reserved."""

    def take(self, count: int) -> bool:
        """Reserve `count` bytes and return `True`, or return `False` if fewer are free."""
        if self.taken + count > self._size:
            return False
        self.taken += count
        return True

    def give_back(self, count: int) -> None:
        """Release `count` bytes that were reserved."""
        self.taken -= count
