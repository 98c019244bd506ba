"""The readers of events: clients of `/events`, to which the event hub writes."""

from collections.abc import Callable, Container
from typing import Protocol

from twisted.internet.defer import Deferred

from hbtd.store.past import Selection


class Hub(Protocol):
    """The part of the event hub's interface that its readers use."""

    @property
    def readers(self) -> Container["Reader"]:
        """The readers that have joined the hub and have not left it."""

    def leave(self, reader: "Reader") -> None:
        """Remove a reader; do nothing if it was removed already."""

    def wake(self, reader: "Reader") -> None:
        """Add a reader to the queue of readers to be written to, if there is anything to write."""


class Reader:
    """A client of `/events`, to which the hub writes events.

    A reader is a push producer: it writes nothing between `pauseProducing` and `resumeProducing`.
    """

    def __init__(
        self,
        hub: Hub,
        selection: Selection,
        write: Callable[[bytes], object],
        drop: Callable[[], object],
        may_read: Callable[[], bool],
    ) -> None:
        self.selection = selection
        self.write = write
        self.drop = drop
        """A function that ends the client's connection at once."""
        self.may_read = may_read
        """A function that returns whether the client may still read events."""
        self.unchecked = False
        """Whether `may_read` has to be called before anything more is written."""
        self.place: int | None = None
        """The index, in the hub's memory, of the block of events that this reader is sent next.

        It is `None` while the reader is sent past events, which are read from the log.
        """
        self.done = 0
        """The number up to which log entries were sent as events; valid once `place` is set."""
        self.paused = False
        self.queued = False
        """Whether the reader is in the hub's queue of readers to be written to."""
        self.idle = False
        """Whether to send a comment to keep the connection open, if no events are sent first."""
        self.ended: Deferred[bytes] = Deferred(lambda _: hub.leave(self))
        """A Deferred that fires with `b""` when the hub ends the stream.

        It is to be cancelled when the client disconnects.
        """
        self._hub = hub
        self._resumed: Deferred[None] | None = None

    @property
    def gone(self) -> bool:
        """Whether this reader has left the hub."""
        return self not in self._hub.readers

    def pauseProducing(self) -> None:
        """Write nothing more, because the client does not read fast enough."""
        self.paused = True

    def resumeProducing(self) -> None:
        """Resume writing after `pauseProducing`, because the client can take more."""
        self.paused = False
        self.release()
        self._hub.wake(self)

    def stopProducing(self) -> None:
        """Leave the hub and write nothing more, because the connection is lost."""
        self.paused = True
        self._hub.leave(self)

    def release(self) -> None:
        """Let a waiting call of `writable` return, if there is one."""
        resumed, self._resumed = self._resumed, None
        if resumed is not None:
            resumed.callback(None)

    async def writable(self) -> None:
        """Wait until the client can take more data, or until this reader has left the hub."""
        if self.paused and not self.gone:
            self._resumed = Deferred()
            await self._resumed
