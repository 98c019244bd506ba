"""The states of a client's connection, and how long a connection may be in each."""

from enum import IntEnum
from math import inf

from hbtd.server.limits import Limits

_FAREWELL = 15.0
"""Seconds in which the client must read the last answer and hang up."""

TICK = 1.0
"""Seconds between two checks for connections that have been in their state for too long."""


class State(IntEnum):
    """What a connection is doing; `lifetimes` returns the time limit of each state."""

    HANDSHAKE = 0
    """The TLS handshake is in progress."""
    IDLE = 1
    """No request is arriving, waiting or being answered."""
    ARRIVING = 2
    """A request has begun to arrive."""
    QUEUED = 3
    """Received bytes wait for a turn (`hbtd.server.scheduler`)."""
    ANSWERING = 4
    """The ordinary lane processes a request."""
    BLOCKED = 5
    """The ordinary lane is writing an answer, and waits for the client to read what is written."""
    STALLED = 6
    """No further request is processed until the client has read the previous answers."""
    CLOSING = 7
    """hbtd writes no more; the client has to read what was written, and to hang up."""
    CLOSED = 8
    """The connection has ended."""


def lifetimes(limits: Limits) -> list[float]:
    """Return the most seconds in each state, in the order of `State`; `inf` means no limit."""
    seconds = {
        State.HANDSHAKE: limits.request_timeout + TICK,
        State.IDLE: limits.idle_timeout + TICK,
        State.ARRIVING: limits.request_timeout + TICK,
        State.BLOCKED: limits.idle_timeout + TICK,
        State.STALLED: limits.idle_timeout + TICK,
        State.CLOSING: _FAREWELL,
    }
    return [seconds.get(state, inf) for state in State]
