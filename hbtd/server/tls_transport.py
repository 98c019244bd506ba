"""Server transports with TLS, over TCP and Unix sockets.

OpenSSL reads and writes the socket directly. Twisted's own TLS would copy all data through two
buffers in memory.
"""

import re
import select
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from typing import Any

from OpenSSL import SSL, crypto
from twisted.internet import main, tcp, unix
from twisted.internet.interfaces import ISSLTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from hbtd.net.handshakes import describe_handshake_failure
from hbtd.net.served_certificate import ServedCertificate
from hbtd.net.tls import forget_errors
from hbtd.server.problems import Problem, encode_problem
from hbtd.server.transport import DISCARD, READ_SIZE, OverTCP, WriteThrough

_METHOD = 16
"""The number of bytes that are peeked at, to tell plain HTTP from TLS."""

_PLAIN_HTTP = encode_problem(Problem(400, "Plain HTTP was sent to a port that speaks HTTPS"))
# As much of a method as has arrived; no TLS record begins with a letter.
_REQUEST_LINE = re.compile(rb"[A-Z]{1,15}( |$)")


class _OverTLS(WriteThrough):
    """A mixin for transports that speak TLS, over TCP or on a Unix socket.

    OpenSSL may have to write before it can read (to refuse a renegotiation, to answer a KeyUpdate),
    and to read before it can write. Then the reactor watches for what OpenSSL waits for, and
    OpenSSL is called again.
    """

    _errors = SSL.Error
    _forget_errors = staticmethod(forget_errors)

    def __init__(self, served: ServedCertificate, sock: socket.socket, *args: Any) -> None:
        """Make a transport that serves a certificate on the socket `sock`.

        `args` are for Twisted's transport.
        """
        super().__init__(sock, *args)
        self._served = served
        # Nothing can be written until the handshake is complete.
        self._blocked = True
        # What is done when the socket is readable, if that is not to read records.
        self._step: Callable[[_OverTLS], Any] | None = _OverTLS._begin_handshake
        self._read_waits_for_writing = False

    @cached_property
    def _tls(self) -> SSL.Connection:
        """The TLS connection, made when the client begins the handshake: many only connect."""
        return self._served.accept(self.socket)

    # Reading

    def doRead(self) -> Any:
        """Read at most one TLS record, and pass its data to the protocol.

        Do something else in three cases: continue the handshake while it is not complete, retry a
        write for which OpenSSL had to read first, or discard data once the output has ended.
        """
        if self._step is not None:
            return self._step(self)
        while True:
            try:
                data = self._receive(READ_SIZE)
            except SSL.WantReadError:
                return None
            except SSL.WantWriteError:
                return self._read_when_writable()
            except SSL.ZeroReturnError:
                return main.CONNECTION_DONE
            except SSL.SysCallError:
                forget_errors()
                return main.CONNECTION_LOST
            except SSL.Error:
                return self._broken()
            self.protocol.dataReceived(data)
            # What is left of a record is in OpenSSL's memory, of which no event will tell.
            if len(data) < READ_SIZE or not self._reading or not self._tls.pending():
                return None

    def continueHandshake(self) -> None:
        """Continue a handshake that had to wait for a turn; end it if the client has hung up."""
        why = main.CONNECTION_LOST if self._hung_up() else self._read_without_event()
        if why:
            self.connectionLost(Failure(why))

    def _hung_up(self) -> bool:
        # Data that it sent before would be read first.
        poll = select.poll()
        poll.register(self.socket, select.POLLRDHUP)
        return bool(poll.poll(0))

    def _begin_handshake(self) -> Any:
        """Begin the handshake, or answer a client that sends plain HTTP.

        Return `None`, or the reason if the connection is lost.
        """
        if not self.protocol.handshakeMayGoOn():
            return None
        try:
            beginning = self.socket.recv(_METHOD, socket.MSG_PEEK)
        except BlockingIOError:
            return None
        except OSError:
            return main.CONNECTION_LOST
        if not beginning:
            return main.CONNECTION_DONE  # somebody looked whether the port is open
        if _REQUEST_LINE.match(beginning):
            with suppress(OSError):
                self.socket.send(_PLAIN_HTTP)
            return self._fail("plain HTTP was sent to the TLS port")
        self._receive, self._send = self._tls.recv, self._tls.send
        self._step = _OverTLS._shake_hands
        return self._do_handshake()

    def _shake_hands(self) -> Any:
        return self._do_handshake() if self.protocol.handshakeMayGoOn() else None

    def _do_handshake(self) -> Any:
        try:
            self._tls.do_handshake()
        except SSL.WantReadError:
            if self._replied:
                # The signature is made, and what is left takes a tenth of that: it would be a waste
                # if the client gave up while this waits for another turn.
                self._step = _OverTLS._do_handshake
            return None
        except SSL.WantWriteError:
            return self._read_when_writable()
        except (SSL.SysCallError, SSL.ZeroReturnError):
            forget_errors()
            return self._fail("the client hung up")
        except SSL.Error as failed:
            return self._fail(describe_handshake_failure(failed, self._tls))
        self._step = None
        self._blocked = False
        if self._tempDataLen or self._writeDisconnecting:
            self.startWriting()
        self.protocol.handshakeCompleted()
        return None

    def _fail(self, detail: str) -> Any:
        self.protocol.handshakeFailed(detail)
        return self._end_output()

    def _broken(self) -> Any:
        """Close the connection after invalid TLS data, but let the client read the alert first.

        Return `None`, or the reason if the connection is lost already.
        """
        self.protocol.close()
        return None if self.disconnecting else main.CONNECTION_LOST

    @property
    def _replied(self) -> bool:
        """Whether the client speaks TLS 1.3, and OpenSSL has made its ServerHello.

        Most of the work of the handshake is done then. With TLS 1.2 it is not, because the key
        exchange follows the ServerHello.
        """
        return self._tls.get_protocol_version() == SSL.TLS1_3_VERSION and any(
            self._tls.server_random() or b""
        )

    def _read_when_writable(self) -> None:
        # Until then there may be something to read all the time, which can't be.
        self._read_waits_for_writing = True
        self.reactor.removeReader(self)
        self.startWriting()

    _reading = False
    """Whether the protocol wants to receive data: reading is not paused."""

    def startReading(self) -> None:
        """Begin to wait for the socket to become readable; the reactor then calls `doRead`."""
        self._reading = True
        super().startReading()

    def stopReading(self) -> None:
        """Stop reading, but go on with what OpenSSL has to read before it can write."""
        self._reading = False
        if self._step is not _OverTLS._write_again:
            super().stopReading()

    def resumeProducing(self) -> None:
        """Resume reading, beginning with data that OpenSSL has already decrypted, if any."""
        super().resumeProducing()
        if self._reading and self._tls.pending():
            reactor: Any = self.reactor
            reactor.callLater(0, self._read_rest)

    def _read_rest(self) -> None:
        if self._reading and self._step is None:
            why = self._read_without_event()
            if why:
                self.connectionLost(Failure(why))

    def _read_without_event(self) -> Any:
        """Read without waiting for the reactor; return why the connection is lost, or `None`."""
        why = self.doRead()
        if why is not main.CONNECTION_DONE:
            return why
        self.stopReading()
        self.readConnectionLost(Failure(why))
        return None

    # Writing

    def doWrite(self) -> Any:
        """Continue to read or write what had to wait until the socket was writable."""
        if self._read_waits_for_writing:
            self._read_waits_for_writing = False
            if self._reading:
                self.reactor.addReader(self)
                why = self._read_without_event()
                if why or self._read_waits_for_writing or self._aborting or self.disconnected:
                    return why
        if self._step in _HANDSHAKE:
            if self.disconnecting:
                return main.CONNECTION_DONE
            self.reactor.removeWriter(self)  # it goes on when the handshake is complete
            return None
        return super().doWrite()

    def writeSomeData(self, data: bytes) -> Any:
        """Encrypt and send data; return the number of bytes sent, or the error if that failed."""
        if not data:
            return 0
        try:
            return self._tls.send(data)
        except SSL.WantWriteError:
            return 0
        except SSL.WantReadError:
            # A message has arrived in part. Until the rest of it has, the socket is writable all
            # the time, to no avail; and it is read even if nothing else may be.
            self._step = _OverTLS._write_again
            self.reactor.removeWriter(self)
            self.reactor.addReader(self)
            return 0
        except SSL.Error:
            forget_errors()
            return main.CONNECTION_LOST

    def _write_again(self) -> Any:
        """Retry a write that OpenSSL suspended until it can read: the socket is readable now.

        Return `None`, or the reason if the connection is lost.
        """
        self._step = None
        self.startWriting()
        if self._reading:
            return self.doRead()
        self.reactor.removeReader(self)
        return None

    # Ending

    def _postLoseConnection(self) -> Any:
        """Send a close_notify and end the output, as all data have been sent.

        The connection stays open until the client hangs up. Return `None`, or the reason if the
        connection is lost already.
        """
        try:
            self._tls.shutdown()
        except SSL.WantWriteError:
            self.startWriting()
            return None
        except SSL.Error:
            forget_errors()  # the client sees the end of the stream all the same
        return self._end_output()

    def _closeWriteConnection(self) -> None:
        self._say_end()
        super()._closeWriteConnection()

    def _say_end(self) -> None:
        if self._step not in _SILENT:
            with suppress(SSL.Error):
                self._tls.shutdown()
            forget_errors()

    def _end_output(self) -> Any:
        self._step = _OverTLS._discard
        self._read_waits_for_writing = False
        return super()._end_output()

    def _discard(self) -> Any:
        try:
            data = self.socket.recv(DISCARD)
        except BlockingIOError:
            return None
        except OSError:
            return main.CONNECTION_LOST
        return None if data else main.CONNECTION_DONE

    def abortConnection(self) -> None:
        """Abort the connection: close it without sending buffered data."""
        self._step = None
        super().abortConnection()

    def connectionLost(self, reason: Failure) -> None:
        """Close the socket, and call the protocol's `connectionLost`."""
        self._step = None
        super().connectionLost(reason)

    # ISSLTransport

    def getPeerCertificate(self) -> crypto.X509 | None:
        """Return the certificate that the client has presented; `None` without one."""
        return self._tls.get_peer_certificate()

    def verified_chain(self) -> list[crypto.X509]:
        """Return the chain from the client's certificate to the root; empty if there is none."""
        return self._tls.get_verified_chain() or []


_HANDSHAKE = (_OverTLS._begin_handshake, _OverTLS._shake_hands, _OverTLS._do_handshake)
_SILENT = (*_HANDSHAKE, _OverTLS._discard)
"""The steps in which no close_notify can be sent: during the handshake, and after the output."""


@implementer(ISSLTransport)
class TLSTransport(_OverTLS, OverTCP, tcp.Server):
    """The transport of a client's TLS connection over TCP."""


@implementer(ISSLTransport)
class UnixTLSTransport(_OverTLS, unix.Server):
    """The transport of a client's TLS connection on a Unix socket."""
