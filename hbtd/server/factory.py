"""ConnectionFactory, all of them together: how many there are, whose turn it is, what time it is.

Each one is a `hbtd.server.connection.Connection`, which reads requests and has them answered.
What takes a view of all is here, once: how many there may be, and how many of one address; who gets
the next turn where there is more to do than fits one; the time, counted in ticks, by which those
that are silent or slow are closed; and an orderly end.
"""

from collections import Counter, deque
from typing import Any

from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import Protocol, ServerFactory

from hbtd.runtime.periodic import PeriodicService
from hbtd.server.connection import Connection
from hbtd.server.lane import Lane
from hbtd.server.limits import CONNECTIONS, PEER_CONNECTIONS
from hbtd.server.scheduler import Scheduler
from hbtd.server.site import LimitedSite

_FAREWELL = 15.0
"""Seconds that a client gets to read what is left and to hang up, when we are done with it."""

_TICK = 1.0
"""Seconds between two looks at who has been silent for too long."""

_TURNS = 32
"""Waiting connections that get a turn in one round of the reactor."""


class ConnectionFactory(ServerFactory):
    """Makes connections and looks after them: the factory to listen with."""

    noisy = False

    def __init__(self, site: LimitedSite, lane: Lane | None, clock: IReactorTime) -> None:
        """Without a `lane`, every request goes to the site.

        The site's limits hold in either lane.
        """
        self.site = site
        self.lane = lane
        self.reactor = clock  # as a `Site` calls it
        self.limits = site.limits
        self.idle_closed = 0
        """How many connections were closed because nothing happened on them."""
        self._connections: set[Connection] = set()
        # How many of them are of one address, those without one left out.
        self._of_host: Counter[str] = Counter()
        self.scheduler = Scheduler(clock)
        """How much of the ordinary lane's work a round of the reactor may have."""
        self._turns: deque[Connection] = deque()
        self._giving_turns = False
        # Time is counted in ticks: when hbtd was stopped for a while nobody has been silent.
        self._now = 0.0
        self._ticking = PeriodicService(
            clock, _TICK, self._tick, "the deadlines of connections", now=False
        )
        self._set_deadlines()

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """Make a connection, or one that is closed at once where there are enough."""
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
        return Connection(self, host)

    def fit(self, most: int) -> bool:
        """Allow for no more connections than this; tells whether fewer were allowed already."""
        if most >= self.limits.connections:
            return True
        self.limits = self.limits._replace(connections=most)
        return False

    def __len__(self) -> int:
        """Give the number of open connections."""
        return len(self._connections)

    @property
    def busy(self) -> bool:
        """Whether there are requests that have begun to arrive and are not answered."""
        return any(connection.busy for connection in self._connections)

    def close(self) -> None:
        """Close all connections, whatever they are at."""
        for connection in list(self._connections):
            connection.close()

    def close_vouched_for(self) -> None:
        """Close the TLS connections whose clients have presented a certificate, or may do so yet.

        For a handshake that has begun goes by the authorities of its beginning.
        """
        for connection in list(self._connections):
            presented = getattr(connection.transport, "getPeerCertificate", lambda: None)()
            if presented is not None or not connection.handshaken:
                connection.close()

    def add(self, connection: Connection) -> None:
        """Look after a connection."""
        self._connections.add(connection)
        if connection.host is not None:
            self._of_host[connection.host] += 1
        if not self._ticking.running:
            self._ticking.startService()

    def discard(self, connection: Connection) -> None:
        """Look after a connection no longer."""
        self._connections.discard(connection)
        host = connection.host
        if host is not None:
            self._of_host[host] -= 1
            if not self._of_host[host]:
                del self._of_host[host]
        if not self._connections and self._ticking.running:
            self._ticking.stopService()

    def give_turn(self, connection: Connection) -> None:
        """Have a connection go on in one of the reactor's next rounds."""
        self._turns.append(connection)
        self._see_to_turns()

    def _see_to_turns(self) -> None:
        if self._turns and not self._giving_turns:
            self._giving_turns = True
            self.reactor.callLater(0, self._give_turns)

    def _give_turns(self) -> None:
        self._giving_turns = False
        self.scheduler.begin()  # with those who wait: others might have all of every round
        for _ in range(min(_TURNS, len(self._turns))):
            if self.scheduler.over:
                break
            self._turns.popleft().go_on()
        self._see_to_turns()

    def _tick(self) -> None:
        self._now += _TICK
        self._set_deadlines()
        for connection in [each for each in self._connections if each.deadline <= self._now]:
            connection.time_out()

    def _set_deadlines(self) -> None:
        """Say when the time of those is over who begin now, or until the next tick."""
        self.idle_deadline = self._now + self.limits.idle_timeout + _TICK
        self.request_deadline = self._now + self.limits.request_timeout + _TICK
        self.farewell_deadline = self._now + _FAREWELL


class _OneTooMany(Protocol):
    """A connection that there is no room for: closed before TLS, if there is any, begins.

    Those who wrap factories, as endpoints do, don't expect that one makes no protocol.
    """

    transport: Any

    def connectionMade(self) -> None:
        """Close it."""
        self.transport.abortConnection()
