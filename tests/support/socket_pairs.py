"""Server transports on real sockets, driven by hand: nothing happens but what a test asks for."""

import select
import socket
from collections.abc import Callable
from typing import Any

from OpenSSL import SSL
from twisted.internet import main
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from hbtd.net.served_certificate import ServedCertificate
from hbtd.server.tls_transport import UnixTLSTransport
from hbtd.server.transport import UnixTransport

SIZE = 65536

_ROUNDS = 20_000
"""Rounds of a reactor after which what still goes on goes on for ever."""


class SocketReactor(Clock):
    """A clock, and the part of a reactor that watches sockets (`IReactorFDSet`)."""

    def __init__(self) -> None:
        super().__init__()
        self._readers: set[Any] = set()
        self._writers: set[Any] = set()
        self.addReader, self.removeReader = self._readers.add, self._readers.discard
        self.addWriter, self.removeWriter = self._writers.add, self._writers.discard

    def getReaders(self) -> list[Any]:
        """Return what is watched for something to read."""
        return list(self._readers)

    def getWriters(self) -> list[Any]:
        """Return what is watched for room to write."""
        return list(self._writers)

    def go_round(self) -> bool:
        """Do what a reactor's round would; return whether that was anything."""
        due = any(call.getTime() <= self.seconds() for call in self.getDelayedCalls())
        self.advance(0)
        watched = [*self._readers], [*self._writers]
        readable, writable, _ = select.select(*watched, [], 0)
        for each in readable:
            if each in self._readers:
                self._end(each, each.doRead(), reading=True)
        for each in writable:
            if each in self._writers:
                self._end(each, each.doWrite(), reading=False)
        return bool(due or readable or writable)

    def _end(self, transport: Any, why: Any, *, reading: bool) -> None:
        if not why:
            return
        self._readers.discard(transport)
        self._writers.discard(transport)
        if reading and why is main.CONNECTION_DONE:
            transport.readConnectionLost(Failure(why))
        else:
            transport.connectionLost(Failure(why))


class PlainClient:
    """The other end of a plain connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.received = b""
        self.ended = False
        """Whether the server has finished sending."""
        self.reset = False
        """Whether the server has cut it off."""

    def send(self, data: bytes) -> None:
        """Send some bytes, which must fit into the socket."""
        self.transmit(data)

    def transmit(self, data: bytes) -> None:
        """Send some bytes as they are; none if the server has cut off the connection."""
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            self.reset = True

    def finish(self) -> None:
        """Finish sending."""
        self.socket.shutdown(socket.SHUT_WR)

    def pump(self) -> bool:
        """Receive what there is; return whether that was anything."""
        if self.ended or self.reset:
            return False
        try:
            data = self.socket.recv(SIZE)
        except BlockingIOError:
            return False
        except ConnectionResetError:
            self.reset = True
            return True
        self.ended = not data
        self.received += data
        return True

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()


class TLSClient(PlainClient):
    """The other end of a TLS connection."""

    def __init__(self, sock: socket.socket, context: SSL.Context | None = None) -> None:
        super().__init__(sock)
        self.tls = SSL.Connection(context or SSL.Context(SSL.TLS_CLIENT_METHOD), None)
        self.tls.set_connect_state()
        self.shaken_hands = False
        self.error: Exception | None = None
        """What has gone wrong with TLS."""
        self.notified = False
        """Whether the server has said by TLS that it sends no more."""

    def send(self, data: bytes) -> None:
        """Encrypt some bytes, and send them."""
        self.tls.sendall(data)
        self.flush()

    def finish(self) -> None:
        """Say that no more is sent, and finish sending."""
        self.tls.shutdown()
        self.flush()
        super().finish()

    def records(self) -> bytes:
        """Return what TLS wants to be sent."""
        try:
            return self.tls.bio_read(2**20)
        except SSL.WantReadError:
            return b""

    def flush(self) -> bool:
        """Send what TLS wants to be sent; return whether that was anything."""
        data = self.records()
        if not data or self.reset:
            return False
        self.transmit(data)
        return True

    def pump(self) -> bool:
        """Receive and decrypt what there is; return whether that was anything."""
        before, self.received = self.received, b""
        went_on = super().pump()
        if self.received:
            self.tls.bio_write(self.received)
        self.received = before
        try:
            if not self.shaken_hands:
                self.tls.do_handshake()
                self.shaken_hands = True
            while True:
                self.received += self.tls.recv(SIZE)
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            self.notified = True
        except SSL.Error as error:
            self.error = self.error or error
        return self.flush() or went_on


class Pair:
    """A client and a server transport at the two ends of a connection."""

    def __init__(
        self,
        reactor: SocketReactor,
        factory: Any,
        make_client: Callable[[socket.socket], Any] = PlainClient,
        served: ServedCertificate | None = None,
        *,
        send_buffer: int = 0,
    ) -> None:
        """Connect; the server serves TLS with the certificate that is `served`, if any.

        With a `send_buffer` the server's socket takes about so many bytes that are not read.
        """
        self.reactor = reactor
        # Of a Unix socket: what one end sends the other has at once, which TCP leaves open.
        ours, theirs = socket.socketpair()
        if send_buffer:
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        theirs.setblocking(False)
        ours.setblocking(False)
        self.client = make_client(ours)
        self.protocol = factory.buildProtocol(None)
        arguments = (theirs, self.protocol, "", None, 0, reactor)
        if served is None:
            self.transport: Any = UnixTransport(*arguments)
        else:
            self.transport = UnixTLSTransport(served, *arguments)
        self.protocol.makeConnection(self.transport)

    def settle(self, *, reading: bool = True) -> None:
        """Let everything happen that can; with `reading`, the client reads, too.

        Fail if it never comes to rest: a reactor would be busy with nothing.
        """
        for _ in range(_ROUNDS):
            going_on = self.reactor.go_round()
            if reading:
                going_on = self.client.pump() or going_on
            if not going_on:
                return
        raise AssertionError("the reactor does not come to rest")

    def close(self) -> None:
        """Close both ends."""
        self.client.close()
        if self.transport.connected:
            self.transport.connectionLost(Failure(main.CONNECTION_DONE))
