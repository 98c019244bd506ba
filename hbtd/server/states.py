"""The states of a client's connection, and how long a connection may stay in each state."""

from enum import IntEnum
from math import inf

from hbtd.server.limits import Limits

_FAREWELL = 15.0
"""Seconds in which the client must read the last answer and hang up."""

TICK = 1.0
"""Seconds between two checks for connections that have been in their state for too long."""


class State(IntEnum):
    """The state of a connection; `lifetimes` returns the longest time in each state."""

    HANDSHAKE = 0
    """The TLS handshake is not complete."""
    WAITING = 1
    """The next step of the TLS handshake waits for a turn (`hbtd.server.scheduler`)."""
    NEW = 2
    """No request is in progress, and none has been answered with a status below 400 so far."""
    IDLE = 3
    """No request is in progress; at least one has been answered with a status below 400."""
    ARRIVING = 4
    """A request has begun to arrive, but is not complete."""
    QUEUED = 5
    """Received bytes wait for a turn (`hbtd.server.scheduler`)."""
    ANSWERING = 6
    """The ordinary lane processes a request."""
    BLOCKED = 7
    """The ordinary lane is writing an answer; the client has yet to read the part sent so far."""
    STALLED = 8
    """The client has yet to read previous answers; until then, no further request is processed."""
    CLOSING = 9
    """The last answer has been written; the client has to read it and close the connection."""
    CLOSED = 10
    """The connection has ended."""


def lifetimes(limits: Limits) -> list[float]:
    """Return for how many seconds a connection may be in each state, in the order of `State`.

    `inf` means that there is no limit.
    """
    seconds = {
        State.HANDSHAKE: limits.request_timeout + TICK,
        State.WAITING: limits.request_timeout + TICK,
        State.NEW: limits.request_timeout + TICK,
        State.IDLE: limits.idle_timeout + TICK,
        State.ARRIVING: limits.request_timeout + TICK,
        State.BLOCKED: limits.unread_timeout + TICK,
        State.STALLED: limits.unread_timeout + TICK,
        State.CLOSING: _FAREWELL,
    }
    return [seconds.get(state, inf) for state in State]
