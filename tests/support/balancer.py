"""A load balancer in front of replicas."""

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from zope.interface import implementer

from tests.support.running import reactor


@implementer(IStreamClientEndpoint)
class Balancer:
    """Connects to the replicas in turn."""

    def __init__(self) -> None:
        self.ports: list[int] = []
        """The ports of the replicas in use."""
        self._turn = 0

    def connect(self, factory: IProtocolFactory) -> "Deferred[IProtocol]":
        """Connect to the next replica."""
        self._turn += 1
        port = self.ports[self._turn % len(self.ports)]
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port, timeout=2)
        connected: Deferred[IProtocol] = endpoint.connect(factory)
        return connected
