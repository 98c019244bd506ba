"""Limits on the connections, memory and time that clients use, and reasons for refusals."""

from collections import Counter
from collections.abc import Callable
from math import inf
from typing import Any, NamedTuple

from hbtd.config.params import Params

MAX_FIELDS = 100
"""The most header fields in a request: fewer than twisted.web's 500, as each field takes memory."""

MAX_HEARTBEAT_BODY = 64 * 1024
"""The largest size of a heartbeat's body, in bytes."""

_UNREAD = 60
"""Seconds that a client may leave an answer unread."""

_LARGE_AT_ONCE = 64
"""The number of bodies of the largest size for which there is memory at once."""

CONNECTIONS = "connections"
PEER_CONNECTIONS = "peer_connections"
SLOW = "slow"
UNREAD = "unread"
LARGE_HEAD = "large_head"
LARGE_BODY = "large_body"
MEMORY = "memory"
TLS = "tls"

REASONS = (CONNECTIONS, PEER_CONNECTIONS, SLOW, UNREAD, LARGE_HEAD, LARGE_BODY, MEMORY, TLS)
"""The reasons for refusals: values of the label `reason` of the metric `hbtd_refused_total`."""

Note = Callable[[Any, str, str], None]
"""A function that counts and logs a refusal.

Its arguments are the client's `IAddress`, one of `REASONS`, and a sentence with the details.
"""


class Limits(NamedTuple):
    """The limits on the connections, memory and time that clients use."""

    connections: int
    """The most connections that may be open at once."""
    connections_per_peer: int
    """The most connections from one IP address that may be open at once; 0: no limit."""
    header_bytes: int
    """The largest size of the head of a request, in bytes."""
    body_bytes: int
    """The largest size of the body of a request, in bytes."""
    request_timeout: float
    """Seconds within which a request must have arrived; otherwise its connection is closed.

    A new connection is also closed if, within the same time, no request on it has been answered
    with a status below 400.
    """
    idle_timeout: float
    """Seconds without a request after which a connection is closed."""
    connection_age: float = inf
    """Seconds after which a connection is closed, as soon as its next answer has been sent.

    Each connection has a random limit of its own, from 80 % to 100 % of this value, so that clients
    don't all connect again at once. `inf` means that there is no limit.
    """

    @property
    def unread_timeout(self) -> float:
        """Seconds for which a client may leave answers unread before its connection is closed."""
        return min(self.idle_timeout, _UNREAD)

    @property
    def large_bytes(self) -> int:
        """The most bytes of memory that large bodies of requests and answers may use together.

        A body is large if it has more than `MAX_HEARTBEAT_BODY` bytes.
        """
        return _LARGE_AT_ONCE * self.body_bytes


def limits_of(params: Params) -> Limits:
    """Return the limits that hbtd's parameters define."""
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

    One IP address can reserve at most half of the memory that is not reserved for other addresses.
    So an address that has reserved nothing can always reserve something.
    """

    def __init__(self, size: int) -> None:
        """Make a budget of `size` bytes."""
        self._size = size
        self._of_host: Counter[str | None] = Counter()
        self.taken = 0
        """The number of bytes that are reserved."""

    def take(self, count: int, host: str | None) -> bool:
        """Reserve `count` bytes for an IP address, and return `True`, if there is room for them.

        Otherwise reserve nothing, and return `False`. `host` is the address, or `None` for clients
        on a Unix socket.
        """
        own = self._of_host[host]
        if 2 * (own + count) > self._size - (self.taken - own):
            return False
        self._of_host[host] += count
        self.taken += count
        return True

    def give_back(self, count: int, host: str | None) -> None:
        """Release `count` bytes that `take` has reserved for the IP address `host`."""
        self.taken -= count
        self._of_host[host] -= count
        if self._of_host[host] <= 0:
            del self._of_host[host]


_OTHER_FILES = 128
"""Open files that are reserved for everything but clients' connections."""


def connections_for(files: int) -> int:
    """Return how many client connections a limit of `files` open files allows."""
    return max(files - _OTHER_FILES, 1)
