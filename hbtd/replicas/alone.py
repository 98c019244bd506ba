"""The substitute for `Replica` in an hbtd that does not share its store, and so always leads."""

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed

from hbtd.replicas.leadership import Leadership
from hbtd.replicas.sign_of_life import Waiting


class Alone(Service):
    """Makes an hbtd that does not share its store the leader, as long as this service runs."""

    def __init__(self, leadership: Leadership, name: str) -> None:
        """Make a service that holds `leadership` while it runs; `name` is the name of this hbtd."""
        self._name = name
        self._leadership = leadership

    @property
    def waiting_elsewhere(self) -> dict[int, Waiting]:
        """An empty dict, since there are no other replicas."""
        return {}

    @property
    def synchronized(self) -> bool:
        """True, since there are no other replicas to be synchronized with."""
        return True

    @property
    def leader(self) -> str | None:
        """The name of this hbtd while this service runs, otherwise `None`."""
        return self._name if self.running else None

    def startService(self) -> None:
        """Begin to lead."""
        super().startService()
        self._leadership.hold()

    async def wait_until_synchronized(self, within: float) -> None:
        """Return at once, since there are no other replicas to be synchronized with."""

    def reconnect(self) -> None:
        """Do nothing, since there is no etcd to connect to."""

    def stopService(self) -> Deferred[None]:
        """Stop leading; return a Deferred that has fired already."""
        super().stopService()
        self._leadership.release()
        return succeed(None)
