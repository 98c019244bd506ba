"""The only replica: an hbtd whose store is its own, so that it leads all the time."""

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed

from hbtd.replicas.leadership import Leadership


class Alone(Service):
    """What `hbtd.replicas.replica.Replica` is where several share a store."""

    def __init__(self, leadership: Leadership) -> None:
        self._leadership = leadership

    def startService(self) -> None:
        """Take the leadership."""
        super().startService()
        self._leadership.hold()

    async def wait_until_synchronized(self, within: float) -> None:
        """Return at once: there are no other replicas to hear of."""

    def stopService(self) -> Deferred[None]:
        """Give up the leadership."""
        super().stopService()
        self._leadership.release()
        return succeed(None)
