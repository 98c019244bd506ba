"""What clients may take of hbtd: connections, bytes and time, and how refusals are counted."""

from collections.abc import Callable
from typing import Any, NamedTuple

from hbtd.config.params import Params

MAX_FIELDS = 100
"""Fields that a request's head may have; twisted.web would take 500, which cost memory each."""

MAX_HEARTBEAT_BODY = 64 * 1024
"""Bytes that a heartbeat's body may have."""

_LARGE_AT_ONCE = 64
"""Bodies of the largest size, of requests and of answers, that may be in memory at once."""

CONNECTIONS = "connections"
PEER_CONNECTIONS = "peer_connections"
SLOW = "slow"
UNREAD = "unread"
LARGE_HEAD = "large_head"
LARGE_BODY = "large_body"
MEMORY = "memory"

REASONS = (CONNECTIONS, PEER_CONNECTIONS, SLOW, UNREAD, LARGE_HEAD, LARGE_BODY, MEMORY)
"""Why clients are refused something for the sake of the others, in the words that are counted."""

Note = Callable[[Any, str, str], None]
"""Hears of a refusal: the client's `IAddress`, one of the reasons, and what it is about."""


class Limits(NamedTuple):
    """How much there is for clients."""

    connections: int
    """Connections that may be open at once."""
    connections_per_peer: int
    """How many of them may be of one address; 0: all."""
    header_bytes: int
    """Bytes that a request's head may have."""
    body_bytes: int
    """Bytes that a request's body may have."""
    request_timeout: float
    """Seconds that a request may take from its first byte to its last."""
    idle_timeout: float
    """Seconds after which a connection on which nothing happens is closed."""

    @property
    def large_bytes(self) -> int:
        """Bytes that all large bodies, of requests and of answers, may have at once."""
        return _LARGE_AT_ONCE * self.body_bytes


def limits_of(params: Params) -> Limits:
    """Give the limits that parameters set."""
    return Limits(
        connections=params.max_connections,
        connections_per_peer=params.max_connections_per_peer,
        header_bytes=params.max_header_bytes,
        body_bytes=params.max_body_bytes,
        request_timeout=params.request_timeout,
        idle_timeout=params.idle_timeout,
    )


class Room:
    """The memory that large bodies share."""

    def __init__(self, size: int) -> None:
        """`size` is in bytes."""
        self._size = size
        self.taken = 0
        """Bytes that are in use."""

    def take(self, count: int) -> bool:
        """Take so many bytes; tells whether they were there."""
        if self.taken + count > self._size:
            return False
        self.taken += count
        return True

    def give_back(self, count: int) -> None:
        """Give back bytes that were taken."""
        self.taken -= count
