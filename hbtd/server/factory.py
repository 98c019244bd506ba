"""The factory of client connections: it limits their number, closes idle ones, and drains them.

Each connection is a `hbtd.server.connection.Connection`, which reads and answers requests.
"""

from collections import Counter
from typing import Any

from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import Protocol, ServerFactory

from hbtd.runtime.periodic import PeriodicService
from hbtd.server.connection import Connection
from hbtd.server.lane import Lane
from hbtd.server.limits import CONNECTIONS, PEER_CONNECTIONS
from hbtd.server.scheduler import Scheduler
from hbtd.server.site import LimitedSite
from hbtd.server.states import TICK, State, lifetimes


class ConnectionFactory(ServerFactory):
    """The factory to listen with: makes connections, and keeps track of those that are open."""

    noisy = False

    def __init__(
        self, site: LimitedSite, lane: Lane | None, clock: IReactorTime, *, tls: bool = False
    ) -> None:
        """Make a factory whose connections are served by `site`, within the limits of the site.

        If `lane` is given, it is asked first to take each request. With `tls`, connections begin in
        the state `HANDSHAKE`, and their transports must report its end. `clock` measures how long
        connections may stay in a state.
        """
        self.site = site
        self.lane = lane
        self.tls = tls
        self.reactor = clock  # as a `Site` calls it
        self.limits = site.limits
        self.idle_closed = 0
        """The number of connections that were closed because they were idle."""
        self.scheduler = Scheduler(clock)
        """Decides when the ordinary lane processes the requests of each connection."""
        self.now = 0.0
        """Seconds in steps of `TICK`, counted while there are connections and the process runs."""
        self._connections: set[Connection] = set()
        # How many of them are of one address, those without one left out.
        self._of_host: Counter[str] = Counter()
        self._lifetimes = lifetimes(self.limits)
        self._ticking = PeriodicService(
            clock, TICK, self._tick, "closing idle connections", now=False
        )

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """Return a new connection, or one that is closed at once if the limits are reached."""
        limits = self.limits
        host: str | None = getattr(addr, "host", None)
        if len(self._connections) >= limits.connections:
            detail = f"There are {limits.connections} connections already"
            self.site.note(addr, CONNECTIONS, detail)
            return _OneTooMany()
        # Those on a Unix socket have no address: the file says who may use it.
        if host is not None and 0 < limits.connections_per_peer <= self._of_host[host]:
            detail = f"There are {limits.connections_per_peer} connections of this address already"
            self.site.note(addr, PEER_CONNECTIONS, detail)
            return _OneTooMany()
        return Connection(self, host, tls=self.tls)

    def fit(self, most: int) -> bool:
        """Lower the limit of connections to `most`; return `False` if it was higher before."""
        if most >= self.limits.connections:
            return True
        self.limits = self.limits._replace(connections=most)
        return False

    def __len__(self) -> int:
        """Return the number of open connections."""
        return len(self._connections)

    @property
    def busy(self) -> bool:
        """Whether any request has begun to arrive and has not been answered."""
        return any(connection.busy for connection in self._connections)

    def drain(self) -> None:
        """Close every connection after its next answer, from now on."""
        self.site.closing = True
        for connection in self._connections:
            connection.leave_fast_lane()

    def close(self) -> None:
        """Close all connections once the data written to them have been sent."""
        for connection in list(self._connections):
            connection.close()

    def abort(self) -> None:
        """Abort all connections."""
        for connection in list(self._connections):
            connection.transport.abortConnection()

    def close_vouched_for(self) -> None:
        """Close the TLS connections with a client certificate, and those still in the handshake.

        Call this when the authorities of client certificates have changed: a handshake in progress
        would still be decided by the old authorities.
        """
        for connection in list(self._connections):
            presented = getattr(connection.transport, "getPeerCertificate", lambda: None)()
            if presented is not None or connection.state is State.HANDSHAKE:
                connection.close()

    def add(self, connection: Connection) -> None:
        """Add a connection that has been made."""
        self._connections.add(connection)
        if connection.host is not None:
            self._of_host[connection.host] += 1
        if not self._ticking.running:
            self._ticking.startService()

    def discard(self, connection: Connection) -> None:
        """Remove a connection that has been lost."""
        self._connections.discard(connection)
        host = connection.host
        if host is not None:
            self._of_host[host] -= 1
            if not self._of_host[host]:
                del self._of_host[host]
        if not self._connections and self._ticking.running:
            self._ticking.stopService()

    def _tick(self) -> None:
        now = self.now = self.now + TICK
        # The latest time at which a connection may have come into each of the states.
        latest = [now - seconds for seconds in self._lifetimes]
        for each in [each for each in self._connections if each.since <= latest[each.state]]:
            each.time_out()


class _OneTooMany(Protocol):
    """The protocol of a connection above the limit, which is aborted at once.

    `buildProtocol` can't return `None` instead: factories that wrap another one don't expect that.
    """

    transport: Any

    def connectionMade(self) -> None:
        """Abort the connection, before any TLS handshake."""
        self.transport.abortConnection()
