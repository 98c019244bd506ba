"""The states of a client's connection, and how long a connection may be in each."""

from enum import IntEnum
from math import inf

from hbtd.server.limits import Limits

_FAREWELL = 15.0
"""Seconds in which the client must read the last answer and hang up."""

TICK = 1.0
"""Seconds between two checks for connections that have been in their state for too long."""


class State(IntEnum):
    """What a connection is doing; how long it may do so depends on the state alone."""

    HANDSHAKE = 0
    """The TLS handshake goes on."""
    IDLE = 1
    """No request is in hand."""
    ARRIVING = 2
    """A request has begun to arrive."""
    QUEUED = 3
    """Received bytes wait for a turn (`hbtd.server.scheduler`)."""
    ANSWERING = 4
    """The ordinary lane processes a request."""
    BLOCKED = 5
    """The ordinary lane writes an answer, and waits until the client reads it."""
    STALLED = 6
    """No further request is processed until the client has read the previous answers."""
    CLOSING = 7
    """The last answer has been written; the client has to read it and to hang up."""
    CLOSED = 8
    """The connection has ended."""


def lifetimes(limits: Limits) -> list[float]:
    """Return the seconds that a connection may be in each state, in order; `inf`: no limit."""
    seconds = {
        State.HANDSHAKE: limits.request_timeout + TICK,
        State.IDLE: limits.idle_timeout + TICK,
        State.ARRIVING: limits.request_timeout + TICK,
        State.BLOCKED: limits.idle_timeout + TICK,
        State.STALLED: limits.idle_timeout + TICK,
        State.CLOSING: _FAREWELL,
    }
    return [seconds.get(state, inf) for state in State]
