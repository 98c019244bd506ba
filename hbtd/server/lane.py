"""What a lane is: it takes requests of one kind off the front of what a connection has sent."""

from enum import Enum
from typing import Any, NamedTuple, Protocol


class Verdict(Enum):
    """Why no more requests were taken."""

    DRY = "all that was there is taken"
    BEGINNING = "what is left is the beginning of the head of what may be a request"
    ARRIVING = "what is left is the beginning of what may be a request, with all of its head"
    TURN = "it is the others' turn"
    LAST = "the last request asked for the connection to be closed"
    OTHER = "what comes next is not for this lane"


class Taken(NamedTuple):
    """What has been taken off the front of a connection's bytes."""

    beats: int
    """How many requests."""
    end: int
    """How many bytes they are."""
    verdict: Verdict
    need: int = 0
    """How many bytes there have to be after these until it is worth asking again."""


class Lane(Protocol):
    """Takes plain requests off a connection; all others are left to the site."""

    def sender(self, transport: Any) -> Any:
        """Return what the lane is to remember of a connection."""

    def take(self, data: bytes, sender: Any) -> Taken:
        """Take the requests that `data` begins with; return how many, and how far they reach.

        `sender` is what `sender()` returned for the connection that the bytes came on.
        """

    def answers(self, count: int, *, last: bool = False) -> bytes:
        """Return the answers to `count` requests; after the `last` the connection is closed."""
