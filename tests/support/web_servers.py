"""Web servers in memory, of which a test says what they answer."""

from typing import Any

from twisted.internet.testing import StringTransportWithDisconnection


class WebServers:
    """Accepts the connections that are made with a reactor in memory."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self.transports: list[Any] = []
        """The clients' transports of all connections, the last one at the end."""
        self.hosts: list[str] = []
        """The addresses that they were made to."""

    def accept(self) -> None:
        """Accept what has been connected since the last call."""
        for host, _, factory, _, _ in self._reactor.tcpClients[len(self.transports) :]:
            transport = StringTransportWithDisconnection()
            protocol = factory.buildProtocol(None)
            transport.protocol = protocol
            self.transports.append(transport)
            self.hosts.append(host)
            protocol.makeConnection(transport)

    def answer(self, data: bytes, number: int | None = None) -> None:
        """Send some data on a connection, by default the last one that is open."""
        self.accept()
        if number is None:
            number = max(n for n, each in enumerate(self.transports) if each.connected)
        self.transports[number].protocol.dataReceived(data)
