"""Server transports over TCP and Unix sockets; those with TLS are in `tls_transport`.

These transports serve only protocols that provide `ServerProtocol`, and pass data to the protocol
with fewer calls than Twisted's transports. They differ from Twisted's in three more ways:

- An answer is sent to the socket at once if no earlier data wait to be sent. Twisted's transports
  wait until the reactor finds, in its next iteration, that the socket is writable: that takes two
  changes of the set of watched sockets, and one more event.
- A client that has closed its sending side still gets the answers to its requests.
- To close a connection, hbtd closes its sending side first, and the socket only when the client has
  closed its side, too. So the client can read the last answer (RFC 9112 9.6).

All else, such as buffers and back pressure, is inherited from Twisted's `tcp.Server` and
`unix.Server`.
"""

import select
import socket
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet import main, tcp, unix
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectionAborted
from twisted.python.failure import Failure

READ_SIZE = 8192
"""The most bytes per read: pyOpenSSL allocates a buffer of this size for each read."""

DISCARD = 65536
"""The most bytes per read after hbtd has closed its sending side: these bytes are discarded."""


class ServerProtocol(Protocol):
    """The methods that hbtd's transports call on their protocol, beyond Twisted's `IProtocol`."""

    def dataReceived(self, data: bytes) -> None:
        """Process received data."""

    def inputEnded(self) -> bool:
        """Handle the end of the client's data; return whether answers are still to be written.

        If the result is true, the protocol must close the connection after writing the answers.
        """

    def handshakeMayGoOn(self) -> bool:
        """Return whether to do a step of the TLS handshake now.

        If the result is false, the protocol must pause the transport; later, it must resume the
        transport and call the transport's method `continueHandshake`.
        """

    def handshakeCompleted(self) -> None:
        """Handle the completion of the TLS handshake."""

    def handshakeFailed(self, detail: str) -> None:
        """Handle the failure of the TLS handshake; `detail` is the reason, for the log."""

    def close(self) -> None:
        """Close the connection once everything written to it has been sent."""


if TYPE_CHECKING:
    _Transport = tcp.Server
else:
    # Mixed into one of Twisted's two: that of TCP and that of Unix sockets.
    _Transport = object


class WriteThrough(_Transport):
    """A mixin for Twisted's server transports: `write` sends data at once."""

    protocol: Any

    _blocked = False
    """Whether data go to Twisted's buffer: it is not empty, or the output has ended."""

    _errors: type[Exception] = OSError
    """The exceptions that `_send` raises if it has sent nothing."""

    _send: Callable[[bytes], int]

    @staticmethod
    def _forget_errors() -> None:
        """Do nothing. The override for TLS discards what OpenSSL has stored about an error."""

    def __init__(self, sock: socket.socket, *args: Any) -> None:
        """Make a transport on a client's socket; `args` are for Twisted's transport."""
        self._receive, self._send = sock.recv, sock.send
        super().__init__(sock, *args)

    def doRead(self) -> Any:
        """Read from the socket once, and pass the data to the protocol.

        Return `None` if the connection goes on, `CONNECTION_DONE` if the client has sent all its
        data, and `CONNECTION_LOST` if the read failed.
        """
        try:
            data = self._receive(READ_SIZE)
        except BlockingIOError:
            return None
        except OSError:
            return main.CONNECTION_LOST
        if not data:
            return main.CONNECTION_DONE
        self.protocol.dataReceived(data)
        return None

    def readConnectionLost(self, reason: Failure) -> None:
        """Handle the end of the client's data: close the connection after the last answer."""
        if self.protocol.inputEnded():
            return
        if self._blocked and not self._writeDisconnected:
            self.loseConnection()
        else:
            self._say_end()
            self.connectionLost(reason)

    def _say_end(self) -> None:
        """Do nothing. The override for TLS sends a close_notify, the sign that output ends."""

    def hasInput(self) -> bool:
        """Return whether there is something to read: data, or the end of the client's data."""
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        return bool(poll.poll(0))

    def write(self, data: bytes) -> None:
        """Send data to the socket at once, if no earlier data wait in Twisted's buffer.

        Data that can't be sent now are added to the buffer, and Twisted sends them later.
        """
        if self._blocked:
            super().write(data)
            return
        try:
            sent = self._send(data)
        except self._errors:
            self._forget_errors()
            sent = 0  # Twisted tries again, and finds out what it is
        if sent != len(data):
            super().write(data[sent:])

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        """Join pieces of data, and write them with one call of `write`."""
        self.write(b"".join(iovec))

    def endNow(self) -> None:
        """Close the sending side of a connection at once, if `loseConnection` was called on it.

        Do nothing if data are left to be sent: Twisted closes the sending side after them. Without
        this call, Twisted would close it only in the reactor's next iteration, and requests that
        the client sends in the meantime would be discarded.
        """
        unsent = self.dataBuffer or self._tempDataLen
        if self.disconnecting and not (self.disconnected or unsent):
            why = self.doWrite()
            if why:
                self.connectionLost(Failure(why))

    def abortNow(self) -> None:
        """Abort the connection, and close the socket before this call returns.

        `abortConnection` would close the socket only in the reactor's next iteration.
        """
        if not self.disconnected:
            self.connectionLost(Failure(ConnectionAborted()))

    def startWriting(self) -> None:
        """Send buffered data as soon as the socket is writable."""
        self._blocked = True
        super().startWriting()

    def stopWriting(self) -> None:
        """Stop waiting until the socket is writable, because no buffered data are left."""
        # After the end nothing may be sent: the socket's number may be another connection's.
        self._blocked = bool(self.disconnected or self._aborting or self._writeDisconnected)
        super().stopWriting()

    def _postLoseConnection(self) -> Any:
        """End the output, as all data have been sent.

        The connection stays open until the client hangs up: if the socket were closed while
        received data are unread, the last answer could be lost. Return `None`, or the reason if the
        connection is lost already.
        """
        return self._end_output()

    def _end_output(self) -> Any:
        """Close the writing side, and discard further data until the client closes its side.

        Return `None`, or the reason if the connection is lost already.
        """
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            return main.CONNECTION_LOST
        self._writeDisconnected = True
        self.stopWriting()
        self.startReading()
        return None


class OverTCP(WriteThrough):
    """The base class of transports over TCP.

    It caches the local address and the option `TCP_NODELAY`, to save system calls.
    """

    _host: IPv4Address | IPv6Address | None = None
    _no_delay = True  # of the listening socket (`hbtd.server.listening`)

    def getHost(self) -> IPv4Address | IPv6Address:
        """Return the address that the client connected to."""
        if self._host is None:
            self._host = super().getHost()
        return self._host

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Set the socket's option `TCP_NODELAY`, unless it already has this value."""
        if enabled is not self._no_delay:
            self._no_delay = enabled
            super().setTcpNoDelay(enabled)


class TCPTransport(OverTCP, tcp.Server):
    """The transport of a client's TCP connection without TLS."""


class UnixTransport(WriteThrough, unix.Server):
    """The transport of a client's connection on a Unix socket without TLS."""
