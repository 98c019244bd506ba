"""Writing at once: an answer goes to the socket as it is made, if nothing is before it.

Twisted's transports keep what is written until the reactor finds, in its next round, that the
socket takes it. For an answer of a hundred bytes that means to begin and to end watching the socket
for it, and one more event: as much work as all the rest of a heartbeat.
"""

from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.interfaces import ITCPTransport
from twisted.internet.tcp import Connection
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from zope.interface import implementer


class EagerWriter:
    """Writes to a transport at once where it can, else as everybody does."""

    __slots__ = ("_clear", "_send", "_transport")

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self._send: Callable[[bytes], int] | None = None
        if isinstance(transport, Connection):
            self._send = transport.getHandle().send
        # Whether it is known that nothing waits to be written.
        self._clear = False

    def unsure(self) -> None:
        """Take note that others may have written to the transport."""
        self._clear = False

    def write(self, data: bytes) -> None:
        """Write some data."""
        transport = self._transport
        if self._send is None or not transport.connected or transport.disconnecting:
            transport.write(data)
        elif self._clear:
            try:
                sent = self._send(data)
            except OSError:
                sent = 0  # the socket is full; if it is worse, the transport finds out for itself
            if sent < len(data):
                self._clear = False
                transport.write(data[sent:])
        else:
            transport.write(data)
            transport.doWrite()
            self._clear = not transport.dataBuffer


@implementer(ITCPTransport)
class _EagerTransport:
    """A TCP transport that writes at once.

    It provides no more than that interface: Twisted declares each one anew for each connection.
    """

    def __init__(self, original: Any) -> None:
        self._original = original
        self.write = EagerWriter(original).write

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)


class _EagerTLS(TLSMemoryBIOProtocol):
    """TLS that writes at once: an answer is a record is a segment.

    Twisted's own gathers what is written in a round of the reactor, at the price of a timer for
    each answer. The fast lane has gathered already; of the ordinary lane's answers those that have
    a body become two records.
    """

    def makeConnection(self, transport: Any) -> None:
        """Begin on top of a transport."""
        super().makeConnection(_EagerTransport(transport))


class TLSFactory(TLSMemoryBIOFactory):
    """Puts TLS under another factory's connections."""

    protocol = _EagerTLS
