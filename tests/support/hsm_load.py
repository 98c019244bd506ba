"""A relay between hbtd and an HSM that counts requests and bytes, by what is requested."""

from dataclasses import dataclass
from typing import Final

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import ITCPTransport
from twisted.protocols.portforward import (
    ProxyClient,
    ProxyClientFactory,
    ProxyFactory,
    ProxyServer,
)
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from tests.support.running import reactor

KINDS: Final = {b"PATCH": "updates", b"GET": "probes"}
"""What is requested by a method, if it is not the table."""

_LOST: Final = Failure(ConnectionDone())

_TABLE: Final = b"/State/Components?"


@dataclass
class Load:
    """How much was requested, and answered."""

    requests: int = 0
    sent: int = 0
    """The bytes of the requests, with their headers."""
    received: int = 0
    """The bytes of the answers, with theirs."""

    def __str__(self) -> str:
        sizes = f"{self.sent / 1000:,.0f} kB sent, {self.received / 1000:,.0f} kB received"
        return f"{self.requests} requests, {sizes}"


class MeteredHSM:
    """An HSM's address at which all that passes is counted, until the test ends."""

    def __init__(self, test: TestCase, port: int) -> None:
        """Relay connections to a port of 127.0.0.1."""
        self.load = {kind: Load() for kind in ("reads", *KINDS.values())}
        """What has passed, by kind: reads of the table, updates, and readiness probes."""
        factory = _Factory("127.0.0.1", port, self.load)
        listening = reactor.listenTCP(0, factory, interface="127.0.0.1")
        test.addCleanup(listening.stopListening)
        test.addCleanup(factory.close)
        self.url = f"http://127.0.0.1:{listening.getHost().port}/hsm/v1"

    def clear(self) -> None:
        """Begin to count anew."""
        for each in self.load.values():
            each.requests = each.sent = each.received = 0


class _Answers(ProxyClient):
    """The side of the HSM."""

    def dataReceived(self, data: bytes) -> None:
        assert isinstance(self.peer, _Requests)
        self.peer.current.received += len(data)
        super().dataReceived(data)


class _ToHSM(ProxyClientFactory):
    protocol = _Answers
    noisy = False


class _Requests(ProxyServer):
    """The side of hbtd, which sends a request on a connection once the last one is answered."""

    factory: "_Factory"
    clientProtocolFactory = _ToHSM
    reactor = reactor
    current = Load()

    def connectionMade(self) -> None:
        self.factory.connections.add(self)
        super().connectionMade()

    def dataReceived(self, data: bytes) -> None:
        # A request begins a portion; no portion of the JSON in its body begins like one.
        method, _, rest = data.partition(b" ")
        if method in KINDS:
            table = _TABLE in rest.partition(b"\r\n")[0]
            self.current = self.factory.load["reads" if table else KINDS[method]]
            self.current.requests += 1
        self.current.sent += len(data)
        super().dataReceived(data)

    def connectionLost(self, reason: Failure = _LOST) -> None:
        self.factory.connections.discard(self)
        super().connectionLost(reason)


class _Factory(ProxyFactory):
    protocol = _Requests
    noisy = False

    def __init__(self, host: str, port: int, load: dict[str, Load]) -> None:
        super().__init__(host, port)
        self.load = load
        self.connections: set[_Requests] = set()

    def close(self) -> None:
        """End all connections."""
        for each in list(self.connections):
            transport = each.transport
            assert ITCPTransport.providedBy(transport)
            transport.abortConnection()
