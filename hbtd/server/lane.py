"""The interface of a fast lane, which answers simple requests faster than a twisted.web site."""

from enum import Enum
from typing import Any, Protocol


class Verdict(Enum):
    """The reason why `Lane.take` took no more requests from the data."""

    DRY = "all bytes are taken"
    BEGINNING = "the rest is the beginning of the head of what may be a request"
    ARRIVING = "the rest is the beginning of what may be a request, with all of its head"
    TURN = "it is the turn of other connections"
    LAST = "the last request asked for the connection to be closed"
    OTHER = "the next request is not for this lane"


Taken = tuple[int, int, Verdict, int]
"""The result of `Lane.take`: the tuple `(count, size, verdict, need)`.

The lane has taken the first `count` requests of the data, which are the first `size` bytes;
`verdict` says why it took no more. If the remaining bytes are the beginning of a request, the
caller should keep them until further bytes have arrived, and call `take` again when it has at least
`need` bytes in all. Otherwise `need` is 0. The type is a plain tuple, because one is made for every
heartbeat.
"""


class Lane(Protocol):
    """The interface of a fast lane: it answers simple requests, and leaves the rest to the site."""

    def sender(self, transport: Any, host: str | None) -> Any:
        """Return a new object in which the lane keeps its data about a connection.

        The object is for calls of `take`. `transport` is the connection's transport, and `host` is
        the client's IP address, or `None` on a Unix socket.
        """

    def take(self, data: bytes, sender: Any) -> Taken:
        """Process the requests at the beginning of `data`; return how much was taken, as a `Taken`.

        `data` are the bytes that were received on a connection and not yet processed; `sender` is
        the object that the method `sender` returned for that connection. The caller has to write
        the answers to the requests that were taken; the method `answers` returns them.
        """

    def answers(self, count: int, *, last: bool = False) -> bytes:
        """Return the answers to `count` requests, as bytes.

        If `last` is true, the last of these answers has the header `Connection: close`.
        """


class LastAnswers:
    """A wrapper of a lane, for a connection that is to be closed after its next answer."""

    def __init__(self, lane: Lane) -> None:
        """Make a wrapper that passes requests to `lane`."""
        self.sender, self.answers = lane.sender, lane.answers
        self._take = lane.take

    def take(self, data: bytes, sender: Any) -> Taken:
        """Process requests as `Lane.take` does; return `LAST` as the verdict in place of `DRY`.

        `DRY` says that all bytes were taken, and that the connection stays open. `LAST` makes the
        caller close the connection after the answers.
        """
        taken = self._take(data, sender)
        if taken[2] is Verdict.DRY:
            count, size, _, need = taken
            return count, size, Verdict.LAST, need
        return taken
