"""Limits of what clients may use: connections, memory and time; the reasons of refusals."""

from collections import Counter
from collections.abc import Callable
from math import inf
from typing import Any, NamedTuple

from hbtd.config.params import Params

MAX_FIELDS = 100
"""Header fields that a request may have; twisted.web allows 500, each of which takes memory."""

MAX_HEARTBEAT_BODY = 64 * 1024
"""Largest body of a heartbeat, in bytes."""

_UNREAD = 60
"""Seconds that a client may leave an answer unread."""

_LARGE_AT_ONCE = 64
"""Bodies of the largest size, of requests and of answers, that fit into memory at once."""

CONNECTIONS = "connections"
PEER_CONNECTIONS = "peer_connections"
SLOW = "slow"
UNREAD = "unread"
LARGE_HEAD = "large_head"
LARGE_BODY = "large_body"
MEMORY = "memory"
TLS = "tls"

REASONS = (CONNECTIONS, PEER_CONNECTIONS, SLOW, UNREAD, LARGE_HEAD, LARGE_BODY, MEMORY, TLS)
"""Reasons for which the server refuses connections and requests, as the metric names them."""

Note = Callable[[Any, str, str], None]
"""Counts and logs a refusal: the client's `IAddress`, one of `REASONS`, and a sentence."""


class Limits(NamedTuple):
    """How much clients may use."""

    connections: int
    """Connections that may be open at once."""
    connections_per_peer: int
    """Connections of one address that may be open at once; 0: no limit."""
    header_bytes: int
    """Largest head of a request, in bytes."""
    body_bytes: int
    """Largest body of a request, in bytes."""
    request_timeout: float
    """Seconds for a request to arrive, a TLS handshake to complete, and a first success."""
    idle_timeout: float
    """Seconds after which a connection is closed on which nothing happens."""
    connection_age: float = inf
    """Seconds after which a connection is closed at its next answer, at the latest."""

    @property
    def unread_timeout(self) -> float:
        """Seconds after which a connection is closed whose client does not read its answers."""
        return min(self.idle_timeout, _UNREAD)

    @property
    def large_bytes(self) -> int:
        """Bytes that all large bodies, of requests and of answers, may have together."""
        return _LARGE_AT_ONCE * self.body_bytes


def limits_of(params: Params) -> Limits:
    """Return the limits that parameters set."""
    return Limits(
        connections=params.max_connections,
        connections_per_peer=params.max_connections_per_peer,
        header_bytes=params.max_header_bytes,
        body_bytes=params.max_body_bytes,
        request_timeout=params.request_timeout,
        idle_timeout=params.idle_timeout,
        connection_age=params.max_connection_age or inf,
    )


class Room:
    """A budget of memory, in bytes, that large bodies of requests and answers share.

    An address may take at most half of what the others leave, so that there is some for each.
    """

    def __init__(self, size: int) -> None:
        """Make a budget of `size` bytes."""
        self._size = size
        self._of_host: Counter[str | None] = Counter()
        self.taken = 0
        """Bytes that are reserved."""

    def take(self, count: int, host: str | None) -> bool:
        """Reserve `count` bytes for an IP address; return whether there were as many.

        `host` is `None` for clients without an address.
        """
        own = self._of_host[host]
        if 2 * (own + count) > self._size - (self.taken - own):
            return False
        self._of_host[host] += count
        self.taken += count
        return True

    def give_back(self, count: int, host: str | None) -> None:
        """Release `count` bytes that were reserved for an IP address."""
        self.taken -= count
        self._of_host[host] -= count
        if self._of_host[host] <= 0:
            del self._of_host[host]
