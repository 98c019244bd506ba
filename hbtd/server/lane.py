"""The interface of a fast lane, which answers simple requests faster than a twisted.web site."""

from enum import Enum
from typing import Any, Protocol


class Verdict(Enum):
    """The reason why `Lane.take` has taken no more requests."""

    DRY = "all bytes are taken"
    BEGINNING = "the rest is the beginning of the head of what may be a request"
    ARRIVING = "the rest is the beginning of what may be a request, with all of its head"
    TURN = "it is the turn of other connections"
    LAST = "the last request asked for the connection to be closed"
    OTHER = "the next request is not for this lane"


Taken = tuple[int, int, Verdict, int]
"""The result of `Lane.take`: the tuple `(count, size, verdict, need)`.

`count` requests were taken, which are the first `size` bytes of the data. `verdict` says why no
more were taken. If the rest of the data is an incomplete request, `take` is to be called again when
the rest has `need` bytes; otherwise `need` is 0. The type is a plain tuple, because one is made for
every heartbeat.
"""


class Lane(Protocol):
    """The interface of a fast lane: it answers simple requests, and leaves others to the site."""

    def sender(self, transport: Any, host: str | None) -> Any:
        """Return a new object in which the lane keeps what it has to remember of a connection.

        `transport` is the connection's transport, and `host` the client's IP address, or `None` on
        a Unix socket.
        """

    def take(self, data: bytes, sender: Any) -> Taken:
        """Process the requests at the beginning of `data`; return how much was taken, as a `Taken`.

        `data` are the unanswered bytes of a connection, and `sender` is what `sender()` returned
        for that connection. The caller writes the answers, which `answers` returns.
        """

    def answers(self, count: int, *, last: bool = False) -> bytes:
        """Return the answers to `count` requests, as bytes.

        With `last`, the last of these answers has the header `Connection: close`.
        """


class LastAnswers:
    """A wrapper of a lane, for a connection that is to be closed after its next answer."""

    def __init__(self, lane: Lane) -> None:
        """Make a wrapper that passes requests to `lane`."""
        self.sender, self.answers = lane.sender, lane.answers
        self._take = lane.take

    def take(self, data: bytes, sender: Any) -> Taken:
        """Process requests as `Lane.take` does, but let the caller close the connection then.

        If all bytes are taken, the verdict is `LAST`, upon which the caller closes the connection,
        in place of `DRY`, upon which it would wait for more requests.
        """
        taken = self._take(data, sender)
        if taken[2] is Verdict.DRY:
            count, size, _, need = taken
            return count, size, Verdict.LAST, need
        return taken
