"""The factory of client connections: it limits their number, and closes idle and old ones.

Each connection is a `hbtd.server.connection.Connection`, which reads and answers requests.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from sys import intern
from typing import Any

from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.internet.task import deferLater

from hbtd.formats.counts import counted
from hbtd.runtime.periodic import PeriodicService
from hbtd.server.connection import Connection
from hbtd.server.lane import Lane, LastAnswers
from hbtd.server.limits import CONNECTIONS, PEER_CONNECTIONS
from hbtd.server.scheduler import Scheduler
from hbtd.server.site import LimitedSite
from hbtd.server.states import TICK, State, lifetimes
from hbtd.server.strangers import Strangers

_AGE_JITTER = 0.2
"""The share of the greatest age, at its end, in which connections are closed at random times."""


_OF_PEER = 0.75
"""The share of all connections that one address may have if the open-file limit is low."""

_POLL = 0.02
"""Seconds between two looks at connections on which requests are under way, when hbtd stops."""

_CLOSED_AT_ONCE = 100
"""The most connections closed in one iteration of the reactor: a few milliseconds' worth."""


class ConnectionFactory(ServerFactory):
    """The protocol factory of listening ports: it makes connections, and tracks the open ones."""

    noisy = False

    def __init__(
        self,
        site: LimitedSite,
        lane: Lane | None,
        clock: IReactorTime,
        scheduler: Scheduler | None = None,
        jitter: Callable[[], float] = lambda: 0.5,
        *,
        tls: bool = False,
    ) -> None:
        """Make a factory whose connections are served by `site`, within the limits of the site.

        Requests are offered to the fast lane `lane` first, if there is one. With `tls`, a
        connection is in the state `HANDSHAKE` until its transport reports that the TLS handshake is
        complete. `clock` measures how long connections last. `scheduler` gives connections their
        turns; by default, a new scheduler is made. `jitter` returns a random number from 0 to 1,
        which varies the age at which a connection is closed.
        """
        self.site = site
        self.lane = lane
        self.tls = tls
        self.reactor = clock  # as a `Site` calls it
        self.limits = site.limits
        self.idle_closed = 0
        """The number of connections that were closed because they were idle."""
        self.scheduler = scheduler or Scheduler(clock)
        """The scheduler, which decides which connection's work is done next."""
        self.now = 0.0
        """The clock of the connections, in seconds; it advances in steps of one second.

        It stands still while the factory has no connections, or hbtd is suspended.
        """
        self._jitter = jitter
        # All open connections: those on which a heartbeat was taken lately, and the others.
        self._proven: dict[Connection, None] = {}
        self._strangers: Strangers[Connection] = Strangers()
        # How many of them are of one address, those without one left out.
        self._of_host: Counter[str] = Counter()
        self._lifetimes = lifetimes(self.limits)
        self._overdue: deque[Connection] = deque()
        self._ticking = PeriodicService(
            clock, TICK, self._tick, "closing idle connections", now=False
        )

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """Return the protocol of a new connection.

        If a limit on connections is reached, and no other connection can be closed to make room,
        return a protocol that aborts the new connection.
        """
        host: str | None = getattr(addr, "host", None)
        if host is not None:
            host = intern(host)  # components remember it
        refusal = self._refusal(host)
        if refusal is not None:
            self.site.note(addr, *refusal)
            self.scheduler.not_heard(host)
            return _OneTooMany()
        return Connection(self, host, tls=self.tls)

    def _refusal(self, host: str | None) -> tuple[str, str] | None:
        """Return why a new connection from an IP address is refused, `None` if it is accepted.

        The reason is a pair: one of `REASONS`, and a sentence. If the connections of the address,
        or all connections, have reached their limit, close one of them that is not proven, and
        accept the new one; if all of them are proven, refuse the new one.
        """
        limits = self.limits
        # Those on a Unix socket have no address: the file says who may use it.
        if host is not None and 0 < limits.connections_per_peer <= self._of_host[host]:
            if self._close_one(lambda: self._strangers.first_of(host)):
                return None
            most = limits.connections_per_peer
            return PEER_CONNECTIONS, f"{_there_are(most)} of this address already"
        if len(self) < limits.connections or self._close_one(self._strangers.first_of_largest):
            return None
        return CONNECTIONS, f"{_there_are(limits.connections)} already"

    def _close_one(self, candidate: Callable[[], Connection | None]) -> bool:
        """Close a connection that is not proven; return whether there was one.

        `candidate` returns the connection to be closed next, `None` if there is none.
        """
        while (connection := candidate()) is not None:
            if self._strangers.discard(connection.host, connection) and connection.proven:
                self._proven[connection] = None
                continue
            self._count(connection.host, -1)
            connection.make_room()
            return True
        return False

    @property
    def proven_since(self) -> float:
        """The beginning of the last `Errtime` seconds, on the clock of `now`.

        A connection is proven if a heartbeat was accepted on it after this time.
        """
        return self.now - self.scheduler.errtime()

    def fit(self, most: int) -> bool:
        """Lower the limit of connections to `most`, and return `False`.

        If there is a limit of connections per address, lower that limit to at most three quarters
        of `most`, so that there is room for other addresses.

        If the limit of connections is `most` or less already, lower neither; return `True`.
        """
        limits = self.limits
        if most >= limits.connections:
            return True
        of_peer = limits.connections_per_peer
        if of_peer:
            of_peer = max(min(of_peer, int(most * _OF_PEER)), 1)
        self.limits = limits._replace(connections=most, connections_per_peer=of_peer)
        return False

    def __len__(self) -> int:
        """Return the number of open connections."""
        return len(self._proven) + len(self._strangers)

    @property
    def of_hosts(self) -> Mapping[str, int]:
        """The number of open connections from each IP address that has any."""
        return self._of_host

    def __iter__(self) -> Iterator[Connection]:
        """Yield the open connections."""
        yield from self._proven
        yield from self._strangers

    def drain(self) -> None:
        """Arrange that each connection, present or future, is closed after its next answer."""
        self.site.closing = True
        if self.lane is not None:
            self.lane = LastAnswers(self.lane)
        for connection in self:
            connection.answer_last()

    async def finish(self, seconds: float) -> None:
        """Close each connection as soon as no request is in progress on it.

        Return when all connections are being closed, or after `seconds` seconds. In one iteration
        of the reactor, at most 100 connections are closed, so that requests which arrive in the
        meantime on other connections are still answered.
        """
        deadline = self.reactor.seconds() + seconds
        left = deque(self)
        while left and self.reactor.seconds() < deadline:
            before = len(left)
            for _ in range(min(_CLOSED_AT_ONCE, before)):
                connection = left.popleft()
                if not connection.close_if_quiet():
                    left.append(connection)
            await deferLater(self.reactor, 0 if len(left) < before else _POLL)

    def close(self) -> None:
        """Close each connection once all data written to it have been sent."""
        for connection in list(self):
            connection.close()

    def abort(self) -> None:
        """Abort all connections at once: data that have not been sent are lost."""
        for connection in list(self):
            connection.transport.abortConnection()

    def close_vouched_for(self) -> None:
        """Close the TLS connections whose clients have presented a certificate.

        Call this when the trusted authorities of client certificates have changed. Connections in
        the TLS handshake are closed, too, because their certificates would be verified with the old
        authorities.
        """
        for connection in list(self):
            presented = getattr(connection.transport, "getPeerCertificate", lambda: None)()
            if presented is not None or connection.state <= State.WAITING:
                connection.close()

    def close_certified(self, ended: Callable[[Any], bool]) -> None:
        """Close each TLS connection if `ended` returns true for its chain of client certificates.

        Call this when certificates have been revoked. Connections in the TLS handshake are closed,
        too, because their certificates would be checked against the old revocation lists.
        """
        for connection in list(self):
            chain: list[Any] = getattr(connection.transport, "verified_chain", list)()
            if connection.state <= State.WAITING or (chain and ended(chain)):
                connection.close()

    def add(self, connection: Connection) -> None:
        """Add a new connection to the open ones."""
        self._strangers.add(connection.host, connection)
        self._count(connection.host, 1)
        if not self._ticking.running:
            self._ticking.startService()

    def discard(self, connection: Connection) -> None:
        """Remove a lost connection from the open ones."""
        if connection in self._proven:
            del self._proven[connection]
        elif not self._strangers.discard(connection.host, connection):
            return  # it was closed to make room
        self._count(connection.host, -1)
        if not len(self) and self._ticking.running:
            self._ticking.stopService()

    def renew(self, connection: Connection) -> None:
        """Move a connection to the end of the order in which its network's connections are closed.

        When a limit on connections is reached, the first connection in this order that is not
        proven is closed. Call this when a request was answered on the connection.
        """
        if self._strangers.discard(connection.host, connection):
            self._strangers.add(connection.host, connection)

    def _count(self, host: str | None, change: int) -> None:
        if host is not None:
            self._of_host[host] += change
            if not self._of_host[host]:
                del self._of_host[host]

    def _tick(self) -> None:
        self.now += TICK
        if not self._overdue:
            # The latest time at which a connection may have come into each of the states.
            latest = [self.now - seconds for seconds in self._lifetimes]
            self._overdue.extend(each for each in self if each.since <= latest[each.state])
            self._close_overdue()
        self._retire_some()
        since = self.proven_since
        for each in [each for each in self._strangers if each.heard > since]:
            self._strangers.discard(each.host, each)
            self._proven[each] = None
        for each in [each for each in self._proven if each.heard <= since]:
            del self._proven[each]
            self._strangers.add(each.host, each)

    def _close_overdue(self) -> None:
        """Close at most `_CLOSED_AT_ONCE` connections that have been in their state for too long.

        If there are more, continue in the next iteration of the reactor.
        """
        for _ in range(min(_CLOSED_AT_ONCE, len(self._overdue))):
            connection = self._overdue.popleft()
            if connection.since <= self.now - self._lifetimes[connection.state]:
                connection.time_out()
        if self._overdue:
            self.reactor.callLater(0, self._close_overdue)

    def _retire_some(self) -> None:
        """Retire some connections near their greatest age: each closes after its next answer.

        Each is chosen at a random moment, so that clients don't all connect again at once. None is
        chosen while clients might not be able to connect again: at the limit of connections, or
        while connections wait for their turn.
        """
        age = self.limits.connection_age
        oldest = self.now - age * (1 - _AGE_JITTER)
        old = [each for each in self if each.made <= oldest and not each.retired]
        if not old or len(self) >= self.limits.connections or self.scheduler.waiting_long():
            return  # in the last two cases they could not connect again
        for each in old:
            # With this probability in each tick, each moment until its greatest age is as likely.
            left = each.made + age - self.now
            if self._jitter() * left <= TICK:
                each.retire()


class _OneTooMany(Protocol):
    """The protocol of a connection above the limit, which is aborted at once.

    `buildProtocol` can't return `None` instead: factories that wrap another one don't expect that.
    """

    transport: Any

    def connectionMade(self) -> None:
        """Abort the connection, before any TLS handshake."""
        self.transport.abortConnection()


def _there_are(count: int) -> str:
    return f"There {'is' if count == 1 else 'are'} {counted(count, 'connection')}"
