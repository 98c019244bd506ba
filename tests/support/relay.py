"""A relay for TCP connections whose target can be changed: a name that moves to another host."""

from typing import Any

from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from tests.support.running import reactor


class Relay(Factory):
    """Passes connections to its port on to a target."""

    def __init__(self, test: TestCase, target: str) -> None:
        """Listen on a free port of 127.0.0.1 until the test ends; `target` is `host:port`."""
        self.target = target
        """Where new connections are passed on to."""
        self.count = 0
        """The number of connections so far."""
        self._open: set[_Side] = set()
        self._port = reactor.listenTCP(0, self, interface="127.0.0.1")
        test.addCleanup(self._close)

    @property
    def address(self) -> str:
        """The address of the relay, `host:port`."""
        return f"127.0.0.1:{self._port.getHost().port}"

    def move(self, target: str) -> None:
        """Pass on to another target, and close the connections to the last one."""
        self.target = target
        for side in list(self._open):
            side.transport.abortConnection()

    def buildProtocol(self, addr: IAddress | None) -> "_Side":
        """Accept a connection, and open one to the target."""
        self.count += 1
        near = _Side(self._open)
        host, port = self.target.rsplit(":", 1)
        connecting = HostnameEndpoint(reactor, host, int(port)).connect(
            Factory.forProtocol(lambda: _Side(self._open))
        )
        connecting.addCallbacks(near.join, near.give_up)
        return near

    async def _close(self) -> None:
        await self._port.stopListening()
        self.move("")


class _Side(Protocol):
    """One of the two connections, with what it has received and the other has yet to send."""

    transport: Any

    def __init__(self, is_open: "set[_Side]") -> None:
        self._is_open = is_open
        self._other: _Side | None = None
        self._early = b""
        self._gone = False

    def connectionMade(self) -> None:
        self._is_open.add(self)

    def dataReceived(self, data: bytes) -> None:
        if self._other is None:
            self._early += data
        else:
            self._other.transport.write(data)

    def join(self, other: "_Side") -> None:
        """Pass everything on to `other`, and what that receives to this."""
        if self._gone:
            other.transport.abortConnection()
            return
        self._other, other._other = other, self
        other.transport.write(self._early)
        self.transport.write(other._early)

    def give_up(self, failure: Failure) -> None:
        """Close the connection: the target can't be reached."""
        self._gone = True
        if self.transport is not None:
            self.transport.abortConnection()

    def connectionLost(self, reason: Failure = Failure(ConnectionError())) -> None:  # noqa: B008
        self._is_open.discard(self)
        self._gone = True
        if self._other is not None:
            self._other.transport.abortConnection()
