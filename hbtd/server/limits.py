"""Limits on the connections, memory and time that clients use, and reasons for refusals."""

from collections import Counter
from collections.abc import Callable
from math import inf
from typing import Any, NamedTuple

from hbtd.config.params import Params

MAX_FIELDS = 100
"""The most header fields in a request; each takes memory, and twisted.web would allow 500."""

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
    """Seconds within which a request must arrive.

    A new connection must have had an answer with a status below 400 within the same time.
    """
    idle_timeout: float
    """Seconds without a request after which a connection is closed."""
    connection_age: float = inf
    """The age, in seconds, by which a connection is chosen to be closed after its next answer."""

    @property
    def unread_timeout(self) -> float:
        """Seconds for which a client may leave answers unread before its connection is closed."""
        return min(self.idle_timeout, _UNREAD)

    @property
    def large_bytes(self) -> int:
        """The most bytes of memory that all large bodies of requests and answers may use."""
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

    An IP address gets at most half of what other addresses have left, so that there is always some
    memory for another address.
    """

    def __init__(self, size: int) -> None:
        """Make a budget of `size` bytes."""
        self._size = size
        self._of_host: Counter[str | None] = Counter()
        self.taken = 0
        """The number of bytes that are reserved."""

    def take(self, count: int, host: str | None) -> bool:
        """Reserve `count` bytes for an IP address; return whether there was room for them.

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


_OTHER_FILES = 128
"""Open files that are reserved for everything but clients' connections."""


def connections_for(files: int) -> int:
    """Return how many client connections a limit of `files` open files allows."""
    return max(files - _OTHER_FILES, 1)
